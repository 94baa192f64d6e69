//! What a subscriber is told, by one of our own that writes it down.

use std::fmt::{Debug, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use service_mesh_models::{RetryConfig, ServiceInstance};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};

use super::*;
use crate::Environment;
use crate::testing::ManualClock;

/// Writes down what it is told, a line each, of this level and above.
struct Notes {
    level: Level,
    lines: Arc<Mutex<Vec<String>>>,
    spans: AtomicU64,
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {}={value}", field.name()).unwrap();
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Notes {
    fn note(&self, begin: &str, fields: impl FnOnce(&mut Fields<'_>)) {
        let mut line = begin.to_owned();
        fields(&mut Fields(&mut line));
        self.lines.lock().unwrap().push(line);
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= &self.level
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.spans.fetch_add(1, Ordering::Relaxed) + 1;
        self.note(&format!("span {id} {}", span.metadata().name()), |fields| span.record(fields));
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.note(&format!("span {}", span.into_u64()), |fields| values.record(fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.note(&event.metadata().level().to_string().to_lowercase(), |fields| event.record(fields));
    }

    fn enter(&self, span: &Id) {
        self.note(&format!("enter {}", span.into_u64()), |_| {});
    }

    fn exit(&self, span: &Id) {
        self.note(&format!("exit {}", span.into_u64()), |_| {});
    }

    fn try_close(&self, span: Id) -> bool {
        self.note(&format!("close {}", span.into_u64()), |_| {});
        true
    }
}

/// What is told, down to `level`, while `code` runs.
fn told(level: Level, code: impl FnOnce()) -> Vec<String> {
    let lines = Arc::default();
    let notes = Notes { level, lines: Arc::clone(&lines), spans: AtomicU64::new(0) };
    tracing::subscriber::with_default(notes, code);
    Arc::into_inner(lines).unwrap().into_inner().unwrap()
}

fn shop(clock: &ManualClock) -> ServiceProxy {
    let at_once = RetryConfig::builder().initial_delay(std::time::Duration::ZERO).build().unwrap();
    let shop = ServiceProxy::builder("shop").environment(Environment::manual(clock)).retry(at_once).build();
    for id in ["a", "b"] {
        shop.load_balancer().register(ServiceInstance::new(id, id, 80));
    }
    Tracing::new().attach(&shop);
    shop
}

const FAILED_OVER: [&str; 16] = [
    "span 1 call service=shop",
    "enter 1",
    "span 2 attempt instance=a number=1",
    "exit 1",
    "enter 2",
    "info message=in the function",
    "exit 2",
    "debug message=shop: a failed: retry in 0ns after attempt 1 service=shop attempts=1 instance=a cause=failure",
    "span 2 outcome=failure",
    "span 2 timed_out=false",
    "close 2",
    "enter 1",
    "span 3 attempt instance=b number=2",
    "exit 1",
    "enter 3",
    "info message=in the function",
];

#[test]
fn the_function_runs_in_the_span_of_its_attempt_and_that_in_the_span_of_its_call() {
    let lines = told(Level::DEBUG, || {
        let shop = shop(&ManualClock::new());
        let answer = shop.call(|attempt| {
            tracing::info!("in the function");
            if attempt.number() == 1 { Err("down") } else { Ok(()) }
        });
        assert_eq!(answer, Ok(()));
    });
    assert_eq!(lines[..FAILED_OVER.len()], FAILED_OVER);
    let end = [
        "exit 3",
        "span 3 outcome=success",
        "span 3 timed_out=false",
        "close 3",
        "span 1 instance=b",
        "span 1 attempts=2",
        "span 1 outcome=success",
        "close 1",
    ];
    assert_eq!(lines[FAILED_OVER.len()..], end);
}

#[test]
fn each_poll_of_a_future_runs_in_its_span() {
    let clock = ManualClock::new();
    let shop = shop(&clock);
    let lines = told(Level::DEBUG, || {
        let call = shop.call_async(async |_| {
            let mut polled = false;
            std::future::poll_fn(|context| {
                tracing::info!("polled");
                context.waker().wake_by_ref();
                if std::mem::replace(&mut polled, true) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            Ok::<_, ()>(())
        });
        assert_eq!(clock.block_on(call), Ok(()));
    });
    let expected = ["enter 2", "info message=polled", "exit 2", "enter 2", "info message=polled", "exit 2"];
    assert!(lines.windows(expected.len()).any(|lines| lines == expected), "{lines:?}");
}

#[test]
fn a_panic_leaves_the_span_and_fails_the_call() {
    let shop = shop(&ManualClock::new());
    let lines = told(Level::DEBUG, || {
        let call = || shop.call(|_| -> Result<(), ()> { resume_unwind(Box::new("in the function")) });
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    });
    let end = [
        "enter 2",
        "exit 2",
        "span 2 outcome=failure",
        "span 2 timed_out=false",
        "close 2",
        "span 1 instance=a",
        "span 1 attempts=1",
        "span 1 outcome=failure",
        "close 1",
    ];
    assert_eq!(lines[lines.len() - end.len()..], end);
}

#[test]
fn where_attempts_are_not_wanted_the_function_runs_in_the_span_of_the_call() {
    let shop = shop(&ManualClock::new());
    let lines = told(Level::INFO, || assert_eq!(shop.call(|_| Ok::<_, ()>(())), Ok(())));
    let expected = ["enter 1", "exit 1", "enter 1", "exit 1", "span 1 instance=a"];
    assert_eq!(lines[1..=expected.len()], expected);
    assert!(told(Level::WARN, || assert_eq!(shop.call(|_| Ok::<_, ()>(())), Ok(()))).is_empty());
}

#[test]
fn a_call_that_is_given_up_says_why() {
    let (clock, second) = (ManualClock::new(), std::time::Duration::from_secs(1));
    let shop = shop(&clock);
    let options = crate::CallOptions::new().timeout(second);
    let lines = told(Level::INFO, || {
        let call = shop.call_with(&options, |_| {
            clock.advance(second);
            Err::<(), _>("down")
        });
        assert!(call.is_err());
    });
    let given_up = "info message=shop: a timed out: given up after attempt 1, no time for a retry before the deadline \
                    service=shop attempts=1 instance=a cause=timed_out reason=past_deadline";
    assert!(lines.iter().any(|line| line == given_up), "{lines:?}");
    assert_eq!(lines[lines.len() - 3..], ["span 1 outcome=failure", "span 1 given_up=past_deadline", "close 1"]);
}

#[test]
fn events_have_levels_and_fields() {
    let clock = ManualClock::new();
    let shop = shop(&clock);
    let lines = told(Level::DEBUG, || {
        let circuit = shop.circuit_breaker();
        let late = circuit.try_acquire().unwrap();
        (0..5).for_each(|_| circuit.record_failure());
        late.success();
        assert!(circuit.try_acquire().is_err());
        clock.advance(std::time::Duration::from_secs(30));
        assert!(circuit.can_execute());
    });
    let expected = [
        "warn message=shop: closed -> open: 5 failures in a row reached failure_threshold 5 circuit=shop from=closed \
         to=open reason=consecutive_failures",
        "debug message=shop: a late success was not counted circuit=shop outcome=success",
        "debug message=shop: refused a call (open), retry after 30s circuit=shop reason=open",
        "info message=shop: open -> half_open: its timeout has passed circuit=shop from=open to=half_open \
         reason=timeout_elapsed",
    ];
    assert_eq!(lines, expected);
}
