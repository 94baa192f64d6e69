use std::sync::{Arc, OnceLock};
use std::time::Duration;

use service_mesh::testing::{ManualClock, Recorder};
use service_mesh::{
    CallOptions, CircuitState, Environment, Event, InstanceCircuitBreaker, LoadBalancerStrategy, Mesh, ServiceInstance,
};

const FILE: &str = "
[services.payments]
instances = [{ id = 'a', host = 'a', port = 80 }, { id = 'b', host = 'b', port = 80 }]
[services.payments.circuit_breaker]
failure_threshold = 3
[services.search]
";

fn mesh(clock: &ManualClock, text: &str) -> Mesh {
    Mesh::builder().environment(Environment::manual(clock)).read_text(text).unwrap()
}

fn in_flight(mesh: &Mesh) -> u32 {
    mesh.service("payments").unwrap().load_balancer().endpoints().iter().map(|endpoint| endpoint.in_flight).sum()
}

#[test]
fn live_state_survives_a_change_of_every_section() {
    let clock = ManualClock::new();
    let mesh = mesh(&clock, FILE);
    let payments = mesh.service("payments").unwrap();
    let (a, b) = (payments.instance_circuit_breaker("a").unwrap(), payments.instance_circuit_breaker("b").unwrap());
    (0..3).for_each(|_| a.record_failure());
    b.record_failure();
    payments.circuit_breaker().record_failure();
    assert!(payments.retry_policy().budget().unwrap().withdraw());
    let attempt = payments.begin(&CallOptions::new()).admit().unwrap();
    assert_eq!((attempt.instance().id.as_str(), in_flight(&mesh)), ("b", 1));

    let other = "
[services.payments]
strategy = 'least_connections'
slow_start_seconds = 5
max_ejected_ratio = 0.5
explain_ratio = 0.25
instances = [{ id = 'b', host = 'b', port = 80, weight = 2 }, { id = 'c', host = 'c', port = 80 },
             { id = 'a', host = 'a', port = 80 }]
circuit_breaker = { failure_threshold = 4, timeout_seconds = 99 }
retry.max_retries = 1
budget.floor_per_second = 2
timeouts.call_seconds = 7
health_check.path = '/'
replay.statuses = '503'
limits.queue = 1
[services.search]
";
    let changes = mesh.reload(other).unwrap();
    let expected = "payments: strategy, slow_start_seconds, instances, circuit_breaker, retry, budget, timeouts, \
                    max_ejected_ratio, explain_ratio, health_check, replay, limits";
    assert_eq!(changes.to_string(), expected);

    // The state of the circuits, and the time that an open one stays so.
    assert_eq!((a.state(), a.retry_after()), (CircuitState::Open, Some(Duration::from_secs(30))));
    assert_eq!((b.failure_count(), payments.circuit_breaker().failure_count()), (1, 1));
    assert_eq!((a.config().failure_threshold(), payments.circuit_breaker().config().failure_threshold()), (4, 4));
    assert_eq!(payments.instance_circuit_breaker("a").unwrap().state(), CircuitState::Open);
    // Calls in flight, and what the budget has spent: one of two a second in ten seconds.
    assert_eq!(in_flight(&mesh), 1);
    assert_eq!(payments.retry_policy().budget().unwrap().balance(), 19);
    drop(attempt);
    assert_eq!(in_flight(&mesh), 0);
    // And everything that was asked for.
    let balancer = payments.load_balancer();
    assert_eq!((balancer.strategy(), balancer.slow_start().as_secs()), (LoadBalancerStrategy::LeastConnections, 5));
    let ids: Vec<_> = balancer.endpoints().iter().map(|e| (e.instance.id.clone(), e.weight)).collect();
    assert_eq!(ids, [("a", 1), ("b", 2), ("c", 1)].map(|(id, weight)| (String::from(id), weight)));
    assert_eq!(payments.retry_policy().config().max_retries(), 1);
    assert_eq!(payments.config().call_timeout(), Some(Duration::from_secs(7)));
    assert_eq!((payments.config().max_ejected_ratio(), payments.config().explain_ratio()), (0.5, 0.25));
    assert_eq!(mesh.policy().services["payments"].limits.queue(), 1);

    // And back, by way of the same steps.
    assert!(!mesh.reload(FILE).unwrap().is_empty());
    assert!(mesh.reload(FILE).unwrap().is_empty());
    assert_eq!((a.state(), a.config().failure_threshold()), (CircuitState::Open, 3));
    assert_eq!(payments.config(), mesh.service("search").unwrap().config());
}

