//! With service-mesh: the breakers, the turns and the next attempt are one call.

use peers_programs::{asked_a, pay};
use service_mesh::{ServiceInstance, ServiceProxy};

fn main() {
    let payments = ServiceProxy::new("payments");
    for id in ["a", "b", "c"] {
        payments.load_balancer().register(ServiceInstance::new(id, "10.0.0.1", 80));
    }

    for _ in 0..100 {
        assert_eq!(payments.call(|attempt| pay(&attempt.instance().id)), Ok("paid"));
    }
    assert_eq!(asked_a(), 5);
}
