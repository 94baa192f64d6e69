use service_mesh::{CallError, CircuitBreaker};

#[derive(Debug)]
pub struct ApiError;

fn fetch(breaker: &CircuitBreaker) -> Result<u32, ApiError> {
    breaker.execute(|| Err(ApiError)).map_err(|error: CallError<ApiError>| error.into_error())
}

fn main() {
    let _ = fetch(&CircuitBreaker::new("api"));
}
