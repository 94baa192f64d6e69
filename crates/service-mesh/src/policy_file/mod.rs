//! The policy file: services from one TOML that Rust, Python and the sidecar share.
//!
//! The whole file is read and checked before anything is made of it, every mistake is told with its place, and a reload
//! changes what has changed and nothing else: circuits, counters and calls in flight stay as they are.
//!
//! Positions come from `toml`'s spans; serde would tell where a value is of the wrong kind, but not where one is out of
//! range, nor what an instance's circuit may inherit. "Did you mean" is git's and rustc's habit, and that a reload
//! either applies as a whole or not at all is nginx's.
//!
//! Not for settings that change with every call: those are [`CallOptions`](crate::CallOptions).

mod changes;
mod document;
mod error;
mod mesh;
mod read;
#[cfg(feature = "schema")]
mod schema;
mod sidecar;
mod suggestion;

pub use changes::PolicyChanges;
pub use error::{Mistake, PolicyError};
pub use mesh::{Mesh, MeshBuilder};
pub use read::read_policy_file;
#[cfg(feature = "schema")]
pub use schema::policy_file_schema;