#[test]
fn a_file_with_a_mistake_changes_nothing() {
    let mesh = mesh(&ManualClock::new(), FILE);
    let before = mesh.policy();
    let payments = mesh.service("payments").unwrap();
    let mistaken = "[services.payments]\nstrategy = 'random'\n[services.new]\n[services.search]\nretri = false";
    assert_eq!(
        mesh.reload(mistaken).unwrap_err().to_string(),
        "5:1: services.search.retri is unknown; did you mean retry?"
    );
    assert!(Arc::ptr_eq(&before, &mesh.policy()));
    assert!(mesh.service("new").is_none());
    assert_eq!(payments.load_balancer().strategy(), LoadBalancerStrategy::RoundRobin);
    assert_eq!(payments.load_balancer().endpoints().len(), 2);
}

#[test]
fn what_does_not_change_is_not_touched() {
    let mesh = mesh(&ManualClock::new(), FILE);
    let payments = mesh.service("payments").unwrap();
    payments.load_balancer().register(ServiceInstance::new("discovered", "d", 80));
    payments.load_balancer().set_weight("a", 0);
    payments.load_balancer().mark_healthy("b", false);
    payments.load_balancer().set_strategy(LoadBalancerStrategy::Random);
    let changes = mesh.reload(&FILE.replace("threshold = 3", "threshold = 4")).unwrap();
    assert_eq!(changes.to_string(), "payments: circuit_breaker");
    let told: Vec<_> = payments.load_balancer().endpoints().iter().map(|e| (e.weight, e.healthy)).collect();
    assert_eq!(told, [(0, true), (1, false), (1, true)]);
    assert_eq!(payments.load_balancer().strategy(), LoadBalancerStrategy::Random);
    // A list that changes is the whole truth, but for what it has no news of.
    mesh.reload(&FILE.replace("id = 'b', host = 'b'", "id = 'c', host = 'c'")).unwrap();
    let told: Vec<_> = payments.load_balancer().endpoints().iter().map(|e| (e.weight, e.healthy)).collect();
    assert_eq!(told, [(0, true), (1, true)]);
}

#[test]
fn services_come_and_go() {
    let clock = ManualClock::new();
    let mesh = mesh(&clock, FILE);
    let payments = mesh.service("payments").unwrap();
    payments.circuit_breaker().force_open();
    let changes = mesh.reload("[services.carts]\n[services.search]").unwrap();
    assert_eq!(changes.to_string(), "carts: added; payments: removed");
    assert!(mesh.service("payments").is_none() && mesh.service("carts").is_some());
    assert_eq!(payments.circuit_breaker().state(), CircuitState::Open, "who holds it goes on with it");
    mesh.reload(FILE).unwrap();
    assert_eq!(mesh.service("payments").unwrap().circuit_breaker().state(), CircuitState::Closed);
}

#[test]
fn switches_are_turned_off_and_on() {
    let mesh = mesh(&ManualClock::new(), FILE);
    let payments = mesh.service("payments").unwrap();
    let with = |line: &str| FILE.replace("[services.payments]", &format!("[services.payments]\n{line}"));
    let threshold = || Some(payments.instance_circuit_breaker("a")?.config().failure_threshold());
    payments.instance_circuit_breaker("a").unwrap().record_failure();
    for (line, expected) in [
        ("instance_circuit_breaker.failure_threshold = 8", Some(8)),
        ("", Some(3)),
        ("instance_circuit_breaker.timeout_seconds = 8", Some(3)),
    ] {
        mesh.reload(&with(line)).unwrap();
        assert_eq!((threshold(), payments.instance_circuit_breaker("a").unwrap().failure_count()), (expected, 1));
    }
    // The instance's inherits what the service's has now, although nobody touched its own section.
    let changes = mesh.reload(&with("instance_circuit_breaker.timeout_seconds = 8").replace("= 3", "= 6")).unwrap();
    assert_eq!(changes.changed()["payments"], ["circuit_breaker", "instance_circuit_breaker"]);
    assert_eq!(threshold(), Some(6));
    mesh.reload(&with("instance_circuit_breaker = false\nretry = false\nbudget = false")).unwrap();
    assert_eq!(mesh.policy().services["payments"].instance_circuit_breaker, InstanceCircuitBreaker::Off);
    assert_eq!(threshold(), None);
    assert!(payments.retry_policy().budget().is_none());
    assert_eq!(payments.retry_policy().config().max_retries(), 0);
    mesh.reload(FILE).unwrap();
    assert_eq!(threshold(), Some(3));
    assert!(payments.retry_policy().budget().is_some());
}

