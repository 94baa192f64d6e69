//! The service proxy: the call machine by itself, and the drivers.

mod futures;
mod machine;
mod threads;
#[cfg(feature = "tower")]
mod tower;
mod waits;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use service_mesh::testing::Recorder;
use service_mesh::{
    AttemptStory, CallError, CallErrorKind, CallOptions, Environment, EventKind, Explanation, LoadBalancer,
    ServiceInstance, ServiceProxy, Sleeping, Story, Timestamp,
};
use service_mesh_conformance::circuit_breaker::Reading;
use service_mesh_conformance::service_proxy::{
    Answer, CameBack, Driver, Ended, Given, Progress, SERVICE, Told, replay,
};
use service_mesh_conformance::{Need, Refusal, Reply, ReplyKind};

use super::circuit_breaker::reading;
use super::events;
use super::replies::Replied;
use waits::Waits;

/// A call under way. Dropped, it is cancelled.
trait Running {
    /// Begins a call, which goes nowhere yet.
    fn begin(proxy: &ServiceProxy, waits: &Waits, options: CallOptions) -> Self;
    /// Goes on as far as it can while the clock stands still, and tells what it came to; none if it stays where it is.
    /// `reply` is what the attempt that is under way answers, if it answers now.
    fn go_on(&mut self, reply: Option<Reply>) -> Option<Said>;
}

/// What a call came to.
enum Said {
    /// An attempt at this instance.
    Tries(String),
    /// Its end.
    Ended(Ended),
}

/// How a driver's call ended.
fn ended(result: thread::Result<Result<Replied, CallError<Replied>>>) -> Said {
    let (came_back, cause, attempts) = match result {
        Ok(Ok(value)) => (CameBack::Replied(value.kind()), None, None),
        Ok(Err(error)) => {
            let last = error.last().map(Replied::kind);
            let came_back = match (error.kind(), last) {
                (CallErrorKind::Failed, Some(last)) => CameBack::Replied(last),
                (kind, _) => stopped(kind),
            };
            (came_back, last, Some(error.attempts()))
        }
        Err(payload) => (CameBack::Replied(Replied::caught(payload).kind()), None, None),
    };
    Said::Ended(Ended { came_back, cause, attempts, story: None })
}

/// What a story tells, in the words of the scenarios.
fn told(story: &Story) -> Told {
    let cause = |attempt: &AttemptStory| match attempt.outcome {
        Some(_) if attempt.timed_out => "timed_out",
        Some(outcome) => outcome.as_str(),
        None => "-",
    };
    let attempts = story.attempts.iter().filter(|attempt| attempt.instance.is_some());
    let given_up = story.given_up.map(|reason| reason.as_str().to_owned());
    Told { outcomes: attempts.map(|attempt| cause(attempt).to_owned()).collect(), given_up }
}

/// An end that is not an answer of the function.
fn stopped(kind: &CallErrorKind) -> CameBack {
    match kind {
        CallErrorKind::CircuitOpen(error) => CameBack::CircuitOpen {
            name: error.name().to_owned(),
            refusal: Refusal { reason: error.reason(), retry_after: error.retry_after() },
        },
        CallErrorKind::NoHealthyInstance(_) => CameBack::NoHealthyInstance,
        CallErrorKind::DeadlineExceeded => CameBack::DeadlineExceeded,
        CallErrorKind::AttemptTimedOut => CameBack::AttemptTimedOut,
        other => panic!("no end for a scenario: {other:?}"),
    }
}

/// The proxy under test, how its instances answer, and every call that was begun.
struct Service<R> {
    waits: Waits,
    recorder: Recorder,
    proxy: ServiceProxy,
    explained: bool,
    answers: BTreeMap<String, Answer>,
    calls: Vec<Call<R>>,
    /// Which of the calls a name stands for.
    held: BTreeMap<String, usize>,
}

struct Call<R> {
    /// None when it is over.
    running: Option<R>,
    /// Its attempts answer when they are told to.
    held: bool,
    due: Option<Due>,
    explanation: Explanation,
    progress: Progress,
}

