//! The circuit breaker: its permits, and the drivers.

mod futures;
mod permits;
mod threads;
#[cfg(feature = "tower")]
mod tower;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use service_mesh::testing::{ManualClock, Recorder};
use service_mesh::{
    CallError, CallErrorKind, CircuitBreaker, CircuitBreakerConfig, CircuitState, Environment, Event, EventKind,
    TransitionReason,
};
use service_mesh_conformance::circuit_breaker::{Called, CameBack, Driver, Given, ListenerKind, Reading, replay};
use service_mesh_conformance::{Need, Refusal, ReplyKind};

use super::events;
use super::replies::{Replied, Returned};

/// A call whose function runs. Dropped, it is cancelled.
trait Running: Sized {
    /// Begins a call. Its function runs when this returns, and has read the state of the breaker; or it was refused.
    fn begin(breaker: &CircuitBreaker) -> Result<(Self, CircuitState), Refusal>;
    /// The function answers, and this is what its caller gets.
    fn end(self, reply: ReplyKind) -> CameBack;
}

/// What a driver's caller got.
fn came_back(result: thread::Result<Result<Replied, CallError<Replied>>>) -> CameBack {
    match result {
        Ok(Ok(value)) => CameBack::Replied(value.kind()),
        Ok(Err(error)) => match (error.kind(), error.last()) {
            (CallErrorKind::Failed, Some(last)) => CameBack::Replied(last.kind()),
            (CallErrorKind::CircuitOpen(refusal), None) => {
                CameBack::Refused(Refusal { reason: refusal.reason(), retry_after: refusal.retry_after() })
            }
            _ => panic!("no end for the call of a breaker: {error:?}"),
        },
        Err(payload) => CameBack::Replied(Replied::caught(payload).kind()),
    }
}

/// A call that ended before anybody let its function answer.
fn refused(came_back: CameBack) -> Refusal {
    match came_back {
        CameBack::Refused(refusal) => refusal,
        CameBack::Replied(kind) => panic!("{kind:?} came back from a function that did not run"),
    }
}

fn answer(reply: ReplyKind) -> Returned {
    Replied::once(service_mesh_conformance::Reply::at_once(reply)).answer()
}

pub(super) fn reading(breaker: &CircuitBreaker) -> Reading {
    Reading {
        state: breaker.state(),
        failure_count: breaker.failure_count().into(),
        success_count: breaker.success_count().into(),
        half_open_calls: breaker.half_open_calls().into(),
        late_outcomes: breaker.late_outcomes(),
    }
}

struct Circuit<R> {
    clock: ManualClock,
    breaker: CircuitBreaker,
    recorder: Recorder,
    held: BTreeMap<String, R>,
}

impl<R> Circuit<R> {
    fn new(given: &Given<'_>) -> Self {
        let (clock, recorder) = (ManualClock::new(), Recorder::new());
        let breaker =
            CircuitBreaker::builder("b").config(given.config.clone()).environment(Environment::manual(&clock)).build();
        match given.listener {
            Some(ListenerKind::Panics) => breaker.subscribe(|_: &Event| resume_unwind(Box::new("a listener"))),
            Some(ListenerKind::Resets) => {
                let same = breaker.clone();
                breaker.subscribe(move |event: &Event| match &event.kind {
                    EventKind::Transition(change) if matches!(change.reason, TransitionReason::Tripped(_)) => {
                        same.reset();
                    }
                    _ => {}
                });
            }
            None => {}
        }
        breaker.subscribe(recorder.clone());
        Self { clock, breaker, recorder, held: BTreeMap::new() }
    }

    fn take(&mut self, call: &str) -> R {
        self.held.remove(call).expect("a scenario ends what it holds")
    }
}

impl<R: Running> Driver for Circuit<R> {
    fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    fn call(&mut self, reply: ReplyKind, takes: Duration) -> Called {
        match R::begin(&self.breaker) {
            Ok((running, state)) => {
                self.clock.advance(takes);
                Called { state_during: Some(state), came_back: running.end(reply) }
            }
            Err(refusal) => Called { state_during: None, came_back: CameBack::Refused(refusal) },
        }
    }

    fn hold(&mut self, call: &str) -> Result<(), Refusal> {
        let (running, _) = R::begin(&self.breaker)?;
        self.held.insert(call.to_owned(), running);
        Ok(())
    }

    fn end(&mut self, call: &str, reply: ReplyKind) -> CameBack {
        self.take(call).end(reply)
    }

    fn cancel(&mut self, call: &str) {
        drop(self.take(call));
    }

    fn can_execute(&mut self) -> bool {
        self.breaker.can_execute()
    }

    fn record(&mut self, success: bool) {
        if success { self.breaker.record_success() } else { self.breaker.record_failure() }
    }

    fn force_open(&mut self) {
        self.breaker.force_open();
    }

    fn force_closed(&mut self) {
        self.breaker.force_closed();
    }

    fn reset(&mut self) {
        self.breaker.reset();
    }

    fn update_config(&mut self, config: &CircuitBreakerConfig) {
        self.breaker.update_config(config.clone());
    }

    fn reading(&mut self) -> Reading {
        reading(&self.breaker)
    }

    fn take_events(&mut self) -> Vec<String> {
        self.recorder.take().iter().filter_map(|event| events::words(&event.kind)).collect()
    }
}

/// Both files, with the scenarios of each that are skipped.
fn holds<R: Running>(can: &[Need], skipped: &[&str]) {
    replay(&super::open("circuit_breaker.toml"), can, Circuit::<R>::new).expect(skipped);
    replay(&super::open("windows.toml"), can, Circuit::<R>::new).expect(&[]);
}

#[test]
fn permits() {
    holds::<permits::Permit>(&Need::ALL, &[]);
}

#[test]
fn the_sync_driver() {
    // A function that runs on a thread cannot be dropped: only a permit or a future can be cancelled.
    let cancelled = [
        "a cancelled probe gives its place back and counts nothing",
        "a cancelled call neither counts nor clears the row",
        "a probe that was written off takes no place with it when it goes",
        "what ends late without a verdict is not counted as late",
    ];
    holds::<threads::Thread>(&[Need::Overlap, Need::Panic], &cancelled);
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
