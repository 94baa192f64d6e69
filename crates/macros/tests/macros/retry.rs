//! `#[with_retry]` alone.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use service_mesh::testing::ManualClock;
use service_mesh::{Answer, Environment, Jitter, RetryConfig, RetryPolicy, with_retry};

use crate::block_on;

/// A policy that waits on a clock of its own, and the clock.
fn policy() -> (RetryPolicy, ManualClock) {
    let clock = ManualClock::new();
    let config = RetryConfig::builder().jitter(Jitter::None).build().unwrap();
    (RetryPolicy::builder().config(config).environment(Environment::manual(&clock)).build(), clock)
}

#[test]
fn it_tries_again_and_returns_the_last_error_unchanged() {
    #[with_retry(max_retries = 3, initial_delay_seconds = 0)]
    fn fetch(calls: &Cell<u32>, succeeds: u32) -> Result<u32, u32> {
        calls.set(calls.get() + 1);
        if calls.get() == succeeds { Ok(calls.get()) } else { Err(calls.get()) }
    }
    assert_eq!(fetch(&Cell::new(0), 3), Ok(3));
    assert_eq!(fetch(&Cell::new(0), 9), Err(4));
    assert_eq!(fetch_retry_policy().config().max_retries(), 3);
}

#[test]
fn each_attempt_has_its_own_clone_of_what_the_function_owns() {
    #[with_retry(initial_delay_seconds = 0)]
    fn take(mut list: Vec<u32>, (name, _): (String, u32), seen: &mut Vec<String>) -> Result<Vec<u32>, String> {
        list.push(4);
        seen.push(format!("{name} {list:?}"));
        if seen.len() < 3 { Err(name) } else { Ok(list) }
    }
    let mut seen = Vec::new();
    assert_eq!(take(vec![1], ("a".into(), 0), &mut seen), Ok(vec![1, 4]));
    assert_eq!(seen, ["a [1, 4]"; 3]);
}

#[test]
fn an_async_attempt_has_its_own_clone_and_may_borrow() {
    #[with_retry(policy = policy)]
    async fn take(
        policy: &RetryPolicy,
        mut list: Vec<u32>,
        (name, _): (String, u32),
        seen: &mut Vec<String>,
    ) -> Result<Vec<u32>, String> {
        list.push(4);
        seen.push(format!("{name} {list:?}"));
        std::future::ready(()).await;
        if seen.len() < 3 {
            return Err(name);
        }
        Ok(list)
    }
    let (policy, clock) = policy();
    let mut seen = Vec::new();
    assert_eq!(clock.block_on(take(&policy, vec![1], ("a".into(), 0), &mut seen)), Ok(vec![1, 4]));
    assert_eq!(seen, ["a [1, 4]"; 3]);
    assert_eq!(clock.sleeps(), [100, 200].map(Duration::from_millis));
}

#[test]
fn references_are_not_cloned() {
    /// Not `Clone`.
    struct Connection(Cell<u32>);

    #[with_retry(initial_delay_seconds = 0)]
    fn send(connection: &Connection, log: &mut Connection) -> Result<(), ()> {
        connection.0.set(connection.0.get() + 1);
        *log.0.get_mut() += 1;
        Err(())
    }
    let (connection, mut log) = (Connection(Cell::new(0)), Connection(Cell::new(0)));
    assert_eq!(send(&connection, &mut log), Err(()));
    assert_eq!((connection.0.get(), log.0.get()), (4, 4));
}

#[test]
fn every_field_reaches_the_configuration() {
    #[with_retry(
        max_retries = 0,
        initial_delay_seconds = 0.25,
        max_delay_seconds = 5,
        exponential_base = 1.5,
        jitter = "full",
        retry_after_max_seconds = 7
    )]
    fn all() -> Result<(), ()> {
        Ok(())
    }
    #[with_retry]
    fn none() -> Result<(), ()> {
        Ok(())
    }
    #[with_retry(jitter = false)]
    fn off() -> Result<(), ()> {
        Ok(())
    }
    #[with_retry(config = RetryConfig::default().to_builder().max_retries(1 + 1).build().unwrap())]
    fn computed() -> Result<(), ()> {
        Ok(())
    }
    let expected = RetryConfig::builder()
        .max_retries(0)
        .initial_delay(Duration::from_millis(250))
        .max_delay(Duration::from_secs(5))
        .exponential_base(1.5)
        .jitter(Jitter::Full)
        .retry_after_max(Duration::from_secs(7))
        .build()
        .unwrap();
    assert_eq!((all(), all_retry_policy().config()), (Ok(()), &expected));

    assert_eq!((none(), none_retry_policy().config()), (Ok(()), &RetryConfig::default()));
    assert_eq!((off(), off_retry_policy().config().jitter()), (Ok(()), Jitter::None));
    assert_eq!((computed(), computed_retry_policy().config().max_retries()), (Ok(()), 2));
}

