//! The breakers, and which configurations each can express. Where a peer would fail for its settings alone, it is helped:
//! what is to be seen is how it behaves, not how it counts.

use std::pin::Pin;
use std::time::Duration;

use failsafe::futures::CircuitBreaker as _;
use failsafe::{backoff, failure_policy};
use recloser::{AsyncRecloser, Recloser};
use service_mesh::{Answer, CircuitBreaker, CircuitBreakerConfig, CircuitState, Classify, Environment};
use service_mesh_conformance::ReplyKind;
use tower::{Layer, Service};
use tower_resilience_circuitbreaker::{
    CircuitBreakerConfigBuilder, CircuitBreakerError, CircuitBreakerHandle, CircuitBreakerLayer, FnClassifier,
    SlidingWindowType,
};

use crate::circuit::{Breaker, Ending, Function, is_failure};
use crate::clock::ByHand;

/// A make of breaker.
pub(crate) struct Make {
    pub(crate) name: &'static str,
    /// A new one, if it can be configured so.
    pub(crate) new: fn(&CircuitBreakerConfig) -> Option<Box<dyn Breaker>>,
    /// Whether it tells its state.
    pub(crate) tells_state: bool,
}

pub(crate) const MAKES: [Make; 4] = [
    Make { name: "service-mesh", new: ours, tells_state: true },
    Make { name: "recloser 1.4", new: recloser, tells_state: false },
    Make { name: "failsafe 1.3", new: failsafe, tells_state: true },
    Make { name: "tower-resilience 0.14", new: tower_resilience, tells_state: true },
];

#[expect(clippy::unnecessary_wraps, reason = "a make may be unable; ours is not")]
fn ours(config: &CircuitBreakerConfig) -> Option<Box<dyn Breaker>> {
    let environment = Environment::system().with_clock(ByHand);
    Some(Box::new(Ours(CircuitBreaker::builder("b").config(config.clone()).environment(environment).build())))
}

/// Without the settings that no peer has. A timeout of zero is none of theirs either: with a clock that stands, they
/// would refuse for ever, and no true clock stands.
fn is_plain(config: &CircuitBreakerConfig) -> bool {
    let plain = !config.timeout().is_zero()
        && !is_judged_twice(config)
        && config.timeout_multiplier().to_bits() == 1f64.to_bits()
        && config.timeout_jitter_ratio() == 0.0;
    plain && config.timeout_max().is_none() && config.probe_timeout().is_none()
}

/// Failures in a row trip beside a window: no peer has both. It does not matter where the window is the shorter one.
fn is_judged_twice(config: &CircuitBreakerConfig) -> bool {
    let longest = config.count_window().map_or(0, |window| window.size());
    let timed = config.time_window().is_some_and(|window| window.minimum_calls() > config.failure_threshold());
    config.consecutive() && (longest > config.failure_threshold() || timed)
}

/// Peers admit a call, or forget one, only after its time, not at it. That much they are helped.
fn a_moment_less(timeout: Duration) -> Duration {
    timeout.saturating_sub(Duration::from_nanos(1))
}

/// It has a window and a rate only, and counts one result more than its lengths say before it judges. Failures in a row
/// are a full ring of failures; the ring is filled with successes first. Two successes are a ring of one.
fn recloser(config: &CircuitBreakerConfig) -> Option<Box<dyn Breaker>> {
    if !is_plain(config) || config.time_window().is_some() || config.success_threshold() < 2 {
        return None;
    }
    let builder = Recloser::custom()
        .half_open_len(config.success_threshold() as usize - 1)
        .open_wait(a_moment_less(config.timeout()));
    let (breaker, fill) = match config.count_window() {
        Some(window) if window.slow_call_ratio().is_none() && window.minimum_calls() >= window.size() => {
            #[expect(clippy::cast_possible_truncation, reason = "its rate is an f32")]
            let rate = window.failure_ratio()? as f32;
            (builder.closed_len(window.size() as usize).error_rate(rate).build(), 0)
        }
        Some(_) => return None,
        None => {
            let threshold = config.failure_threshold() as usize;
            (builder.closed_len(threshold).error_rate(1.0).build(), threshold)
        }
    };
    for _ in 0..fill {
        assert!(breaker.call(|| Ok::<(), ()>(())).is_ok(), "a new circuit is closed");
    }
    Some(Box::new(AsyncRecloser::from(breaker)))
}

/// One success closes it, and it has no bound of probes to set.
fn failsafe(config: &CircuitBreakerConfig) -> Option<Box<dyn Breaker>> {
    let windows = config.count_window().is_some() || config.time_window().is_some();
    if !is_plain(config) || windows || config.success_threshold() != 1 {
        return None;
    }
    let policy = failure_policy::consecutive_failures(
        config.failure_threshold(),
        backoff::constant(a_moment_less(config.timeout())),
    );
    Some(Box::new(Failsafe(failsafe::Config::new().failure_policy(policy).build())))
}

