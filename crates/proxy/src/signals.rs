//! What the sidecar is told from outside.

use std::io;

use tokio::signal::unix::{Signal as Unix, SignalKind, signal};
use tokio::sync::mpsc;

/// What the sidecar is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the policy file again.
    Reload,
    /// SIGTERM: end, and give those who send clients the time to notice.
    Terminate,
    /// SIGINT: end. Who sends it sits before a terminal, and nobody else sends clients.
    Interrupt,
}

/// Where signals come from: the system, or a channel.
#[derive(Debug)]
pub struct Signals(Source);

#[derive(Debug)]
enum Source {
    System { hangup: Unix, terminate: Unix, interrupt: Unix },
    Given(mpsc::UnboundedReceiver<Signal>),
}

impl Signals {
    /// Those of the system. From now on they do not end the process by themselves. Must run in a tokio runtime.
    ///
    /// # Errors
    /// The system does not let us hear of them.
    pub fn system() -> io::Result<Self> {
        Ok(Self(Source::System {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        }))
    }

    /// Those that are sent by whoever embeds a sidecar. When the sender is dropped, there are none any more.
    pub fn given() -> (mpsc::UnboundedSender<Signal>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(Source::Given(receiver)))
    }

    /// Waits for the next. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Signal {
        match &mut self.0 {
            Source::System { hangup, terminate, interrupt } => tokio::select! {
                _ = hangup.recv() => Signal::Reload,
                _ = terminate.recv() => Signal::Terminate,
                _ = interrupt.recv() => Signal::Interrupt,
            },
            Source::Given(receiver) => match receiver.recv().await {
                Some(signal) => signal,
                None => std::future::pending().await,
            },
        }
    }

    /// Waits for the next that tells to end.
    pub(crate) async fn end(&mut self) -> Signal {
        loop {
            match self.next().await {
                Signal::Reload => {}
                end => return end,
            }
        }
    }
}
