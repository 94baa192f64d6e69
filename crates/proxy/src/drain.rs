//! How the sidecar ends: what is in flight is finished, and nothing new begins.
//!
//! One side says which phase it is, the other side watches: each listener, connection and tunnel holds a [`Drain`], and
//! when the last one is dropped, everything is over. That needs no count of its own: a `watch` channel knows its
//! receivers.

use std::convert::Infallible;

use tokio::sync::{mpsc, watch};

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
pub struct Drain {
    phase: watch::Receiver<Phase>,
    /// Nothing is ever sent; the other end learns when the last one is dropped.
    _section: Option<mpsc::Sender<Infallible>>,
}

/// A part of what drains, which is over when nobody holds a [`Drain`] of it any more.
#[derive(Debug)]
pub(crate) struct Section(mpsc::Receiver<Infallible>);

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
        (Self(sender), Drain { phase: receiver, _section: None })
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
        *self.phase.borrow()
    }

    /// Waits until `phase` is reached. If the [`Shutdown`] is dropped, everything has ended.
    pub async fn reached(&mut self, phase: Phase) {
        let _ = self.phase.wait_for(|present| *present >= phase).await;
    }
}

impl Drain {
    /// A part of what drains, and a drain of that part.
    pub(crate) fn section(&self) -> (Section, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (Section(receiver), Self { phase: self.phase.clone(), _section: Some(sender) })
    }
}

impl Section {
    /// Waits until nobody holds a drain of this part any more.
    pub(crate) async fn over(&mut self) {
        self.0.recv().await;
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

    #[tokio::test]
    async fn a_section_is_over_when_the_last_of_its_drains_is_gone() {
        let (_shutdown, whole) = Shutdown::new();
        let (mut section, drain) = whole.section();
        let other = drain.clone();
        drop(drain);
        let mut over = std::pin::pin!(section.over());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(over.as_mut().poll(&mut context).is_pending());
        drop(other);
        over.await;
    }
}
