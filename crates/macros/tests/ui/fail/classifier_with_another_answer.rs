use service_mesh::{CallOptions, CircuitBreaker, ServiceProxy};

struct Judge;

fn judged_by_a_bool(breaker: &CircuitBreaker) {
    let _ = breaker.execute_with(&|result: &Result<u16, String>| result.is_ok(), || Ok::<u16, String>(503));
}

fn judged_by_nothing(proxy: &ServiceProxy) {
    let options = CallOptions::new().classify(Judge);
    let _ = proxy.call_with(&options, |_| Ok::<u16, String>(503));
}

fn main() {
    judged_by_a_bool(&CircuitBreaker::new("api"));
    judged_by_nothing(&ServiceProxy::new("api"));
}
