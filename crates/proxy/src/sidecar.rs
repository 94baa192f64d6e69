//! What all threads of a sidecar share: the services, and where requests go.

use std::sync::Arc;

use arc_swap::ArcSwap;
use service_mesh::{Mesh, PolicyChanges, PolicyError, PolicyFile};

/// What all threads of a sidecar share. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Sidecar(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mesh: Mesh,
    policy: ArcSwap<PolicyFile>,
}

impl Sidecar {
    /// Serves the services of this mesh by the routes of its policy.
    pub fn new(mesh: Mesh) -> Self {
        let policy = ArcSwap::new(mesh.policy());
        Self(Arc::new(Inner { mesh, policy }))
    }

    /// Reads a policy for a sidecar: where the file says nothing, half of the instances may be ejected at once.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn from_policy(text: &str) -> Result<Self, PolicyError> {
        let builder = Mesh::builder().max_ejected_ratio(0.5).expect("0.5 is a ratio");
        Ok(Self::new(builder.read_text(text)?))
    }

    /// The services.
    pub fn mesh(&self) -> &Mesh {
        &self.0.mesh
    }

    /// Puts another policy in force, and tells what it has changed in the services.
    ///
    /// # Errors
    /// Every mistake in it; nothing has changed then.
    pub fn reload(&self, text: &str) -> Result<PolicyChanges, PolicyError> {
        let changes = self.0.mesh.reload(text)?;
        self.0.policy.store(self.0.mesh.policy());
        Ok(changes)
    }
}
