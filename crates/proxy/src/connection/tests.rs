use std::io::{Read as _, Write as _};
use std::net::Shutdown as Half;
use std::os::unix::net::UnixStream as Caller;
use std::pin::Pin;
use std::task::{Context, Waker};

use service_mesh::ListenerLimitsConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::*;
use crate::drain::{Phase, Shutdown};
use crate::pulse::TICK;
use crate::sidecar::Sidecar;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A connection that a test drives: what it does not poll does not happen, and of what has come to the socket the
/// runtime knows nothing until the test waits.
struct Driven {
    caller: Caller,
    worker: Arc<Worker>,
    shutdown: Shutdown,
    connection: Pin<Box<dyn Future<Output = ()>>>,
}

impl Driven {
    /// There is nobody to ask.
    fn new() -> Self {
        Self::of("[services.api]")
    }

    /// Before an instance that is asked once, and answers in these pieces, each when it is told to.
    fn before(name: &str, pieces: Vec<String>) -> (Self, Arc<Notify>) {
        let path = std::env::temp_dir().join(format!("service-mesh-driven-{name}-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let (go_on, may_go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, file) = (Arc::clone(&go_on), path.clone());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            std::fs::remove_file(file).unwrap();
            for piece in pieces {
                told.notified().await;
                socket.write_all(piece.as_bytes()).await.unwrap();
            }
            may_go_on.notified().await;
        });
        let instance = format!("{{ id = 'a', host = 'unix:{}', port = 1 }}", path.display());
        (Self::of(&format!("[services.api]\ninstances = [{instance}]")), go_on)
    }

    fn of(policy: &str) -> Self {
        let worker = Worker::new(Sidecar::from_policy(policy).unwrap());
        let (caller, socket) = Caller::pair().unwrap();
        caller.set_nonblocking(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = Socket::Unix(UnixStream::from_std(socket).unwrap());
        let (shutdown, drain) = Shutdown::new();
        let listener = Listener::new("web", ListenerLimitsConfig::default(), Arc::default());
        let connection = Box::pin(serve(Arc::clone(&worker), listener, socket, drain));
        let mut driven = Self { caller, worker, shutdown, connection };
        assert!(!driven.has_ended());
        driven
    }

    fn has_ended(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.connection.as_mut().poll(&mut context).is_ready()
    }

    fn ask(&mut self) {
        self.caller.write_all(ASK).unwrap();
    }

    /// As the thread does at this phase.
    fn close(&self) {
        self.shutdown.enter(Phase::Closing);
        self.worker.tell_clients(Order::Finish);
    }

    /// Goes on for as long as this is not so.
    async fn until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) {
        while !is_so(self) {
            assert!(!self.has_ended());
            tokio::task::yield_now().await;
        }
    }

    /// What comes until this has come.
    async fn told_until(&mut self, end: &str) -> String {
        let (mut told, mut piece) = (String::new(), vec![0; 65_536]);
        self.until(|driven| {
            if let Ok(length) = driven.caller.read(&mut piece) {
                told.push_str(std::str::from_utf8(&piece[..length]).unwrap());
            }
            told.ends_with(end)
        })
        .await;
        told
    }

    /// The answer, of which the JSON ends with a line.
    async fn answer(&mut self) -> String {
        self.told_until("}\n").await
    }

    /// What the caller reads until the connection has ended.
    async fn told(mut self) -> String {
        self.connection.await;
        let mut told = String::new();
        self.caller.read_to_string(&mut told).unwrap();
        told
    }
}

fn is_the_last_answer(told: &str) -> bool {
    told.starts_with("HTTP/1.1 503") && told.contains("connection: close") && told.ends_with("}\n")
}

#[tokio::test]
async fn a_first_request_that_waits_in_the_socket_is_answered_before_the_end() {
    let mut driven = Driven::new();
    driven.ask();
    driven.close();
    assert!(!driven.has_ended());
    let told = driven.told().await;
    assert!(is_the_last_answer(&told), "{told}");
}

#[tokio::test]
async fn so_is_one_on_a_connection_that_lay_idle() {
    let mut driven = Driven::new();
    driven.ask();
    assert!(driven.answer().await.starts_with("HTTP/1.1 503"));
    driven.ask();
    driven.close();
    assert!(!driven.has_ended());
    let told = driven.told().await;
    assert!(is_the_last_answer(&told), "{told}");
}

#[tokio::test]
async fn so_is_one_whose_head_is_half_there() {
    let mut driven = Driven::new();
    driven.ask();
    // The answer to the first, and the beginning of the second in one piece with it.
    driven.caller.write_all(&ASK[..10]).unwrap();
    driven.answer().await;
    driven.close();
    assert!(!driven.has_ended());
    driven.caller.write_all(&ASK[10..]).unwrap();
    let told = driven.told().await;
    assert!(is_the_last_answer(&told), "{told}");
}

#[tokio::test]
async fn a_connection_that_nothing_comes_on_ends_at_once() {
    let mut driven = Driven::new();
    driven.ask();
    driven.answer().await;
    driven.close();
    assert!(driven.has_ended());
}

#[tokio::test]
async fn one_that_has_asked_for_nothing_yet_is_given_a_moment() {
    let mut driven = Driven::new();
    driven.close();
    driven.worker.tick();
    assert!(!driven.has_ended());
    (0..8).for_each(|_| driven.worker.tick());
    assert!(driven.has_ended());
}

#[tokio::test]
async fn who_has_been_idle_for_too_long_is_looked_at_before_the_end() {
    let mut driven = Driven::new();
    driven.ask();
    driven.answer().await;
    driven.ask();
    (0..400).for_each(|_| driven.worker.ticks.advance());
    driven.worker.tick();
    assert!(!driven.has_ended());
    let told = driven.told().await;
    assert!(is_the_last_answer(&told), "{told}");
}

#[tokio::test(start_paused = true)]
async fn who_half_closes_and_waits_gets_an_answer_of_any_length() {
    let pieces = ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none", "two"].map(String::from);
    let (mut driven, go_on) = Driven::before("long", pieces.into());
    driven.ask();
    driven.caller.shutdown(Half::Write).unwrap();
    go_on.notify_one();
    driven.told_until("one").await;
    for _ in 0..40 {
        driven.worker.tick();
        tokio::time::advance(TICK).await;
        assert!(!driven.has_ended());
    }
    go_on.notify_one();
    assert_eq!(driven.told().await, "two");
}

#[tokio::test]
async fn an_answer_that_waits_to_be_read_is_not_dropped_when_its_client_half_closes() {
    let body = "x".repeat(400_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let (mut driven, go_on) = Driven::before("unread", vec![format!("{head}{body}")]);
    driven.ask();
    go_on.notify_one();
    // All of it has come, and is held for the client, who does not read.
    driven.until(|driven| driven.worker.sidecar.in_flight("api") == Some(1)).await;
    driven.until(|driven| driven.worker.sidecar.in_flight("api") == Some(0)).await;
    driven.caller.shutdown(Half::Write).unwrap();
    for _ in 0..100 {
        assert!(!driven.has_ended());
        tokio::task::yield_now().await;
    }
    let told = driven.told_until("x").await;
    let mut told = told.split_once("\r\n\r\n").unwrap().1.to_owned();
    while told.len() < body.len() {
        told.push_str(&driven.told_until("x").await);
    }
    assert!(told == body, "it is whole, and nothing else is in it");
}
