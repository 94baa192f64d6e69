//! The attributes of `service-mesh`: a circuit breaker or a retry around a function.
//!
//! Import them from there, with its feature `macros`. Each use is read (`parse`), judged (`validate`) and written out
//! (`expand`), a file each, in the manner of thiserror. A mistake is one error at its place: the function itself is
//! written out even then, so that nothing else seems to be missing.
#![forbid(unsafe_code)]

mod expand;
mod fields;
mod parse;
mod validate;

use proc_macro::TokenStream;
use proc_macro2::Span;
use quote::ToTokens;

use parse::{Kind, Use};

/// Puts a circuit breaker around a function, which then refuses calls while its circuit is open.
///
/// ```
/// use service_mesh::{CircuitOpenError, with_circuit_breaker};
///
/// #[derive(Debug)]
/// enum ApiError {
///     Down,
///     Open(CircuitOpenError),
/// }
///
/// // How a refusal becomes the function's own error.
/// impl From<CircuitOpenError> for ApiError {
///     fn from(refusal: CircuitOpenError) -> Self {
///         Self::Open(refusal)
///     }
/// }
///
/// #[with_circuit_breaker("api-service", failure_threshold = 3, timeout_seconds = 2.5)]
/// fn fetch(up: bool) -> Result<&'static str, ApiError> {
///     if up { Ok("page") } else { Err(ApiError::Down) }
/// }
///
/// assert_eq!(fetch(true).unwrap(), "page");
/// for _ in 0..3 {
///     assert!(matches!(fetch(false), Err(ApiError::Down)));
/// }
/// // Three failures in a row: the function is not run.
/// assert!(matches!(fetch(true), Err(ApiError::Open(_))));
///
/// // The breaker stands beside the function.
/// fetch_circuit_breaker().reset();
/// assert_eq!(fetch(true).unwrap(), "page");
/// ```
///
/// # Where it goes
/// On a `fn` or an `async fn`, free or a method, that returns a `Result`, under whatever name. The function keeps its
/// name, signature, visibility, docs and attributes. Not on a `const` or `extern` function.
///
/// # What it takes
/// The circuit's name, and then any of:
/// - the fields of `CircuitBreakerConfig`, by their keys in the policy file: `failure_threshold`, `consecutive`,
///   `success_threshold`, `timeout_seconds`, `half_open_max_calls`, `timeout_multiplier`, `timeout_jitter_ratio`,
///   `timeout_max_seconds`, `probe_timeout_seconds`, `count_window(size, minimum_calls, failure_ratio, slow_call_ratio,
///   slow_call_seconds)`, `time_window(duration_seconds, buckets, …)`. Their values are literals, and are checked when
///   they are compiled: there is no way to fail at the first call;
/// - or `config = EXPRESSION`, a `CircuitBreakerConfig` that is computed, once;
/// - `classify = EXPRESSION`, which says what a result means (a `Classify`). By default every error is a failure.
///
/// Or, in place of all but `classify`, `circuit_breaker = EXPRESSION`: a breaker that exists, or what derefs to one, such
/// as a `LazyLock`. A method reaches its object's with `circuit_breaker = self.breaker`.
///
/// ```
/// use service_mesh::{CircuitBreaker, with_circuit_breaker};
///
/// struct Client {
///     breaker: CircuitBreaker,
///     sent: u32,
/// }
///
/// impl Client {
///     #[with_circuit_breaker(circuit_breaker = self.breaker)]
///     fn send(&mut self) -> Result<u32, Box<dyn std::error::Error>> {
///         self.sent += 1;
///         Ok(self.sent)
///     }
/// }
///
/// let mut client = Client { breaker: CircuitBreaker::new("client"), sent: 0 };
/// assert_eq!(client.send().unwrap(), 1);
/// client.breaker.force_open();
/// assert_eq!(client.send().unwrap_err().to_string(), "circuit client is open");
/// ```
///
/// # Whose breaker it is
/// Each use has a breaker of its own, made at the first call, whatever its name. `NAME_circuit_breaker()` gives it, beside
/// the function and as visible: free, or associated in an `impl` (`Client::send_circuit_breaker()`). A generic function, or
/// a method of a generic type, has **one breaker for all its types**. Nothing can stand beside a method in the
/// implementation of a trait: give it a breaker that exists.
///
/// # Errors
/// The function's own; or what its error type makes of a `CircuitOpenError`, for which it must implement `From`.
///
/// # Cost
/// Beyond that of the breaker, a load. A breaker that exists is borrowed; only where it is reached through what the body
/// may change or take (`&mut self`, an owned argument), its handle is cloned, which counts a reference.
///
/// # Cancellation and panics
/// As with `CircuitBreaker::execute` and `execute_async`: dropping the future is neutral and gives a probe's place back; a
/// panic is a failure and goes on unwinding. An async function that is refused is not polled.
///
/// # With a retry
/// The two stack, and the upper is the outer, as it reads. A retry over a breaker has each attempt judged, and a refusal
/// is never tried again; a breaker over a retry judges the call as a whole.
///
/// ```
/// use service_mesh::{with_circuit_breaker, with_retry};
///
/// #[with_retry(max_retries = 9, initial_delay_seconds = 0)]
/// #[with_circuit_breaker("api-service", failure_threshold = 3)]
/// fn fetch(calls: &mut u32) -> Result<(), Box<dyn std::error::Error>> {
///     *calls += 1;
///     Err("down".into())
/// }
///
/// let mut calls = 0;
/// assert_eq!(fetch(&mut calls).unwrap_err().to_string(), "circuit api-service is open");
/// assert_eq!(calls, 3);
/// ```
///
/// That holds under their own names. An attribute renamed by `use … as …` is not seen by the one above it, and becomes the
/// outer.
#[proc_macro_attribute]
pub fn with_circuit_breaker(arguments: TokenStream, item: TokenStream) -> TokenStream {
    decorated(Kind::CircuitBreaker, arguments, item)
}

