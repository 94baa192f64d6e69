//! What every peer has in common, as a driver of the scenarios.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use service_mesh::{CircuitBreakerConfig, CircuitState, RefusalReason};
use service_mesh_conformance::circuit_breaker::{Called, CameBack, Driver, Reading};
use service_mesh_conformance::{Refusal, ReplyKind};

use crate::clock;

/// What a call comes to: what the function answered, or none if it was refused.
pub(crate) type Ending = Pin<Box<dyn Future<Output = Option<ReplyKind>>>>;

/// A breaker of whatever make.
pub(crate) trait Breaker {
    /// Calls a function, which is a failure where [`is_failure`] says so.
    fn call(&mut self, function: Function) -> Ending;
    /// The state, for those that tell it.
    fn state(&self) -> Option<CircuitState>;
}

/// No peer knows an outcome that is neither success nor failure; an error that it is told to ignore is a success.
pub(crate) fn is_failure(reply: ReplyKind) -> bool {
    matches!(reply, ReplyKind::Error | ReplyKind::Fatal)
}

/// A function that runs until it is told its answer.
#[derive(Clone, Default)]
pub(crate) struct Function(Arc<Mutex<Option<ReplyKind>>>);

impl Function {
    fn answer(&self, reply: ReplyKind) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
    }
}

impl Future for Function {
    type Output = Result<ReplyKind, ReplyKind>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(ReplyKind::Ok) => Poll::Ready(Ok(ReplyKind::Ok)),
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}

/// A call whose function runs.
struct Running {
    function: Function,
    ending: Ending,
}

impl Running {
    fn begin(breaker: &mut dyn Breaker) -> Option<Self> {
        let function = Function::default();
        let mut ending = breaker.call(function.clone());
        match poll(&mut ending) {
            Poll::Pending => Some(Self { function, ending }),
            Poll::Ready(_) => None,
        }
    }

    fn end(mut self, reply: ReplyKind) -> CameBack {
        self.function.answer(reply);
        match poll(&mut self.ending) {
            Poll::Ready(Some(got)) => CameBack::Replied(got),
            Poll::Ready(None) | Poll::Pending => panic!("a function answered, and its caller did not get it"),
        }
    }
}

fn poll(ending: &mut Ending) -> Poll<Option<ReplyKind>> {
    ending.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// No peer tells why it refuses, nor when to come back.
const REFUSED: Refusal = Refusal { reason: RefusalReason::Open, retry_after: None };

/// A breaker, and the calls that it admitted.
pub(crate) struct Circuit {
    breaker: Box<dyn Breaker>,
    held: BTreeMap<String, Running>,
}

impl Circuit {
    pub(crate) fn new(breaker: Box<dyn Breaker>) -> Self {
        Self { breaker, held: BTreeMap::new() }
    }

    fn take(&mut self, call: &str) -> Running {
        self.held.remove(call).expect("a scenario ends what it holds")
    }
}

impl Driver for Circuit {
    fn advance(&mut self, by: Duration) {
        clock::advance(by);
    }

    fn call(&mut self, reply: ReplyKind, takes: Duration) -> Called {
        match Running::begin(&mut *self.breaker) {
            Some(running) => {
                let state_during = Some(self.breaker.state().unwrap_or(CircuitState::Closed));
                clock::advance(takes);
                Called { state_during, came_back: running.end(reply) }
            }
            None => Called { state_during: None, came_back: CameBack::Refused(REFUSED) },
        }
    }

    fn hold(&mut self, call: &str) -> Result<(), Refusal> {
        let running = Running::begin(&mut *self.breaker).ok_or(REFUSED)?;
        self.held.insert(call.to_owned(), running);
        Ok(())
    }

    fn end(&mut self, call: &str, reply: ReplyKind) -> CameBack {
        self.take(call).end(reply)
    }

    fn cancel(&mut self, call: &str) {
        drop(self.take(call));
    }

    fn reading(&mut self) -> Reading {
        let state = self.breaker.state().unwrap_or(CircuitState::Closed);
        Reading { state, failure_count: 0, success_count: 0, half_open_calls: 0, late_outcomes: 0 }
    }

    fn take_events(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn can_execute(&mut self) -> bool {
        unreachable!("{LEFT_OUT}")
    }

    fn record(&mut self, _: bool) {
        unreachable!("{LEFT_OUT}")
    }

    fn force_open(&mut self) {
        unreachable!("{LEFT_OUT}")
    }

    fn force_closed(&mut self) {
        unreachable!("{LEFT_OUT}")
    }

    fn reset(&mut self) {
        unreachable!("{LEFT_OUT}")
    }

    fn update_config(&mut self, _: &CircuitBreakerConfig) {
        unreachable!("{LEFT_OUT}")
    }
}

const LEFT_OUT: &str = "scenarios with this action are left out";
