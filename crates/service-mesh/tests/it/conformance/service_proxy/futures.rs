//! `call_async_with`, each call a future that is polled by hand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use service_mesh::{CallError, CallOptions, ServiceProxy, Target};
use service_mesh_conformance::Reply;

use super::{Running, Said, Waits, ended};
use crate::conformance::mailbox::Mailbox;
use crate::conformance::replies::{ByKind, Replied};

pub(super) struct Polled {
    call: Pin<Box<dyn Future<Output = Result<Replied, CallError<Replied>>>>>,
    reply: Mailbox<Reply>,
    tries: Mailbox<Said>,
}

impl Running for Polled {
    fn begin(proxy: &ServiceProxy, waits: &Waits, options: CallOptions) -> Self {
        let (reply, tries) = (Mailbox::default(), Mailbox::default());
        let (proxy, waits, replied, tell) = (proxy.clone(), waits.clone(), reply.clone(), tries.clone());
        let call = Box::pin(async move {
            let function = async |target: Target| {
                if target.time_left().is_some() {
                    waits.forget_last();
                }
                tell.put(Said::Tries(target.id.clone()));
                Replied::once(replied.wait().await).answer()
            };
            proxy.call_async_with(&options.classify(ByKind), function).await
        });
        Self { call, reply, tries }
    }

    fn go_on(&mut self, reply: Option<Reply>) -> Option<Said> {
        if let Some(reply) = reply {
            self.reply.put(reply);
        }
        let mut context = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| self.call.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => self.tries.take(),
            Ok(Poll::Ready(result)) => Some(ended(Ok(result))),
            Err(payload) => Some(ended(Err(payload))),
        }
    }
}
