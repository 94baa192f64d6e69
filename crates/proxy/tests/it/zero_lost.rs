//! Nothing is lost: clients ask without a pause, things happen to instances, policy and sidecar, and no client sees any
//! of it. What clients, sidecar and instances have counted agrees in the end.
//!
//! Each request has a path of its own, and is answered with that path: so an answer that reached the wrong client, or a
//! request that nobody has answered, would be seen too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use service_mesh::CircuitState;
use service_mesh_proxy::{Ended, Signal};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::control::{Whole, run};
use crate::upstream::{Upstream, Wire, response};

/// A short way back into rotation, so that the tests need not wait for it; and time enough for a busy machine.
const POLICY: &str = "retry.initial_delay_seconds = 0\ntimeouts.attempt_seconds = 2\n\
                      [services.api.circuit_breaker]\nfailure_threshold = 2\ntimeout_seconds = 0.1\n";

const CLIENTS: usize = 6;

/// An instance that can be killed, hung and brought back, all at the same address.
struct Instance {
    id: String,
    address: SocketAddr,
    is_hung: Arc<AtomicBool>,
    /// Which requests it has answered.
    ledger: Arc<Mutex<Vec<String>>>,
    /// What a request for a path that begins with `/slow` waits for.
    gate: Arc<Notify>,
    running: Option<Upstream>,
    /// Keeps its port for it while it is dead: bound, and not listening.
    _port: TcpSocket,
}

impl Instance {
    async fn start(id: &str) -> Self {
        let port = TcpSocket::new_v4().unwrap();
        port.set_reuseaddr(true).unwrap();
        port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut instance = Self {
            id: id.to_owned(),
            address: port.local_addr().unwrap(),
            is_hung: Arc::default(),
            ledger: Arc::default(),
            gate: Arc::default(),
            running: None,
            _port: port,
        };
        instance.revive().await;
        instance
    }

    async fn all(ids: &str) -> Vec<Self> {
        let mut all = Vec::new();
        for id in ids.split(' ') {
            all.push(Self::start(id).await);
        }
        all
    }

    async fn revive(&mut self) {
        let (is_hung, ledger, gate) = (Arc::clone(&self.is_hung), Arc::clone(&self.ledger), Arc::clone(&self.gate));
        let upstream = Upstream::start_at(self.address, move |wire| {
            serve(wire, Arc::clone(&is_hung), Arc::clone(&ledger), Arc::clone(&gate))
        })
        .await;
        self.running = Some(upstream);
    }

    /// Its connections end with a reset, and it answers no other.
    async fn kill(&mut self) {
        self.running = None;
        while TcpStream::connect(self.address).await.is_ok() {}
    }

    fn answered(&self) -> usize {
        self.ledger.lock().unwrap().len()
    }

    async fn answers_again(&self) {
        let before = self.answered();
        while self.answered() == before {
            tokio::task::yield_now().await;
        }
    }
}

async fn serve(mut wire: Wire, is_hung: Arc<AtomicBool>, ledger: Arc<Mutex<Vec<String>>>, gate: Arc<Notify>) {
    wire.die_hard();
    while let Some(head) = wire.head().await {
        if is_hung.load(Ordering::SeqCst) {
            return wire.hang().await;
        }
        let path = head.split(' ').nth(1).unwrap();
        if path.starts_with("/slow") {
            gate.notified().await;
        }
        ledger.lock().unwrap().push(path.to_owned());
        wire.write(response("200 OK", path)).await;
    }
}

fn policy(instances: &[Instance]) -> String {
    let listed = instances.iter().map(|instance| {
        let (id, port) = (&instance.id, instance.address.port());
        format!("[[services.api.instances]]\nid = '{id}'\nhost = '127.0.0.1'\nport = {port}\n")
    });
    format!("[services.api]\n{POLICY}{}", listed.collect::<String>())
}

/// Clients that ask without a pause.
struct Load {
    stop: Arc<AtomicBool>,
    answered: watch::Sender<usize>,
    clients: JoinSet<usize>,
}

impl Load {
    /// On addresses in this order: a client goes on to the next when it is told that its connection closes.
    fn start(addresses: &[SocketAddr]) -> Self {
        let mut load = Self { stop: Arc::default(), answered: watch::channel(0).0, clients: JoinSet::new() };
        for number in 0..CLIENTS {
            let (stop, answered) = (Arc::clone(&load.stop), load.answered.clone());
            let mut addresses = Vec::from(addresses).into_iter();
            load.clients.spawn(async move {
                let mut client = Client::connect(addresses.next().unwrap()).await;
                let mut count = 0;
                while !stop.load(Ordering::SeqCst) {
                    let path = format!("/{number}/{count}");
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n")).await;
                    let reply = client.reply().await.unwrap_or_else(|| panic!("{path} was not answered"));
                    assert_eq!((reply.status, reply.text()), (200, path.as_str()), "{reply:?}");
                    count += 1;
                    answered.send_modify(|answered| *answered += 1);
                    if reply.field("connection") == Some("close") {
                        client = Client::connect(addresses.next().expect("another sidecar")).await;
                    }
                }
                count
            });
        }
        load
    }

