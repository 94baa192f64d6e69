//! `CircuitBreakerLayer`, each call a future of the service that it makes, polled by hand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use service_mesh::tower::CircuitBreakerLayer;
use service_mesh::{CallError, CircuitBreaker, CircuitState};
use service_mesh_conformance::circuit_breaker::CameBack;
use service_mesh_conformance::{Refusal, ReplyKind};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::{Running, answer, came_back, refused};
use crate::conformance::mailbox::Mailbox;
use crate::conformance::replies::{ByKind, Replied};

pub(super) struct Layered {
    call: Pin<Box<dyn Future<Output = Result<Replied, CallError<Replied>>>>>,
    reply: Mailbox<ReplyKind>,
}

impl Layered {
    /// Polls once, which is as far as the call goes by itself. A call that is over is dropped, as whoever polls it does:
    /// a panic counts then.
    fn poll(&mut self) -> Option<CameBack> {
        let mut context = Context::from_waker(Waker::noop());
        let came_back = match catch_unwind(AssertUnwindSafe(|| self.call.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => return None,
            Ok(Poll::Ready(result)) => came_back(Ok(result)),
            Err(payload) => came_back(Err(payload)),
        };
        self.call = Box::pin(std::future::pending());
        Some(came_back)
    }
}

impl Running for Layered {
    fn begin(breaker: &CircuitBreaker) -> Result<(Self, CircuitState), Refusal> {
        let (reply, during) = (Mailbox::default(), Mailbox::default());
        let (same, replied, read) = (breaker.clone(), reply.clone(), during.clone());
        let inner = service_fn(move |()| {
            read.put(same.state());
            let replied = replied.clone();
            async move { answer(replied.wait().await) }
        });
        let layer = CircuitBreakerLayer::new(breaker.clone()).classify(ByKind);
        let service = ServiceBuilder::new().layer(layer).service(inner);
        let mut layered = Self { call: Box::pin(service.oneshot(())), reply };
        match layered.poll() {
            None => Ok((layered, during.take().expect("the inner service runs"))),
            Some(came_back) => Err(refused(came_back)),
        }
    }

    fn end(mut self, reply: ReplyKind) -> CameBack {
        self.reply.put(reply);
        self.poll().expect("the inner service has answered")
    }
}
