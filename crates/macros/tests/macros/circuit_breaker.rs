//! `#[with_circuit_breaker]` alone.

use std::cell::Cell;
use std::error::Error;
use std::sync::LazyLock;
use std::time::Duration;

use service_mesh::testing::ManualClock;
use service_mesh::{
    Answer, CircuitBreaker, CircuitBreakerConfig, CircuitState, CountWindow, Environment, TimeWindow,
    with_circuit_breaker,
};

use crate::{ApiError, block_on};

#[test]
fn it_trips_refuses_and_tells_the_refusal_in_the_functions_own_error() {
    #[with_circuit_breaker("api-service", failure_threshold = 3)]
    fn fetch(calls: &Cell<u32>) -> Result<u32, ApiError> {
        calls.set(calls.get() + 1);
        Err(ApiError::Down)
    }
    let calls = Cell::new(0);
    for _ in 0..3 {
        assert_eq!(fetch(&calls), Err(ApiError::Down));
    }
    let Err(ApiError::Open(refusal)) = fetch(&calls) else { panic!("not refused") };
    assert_eq!((refusal.name(), refusal.state()), ("api-service", CircuitState::Open));
    assert_eq!(calls.get(), 3);
    assert_eq!(fetch_circuit_breaker().state(), CircuitState::Open);
    assert_eq!(fetch_circuit_breaker().config().failure_threshold(), 3);
}

#[test]
fn an_async_function_is_not_polled_where_it_is_refused() {
    #[with_circuit_breaker("api-service", failure_threshold = 1)]
    async fn fetch(calls: &Cell<u32>, answer: Result<String, ApiError>) -> Result<String, ApiError> {
        calls.set(calls.get() + 1);
        std::future::ready(()).await;
        let answer = answer?;
        Ok(answer)
    }
    let calls = Cell::new(0);
    assert_eq!(block_on(fetch(&calls, Ok("page".into()))), Ok("page".into()));
    assert_eq!(block_on(fetch(&calls, Err(ApiError::Down))), Err(ApiError::Down));
    assert!(block_on(fetch(&calls, Ok("page".into()))).unwrap_err().is_open());
    assert_eq!(calls.get(), 2);
    fetch_circuit_breaker().reset();
    assert!(block_on(fetch(&calls, Ok("page".into()))).is_ok());
}

#[test]
fn every_field_reaches_the_configuration() {
    #[with_circuit_breaker(
        "all",
        failure_threshold = 7,
        consecutive = false,
        success_threshold = 4,
        timeout_seconds = 1.5,
        half_open_max_calls = 1_000,
        timeout_multiplier = 2,
        timeout_jitter_ratio = 0.25,
        timeout_max_seconds = 60,
        probe_timeout_seconds = 0,
        count_window(size = 50, minimum_calls = 5, failure_ratio = 0.5, slow_call_ratio = 1, slow_call_seconds = 0.1),
        time_window(duration_seconds = 20, buckets = 20, minimum_calls = 3, failure_ratio = 0.25)
    )]
    fn call() -> Result<(), ApiError> {
        Ok(())
    }
    let count = CountWindow::builder().size(50).minimum_calls(5).failure_ratio(0.5).slow_call_ratio(1.0);
    let time = TimeWindow::builder().duration(Duration::from_secs(20)).buckets(20).minimum_calls(3).failure_ratio(0.25);
    let expected = CircuitBreakerConfig::builder()
        .failure_threshold(7)
        .consecutive(false)
        .success_threshold(4)
        .timeout(Duration::from_millis(1500))
        .half_open_max_calls(1000)
        .timeout_multiplier(2.0)
        .timeout_jitter_ratio(0.25)
        .timeout_max(Duration::from_secs(60))
        .probe_timeout(Duration::ZERO)
        .count_window(count.slow_call(Duration::from_millis(100)).build().unwrap())
        .time_window(time.build().unwrap())
        .build()
        .unwrap();
    assert_eq!(*call_circuit_breaker().config(), expected);
    assert_eq!(call(), Ok(()));
}

#[test]
fn a_computed_configuration_is_given_whole() {
    fn config() -> CircuitBreakerConfig {
        CircuitBreakerConfig::builder().failure_threshold(1 + 1).build().unwrap()
    }
    #[with_circuit_breaker("computed", config = config())]
    fn call() -> Result<(), ApiError> {
        Err(ApiError::Down)
    }
    let _ = (call(), call());
    assert!(call().unwrap_err().is_open());
}

static SHARED: LazyLock<CircuitBreaker> = LazyLock::new(|| CircuitBreaker::new("shared"));

#[test]
fn a_breaker_that_exists_is_shared() {
    #[with_circuit_breaker(circuit_breaker = SHARED)]
    fn read() -> Result<(), ApiError> {
        Ok(())
    }
    #[with_circuit_breaker(circuit_breaker = &*SHARED)]
    async fn write() -> Result<(), ApiError> {
        Ok(())
    }
    assert_eq!((read(), block_on(write())), (Ok(()), Ok(())));
    SHARED.force_open();
    assert!(read().unwrap_err().is_open() && block_on(write()).unwrap_err().is_open());
}

#[test]
fn each_use_has_its_own_breaker_even_where_the_names_are_the_same() {
    #[with_circuit_breaker("same")]
    fn one() -> Result<(), ApiError> {
        Ok(())
    }
    #[with_circuit_breaker("same")]
    fn other() -> Result<(), ApiError> {
        Ok(())
    }
    one_circuit_breaker().force_open();
    assert!(one().is_err());
    assert!(other().is_ok());
}

