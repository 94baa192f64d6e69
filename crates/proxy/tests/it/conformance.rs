//! The scenarios of `conformance/service_proxy.toml`, replayed by the sidecar: each call is a request of a client over a
//! socket, each attempt reaches an instance over another, and each reply is an HTTP answer.
//!
//! The circuits tell the time by a clock that is moved by hand, as everywhere; the timers of the sidecar are the system's.
//! The two are brought together so: a wait before a retry moves the clock when it is announced, and an instance that
//! hangs moves it to the end of the time that the request says it has, which the sidecar then waits out.
//!
//! Over HTTP a refusal does not carry the last failure along; what the scenarios want to see there is taken from what the
//! instances have answered. Why a circuit refuses is told in words, and when to come back in whole seconds: the exact
//! values are those of the call's story, and it is asserted that the answer agrees with them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use service_mesh::testing::ManualClock;
use service_mesh::{
    CallErrorKind, CircuitBreaker, Clock, Ending, Environment, Event, EventKind, ServiceInstance, ServiceProxy, Story,
    Timestamp,
};
use service_mesh_conformance::circuit_breaker::Reading;
use service_mesh_conformance::service_proxy::{
    Answer, CameBack, Driver, Ended, Given, Progress, SERVICE, ServiceProxyScenario, Told, replay,
};
use service_mesh_conformance::{
    Need, Refusal, Reply, ReplyKind, ScenarioFile, given_up_words, probes_written_off_words, retry_words,
    scenarios_directory, transition_words,
};
use service_mesh_proxy::{Sidecar, TIMEOUT};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::client::{self, Client};
use crate::sidecar::{Running, leased, serve_sidecar};
use crate::upstream::{Upstream, Wire, field, response};

/// What no answer of HTTP says.
const NOT_SHOWABLE: [(&str, &str); 4] = [
    ("retry_after is waited for even if the next attempt goes elsewhere", NEUTRAL_IS_FINAL),
    ("what jitter adds to a retry_after does not reach the deadline", NEUTRAL_IS_FINAL),
    ("a story tells what came of each attempt, and a listener of each that was tried again", NEUTRAL_IS_FINAL),
    ("the cause is the last error, although values were the last answers", AN_ANSWER_IS_PASSED_ON),
];

const NEUTRAL_IS_FINAL: &str = "no status says that it is nobody's fault and may be tried again: 429 is final";
const AN_ANSWER_IS_PASSED_ON: &str = "who has an answer of the service gets that, and no refusal instead";

/// Something went on.
enum News {
    /// An instance was asked.
    Tried { call: usize, instance: String },
    /// The client has its answer.
    Replied { call: usize, reply: client::Reply },
    /// A call was over, for better or worse.
    Told(Arc<Story>),
}

/// What instances and listener know.
struct Shared {
    clock: ManualClock,
    news: UnboundedSender<News>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Answer>,
    /// Whose attempts answer when they are told to; and how the attempt under way is told.
    held: BTreeMap<usize, Option<oneshot::Sender<Reply>>>,
    /// What each call was answered, in order.
    replied: BTreeMap<usize, Vec<ReplyKind>>,
    /// When the time of an attempt that hangs is up.
    up: Option<Timestamp>,
    sleeps: Vec<Duration>,
    events: Vec<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn hear(&self, event: &Event) {
        let words = match &event.kind {
            EventKind::Story(story) => {
                let _ = self.news.send(News::Told(Arc::clone(story)));
                return;
            }
            EventKind::Retry { instance, cause, after, .. } => {
                if !after.is_zero() {
                    self.state().sleeps.push(*after);
                    self.clock.advance(*after);
                }
                retry_words(instance, cause.as_str())
            }
            EventKind::Transition(transition) => transition_words(transition),
            EventKind::ProbesWrittenOff { probes } => probes_written_off_words(*probes),
            EventKind::EjectionCapped => "ejection_capped".to_owned(),
            EventKind::GivenUp { reason, .. } => given_up_words(reason.as_str()),
            EventKind::BudgetExhausted => "budget_exhausted".to_owned(),
            _ => return,
        };
        self.state().events.push(format!("{}: {words}", event.name));
    }

