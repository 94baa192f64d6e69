use service_mesh::{CircuitOpenError, with_circuit_breaker};

#[with_circuit_breaker("api", timeout_seconds = 60, timeout_max_seconds = 30)]
fn fetch() -> Result<(), CircuitOpenError> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
