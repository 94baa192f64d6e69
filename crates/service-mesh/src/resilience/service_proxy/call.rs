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

use std::any::Any;
use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::{NoHealthyInstanceError, ServiceInstance};

use super::ServiceProxy;
use super::explain::Ending;
use super::hold::{Baggage, Hold, NO_LIMIT};
use super::roster::{Choice, Nobody, Roster};
use super::target::Target;
use super::watch::Settled;
use crate::environment::{Environment, Moment};
use crate::resilience::call_error::CallErrorKind;
use crate::resilience::clock::Timestamp;
use crate::resilience::event::EventKind;
use crate::resilience::load_balancer::{KeyHash, Registration};
use crate::resilience::outcome::{Answer, Outcome};
use crate::resilience::retry::GivenUp;
use crate::resilience::sync::Loaded;

/// A call between its attempts. `P` is how it holds its proxy: by reference, or as a handle of its own.
#[derive(Debug)]
#[must_use = "a call does nothing until it is admitted"]
pub struct Call<P: Borrow<ServiceProxy>> {
    history: History<P>,
    roster: Loaded<Roster>,
    baggage: Option<Box<Baggage>>,
    /// When it began, if that was a moment ago and somebody had to know: then its first attempt begins at that time too.
    just_began: Option<Timestamp>,
}

