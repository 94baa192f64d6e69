#![deny(warnings)]

use service_mesh::{CircuitOpenError, with_circuit_breaker, with_retry};

#[derive(Debug)]
pub struct ApiError;

impl From<CircuitOpenError> for ApiError {
    fn from(_: CircuitOpenError) -> Self {
        Self
    }
}

#[with_retry(max_retries = 3)]
#[with_circuit_breaker("api-service", failure_threshold = 3, timeout_seconds = 2.5)]
pub async fn fetch(url: String, mut tries: u32) -> Result<String, ApiError> {
    tries += 1;
    if tries > 9 {
        return Err(ApiError);
    }
    Ok(url)
}

#[with_circuit_breaker("api-service")]
#[with_retry]
fn fetch_blocking(url: String, mut tries: u32) -> Result<String, ApiError> {
    tries += 1;
    if tries > 9 {
        return Err(ApiError);
    }
    Ok(url)
}

fn main() {
    assert_eq!(fetch_blocking("/".into(), 0).unwrap(), "/");
    assert_eq!(fetch_blocking_circuit_breaker().failure_count(), 0);
}
