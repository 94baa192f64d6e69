use std::time::Duration;

use service_mesh::testing::ManualClock;
use service_mesh::{CallErrorKind, Environment, ServiceInstance};

use super::*;

const FILE: &str = "[services.api]
instances = [{ id = 'a', host = 'a', port = 80 }, { id = 'b', host = 'b', port = 80 }]
circuit_breaker = { failure_threshold = 2 }
[services.idle]";

struct Bench {
    clock: ManualClock,
    mesh: Mesh,
    metrics: Metrics,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::new();
        let mesh = Mesh::builder().environment(Environment::manual(&clock)).read_text(FILE).unwrap();
        let mut metrics = Metrics::default();
        metrics.follow(&mesh);
        Self { clock, mesh, metrics }
    }

    fn api(&self) -> ServiceProxy {
        self.mesh.service("api").unwrap()
    }

    fn text(&self) -> String {
        let mut text = Text::default();
        self.metrics.render(&mut text);
        text.into_string()
    }

    /// The samples whose names begin so.
    fn samples(&self, name: &str) -> Vec<String> {
        self.text()
            .lines()
            .filter(|line| line.starts_with(name))
            .map(|line| line.replace("service_mesh_", ""))
            .collect()
    }
}

#[test]
fn calls_attempts_and_retries_are_counted_with_what_became_of_them() {
    let bench = Bench::new();
    let clock = bench.clock.clone();
    let _ = bench.api().call(|attempt| {
        clock.advance(Duration::from_millis(20));
        if attempt.instance().id == "a" { Err("no") } else { Ok(()) }
    });
    assert_eq!(
        bench.samples("service_mesh_calls_total"),
        [r#"calls_total{service="api",instance="b",outcome="success"} 1"#]
    );
    assert_eq!(
        bench.samples("service_mesh_attempts_total"),
        [
            r#"attempts_total{service="api",instance="a",outcome="failure"} 1"#,
            r#"attempts_total{service="api",instance="b",outcome="success"} 1"#
        ]
    );
    assert_eq!(bench.samples("service_mesh_retries"), [r#"retries_total{service="api",reason="failure"} 1"#]);
    let count = bench.samples("service_mesh_call_duration_seconds_count");
    assert_eq!(count, [r#"call_duration_seconds_count{service="api",outcome="success"} 1"#]);
    let buckets = bench.samples("service_mesh_call_duration_seconds_bucket");
    assert_eq!(buckets.len(), 14);
    assert_eq!(buckets[13], r#"call_duration_seconds_bucket{service="api",outcome="success",le="+Inf"} 1"#);

    let refused = bench.mesh.service("idle").unwrap().call(|_| Ok::<_, &str>(())).unwrap_err();
    assert!(matches!(refused.kind(), CallErrorKind::NoHealthyInstance(_)));
    assert!(bench.text().contains(r#"calls_total{service="idle",instance="",outcome="no_healthy_instance"} 1"#));
}

#[test]
fn of_a_circuit_exactly_one_state_is_1_and_what_happens_to_it_is_counted() {
    let bench = Bench::new();
    let circuit = bench.api().instance_circuit_breaker("a").unwrap();
    let is_one_hot = |state: &str| {
        let samples = bench.samples(r#"service_mesh_circuit_state{circuit="api/a""#);
        assert_eq!(samples.len(), 3);
        let hot: Vec<_> = samples.iter().filter(|sample| sample.ends_with(" 1")).collect();
        assert!(hot.len() == 1 && hot[0].contains(&format!("state=\"{state}\"")), "{samples:?}");
    };
    is_one_hot("closed");
    (0..2).for_each(|_| circuit.record_failure());
    is_one_hot("open");
    assert!(circuit.try_acquire().is_err());
    circuit.record_failure();
    bench.clock.advance(Duration::from_secs(30));
    assert!(circuit.can_execute());
    is_one_hot("half_open");
    assert_eq!(
        bench.samples("service_mesh_circuit_transitions_total"),
        [
            r#"circuit_transitions_total{circuit="api/a",from="closed",to="open",reason="consecutive_failures"} 1"#,
            r#"circuit_transitions_total{circuit="api/a",from="open",to="half_open",reason="timeout_elapsed"} 1"#
        ]
    );
    assert_eq!(bench.samples("service_mesh_circuit_refused"), [r#"circuit_refused_total{circuit="api/a"} 1"#]);
    assert_eq!(bench.samples("service_mesh_circuit_late"), [r#"circuit_late_outcomes_total{circuit="api/a"} 1"#]);
    assert_eq!(bench.samples("service_mesh_circuit_state").len(), 12, "two services and two instances");
}

#[test]
fn instances_are_told_by_health_with_what_is_in_flight() {
    let bench = Bench::new();
    let balancer = bench.api().load_balancer().clone();
    let lease = balancer.acquire().unwrap();
    balancer.mark_healthy("b", false);
    assert_eq!(
        bench.samples("service_mesh_connections"),
        [r#"connections{service="api",instance="a"} 1"#, r#"connections{service="api",instance="b"} 0"#]
    );
    drop(lease);
    balancer.set_weight("a", 0);
    let told = bench.samples(r#"service_mesh_instances{service="api""#).join("\n");
    assert!(told.contains("\"unhealthy\"} 1") && told.contains("\"draining\"} 1") && told.contains("\"healthy\"} 0"));
}

#[test]
fn who_has_gone_is_told_once_more_and_then_forgotten() {
    let bench = Bench::new();
    let call = || assert_eq!(bench.api().call(|_| Ok::<_, &str>(())), Ok(()));
    call();
    bench.api().load_balancer().set_instances([ServiceInstance::new("c", "c", 80)]);
    call();
    assert_eq!(bench.samples("service_mesh_calls_total").len(), 2);
    let samples = bench.samples("service_mesh_calls_total");
    assert_eq!(samples, [r#"calls_total{service="api",instance="c",outcome="success"} 1"#]);
    call();
    assert!(bench.samples("service_mesh_calls_total")[0].ends_with(" 2"));
}

#[test]
fn where_nobody_reads_who_has_gone_is_forgotten_all_the_same() {
    let bench = Bench::new();
    assert_eq!(bench.api().call(|_| Ok::<_, &str>(())), Ok(()));
    bench.text();
    bench.api().load_balancer().set_instances([ServiceInstance::new("c", "c", 80)]);
    bench.metrics.forget_unread();
    assert_eq!(bench.samples("service_mesh_calls_total").len(), 1, "somebody has read, and may want to know the end");
    assert_eq!(bench.api().call(|_| Ok::<_, &str>(())), Ok(()));
    bench.api().load_balancer().set_instances([]);
    (0..2).for_each(|_| bench.metrics.forget_unread());
    assert!(bench.samples("service_mesh_calls_total").is_empty());
}

#[test]
fn the_circuit_of_an_instance_that_has_gone_is_forgotten_too() {
    let bench = Bench::new();
    bench.api().instance_circuit_breaker("a").unwrap().force_open();
    bench.api().circuit_breaker().force_open();
    assert_eq!(bench.samples("service_mesh_circuit_transitions_total").len(), 2);
    bench.api().load_balancer().set_instances([ServiceInstance::new("c", "c", 80)]);
    assert_eq!(bench.samples("service_mesh_circuit_transitions_total").len(), 2, "told once more");
    let told = bench.samples("service_mesh_circuit_transitions_total");
    assert!(told.len() == 1 && told[0].contains("circuit=\"api\""), "{told:?}");
}

#[test]
fn a_reload_counts_on_and_a_new_service_begins() {
    let mut bench = Bench::new();
    assert_eq!(bench.api().call(|_| Ok::<_, &str>(())), Ok(()));
    bench.mesh.reload(&format!("{FILE}\n[services.late]").replace("threshold = 2", "threshold = 3")).unwrap();
    bench.metrics.follow(&bench.mesh);
    assert_eq!(bench.api().call(|_| Ok::<_, &str>(())), Ok(()));
    let late = bench.mesh.service("late").unwrap();
    assert!(late.call(|_| Ok::<_, &str>(())).is_err());
    let told = bench.samples("service_mesh_calls_total").join("\n");
    assert_eq!(told.matches("success\"} 1").count(), 2, "{told}");
    assert!(told.contains("service=\"late\""));
    bench.mesh.reload(FILE).unwrap();
    bench.metrics.follow(&bench.mesh);
    assert!(!bench.text().contains("late\""));
}
