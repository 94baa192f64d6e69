//! How it goes with looking for the instances of a service, for those who ask and for those who are told.

use std::sync::{Mutex, MutexGuard, PoisonError};

use service_mesh::Timestamp;

use crate::journal::{Journal, Level};

/// What is known of looking for the instances of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// When somebody answered for the last time.
    pub(crate) answered: Option<Timestamp>,
    /// What has gone wrong since.
    pub(crate) failure: Option<String>,
    /// Whether the answers are empty, and not believed yet.
    pub(crate) in_grace: bool,
}

/// [`Look`], while the source goes on. When it begins to fail, and when that is over, the journal is told.
#[derive(Debug)]
pub(super) struct Looking {
    service: String,
    journal: Journal,
    look: Mutex<Look>,
}

impl Looking {
    pub(super) fn new(service: &str, journal: &Journal) -> Self {
        Self { service: service.to_owned(), journal: journal.clone(), look: Mutex::default() }
    }

    pub(super) fn look(&self) -> Look {
        self.lock().clone()
    }

    /// Somebody has answered, though not to every question if there was a failure too.
    pub(super) fn answered(&self, at: Timestamp, failure: Option<String>) {
        let mut look = self.lock();
        look.answered = Some(at);
        self.note(&mut look, failure);
    }

    /// Nobody has answered.
    pub(super) fn failed(&self, failure: String) {
        self.note(&mut self.lock(), Some(failure));
    }

    pub(super) fn is_in_grace(&self, in_grace: bool) {
        self.lock().in_grace = in_grace;
    }

    fn note(&self, look: &mut Look, failure: Option<String>) {
        let service = &self.service;
        match (&look.failure, &failure) {
            (None, Some(failure)) => {
                self.journal.change(Level::Warn, format_args!("discovery of {service} fails: {failure}"));
            }
            (Some(_), None) => self.journal.change(Level::Info, format_args!("discovery of {service} is well again")),
            _ => {}
        }
        look.failure = failure;
    }

    fn lock(&self) -> MutexGuard<'_, Look> {
        self.look.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_when_it_begins_and_when_it_is_over() {
        let (journal, told) = Journal::kept();
        journal.tell_changes();
        let looking = Looking::new("pay", &journal);
        let now = Timestamp::ORIGIN;
        looking.answered(now, None);
        looking.failed(String::from("no answer"));
        looking.failed(String::from("no answer again"));
        assert_eq!(looking.look().failure.as_deref(), Some("no answer again"));
        looking.answered(now, None);
        assert_eq!(
            told(),
            "service-mesh: warn: discovery of pay fails: no answer\nservice-mesh: info: discovery of pay is well again\n"
        );
    }
}
