//! What surrounds the path of a request: who the instances are, how they are, and what the sidecar tells of itself.
//!
//! It runs on a runtime of its own, away from the threads that serve: nothing here may slow a request down.

use service_mesh::Environment;

use crate::discovery::Discovery;
use crate::health::Health;
use crate::sidecar::Sidecar;

/// Keeps the instances of a sidecar's services as its policy says. Dropped, it leaves them as they are.
#[derive(Debug)]
pub struct Control {
    sidecar: Sidecar,
    discovery: Discovery,
    health: Health,
}

impl Control {
    /// Begins with what the policy in force says. Must run in a tokio runtime, which runs everything that follows.
    pub fn start(sidecar: &Sidecar) -> Self {
        let environment = Environment::system();
        let (discovery, health) = (Discovery::new(environment.clone()), Health::new(environment));
        let mut control = Self { sidecar: sidecar.clone(), discovery, health };
        control.follow();
        control
    }

    /// Goes on as the policy says that is in force now. To be called after each reload.
    pub fn follow(&mut self) {
        self.discovery.follow(self.sidecar.mesh());
        self.health.follow(self.sidecar.mesh());
    }
}
