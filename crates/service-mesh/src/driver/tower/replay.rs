//! A request that may be needed again.

/// Makes the request of the next attempt, before this one consumes its own. A closure `Fn(&Request) -> Option<Request>`
/// is one.
///
/// ```
/// use service_mesh::RetryPolicy;
/// use service_mesh::tower::RetryLayer;
/// # use hyper::{Method, Request};
/// // What may not run twice is sent once.
/// let safe = |request: &Request<String>| (request.method() != Method::POST).then(|| request.clone());
/// let layer = RetryLayer::new(RetryPolicy::default()).replay(safe);
/// # let _ = layer;
/// ```
pub trait Replay<Request> {
    /// The same request again; none if it may not be sent twice, or cannot be copied. Then the result of this attempt is
    /// final. Called once before each attempt.
    fn replay(&self, request: &Request) -> Option<Request>;
}

impl<Request, F: Fn(&Request) -> Option<Request>> Replay<Request> for F {
    fn replay(&self, request: &Request) -> Option<Request> {
        self(request)
    }
}

/// The default: every request may be sent again, and is cloned.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest;

impl<Request: Clone> Replay<Request> for CloneRequest {
    #[inline]
    fn replay(&self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}
