//! How to bring a runtime: the proxy waits with the timer that it is given. This one needs a line; with the feature
//! `tokio` of the library not even that.

use std::time::Duration;

use service_mesh::{AsyncSleep, NoTimer, Sleeping};

/// tokio's timer.
#[derive(Debug)]
pub(crate) struct TokioTimer;

impl AsyncSleep for TokioTimer {
    fn sleep(&self, duration: Duration) -> Result<Sleeping, NoTimer> {
        Ok(Box::pin(tokio::time::sleep(duration)))
    }
}
