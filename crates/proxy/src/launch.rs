//! A whole sidecar, begun and ended: the threads that serve, and what surrounds them.

use std::error::Error;
use std::path::PathBuf;

use service_mesh::ListenAddress;

use crate::control::{Control, Ended};
use crate::drain::Shutdown;
use crate::server::{Server, Threads};
use crate::sidecar::Sidecar;
use crate::signals::Signals;

/// A sidecar that serves.
#[derive(Debug)]
pub(crate) struct Launched {
    listening: Vec<(String, ListenAddress)>,
    control: Control,
    threads: Threads,
}

impl Launched {
    /// Binds everything that the policy wants, and serves on as many threads. Must run in a tokio runtime, which looks
    /// after the surroundings.
    pub(crate) fn launch(sidecar: &Sidecar, threads: usize) -> Result<Self, String> {
        let server = Server::bind(sidecar, threads).map_err(|error| told(&error))?;
        let mut listening = Vec::new();
        for (name, listener) in &sidecar.mesh().policy().listeners {
            // Where the policy wants any port, the server knows which.
            let bound = server.addresses().iter().find(|(bound, _)| bound == name);
            listening
                .push((name.clone(), bound.map_or_else(|| listener.address.clone(), |(_, address)| (*address).into())));
        }
        let (shutdown, drain) = Shutdown::new();
        let (listeners, threads) = server.start(&drain).map_err(|error| told(&error))?.split();
        let control = Control::start(sidecar, shutdown, listeners.applying())?;
        Ok(Self { listening, control, threads })
    }

    /// The same, which follows a file from now on: it has been read as this text, which is in force.
    pub(crate) fn following(mut self, path: PathBuf, text: String) -> Self {
        self.control = self.control.following(path, text);
        self
    }

    /// The same, which also tells on the error output what becomes of services.
    pub(crate) fn telling(mut self) -> Self {
        self.control = self.control.telling();
        self
    }

    /// Where it listens: the name of each listener, and its address with the port that it has got.
    pub(crate) fn listening(&self) -> &[(String, ListenAddress)] {
        &self.listening
    }

    /// Where its pages are, if it has some.
    pub(crate) fn admin(&self) -> Option<&ListenAddress> {
        self.control.admin_address()
    }

    /// Serves until the signals end it, and what was in flight is over.
    pub(crate) async fn run(self, signals: Signals) -> Ended {
        let Self { control, threads, .. } = self;
        let ended = control.run(signals).await;
        if ended != Ended::AtOnce {
            // A thread that panicked has told so already.
            let _ = tokio::task::spawn_blocking(|| threads.join()).await;
        }
        ended
    }
}

/// An error with its cause.
fn told(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
