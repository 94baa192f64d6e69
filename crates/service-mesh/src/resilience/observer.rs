//! Who watches the calls of a service: each attempt and each call, with what came of it and how long it took.
//!
//! Events tell what seldom happens; they are queued and kept in order. What happens on every call would not bear that, so
//! it is told at once, on the caller's thread and in no order between threads. Metrics, traces and a sidecar's own
//! counters all stand on this one point. Where nobody watches, no clock is read for it and nothing is kept: the calls that
//! are watched carry what they need in their baggage, which other calls do not have.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::ServiceInstance;

use super::outcome::Outcome;
use super::retry::{GivenUp, RetryCause};
use super::service_proxy::Ending;

/// Watches the calls of a service. Attach it with [`ServiceProxy::observe`](crate::ServiceProxy::observe) or
/// [`ServiceProxyBuilder::observer`](crate::ServiceProxyBuilder::observer).
///
/// It runs on the caller's thread with no lock held, after the attempt has given everything back, and the caller waits
/// for it. Threads run it at the same time. A panic in it is caught and dropped.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use service_mesh::{AttemptReport, Observer, ServiceInstance, ServiceProxy};
///
/// #[derive(Clone, Default)]
/// struct Asked(Arc<Mutex<Vec<String>>>);
///
/// impl Observer for Asked {
///     fn attempt_ended(&self, attempt: &AttemptReport<'_>) {
///         self.0.lock().unwrap().push(format!("{}: {}", attempt.instance.id, attempt.outcome.as_str()));
///     }
/// }
///
/// let asked = Asked::default();
/// let payments = ServiceProxy::builder("payments").observer(asked.clone()).build();
/// payments.load_balancer().register(ServiceInstance::new("a", "10.0.0.1", 80));
/// assert_eq!(payments.call(|_| Ok::<_, std::io::Error>("paid")).unwrap(), "paid");
/// assert_eq!(*asked.0.lock().unwrap(), ["a: success"]);
/// ```
pub trait Observer: Send + Sync {
    /// An attempt came to its end: it was settled, its function panicked, or it was dropped.
    fn attempt_ended(&self, attempt: &AttemptReport<'_>) {
        let _ = attempt;
    }

    /// A call came to its end, whichever.
    fn call_ended(&self, call: &CallReport<'_>) {
        let _ = call;
    }

    /// A call of `service` begins. For those who must keep something of their own for each call, or be around the
    /// user's code while it runs. Default: nothing is kept.
    fn scope(&self, service: &Arc<str>) -> Option<Box<dyn Scope>> {
        let _ = service;
        None
    }
}

/// What an [`Observer`] keeps of one call, from its begin to its end.
///
/// A panic in it is caught and dropped, as the observer's is.
pub trait Scope: Send + Sync {
    /// An attempt begins.
    fn attempt_began(&mut self, instance: &ServiceInstance, number: u32);

    /// The user's code begins to run on this thread: the function, or one poll of the attempt's future. Met by one
    /// [`exit`](Self::exit) on the same thread, also if the code panics.
    fn enter(&self);

    /// The user's code has stopped running on this thread.
    fn exit(&self);

    /// The attempt has ended.
    fn attempt_ended(&mut self, attempt: &AttemptReport<'_>);

    /// The call has ended; nothing follows.
    fn call_ended(&mut self, call: &CallReport<'_>);
}

/// One attempt that has ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AttemptReport<'a> {
    /// The name of the service.
    pub service: &'a Arc<str>,
    /// The instance that was asked.
    pub instance: &'a ServiceInstance,
    /// Which attempt of its call this was, counted from 1.
    pub number: u32,
    /// What the instance's circuit was told. Neutral too for an attempt that was dropped.
    pub outcome: Outcome,
    /// Whether it outlasted its time limit, which makes a failure of it.
    pub timed_out: bool,
    /// From the pick of the instance to the verdict.
    pub took: Duration,
    /// The wait before the next attempt; none if there is to be no other.
    pub retry_after: Option<Duration>,
}

/// One call that has ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallReport<'a> {
    /// The name of the service.
    pub service: &'a Arc<str>,
    /// The instance of the last attempt; none if there was no attempt.
    pub instance: Option<&'a ServiceInstance>,
    /// The attempts that were made.
    pub attempts: u32,
    /// How it ended.
    pub ending: &'a Ending,
    /// Why it was not tried again; none where that was never the question: after a plain success, where it was refused,
    /// or where nobody waited for it any more.
    pub given_up: Option<GivenUp>,
    /// What came of it: the outcome of the result that was returned, or of the attempt that was stopped (a failure)
    /// or dropped (a panic is a failure, a loss of interest is neutral). Neutral if the call was refused or dropped
    /// between two attempts.
    pub outcome: Outcome,
    /// From its begin to its end, waits included.
    pub took: Duration,
}

impl AttemptReport<'_> {
    /// What came of it, where a timeout is told from any other failure.
    pub fn cause(&self) -> RetryCause {
        RetryCause::new(self.outcome, self.timed_out)
    }
}

impl CallReport<'_> {
    /// One word for how the call ended, for a metric's label: `success`, `failure`, `neutral`; and of those that were
    /// refused `circuit_open`, `no_healthy_instance`, `deadline_exceeded`. One whose time was up while an attempt ran is
    /// a `failure`: it was tried.
    pub fn outcome_word(&self) -> &'static str {
        match self.ending {
            Ending::Refused(kind) => kind.as_str(),
            Ending::Returned(_) | Ending::TimedOut(_) | Ending::Abandoned => self.outcome.as_str(),
        }
    }
}

/// All who watch the calls of one service. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Observers(Option<Arc<[Arc<dyn Observer>]>>);

impl Observers {
    pub(crate) fn add(&mut self, observer: Arc<dyn Observer>) {
        self.0 = Some(self.iter().cloned().chain([observer]).collect());
    }

    pub(crate) fn are_none(&self) -> bool {
        self.0.is_none()
    }

    /// What they keep of a call that begins.
    pub(crate) fn scopes(&self, service: &Arc<str>) -> Vec<Box<dyn Scope>> {
        self.iter().filter_map(|observer| harmless(|| observer.scope(service)).flatten()).collect()
    }

    pub(crate) fn attempt_ended(&self, attempt: &AttemptReport<'_>) {
        for observer in self.iter() {
            harmless(|| observer.attempt_ended(attempt));
        }
    }

    pub(crate) fn call_ended(&self, call: &CallReport<'_>) {
        for observer in self.iter() {
            harmless(|| observer.call_ended(call));
        }
    }

    fn iter(&self) -> std::slice::Iter<'_, Arc<dyn Observer>> {
        self.0.as_deref().unwrap_or_default().iter()
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observers").field(&self.iter().len()).finish()
    }
}

/// Runs an observer's code. Its panic is its own: the call that it watches has done nothing wrong, and may be unwinding.
pub(crate) fn harmless<R>(code: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(code)).ok()
}
