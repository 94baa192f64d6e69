//! Puts a proxy before services that can go to any instance.

use tower_layer::Layer;

use super::super::replay::CloneRequest;
use super::service::ServiceProxyService;
use crate::resilience::service_proxy::{CallOptions, ServiceProxy};

/// Puts a [`ServiceProxy`] before a service that takes a [`Target`](crate::Target) and a request.
///
/// ```
/// use service_mesh::testing::ManualClock;
/// use service_mesh::tower::ServiceProxyLayer;
/// use service_mesh::{Answer, CallOptions, Environment, ServiceInstance, ServiceProxy, Target};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// let clock = ManualClock::new();
/// let payments = ServiceProxy::builder("payments").environment(Environment::manual(&clock)).build();
/// for (id, host) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
///     payments.load_balancer().register(ServiceInstance::new(id, host, 80));
/// }
///
/// // A status is not an error here, but it says enough.
/// let judge = |result: &Result<u16, std::io::Error>| match result {
///     Ok(500..) | Err(_) => Answer::failure(),
///     Ok(_) => Answer::success(),
/// };
/// let service = ServiceBuilder::new()
///     .layer(ServiceProxyLayer::new(payments).options(CallOptions::new().classify(judge)))
///     .service(service_fn(async |(target, _path): (Target, &'static str)| {
///         Ok::<u16, std::io::Error>(if target.id == "a" { 503 } else { 200 })
///     }));
/// assert_eq!(clock.block_on(service.oneshot("/orders")).unwrap(), 200);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put before a service"]
pub struct ServiceProxyLayer<O = CallOptions, R = CloneRequest> {
    proxy: ServiceProxy,
    options: O,
    replay: R,
}

impl ServiceProxyLayer {
    /// With [`CallOptions::new`] for every call, and requests that are cloned for each attempt ([`CloneRequest`]).
    pub fn new(proxy: ServiceProxy) -> Self {
        Self { proxy, options: CallOptions::new(), replay: CloneRequest }
    }
}

impl<O, R> ServiceProxyLayer<O, R> {
    /// How calls are made: [`CallOptions`] for all of them, or a closure that makes them of a request
    /// ([`RequestOptions`](crate::tower::RequestOptions)).
    pub fn options<P>(self, options: P) -> ServiceProxyLayer<P, R> {
        ServiceProxyLayer { proxy: self.proxy, options, replay: self.replay }
    }

    /// Which requests may be sent again, and how they are copied: a [`Replay`](crate::tower::Replay). One that may not be
    /// gets one attempt; that instances are passed over whose circuits refuse is no attempt.
    pub fn replay<Q>(self, replay: Q) -> ServiceProxyLayer<O, Q> {
        ServiceProxyLayer { proxy: self.proxy, options: self.options, replay }
    }
}

impl<S, O: Clone, R: Clone> Layer<S> for ServiceProxyLayer<O, R> {
    type Service = ServiceProxyService<S, O, R>;

    fn layer(&self, inner: S) -> Self::Service {
        ServiceProxyService::new(inner, self.proxy.clone(), self.options.clone(), self.replay.clone())
    }
}
