use service_mesh::{CircuitOpenError, with_circuit_breaker, with_retry};

#[with_retry]
#[with_circuit_breaker("api", timeout_secs = 3)]
fn fetch() -> Result<(), CircuitOpenError> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