/// Tries a function again where it fails, after waits that grow.
///
/// ```
/// use service_mesh::with_retry;
///
/// #[with_retry(max_retries = 3, initial_delay_seconds = 0.001, jitter = "full")]
/// fn fetch(answers: &mut Vec<Result<u32, &'static str>>, path: String) -> Result<u32, &'static str> {
///     assert_eq!(path, "/");
///     answers.pop().unwrap()
/// }
///
/// assert_eq!(fetch(&mut vec![Ok(7), Err("busy"), Err("busy")], "/".into()), Ok(7));
/// // The last error comes back, unchanged.
/// assert_eq!(fetch(&mut vec![Err("still busy"); 4], "/".into()), Err("still busy"));
/// assert_eq!(fetch_retry_policy().config().max_retries(), 3);
/// ```
///
/// # Where it goes
/// On a `fn` or an `async fn`, free or a method, that returns a `Result`, under whatever name. The function keeps its
/// name, signature, visibility, docs and attributes. Not on a `const` or `extern` function.
///
/// # What it takes
/// Nothing, which is `RetryConfig::default()`, or any of:
/// - the fields of `RetryConfig`, by their keys in the policy file: `max_retries`, `initial_delay_seconds`,
///   `max_delay_seconds`, `exponential_base`, `jitter` (`true`, `false`, `"proportional"`, `"full"`, `"equal"`,
///   `"decorrelated"`, `"none"`), `retry_after_max_seconds`. Their values are literals, and are checked when they are
///   compiled;
/// - or `config = EXPRESSION`, a `RetryConfig` that is computed, once;
/// - or `policy = EXPRESSION`, a `RetryPolicy` that exists, or what derefs to one: for a budget, or a timer of your own.
///   A method reaches its object's with `policy = self.policy`;
/// - `classify = EXPRESSION`, which says which results are tried again and how soon (a `Classify`). By default every error
///   is tried again but a refusal.
///
/// `NAME_retry_policy()` beside the function gives the policy that was made, as `NAME_circuit_breaker()` does for
/// [`with_circuit_breaker`](macro@with_circuit_breaker); the words on generics, traits and cost there hold here.
///
/// # What an attempt is given
/// A clone of each argument that the function owns, which must be `Clone`. References, `&mut` ones too, are lent anew to
/// each attempt, and what one attempt changed the next one sees. `self` is never cloned: a body that consumes it does not
/// compile.
///
/// # Errors
/// The last one of the function, unchanged; nothing is asked of its type.
///
/// # Waiting
/// A `fn` blocks its thread between attempts. An `async fn` waits with tokio's timer (the feature `tokio`; without it, it
/// does not compile unless it never waits), or with that of its `policy`. Where no timer can be reached when a wait is due,
/// such as outside of a runtime, the error at hand is returned and nothing is tried again: the error type need not know
/// of timers.
///
/// # Cancellation and panics
/// Dropping the future cancels the attempt or the wait that is under way. A panic goes through.
///
/// The future can be sent to another thread wherever the body's can.
#[proc_macro_attribute]
pub fn with_retry(arguments: TokenStream, item: TokenStream) -> TokenStream {
    decorated(Kind::Retry, arguments, item)
}

fn decorated(kind: Kind, arguments: TokenStream, item: TokenStream) -> TokenStream {
    if parse::is_mark(arguments.clone().into()) {
        return TokenStream::new();
    }
    let mut function = match parse::function(kind, item.clone().into()) {
        Ok(function) => function,
        Err(error) => return [item, error.into_compile_error().into()].into_iter().collect(),
    };
    let mut uses = vec![Use { kind, arguments: arguments.into(), span: Span::call_site() }];
    uses.extend(parse::take_uses(&mut function));
    match validate::layers(uses, &function) {
        Ok(layers) => expand::expand(function, &layers).into(),
        Err(error) => {
            let mut tokens = error.into_compile_error();
            function.to_tokens(&mut tokens);
            tokens.into()
        }
    }
}
