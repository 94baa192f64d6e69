use service_mesh::{CircuitOpenError, with_circuit_breaker};

#[with_circuit_breaker(circuit_breaker = BREAKER, failure_threshold = 3)]
fn fetch() -> Result<(), CircuitOpenError> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
