//! Every name with its labels, after calls that follow a script. The facade's recorder is one of our own, so that what is
//! told is seen as it was told.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString,
};
use proptest::prelude::*;
use service_mesh_models::{CircuitBreakerConfig, RetryBudgetConfig, RetryConfig, ServiceInstance, ServiceProxyConfig};

use super::*;
use crate::testing::ManualClock;
use crate::{Answer, CallOptions, Environment};

const SECOND: Duration = Duration::from_secs(1);

/// Each series by its text, `name{label=value,…}`, with what it was told: of a counter the sum, of a gauge the last
/// value, of a histogram all of them.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

struct Series {
    told: Told,
    text: String,
}

impl Series {
    fn tell(&self, tell: impl FnOnce(&mut Vec<f64>)) {
        tell(self.told.0.lock().unwrap().entry(self.text.clone()).or_default());
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        let value = f64::from(u32::try_from(value).unwrap());
        self.tell(|told| *told = vec![told.first().copied().unwrap_or_default() + value]);
    }

    fn absolute(&self, _value: u64) {
        unreachable!("counters only rise here");
    }
}

impl GaugeFn for Series {
    fn increment(&self, _value: f64) {
        unreachable!("gauges are only set here");
    }

    fn decrement(&self, _value: f64) {
        unreachable!("gauges are only set here");
    }

    fn set(&self, value: f64) {
        self.tell(|told| *told = vec![value]);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.tell(|told| told.push(value));
    }
}

impl Told {
    fn series(&self, key: &Key) -> Arc<Series> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Series { told: self.clone(), text: format!("{}{{{}}}", key.name(), labels.join(",")) })
    }

    /// Runs `code` with this as the recorder.
    fn around<R>(&self, code: impl FnOnce() -> R) -> R {
        metrics::with_local_recorder(self, code)
    }

    /// What was told to the series of a name, each with its labels.
    fn of(&self, name: &str) -> Vec<(String, Vec<f64>)> {
        let told = self.0.lock().unwrap();
        let of_name = |text: &String| text.strip_prefix(name).filter(|rest| rest.starts_with('{')).map(str::to_owned);
        told.iter().filter_map(|(text, values)| Some((of_name(text)?, values.clone()))).collect()
    }

    fn assert(&self, name: &str, expected: &[(&str, &[f64])]) {
        let expected: Vec<_> =
            expected.iter().map(|(labels, values)| (format!("{{{labels}}}"), values.to_vec())).collect();
        assert_eq!(self.of(name), expected, "{name}");
    }
}

impl Recorder for Told {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}

impl Told {
    fn describe(&self, name: &KeyName, unit: Option<Unit>) {
        let unit = unit.map_or("", |unit| unit.as_str());
        self.0.lock().unwrap().insert(format!("{} in {unit}", name.as_str()), Vec::new());
    }
}

struct Bench {
    clock: ManualClock,
    told: Told,
    metrics: Metrics,
    proxy: ServiceProxy,
}

impl Bench {
    /// A proxy with a budget of no retries but the first ten, each of them at once.
    fn new(ids: &[&str]) -> Self {
        let clock = ManualClock::new();
        let circuit = CircuitBreakerConfig::builder().failure_threshold(3).success_threshold(1);
        let retry = RetryConfig::builder().max_retries(1).initial_delay(Duration::ZERO).build().unwrap();
        let limits = ServiceProxyConfig::builder().attempt_timeout(5 * SECOND).build().unwrap();
        let proxy = ServiceProxy::builder("shop")
            .environment(Environment::manual(&clock))
            .circuit_breaker(circuit.timeout(10 * SECOND).build().unwrap())
            .retry(retry)
            .config(limits)
            .build();
        for id in ids {
            proxy.load_balancer().register(ServiceInstance::new(*id, *id, 80));
        }
        let metrics = Metrics::new();
        metrics.attach(&proxy);
        Self { clock, told: Told::default(), metrics, proxy }
    }

