//! The call machine: `Call → Attempt → Verdict`. It decides, the driver acts.
//!
//! ```text
//!            admit()                          settle(answer)
//!  Call ────────────────▶ Attempt ───────────────────────────▶ Verdict::Return
//!    ▲  │                    │ dropped: cancelled, given back   ├─▶ Verdict::Refused
//!    │  └▶ Refused           ▼                                  │
//!    └──────────────────────────────────────────────────────────┴─▶ Verdict::Retry { after, call }
//! ```
//!
//! A typestate, not an enumeration of steps: no driver has a case that cannot happen. The machine does no I/O, sleeps
//! nowhere and knows no runtime, so that all of it is tested on a manual clock.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::{NoHealthyInstanceError, ServiceInstance};

use super::ServiceProxy;
use super::explain::{Ending, Telling};
use super::hold::Hold;
use super::roster::{Nobody, Roster};
use super::target::Target;
use crate::environment::{Environment, Moment};
use crate::resilience::call_error::CallErrorKind;
use crate::resilience::clock::Timestamp;
use crate::resilience::event::EventKind;
use crate::resilience::load_balancer::EndpointKey;
use crate::resilience::outcome::{Answer, Outcome};
use crate::resilience::retry::Retries;
use crate::resilience::sync::Loaded;

/// A call between its attempts. `P` is how it holds its proxy: by reference, or as a handle of its own.
#[derive(Debug)]
#[must_use = "a call does nothing until it is admitted"]
pub struct Call<P: Borrow<ServiceProxy>> {
    history: History<P>,
    roster: Loaded<Roster>,
}

/// What a call carries from one attempt to the next.
#[derive(Debug)]
struct History<P> {
    proxy: P,
    deadline: Option<Timestamp>,
    attempts: u32,
    retries: Retries,
    tried: Vec<EndpointKey>,
    telling: Option<Box<Telling>>,
}

/// One try at one instance, with leave of its circuit and of the service's.
///
/// [`settle`](Self::settle) it with what came of it. Dropped before, it was cancelled: everything is given back and
/// nothing counted, unless it had outlived its time limit already, which is a failure of the instance.
#[derive(Debug)]
#[must_use = "an attempt that is dropped at once was cancelled"]
pub struct Attempt<P: Borrow<ServiceProxy>> {
    history: History<P>,
    hold: Hold,
}

/// What comes after an attempt.
#[derive(Debug)]
#[must_use = "the verdict says what to do next"]
pub enum Verdict<P: Borrow<ServiceProxy>> {
    /// Its result is the call's.
    Return,
    /// The next attempt is bound to be refused: nobody waits for that.
    Refused(Refused),
    /// Wait, and then admit the next attempt.
    Retry {
        /// How long to wait.
        after: Duration,
        /// The call, ready to be admitted.
        call: Call<P>,
    },
}

/// A call that ends without a result of its own.
#[derive(Clone, Debug)]
pub struct Refused {
    kind: CallErrorKind,
    attempts: u32,
}

impl Refused {
    /// Why.
    pub fn kind(&self) -> &CallErrorKind {
        &self.kind
    }

    /// Why, by value.
    pub fn into_kind(self) -> CallErrorKind {
        self.kind
    }

    /// The attempts that were made before.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

impl<P: Borrow<ServiceProxy>> Call<P> {
    #[inline]
    pub(super) fn new(
        proxy: P,
        roster: Loaded<Roster>,
        timeout: Option<Duration>,
        telling: Option<Box<Telling>>,
    ) -> Self {
        let timeout = timeout.or_else(|| roster.settings.config.call_timeout());
        let deadline = timeout.map(|timeout| roster.settings.environment.now().after(timeout));
        let history = History { proxy, deadline, attempts: 0, retries: Retries::default(), tried: Vec::new(), telling };
        Self { history, roster }
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.roster.settings.environment
    }

    /// Chooses an instance for the next attempt and takes leave of the circuits. Never waits.
    ///
    /// # Errors
    /// The deadline has passed, no instance is healthy, or the circuit of the service or those of all its instances
    /// refuse.
    #[inline]
    pub fn admit(self) -> Result<Attempt<P>, Refused> {
        let Self { mut history, mut roster } = self;
        history.proxy.borrow().refresh(&mut roster);
        let mut moment = roster.moment();
        if history.deadline.is_some_and(|deadline| deadline <= moment.now()) {
            return Err(history.refused(CallErrorKind::DeadlineExceeded, &mut moment));
        }
        let service = match roster.service.admit(&mut moment) {
            Ok(ticket) => ticket,
            Err(refusal) => {
                roster.service.announce_refusal(refusal);
                let refusal = roster.refusal(Some(refusal), &mut moment);
                return Err(history.refused(CallErrorKind::CircuitOpen(refusal), &mut moment));
            }
        };
        let passed_over = history.telling.as_mut().map(|telling| telling.begin_attempt(&mut moment));
        let choice = match roster.choose(&history.tried, passed_over, &mut moment) {
            Ok(choice) => choice,
            Err(nobody) => {
                roster.service.conclude(service, Outcome::Neutral, &mut moment);
                return Err(history.refused(nobody.tell(&roster, &mut moment), &mut moment));
            }
        };
        history.count_attempt(&roster);
        let timeout = roster.settings.config.attempt_timeout().map(|timeout| moment.now().after(timeout));
        let limit = match (timeout, history.deadline) {
            (Some(timeout), Some(deadline)) => Some(timeout.min(deadline)),
            (timeout, deadline) => timeout.or(deadline),
        };
        let tried = std::mem::take(&mut history.tried);
        let hold = Hold::new(roster, choice, service, limit, tried);
        if let Some(telling) = &mut history.telling {
            telling.chosen(hold.instance());
        }
        Ok(Attempt { history, hold })
    }
}

impl Nobody {
    #[cold]
    fn tell(self, roster: &Roster, moment: &mut Moment) -> CallErrorKind {
        match self {
            Self::Healthy => {
                CallErrorKind::NoHealthyInstance(NoHealthyInstanceError::new(Arc::clone(&roster.settings.name)))
            }
            Self::Admitted => CallErrorKind::CircuitOpen(roster.refusal(None, moment)),
        }
    }
}

impl<P: Borrow<ServiceProxy>> Attempt<P> {
    /// The instance to call.
    #[inline]
    pub fn instance(&self) -> &ServiceInstance {
        self.hold.instance()
    }