    /// An instance, on one connection.
    async fn serve(self: Arc<Self>, id: String, mut wire: Wire) {
        // One request for each connection: on one that has lain in the pool a loss would cost no attempt.
        if let Some(head) = wire.head().await {
            let call: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            let answer = {
                let mut state = self.state();
                let answer = state.answers.get(&id).copied();
                let answer = answer.unwrap_or(Answer::Reply(Reply::at_once(ReplyKind::Ok)));
                match state.held.get_mut(&call) {
                    None => Ok(answer),
                    Some(told) => {
                        let (tell, answer) = oneshot::channel();
                        *told = Some(tell);
                        Err(answer)
                    }
                }
            };
            if let (Ok(Answer::Hang), Some(left)) = (&answer, field(&head, TIMEOUT.as_str())) {
                let up = self.clock.now().after(Duration::from_millis(left.parse().unwrap()));
                self.state().up = Some(up);
            }
            let _ = self.news.send(News::Tried { call, instance: id.clone() });
            let reply = match answer {
                Ok(Answer::Reply(reply)) => reply,
                Ok(Answer::Hang) => return wire.hang().await,
                Err(told) => tokio::select! {
                    told = told => told.expect("the driver lives"),
                    () = wire.hang() => return,
                },
            };
            self.clock.advance(reply.takes);
            self.state().replied.entry(call).or_default().push(reply.kind);
            match answer_of(reply) {
                Some(answer) => wire.write(answer).await,
                None => wire.die_hard(),
            }
        }
    }

    /// Where an attempt hangs, it is later now.
    fn let_time_pass(&self) {
        let up = self.state().up.take();
        if let Some(up) = up {
            self.clock.advance(up.since(self.clock.now()));
        }
    }
}

/// How an instance says it in HTTP; the body has the word. An error without an answer is a connection that ends.
fn answer_of(reply: Reply) -> Option<String> {
    let status = match (reply.kind, reply.retry_after) {
        (ReplyKind::Ok, _) => "200 OK",
        (ReplyKind::Error, None) => return None,
        (ReplyKind::Error | ReplyKind::BadValue, _) => "503 Service Unavailable",
        (ReplyKind::Fatal, _) => "500 Internal Server Error",
        (ReplyKind::AcceptedError, _) => "404 Not Found",
        (ReplyKind::Ignored | ReplyKind::Refusal | ReplyKind::TryLater, _) => "429 Too Many Requests",
        (ReplyKind::Panic, _) => unreachable!("a driver that says it does not panic is not asked to"),
    };
    let wait = reply.retry_after.map(|wait| format!("Retry-After: {}\r\n", wait.as_secs())).unwrap_or_default();
    Some(response(status, reply.kind.as_str()).replacen("\r\n", &format!("\r\nConnection: close\r\n{wait}"), 1))
}

const KINDS: [ReplyKind; 8] = [
    ReplyKind::Ok,
    ReplyKind::Error,
    ReplyKind::Fatal,
    ReplyKind::Ignored,
    ReplyKind::AcceptedError,
    ReplyKind::BadValue,
    ReplyKind::TryLater,
    ReplyKind::Refusal,
];

/// The sidecar under test, its clients and its instances.
struct Network {
    runtime: Runtime,
    shared: Arc<Shared>,
    sidecar: Running,
    api: ServiceProxy,
    news: UnboundedReceiver<News>,
    upstreams: BTreeMap<(String, u16), Upstream>,
    calls: Vec<Call>,
    held: BTreeMap<String, usize>,
    stories: VecDeque<Arc<Story>>,
    /// Whether attempts have a time limit, so that moving the clock past it must let the sidecar's timers ring.
    has_limits: bool,
    /// Others begin before time passes.
    is_beginning: bool,
}

struct Call {
    client: AbortHandle,
    progress: Progress,
}

