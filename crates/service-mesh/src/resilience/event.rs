//! What is told to listeners, and how: after every lock is released, in the order in which it happened.
//!
//! An [`Announcer`] is a queue and at most one deliverer. Whoever changes something puts the event in the queue while
//! it still holds the lock that orders the change, releases that lock, and then delivers. If somebody is delivering
//! already, be it a listener further up the stack that called back, that one will deliver this event too. So the
//! order is kept, and a listener may call whatever it likes.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::{RefusalReason, Transition};

use super::outcome::Outcome;
use super::retry::{GivenUp, RetryCause};
use super::service_proxy::Story;
use super::sync::Mutex;

/// Something that happened, and to whom.
#[derive(Clone, Debug)]
pub struct Event {
    /// The circuit or the service.
    pub name: Arc<str>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// The circuit changed its state.
    Transition(Transition),
    /// The circuit refused a call.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// When a call may be admitted, if anybody can know.
        retry_after: Option<Duration>,
    },
    /// A verdict came after the state that it belonged to had ended: it was not counted.
    LateOutcome(Outcome),
    /// All places were taken by probes that never came back; they no longer count.
    ProbesWrittenOff {
        /// How many.
        probes: u32,
    },
    /// The circuit should have tripped, but too large a share of the service's instances is ejected already.
    EjectionCapped,
    /// A call of the service will be tried again.
    Retry {
        /// The attempts so far.
        attempts: u32,
        /// The id of the instance of the last of them.
        instance: String,
        /// What came of it.
        cause: RetryCause,
        /// The wait before the next.
        after: Duration,
    },
    /// A call of the service would have been tried again, but there is no time for it: the deadline is too near, or the
    /// wait that was asked for too long. That all retries are used up is no event, and a spent budget is
    /// [`BudgetExhausted`](Self::BudgetExhausted).
    GivenUp {
        /// The attempts so far.
        attempts: u32,
        /// The id of the instance of the last of them.
        instance: String,
        /// What came of it.
        cause: RetryCause,
        /// Why there is no other.
        reason: GivenUp,
    },
    /// A call of the service would have been tried again, but the budget is spent.
    BudgetExhausted,
    /// The story of a call, for those that were drawn by `explain_ratio`.
    Story(Arc<Story>),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match &self.kind {
            EventKind::Transition(transition) => transition.fmt(f),
            EventKind::Refused { reason, retry_after: Some(wait) } => {
                write!(f, "refused a call ({reason}), retry after {wait:?}")
            }
            EventKind::Refused { reason, retry_after: None } => write!(f, "refused a call ({reason})"),
            EventKind::LateOutcome(outcome) => write!(f, "a late {} was not counted", outcome.as_str()),
            EventKind::ProbesWrittenOff { probes } => write!(f, "{probes} hung probes were written off"),
            EventKind::EjectionCapped => f.write_str("stays in rotation: max_ejected_ratio is reached"),
            EventKind::Retry { attempts, instance, cause, after } => {
                write!(f, "{instance} {cause}: retry in {after:?} after attempt {attempts}")
            }
            EventKind::GivenUp { attempts, instance, cause, reason } => {
                write!(f, "{instance} {cause}: given up after attempt {attempts}, {reason}")
            }
            EventKind::BudgetExhausted => f.write_str("no retry: the budget is spent"),
            EventKind::Story(story) => story.fmt(f),
        }
    }
}

/// Hears events. A closure `Fn(&Event)` is one.
///
/// It runs on the thread that caused the event, or on one that is delivering earlier events, with no lock held: it may
/// call the breaker back. A panic in it is caught and dropped. Events of one service arrive in order, one at a time. A
/// caller waits for it: what takes long belongs on a channel.
pub trait Listener: Send + Sync {
    /// Something happened.
    fn on_event(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Listener for F {
    fn on_event(&self, event: &Event) {
        self(event);
    }
}

/// A queue of events, its listeners, and at most one deliverer. Where nobody listens there is none.
#[derive(Default)]
pub(crate) struct Announcer {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Event>,
    listeners: Vec<Arc<dyn Listener>>,
    delivering: bool,
}

impl Announcer {
    pub(crate) fn subscribe(&self, listener: Arc<dyn Listener>) {
        self.queue.lock().listeners.push(listener);
    }

    /// Passes everything on to another announcer as well.
    pub(crate) fn forward(&self, to: Arc<Self>) {
        self.subscribe(Arc::new(move |event: &Event| {
            to.announce(event.clone());
            to.deliver();
        }));
    }

    /// Puts an event in the queue. To be called under the lock that orders it, if there is one.
    pub(crate) fn announce(&self, event: Event) {
        self.queue.lock().pending.push_back(event);
    }

    /// Delivers what is in the queue, unless somebody is at it. To be called without any lock.
    pub(crate) fn deliver(&self) {
        let mut queue = self.queue.lock();
        if std::mem::replace(&mut queue.delivering, true) {
            return;
        }
        while let Some(event) = queue.pending.pop_front() {
            let listeners = queue.listeners.clone();
            drop(queue);
            for listener in listeners {
                // A listener's panic is its own: the call that caused the event has done nothing wrong.
                drop(catch_unwind(AssertUnwindSafe(|| listener.on_event(&event))));
            }
            queue = self.queue.lock();
        }
        queue.delivering = false;
    }
}

impl fmt::Debug for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcer").finish_non_exhaustive()
    }
}