/// What a call never lets go of.
#[derive(Debug)]
struct History<P> {
    proxy: P,
    /// [`NO_LIMIT`] if there is none.
    deadline: Timestamp,
    key: Option<KeyHash>,
    attempts: u32,
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
        key: Option<KeyHash>,
        baggage: Option<Box<Baggage>>,
    ) -> Self {
        let timeout = timeout.or_else(|| roster.settings.config.call_timeout());
        let mut moment = roster.moment();
        let deadline = timeout.map_or(NO_LIMIT, |timeout| moment.now().after(timeout));
        let just_began = moment.known();
        Self { history: History { proxy, deadline, key, attempts: 0 }, roster, baggage, just_began }
    }

    /// The same for whoever may take their time before they admit it.
    #[inline]
    pub(super) fn admitted_later(self) -> Self {
        Self { just_began: None, ..self }
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.roster.settings.environment
    }

    /// Chooses an instance for the next attempt and takes leave of the circuits. Never waits. The first attempt that is
    /// admitted counts the call for the retry budget.
    ///
    /// # Errors
    /// The deadline has passed, no instance is healthy, or the circuit of the service or those of all its instances
    /// refuse.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "an attempt that is returned through memory costs a fifth of a call")]
    pub fn admit(self) -> Result<Attempt<P>, Refused> {
        self.admit_chosen(Roster::choose)
    }

    /// Like [`admit`](Self::admit), for those who balance in their own way: `choose` says the id of who is next, and is
    /// asked again until the circuit of whomever it names gives leave, or until it names nobody. Whoever it names that
    /// cannot be picked from the proxy's balancer is passed over. It runs with no lock held.
    ///
    /// # Errors
    /// Those of [`admit`](Self::admit).
    pub fn admit_by(self, choose: impl FnMut() -> Option<String>) -> Result<Attempt<P>, Refused> {
        self.admit_chosen(|roster, _, baggage, moment| roster.choose_by(choose, baggage, moment))
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as above")]
    fn admit_chosen(
        mut self,
        choose: impl FnOnce(&Roster, Option<KeyHash>, Option<&mut Baggage>, &mut Moment<'_>) -> Result<Choice, Nobody>,
    ) -> Result<Attempt<P>, Refused> {
        self.history.proxy.borrow().refresh(&mut self.roster);
        let roster = &*self.roster;
        let mut moment = roster.moment_at(self.just_began);
        if self.history.deadline != NO_LIMIT && self.history.deadline <= moment.now() {
            return Err(refused(CallErrorKind::DeadlineExceeded, self.history.attempts, self.baggage, &mut moment));
        }
        let service = match roster.service.admit(&mut moment) {
            Ok(ticket) => ticket,
            Err(refusal) => {
                roster.service.announce_refusal(refusal);
                let kind = CallErrorKind::CircuitOpen(roster.refusal(Some(refusal), &mut moment));
                return Err(refused(kind, self.history.attempts, self.baggage, &mut moment));
            }
        };
        let choice = match choose(roster, self.history.key, self.baggage.as_deref_mut(), &mut moment) {
            Ok(choice) => choice,
            Err(nobody) => {
                roster.service.conclude(service, Outcome::Neutral, &mut moment);
                let kind = nobody.tell(roster, &mut moment);
                return Err(refused(kind, self.history.attempts, self.baggage, &mut moment));
            }
        };
        if self.history.attempts == 0 {
            roster.settings.retry.begin();
        }
        self.history.attempts += 1;
        let timeout = roster.settings.config.attempt_timeout();
        let limit = timeout.map_or(NO_LIMIT, |timeout| moment.now().after(timeout)).min(self.history.deadline);
        let hold = Hold::new(self.roster, choice, service, limit, self.baggage);
        Ok(Attempt { history: self.history, hold })
    }
}

impl Nobody {
    #[cold]
    fn tell(self, roster: &Roster, moment: &mut Moment<'_>) -> CallErrorKind {
        match self {
            Self::Healthy => {
                CallErrorKind::NoHealthyInstance(NoHealthyInstanceError::new(Arc::clone(&roster.settings.name)))
            }
            Self::Admitted => CallErrorKind::CircuitOpen(roster.refusal(None, moment)),
        }
    }
}

/// The call ends here.
#[cold]
fn refused(kind: CallErrorKind, attempts: u32, baggage: Option<Box<Baggage>>, moment: &mut Moment<'_>) -> Refused {
    if let Some(baggage) = baggage.filter(|baggage| baggage.is_attended()) {
        baggage.end(&Ending::Refused(kind.clone()), None, moment);
    }
    Refused { kind, attempts }
}

impl<P: Borrow<ServiceProxy>> Attempt<P> {
    /// The instance to call.
    #[inline]
    pub fn instance(&self) -> &ServiceInstance {
        self.hold.instance()
    }

    /// What was [registered with](crate::LoadBalancer::register_with) the instance, if it is of this type.
    #[inline]
    pub fn attachment<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.hold.endpoint().attachment()
    }

    /// The instance's registration, which may be kept for longer.
    pub fn registration(&self) -> Registration {
        Registration::new(self.hold.endpoint().clone())
    }

    /// What it tells, for those who cannot borrow it.
    pub fn target(&self) -> Target {
        let limit = (self.hold.limit != NO_LIMIT).then(|| (self.hold.limit, self.environment().clone()));
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
        (self.hold.limit != NO_LIMIT).then(|| self.hold.limit.since(self.environment().now()))
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.hold.roster.settings.environment
    }

    /// What a caller is told if the time limit ends the attempt: that the call's deadline is exceeded, or that the
    /// attempt timed out. A driver that stops it says so by [`stop`](Self::stop).
    pub fn timed_out(&self) -> CallErrorKind {
        let by_deadline = self.hold.limit == self.history.deadline;
        if by_deadline { CallErrorKind::DeadlineExceeded } else { CallErrorKind::AttemptTimedOut }
    }

    /// Runs the user's code: if it panics, that is a failure of the instance. A panic anywhere else is none.
    #[inline]
    pub(crate) fn run<R>(&mut self, code: impl FnOnce(&Self) -> R) -> R {
        self.hold.arm();
        let result = code(self);
        self.hold.disarm();
        result
    }

    /// Takes what came of the attempt, and says what to do next.
    ///
    /// The instance's circuit judges every attempt. The service's circuit hears of a failure only where failover could
    /// not hide it: if an instance that this call has not tried would admit the next attempt, it hears nothing. An attempt
    /// that outlasted its time limit is a failure of the instance, whatever the answer.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "as above: an attempt is large, and a plain success looks at little of it"
    )]
    pub fn settle(mut self, answer: Answer) -> Verdict<P> {
        let mut moment = self.hold.roster.moment();
        let outcome = self.hold.outcome(answer.outcome(), &mut moment);
        let now = moment.known();
        let attended = self.hold.baggage.as_ref().is_some_and(|baggage| baggage.is_attended());
        if outcome == Outcome::Success && !answer.is_retryable() && !attended {
            self.hold.succeed(now);
            return Verdict::Return;
        }
        self.settle_otherwise(answer, outcome, now)
    }

    /// A plain success of which somebody wants to be told.
    fn succeed_attended(mut self, now: Option<Timestamp>) {
        let roster = Arc::clone(&self.hold.roster);
        let mut moment = roster.moment_at(now);
        // What is told took until here; listeners that are still to be told may take their time.
        let now = moment.now();
        self.hold.succeed(Some(now));
        if let Some(mut baggage) = self.hold.baggage.take() {
            let outcome = Outcome::Success;
            baggage.settled(Settled { outcome, timed_out: false, retry_after: None }, &mut moment);
            baggage.end(&Ending::Returned(outcome), None, &mut moment);
        }
    }

    /// Whatever is not a plain success of which nobody wants to be told.
    #[cold]
    fn settle_otherwise(self, answer: Answer, outcome: Outcome, now: Option<Timestamp>) -> Verdict<P> {
        if outcome == Outcome::Success && !answer.is_retryable() {
            self.succeed_attended(now);
            return Verdict::Return;
        }
        match self.go_on(answer, outcome, None, now) {
            Next::Return => Verdict::Return,
            Next::Refused(refused) => Verdict::Refused(refused),
            Next::Retry(after, call) => Verdict::Retry { after, call },
        }
    }

    /// Ends an attempt that the driver has stopped, since its time limit was reached before there was a result: a failure
    /// of the instance. `answer` says whether the call may be tried again, as [`Answer::failure`] does. Returns the wait
    /// and the call, as in [`Verdict::Retry`].
    ///
    /// # Errors
    /// The call ends here: its deadline is exceeded or its last attempt timed out, or the next attempt is bound to be
    /// refused.
    pub fn stop(self, answer: Answer) -> Result<(Duration, Call<P>), Refused> {
        let (kind, attempts) = (self.timed_out(), self.number());
        match self.go_on(answer, Outcome::Failure, Some(&kind), None) {
            Next::Return => Err(Refused { kind, attempts }),
            Next::Refused(refused) => Err(refused),
            Next::Retry(after, call) => Ok((after, call)),
        }
    }

    /// The attempt has ended with `outcome`: there is another, or the call ends with it. Of one that was `stopped` that
    /// is told its caller.
    fn go_on(
        self,
        answer: Answer,
        outcome: Outcome,
        stopped: Option<&CallErrorKind>,
        now: Option<Timestamp>,
    ) -> Next<P> {
        let Self { history, mut hold } = self;
        // Who is there now, not who was there when somebody asked last: an instance may have left while this one failed.
        let roster = history.proxy.borrow().fresh_roster();
        let mut moment = roster.moment_at(now);
        if hold.baggage.as_ref().is_some_and(|baggage| baggage.is_attended()) {
            // As above.
            moment.now();
        }
        let timed_out = stopped.is_some() || hold.is_too_late(&mut moment);
        let mut settled = Settled { outcome, timed_out, retry_after: None };
        let mut baggage = hold.conclude(outcome, &roster, &mut moment);
        let plan = history.plan(&roster, &mut baggage, answer, (hold.instance(), settled), &mut moment);
        settled.retry_after = plan.as_ref().ok().copied();
        baggage.settled(settled, &mut moment);
        match plan {
            Ok(wait) => Next::Retry(wait, Call { history, roster, baggage: Some(baggage), just_began: None }),
            Err(Stop::Refused(kind)) => Next::Refused(refused(kind, history.attempts, Some(baggage), &mut moment)),
            Err(Stop::GivenUp(reason)) => {
                if baggage.is_attended() {
                    let ending = stopped.cloned().map_or(Ending::Returned(outcome), Ending::TimedOut);
                    baggage.end(&ending, Some(reason), &mut moment);
                }
                Next::Return
            }
        }
    }
}

