//! Both attributes on one function: the upper is the outer.

use std::cell::Cell;

use service_mesh::{with_circuit_breaker, with_retry};

use crate::{ApiError, block_on};

fn down(calls: &Cell<u32>) -> Result<(), ApiError> {
    calls.set(calls.get() + 1);
    Err(ApiError::Down)
}

#[test]
fn a_retry_over_a_breaker_has_every_attempt_judged_and_never_tries_an_open_circuit_again() {
    #[with_retry(max_retries = 9, initial_delay_seconds = 0)]
    #[with_circuit_breaker("inner", failure_threshold = 3)]
    fn fetch(calls: &Cell<u32>, _body: String) -> Result<(), ApiError> {
        down(calls)
    }
    let calls = Cell::new(0);
    // Three attempts trip it; the fourth is refused, and that is final.
    assert!(fetch(&calls, String::new()).unwrap_err().is_open());
    assert_eq!(calls.get(), 3);
    assert_eq!(fetch_circuit_breaker().failure_count(), 3);
    assert_eq!(fetch_retry_policy().config().max_retries(), 9);
}

#[test]
fn a_breaker_over_a_retry_judges_the_whole_call_once() {
    #[with_circuit_breaker("outer", failure_threshold = 2)]
    #[with_retry(max_retries = 2, initial_delay_seconds = 0)]
    fn fetch(calls: &Cell<u32>, _body: String) -> Result<(), ApiError> {
        down(calls)
    }
    let calls = Cell::new(0);
    assert_eq!(fetch(&calls, String::new()), Err(ApiError::Down));
    assert_eq!((calls.get(), fetch_circuit_breaker().failure_count()), (3, 1));
    assert_eq!(fetch(&calls, String::new()), Err(ApiError::Down));
    assert!(fetch(&calls, String::new()).unwrap_err().is_open());
    assert_eq!(calls.get(), 6);
}

#[test]
fn async_functions_stack_in_either_order() {
    #[with_retry(max_retries = 9, initial_delay_seconds = 0)]
    #[with_circuit_breaker("inner", failure_threshold = 3)]
    async fn inner(calls: &Cell<u32>, body: String) -> Result<String, ApiError> {
        std::future::ready(()).await;
        down(calls)?;
        Ok(body)
    }
    #[with_circuit_breaker("outer", failure_threshold = 2)]
    #[with_retry(max_retries = 2, initial_delay_seconds = 0)]
    async fn outer(calls: &Cell<u32>, body: String) -> Result<String, ApiError> {
        std::future::ready(()).await;
        down(calls)?;
        Ok(body)
    }
    let calls = Cell::new(0);
    assert!(block_on(inner(&calls, String::new())).unwrap_err().is_open());
    assert_eq!(calls.take(), 3);
    assert_eq!(block_on(outer(&calls, String::new())), Err(ApiError::Down));
    assert_eq!((calls.get(), outer_circuit_breaker().failure_count()), (3, 1));
}

struct Client(u32);

impl Client {
    /// Attributes of others stay on the function, whatever stands between ours.
    #[with_retry(initial_delay_seconds = 0)]
    #[inline]
    #[with_circuit_breaker("method")]
    #[must_use = "it says whether it was sent"]
    async fn inner(&mut self, body: String) -> Result<usize, ApiError> {
        self.0 += 1;
        std::future::ready(()).await;
        if self.0 < 3 { Err(ApiError::Down) } else { Ok(body.len()) }
    }

    #[with_circuit_breaker("method")]
    #[with_retry(initial_delay_seconds = 0)]
    fn outer(&mut self, body: String) -> Result<usize, ApiError> {
        self.0 += 1;
        if self.0 < 3 { Err(ApiError::Down) } else { Ok(body.len()) }
    }

    #[service_mesh::with_circuit_breaker("method")]
    #[service_mesh::with_retry(initial_delay_seconds = 0)]
    async fn outer_async(&mut self, body: String) -> Result<usize, ApiError> {
        self.0 += 1;
        if self.0 < 3 { Err(ApiError::Down) } else { Ok(body.len()) }
    }

    #[with_retry(initial_delay_seconds = 0)]
    #[with_circuit_breaker("method")]
    fn inner_blocking(&mut self, body: String) -> Result<usize, ApiError> {
        self.0 += 1;
        if self.0 < 3 { Err(ApiError::Down) } else { Ok(body.len()) }
    }
}

#[test]
fn methods_stack_in_either_order_and_may_change_their_object() {
    assert_eq!(block_on(Client(0).inner("four".into())), Ok(4));
    assert_eq!(block_on(Client(0).outer_async("four".into())), Ok(4));
    assert_eq!(Client(0).inner_blocking("four".into()), Ok(4));
    assert_eq!(Client(0).outer("four".into()), Ok(4));
    assert_eq!(Client::inner_circuit_breaker().name(), "method");
}
