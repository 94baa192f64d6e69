//! The service proxy against its model, through its pure machine: calls that overlap, on a set that changes.
//!
//! # What the circuits hear of an attempt
//! An outcome is that of the answer; one that comes at its time limit or later is a failure, whatever it says, and so is
//! an attempt that is dropped then. "Another" is an instance that can be picked at the verdict, that this call has not
//! tried, and whose circuit would admit.
//!
//! | outcome | another | the instance's circuit hears | the service's circuit hears |
//! |---|---|---|---|
//! | success | either | success | success |
//! | neutral, or dropped in time | either | neutral | neutral |
//! | failure | there is one | failure | neutral: failover hides it |
//! | failure | there is none | failure | failure |
//!
//! That holds in each state of either circuit; a permit of an older generation makes its verdict late there, and only
//! there. A neutral verdict gives a probe's place back.
//!
//! # What becomes of the call
//! The first line that fits.
//!
//! | after an attempt | verdict |
//! |---|---|
//! | the answer is final, or `max_retries` is reached | return |
//! | it asks for a longer wait than `retry_after_max`, or the wait would reach the deadline | return |
//! | after the wait the service's circuit will refuse for certain: open for longer, or forced | refused |
//! | after the wait all instances' circuits will refuse for certain | refused |
//! | the budget has no retry | return |
//! | else | retry after the wait |
//!
//! | before an attempt | |
//! |---|---|
//! | the deadline has come | refused: deadline exceeded |
//! | the service's circuit refuses | refused: circuit open, after the longer of its wait and the shortest of all the instances' |
//! | nobody can be picked | refused: no healthy instance; the service's permit ends neutral |
//! | those who can be picked all refuse | refused: circuit open, after their shortest wait; the service's permit ends neutral |
//! | an untried one admits | it is called |
//! | else | one that was tried is called again |

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use service_mesh::testing::{ManualClock, Recorder};
use service_mesh::{
    Answer, CallOptions, CircuitBreaker, CircuitBreakerConfig, Clock, Environment, Jitter, RetryBudgetConfig,
    RetryConfig, ServiceInstance, ServiceProxy, ServiceProxyConfig,
};

use super::circuit_breaker::Advance;
use super::timelines;
use crate::reference::circuit_breaker::Circuit;
use crate::reference::service_proxy::{self as model, NAME, Service, Settings};

const IDS: [&str; 4] = ["a", "b", "c", "d"];
const SECOND: u64 = 1_000_000_000;

