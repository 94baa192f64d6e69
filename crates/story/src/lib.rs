//! A story about trouble: three servers that fail, hang, die and come back by script, callers who keep asking, and a
//! journal that tells what happened and adds up what everybody counted.
//!
//! Two programs tell it: the quickstart, whose callers call through the library, and `service-mesh demo`, whose callers
//! send HTTP to the sidecar. They bring the proxy and the [`Caller`]; everything else is here. For anything but a
//! demonstration this is of no use.
#![forbid(unsafe_code)]

mod books;
mod caller;
mod journal;
mod phase;
mod screen;
mod script;
mod server;
mod speed;
mod stage;

pub use caller::Caller;
pub use speed::{Speed, SpeedError};
pub use stage::{Ending, Stage};

/// The three servers.
pub const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// The path that callers ask for. Whoever asks for another one came to look, and is counted apart.
pub const PATH: &str = "/order";

/// How many callers ask at the same time.
///
/// Retries have a budget: in any 10 seconds 100, and one more for every five calls. The protection stays on, and it is
/// enough. A server that turns bad fails each caller about once before its circuit trips, since a caller makes one call
/// at a time, and the next ones pass the server by: at most 16 retries in each of three troubles. The circuit then
/// probes it once a second with at most three calls, which is another 20 or so. Many more callers would need a larger
/// floor.
pub const CALLERS: u32 = 16;
