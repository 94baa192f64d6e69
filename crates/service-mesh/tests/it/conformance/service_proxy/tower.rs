//! `ServiceProxyLayer`, each call a future of the service that it makes, polled by hand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use service_mesh::tower::ServiceProxyLayer;
use service_mesh::{CallError, CallOptions, ServiceProxy, Target};
use service_mesh_conformance::Reply;
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::{Running, Said, Waits, ended};
use crate::conformance::mailbox::Mailbox;
use crate::conformance::replies::{ByKind, Replied};

pub(super) struct Layered {
    call: Pin<Box<dyn Future<Output = Result<Replied, CallError<Replied>>>>>,
    reply: Mailbox<Reply>,
    tries: Mailbox<Said>,
}

impl Running for Layered {
    fn begin(proxy: &ServiceProxy, waits: &Waits, options: CallOptions) -> Self {
        let (reply, tries) = (Mailbox::default(), Mailbox::default());
        let (waits, replied, tell) = (waits.clone(), reply.clone(), tries.clone());
        let inner = service_fn(move |(target, ()): (Target, ())| {
            if target.time_left().is_some() {
                waits.forget_last();
            }
            tell.put(Said::Tries(target.id.clone()));
            let replied = replied.clone();
            async move { Replied::once(replied.wait().await).answer() }
        });
        // One service for the call, whose request is cloned for each attempt.
        let layer = ServiceProxyLayer::new(proxy.clone()).options(move |(): &()| options.clone().classify(ByKind));
        let service = ServiceBuilder::new().layer(layer).service(inner);
        Self { call: Box::pin(service.oneshot(())), reply, tries }
    }

    fn go_on(&mut self, reply: Option<Reply>) -> Option<Said> {
        if let Some(reply) = reply {
            self.reply.put(reply);
        }
        let mut context = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| self.call.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => self.tries.take(),
            Ok(Poll::Ready(result)) => Some(ended(Ok(result))),
            Err(payload) => {
                // A panic counts when the future is dropped, as whoever polls it drops it now.
                self.call = Box::pin(std::future::pending());
                Some(ended(Err(payload)))
            }
        }
    }
}