impl Network {
    fn new(given: &Given) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, news) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { clock: ManualClock::new(), news: sender, state: Mutex::default() });
        let listener = {
            let shared = Arc::clone(&shared);
            move |event: &Event| shared.hear(event)
        };
        let mesh = Sidecar::builder().environment(Environment::manual(&shared.clock)).listener(listener);
        let text = policy(given);
        let mesh = mesh.read_text(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        let api = mesh.service(SERVICE).unwrap();
        let sidecar = serve_sidecar(Sidecar::new(mesh));
        let mut network = Self {
            runtime,
            shared,
            sidecar,
            api,
            news,
            upstreams: BTreeMap::new(),
            calls: Vec::new(),
            held: BTreeMap::new(),
            stories: VecDeque::new(),
            has_limits: given.config.attempt_timeout().is_some(),
            is_beginning: false,
        };
        for instance in &given.instances {
            network.register(instance);
        }
        network
    }

    /// A client asks, and goes as far as it can without time passing.
    fn begin(&mut self, is_held: bool, timeout: Option<Duration>) -> usize {
        let call = self.calls.len();
        if is_held {
            self.shared.state().held.insert(call, None);
        }
        let (address, news) = (self.sidecar.address, self.shared.news.clone());
        let limit = timeout.map(|limit| format!("{TIMEOUT}: {}\r\n", limit.as_millis())).unwrap_or_default();
        let client = self.runtime.spawn(async move {
            let mut client = Client::connect(address).await;
            client.send(format!("GET /{call} HTTP/1.1\r\nHost: api.example\r\n{limit}\r\n")).await;
            let reply = client.reply().await.expect("the sidecar answers");
            let _ = news.send(News::Replied { call, reply });
        });
        self.calls.push(Call { client: client.abort_handle(), progress: Progress { tried: Vec::new(), ended: None } });
        call
    }

    fn next(&mut self) -> News {
        let next = self.runtime.block_on(async { timeout(Duration::from_secs(60), self.news.recv()).await });
        next.expect("something happens in time").expect("this side holds a sender")
    }

    /// Lets things happen until this is so.
    fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            match self.next() {
                News::Tried { call, instance } => {
                    self.calls[call].progress.tried.push(instance);
                    if !self.is_beginning {
                        self.shared.let_time_pass();
                    }
                }
                News::Told(story) => self.stories.push_back(story),
                News::Replied { call, reply } => {
                    let story = self.story();
                    self.calls[call].progress.ended = Some(self.ended(call, &reply, &story));
                }
            }
        }
    }

    /// The story of the call that has ended. Where several run, what is looked at of it is the same for all.
    fn story(&mut self) -> Arc<Story> {
        self.until(|network| !network.stories.is_empty());
        self.stories.pop_front().expect("it was waited for")
    }

    fn goes_as_far_as_it_can(&mut self, call: usize) {
        let before = self.calls[call].progress.tried.len();
        self.until(|network| {
            let progress = &network.calls[call].progress;
            progress.ended.is_some() || progress.tried.len() > before
        });
    }

    fn ended(&self, call: usize, reply: &client::Reply, story: &Story) -> Ended {
        let replied = self.shared.state().replied.get(&call).cloned().unwrap_or_default();
        let Some(word) = reply.refused() else {
            let kind = KINDS.into_iter().find(|kind| kind.as_str() == reply.text()).expect("the answer of an instance");
            assert_eq!(replied.last(), Some(&kind), "it is the answer of the last attempt");
            return Ended { came_back: CameBack::Replied(kind), cause: None, attempts: None, story: Some(told(story)) };
        };
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((&body["service"], &body["refused"]), (&SERVICE.into(), &word.into()));
        let came_back = match (word, &story.ending) {
            ("circuit_open", Ending::Refused(CallErrorKind::CircuitOpen(error))) => {
                let seconds = error.retry_after().map(|wait| wait.as_secs_f64().ceil().to_string());
                assert_eq!(reply.field("retry-after").map(str::to_owned), seconds);
                assert_eq!((reply.status, &body["message"]), (503, &error.to_string().into()));
                let refusal = Refusal { reason: error.reason(), retry_after: error.retry_after() };
                CameBack::CircuitOpen { name: error.name().to_owned(), refusal }
            }
            ("connection_lost", _) => CameBack::Replied(ReplyKind::Error),
            ("no_healthy_instance", _) => CameBack::NoHealthyInstance,
            ("deadline_exceeded", _) => CameBack::DeadlineExceeded,
            ("attempt_timed_out", _) => CameBack::AttemptTimedOut,
            other => panic!("no end for a scenario: {other:?}"),
        };
        let values = [ReplyKind::Ok, ReplyKind::BadValue];
        let cause = replied.iter().rev().copied().find(|kind| !values.contains(kind));
        let attempts = Some(body["attempts"].as_u64().and_then(|count| count.try_into().ok()).unwrap_or(0));
        Ended { came_back, cause, attempts, story: Some(told(story)) }
    }

    fn finish(&mut self, call: usize) -> Progress {
        self.until(|network| network.calls[call].progress.ended.is_some());
        self.calls[call].progress.clone()
    }
}

