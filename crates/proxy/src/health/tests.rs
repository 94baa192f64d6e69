//! Against instances of the test, over real sockets. Nobody waits for a clock: the checks come so fast that the test only
//! yields until it sees what it expects.

use std::sync::atomic::{AtomicBool, Ordering};

use service_mesh::{HealthCheckConfig, HealthCheckType, ServiceInstance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// An instance that answers each request as it is told to.
struct Instance {
    port: u16,
    well: Arc<AtomicBool>,
    /// The last request.
    asked: Arc<Mutex<String>>,
}

impl Instance {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (well, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(String::new())));
        let (is_well, hears) = (Arc::clone(&well), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let length = stream.read(&mut head).await.unwrap_or(0);
                *hears.lock().unwrap() = String::from_utf8_lossy(&head[..length]).into_owned();
                let status = if is_well.load(Ordering::Relaxed) { "204 No Content" } else { "503 No" };
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
            }
        });
        Self { port, well, asked }
    }

    fn registered(&self) -> ServiceInstance {
        ServiceInstance::new("a", "127.0.0.1", self.port)
    }
}

fn config(text: &str) -> HealthCheckConfig {
    let text = format!("[services.a.health_check]\n{text}");
    let file = service_mesh::read_policy_file(&text).unwrap();
    file.services["a"].health_check.clone().unwrap()
}

#[tokio::test]
async fn a_good_status_is_well_and_another_is_not() {
    let instance = Instance::start().await;
    let check = config("path = '/ready?deep=1'\nmethod = 'HEAD'\nhost = 'shop.example'\nstatuses = '204'");
    assert_eq!(probe(&check, &instance.registered()).await, Ok(String::from("status 204")));
    let asked = instance.asked.lock().unwrap().to_lowercase();
    assert!(asked.starts_with("head /ready?deep=1 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nhost: shop.example\r\n") && asked.contains("\r\nconnection: close\r\n"), "{asked}");
    assert_eq!(probe(&config("statuses = '200'"), &instance.registered()).await, Err(String::from("status 204")));
    let asked = instance.asked.lock().unwrap().clone();
    assert!(
        asked.starts_with("GET / HTTP/1.1\r\n") && asked.contains(&format!("127.0.0.1:{}", instance.port)),
        "{asked}"
    );
}

#[tokio::test]
async fn who_is_not_there_hangs_or_speaks_no_http_is_not_well() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closed.local_addr().unwrap().port();
    // It accepts (the kernel does), and never answers.
    let at = |port| ServiceInstance::new("a", "127.0.0.1", port);
    let hung = probe(&config("timeout_seconds = 0.01"), &at(port)).await.unwrap_err();
    assert_eq!(hung, "no answer in 10ms");
    assert_eq!(probe(&config("type = 'tcp'"), &at(port)).await, Ok(String::from("connected")));
    drop(closed);
    for kind in ["type = 'tcp'", "type = 'http'"] {
        assert!(probe(&config(kind), &at(port)).await.unwrap_err().starts_with("cannot connect"));
    }
    let babbler = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = babbler.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = babbler.accept().await {
            let _ = stream.write_all(b"220 mail ready\r\n").await;
        }
    });
    assert!(probe(&config(""), &at(port)).await.unwrap_err().starts_with("no answer of HTTP"));
    // The port that is asked may be another one.
    assert!(probe(&config(&format!("type = 'tcp'\nport = {port}")), &at(1)).await.is_ok());
}

fn file(port: u16, check: &str) -> String {
    format!("[services.a]\ninstances = [{{ id = 'a', host = '127.0.0.1', port = {port} }}]\n{check}")
}

/// As often as lets whoever is well answer in time on a busy machine, too.
const OFTEN: &str = "health_check = { interval_seconds = 1, timeout_seconds = 1, rise = 1, fall = 1 }";

