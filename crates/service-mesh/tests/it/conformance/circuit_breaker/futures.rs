//! `execute_async_with`, each call a future that is polled by hand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use service_mesh::{CallError, CircuitBreaker, CircuitState};
use service_mesh_conformance::circuit_breaker::CameBack;
use service_mesh_conformance::{Refusal, ReplyKind};

use super::{Running, answer, came_back, refused};
use crate::conformance::mailbox::Mailbox;
use crate::conformance::replies::{ByKind, Replied};

pub(super) struct Polled {
    call: Pin<Box<dyn Future<Output = Result<Replied, CallError<Replied>>>>>,
    reply: Mailbox<ReplyKind>,
}

impl Polled {
    /// Polls once, which is as far as the call goes by itself.
    fn poll(&mut self) -> Option<CameBack> {
        let mut context = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| self.call.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(result)) => Some(came_back(Ok(result))),
            Err(payload) => Some(came_back(Err(payload))),
        }
    }
}

impl Running for Polled {
    fn begin(breaker: &CircuitBreaker) -> Result<(Self, CircuitState), Refusal> {
        let (reply, during) = (Mailbox::default(), Mailbox::default());
        let (breaker, replied, read) = (breaker.clone(), reply.clone(), during.clone());
        let call = Box::pin(async move {
            let function = async || {
                read.put(breaker.state());
                answer(replied.wait().await)
            };
            breaker.execute_async_with(&ByKind, function).await
        });
        let mut polled = Self { call, reply };
        match polled.poll() {
            None => Ok((polled, during.take().expect("the function runs"))),
            Some(came_back) => Err(refused(came_back)),
        }
    }

    fn end(mut self, reply: ReplyKind) -> CameBack {
        self.reply.put(reply);
        self.poll().expect("the function has answered")
    }
}
