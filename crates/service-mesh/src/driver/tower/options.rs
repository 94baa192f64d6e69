//! What each call of a service asks for.

use crate::resilience::service_proxy::CallOptions;

/// The options of a call, told by its request: one [`CallOptions`] for all of them, or a closure
/// `Fn(&Request) -> CallOptions`.
///
/// ```
/// use std::time::Duration;
/// use service_mesh::{CallOptions, ServiceProxy};
/// use service_mesh::tower::ServiceProxyLayer;
/// # use hyper::Request;
/// let patience = |request: &Request<String>| {
///     let seconds = if request.uri().path().starts_with("/reports") { 30 } else { 1 };
///     CallOptions::new().timeout(Duration::from_secs(seconds))
/// };
/// let layer = ServiceProxyLayer::new(ServiceProxy::new("shop")).options(patience);
/// # let _ = layer;
/// ```
pub trait RequestOptions<Request> {
    /// How results are understood.
    type Classify;

    /// The options for this request. Called once a call, when it begins.
    fn options(&self, request: &Request) -> CallOptions<Self::Classify>;
}

impl<Request, C: Clone> RequestOptions<Request> for CallOptions<C> {
    type Classify = C;

    #[inline]
    fn options(&self, _request: &Request) -> Self {
        self.clone()
    }
}

impl<Request, C, F: Fn(&Request) -> CallOptions<C>> RequestOptions<Request> for F {
    type Classify = C;

    #[inline]
    fn options(&self, request: &Request) -> CallOptions<C> {
        self(request)
    }
}