    /// A call whose attempts take a second each and end as listed.
    fn call(&self, answers: &[Result<(), &'static str>]) {
        let mut answers = answers.iter();
        self.told.around(|| {
            let _ = self.proxy.call(|_| {
                self.clock.advance(SECOND);
                *answers.next().expect("an answer for each attempt")
            });
        });
    }

    fn gauges(&self) {
        self.told.around(|| self.metrics.record_gauges(&self.proxy));
    }
}

#[test]
fn calls_and_attempts_are_counted_by_instance_and_outcome_and_durations_are_seconds() {
    let bench = Bench::new(&["a", "b"]);
    bench.call(&[Ok(())]);
    bench.call(&[Err("down"), Ok(())]);
    bench.call(&[Err("down"), Err("down")]);
    let told = &bench.told;
    told.assert(
        CALLS,
        &[("service=shop,instance=a,outcome=failure", &[1.0]), ("service=shop,instance=a,outcome=success", &[2.0])],
    );
    told.assert(
        CALL_DURATION,
        &[("service=shop,outcome=failure", &[2.0]), ("service=shop,outcome=success", &[1.0, 2.0])],
    );
    told.assert(
        ATTEMPTS,
        &[
            ("service=shop,instance=a,outcome=failure", &[1.0]),
            ("service=shop,instance=a,outcome=success", &[2.0]),
            ("service=shop,instance=b,outcome=failure", &[2.0]),
        ],
    );
    told.assert(RETRIES, &[("service=shop,reason=failure", &[2.0])]);
}

#[test]
fn a_retry_after_a_time_limit_or_a_neutral_answer_says_so() {
    let bench = Bench::new(&["a", "b"]);
    let busy = |_: &Result<(), &str>| Answer::neutral().retryable(true);
    bench.told.around(|| {
        let _ = bench.proxy.call_with(&CallOptions::new().classify(busy), |_| Err("busy"));
        let _ = bench.proxy.call(|attempt| {
            bench.clock.advance(if attempt.number() == 1 { 5 * SECOND } else { SECOND });
            if attempt.number() == 1 { Err("late") } else { Ok(()) }
        });
    });
    bench.told.assert(RETRIES, &[("service=shop,reason=neutral", &[1.0]), ("service=shop,reason=timed_out", &[1.0])]);
}

#[test]
fn a_refused_call_has_the_kind_of_its_refusal_as_its_outcome() {
    let bench = Bench::new(&["a"]);
    bench.told.around(|| {
        let in_no_time = CallOptions::new().timeout(Duration::ZERO);
        let _ = bench.proxy.call_with(&in_no_time, |_| Ok::<_, ()>(()));
        bench.proxy.circuit_breaker().force_open();
        let _ = bench.proxy.call(|_| Ok::<_, ()>(()));
        bench.proxy.circuit_breaker().reset();
        bench.proxy.load_balancer().mark_healthy("a", false);
        let _ = bench.proxy.call(|_| Ok::<_, ()>(()));
    });
    bench.told.assert(
        CALLS,
        &[
            ("service=shop,instance=,outcome=circuit_open", &[1.0]),
            ("service=shop,instance=,outcome=deadline_exceeded", &[1.0]),
            ("service=shop,instance=,outcome=no_healthy_instance", &[1.0]),
        ],
    );
    bench.told.assert(CIRCUIT_REFUSED, &[("circuit=shop", &[1.0])]);
    bench.told.assert(ATTEMPTS, &[]);
}

#[test]
fn a_panic_is_a_failed_call_and_a_dropped_one_is_neutral() {
    let bench = Bench::new(&["a"]);
    let unwound = bench.told.around(|| {
        catch_unwind(AssertUnwindSafe(|| {
            bench.proxy.call(|_| -> Result<(), ()> { resume_unwind(Box::new("in the function")) })
        }))
    });
    assert!(unwound.is_err());
    bench.told.around(|| {
        drop(bench.proxy.begin(&CallOptions::new()));
        drop(bench.proxy.begin(&CallOptions::new()).admit().unwrap());
    });
    bench.told.assert(
        CALLS,
        &[
            ("service=shop,instance=,outcome=neutral", &[1.0]),
            ("service=shop,instance=a,outcome=failure", &[1.0]),
            ("service=shop,instance=a,outcome=neutral", &[1.0]),
        ],
    );
}

#[test]
fn a_spent_budget_is_counted() {
    let bench = Bench::new(&["a"]);
    let budget = RetryBudgetConfig::builder().ratio(0.0).floor_per_second(0.0).build().unwrap();
    let config = bench.proxy.retry_policy().config().clone();
    let clock = Environment::manual(&bench.clock);
    let budget = crate::RetryBudget::with_environment(budget, clock.clone());
    bench
        .proxy
        .update_retry_policy(crate::RetryPolicy::builder().config(config).budget(budget).environment(clock).build());
    bench.call(&[Err("down")]);
    bench.told.assert(BUDGET_EXHAUSTED, &[("service=shop", &[1.0])]);
    bench.told.assert(RETRIES, &[]);
}

#[test]
fn the_life_of_a_circuit_is_counted() {
    let bench = Bench::new(&[]);
    let circuit = bench.proxy.circuit_breaker();
    bench.told.around(|| {
        let late = circuit.try_acquire().unwrap();
        (0..3).for_each(|_| circuit.record_failure());
        late.failure();
        assert!(circuit.try_acquire().is_err());
        bench.clock.advance(10 * SECOND);
        circuit.try_acquire().unwrap().success();
    });
    bench.told.assert(
        CIRCUIT_TRANSITIONS,
        &[
            ("circuit=shop,from=closed,to=open,reason=consecutive_failures", &[1.0]),
            ("circuit=shop,from=half_open,to=closed,reason=recovered", &[1.0]),
            ("circuit=shop,from=open,to=half_open,reason=timeout_elapsed", &[1.0]),
        ],
    );
    bench.told.assert(CIRCUIT_REFUSED, &[("circuit=shop", &[1.0])]);
    bench.told.assert(CIRCUIT_LATE_OUTCOMES, &[("circuit=shop", &[1.0])]);
}

#[test]
fn gauges_tell_instances_and_connections_and_take_back_what_is_gone() {
    let bench = Bench::new(&["a", "b", "c", "d"]);
    let balancer = bench.proxy.load_balancer();
    balancer.mark_healthy("b", false);
    balancer.set_weight("c", 0);
    let attempt = bench.proxy.begin(&CallOptions::new()).admit().unwrap();
    bench.gauges();
    let of_service = |health: &str| format!("service=shop,health={health}");
    let (healthy, draining, unhealthy) = (of_service("healthy"), of_service("draining"), of_service("unhealthy"));
    bench.told.assert(INSTANCES, &[(&draining, &[1.0]), (&healthy, &[2.0]), (&unhealthy, &[1.0])]);
    let connections = |a: f64| {
        let value = |id: &str| vec![if id == "a" { a } else { 0.0 }];
        ["a", "b", "c", "d"].map(|id| (format!("{{service=shop,instance={id}}}"), value(id))).to_vec()
    };
    assert_eq!(bench.told.of(CONNECTIONS), connections(1.0));
    let hot = ("{circuit=shop/a,state=closed}".to_owned(), vec![1.0]);
    assert!(bench.told.of(CIRCUIT_STATE).contains(&hot));

    // First marked unhealthy: the set of those that can be picked does not change when it goes.
    balancer.mark_healthy("a", false);
    bench.gauges();
    balancer.deregister("a");
    bench.gauges();
    drop(attempt);
    assert_eq!(bench.told.of(CONNECTIONS), connections(0.0));
    let cold = ("{circuit=shop/a,state=closed}".to_owned(), vec![0.0]);
    assert!(bench.told.of(CIRCUIT_STATE).contains(&cold));
    bench.told.assert(INSTANCES, &[(&draining, &[1.0]), (&healthy, &[1.0]), (&unhealthy, &[1.0])]);
}

#[test]
fn every_name_is_described() {
    let told = Told::default();
    told.around(Metrics::describe);
    let described: Vec<_> = told.0.lock().unwrap().keys().cloned().collect();
    assert_eq!(described.len(), 11);
    assert!(described.contains(&format!("{CALL_DURATION} in seconds")), "{described:?}");
}

/// What may happen to the circuits of a service.
#[derive(Clone, Copy, Debug)]
enum Step {
    Call(bool),
    Advance(u8),
    ForceOpen,
    ForceClosed,
    Reset,
    Deregister,
    Register,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<bool>().prop_map(Step::Call),
        4 => (0..15_u8).prop_map(Step::Advance),
        1 => Just(Step::ForceOpen),
        1 => Just(Step::ForceClosed),
        1 => Just(Step::Reset),
        1 => Just(Step::Deregister),
        1 => Just(Step::Register),
    ]
}

