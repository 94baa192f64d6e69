//! Something of the user's that lives with a registration: the client of an instance, a pool, an object of another
//! language. Whoever picks gets it back with the instance, and needs no map of his own beside the balancer.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// What a user attaches to a registration: see [`LoadBalancer::register_with`](super::LoadBalancer::register_with).
///
/// It is dropped with the last handle of the registration, and with no lock held, so that its `Drop` may do anything.
pub type Attachment = Arc<dyn Any + Send + Sync>;

/// The place for it; most registrations leave it empty. Written at most once, so that a reader may hold a reference.
#[derive(Clone, Default)]
pub(super) struct Attached(OnceLock<Attachment>);

impl Attached {
    pub(super) fn new(attachment: Option<Attachment>) -> Self {
        Self(attachment.map(OnceLock::from).unwrap_or_default())
    }

    /// Whether the same thing is there, or nothing.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self.0.get(), other.0.get()) {
            (Some(this), Some(other)) => Arc::ptr_eq(this, other),
            (this, other) => this.is_none() && other.is_none(),
        }
    }

    /// Puts it there unless something is there already.
    pub(super) fn attach(&self, attachment: Attachment) {
        // The other one came first: this is dropped, and nobody has seen it.
        let _ = self.0.set(attachment);
    }

    /// What is there, if it is of this type.
    #[inline]
    pub(super) fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.get()?.downcast_ref()
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Attached" } else { "Nothing" })
    }
}
