use std::time::Duration;

use service_mesh::{
    AccessLogMode, DiscoveryConfig, DiscoveryQuery, HealthCheckType, InstanceCircuitBreaker, Jitter,
    LoadBalancerStrategy, Mesh, PolicyFile, RetryBudgetConfig, RouteConfig, ServiceInstance, ServicePolicy,
    ServiceProxy, read_policy_file,
};

use crate::complete_example;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn read(text: &str) -> PolicyFile {
    read_policy_file(text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn every_key_is_read() {
    let file = read(complete_example());
    let payments = &file.services["payments"];
    assert_eq!(payments.strategy, LoadBalancerStrategy::Weighted);
    assert_eq!((payments.max_ejected_ratio, payments.explain_ratio), (Some(0.5), 0.01));
    assert_eq!(payments.slow_start, seconds(30.0));
    let a = ServiceInstance::new("a", "10.0.0.1", 8080).with_weight(5).with_healthy(false).with_connections(2);
    assert_eq!(payments.instances, [a.with_metadata("zone", "north"), ServiceInstance::new("b", "::1", 8081)]);

    let circuit = &payments.circuit_breaker;
    assert_eq!((circuit.failure_threshold(), circuit.consecutive(), circuit.success_threshold()), (3, true, 1));
    assert_eq!((circuit.timeout(), circuit.half_open_max_calls()), (seconds(10.0), 2));
    assert_eq!((circuit.timeout_multiplier(), circuit.timeout_jitter_ratio()), (2.0, 0.1));
    assert_eq!((circuit.timeout_max(), circuit.probe_timeout()), (Some(seconds(120.0)), Some(seconds(60.0))));
    let window = circuit.count_window().unwrap();
    assert_eq!((window.size(), window.minimum_calls(), window.failure_ratio()), (50, 20, Some(0.5)));
    assert_eq!((window.slow_call_ratio(), window.slow_call()), (Some(0.8), Some(seconds(1.0))));
    let window = circuit.time_window().unwrap();
    assert_eq!((window.duration(), window.buckets(), window.minimum_calls()), (seconds(60.0), 20, 30));
    assert_eq!((window.failure_ratio(), window.slow_call_ratio()), (Some(0.25), Some(0.9)));
    assert_eq!(window.slow_call(), Some(seconds(2.0)));

    let retry = &payments.retry;
    assert_eq!((retry.max_retries(), retry.exponential_base(), retry.jitter()), (5, 3.0, Jitter::Full));
    assert_eq!((retry.initial_delay(), retry.max_delay()), (seconds(0.05), seconds(5.0)));
    assert_eq!(retry.retry_after_max(), seconds(30.0));
    let budget = payments.budget.as_ref().unwrap();
    assert_eq!((budget.ratio(), budget.floor_per_second()), (0.1, 1.0));

    let timeouts = &payments.timeouts;
    assert_eq!((timeouts.call(), timeouts.attempt()), (Some(seconds(2.0)), Some(seconds(0.5))));
    assert_eq!((timeouts.connect(), timeouts.idle()), (Some(seconds(0.25)), Some(seconds(90.0))));
    assert_eq!(timeouts.header(), Some(seconds(5.0)));
    let check = payments.health_check.as_ref().unwrap();
    assert_eq!((check.kind(), check.path().as_deref()), (HealthCheckType::Http, Some("/ready")));
    assert_eq!((check.interval(), check.timeout()), (seconds(5.0), seconds(2.0)));
    assert_eq!((check.rise(), check.fall()), (3, 5));
    let replay = &payments.replay;
    assert_eq!((replay.statuses().to_string().as_str(), replay.body_bytes()), ("429, 502-504", 1_000_000));
    let limits = &payments.limits;
    assert_eq!((limits.connections(), limits.in_flight(), limits.queue()), (100, 200, 0));
    assert_eq!((limits.header_bytes(), limits.body_bytes()), (16_384, Some(1_000_000)));

    let search = &file.services["search"];
    assert_eq!(search.instance_circuit_breaker, InstanceCircuitBreaker::Off);
    assert_eq!((search.retry.max_retries(), &search.budget), (0, &None));
}

#[test]
fn every_key_of_the_sidecar_is_read() {
    let file = read(complete_example());
    let check = file.services["payments"].health_check.as_ref().unwrap();
    assert_eq!((check.method().as_deref(), check.host().as_deref()), (Some("HEAD"), Some("shop.example")));
    assert_eq!((check.statuses().unwrap().to_string().as_str(), check.port()), ("200-299, 304", Some(8081)));
    let stock = file.services["stock"].discovery.as_ref().unwrap();
    assert_eq!(stock.query, DiscoveryQuery::Dns("stock.internal:8080".parse().unwrap()));
    assert_eq!((stock.min_ttl, stock.max_ttl, stock.empty_grace), (seconds(1.0), seconds(60.0), seconds(30.0)));
    let mail = file.services["mail"].discovery.as_ref().unwrap();
    let mut expected = DiscoveryConfig::new(DiscoveryQuery::Srv(String::from("_smtp._tcp.example.com")));
    expected.server = Some(([127, 0, 0, 1], 8600).into());
    assert_eq!(mail, &expected);

    let web = &file.listeners["web"];
    assert_eq!(web.address.to_string(), "127.0.0.1:8000");
    assert_eq!((web.limits.connections(), web.limits.header(), web.limits.idle()), (2000, seconds(5.0), seconds(60.0)));
    assert_eq!((web.limits.header_bytes(), web.limits.body_bytes()), (16_384, Some(10_000_000)));
    let route = &file.routes[0];
    assert_eq!((route.service.as_str(), route.listener.as_deref()), ("payments", Some("web")));
    assert_eq!((route.host.as_deref(), route.path_prefix.as_str()), (Some("*.shop.example"), "/pay"));
    assert_eq!(route.methods, ["POST", "PUT"]);
    assert_eq!(file.routes[1], RouteConfig::new("search"));
    let admin = file.admin.unwrap();
    assert_eq!(admin.address.to_string(), "0.0.0.0:9000");
    assert_eq!(admin.token.as_deref(), Some("a-long-secret-of-yours"));
    let log = &file.access_log;
    assert_eq!((log.mode(), log.sample_ratio()), (AccessLogMode::Sampled, 0.1));
    assert_eq!(log.path().as_deref(), Some("/var/log/mesh.jsonl"));
    assert_eq!((file.drain.delay(), file.drain.deadline()), (seconds(3.0), seconds(10.0)));
}

#[test]
fn routes_stand_in_the_order_of_how_much_they_say() {
    let route = |text: &str| format!("[[routes]]\nservice = 'a'\n{text}\n");
    let texts = [
        "",
        "methods = ['GET']",
        "path_prefix = '/a/'",
        "path_prefix = '/a/b'",
        "path_prefix = '/a/b'\nmethods = ['PUT', 'GET', 'PUT']",
        "host = '*.example'",
        "host = '*.Shop.example'",
        "host = 'Shop.Example.'",
        "host = 'shop.example'\npath_prefix = '/x'",
        "listener = 'web'",
        "listener = 'web'\nhost = '*.x'",
    ];
    let text = format!("[services.a]\n[listeners.web]\naddress = 'unix:/run/mesh.sock'\n{}", texts.map(route).concat());
    let told: Vec<_> = read(&text)
        .routes
        .iter()
        .map(|route| {
            let (listener, host) = (route.listener.as_deref().unwrap_or("-"), route.host.as_deref().unwrap_or("-"));
            format!("{listener} {host} {} {}", route.path_prefix, route.methods.join(","))
        })
        .collect();
    assert_eq!(
        told,
        [
            "web *.x / ",
            "web - / ",
            "- shop.example /x ",
            "- shop.example / ",
            "- *.shop.example / ",
            "- *.example / ",
            "- - /a/b GET,PUT",
            "- - /a/b ",
            "- - /a ",
            "- - / GET",
            "- - / ",
        ]
    );
    // Of two alike the first in the file comes first, whatever their names.
    let text = "[services.a]\n[services.b]\n[[routes]]\nservice = 'b'\nmethods = ['GET', 'PUT']\n\
                [[routes]]\nservice = 'a'\nmethods = ['GET']";
    assert!(read(text).routes.iter().map(|route| route.service.as_str()).eq(["b", "a"]));
}

#[test]
fn an_instances_circuit_inherits_key_by_key() {
    let file = read(complete_example());
    let payments = &file.services["payments"];
    let InstanceCircuitBreaker::Given(circuit) = &payments.instance_circuit_breaker else { panic!("it is given") };
    let service = &payments.circuit_breaker;
    let window = service.count_window().unwrap().to_builder().size(40).build().unwrap();
    let expected = service.to_builder().failure_threshold(4).count_window(window).time_window(None).build();
    assert_eq!(Ok(circuit.as_ref().clone()), expected);
    // It need not stand behind the one that it inherits from.
    let text = "[services.a.instance_circuit_breaker]\nfailure_threshold = 9\n[services.a.circuit_breaker]\ntimeout_seconds = 7";
    let file = read(text);
    let InstanceCircuitBreaker::Given(circuit) = &file.services["a"].instance_circuit_breaker else { panic!("given") };
    assert_eq!((circuit.failure_threshold(), circuit.timeout()), (9, seconds(7.0)));
    for nothing in ["", "instance_circuit_breaker = true"] {
        let file = read(&format!("[services.a]\n{nothing}"));
        assert!(file.services["a"].instance_circuit_breaker.is_inherited());
    }
}

#[test]
fn what_is_not_said_has_the_defaults_of_the_code() {
    assert_eq!(read("[services.a]").services["a"], ServicePolicy::default());
    assert_eq!(read("[services.a]\nretry = true\nbudget = true").services["a"], ServicePolicy::default());
    let mesh: Mesh = "[services.a]".parse().unwrap();
    let (read, code) = (mesh.service("a").unwrap(), ServiceProxy::new("a"));
    assert_eq!(read.config(), code.config());
    assert_eq!(read.circuit_breaker().config(), code.circuit_breaker().config());
    assert_eq!(read.retry_policy().config(), code.retry_policy().config());
    assert_eq!(read.retry_policy().budget().unwrap().config(), RetryBudgetConfig::default());
    assert_eq!(read.load_balancer().strategy(), code.load_balancer().strategy());
    assert_eq!(read.load_balancer().slow_start(), Duration::ZERO);
}

#[test]
fn a_mesh_does_what_its_file_says() {
    let mesh: Mesh = complete_example().parse().unwrap();
    assert!(mesh.services().iter().map(ServiceProxy::name).eq(["mail", "payments", "search", "stock"]));
    assert!(mesh.service("carts").is_none());
    let payments = mesh.service("payments").unwrap();
    assert_eq!(payments.config().call_timeout(), Some(seconds(2.0)));
    assert_eq!(payments.config().attempt_timeout(), Some(seconds(0.5)));
    assert_eq!((payments.config().max_ejected_ratio(), payments.config().explain_ratio()), (0.5, 0.01));
    assert_eq!(payments.load_balancer().strategy(), LoadBalancerStrategy::Weighted);
    assert_eq!(payments.load_balancer().slow_start(), seconds(30.0));
    assert_eq!(payments.load_balancer().get_instance().unwrap().id, "b");
    assert_eq!(payments.circuit_breaker().config().failure_threshold(), 3);
    assert_eq!(payments.instance_circuit_breaker("b").unwrap().config().failure_threshold(), 4);
    assert_eq!(payments.retry_policy().config().max_retries(), 5);
    assert_eq!(payments.retry_policy().budget().unwrap().config().ratio().to_bits(), 0.1_f64.to_bits());
    let search = mesh.service("search").unwrap();
    assert!(search.retry_policy().budget().is_none());
    search.load_balancer().register(ServiceInstance::new("s", "10.0.1.1", 80));
    assert!(search.instance_circuit_breaker("s").is_none());
}

#[test]
fn a_door_has_its_own_default_of_the_ejected_share() {
    assert!(Mesh::builder().max_ejected_ratio(0.0).is_err());
    let sidecar = Mesh::builder().max_ejected_ratio(0.5).unwrap();
    let mesh = sidecar.read_text("[services.a]\n[services.b]\nmax_ejected_ratio = 0.8").unwrap();
    let ratios: Vec<f64> = mesh.services().iter().map(|service| service.config().max_ejected_ratio()).collect();
    assert_eq!(ratios, [0.5, 0.8]);
}

#[test]
fn what_is_written_reads_as_what_it_was() {
    for text in [complete_example(), "", "[services.a]", "[services.a]\ninstance_circuit_breaker = false"] {
        let file = read(text);
        let written = toml::to_string(&file).unwrap();
        assert_eq!(read(&written), file, "{written}");
    }
}

#[test]
fn numbers_are_read_as_toml_writes_them() {
    let text = "[services.a.limits]\nqueue = 0x1_0\nconnections = 0b11\nin_flight = +5\nbody_bytes = 1_000";
    let limits = &read(text).services["a"].limits;
    assert_eq!((limits.queue(), limits.connections(), limits.in_flight()), (16, 3, 5));
    let text = "[services.a.timeouts]\ncall_seconds = 1_0.5e-1\nattempt_seconds = 2";
    assert_eq!(read(text).services["a"].timeouts.call(), Some(seconds(1.05)));
}