/// It closes after as many successes as it permits probes, and has either a window or failures in a row.
fn tower_resilience(config: &CircuitBreakerConfig) -> Option<Box<dyn Breaker>> {
    // Where a window is looked at, it is not how many probes are in flight.
    let windowed = config.count_window().is_some() || config.time_window().is_some();
    if !is_plain(config) || !(windowed || config.success_threshold() == config.half_open_max_calls()) {
        return None;
    }
    let builder = CircuitBreakerLayer::builder()
        .wait_duration_in_open(config.timeout())
        .permitted_calls_in_half_open(config.success_threshold() as usize);
    let builder = match (config.count_window(), config.time_window()) {
        (None, None) => builder.consecutive_failures(config.failure_threshold() as usize),
        // A rate of failures is always judged, so it must be one that the scenario judges too.
        (Some(window), None) if window.minimum_calls() <= window.size() => {
            let builder = builder
                .sliding_window_size(window.size() as usize)
                .minimum_number_of_calls(window.minimum_calls() as usize);
            rates(builder, window.failure_ratio()?, window.slow_call_ratio(), window.slow_call())
        }
        (None, Some(window)) => {
            let builder = builder
                .sliding_window_type(SlidingWindowType::TimeBased)
                .sliding_window_duration(a_moment_less(window.duration()))
                .minimum_number_of_calls(window.minimum_calls() as usize);
            rates(builder, window.failure_ratio()?, window.slow_call_ratio(), window.slow_call())
        }
        (Some(_), _) => return None,
    };
    let builder = builder.failure_classifier(fails as fn(&Result<ReplyKind, ReplyKind>) -> bool);
    let (layer, handle) = builder.build_with_handle().ok()?;
    let service = tower::service_fn(|function: Function| function);
    let mut service = layer.layer(service);
    Some(Box::new(TowerResilience { call: Box::new(move |function| Box::pin(service.call(function))), handle }))
}

fn rates(
    builder: CircuitBreakerConfigBuilder,
    failures: f64,
    slow_calls: Option<f64>,
    slow_call: Option<Duration>,
) -> CircuitBreakerConfigBuilder {
    let builder = builder.failure_rate_threshold(failures);
    match (slow_calls, slow_call) {
        (Some(ratio), Some(slow)) => builder.slow_call_rate_threshold(ratio).slow_call_duration_threshold(slow),
        _ => builder,
    }
}

struct Ours(CircuitBreaker);

impl Breaker for Ours {
    fn call(&mut self, function: Function) -> Ending {
        let breaker = self.0.clone();
        Box::pin(async move {
            match breaker.execute_async_with(&Ternary, || function).await {
                Ok(reply) => Some(reply),
                Err(error) => error.last().copied(),
            }
        })
    }

    fn state(&self) -> Option<CircuitState> {
        Some(self.0.state())
    }
}

/// The classifier that only we can have.
struct Ternary;

impl Classify<ReplyKind, ReplyKind> for Ternary {
    fn classify(&self, result: &Result<ReplyKind, ReplyKind>) -> Answer {
        match result {
            Err(ReplyKind::Ignored | ReplyKind::TryLater) => Answer::neutral(),
            Err(reply) if is_failure(*reply) => Answer::failure(),
            _ => Answer::success(),
        }
    }
}

impl Breaker for AsyncRecloser {
    fn call(&mut self, function: Function) -> Ending {
        let call = self.call_with(|reply: &ReplyKind| is_failure(*reply), function);
        Box::pin(async move {
            match call.await {
                Ok(reply) | Err(recloser::Error::Inner(reply)) => Some(reply),
                Err(recloser::Error::Rejected) => None,
            }
        })
    }

    fn state(&self) -> Option<CircuitState> {
        None
    }
}

/// Its state is told by `Debug` only.
struct Failsafe<P: failsafe::FailurePolicy>(failsafe::StateMachine<P, ()>);

impl<P: failsafe::FailurePolicy + Send + Sync + 'static> Breaker for Failsafe<P> {
    fn call(&mut self, function: Function) -> Ending {
        let call = self.0.call_with(|reply: &ReplyKind| is_failure(*reply), function);
        Box::pin(async move {
            match call.await {
                Ok(reply) | Err(failsafe::Error::Inner(reply)) => Some(reply),
                Err(failsafe::Error::Rejected) => None,
            }
        })
    }

    fn state(&self) -> Option<CircuitState> {
        let told = format!("{:?}", self.0);
        let states = [CircuitState::HalfOpen, CircuitState::Open, CircuitState::Closed];
        states.into_iter().find(|state| told.contains(state.as_str()))
    }
}

type Binary = FnClassifier<fn(&Result<ReplyKind, ReplyKind>) -> bool>;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "its classifier's signature")]
fn fails(result: &Result<ReplyKind, ReplyKind>) -> bool {
    matches!(result, Err(reply) if is_failure(*reply))
}

struct TowerResilience {
    call: Box<dyn FnMut(Function) -> Resilient>,
    handle: CircuitBreakerHandle<Binary>,
}

type Resilient = Pin<Box<dyn Future<Output = Result<ReplyKind, CircuitBreakerError<ReplyKind>>>>>;

impl Breaker for TowerResilience {
    fn call(&mut self, function: Function) -> Ending {
        let call = (self.call)(function);
        Box::pin(async move {
            match call.await {
                Ok(reply) | Err(CircuitBreakerError::Inner(reply)) => Some(reply),
                Err(CircuitBreakerError::OpenCircuit) => None,
            }
        })
    }

    fn state(&self) -> Option<CircuitState> {
        Some(match self.handle.state() {
            tower_resilience_circuitbreaker::CircuitState::Closed => CircuitState::Closed,
            tower_resilience_circuitbreaker::CircuitState::Open => CircuitState::Open,
            tower_resilience_circuitbreaker::CircuitState::HalfOpen => CircuitState::HalfOpen,
        })
    }
}
