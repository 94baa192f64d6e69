use service_mesh::with_circuit_breaker;

#[derive(Debug)]
pub struct ApiError;

#[with_circuit_breaker("api")]
fn fetch() -> Result<u32, ApiError> {
    Err(ApiError)
}

fn main() {
    let _ = fetch();
}
