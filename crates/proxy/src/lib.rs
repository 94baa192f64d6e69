//! The sidecar: gives any service, in any language, the circuits, retries, limits and balancing of `service-mesh`, over
//! HTTP/1.1.
//!
//! It holds no policy of its own. A request is guarded and routed, and from there each attempt is one step of the call
//! machine (`ServiceProxy::begin`): the machine decides, and this crate moves bytes.
//!
//! ```text
//! client ─▶ listener ─▶ guard ─▶ route ─▶ limits ─▶ forward: the call machine ─▶ pool ─▶ upstream
//! ```
//!
//! One thread serves a core: each has its own runtime, its own listening socket and its own pool of connections, and
//! shares with the others only what decides (circuits, balancers, budgets) and what limits. Measured, that is a tenth to
//! a third of the CPU of a request (nginx and Envoy are built the same way).
#![forbid(unsafe_code)]

mod access_log;
mod admin;
mod alarm;
pub mod cli;
mod connection;
mod control;
mod demo;
mod discovery;
mod drain;
mod exchange;
mod footing;
mod forward;
mod guard;
mod headers;
mod health;
mod journal;
mod judge;
mod launch;
mod limits;
mod listener;
mod listeners;
mod metrics;
mod outgoing;
mod pool;
mod pulse;
mod quick;
mod refusal;
mod reload;
mod replay;
mod retry_after;
mod route;
mod server;
mod service;
mod sidecar;
mod signals;
mod socket_file;
mod trace_context;
mod upgrade;
mod upstream;
mod wire;
mod worker;

pub use control::{Apply, Control, Ended};
pub use drain::{Drain, Phase, Shutdown};
pub use forward::TIMEOUT;
pub use listeners::{Listeners, Prepared};
pub use quick::quick_policy;
pub use refusal::{REFUSED, Reason};
pub use server::{ServeError, Server, Serving, Threads};
pub use sidecar::Sidecar;
pub use signals::{Signal, Signals};
