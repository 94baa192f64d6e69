//! What an answer means for the set that is held: pure, so that it is tested in virtual time.

use std::time::Duration;

use service_mesh::{DiscoveryConfig, ServiceInstance, Timestamp};

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Who is there, possibly nobody, and for how long that counts.
    Found { instances: Vec<ServiceInstance>, ttl: Duration },
    /// Nobody could say.
    Failed,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The set to put in force, if it is another one than before.
    pub(super) publish: Option<Vec<ServiceInstance>>,
    /// How long to wait before the name is asked for again.
    pub(super) ask_again: Duration,
}

/// The set in force, and how long it has been denied.
///
/// Invariants: a set that is not empty is replaced by an empty one only if every answer for `empty_grace` was empty, the
/// first and the last of them included; a failure replaces nothing.
#[derive(Debug)]
pub(super) struct Held {
    min_ttl: Duration,
    max_ttl: Duration,
    empty_grace: Duration,
    /// What was put in force last. At the beginning unknown: it is not ours.
    published: Option<Vec<ServiceInstance>>,
    /// Whether somebody is in the set in force.
    somebody: bool,
    /// Since when every answer has been empty, though somebody is in force.
    denied_since: Option<Timestamp>,
}

impl Held {
    /// Whether `somebody` is in force already, put there by somebody else.
    pub(super) fn new(config: &DiscoveryConfig, somebody: bool) -> Self {
        let DiscoveryConfig { min_ttl, max_ttl, empty_grace, .. } = *config;
        Self { min_ttl, max_ttl, empty_grace, published: None, somebody, denied_since: None }
    }

    /// Whether the answers are empty, and not believed yet.
    pub(super) fn is_in_grace(&self) -> bool {
        self.denied_since.is_some()
    }

    /// An answer has come, now.
    pub(super) fn hear(&mut self, answer: Answer, now: Timestamp) -> Step {
        let Answer::Found { mut instances, ttl } = answer else {
            return Step { publish: None, ask_again: self.min_ttl };
        };
        let ttl = ttl.clamp(self.min_ttl, self.max_ttl);
        if instances.is_empty() && self.somebody {
            let denied = now.since(*self.denied_since.get_or_insert(now));
            if denied < self.empty_grace {
                // Not later than the grace ends, so that nobody is kept for longer than was asked for.
                let left = self.empty_grace.saturating_sub(denied);
                return Step { publish: None, ask_again: ttl.min(left) };
            }
        }
        self.denied_since = None;
        self.somebody = !instances.is_empty();
        // Answers come shuffled, on purpose; that is no change.
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        instances.dedup_by(|a, b| a.id == b.id);
        let publish = (self.published.as_ref() != Some(&instances)).then(|| instances.clone());
        self.published = Some(instances);
        Step { publish, ask_again: ttl }
    }
}

#[cfg(test)]
mod tests {
    use service_mesh::testing::ManualClock;
    use service_mesh::{Clock, DiscoveryQuery};

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn held(somebody: bool) -> Held {
        let mut config = DiscoveryConfig::new(DiscoveryQuery::Srv(String::from("_x._tcp.a")));
        (config.min_ttl, config.max_ttl, config.empty_grace) = (seconds(5), seconds(60), seconds(20));
        Held::new(&config, somebody)
    }

    fn set(ids: &[&str]) -> Vec<ServiceInstance> {
        ids.iter().map(|id| ServiceInstance::new(*id, *id, 80)).collect()
    }

    fn found(ids: &[&str], ttl: u64) -> Answer {
        Answer::Found { instances: set(ids), ttl: seconds(ttl) }
    }

    fn step(publish: Option<&[&str]>, ask_again: u64) -> Step {
        Step { publish: publish.map(set), ask_again: seconds(ask_again) }
    }

    #[test]
    fn what_has_changed_is_published_and_what_was_shuffled_is_not() {
        let now = Timestamp::ORIGIN;
        let mut held = held(false);
        assert_eq!(held.hear(found(&["b", "a"], 30), now), step(Some(&["a", "b"]), 30));
        assert_eq!(held.hear(found(&["a", "b", "a"], 30), now), step(None, 30));
        assert_eq!(held.hear(found(&["b", "c"], 30), now), step(Some(&["b", "c"]), 30));
    }

    #[test]
    fn a_time_to_live_counts_within_its_bounds() {
        let mut held = held(false);
        for (ttl, ask_again) in [(0, 5), (4, 5), (5, 5), (59, 59), (u64::MAX, 60)] {
            assert_eq!(held.hear(found(&["a"], ttl), Timestamp::ORIGIN).ask_again, seconds(ask_again), "{ttl}");
        }
    }

    #[test]
    fn a_failure_changes_nothing() {
        let clock = ManualClock::new();
        let mut held = held(false);
        assert_eq!(held.hear(Answer::Failed, clock.now()), step(None, 5));
        held.hear(found(&["a"], 30), clock.now());
        for _ in 0..1000 {
            clock.advance(seconds(60));
            assert_eq!(held.hear(Answer::Failed, clock.now()), step(None, 5));
        }
        assert_eq!(held.hear(found(&["a"], 30), clock.now()), step(None, 30));
    }

    #[test]
    fn nobody_is_believed_only_after_the_grace() {
        let clock = ManualClock::new();
        let mut held = held(false);
        held.hear(found(&["a"], 30), clock.now());
        assert_eq!(held.hear(found(&[], 15), clock.now()), step(None, 15));
        assert!(held.is_in_grace());
        clock.advance(seconds(15));
        // Not after 15 seconds more: then the grace would have lasted for 30.
        assert_eq!(held.hear(found(&[], 15), clock.now()), step(None, 5));
        clock.advance(seconds(5));
        assert_eq!(held.hear(found(&[], 15), clock.now()), step(Some(&[]), 15));
        assert!(!held.is_in_grace());
        // And then there is nobody to be kept.
        assert_eq!(held.hear(found(&[], 15), clock.now()), step(None, 15));
        assert_eq!(held.hear(found(&["b"], 15), clock.now()), step(Some(&["b"]), 15));
    }

    #[test]
    fn somebody_in_between_ends_the_grace_and_a_failure_does_not() {
        let clock = ManualClock::new();
        let mut held = held(false);
        held.hear(found(&["a"], 30), clock.now());
        held.hear(found(&[], 15), clock.now());
        clock.advance(seconds(15));
        held.hear(found(&["a"], 15), clock.now());
        clock.advance(seconds(15));
        assert_eq!(held.hear(found(&[], 15), clock.now()), step(None, 15));
        clock.advance(seconds(15));
        assert_eq!(held.hear(Answer::Failed, clock.now()), step(None, 5));
        clock.advance(seconds(5));
        assert_eq!(held.hear(found(&[], 15), clock.now()), step(Some(&[]), 15));
    }

    #[test]
    fn who_was_there_before_has_the_grace_too() {
        let clock = ManualClock::new();
        assert_eq!(held(true).hear(found(&[], 15), clock.now()), step(None, 15));
        // Where there was nobody, nobody is kept.
        assert_eq!(held(false).hear(found(&[], 15), clock.now()), step(Some(&[]), 15));
    }
}