async fn becomes(mesh: &Mesh, healthy: bool) {
    let balancer = mesh.service("a").unwrap().load_balancer().clone();
    let same = async {
        while balancer.endpoints()[0].healthy != healthy {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), same).await.is_ok(), "it never becomes {healthy}");
}

#[tokio::test]
async fn an_instance_that_falls_ill_is_marked_and_one_that_recovers_too() {
    let instance = Instance::start().await;
    let mesh: Mesh = file(instance.port, OFTEN).parse().unwrap();
    let (journal, told) = Journal::kept();
    journal.tell_changes();
    let mut health = Health::new(Environment::system(), journal);
    health.follow(&mesh);
    instance.well.store(false, Ordering::Relaxed);
    becomes(&mesh, false).await;
    assert_eq!(health.checked()["a"]["a"].said, "status 503");
    instance.well.store(true, Ordering::Relaxed);
    becomes(&mesh, true).await;
    assert!(health.checked()["a"]["a"].good);
    assert_eq!(
        told(),
        "service-mesh: warn: instance a/a is unhealthy: status 503\nservice-mesh: info: instance a/a is healthy: status 204\n"
    );
}

#[tokio::test]
async fn a_reload_that_changes_nothing_goes_on_and_one_without_checks_forgets_them() {
    let instance = Instance::start().await;
    let mesh: Mesh = file(instance.port, OFTEN).parse().unwrap();
    let mut health = Health::new(Environment::system(), Journal::stderr());
    health.follow(&mesh);
    let task = health.running["a"].task.id();
    health.follow(&mesh);
    assert_eq!(health.running["a"].task.id(), task);
    instance.well.store(false, Ordering::Relaxed);
    becomes(&mesh, false).await;
    mesh.reload(&file(instance.port, &OFTEN.replace("fall = 1", "fall = 3"))).unwrap();
    health.follow(&mesh);
    assert_ne!(health.running["a"].task.id(), task);
    assert!(health.checked()["a"].contains_key("a"), "what was known is known");
    mesh.reload(&file(instance.port, "")).unwrap();
    health.follow(&mesh);
    assert!(health.running.is_empty() && mesh.service("a").unwrap().load_balancer().endpoints()[0].healthy);
}

#[tokio::test]
async fn who_comes_is_asked_and_who_goes_is_forgotten() {
    let (one, other) = (Instance::start().await, Instance::start().await);
    let mesh: Mesh = "[services.a]".parse().unwrap();
    let proxy = mesh.service("a").unwrap();
    proxy.load_balancer().register(one.registered());
    let mut rounds = Rounds {
        proxy: proxy.clone(),
        config: HealthCheckConfig::builder().kind(HealthCheckType::Tcp).build().unwrap(),
        checked: Arc::default(),
        environment: Environment::system(),
        journal: Journal::stderr(),
        asked: BTreeMap::new(),
    };
    rounds.reconcile();
    let task = rounds.asked["a"].1.id();
    rounds.reconcile();
    assert_eq!(rounds.asked["a"].1.id(), task);
    // It was away for less than a round, and has the health that it was registered with: who thought otherwise begins
    // anew.
    proxy.load_balancer().deregister("a");
    proxy.load_balancer().register(one.registered());
    lock(&rounds.checked)
        .insert(String::from("a"), Checked { good: false, said: String::new(), at: Timestamp::ORIGIN });
    rounds.reconcile();
    assert_ne!(rounds.asked["a"].1.id(), task);
    assert!(lock(&rounds.checked).contains_key("a"), "it is the same, and known");
    let task = rounds.asked["a"].1.id();
    // At another place it is another one.
    proxy.load_balancer().register(other.registered());
    rounds.reconcile();
    assert_ne!(rounds.asked["a"].1.id(), task);
    assert!(lock(&rounds.checked).is_empty());
    proxy.load_balancer().deregister("a");
    rounds.reconcile();
    assert!(rounds.asked.is_empty());
}
