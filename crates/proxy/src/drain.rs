//! How the sidecar ends: what is in flight is finished, and nothing new begins.
//!
//! One side says which phase it is, the other side watches: each listener, connection and tunnel holds a [`Drain`], and
//! when the last one is dropped, everything is over. That needs no count of its own: a `watch` channel knows its
//! receivers.

use tokio::sync::watch;

/// Where the sidecar stands between its start and its end. Phases only go forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It serves.
    #[default]
    Serving,
    /// It still serves, but says that it is not ready, so that nobody new is sent here.
    Leaving,
    /// It accepts no connection any more; those that exist end with the response in flight.
    Closing,
    /// What is still in flight is cut off.
    Ended,
}

/// Says which phase it is.
#[derive(Debug)]
pub struct Shutdown(watch::Sender<Phase>);

/// Watches which phase it is. Clones watch the same; holding one keeps the sidecar from being over.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Phase>);

impl Phase {
    /// The word for this phase.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Leaving => "leaving",
            Self::Closing => "closing",
            Self::Ended => "ended",
        }
    }
}

impl Shutdown {
    /// A shutdown, and what watches it.
    pub fn new() -> (Self, Drain) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self(sender), Drain(receiver))
    }

    /// The present phase. Whoever only wants to know it holds nothing up.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Goes on to this phase, unless a later one has been reached already.
    pub fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|present| {
            let later = phase > *present;
            if later {
                *present = phase;
            }
            later
        });
    }

    /// Waits until nobody holds a [`Drain`] any more.
    pub async fn over(&self) {
        self.0.closed().await;
    }
}

impl Drain {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` is reached. If the [`Shutdown`] is dropped, everything has ended.
    pub async fn reached(&mut self, phase: Phase) {
        let _ = self.0.wait_for(|present| *present >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_go_forward() {
        let (shutdown, mut drain) = Shutdown::new();
        shutdown.enter(Phase::Closing);
        shutdown.enter(Phase::Leaving);
        assert_eq!(drain.phase(), Phase::Closing);
        drain.reached(Phase::Leaving).await;
        drop(drain);
        shutdown.over().await;
    }
}