/// What may happen next.
#[derive(Clone, Debug)]
enum Step {
    /// A call begins; it may have a timeout of its own.
    Begin(Option<u64>),
    /// One that waits goes on.
    Admit(Index),
    /// A waiting call is given up.
    Forget(Index),
    Settle(Index, Answer),
    Drop(Index),
    Register {
        id: &'static str,
        port: u16,
        healthy: bool,
        weight: u32,
    },
    Deregister(&'static str),
    Mark(&'static str, bool),
    /// The service's circuit, or that of an instance.
    ByHand(Option<&'static str>, Hand),
    Advance(Advance),
    /// Somebody looks at the circuits of the instances.
    Look,
}

#[derive(Clone, Copy, Debug)]
enum Hand {
    ForceOpen,
    ForceClosed,
    Reset,
    RecordSuccess,
    CanExecute,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let failures = select(vec![2_u32, 12]);
    let start = prop::collection::vec(Just(()), 0..=IDS.len());
    (failures, start).prop_flat_map(|(failures, start)| {
        let answer = prop_oneof![
            8 => Just(Answer::success()),
            4 * failures => Just(Answer::failure()),
            1 => Just(Answer::failure().retryable(false)),
            1 => Just(Answer::neutral()),
            1 => Just(Answer::neutral().retryable(true)),
            1 => Just(Answer::success().retryable(true)),
            1 => (0_u64..5).prop_map(|wait| Answer::failure().retry_after(Duration::from_secs(wait))),
        ];
        let id = || select(IDS.to_vec());
        let hand = select(vec![Hand::ForceOpen, Hand::ForceClosed, Hand::Reset, Hand::RecordSuccess, Hand::CanExecute]);
        let register = (id(), 80_u16..82, prop::bool::weighted(0.8), 0_u32..4)
            .prop_map(|(id, port, healthy, weight)| Step::Register { id, port, healthy, weight });
        let step = prop_oneof![
            20 => prop::option::weighted(0.1, (0_u64..10).prop_map(|halves| halves * SECOND / 2)).prop_map(Step::Begin),
            30 => any::<Index>().prop_map(Step::Admit),
            1 => any::<Index>().prop_map(Step::Forget),
            30 => (any::<Index>(), answer).prop_map(|(which, answer)| Step::Settle(which, answer)),
            2 => any::<Index>().prop_map(Step::Drop),
            2 => register,
            2 => id().prop_map(Step::Deregister),
            3 => (id(), any::<bool>()).prop_map(|(id, healthy)| Step::Mark(id, healthy)),
            1 => (prop::option::weighted(0.8, id()), hand).prop_map(|(id, hand)| Step::ByHand(id, hand)),
            14 => Advance::any().prop_map(Step::Advance),
            2 => Just(Step::Look),
        ];
        let opening: Vec<_> = IDS[..start.len()]
            .iter()
            .map(|id| Step::Register { id, port: 80, healthy: true, weight: 1 })
            .chain([Step::Look])
            .collect();
        prop::collection::vec(step, 1..100).prop_map(move |steps| [opening.clone(), steps].concat())
    })
}

fn circuits() -> impl Strategy<Value = CircuitBreakerConfig> {
    (1_u32..4, 1_u32..4, 1_u32..4, 0_u64..8, 1_u32..3).prop_map(|(failures, successes, probes, timeout, multiplier)| {
        CircuitBreakerConfig::builder()
            .failure_threshold(failures)
            .success_threshold(successes)
            .half_open_max_calls(probes)
            .timeout(Duration::from_secs(timeout))
            .timeout_multiplier(f64::from(multiplier))
            .probe_timeout(Duration::from_secs(3))
            .build()
            .expect("every one of these is valid")
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    let circuits = (circuits(), prop::option::weighted(0.9, circuits()));
    // Half seconds, so that waits, limits and open times often end at one instant.
    let halves = |range: std::ops::Range<u64>| range.prop_map(|halves| halves * SECOND / 2);
    let retry = (0_u32..5, halves(0..4), halves(0..10), 1_u32..3, halves(0..8));
    let timeouts = (prop::option::of(halves(1..16)), prop::option::of(halves(1..8)));
    let limits = (timeouts, select(vec![100_u32, 100, 50, 34]));
    let budget = prop::option::of((select(vec![0_u32, 20, 50]), 0_u32..6));
    (circuits, retry, limits, budget).prop_map(|(circuits, retry, limits, budget)| Settings {
        circuit: circuits.0,
        instance_circuit: circuits.1,
        max_retries: retry.0,
        initial_delay: retry.1,
        max_delay: retry.2,
        exponential_base: retry.3,
        retry_after_max: retry.4,
        call_timeout: limits.0.0,
        attempt_timeout: limits.0.1,
        max_ejected_percent: limits.1,
        budget,
    })
}

fn proxy(settings: &Settings, environment: Environment, recorder: Recorder) -> ServiceProxy {
    let retry = RetryConfig::builder()
        .max_retries(settings.max_retries)
        .initial_delay(Duration::from_nanos(settings.initial_delay))
        .max_delay(Duration::from_nanos(settings.max_delay))
        .exponential_base(f64::from(settings.exponential_base))
        .retry_after_max(Duration::from_nanos(settings.retry_after_max))
        .jitter(Jitter::None);
    let mut config = ServiceProxyConfig::builder().max_ejected_ratio(f64::from(settings.max_ejected_percent) / 100.0);
    if let Some(timeout) = settings.call_timeout {
        config = config.call_timeout(Duration::from_nanos(timeout));
    }
    if let Some(timeout) = settings.attempt_timeout {
        config = config.attempt_timeout(Duration::from_nanos(timeout));
    }
    let mut builder = ServiceProxy::builder(NAME)
        .environment(environment)
        .circuit_breaker(settings.circuit.clone())
        .retry(retry.build().expect("every one of these is valid"))
        .config(config.build().expect("every one of these is valid"))
        .listener(recorder);
    builder = match &settings.instance_circuit {
        Some(config) => builder.instance_circuit_breaker(config.clone()),
        None => builder.without_instance_circuit_breakers(),
    };
    builder = match settings.budget {
        Some((percent, floor)) => builder.retry_budget(
            RetryBudgetConfig::builder()
                .ratio(f64::from(percent) / 100.0)
                .floor_per_second(f64::from(floor) / 10.0)
                .build()
                .expect("every one of these is valid"),
        ),
        None => builder.without_retry_budget(),
    };
    builder.build()
}

/// A proxy, its model, and the calls that both have under way.
struct Pair {
    clock: ManualClock,
    recorder: Recorder,
    real: ServiceProxy,
    model: Service,
    waiting: Vec<(service_mesh::Call<ServiceProxy>, model::Call)>,
    running: Vec<(service_mesh::Attempt<ServiceProxy>, model::Attempt)>,
    /// Those that somebody looked at. To look makes the proxy take note of the balancer's present set, so that it is
    /// done seldom.
    circuits: HashMap<usize, CircuitBreaker>,
}

impl Pair {
    fn new(settings: &Settings) -> Self {
        let (clock, recorder) = (ManualClock::new(), Recorder::new());
        let real = proxy(settings, Environment::manual(&clock), recorder.clone());
        let model = Service::new(settings.clone());
        Self { clock, recorder, real, model, waiting: Vec::new(), running: Vec::new(), circuits: HashMap::new() }
    }

    fn now(&self) -> u64 {
        self.clock.now().as_nanos()
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        let now = self.now();
        match step {
            Step::Begin(timeout) => {
                let options = CallOptions::new();
                let options = match timeout {
                    Some(timeout) => options.timeout(Duration::from_nanos(timeout)),
                    None => options,
                };
                self.waiting.push((self.real.begin_owned(&options), self.model.begin(timeout, now)));
            }
            Step::Admit(which) => self.admit(which, now)?,
            Step::Forget(which) => {
                if !self.waiting.is_empty() {
                    drop(self.waiting.swap_remove(which.index(self.waiting.len())));
                }
            }
            Step::Settle(which, answer) => self.settle(which, answer, now)?,
            Step::Drop(which) => {
                if !self.running.is_empty() {
                    let (real, model) = self.running.swap_remove(which.index(self.running.len()));
                    drop(real);
                    self.model.abandon(model, now);
                }
            }
            Step::Register { id, port, healthy, weight } => {
                let instance = ServiceInstance::new(id, id, port).with_healthy(healthy).with_weight(weight);
                self.real.load_balancer().register(instance);
                self.model.register(id, port, healthy, weight);
            }
            Step::Deregister(id) => {
                self.real.load_balancer().deregister(id);
                self.model.deregister(id);
            }
            Step::Mark(id, healthy) => {
                self.real.load_balancer().mark_healthy(id, healthy);
                self.model.mark_healthy(id, healthy);
            }
            Step::ByHand(None, hand) => by_hand(hand, &self.real.circuit_breaker(), &mut self.model.circuit, now)?,
            Step::ByHand(Some(id), hand) => {
                self.look()?;
                let index = self.model.find(id).filter(|index| self.model.is_pickable(*index));
                if let Some(index) = index
                    && let Some(circuit) = &mut self.model.instances[index].circuit
                {
                    by_hand(hand, &self.circuits[&index], circuit, now)?;
                }
            }
            Step::Advance(advance) => {
                let mut boundaries = self.model.boundaries(now);
                boundaries.extend(self.waiting.iter().filter_map(|(_, call)| call.deadline));
                boundaries.extend(self.running.iter().filter_map(|(_, attempt)| attempt.limit));
                self.clock.advance(Duration::from_nanos(advance.from(now, &boundaries) - now));
            }
            Step::Look => self.look()?,
        }
        self.compare()
    }

    fn admit(&mut self, which: Index, now: u64) -> Result<(), TestCaseError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (real, model) = self.waiting.swap_remove(which.index(self.waiting.len()));
        let real = real.admit();
        let seen = real.as_ref().ok().map(|attempt| attempt.instance().id.clone());
        match (real, self.model.admit(model, now, seen.as_deref())) {
            (Ok(real), Ok(model)) => {
                prop_assert_eq!(&real.instance().id, self.model.instances[model.instance].id);
                prop_assert_eq!(real.number(), model.number());
                let left = model.limit.map(|limit| Duration::from_nanos(limit.saturating_sub(now)));
                prop_assert_eq!(real.time_left(), left);
                self.running.push((real, model));
            }
            (Err(real), Err((kind, attempts))) => {
                prop_assert_eq!((real.kind(), real.attempts()), (&kind, attempts));
            }
            (real, model) => prop_assert!(false, "{real:?}, but the model says {model:?}"),
        }
        Ok(())
    }

    fn settle(&mut self, which: Index, answer: Answer, now: u64) -> Result<(), TestCaseError> {
        if self.running.is_empty() {
            return Ok(());
        }
        let (real, model) = self.running.swap_remove(which.index(self.running.len()));
        let real = real.settle(answer);
        let seen = matches!(real, service_mesh::Verdict::Retry { .. });
        match (real, self.model.settle(model, answer, now, seen)) {
            (service_mesh::Verdict::Return, model::Verdict::Return) => {}
            (service_mesh::Verdict::Refused(real), model::Verdict::Refused(kind, attempts)) => {
                prop_assert_eq!((real.kind(), real.attempts()), (&kind, attempts));
            }
            (service_mesh::Verdict::Retry { after, call }, model::Verdict::Retry(wait, model)) => {
                prop_assert_eq!(after, wait);
                self.waiting.push((call, model));
            }
            (real, model) => prop_assert!(false, "{real:?}, but the model says {model:?}"),
        }
        Ok(())
    }

    /// Takes handles of the circuits of all instances that can be picked.
    fn look(&mut self) -> Result<(), TestCaseError> {
        for id in IDS {
            let real = self.real.instance_circuit_breaker(id);
            let index = self.model.find(id).filter(|index| self.model.is_pickable(*index));
            let expected = index.filter(|index| self.model.instances[*index].circuit.is_some());
            prop_assert_eq!(real.is_some(), expected.is_some(), "the circuit of {}", id);
            self.circuits.extend(expected.zip(real));
        }
        Ok(())
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        let now = self.now();
        compare_circuits(&self.real.circuit_breaker(), &self.model.circuit, now)?;
        for (index, real) in &self.circuits {
            let model = self.model.instances[*index].circuit.as_ref();
            compare_circuits(real, model.expect("it has one, or nobody could have looked"), now)?;
        }
        let endpoints = self.real.load_balancer().endpoints();
        let connections: Vec<_> =
            endpoints.iter().map(|endpoint| (endpoint.instance.id.as_str(), endpoint.in_flight)).collect();
        let expected: Vec<_> = self.model.registered.iter().map(|index| &self.model.instances[*index]).collect();
        let expected: Vec<_> = expected.iter().map(|instance| (instance.id, instance.in_flight)).collect();
        prop_assert_eq!(connections, expected);
        self.model.collect();
        let heard: Vec<_> = self.recorder.take().into_iter().map(|event| (event.name, event.kind)).collect();
        let told = std::mem::take(&mut self.model.told);
        if !heard.is_empty() || !told.is_empty() {
            prop_assert_eq!(format!("{heard:?}"), format!("{told:?}"));
        }
        Ok(())
    }
}

fn by_hand(hand: Hand, real: &CircuitBreaker, model: &mut Circuit, now: u64) -> Result<(), TestCaseError> {
    match hand {
        Hand::ForceOpen => {
            real.force_open();
            model.force_open();
        }
        Hand::ForceClosed => {
            real.force_closed();
            model.force_closed();
        }
        Hand::Reset => {
            real.reset();
            model.reset();
        }
        // A failure by hand might trip against the cap, of which a circuit alone knows nothing.
        Hand::RecordSuccess => {
            real.record_success();
            model.record(service_mesh::Outcome::Success, now);
        }
        Hand::CanExecute => prop_assert_eq!(real.can_execute(), model.can_execute(now)),
    }
    Ok(())
}

fn compare_circuits(real: &CircuitBreaker, model: &Circuit, now: u64) -> Result<(), TestCaseError> {
    prop_assert_eq!(real.state(), model.state(), "{}", real.name());
    let counts = (real.failure_count(), real.success_count(), real.half_open_calls(), real.late_outcomes());
    let expected = (model.failure_count(), model.success_count(), model.half_open_calls(), model.late_outcomes);
    prop_assert_eq!(counts, expected, "{}", real.name());
    prop_assert_eq!((real.last_trip(), real.retry_after()), (model.last_trip, model.retry_after(now)));
    Ok(())
}

proptest! {
    #![proptest_config(timelines(1000))]

    #[test]
    fn a_proxy_does_what_the_rules_say(settings in settings(), steps in steps()) {
        let mut pair = Pair::new(&settings);
        for step in steps {
            pair.take(step)?;
        }
    }
}