/// What the attempt under way will answer, and when.
struct Due {
    at: Timestamp,
    reply: Reply,
    /// So that the clock knows where to go next.
    _alarm: Sleeping,
}

impl<R: Running> Service<R> {
    fn new(given: &Given) -> Self {
        let (waits, recorder) = (Waits::new(), Recorder::new());
        let environment = Environment::manual(&waits.clock).with_sleep(waits.clone()).with_async_sleep(waits.clone());
        let balancer = LoadBalancer::builder().strategy(given.strategy).environment(environment.clone()).build();
        let mut proxy = ServiceProxy::builder(SERVICE)
            .load_balancer(balancer)
            .circuit_breaker(given.circuit_breaker.clone())
            .retry(given.retry.clone())
            .config(given.config.clone())
            .environment(environment)
            .listener(recorder.clone());
        proxy = match &given.instance_circuit_breaker {
            Some(config) => proxy.instance_circuit_breaker(config.clone()),
            None => proxy.without_instance_circuit_breakers(),
        };
        proxy = match &given.budget {
            Some(config) => proxy.retry_budget(config.clone()),
            None => proxy.without_retry_budget(),
        };
        let proxy = proxy.build();
        for instance in &given.instances {
            proxy.load_balancer().register(instance.clone());
        }
        let explained = given.explained;
        Self { waits, recorder, proxy, explained, answers: BTreeMap::new(), calls: Vec::new(), held: BTreeMap::new() }
    }

    fn begin(&mut self, held: bool, timeout: Option<Duration>) -> usize {
        let (mut options, explanation) = (CallOptions::new(), Explanation::new());
        if let Some(timeout) = timeout {
            options = options.timeout(timeout);
        }
        if self.explained {
            options = options.explain(&explanation);
        }
        let running = Some(R::begin(&self.proxy, &self.waits, options));
        let progress = Progress { tried: Vec::new(), ended: None };
        self.calls.push(Call { running, held, due: None, explanation, progress });
        let index = self.calls.len() - 1;
        self.go_on(index);
        index
    }

    /// Lets a call go on as far as it can while the clock stands still.
    fn go_on(&mut self, index: usize) {
        let call = &mut self.calls[index];
        while let Some(running) = &mut call.running {
            // A thread that waits moves the clock by itself: it is read each time.
            let now = self.waits.now();
            let reply = call.due.take_if(|due| due.at <= now).map(|due| due.reply);
            match running.go_on(reply) {
                None => return,
                Some(Said::Ended(mut ended)) => {
                    ended.story = call.explanation.story().as_deref().map(told);
                    call.progress.ended = Some(ended);
                    call.running = None;
                }
                Some(Said::Tries(instance)) => {
                    let answer = self.answers.get(&instance).copied();
                    call.due = match answer.unwrap_or(Answer::Reply(Reply::at_once(ReplyKind::Ok))) {
                        Answer::Reply(reply) if !call.held => Some(self.waits.due(reply)),
                        _ => None,
                    };
                    call.progress.tried.push(instance);
                }
            }
        }
    }

    fn all_go_on(&mut self) {
        (0..self.calls.len()).for_each(|index| self.go_on(index));
    }

    /// Lets time pass, to one timer after the other, until these calls are over.
    fn finish(&mut self, calls: &[usize]) -> Vec<Progress> {
        while calls.iter().any(|index| self.calls[*index].running.is_some()) {
            assert!(self.waits.clock.advance_to_next_timer(), "the call would hang for ever");
            self.all_go_on();
        }
        calls.iter().map(|index| self.calls[*index].progress.clone()).collect()
    }
}

impl<R: Running> Driver for Service<R> {
    fn advance(&mut self, by: Duration) {
        self.waits.clock.advance(by);
        self.all_go_on();
    }

    fn now(&mut self) -> Duration {
        self.waits.now().since(Timestamp::ORIGIN)
    }

    fn set_answer(&mut self, instance: &str, answer: Answer) {
        self.answers.insert(instance.to_owned(), answer);
    }

    fn call(&mut self, timeout: Option<Duration>) -> Progress {
        let call = self.begin(false, timeout);
        self.finish(&[call]).remove(0)
    }

