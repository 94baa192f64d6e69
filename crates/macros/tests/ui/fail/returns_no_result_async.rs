use service_mesh::{with_circuit_breaker, with_retry};

#[with_circuit_breaker("api")]
async fn fetch() -> Option<u32> {
    Some(1)
}

#[with_retry]
async fn fetch_again() -> Option<u32> {
    Some(1)
}

fn main() {
    let _ = (fetch(), fetch_again());
}
