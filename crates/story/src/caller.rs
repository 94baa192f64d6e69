//! Those who call, again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::journal::Journal;

/// Somebody who can call the service.
pub trait Caller: Send + 'static {
    /// Makes one call, to [`PATH`](crate::PATH). Returns what was answered, which is the name of a server, or why the
    /// call failed.
    fn ask(&mut self) -> impl Future<Output = Result<String, String>> + Send;
}

/// From the beginning of one call to that of the next, whoever makes it. A server answers in less, so that hardly two
/// calls are under way at a time while the servers are well. Should the machine halt, these alone time out: too few to
/// trip the circuit of a server that is well.
const EVERY: Duration = Duration::from_millis(2);

/// Says when the next call begins, whoever makes it.
#[derive(Clone, Debug)]
pub(crate) struct Pace(Arc<Mutex<Interval>>);

impl Pace {
    /// One that begins now.
    pub(crate) fn new() -> Self {
        let mut pace = interval(EVERY);
        // What was missed is not made up for: after a halt of the machine all callers would call at once.
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self(Arc::new(Mutex::new(pace)))
    }

    async fn next(&self) {
        self.0.lock().await.tick().await;
    }
}

/// Calls until told to stop; a call in flight is finished.
pub(crate) async fn call(mut caller: impl Caller, pace: Pace, journal: Arc<Journal>, stop: watch::Receiver<bool>) {
    loop {
        pace.next().await;
        if *stop.borrow() {
            return;
        }
        match caller.ask().await {
            Ok(name) => journal.answered(&name),
            Err(why) => journal.failed(&why),
        }
    }
}
