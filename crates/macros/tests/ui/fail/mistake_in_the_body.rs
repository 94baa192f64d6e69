use service_mesh::{CircuitOpenError, with_circuit_breaker, with_retry};

#[with_retry]
#[with_circuit_breaker("api")]
async fn fetch() -> Result<u32, CircuitOpenError> {
    Ok("seven")
}

fn main() {
    let _ = fetch();
}
