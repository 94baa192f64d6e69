use service_mesh::{CircuitOpenError, with_circuit_breaker};

#[with_circuit_breaker("api", failure_threshold = 3, failure_threshold = 4)]
fn fetch() -> Result<(), CircuitOpenError> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
