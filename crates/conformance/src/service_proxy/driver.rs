//! What a driver must be able to do, and what it tells of a call.

use std::time::Duration;

use service_mesh_models::ServiceInstance;

use crate::circuit_breaker::Reading;
use crate::reply::{Refusal, Reply, ReplyKind};

/// A service proxy under test, on a clock of its own.
///
/// The clock moves where the driver is told to [advance](Self::advance) it, where a function takes time or hangs until
/// its time is up, and where a call waits before a retry. The classifier makes of every [`ReplyKind`] what is said there.
pub trait Driver {
    /// Moves the clock; held calls whose time is thereby up go on as far as they can.
    fn advance(&mut self, by: Duration);
    /// The present time, since whatever origin.
    fn now(&mut self) -> Duration;
    /// From now on the instance answers so, except to held calls.
    fn set_answer(&mut self, instance: &str, answer: Answer);
    /// Makes one call from begin to end, which may take no longer than its own timeout, where it has one.
    fn call(&mut self, timeout: Option<Duration>) -> Progress;
    /// Begins so many calls, one after the other, each as far as it goes without time passing; then lets time pass, to
    /// one timer after the other, until all are over. In the order in which they began.
    fn callers(&mut self, callers: u32) -> Vec<Progress>;
    /// Begins a call whose attempts do not answer before they are told to. It is in its first attempt then, or refused.
    fn hold(&mut self, call: &str);
    /// Lets the attempt of a held call answer; the call goes on, until its next attempt or to its end.
    fn answer(&mut self, call: &str, reply: Reply);
    /// Lets time pass in which nobody runs the held call, so that no timer of its own is seen, and drops it then.
    fn cancel(&mut self, call: &str, stalled: Duration);
    /// How far a held call has come.
    fn progress(&mut self, call: &str) -> Progress;
    /// The waits before retries since it was asked last, in order; waits of zero and timers of timeouts are left out.
    fn take_sleeps(&mut self) -> Vec<Duration>;
    /// Registers an instance.
    fn register(&mut self, instance: &ServiceInstance);
    /// Takes an instance out.
    fn deregister(&mut self, id: &str);
    /// Marks an instance.
    fn mark_healthy(&mut self, id: &str, healthy: bool);
    /// Forces the service's breaker open.
    fn force_open(&mut self);
    /// Forces the service's breaker closed.
    fn force_closed(&mut self);
    /// Resets the service's breaker.
    fn reset(&mut self);
    /// What the service's breaker tells.
    fn service(&mut self) -> Reading;
    /// What the breaker of an instance tells; none if there is no such instance, or it has none.
    fn instance(&mut self, id: &str) -> Option<Reading>;
    /// How many connections to a registered instance are leased.
    fn leased(&mut self, id: &str) -> u64;
    /// What a listener heard since it was asked last: changes of state in the words of
    /// [`transition_words`](crate::transition_words), write-offs in those of
    /// [`probes_written_off_words`](crate::probes_written_off_words), retries in those of
    /// [`retry_words`](crate::retry_words), what was given up for lack of time in those of
    /// [`given_up_words`](crate::given_up_words), and `ejection_capped` and `budget_exhausted`, each after the name of whom
    /// it befell, as in `api/a: ejection_capped`. The rest is left out.
    fn take_events(&mut self) -> Vec<String>;
}

/// How an instance answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With this.
    Reply(Reply),
    /// Never.
    Hang,
}

/// How far a call has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The instance of each attempt so far.
    pub tried: Vec<String>,
    /// How it ended, if it has.
    pub ended: Option<Ended>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What its caller got.
    pub came_back: CameBack,
    /// The last failure of this call that a refusal carries along.
    pub cause: Option<ReplyKind>,
    /// The number of attempts, where it is told beside the result.
    pub attempts: Option<u32>,
    /// What its story tells, where one was [asked for](super::Given::explained) and the driver has it.
    pub story: Option<Told>,
}

/// What the story of a call tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What came of each attempt: `success`, `failure`, `neutral` or `timed_out`; `-` if it was cancelled.
    pub outcomes: Vec<String>,
    /// Why there was no other attempt: `not_retryable`, `retries_spent`, `retry_after_too_long`, `past_deadline` or
    /// `budget_spent`.
    pub given_up: Option<String>,
}

/// What the caller of a proxy got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameBack {
    /// What the last attempt answered.
    Replied(ReplyKind),
    /// `CircuitOpenError`.
    CircuitOpen {
        /// Whose circuit, by the error's name.
        name: String,
        /// Why, and when to come back.
        refusal: Refusal,
    },
    /// `NoHealthyInstanceError`.
    NoHealthyInstance,
    /// The call's time was up.
    DeadlineExceeded,
    /// The last attempt's time was up.
    AttemptTimedOut,
}

impl CameBack {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Replied(kind) => kind.as_str(),
            Self::CircuitOpen { .. } => "circuit_open",
            Self::NoHealthyInstance => "no_healthy_instance",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::AttemptTimedOut => "attempt_timed_out",
        }
    }
}
