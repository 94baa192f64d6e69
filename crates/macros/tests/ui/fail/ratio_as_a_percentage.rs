use service_mesh::{CircuitOpenError, with_circuit_breaker};

#[with_circuit_breaker("api", count_window(failure_ratio = 50))]
fn fetch() -> Result<(), CircuitOpenError> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
