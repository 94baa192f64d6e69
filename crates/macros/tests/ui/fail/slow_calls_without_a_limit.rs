use service_mesh::{CircuitOpenError, with_circuit_breaker};

#[with_circuit_breaker("api", time_window(slow_call_ratio = 0.5))]
fn fetch() -> Result<(), CircuitOpenError> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