impl Attempt<&ServiceProxy> {
    /// The same attempt with a handle of the proxy of its own, for those who cannot go on where they began.
    pub fn into_owned(self) -> Attempt<ServiceProxy> {
        let Self { history, hold } = self;
        let History { proxy, deadline, key, attempts } = history;
        Attempt { history: History { proxy: proxy.clone(), deadline, key, attempts }, hold }
    }
}

/// What comes after an attempt that may not be the last.
enum Next<P: Borrow<ServiceProxy>> {
    /// What came of it is what came of the call.
    Return,
    Refused(Refused),
    Retry(Duration, Call<P>),
}

/// Why there is no other attempt.
enum Stop {
    GivenUp(GivenUp),
    /// It is bound to be refused.
    Refused(CallErrorKind),
}

impl<P: Borrow<ServiceProxy>> History<P> {
    /// The wait before another attempt, or why there is none, asked in this order: may this be tried again, is there
    /// time, would anybody admit it, is there budget. The budget comes last, since what it gives is not given back.
    /// `ended` is the attempt before.
    fn plan(
        &self,
        roster: &Roster,
        baggage: &mut Baggage,
        answer: Answer,
        ended: (&ServiceInstance, Settled),
        moment: &mut Moment<'_>,
    ) -> Result<Duration, Stop> {
        let policy = &roster.settings.retry;
        let time_left = (self.deadline != NO_LIMIT).then(|| self.deadline.since(moment.now()));
        let retry = policy.plan(baggage.retries, &answer, time_left).map_err(|reason| self.give_up(reason, ended))?;
        if let Some(refusal) = roster.refusal_at(moment.now().after(retry.wait), moment) {
            return Err(Stop::Refused(CallErrorKind::CircuitOpen(refusal)));
        }
        policy.charge().map_err(|reason| self.give_up(reason, ended))?;
        baggage.retries = retry.then;
        let (instance, settled) = ended;
        self.proxy.borrow().announce(|| EventKind::Retry {
            attempts: self.attempts,
            instance: instance.id.clone(),
            cause: settled.cause(),
            after: retry.wait,
        });
        Ok(retry.wait)
    }

    /// Tells the listeners where a call would have been tried again, were there time or budget.
    #[cold]
    fn give_up(&self, reason: GivenUp, (instance, settled): (&ServiceInstance, Settled)) -> Stop {
        let proxy = self.proxy.borrow();
        match reason {
            GivenUp::NotRetryable | GivenUp::RetriesSpent => {}
            GivenUp::BudgetSpent => proxy.announce(|| EventKind::BudgetExhausted),
            GivenUp::RetryAfterTooLong | GivenUp::PastDeadline => proxy.announce(|| EventKind::GivenUp {
                attempts: self.attempts,
                instance: instance.id.clone(),
                cause: settled.cause(),
                reason,
            }),
        }
        Stop::GivenUp(reason)
    }
}
