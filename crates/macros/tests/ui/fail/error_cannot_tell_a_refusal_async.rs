use service_mesh::{with_circuit_breaker, with_retry};

#[derive(Debug)]
pub struct ApiError;

#[with_retry]
#[with_circuit_breaker("api")]
async fn fetch() -> Result<u32, ApiError> {
    Err(ApiError)
}

fn main() {
    let _ = fetch();
}