    fn callers(&mut self, callers: u32) -> Vec<Progress> {
        let calls: Vec<_> = (0..callers).map(|_| self.begin(false, None)).collect();
        self.finish(&calls)
    }

    fn hold(&mut self, call: &str) {
        let index = self.begin(true, None);
        self.held.insert(call.to_owned(), index);
    }

    fn answer(&mut self, call: &str, reply: Reply) {
        let index = self.held[call];
        self.calls[index].due = Some(self.waits.due(reply));
        self.go_on(index);
    }

    fn cancel(&mut self, call: &str, stalled: Duration) {
        self.waits.clock.advance(stalled);
        self.calls[self.held[call]].running = None;
    }

    fn progress(&mut self, call: &str) -> Progress {
        self.calls[self.held[call]].progress.clone()
    }

    fn take_sleeps(&mut self) -> Vec<Duration> {
        self.waits.take()
    }

    fn register(&mut self, instance: &ServiceInstance) {
        self.proxy.load_balancer().register(instance.clone());
    }

    fn deregister(&mut self, id: &str) {
        self.proxy.load_balancer().deregister(id);
    }

    fn mark_healthy(&mut self, id: &str, healthy: bool) {
        self.proxy.load_balancer().mark_healthy(id, healthy);
    }

    fn force_open(&mut self) {
        self.proxy.circuit_breaker().force_open();
    }

    fn force_closed(&mut self) {
        self.proxy.circuit_breaker().force_closed();
    }

    fn reset(&mut self) {
        self.proxy.circuit_breaker().reset();
    }

    fn service(&mut self) -> Reading {
        reading(&self.proxy.circuit_breaker())
    }

    fn instance(&mut self, id: &str) -> Option<Reading> {
        self.proxy.instance_circuit_breaker(id).as_ref().map(reading)
    }

    fn leased(&mut self, id: &str) -> u64 {
        let endpoints = self.proxy.load_balancer().endpoints();
        endpoints.iter().find(|endpoint| endpoint.instance.id == id).map_or(0, |endpoint| endpoint.in_flight.into())
    }

    fn take_events(&mut self) -> Vec<String> {
        let heard = self.recorder.take();
        let spoken_of =
            heard.iter().filter(|event| !matches!(event.kind, EventKind::Refused { .. } | EventKind::LateOutcome(_)));
        spoken_of.filter_map(|event| Some(format!("{}: {}", event.name, events::words(&event.kind)?))).collect()
    }
}

fn holds<R: Running>(can: &[Need], skipped: &[&str]) {
    replay(&super::open("service_proxy.toml"), can, Service::<R>::new).expect(skipped);
}

#[test]
fn the_call_machine() {
    holds::<machine::Machine>(&Need::ALL, &[]);
}

#[test]
fn the_sync_driver() {
    // A function that runs on a thread can be neither stopped when its time is up nor dropped. What this driver makes of
    // an attempt that outlasts its limit is told in its documentation, and shown beside the machine.
    let stopped_or_cancelled = [
        "one hanging instance of three trips its own breaker only, and none of sixteen callers is refused",
        "an attempt that outlasts its timeout is a failure of the instance",
        "when no attempt is left the caller is told that it timed out",
        "an attempt that ends in time is not stopped",
        "an attempt that outlasts the deadline is a failure of the instance",
        "of an attempt's timeout and the deadline the earlier one ends it",
        "an attempt that times out just before the deadline is the last",
        "held calls end when their attempts' time is up",
        "a story tells an attempt that timed out from one that failed",
        "an attempt that its caller drops is neutral and gives everything back",
        "a dropped probe gives the places of service and instance back",
        "an attempt that is dropped after it has outlived its timeout is a failure",
        "an untried instance hides an attempt that is dropped after it has outlived its timeout",
    ];
    holds::<threads::Thread>(&[Need::Overlap, Need::Panic], &stopped_or_cancelled);
}

#[test]
fn the_async_driver() {
    holds::<futures::Polled>(&Need::ALL, &[]);
}

#[cfg(feature = "tower")]
#[test]
fn the_tower_driver() {
    holds::<tower::Layered>(&Need::ALL, &[]);
}