proptest! {
    #[test]
    fn of_the_states_of_a_circuit_exactly_one_is_1(steps in proptest::collection::vec(step(), 1..60)) {
        let bench = Bench::new(&["a", "b"]);
        for step in steps {
            bench.told.around(|| match step {
                Step::Call(well) => {
                    let _ = bench.proxy.call(|_| if well { Ok(()) } else { Err("down") });
                }
                Step::Advance(seconds) => bench.clock.advance(u32::from(seconds) * SECOND),
                Step::ForceOpen => bench.proxy.circuit_breaker().force_open(),
                Step::ForceClosed => bench.proxy.circuit_breaker().force_closed(),
                Step::Reset => bench.proxy.circuit_breaker().reset(),
                Step::Deregister => { bench.proxy.load_balancer().deregister("b"); }
                Step::Register => { bench.proxy.load_balancer().register(ServiceInstance::new("b", "b", 80)); }
            });
            bench.gauges();
            let states = bench.told.of(CIRCUIT_STATE);
            for circuit in bench.proxy.circuits() {
                let hot: Vec<_> = states
                    .iter()
                    .filter(|(labels, _)| labels.starts_with(&format!("{{circuit={},", circuit.name())))
                    .filter(|(_, values)| values != &[0.0])
                    .collect();
                let expected = (format!("{{circuit={},state={}}}", circuit.name(), circuit.state()), vec![1.0]);
                prop_assert_eq!(hot, vec![&expected]);
            }
        }
    }
}