#[test]
fn what_is_the_sidecars_is_told_and_left_alone() {
    let mesh = mesh(&ManualClock::new(), FILE);
    let text = format!("{FILE}[listeners.web]\naddress = '[::1]:80'\n[[routes]]\nservice = 'search'");
    let changes = mesh.reload(&text).unwrap();
    assert_eq!(
        (changes.sidecar(), changes.to_string().as_str()),
        (&["listeners", "routes"][..], "listeners: changed; routes: changed")
    );
    assert_eq!(mesh.policy().routes.len(), 1);
}

#[test]
fn instances_serve_until_discovery_has_found_others() {
    let mesh = mesh(&ManualClock::new(), FILE);
    let discovery = "[services.payments.discovery]\ndns = 'api:80'\n[services.search]\n[drain]\ndelay_seconds = 1";
    let changes = mesh.reload(&format!("[services.payments.circuit_breaker]\nfailure_threshold = 3\n{discovery}"));
    assert_eq!(changes.unwrap().to_string(), "payments: instances, discovery; drain: changed");
    assert_eq!(mesh.service("payments").unwrap().load_balancer().endpoints().len(), 2);
    mesh.reload("[services.payments]\n[services.search]").unwrap();
    assert_eq!(mesh.service("payments").unwrap().load_balancer().endpoints().len(), 2, "nobody says who else there is");
    mesh.reload(&FILE.replace("id = 'b'", "id = 'c'")).unwrap();
    assert_eq!(mesh.service("payments").unwrap().load_balancer().get_instance_except(&["a"]).unwrap().id, "c");
}

#[test]
fn a_listener_hears_every_service_and_may_reload() {
    let (clock, recorder) = (ManualClock::new(), Recorder::new());
    let cell: Arc<OnceLock<Mesh>> = Arc::default();
    let reloader = Arc::clone(&cell);
    let mesh = Mesh::builder()
        .environment(Environment::manual(&clock))
        .listener(recorder.clone())
        .listener(move |_: &Event| {
            if let Some(mesh) = reloader.get() {
                mesh.reload(&format!("{FILE}[services.late]")).unwrap();
            }
        })
        .read_text(FILE)
        .unwrap();
    cell.set(mesh.clone()).unwrap();
    mesh.service("search").unwrap().circuit_breaker().force_open();
    mesh.service("late").unwrap().circuit_breaker().force_open();
    mesh.service("payments").unwrap().instance_circuit_breaker("a").unwrap().force_open();
    let names: Vec<_> = recorder.take().iter().map(|event| event.name.to_string()).collect();
    assert_eq!(names, ["search", "late", "payments/a"]);
}

#[test]
fn reloads_race_calls_and_each_other() {
    let mesh: Mesh = FILE.parse().unwrap();
    let payments = mesh.service("payments").unwrap();
    std::thread::scope(|scope| {
        for threshold in [4, 5] {
            let mesh = &mesh;
            scope.spawn(move || {
                for round in 0..200 {
                    let text = FILE.replace("threshold = 3", &format!("threshold = {}", threshold + round % 2 * 2));
                    mesh.reload(&text).unwrap();
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| (0..2000).for_each(|_| assert_eq!(payments.call(|_| Ok::<_, ()>(())), Ok(()))));
        }
    });
    // Whoever came last, what is in force is what the proxies have.
    let threshold = mesh.policy().services["payments"].circuit_breaker.failure_threshold();
    assert_eq!(payments.circuit_breaker().config().failure_threshold(), threshold);
    assert_eq!(payments.instance_circuit_breaker("a").unwrap().config().failure_threshold(), threshold);
    assert_eq!(in_flight(&mesh), 0);
}
