//! What the function that is called returns, and the classifier for it.

use std::any::Any;
use std::panic::resume_unwind;

use service_mesh::{Answer, CircuitOpenError, Classify, EveryError, RefusalReason};
use service_mesh_conformance::{Reply, ReplyKind};

/// A value or an error of the function, and which run of it gave that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replied {
    pub(super) reply: Reply,
    pub(super) run: u32,
}

pub(super) type Returned = Result<Replied, Replied>;

impl Replied {
    pub(super) fn once(reply: Reply) -> Self {
        Self { reply, run: 1 }
    }

    pub(super) fn kind(&self) -> ReplyKind {
        self.reply.kind
    }

    /// The reply as a result.
    pub(super) fn returned(self) -> Returned {
        match self.reply.kind {
            ReplyKind::Ok | ReplyKind::BadValue => Ok(self),
            _ => Err(self),
        }
    }

    /// The function returns, or unwinds: without the hook, which would print each of these panics.
    pub(super) fn answer(self) -> Returned {
        if self.reply.kind == ReplyKind::Panic { resume_unwind(Box::new(self)) } else { self.returned() }
    }

    /// What an unwinding function replied. Any other panic goes on.
    pub(super) fn caught(payload: Box<dyn Any + Send>) -> Self {
        *payload.downcast().unwrap_or_else(|other| resume_unwind(other))
    }
}

/// Makes of each reply what `conformance/README.md` says.
#[derive(Clone, Copy)]
pub(super) struct ByKind;

impl Classify<Replied, Replied> for ByKind {
    fn classify(&self, result: &Returned) -> Answer {
        let (Ok(replied) | Err(replied)) = result;
        let answer = match replied.kind() {
            ReplyKind::Ok | ReplyKind::AcceptedError => Answer::success(),
            ReplyKind::Error | ReplyKind::BadValue => Answer::failure(),
            ReplyKind::Fatal | ReplyKind::Panic => Answer::failure().retryable(false),
            ReplyKind::Ignored => Answer::neutral(),
            ReplyKind::TryLater => Answer::neutral().retryable(true),
            ReplyKind::Refusal => {
                EveryError.classify(&Err::<(), _>(CircuitOpenError::new("nested", RefusalReason::Open, None)))
            }
        };
        match replied.reply.retry_after {
            Some(wait) => answer.retry_after(wait),
            None => answer,
        }
    }
}