#[test]
fn functions_that_one_macro_call_writes_have_each_their_own() {
    struct A;
    struct B;
    macro_rules! clients {
        ($($client:ident),*) => {
            $(impl $client {
                #[with_circuit_breaker("client")]
                fn fetch() -> Result<(), ApiError> {
                    Ok(())
                }
            })*
        };
    }
    clients!(A, B);
    A::fetch_circuit_breaker().force_open();
    assert!(A::fetch().is_err());
    assert!(B::fetch().is_ok());
}

#[test]
fn a_generic_function_has_one_breaker_for_all_its_types() {
    #[with_circuit_breaker("generic", failure_threshold = 1)]
    fn fetch<T>(answer: Option<T>) -> Result<T, ApiError> {
        answer.ok_or(ApiError::Down)
    }
    assert_eq!(fetch(Some(1)), Ok(1));
    assert_eq!(fetch::<String>(None), Err(ApiError::Down));
    assert!(fetch(Some(1)).unwrap_err().is_open());
}

struct Client {
    breaker: CircuitBreaker,
    sent: u32,
    answer: Result<u32, ApiError>,
}

impl Client {
    #[with_circuit_breaker(circuit_breaker = self.breaker)]
    fn read(&self) -> Result<u32, ApiError> {
        self.answer.clone()
    }

    /// The breaker is reached through what the body changes.
    #[with_circuit_breaker(circuit_breaker = self.breaker)]
    async fn write(&mut self) -> Result<&mut u32, ApiError> {
        self.sent += 1;
        self.answer.as_mut().map_err(|error| error.clone())
    }

    #[with_circuit_breaker("consumed")]
    fn into_answer(self) -> Result<u32, ApiError> {
        self.answer
    }

    #[with_circuit_breaker("made", failure_threshold = 1)]
    fn connect(answer: Result<u32, ApiError>) -> Result<Self, ApiError> {
        Ok(Self { breaker: CircuitBreaker::new("own"), sent: answer.clone()?, answer })
    }
}

#[test]
fn methods_may_have_a_breaker_for_each_object_or_one_for_the_type() {
    let mut one = Client::connect(Ok(7)).unwrap();
    let mut other = Client::connect(Ok(8)).unwrap();
    assert_eq!(one.read(), Ok(7));
    *block_on(one.write()).unwrap() += 1;
    one.breaker.force_open();
    assert!(one.read().unwrap_err().is_open() && block_on(one.write()).unwrap_err().is_open());
    assert_eq!(block_on(other.write()), Ok(&mut 8));
    assert_eq!(one.into_answer(), Ok(8));
    assert!(matches!(Client::connect(Err(ApiError::Down)), Err(ApiError::Down)));
    assert!(matches!(Client::connect(Ok(1)), Err(ApiError::Open(_))));
    assert_eq!(Client::connect_circuit_breaker().name(), "made");
    assert_eq!(Client::into_answer_circuit_breaker().state(), CircuitState::Closed);
}

#[test]
fn a_classifier_says_what_a_failure_is() {
    #[with_circuit_breaker(
        "users",
        failure_threshold = 1,
        classify = |result: &Result<u32, Box<dyn Error>>| match result {
            Err(error) if error.to_string() == "not found" => Answer::success(),
            Err(_) => Answer::failure(),
            Ok(_) => Answer::success(),
        }
    )]
    fn user(error: &'static str) -> Result<u32, Box<dyn Error>> {
        Err(error.into())
    }
    for _ in 0..9 {
        assert_eq!(user("not found").unwrap_err().to_string(), "not found");
    }
    assert_eq!(user("down").unwrap_err().to_string(), "down");
    assert_eq!(user("not found").unwrap_err().to_string(), "circuit users is open");
}

#[test]
fn a_dropped_future_gives_its_probe_back() {
    #[with_circuit_breaker(circuit_breaker = breaker)]
    async fn fetch(breaker: &CircuitBreaker, hangs: bool) -> Result<(), ApiError> {
        if hangs {
            std::future::pending::<()>().await;
        }
        Err(ApiError::Down)
    }
    let clock = ManualClock::new();
    let config = CircuitBreakerConfig::builder().failure_threshold(1).half_open_max_calls(1).build().unwrap();
    let breaker = CircuitBreaker::builder("probed").config(config).environment(Environment::manual(&clock)).build();
    assert_eq!(clock.block_on(fetch(&breaker, false)), Err(ApiError::Down));
    clock.advance(Duration::from_secs(30));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut hung = Box::pin(fetch(&breaker, true));
    assert!(hung.as_mut().poll(&mut context).is_pending());
    assert_eq!(breaker.half_open_calls(), 1);
    assert!(clock.block_on(fetch(&breaker, false)).unwrap_err().is_open());
    drop(hung);
    assert_eq!(breaker.half_open_calls(), 0);
}

#[test]
#[should_panic(expected = "boom")]
fn a_panic_goes_on_and_is_a_failure() {
    #[with_circuit_breaker("panics", failure_threshold = 1)]
    fn call() -> Result<(), ApiError> {
        panic!("boom")
    }
    let panicked = std::panic::catch_unwind(call);
    assert!(call().unwrap_err().is_open());
    std::panic::resume_unwind(panicked.unwrap_err());
}
