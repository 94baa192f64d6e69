//! How the function that is called answers.

use std::time::Duration;

use serde::Deserialize;
use service_mesh_models::RefusalReason;

use crate::expect::Span;

/// How the function that is called answers, and what the driver's classifier must make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyKind {
    /// A value: success, final.
    Ok,
    /// An error: failure, may be retried.
    Error,
    /// An error that may not be retried: failure, final.
    Fatal,
    /// An error that says nothing of the callee: neutral, final.
    Ignored,
    /// An error that is a good answer, as a 404: success, final.
    AcceptedError,
    /// A value that is a bad answer, as a response with status 503: failure, may be retried.
    BadValue,
    /// An error that asks to come back, as a 429: neutral, may be retried.
    TryLater,
    /// The refusal of another circuit breaker, further down: neutral, final. The default classifier must see that.
    Refusal,
    /// A panic: failure, and it goes on unwinding. Python has none: what is no `Exception` there is an interruption.
    Panic,
}

impl ReplyKind {
    /// The word for this answer, as in the files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Fatal => "fatal",
            Self::Ignored => "ignored",
            Self::AcceptedError => "accepted_error",
            Self::BadValue => "bad_value",
            Self::TryLater => "try_later",
            Self::Refusal => "refusal",
            Self::Panic => "panic",
        }
    }
}

/// One answer: its kind, how long it takes, and when to come back at the earliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Reply {
    /// What kind of answer.
    pub kind: ReplyKind,
    /// The driver moves the clock by this while the function runs.
    pub takes: Duration,
    /// The classifier tells it along with the outcome.
    pub retry_after: Option<Duration>,
}

impl Reply {
    /// An answer that takes no time.
    pub const fn at_once(kind: ReplyKind) -> Self {
        Self { kind, takes: Duration::ZERO, retry_after: None }
    }
}

/// In a file: a word, or a table where there is more to say.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a reply: a word, or { reply, takes_seconds, retry_after_seconds }")]
enum Written {
    Word(ReplyKind),
    Table(WrittenTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTable {
    reply: ReplyKind,
    #[serde(default)]
    takes_seconds: Span,
    retry_after_seconds: Option<Span>,
}

impl From<Written> for Reply {
    fn from(written: Written) -> Self {
        match written {
            Written::Word(kind) => Self::at_once(kind),
            Written::Table(table) => Self {
                kind: table.reply,
                takes: table.takes_seconds.0,
                retry_after: table.retry_after_seconds.map(|span| span.0),
            },
        }
    }
}

/// A refusal as the caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// When to come back, if it is told.
    pub retry_after: Option<Duration>,
}
