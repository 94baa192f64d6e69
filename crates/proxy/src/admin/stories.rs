//! The stories of recent calls: a ring, which forgets the oldest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use service_mesh::{AttemptStory, Ending, Event, EventKind, GivenUp, Listener, Story};

/// How many are kept.
const KEPT: usize = 200;

/// The stories of recent calls of all services. Clones are handles of the same.
///
/// It hears those that `explain_ratio` draws; whoever has asked for the story of a call of his own may add it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stories(Arc<Mutex<VecDeque<Arc<Story>>>>);

impl Stories {
    /// Keeps a story.
    pub(crate) fn add(&self, story: Arc<Story>) {
        let mut stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stories.len() == KEPT {
            stories.pop_back();
        }
        stories.push_front(story);
    }

    /// Those of one service, or of all; the latest first.
    pub(super) fn told(&self, service: Option<&str>) -> Vec<Value> {
        // Told without the lock: calls should not wait for a page.
        let stories: Vec<Arc<Story>> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let wanted = |story: &&Arc<Story>| service.is_none_or(|service| &*story.service == service);
        stories.iter().filter(wanted).map(|story| told(story)).collect()
    }
}

impl Listener for Stories {
    fn on_event(&self, event: &Event) {
        if let EventKind::Story(story) = &event.kind {
            self.add(Arc::clone(story));
        }
    }
}

fn told(story: &Story) -> Value {
    let ending = match &story.ending {
        Ending::Returned(outcome) => outcome.as_str(),
        Ending::Refused(kind) | Ending::TimedOut(kind) => kind.as_str(),
        Ending::Abandoned => "abandoned",
    };
    json!({
        "service": &*story.service,
        "ending": ending,
        "given_up": story.given_up.map(GivenUp::as_str),
        "took_seconds": story.took.as_secs_f64(),
        "attempts": story.attempts.iter().map(attempt).collect::<Vec<_>>(),
        "text": story.to_string(),
    })
}

fn attempt(attempt: &AttemptStory) -> Value {
    let passed_over = attempt.passed_over.iter().map(|passed| {
        json!({
            "instance": passed.instance,
            "reason": passed.reason.as_str(),
            "retry_after_seconds": passed.retry_after.map(|wait| wait.as_secs_f64()),
        })
    });
    json!({
        "instance": attempt.instance,
        "outcome": attempt.outcome.map_or("abandoned", |outcome| outcome.as_str()),
        "timed_out": attempt.timed_out,
        "began_after_seconds": attempt.began_after.as_secs_f64(),
        "took_seconds": attempt.took.as_secs_f64(),
        "passed_over": passed_over.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use service_mesh::Outcome;

    use super::*;

    fn story(service: &str) -> Arc<Story> {
        let ending = Ending::Returned(Outcome::Success);
        Arc::new(Story {
            service: service.into(),
            attempts: Vec::new(),
            ending,
            given_up: None,
            took: Duration::from_millis(5),
        })
    }

    #[test]
    fn the_latest_come_first_and_the_oldest_are_forgotten() {
        let stories = Stories::default();
        (0..KEPT + 10).for_each(|number| stories.add(story(&number.to_string())));
        let told = stories.told(None);
        assert_eq!((told.len(), &told[0]["service"], &told[KEPT - 1]["service"]), (KEPT, &json!("209"), &json!("10")));
        assert_eq!(stories.told(Some("100")).len(), 1);
        assert_eq!(told[0]["ending"], "success");
    }
}
