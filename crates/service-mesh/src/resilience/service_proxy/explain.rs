//! The story of a call: each attempt, where it went, what came of it, and why others were passed over. It costs nothing
//! unless somebody asks for it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use service_mesh_models::{RefusalReason, ServiceInstance};

use crate::environment::Moment;
use crate::resilience::call_error::CallErrorKind;
use crate::resilience::circuit_breaker::Refusal;
use crate::resilience::clock::Timestamp;
use crate::resilience::event::{Announcer, Event, EventKind};
use crate::resilience::outcome::Outcome;
use crate::resilience::retry::{GivenUp, RetryCause};

/// The story of a call. Its `Display` is a line for the call and one for each attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// The service.
    pub service: Arc<str>,
    /// The attempts, in order. The last one has no instance if none was found for it.
    pub attempts: Vec<AttemptStory>,
    /// How it ended.
    pub ending: Ending,
    /// Why it was not tried again; none where that was never the question: after a plain success, where it was refused,
    /// or where nobody waited for it any more.
    pub given_up: Option<GivenUp>,
    /// How long it took in all.
    pub took: Duration,
}

/// The story of one attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttemptStory {
    /// The id of the instance that was chosen, if one was.
    pub instance: Option<String>,
    /// The instances whose circuits refused.
    pub passed_over: Vec<PassedOver>,
    /// What came of it; none if it was cancelled.
    pub outcome: Option<Outcome>,
    /// Whether it outlasted its time limit, which makes a failure of it.
    pub timed_out: bool,
    /// When it began, after the call did.
    pub began_after: Duration,
    /// How long it took.
    pub took: Duration,
}

/// An instance that was passed over, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The id of the instance.
    pub instance: String,
    /// Why its circuit refused.
    pub reason: RefusalReason,
    /// How long until it may admit a call, if anybody can know.
    pub retry_after: Option<Duration>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The result of the last attempt was returned.
    Returned(Outcome),
    /// It was refused, or its time was up before an attempt could begin.
    Refused(CallErrorKind),
    /// Its time was up while an attempt ran, which was stopped: the kind says whether by the attempt's own limit or by
    /// the deadline. A driver that cannot stop an attempt returns what that came to in the end.
    TimedOut(CallErrorKind),
    /// The caller lost interest, or the function panicked.
    Abandoned,
}

impl PassedOver {
    pub(super) fn new(instance: String, refusal: Refusal) -> Self {
        Self { instance, reason: refusal.reason(), retry_after: refusal.retry_after() }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call of {} took {:.1?}: ", self.service, self.took)?;
        match &self.ending {
            Ending::Returned(outcome) => f.write_str(outcome.as_str())?,
            Ending::Refused(kind) | Ending::TimedOut(kind) => kind.fmt(f)?,
            Ending::Abandoned => f.write_str("abandoned")?,
        }
        if let Some(reason) = &self.given_up {
            write!(f, " ({reason})")?;
        }
        for (number, attempt) in (1..).zip(&self.attempts) {
            write!(f, "\n  attempt {number} after {:.1?}: ", attempt.began_after)?;
            match (&attempt.instance, attempt.outcome) {
                (Some(instance), Some(outcome)) => {
                    let cause = RetryCause::new(outcome, attempt.timed_out);
                    write!(f, "{instance}, {} in {:.1?}", cause.as_str().replace('_', " "), attempt.took)?;
                }
                (Some(instance), None) => write!(f, "{instance}, abandoned")?,
                (None, _) => f.write_str("nobody left to ask")?,
            }
            for (number, PassedOver { instance, reason, .. }) in attempt.passed_over.iter().enumerate() {
                let before = if number == 0 { "; passed over" } else { "," };
                write!(f, "{before} {instance} ({reason})")?;
            }
        }
        Ok(())
    }
}

/// Asks for the story of one call: give it to [`CallOptions::explain`](crate::CallOptions::explain), and read it when
/// the call is over. Clones share the story.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    story: Arc<Mutex<Option<Arc<Story>>>>,
}