fn told(story: &Story) -> Told {
    let attempts = story.attempts.iter().filter(|attempt| attempt.instance.is_some());
    let outcomes = attempts.map(|attempt| match attempt.outcome {
        Some(_) if attempt.timed_out => "timed_out".to_owned(),
        Some(outcome) => outcome.as_str().to_owned(),
        None => "-".to_owned(),
    });
    Told { outcomes: outcomes.collect(), given_up: story.given_up.map(|reason| reason.as_str().to_owned()) }
}

fn policy(given: &Given) -> String {
    fn value<T: serde::Serialize>(config: T) -> toml::Value {
        toml::Value::try_from(config).unwrap()
    }
    fn or_false<T: serde::Serialize>(config: Option<&T>) -> toml::Value {
        config.map_or_else(|| false.into(), value)
    }
    let mut timeouts = toml::Table::new();
    for (key, limit) in
        [("call_seconds", given.config.call_timeout()), ("attempt_seconds", given.config.attempt_timeout())]
    {
        timeouts.extend(limit.map(|limit| (key.to_owned(), limit.as_secs_f64().into())));
    }
    let service = [
        ("strategy", given.strategy.as_str().into()),
        ("max_ejected_ratio", given.config.max_ejected_ratio().into()),
        ("explain_ratio", 1.into()),
        ("circuit_breaker", value(&given.circuit_breaker)),
        ("instance_circuit_breaker", or_false(given.instance_circuit_breaker.as_ref())),
        ("retry", value(&given.retry)),
        ("budget", or_false(given.budget.as_ref())),
        ("timeouts", timeouts.into()),
    ];
    let service: toml::Table = service.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let listener = "[listeners.web]\naddress = '127.0.0.1:0'\n";
    let services = toml::Table::from_iter([(SERVICE.to_owned(), service.into())]);
    format!(
        "{listener}{}",
        toml::to_string(&toml::Table::from_iter([("services".to_owned(), services.into())])).unwrap()
    )
}

fn reading(circuit: &CircuitBreaker) -> Reading {
    Reading {
        state: circuit.state(),
        failure_count: circuit.failure_count().into(),
        success_count: circuit.success_count().into(),
        half_open_calls: circuit.half_open_calls().into(),
        late_outcomes: circuit.late_outcomes(),
    }
}

impl Driver for Network {
    fn advance(&mut self, by: Duration) {
        self.shared.clock.advance(by);
        let running = self.held.values().copied().filter(|call| self.calls[*call].progress.ended.is_none());
        if self.has_limits && running.count() > 0 {
            // The timers of the sidecar are the system's, and ring a little late.
            self.runtime.block_on(async { sleep(by + Duration::from_millis(200)).await });
            while let Ok(news) = self.news.try_recv() {
                self.shared.news.send(news).expect("this side receives");
                self.until(|network| network.news.is_empty());
            }
        }
    }

    fn now(&mut self) -> Duration {
        self.shared.clock.now().since(Timestamp::ORIGIN)
    }

    fn set_answer(&mut self, instance: &str, answer: Answer) {
        self.shared.state().answers.insert(instance.to_owned(), answer);
    }

    fn call(&mut self, timeout: Option<Duration>) -> Progress {
        let call = self.begin(false, timeout);
        self.finish(call)
    }

    fn callers(&mut self, callers: u32) -> Vec<Progress> {
        let mut calls = Vec::new();
        self.is_beginning = true;
        for _ in 0..callers {
            let call = self.begin(false, None);
            self.goes_as_far_as_it_can(call);
            calls.push(call);
        }
        self.is_beginning = false;
        self.shared.let_time_pass();
        calls.into_iter().map(|call| self.finish(call)).collect()
    }

    fn hold(&mut self, call: &str) {
        let index = self.begin(true, None);
        self.held.insert(call.to_owned(), index);
        self.goes_as_far_as_it_can(index);
    }

