use service_mesh::{CircuitOpenError, with_circuit_breaker};

#[with_circuit_breaker("api", failure_treshold = 3)]
fn fetch() -> Result<(), CircuitOpenError> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
