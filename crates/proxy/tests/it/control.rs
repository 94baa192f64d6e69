//! What surrounds the path of a request, together with it: reloads, the end, the access log, traces, the pages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use service_mesh_proxy::{Control, Ended, Server, Shutdown, Sidecar, Signal, Signals, Threads};
use tokio::net::TcpSocket;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::sidecar::instances;
use crate::upstream::{Upstream, field, response};

/// A sidecar as the binary runs it: from a file, with signals.
pub(crate) struct Whole {
    pub(crate) sidecar: Sidecar,
    file: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    signals: UnboundedSender<Signal>,
    control: JoinHandle<Ended>,
    threads: Threads,
    /// Keep the ports for it until it listens: bound, and not listening.
    _ports: [TcpSocket; 2],
}

/// Its file holds this policy, a listener `web` at a free port, and the pages at another.
pub(crate) fn run(name: &str, policy: &str) -> Whole {
    let file = std::env::temp_dir().join(format!("service-mesh-{name}-{}.toml", std::process::id()));
    // The ports must be known before, since the file that is read again names them.
    let ports = [(); 2].map(|()| {
        let port = TcpSocket::new_v4().unwrap();
        port.set_reuseaddr(true).unwrap();
        port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        port
    });
    let [address, admin] = [0, 1].map(|which: usize| ports[which].local_addr().unwrap());
    let text = text(address, admin, policy);
    std::fs::write(&file, &text).unwrap();
    let sidecar = Sidecar::from_policy(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let (shutdown, drain) = Shutdown::new();
    let (listeners, threads) = Server::bind(&sidecar, 2).unwrap().start(&drain).unwrap().split();
    let control = Control::start(&sidecar, shutdown, listeners.applying()).unwrap().following(&file, text);
    let (signals, given) = Signals::given();
    Whole { sidecar, file, address, admin, signals, control: tokio::spawn(control.run(given)), threads, _ports: ports }
}

fn text(address: SocketAddr, admin: SocketAddr, policy: &str) -> String {
    format!("[listeners.web]\naddress = '{address}'\n[admin]\naddress = '{admin}'\n{policy}")
}

impl Whole {
    /// Writes another policy, and waits until it is in force.
    pub(crate) async fn reload(&self, policy: &str) {
        let before = self.reloads().await;
        self.write(&text(self.address, self.admin, policy));
        while self.reloads().await == before {}
    }

    /// Writes this, and has it read.
    fn write(&self, text: &str) {
        // In one step: half of a policy can be one, too.
        let fresh = self.file.with_extension("fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, &self.file).unwrap();
        self.signals.send(Signal::Reload).unwrap();
    }

    /// Writes what is no policy for a sidecar, and waits until it is told why.
    async fn refused(&self, text: &str) -> String {
        let before = self.page("/snapshot").await["policy"]["reloads_refused"].clone();
        self.write(text);
        loop {
            let policy = &self.page("/snapshot").await["policy"];
            if policy["reloads_refused"] != before {
                return policy["refused"]["why"].as_str().unwrap().to_owned();
            }
        }
    }

    async fn reloads(&self) -> u64 {
        let snapshot = self.page("/snapshot").await;
        assert_eq!(snapshot["policy"]["refused"], Value::Null);
        snapshot["policy"]["reloads_applied"].as_u64().unwrap()
    }

    pub(crate) async fn page(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    async fn text(&self, path: &str) -> String {
        let mut client = Client::connect(self.admin).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        client.reply().await.unwrap().text().to_owned()
    }

    pub(crate) async fn ended(self, signal: Signal) -> Ended {
        self.signals.send(signal).unwrap();
        let ended = self.control.await.unwrap();
        let threads = self.threads;
        tokio::task::spawn_blocking(|| threads.join()).await.unwrap();
        std::fs::remove_file(self.file).unwrap();
        ended
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_lose_no_request_and_listeners_come_and_go() {
    let upstream = Upstream::answering(response("200 OK", "well")).await;
    let api = format!("[services.api]\n{}", instances("api", &[&upstream]));
    let whole = run("reloads", &api);
    let (address, asked) = (whole.address, Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let asking = tokio::spawn(async move {
        loop {
            // A connection for each, since those are what a listener that goes could lose.
            let reply = Client::connect(address).await.get("/").await;
            assert_eq!((reply.status, reply.text()), (200, "well"));
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for round in 1..=20 {
        let listener = format!("[listeners.other]\naddress = '{other}'\n");
        let more = format!("[services.api.limits]\nin_flight = {}\n", 100 + round);
        whole.reload(&format!("{api}{more}{}", if round % 2 == 1 { listener.as_str() } else { "" })).await;
        // The threads learn of it a moment later.
        while tokio::net::TcpStream::connect(other).await.is_ok() != (round % 2 == 1) {}
        if round % 2 == 1 {
            assert_eq!(Client::connect(other).await.get("/").await.text(), "well");
        }
    }
    assert!(!asking.is_finished() && asked.load(Ordering::SeqCst) > 0);
    asking.abort();
    assert_eq!(whole.ended(Signal::Interrupt).await, Ended::Clean);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_file_that_is_half_written_takes_nothing_away() {
    let upstream = Upstream::answering(response("200 OK", "well")).await;
    let api = format!("[services.api]\n{}", instances("api", &[&upstream]));
    let whole = run("half", &api);
    let listeners = text(whole.address, whole.admin, "");
    for (half, why) in [
        (String::new(), "the policy has no listener"),
        (api.clone(), "the policy has no listener"),
        (listeners.clone(), "the policy has no service"),
        (format!("{listeners}{api}[services.web]"), "the policy has several services and no route"),
        (format!("{listeners}[[routes]]\nservice = 'api'"), "routes[0].service is \"api\""),
    ] {
        let told = whole.refused(&half).await;
        assert!(told.contains(why), "{told}");
        assert_eq!(Client::connect(whole.address).await.get("/").await.text(), "well", "{half}");
    }
    // One that is good is taken again.
    whole.write(&text(whole.address, whole.admin, &format!("{api}[services.web]\n[[routes]]\nservice = 'api'")));
    while whole.sidecar.mesh().service("web").is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(whole.ended(Signal::Interrupt).await, Ended::Clean);
}

#[tokio::test]
async fn what_is_no_call_is_counted_and_logged_too() {
    let upstream = Upstream::start(|mut wire| async move { wire.hang().await }).await;
    let log = std::env::temp_dir().join(format!("service-mesh-refusals-{}.jsonl", std::process::id()));
    let policy = format!(
        "[access_log]\nmode = 'all'\npath = '{}'\n[listeners.web.limits]\nconnections = 5\nheader_seconds = 1\n\
         [services.api]\nlimits = {{ in_flight = 1, queue = 0 }}\n{}[[routes]]\nservice = 'api'\npath_prefix = '/api'",
        log.display(),
        instances("api", &[&upstream])
    );
    let whole = run("refusals", &policy);
    let mut inside = Client::connect(whole.address).await;
    inside.send("GET /api HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    while whole.sidecar.in_flight("api") != Some(1) {
        tokio::task::yield_now().await;
    }
    let mut other = Client::connect(whole.address).await;
    assert_eq!(other.get("/api").await.refused(), Some("overloaded"));
    assert_eq!(other.get("/api").await.refused(), Some("overloaded"));
    assert_eq!(other.get("/").await.refused(), Some("no_route"));
    let mut slow = Client::connect(whole.address).await;
    slow.send("GET / HT").await;
    assert_eq!(slow.reply().await.unwrap().status, 408);
    let mut large = Client::connect(whole.address).await;
    large.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000))).await;
    assert_eq!(large.reply().await.unwrap().status, 431);
    let mut strange = Client::connect(whole.address).await;
    strange.send("GET / HTTP/1.1\r\nHost a\r\n\r\n").await;
    assert_eq!(strange.reply().await.unwrap().status, 400);
    for client in [&mut slow, &mut large, &mut strange] {
        assert_eq!(client.byte().await, None);
    }
    // Those have ended; two are there, and there is room for three more.
    let until = |what: &'static str| {
        let whole = &whole;
        async move { while !whole.text("/metrics").await.contains(what) {} }
    };
    until("service_mesh_client_connections{listener=\"web\"} 2\n").await;
    let more = [
        Client::connect(whole.address).await,
        Client::connect(whole.address).await,
        Client::connect(whole.address).await,
    ];
    until("service_mesh_client_connections{listener=\"web\"} 5\n").await;
    assert!(Client::connect(whole.address).await.reply().await.is_none());
    let metrics = whole.text("/metrics").await;
    for line in [
        "service_mesh_requests_in_flight{service=\"api\"} 1",
        "service_mesh_requests_queued{service=\"api\"} 0",
        "service_mesh_upstream_connections{service=\"api\"} 1",
        "service_mesh_requests_refused_total{service=\"api\",reason=\"overloaded\"} 2",
        "service_mesh_requests_refused_total{service=\"\",reason=\"no_route\"} 1",
        "service_mesh_requests_refused_total{service=\"\",reason=\"bad_request\"} 3",
        "service_mesh_client_connections_refused_total{listener=\"web\"} 1",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} is missing in {metrics}");
    }
    drop((inside, other, more));
    assert_eq!(whole.ended(Signal::Interrupt).await, Ended::Clean);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let unread: Vec<Value> = lines.filter(|line| line["method"].is_null()).collect();
    let mut statuses: Vec<u64> = unread.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [400, 408, 431], "{text}");
    assert!(unread.iter().all(|line| line["refused"] == "bad_request" && line["client"] == "127.0.0.1"), "{text}");
    std::fs::remove_file(&log).unwrap();
}

#[tokio::test]
async fn what_is_in_flight_is_finished_before_the_end() {
    let (answer, mut told) = tokio::sync::mpsc::channel(1);
    let (go_on, may_go_on) = tokio::sync::oneshot::channel::<()>();
    let may_go_on = Arc::new(Mutex::new(Some(may_go_on)));
    let upstream = Upstream::start(move |mut wire| {
        let (answer, may_go_on) = (answer.clone(), may_go_on.lock().unwrap().take());
        async move {
            wire.head().await;
            answer.send(()).await.unwrap();
            may_go_on.unwrap().await.unwrap();
            wire.write(response("200 OK", "late")).await;
        }
    })
    .await;
    let whole = run("end", &format!("[services.api]\n{}", instances("api", &[&upstream])));
    let mut client = Client::connect(whole.address).await;
    client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    told.recv().await.unwrap();
    let (address, admin) = (whole.address, whole.admin);
    assert_eq!(whole.page("/ready").await["ready"], true);
    let ended = tokio::spawn(whole.ended(Signal::Interrupt));
    // Nobody new is let in, and the pages still tell.
    while tokio::net::TcpStream::connect(address).await.is_ok() {}
    let mut pages = Client::connect(admin).await;
    pages.send("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(pages.reply().await.unwrap().status, 503);
    go_on.send(()).unwrap();
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.text(), reply.field("connection")), ("late", Some("close")));
    assert_eq!(ended.await.unwrap(), Ended::Clean);
}

#[tokio::test]
async fn the_log_tells_each_request_and_a_trace_has_a_span_for_each_attempt() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let upstream = |status: &'static str| {
        let told = Arc::clone(&told);
        Upstream::start(move |mut wire| {
            let told = Arc::clone(&told);
            async move {
                while let Some(head) = wire.head().await {
                    wire.body(&head).await;
                    let value = |name| field(&head, name).map(str::to_owned);
                    told.lock().unwrap().push((value("traceparent"), value("tracestate")));
                    wire.write(response(status, "0123456789")).await;
                }
            }
        })
    };
    let (busy, well) = (upstream("503 Service Unavailable").await, upstream("200 OK").await);
    let log = std::env::temp_dir().join(format!("service-mesh-log-{}.jsonl", std::process::id()));
    let policy = format!(
        "[access_log]\nmode = 'all'\npath = '{}'\n[services.api]\nretry.initial_delay_seconds = 0\n{}\
         [[routes]]\nservice = 'api'\npath_prefix = '/pay'",
        log.display(),
        instances("api", &[&busy, &well])
    );
    let whole = run("log", &policy);
    let mut client = Client::connect(whole.address).await;
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traced = format!("Traceparent: 00-{trace}-{parent}-01\r\nTracestate: a=1, b=2\r\n");
    let body = "Content-Length: 4\r\n\r\nbody";
    client.send(format!("PUT /pay/7?card=42 HTTP/1.1\r\nHost: shop.example\r\n{traced}{body}")).await;
    assert_eq!(client.reply().await.unwrap().status, 200);
    assert_eq!(client.get("/other").await.refused(), Some("no_route"));
    assert_eq!(whole.sidecar.mesh().services().len(), 1);
    assert_eq!(whole.ended(Signal::Interrupt).await, Ended::Clean);

    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 2);
    let spans: Vec<&str> = told.iter().map(|(trace, _)| &trace.as_deref().unwrap()[36..52]).collect();
    assert!(spans[0] != spans[1] && !spans.contains(&parent), "{spans:?}");
    for (told, state) in &told {
        let told = told.as_deref().unwrap();
        assert!(told.starts_with(&format!("00-{trace}-")) && told.ends_with("-01"), "{told}");
        assert_eq!(state.as_deref(), Some("a=1, b=2"));
    }

    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = serde_json::json!({
        "listener": "web", "client": "127.0.0.1", "method": "PUT", "host": "shop.example", "path": "/pay/7",
        "status": 200, "completed": true, "refused": null, "service": "api", "instance": "b", "attempts": 2,
        "request_bytes": 4, "response_bytes": 10, "trace_id": trace, "parent_span_id": parent, "span_id": spans[1],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&lines[0][key], value, "{key} in {}", lines[0]);
    }
    assert_eq!((&lines[1]["status"], &lines[1]["refused"]), (&404.into(), &"no_route".into()));
    assert_eq!((&lines[1]["service"], &lines[1]["completed"]), (&Value::Null, &true.into()));
    std::fs::remove_file(&log).unwrap();
}
