use service_mesh::{CircuitOpenError, with_retry};

#[with_retry]
#[with_circuit_breaker("api")]
fn fetch() -> Result<(), CircuitOpenError> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