    /// What it tells, for those who cannot borrow it.
    pub fn target(&self) -> Target {
        let limit = self.hold.limit.map(|limit| (limit, self.environment().clone()));
        Target { instance: Arc::clone(self.hold.instance()), number: self.number(), limit }
    }

    /// Which attempt of its call this is, counted from 1.
    #[inline]
    pub fn number(&self) -> u32 {
        self.history.attempts
    }

    /// How long it may still take, by its own limit and the call's deadline; none without either. The driver enforces
    /// it where it can; a server may be told.
    pub fn time_left(&self) -> Option<Duration> {
        self.hold.limit.map(|limit| limit.since(self.environment().now()))
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.hold.roster.settings.environment
    }

    /// What its time limit is, once that has passed: the call's deadline, or the attempt's own.
    pub(crate) fn timed_out(&self) -> CallErrorKind {
        let by_deadline = self.history.deadline.is_some() && self.hold.limit == self.history.deadline;
        if by_deadline { CallErrorKind::DeadlineExceeded } else { CallErrorKind::AttemptTimedOut }
    }

    /// Runs the user's code: if it panics, that is a failure of the instance. A panic anywhere else is none.
    #[inline]
    pub(crate) fn run<R>(&mut self, f: impl FnOnce(&Self) -> R) -> R {
        self.hold.arm();
        let result = f(self);
        self.hold.disarm();
        result
    }

    /// Takes what came of the attempt, and says what to do next.
    ///
    /// The instance's circuit judges every attempt. The service's circuit hears of a failure only where failover could
    /// not hide it: if an instance that this call has not tried would admit the next attempt, it hears nothing.
    #[inline]
    pub fn settle(self, answer: Answer) -> Verdict<P> {
        let mut moment = self.hold.roster.moment();
        let outcome = self.hold.outcome(answer.outcome(), &mut moment);
        if outcome == Outcome::Success && !answer.is_retryable() && self.history.telling.is_none() {
            self.hold.succeed(&mut moment);
            return Verdict::Return;
        }
        self.settle_otherwise(answer, outcome, moment)
    }

    /// Whatever is not a plain success of which nobody wants to be told.
    #[cold]
    fn settle_otherwise(self, answer: Answer, outcome: Outcome, mut moment: Moment) -> Verdict<P> {
        let Self { mut history, hold } = self;
        // Who is there now, not who was there when somebody asked last: an instance may have left while this one failed.
        let roster = history.proxy.borrow().fresh_roster();
        history.tried = hold.conclude(outcome, &roster, &mut moment);
        if let Some(telling) = &mut history.telling {
            telling.settled(outcome, &mut moment);
        }
        match history.next(&roster, answer, &mut moment) {
            Next::Return => {
                if let Some(telling) = &mut history.telling {
                    telling.end(Ending::Returned(outcome), &mut moment);
                }
                Verdict::Return
            }
            Next::Refused(kind) => Verdict::Refused(history.refused(kind, &mut moment)),
            Next::Retry(after) => Verdict::Retry { after, call: Call { history, roster } },
        }
    }
}

/// What comes after a result that may not be the last.
enum Next {
    Return,
    Refused(CallErrorKind),
    Retry(Duration),
}

impl<P: Borrow<ServiceProxy>> History<P> {
    /// Whether there is another attempt, asked in this order: may this be tried again, is there time, would anybody admit it, is there budget.
    /// The budget comes last, since what it gives is not given back.
    fn next(&mut self, roster: &Roster, answer: Answer, moment: &mut Moment) -> Next {
        let policy = &roster.settings.retry;
        let time_left = self.deadline.map(|deadline| deadline.since(moment.now()));
        let Ok(retry) = policy.plan(self.retries, &answer, time_left) else { return Next::Return };
        if let Some(refusal) = roster.refusal_at(moment.now().after(retry.wait), moment) {
            return Next::Refused(CallErrorKind::CircuitOpen(refusal));
        }
        let proxy = self.proxy.borrow();
        if policy.charge().is_err() {
            proxy.announce(|| EventKind::BudgetExhausted);
            return Next::Return;
        }
        self.retries = retry.then;
        proxy.announce(|| EventKind::Retry { attempts: self.attempts, after: retry.wait });
        Next::Retry(retry.wait)
    }
}

impl<P> History<P> {
    /// An attempt begins. The first one counts the call, which earns its share of the budget.
    #[inline]
    fn count_attempt(&mut self, roster: &Roster) {
        if self.attempts == 0 {
            roster.settings.retry.begin();
        }
        self.attempts += 1;
    }

    #[cold]
    fn refused(&mut self, kind: CallErrorKind, moment: &mut Moment) -> Refused {
        if let Some(telling) = &mut self.telling {
            telling.end(Ending::Refused(kind.clone()), moment);
        }
        Refused { kind, attempts: self.attempts }
    }
}