    /// Waits until so many more have been answered.
    async fn goes_on(&mut self, more: usize) {
        let mut answered = self.answered.subscribe();
        let target = *answered.borrow() + more;
        tokio::select! {
            reached = answered.wait_for(|answered| *answered >= target) => drop(reached.unwrap()),
            Some(ended) = self.clients.join_next() => panic!("a client has ended: {ended:?}"),
        }
    }

    /// How many were answered, each with 200.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await.into_iter().sum()
    }
}

/// The metrics of a sidecar, summed.
struct Counts(String);

impl Counts {
    async fn of(whole: &Whole) -> Self {
        while whole.sidecar.in_flight("api") != Some(0) {
            tokio::task::yield_now().await;
        }
        let mut client = Client::connect(whole.admin).await;
        client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        Self(client.reply().await.unwrap().text().to_owned())
    }

    /// The sum of the series of this name which have this among their labels.
    fn sum(&self, name: &str, label: &str) -> usize {
        let series = self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let values = series.filter(|rest| rest.contains(label)).map(|rest| rest.rsplit(' ').next().unwrap());
        values.map(|value| value.parse::<usize>().unwrap()).sum()
    }
}

/// What clients, sidecars and instances have counted agrees.
fn agree(asked: usize, sidecars: &[Counts], instances: &[Instance]) {
    let sum = |name, label| sidecars.iter().map(|counts| counts.sum(name, label)).sum::<usize>();
    assert_eq!(sum("service_mesh_calls_total", "service=\"api\""), asked);
    assert_eq!(sum("service_mesh_calls_total", "outcome=\"success\""), asked);
    assert_eq!(sum("service_mesh_attempts_total", "outcome=\"success\""), asked);
    let failed = sum("service_mesh_attempts_total", "outcome=\"failure\"");
    assert_eq!(sum("service_mesh_retries_total", ""), failed, "every attempt that failed was tried again");
    assert_eq!(sum("service_mesh_attempts_total", "outcome=\"neutral\""), 0);

    let mut times = BTreeMap::<String, usize>::new();
    for path in instances.iter().flat_map(|instance| instance.ledger.lock().unwrap().clone()) {
        *times.entry(path).or_default() += 1;
    }
    assert_eq!(times.len(), asked, "every request was answered by an instance, and none that nobody asked");
    // An answer that was on its way when its connection was reset has been given once more.
    let repeated = times.values().filter(|times| **times > 1).count();
    assert!(repeated <= failed + CLIENTS * instances.len(), "{repeated} were answered twice, {failed} attempts failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_is_killed_hung_and_brought_back_and_no_request_is_lost() {
    let mut instances = Instance::all("a b c").await;
    let whole = run("killed", &policy(&instances));
    let mut load = Load::start(&[whole.address]);
    let api = whole.sidecar.mesh().service("api").unwrap();
    let circuit = |id| api.instance_circuit_breaker(id).unwrap();
    load.goes_on(100).await;

    instances[1].kill().await;
    while circuit("b").state() != CircuitState::Open {
        load.goes_on(1).await;
    }
    load.goes_on(200).await;
    instances[1].revive().await;
    instances[1].answers_again().await;
    load.goes_on(50).await;

    instances[2].is_hung.store(true, Ordering::SeqCst);
    while circuit("c").state() != CircuitState::Open {
        load.goes_on(1).await;
    }
    load.goes_on(100).await;
    instances[2].is_hung.store(false, Ordering::SeqCst);
    instances[2].answers_again().await;
    load.goes_on(50).await;

    assert_eq!(api.circuit_breaker().state(), CircuitState::Closed);
    let asked = load.end().await;
    let counts = Counts::of(&whole).await;
    assert!(counts.sum("service_mesh_circuit_transitions_total", "circuit=\"api/b\"") >= 3, "it tripped and came back");
    agree(asked, &[counts], &instances);
    assert_eq!(whole.ended(Signal::Interrupt).await, Ended::Clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_lose_no_request() {
    let instances = Instance::all("a b c").await;
    // Nobody hangs here: an attempt that takes long has met a busy machine.
    let api = policy(&instances).replacen("attempt_seconds = 2", "attempt_seconds = 60", 1);
    let whole = run("hundred", &api);
    let mut load = Load::start(&[whole.address]);
    load.goes_on(50).await;
    for round in 1..=100 {
        let limits = format!("[services.api.limits]\nin_flight = {}\n", 100 + round);
        let strategy = ["round_robin", "least_connections", "p2c", "peak_ewma"][round % 4];
        let other = if round % 2 == 0 { "[services.other]\n[[routes]]\nservice = 'api'\n" } else { "" };
        let api = api.replacen("[services.api]\n", &format!("[services.api]\nstrategy = '{strategy}'\n"), 1);
        whole.reload(&format!("{api}{limits}{other}")).await;
        load.goes_on(1).await;
    }
    let asked = load.end().await;
    let counts = Counts::of(&whole).await;
    assert!(counts.sum("service_mesh_policy_reloads_total", "applied") >= 100);
    assert_eq!(counts.sum("service_mesh_attempts_total", "failure"), 0);
    // Their connections were kept, too.
    let connections = instances.iter().map(|one| one.running.as_ref().unwrap().seen.connections()).sum::<usize>();
    assert!(connections <= CLIENTS * instances.len(), "{connections}");
    agree(asked, &[counts], &instances);
    assert_eq!(whole.ended(Signal::Interrupt).await, Ended::Clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_are_restarted_one_by_one_and_then_replaced_lose_no_request() {
    let mut instances = Instance::all("a b c").await;
    let whole = run("rolled", &policy(&instances));
    let mut load = Load::start(&[whole.address]);
    load.goes_on(50).await;
    // Whoever restarts them takes no care at all.
    for instance in &mut instances {
        instance.kill().await;
        load.goes_on(30).await;
        instance.revive().await;
        instance.answers_again().await;
    }
    // Others take their places, one by one.
    for (index, id) in ["d", "e", "f"].into_iter().enumerate() {
        let mut present = instances.split_off(index);
        let mut old = present.remove(0);
        instances.push(Instance::start(id).await);
        instances.append(&mut present);
        whole.reload(&policy(&instances)).await;
        instances[index].answers_again().await;
        old.kill().await;
        load.goes_on(30).await;
        instances.push(old);
    }
    let asked = load.end().await;
    agree(asked, &[Counts::of(&whole).await], &instances);
    assert_eq!(whole.ended(Signal::Interrupt).await, Ended::Clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_is_told_to_end_under_load_loses_no_request() {
    let instances = Instance::all("a b c").await;
    let text = format!("[drain]\ndelay_seconds = 2\ndeadline_seconds = 60\n{}", policy(&instances)).replacen(
        "attempt_seconds = 2",
        "attempt_seconds = 60",
        1,
    );
    let (leaving, staying) = (run("leaving", &text), run("staying", &text));
    let mut load = Load::start(&[leaving.address, staying.address]);
    load.goes_on(50).await;
    // These are under way when it is told, and are answered after it lets nobody in any more.
    let slow = AtomicUsize::new(0);
    let mut waiting = Vec::new();
    for instance in &instances {
        let mut client = Client::connect(leaving.address).await;
        let path = format!("/slow/{}", instance.id);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n")).await;
        waiting.push((client, path));
    }
    while leaving.sidecar.in_flight("api").unwrap() < 3 {
        load.goes_on(1).await;
    }
    let (sidecar, address, admin) = (leaving.sidecar.clone(), leaving.address, leaving.admin);
    let ended = tokio::spawn(leaving.ended(Signal::Terminate));
    while TcpStream::connect(address).await.is_ok() {
        load.goes_on(1).await;
    }
    // The pages still tell what it has counted.
    while sidecar.in_flight("api") != Some(3) {
        tokio::task::yield_now().await;
    }
    let mut pages = Client::connect(admin).await;
    pages.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let counts = Counts(pages.reply().await.unwrap().text().to_owned());
    for _ in 0..3 {
        for instance in &instances {
            instance.gate.notify_one();
        }
        load.goes_on(1).await;
    }
    for (mut client, path) in waiting {
        let reply = client.reply().await.expect("what was in flight is answered");
        assert_eq!((reply.status, reply.text(), reply.field("connection")), (200, path.as_str(), Some("close")));
        slow.fetch_add(1, Ordering::SeqCst);
    }
    drop(pages);
    assert_eq!(ended.await.unwrap(), Ended::Clean);
    load.goes_on(50).await;
    let asked = load.end().await;
    let others = Counts::of(&staying).await;
    let quick = counts.sum("service_mesh_calls_total", "success") + others.sum("service_mesh_calls_total", "success");
    assert_eq!(quick, asked);
    let answered = instances.iter().map(Instance::answered).sum::<usize>();
    assert_eq!(answered, asked + slow.into_inner());
    assert_eq!(staying.ended(Signal::Interrupt).await, Ended::Clean);
}