    fn answer(&mut self, call: &str, reply: Reply) {
        let index = self.held[call];
        let tell = self.shared.state().held.get_mut(&index).and_then(Option::take).expect("an attempt is under way");
        tell.send(reply).expect("the instance waits for it");
        self.goes_as_far_as_it_can(index);
    }

    fn cancel(&mut self, call: &str, stalled: Duration) {
        self.shared.clock.advance(stalled);
        self.calls[self.held[call]].client.abort();
        let _abandoned = self.story();
    }

    fn progress(&mut self, call: &str) -> Progress {
        self.calls[self.held[call]].progress.clone()
    }

    fn take_sleeps(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.shared.state().sleeps)
    }

    fn register(&mut self, instance: &ServiceInstance) {
        let shared = &self.shared;
        let upstream = self.upstreams.entry((instance.id.clone(), instance.port)).or_insert_with(|| {
            let (shared, id) = (Arc::clone(shared), instance.id.clone());
            self.runtime.block_on(Upstream::start(move |wire| Arc::clone(&shared).serve(id.clone(), wire)))
        });
        let mut instance = instance.clone();
        (instance.host, instance.port) = (upstream.address.ip().to_string(), upstream.address.port());
        self.api.load_balancer().register(instance);
    }

    fn deregister(&mut self, id: &str) {
        self.api.load_balancer().deregister(id);
    }

    fn mark_healthy(&mut self, id: &str, healthy: bool) {
        self.api.load_balancer().mark_healthy(id, healthy);
    }

    fn force_open(&mut self) {
        self.api.circuit_breaker().force_open();
    }

    fn force_closed(&mut self) {
        self.api.circuit_breaker().force_closed();
    }

    fn reset(&mut self) {
        self.api.circuit_breaker().reset();
    }

    fn service(&mut self) -> Reading {
        reading(&self.api.circuit_breaker())
    }

    fn instance(&mut self, id: &str) -> Option<Reading> {
        self.api.instance_circuit_breaker(id).as_ref().map(reading)
    }

    fn leased(&mut self, id: &str) -> u64 {
        leased(&self.api, id).into()
    }

    fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().events)
    }
}

/// The scenarios that this is true of, by their text, without those that cannot be shown.
fn scenarios(is_wanted: impl Fn(&str) -> bool) -> ScenarioFile<ServiceProxyScenario> {
    let file = "service_proxy.toml";
    let text = std::fs::read_to_string(scenarios_directory().join(file)).unwrap();
    for (name, why) in NOT_SHOWABLE {
        assert!(
            text.contains(&format!("name = \"{name}\"\n")),
            "{name}, which cannot be shown ({why}), is no scenario"
        );
    }
    let mut parts = text.split("[[scenario]]\n");
    let mut wanted = parts.next().unwrap().to_owned();
    for scenario in parts {
        let is_showable = !NOT_SHOWABLE.iter().any(|(name, _)| scenario.contains(&format!("name = \"{name}\"\n")));
        if is_showable && is_wanted(scenario) {
            wanted.push_str("[[scenario]]\n");
            wanted.push_str(scenario);
        }
    }
    ScenarioFile::parse(file, wanted).unwrap()
}

const CAN: [Need; 4] = [Need::Overlap, Need::Cancel, Need::StopAttempts, Need::SlowStart];

/// No function runs in the sidecar that could panic.
const NEEDS: &str = "needs = [\"stop_attempts\"]";

#[test]
fn the_sidecar_decides_as_the_libraries_do() {
    let report = replay(&scenarios(|text| !text.contains("stop_attempts")), &CAN, Network::new);
    report.expect(&[
        "a panic counts, goes on unwinding, and gives everything back",
        "an untried instance hides a panic",
        "an instance that leaves while a call runs hides no panic",
        "a probe that panics trips service and instance again and leaves no place taken",
    ]);
}

#[test]
fn the_sidecar_ends_attempts_as_the_libraries_do() {
    let report = replay(&scenarios(|text| text.contains(NEEDS)), &CAN, Network::new);
    report.expect(&[]);
}

#[test]
fn the_sidecar_ends_attempts_that_overlap_as_the_libraries_do() {
    let report = replay(&scenarios(|text| text.contains("stop_attempts") && !text.contains(NEEDS)), &CAN, Network::new);
    report.expect(&[]);
}
