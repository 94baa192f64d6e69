//! A proxy as a service.

use std::task::{Context, Poll};

use tower_service::Service;

use super::super::options::RequestOptions;
use super::super::replay::Replay;
use super::future::ServiceProxyFuture;
use crate::resilience::call_error::CallError;
use crate::resilience::outcome::Classify;
use crate::resilience::service_proxy::{ServiceProxy, Target};

/// A [`ServiceProxy`] before a service that takes a [`Target`] and a request; [`ServiceProxyLayer`](super::ServiceProxyLayer)
/// makes it.
///
/// - `poll_ready` is always ready: who will be asked is known only when an attempt begins. Each attempt is made by a fresh
///   clone of the inner service, which is asked to be ready first; both together have the attempt's time, and a clone that
///   fails to become ready has failed the attempt. Bound the calls outside, with `tower::limit`.
/// - `call` begins the call and its deadline; the instance is picked when the future is polled first.
///
/// A call clones the inner service once, and once more an attempt. Beyond that it costs what
/// [`ServiceProxy::call_async`] costs.
#[derive(Clone, Debug)]
pub struct ServiceProxyService<S, O, R> {
    inner: S,
    proxy: ServiceProxy,
    options: O,
    replay: R,
}

impl<S, O, R> ServiceProxyService<S, O, R> {
    pub(super) fn new(inner: S, proxy: ServiceProxy, options: O, replay: R) -> Self {
        Self { inner, proxy, options, replay }
    }

    /// Its proxy.
    pub fn service_proxy(&self) -> &ServiceProxy {
        &self.proxy
    }
}

impl<S, O, R, Request> Service<Request> for ServiceProxyService<S, O, R>
where
    S: Service<(Target, Request)> + Clone,
    O: RequestOptions<Request, Classify: Classify<S::Response, S::Error>>,
    R: Replay<Request> + Clone,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = ServiceProxyFuture<S, Request, O::Classify, R>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let options = self.options.options(&request);
        let call = self.proxy.begin_owned(&options);
        ServiceProxyFuture::new(call, self.inner.clone(), request, options.classify, self.replay.clone())
    }
}