struct Client {
    policy: RetryPolicy,
    sent: u32,
}

impl Client {
    #[with_retry(policy = self.policy)]
    async fn send(&mut self, body: String) -> Result<u32, String> {
        self.sent += 1;
        std::future::ready(()).await;
        if self.sent < 3 { Err(body) } else { Ok(self.sent) }
    }

    #[with_retry(policy = self.policy)]
    fn send_blocking(&mut self, body: impl Into<String> + Clone) -> Result<u32, String> {
        self.sent += 1;
        if self.sent < 3 { Err(body.into()) } else { Ok(self.sent) }
    }

    #[with_retry(initial_delay_seconds = 0)]
    fn connect(tries: &Cell<u32>) -> Result<Self, &'static str> {
        tries.set(tries.get() + 1);
        if tries.get() < 2 { Err("down") } else { Ok(Self { policy: policy().0, sent: tries.get() }) }
    }

    #[with_retry(policy = self.policy)]
    fn name<'a>(&'a self, prefix: &'a str) -> Result<&'a str, &'static str> {
        if self.sent == 0 { Err("nothing") } else { Ok(prefix) }
    }

    #[with_retry(initial_delay_seconds = 0)]
    fn shared(self: Rc<Self>) -> Result<u32, ()> {
        Ok(self.sent)
    }
}

#[test]
fn methods_may_change_their_object() {
    let (policy, clock) = policy();
    let mut client = Client { policy, sent: 0 };
    assert_eq!(clock.block_on(client.send("hello".into())), Ok(3));
    client.sent = 0;
    assert_eq!(client.send_blocking("hello"), Ok(3));
    assert_eq!(clock.sleeps(), [100, 200, 100, 200].map(Duration::from_millis));
    assert_eq!(client.name("n"), Ok("n"));
    assert_eq!(Client::connect(&Cell::new(0)).map(|client| client.sent), Ok(2));
    assert_eq!(Client::connect_retry_policy().config().max_retries(), 3);
    assert_eq!(Rc::new(client).shared(), Ok(3));
}

#[test]
fn a_classifier_says_what_is_tried_again_and_how_soon() {
    fn throttled(status: &Result<u16, &str>) -> Answer {
        match status {
            Ok(429) => Answer::neutral().retryable(true).retry_after(Duration::from_secs(3)),
            Ok(_) => Answer::success(),
            Err(_) => Answer::failure().retryable(false),
        }
    }
    #[with_retry(policy = policy, classify = throttled)]
    async fn status(
        policy: &RetryPolicy,
        answers: &RefCell<Vec<Result<u16, &'static str>>>,
    ) -> Result<u16, &'static str> {
        answers.borrow_mut().pop().unwrap_or(Err("asked too often"))
    }
    let (policy, clock) = policy();
    assert_eq!(clock.block_on(status(&policy, &vec![Ok(200), Ok(429)].into())), Ok(200));
    assert_eq!(clock.sleeps(), [Duration::from_secs(3)]);
    assert_eq!(clock.block_on(status(&policy, &vec![Err("final")].into())), Err("final"));
    assert_eq!(clock.sleeps().len(), 1);
}

#[test]
fn without_a_timer_the_functions_own_error_comes_back_after_one_attempt() {
    #[with_retry(max_retries = 3)]
    async fn fetch(calls: &Cell<u32>) -> Result<(), &'static str> {
        calls.set(calls.get() + 1);
        Err("down")
    }
    let calls = Cell::new(0);
    assert_eq!(block_on(fetch(&calls)), Err("down"));
    assert_eq!(calls.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn in_a_runtime_it_waits_with_the_runtimes_timer() {
    #[with_retry(max_retries = 2, jitter = "none")]
    async fn fetch(calls: &Cell<u32>) -> Result<(), &'static str> {
        calls.set(calls.get() + 1);
        Err("down")
    }
    let (calls, began) = (Cell::new(0), tokio::time::Instant::now());
    assert_eq!(fetch(&calls).await, Err("down"));
    assert_eq!((calls.get(), began.elapsed()), (3, Duration::from_millis(300)));
}
