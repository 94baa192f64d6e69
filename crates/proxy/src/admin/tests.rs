//! The pages as a client meets them, over real sockets.

use serde_json::Value;
use service_mesh::Mesh;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::control::Control;
use crate::{Drain, Phase, Shutdown};

const SERVICES: &str = "
[services.api]
explain_ratio = 1
instances = [{ id = 'a', host = '10.0.0.1', port = 80, weight = 3 }, { id = 'b', host = '::1', port = 80 }]
[services.api.circuit_breaker]
failure_threshold = 2
";

struct Pages {
    mesh: Mesh,
    control: Control,
    _drain: Drain,
}

impl Pages {
    fn start(admin: &str) -> Self {
        let mesh: Mesh = format!("{SERVICES}\n[admin]\n{admin}").parse().unwrap();
        let (shutdown, drain) = Shutdown::new();
        let control = Control::start(
            &crate::Sidecar::new(mesh.clone()),
            shutdown,
            Box::new(|_, _| Err(String::from("not here"))),
        )
        .unwrap();
        Self { mesh, control, _drain: drain }
    }

    fn local() -> Self {
        Self::start("address = '127.0.0.1:0'")
    }

    /// Status, head and body.
    async fn ask(&self, request: &str, headers: &str) -> (u16, String, String) {
        let request = format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
        let mut text = String::new();
        match self.control.admin_address().unwrap() {
            ListenAddress::Tcp(address) => {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.read_to_string(&mut text).await.unwrap();
            }
            ListenAddress::Unix(path) => {
                let mut stream = UnixStream::connect(path).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.read_to_string(&mut text).await.unwrap();
            }
            other => panic!("{other}"),
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    async fn json(&self, request: &str) -> (u16, Value) {
        let (status, head, body) = self.ask(request, "").await;
        assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[tokio::test]
async fn it_lives_and_is_ready_until_it_is_told_to_end() {
    let pages = Pages::local();
    assert_eq!(pages.json("GET /live").await, (200, serde_json::json!({ "live": true })));
    assert_eq!(pages.json("GET /ready").await, (200, serde_json::json!({ "ready": true })));
    pages.control.shutdown().enter(Phase::Leaving);
    assert_eq!(pages.json("GET /ready").await, (503, serde_json::json!({ "ready": false })));
    assert_eq!(pages.json("GET /live").await.0, 200);
    assert_eq!(pages.json("GET /snapshot").await.1["phase"], "leaving");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let pages = Pages::local();
    assert_eq!(pages.mesh.service("api").unwrap().call(|_| Ok::<_, &str>(())), Ok(()));
    let (status, head, body) = pages.ask("GET /metrics", "").await;
    assert!(status == 200 && head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(
        body.contains("service_mesh_calls_total{service=\"api\",instance=\"a\",outcome=\"success\"} 1\n"),
        "{body}"
    );
    let circuit: Vec<_> =
        body.lines().filter(|line| line.starts_with("service_mesh_circuit_state{circuit=\"api\"")).collect();
    assert_eq!(circuit.len(), 3);
    assert_eq!(circuit.iter().filter(|line| line.ends_with(" 1")).count(), 1);
    // Every line is a comment or a sample, and every sample belongs to the family before it.
    let mut family = "";
    for line in body.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => family = rest.split(' ').next().unwrap(),
            None if line.starts_with('#') => {}
            None => {
                assert!(line.starts_with(family) && line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}

#[tokio::test]
async fn a_snapshot_tells_services_instances_circuits_and_budgets() {
    let pages = Pages::local();
    let api = pages.mesh.service("api").unwrap();
    (0..2).for_each(|_| api.instance_circuit_breaker("a").unwrap().record_failure());
    api.load_balancer().mark_healthy("b", false);
    let snapshot = pages.json("GET /snapshot").await.1;
    let service = &snapshot["services"][0];
    assert_eq!((&service["name"], &service["strategy"]), (&Value::from("api"), &Value::from("round_robin")));
    assert_eq!(
        (&service["circuit"]["state"], &service["retry_budget"]["ratio"]),
        (&Value::from("closed"), &Value::from(0.2))
    );
    let (a, b) = (&service["instances"][0], &service["instances"][1]);
    assert_eq!((&a["circuit"]["name"], &a["circuit"]["state"]), (&Value::from("api/a"), &Value::from("open")));
    assert_eq!(
        (&a["health"], &b["health"], &b["address"]),
        (&"healthy".into(), &"unhealthy".into(), &"[::1]:80".into())
    );
    assert!(a["circuit"]["retry_after_seconds"].as_f64().unwrap() > 25.0);
    assert_eq!(snapshot["policy"]["refused"], Value::Null);
}

#[tokio::test]
async fn stories_of_recent_calls_are_told() {
    let pages = Pages::local();
    let api = pages.mesh.service("api").unwrap();
    let answer = api.call(|attempt| if attempt.instance().id == "a" { Err("no") } else { Ok(()) });
    assert_eq!(answer, Ok(()));
    let told = pages.json("GET /explain?service=api").await.1;
    let story = &told["stories"][0];
    assert_eq!((&story["ending"], story["attempts"].as_array().unwrap().len()), (&Value::from("success"), 2));
    assert_eq!(story["attempts"][0]["outcome"], "failure");
    assert!(story["text"].as_str().unwrap().starts_with("call of api took"));
    let (status, told) = pages.json("GET /explain?service=apu").await;
    assert_eq!((status, &told["error"]["message"]), (404, &"there is no service \"apu\"; there are: api".into()));
}

#[tokio::test]
async fn what_is_done_by_hand_is_done() {
    let pages = Pages::local();
    let api = pages.mesh.service("api").unwrap();
    let endpoint = || {
        let endpoint = &api.load_balancer().endpoints()[0];
        (endpoint.weight, endpoint.healthy)
    };
    let act = async |action: &str| {
        let (status, told) = pages.json(&format!("POST /{action}")).await;
        assert_eq!((status, &told["service"]["name"]), (200, &Value::from("api")), "{action}");
        told
    };
    let told = act("drain?service=api&instance=a").await;
    assert_eq!((endpoint(), &told["service"]["instances"][0]["health"]), ((0, true), &Value::from("draining")));
    act("undrain?service=api&instance=a").await;
    assert_eq!(endpoint(), (3, true));
    act("mark_unhealthy?service=api&instance=a").await;
    assert_eq!(endpoint(), (3, false));
    // Its circuit is out of rotation, and still there.
    act("force_open?service=api&instance=a").await;
    act("mark_healthy?service=api&instance=a").await;
    assert_eq!(endpoint(), (3, true));
    assert_eq!(api.instance_circuit_breaker("a").unwrap().state().as_str(), "open");
    act("reset?service=api&instance=a").await;
    assert_eq!(api.instance_circuit_breaker("a").unwrap().state().as_str(), "closed");
    let circuit = |told: &Value| {
        let circuit = &told["service"]["circuit"];
        (circuit["state"].as_str().unwrap().to_owned(), circuit["forced"].as_bool().unwrap())
    };
    assert_eq!(circuit(&act("force_open?service=api").await), (String::from("open"), true));
    assert!(!api.circuit_breaker().can_execute());
    assert_eq!(circuit(&act("force_closed?service=api").await), (String::from("closed"), true));
    assert!(api.circuit_breaker().can_execute());
    assert_eq!(circuit(&act("reset?service=api").await), (String::from("closed"), false));
}

#[tokio::test]
async fn what_cannot_be_done_is_told_as_json() {
    let pages = Pages::local();
    for (request, status, reason) in [
        ("GET /", 404, "not_found"),
        ("GET /drain?service=api&instance=a", 405, "method_not_allowed"),
        ("POST /metrics", 405, "method_not_allowed"),
        ("DELETE /snapshot", 405, "method_not_allowed"),
        ("POST /drain", 400, "bad_request"),
        ("POST /drain?service=api", 400, "bad_request"),
        ("POST /drain?service=apu&instance=a", 404, "not_found"),
        ("POST /drain?service=api&instance=c", 404, "not_found"),
        ("POST /undrain?service=api&instance=c", 404, "not_found"),
        ("POST /reset?service=api&instance=c", 404, "not_found"),
        ("POST /reset?servce=api", 400, "bad_request"),
    ] {
        let (told, body) = pages.json(request).await;
        assert_eq!((told, &body["error"]["reason"]), (status, &Value::from(reason)), "{request}");
    }
    let (_, head, _) = pages.ask("POST /metrics", "").await;
    assert!(head.contains("\r\nallow: get"), "{head}");
}

#[tokio::test]
async fn a_token_is_asked_for_and_may_change() {
    let mut pages = Pages::start("address = '127.0.0.1:0'\ntoken = '0123456789abcdef'");
    let (status, head, body) = pages.ask("GET /snapshot", "").await;
    assert!(status == 401 && head.contains("\r\nwww-authenticate: bearer") && body.contains("unauthorized"), "{head}");
    let shown = "authorization: Bearer 0123456789abcdef\r\n";
    assert_eq!(pages.ask("GET /snapshot", shown).await.0, 200);
    assert_eq!(pages.ask("GET /ready", "").await.0, 200);
    let mut config = pages.control.admin().config().clone();
    config.token = Some(String::from("another-token-of-ours"));
    pages.control.admin().update(config);
    assert_eq!(pages.ask("GET /snapshot", shown).await.0, 401);
}

#[tokio::test]
async fn a_socket_is_for_its_user_alone_replaces_an_orphan_and_goes_with_the_pages() {
    let path = std::env::temp_dir().join(format!("service-mesh-admin-{}.sock", std::process::id()));
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let pages = Pages::start(&format!("address = 'unix:{}'", path.display()));
    assert_eq!(pages.json("GET /live").await.0, 200);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Where somebody listens, nobody else does.
    assert!(Bound::bind(&AdminConfig::new(ListenAddress::Unix(path.clone()))).is_err());
    assert_eq!(pages.json("GET /live").await.0, 200);
    drop(pages);
    assert!(!path.exists());
    std::fs::write(&path, "no socket").unwrap();
    assert!(Bound::bind(&AdminConfig::new(ListenAddress::Unix(path.clone()))).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "no socket");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_asks_and_does_not_read_keeps_no_place() {
    let mut pages = Pages::start("address = '127.0.0.1:0'");
    let gate = Arc::new(ArcSwap::from_pointee(Gate::new(pages.control.admin().config())));
    let (mut client, stream) = tokio::io::duplex(64);
    let surroundings = Arc::clone(pages.control.surroundings());
    let serving = tokio::spawn(serve(stream, gate, surroundings));
    client.write_all(b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    timeout(LIFE + LAST * 2, serving).await.expect("it ends").unwrap();
}
