//! What an attempt comes to after the head of its answer: the body may still break off.
//!
//! An attempt is held until the body has passed, so that an instance that dies in the middle of its answers is found
//! out, and so that its connection counts for as long as it lasts. But not for ever. A body that flows for
//! [`LONGEST`] was a success, or a stream without end would keep a probe's place for good. And the client's slowness is
//! no fault of the instance: when half of the time for the attempt has passed, an answer whose head is there is judged by
//! its head. The deadline of the call is another thing: it cuts the body off, and if it was the instance that was waited
//! for then, that is a failure.
//!
//! Most bodies are there with the head, or at the next look, and cost nothing of this: a task watches the rest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use service_mesh::{Answer, Attempt, CallErrorKind, ServiceProxy};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// After so long a body that still flows was a success.
const LONGEST: Duration = Duration::from_secs(10);

/// An attempt whose answer has begun. Dropped without a verdict, the client went away, and that is neutral.
#[derive(Debug)]
pub(crate) struct Judge {
    holding: Holding,
    /// When the call must have ended.
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Holding {
    Nothing,
    Attempt(Attempt<ServiceProxy>),
    Watched(Arc<Watched>, AbortHandle),
}

#[derive(Debug)]
struct Watched {
    attempt: Mutex<Option<Box<Attempt<ServiceProxy>>>>,
    /// The instance is waited for, and not the client.
    ///
    /// Ordering: Relaxed, as for all here: reader and writer are tasks of one thread, or tests.
    awaits_instance: AtomicBool,
    is_cut: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Judge {
    /// Holds the attempt.
    pub(crate) fn new(attempt: Attempt<ServiceProxy>, deadline: Option<Instant>) -> Self {
        Self { holding: Holding::Attempt(attempt), deadline }
    }

    /// There is nothing to judge any more, but a deadline to keep.
    pub(crate) fn none(deadline: Option<Instant>) -> Self {
        Self { holding: Holding::Nothing, deadline }
    }

    /// The body has come to its end.
    pub(crate) fn succeed(&mut self) {
        self.settle(Answer::success());
    }

    /// The body broke off.
    pub(crate) fn fail(&mut self) {
        // What has been passed on cannot be taken back.
        self.settle(Answer::failure().retryable(false));
    }

    fn settle(&mut self, answer: Answer) {
        let attempt = match std::mem::replace(&mut self.holding, Holding::Nothing) {
            Holding::Nothing => return,
            Holding::Attempt(attempt) => attempt,
            Holding::Watched(watched, task) => {
                task.abort();
                let Some(attempt) = lock(&watched.attempt).take() else { return };
                *attempt
            }
        };
        let _no_way_back = attempt.settle(answer);
    }

    /// More of the body is to come; the instance is waited for, or the client.
    pub(crate) fn goes_on(&mut self, awaits_instance: bool, context: &Context<'_>) {
        let watched = match &self.holding {
            Holding::Watched(watched, _) => watched,
            Holding::Nothing if self.deadline.is_none() => return,
            _ => self.watch(),
        };
        watched.awaits_instance.store(awaits_instance, Ordering::Relaxed);
        if awaits_instance {
            *lock(&watched.waker) = Some(context.waker().clone());
        }
    }

    /// Whether the call's time is up.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(&self.holding, Holding::Watched(watched, _) if watched.is_cut.load(Ordering::Relaxed))
    }

    fn watch(&mut self) -> &Watched {
        let attempt = match std::mem::replace(&mut self.holding, Holding::Nothing) {
            Holding::Attempt(attempt) => Some(Box::new(attempt)),
            _ => None,
        };
        let watched = Arc::new(Watched {
            attempt: Mutex::new(attempt),
            awaits_instance: AtomicBool::new(true),
            is_cut: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        let task = tokio::spawn(watch(Arc::clone(&watched), self.deadline)).abort_handle();
        self.holding = Holding::Watched(watched, task);
        match &self.holding {
            Holding::Watched(watched, _) => watched,
            _ => unreachable!("it was put there in the line above"),
        }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        if let Holding::Watched(watched, task) = &self.holding {
            task.abort();
            drop(lock(&watched.attempt).take());
        }
    }
}

async fn watch(watched: Arc<Watched>, deadline: Option<Instant>) {
    let limit = lock(&watched.attempt).as_ref().map(|attempt| {
        let is_deadline = attempt.timed_out() == CallErrorKind::DeadlineExceeded;
        (attempt.time_left(), is_deadline)
    });
    if let Some((left, is_deadline)) = limit {
        // At half of it, and not when it is all but up: a busy thread is late by more than one would leave it.
        let half = left.map(|left| left / 2);
        let ends_first = half.is_some_and(|half| half < LONGEST);
        sleep(half.unwrap_or(LONGEST).min(LONGEST)).await;
        let is_late = ends_first && is_deadline && watched.awaits_instance.load(Ordering::Relaxed);
        if !is_late && let Some(attempt) = lock(&watched.attempt).take() {
            let _no_way_back = attempt.settle(Answer::success());
        }
    }
    let Some(deadline) = deadline else { return };
    sleep_until(deadline).await;
    if let Some(attempt) = lock(&watched.attempt).take() {
        let _no_way_back = attempt.settle(Answer::failure().retryable(false));
    }
    watched.is_cut.store(true, Ordering::Relaxed);
    if let Some(waker) = lock(&watched.waker).take() {
        waker.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
