//! Functions of every shape keep theirs.

use std::cell::Cell;
use std::error::Error;
use std::fmt::{Debug, Display};

use service_mesh::{with_circuit_breaker, with_retry};

use crate::{ApiError, block_on};

type Answer<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Not `Sync`, yet it may be sent.
#[derive(Clone)]
struct Sendable(Cell<u32>);

#[with_retry]
#[with_circuit_breaker("spawned")]
async fn inner(part: Sendable, text: &str) -> Answer<usize> {
    std::future::ready(()).await;
    Ok(text.len() + part.0.get() as usize)
}

#[with_circuit_breaker("spawned")]
#[with_retry]
async fn outer(part: Sendable, text: &str) -> Answer<usize> {
    std::future::ready(()).await;
    Ok(text.len() + part.0.get() as usize)
}

#[with_circuit_breaker("spawned")]
async fn alone(part: Sendable) -> Answer<u32> {
    std::future::ready(()).await;
    Ok(part.0.get())
}

struct Exclusive(Cell<u32>);

impl Exclusive {
    #[with_retry]
    async fn count(&mut self) -> Answer<u32> {
        let count = self.0.get();
        std::future::ready(()).await;
        Ok(count)
    }
}

#[test]
fn futures_can_be_sent_where_the_bodys_can() {
    fn spawned<F: Future + Send>(future: F) -> F::Output {
        block_on(future)
    }
    let part = || Sendable(Cell::new(1));
    assert_eq!(spawned(inner(part(), "abc")).unwrap(), 4);
    assert_eq!(spawned(outer(part(), "abc")).unwrap(), 4);
    assert_eq!(spawned(alone(part())).unwrap(), 1);
    assert_eq!(spawned(Exclusive(Cell::new(1)).count()).unwrap(), 1);
}

/// The docs stay.
#[with_circuit_breaker("generic")]
pub(crate) fn longest<'a, T, const N: usize>(list: &'a [T; N], least: impl Fn(&T) -> bool) -> Answer<Vec<&'a T>>
where
    T: Display + Debug,
{
    if N == 0 {
        Err("empty")?;
    }
    Ok(list.iter().filter(|item| least(item)).collect())
}

#[test]
fn lifetimes_const_parameters_where_clauses_and_impl_trait_stay() {
    assert_eq!(longest(&[1, 2, 3], |n| *n > 1).unwrap(), [&2, &3]);
    assert_eq!(longest(&[0; 0], |_| true).unwrap_err().to_string(), "empty");
}

#[with_retry(initial_delay_seconds = 0)]
#[with_circuit_breaker("shown")]
fn shown(n: u32) -> Result<impl Display + use<>, ApiError> {
    Ok(n)
}

#[with_retry]
#[with_circuit_breaker("shown")]
async fn shown_async(n: u32) -> Result<impl Display, ApiError> {
    if n == 0 {
        return Err(ApiError::Down);
    }
    Ok(n)
}

#[test]
fn impl_trait_may_be_returned() {
    assert_eq!(shown(1).unwrap().to_string(), "1");
    assert_eq!(block_on(shown_async(1)).unwrap().to_string(), "1");
}

#[with_circuit_breaker("raw")]
fn r#match(r#type: u32, _: String) -> Result<u32, ApiError> {
    Ok(r#type)
}

/// # Safety
/// `pointer` points to something.
#[with_retry]
unsafe fn read(pointer: *const u32, _: String) -> Result<u32, ApiError> {
    // SAFETY: the caller's promise.
    Ok(unsafe { *pointer })
}

#[test]
fn raw_names_ignored_arguments_and_unsafe_stay() {
    assert_eq!(r#match(1, String::new()), Ok(1));
    assert_eq!(match_circuit_breaker().name(), "raw");
    // SAFETY: it is the address of a live value.
    assert_eq!(unsafe { read(&raw const *Box::new(7), String::new()) }, Ok(7));
}

#[with_circuit_breaker("absent")]
#[cfg(any())]
fn absent() -> Result<(), Missing> {
    Ok(())
}

mod inside {
    #[service_mesh::with_circuit_breaker("public")]
    pub(crate) fn fetch() -> Result<(), crate::ApiError> {
        Ok(())
    }
}

#[test]
fn the_reader_is_as_visible_as_the_function() {
    assert_eq!((inside::fetch(), inside::fetch_circuit_breaker().name()), (Ok(()), "public"));
}

#[test]
fn local_names_of_ours_are_not_seen_by_the_body() {
    #[with_retry]
    fn names(breaker: u32, policy: u32, result: u32, wait: u32, attempts: u32) -> Result<u32, ()> {
        Ok(breaker + policy + result + wait + attempts)
    }
    #[with_circuit_breaker("names")]
    async fn names_async(breaker: u32, refused: u32) -> Answer<u32> {
        Ok(breaker + refused)
    }
    assert_eq!(names(1, 2, 3, 4, 5), Ok(15));
    assert_eq!(block_on(names_async(1, 2)).unwrap(), 3);
}

trait Store {
    #[with_retry(initial_delay_seconds = 0)]
    fn load(&self, key: String) -> Answer<String> {
        self.load_once(&key)
    }

    fn load_once(&self, key: &str) -> Answer<String>;
}

static STORE: std::sync::LazyLock<service_mesh::CircuitBreaker> =
    std::sync::LazyLock::new(|| service_mesh::CircuitBreaker::new("store"));

impl Store for Cell<u32> {
    #[with_circuit_breaker(circuit_breaker = STORE)]
    fn load_once(&self, key: &str) -> Answer<String> {
        self.set(self.get() + 1);
        if self.get() < 3 { Err("down".into()) } else { Ok(key.into()) }
    }
}

#[test]
fn methods_of_traits_can_be_provided_and_implemented() {
    assert_eq!(Cell::new(0).load("key".into()).unwrap(), "key");
    assert_eq!(STORE.failure_count(), 0);
}
