#![deny(warnings)]

use service_mesh::{with_circuit_breaker, with_retry};

#[with_retry]
#[with_circuit_breaker("api-service")]
pub fn fetch(url: String) -> Result<String, Box<dyn std::error::Error>> {
    Ok(url)
}

#[rustfmt::skip]
#[with_retry]
pub async fn on_one_line(url: String, _: &mut [u8]) -> Result<String, Box<dyn std::error::Error>> { Ok(url) }

#[rustfmt::skip]
#[with_circuit_breaker("api-service")]
pub fn blocking_on_one_line(url: String, _unused: u32) -> Result<String, Box<dyn std::error::Error>> { Ok(url) }

#[rustfmt::skip]
#[with_retry(initial_delay_seconds = 0)]
pub fn tried_on_one_line(url: String, _unused: u32) -> Result<String, Box<dyn std::error::Error>> { Ok(url) }

fn main() {
    assert_eq!(fetch("/".into()).unwrap(), "/");
}
