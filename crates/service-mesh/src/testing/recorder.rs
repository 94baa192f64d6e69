//! A listener that keeps what it heard.

use std::sync::{Arc, Mutex, PoisonError};

use crate::resilience::event::{Event, Listener};

/// Keeps every event, in order. Clones share what was heard.
///
/// ```
/// use service_mesh::{CircuitBreaker, testing::Recorder};
/// let recorder = Recorder::new();
/// let breaker = CircuitBreaker::builder("payments").listener(recorder.clone()).build();
/// breaker.force_open();
/// assert_eq!(recorder.take()[0].to_string(), "payments: closed -> open: forced open");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Recorder {
    /// Nothing heard yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was heard since the last `take`.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Listener for Recorder {
    fn on_event(&self, event: &Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}