impl Explanation {
    /// No story yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The story of the call, once it is over.
    pub fn story(&self) -> Option<Arc<Story>> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whom a story is told.
#[derive(Debug)]
pub(super) enum Audience {
    Asker(Explanation),
    Listeners(Arc<Announcer>),
}

/// A story while it happens. It is told when it is dropped, so that a call that is abandoned has one too.
#[derive(Debug)]
pub(super) struct Telling {
    story: Story,
    audience: Audience,
    began: Timestamp,
    attempt_began: Timestamp,
}

impl Telling {
    pub(super) fn new(service: Arc<str>, audience: Audience, moment: &mut Moment<'_>) -> Self {
        let (attempts, ending) = (Vec::new(), Ending::Abandoned);
        let story = Story { service, attempts, ending, given_up: None, took: Duration::ZERO };
        Self { story, audience, began: moment.now(), attempt_began: moment.now() }
    }

    /// An attempt begins; what is returned takes those that are passed over.
    pub(super) fn begin_attempt(&mut self, moment: &mut Moment<'_>) -> &mut Vec<PassedOver> {
        self.attempt_began = moment.now();
        let began_after = moment.now().since(self.began);
        self.story.attempts.push(AttemptStory { began_after, ..AttemptStory::default() });
        let last = self.story.attempts.len() - 1;
        &mut self.story.attempts[last].passed_over
    }

    pub(super) fn chosen(&mut self, instance: &ServiceInstance) {
        if let Some(attempt) = self.story.attempts.last_mut() {
            attempt.instance = Some(instance.id.clone());
        }
    }

    pub(super) fn attempt_ended(&mut self, outcome: Option<Outcome>, timed_out: bool, moment: &mut Moment<'_>) {
        let took = moment.now().since(self.attempt_began);
        if let Some(attempt) = self.story.attempts.last_mut() {
            (attempt.outcome, attempt.timed_out, attempt.took) = (outcome, timed_out, took);
        }
    }

    pub(super) fn end(&mut self, ending: Ending, given_up: Option<GivenUp>, moment: &mut Moment<'_>) {
        (self.story.ending, self.story.given_up) = (ending, given_up);
        self.story.took = moment.now().since(self.began);
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let story = Arc::new(self.story.clone());
        match &self.audience {
            Audience::Asker(asker) => *asker.story.lock().unwrap_or_else(PoisonError::into_inner) = Some(story),
            Audience::Listeners(announcer) => {
                announcer.announce(Event { name: self.story.service.clone(), kind: EventKind::Story(story) });
                announcer.deliver();
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_told_in_a_line_for_the_call_and_one_for_each_attempt() {
        let micros = Duration::from_micros;
        let refusal = PassedOver { instance: "a".into(), reason: RefusalReason::Open, retry_after: Some(micros(9)) };
        let full = PassedOver { instance: "d".into(), reason: RefusalReason::HalfOpenFull, retry_after: None };
        let timed_out = AttemptStory {
            instance: Some("b".into()),
            passed_over: vec![refusal, full],
            outcome: Some(Outcome::Failure),
            timed_out: true,
            took: micros(150_349),
            ..AttemptStory::default()
        };
        let failed = AttemptStory {
            instance: Some("c".into()),
            outcome: Some(Outcome::Failure),
            began_after: micros(170_351),
            took: micros(208),
            ..AttemptStory::default()
        };
        let story = Story {
            service: "shop".into(),
            attempts: vec![timed_out, failed],
            ending: Ending::Returned(Outcome::Failure),
            given_up: Some(GivenUp::BudgetSpent),
            took: micros(170_559),
        };
        assert_eq!(
            story.to_string(),
            "call of shop took 170.6ms: failure (the retry budget is spent)\n  \
             attempt 1 after 0.0ns: b, timed out in 150.3ms; passed over a (open), d (half_open_full)\n  \
             attempt 2 after 170.4ms: c, failure in 208.0µs"
        );
    }
}
