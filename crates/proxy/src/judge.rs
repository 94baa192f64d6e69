//! What an attempt comes to after the head of its answer: the body may still break off.
//!
//! An attempt is held until the body has passed, so that an instance that dies in the middle of its answers is found
//! out, and so that its connection counts for as long as it lasts. But not for ever. A body that flows for
//! [`LONGEST`] was a success, or a stream without end would keep a probe's place for good. And the client's slowness is
//! no fault of the instance: when half of the time for the attempt has passed, an answer whose head is there is judged by
//! its head. From then on the connection counts for the balancer alone. The deadline of the call is another thing: it cuts the body off, and if it was the instance that was waited
//! for then, that is a failure.
//!
//! Most bodies are there with the head, or at the next look, and cost nothing of this: a task watches the rest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use service_mesh::{Answer, Attempt, CallErrorKind, Connection, ServiceProxy};
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
    /// By nobody else.
    Alone(Held),
    Watched(Arc<Watched>, AbortHandle),
}

#[derive(Debug)]
struct Watched {
    held: Mutex<Held>,
    /// The instance is waited for, and not the client.
    ///
    /// Ordering: Relaxed, as for all here: reader and writer are tasks of one thread, or tests.
    awaits_instance: AtomicBool,
    is_cut: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// What a body keeps of its instance.
#[derive(Debug)]
enum Held {
    Nothing,
    Attempt(Attempt<ServiceProxy>),
    /// The attempt was judged, and the body goes on.
    Connection {
        _counted: Connection,
    },
}

impl Held {
    /// Judges the attempt, if that has not been done; whether the body goes on by its connection.
    fn settle(&mut self, answer: Answer, goes_on: bool) {
        if let Self::Attempt(attempt) = std::mem::replace(self, Self::Nothing) {
            if goes_on {
                *self = Self::Connection { _counted: attempt.registration().connect() };
            }
            let _no_way_back = attempt.settle(answer);
        }
    }
}

impl Judge {
    /// Holds the attempt.
    pub(crate) fn new(attempt: Attempt<ServiceProxy>, deadline: Option<Instant>) -> Self {
        Self { holding: Holding::Alone(Held::Attempt(attempt)), deadline }
    }

    /// There is nothing to judge any more, but a deadline to keep.
    pub(crate) fn none(deadline: Option<Instant>) -> Self {
        Self { holding: Holding::Alone(Held::Nothing), deadline }
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

    /// The answer is all there, and its connection becomes something else, for which it is counted.
    pub(crate) fn hand_over(&mut self) -> Option<Connection> {
        let connection = match &self.holding {
            Holding::Alone(Held::Attempt(attempt)) => Some(attempt.registration().connect()),
            _ => None,
        };
        self.succeed();
        connection
    }

    fn settle(&mut self, answer: Answer) {
        match &mut self.holding {
            Holding::Alone(held) => held.settle(answer, false),
            Holding::Watched(watched, task) => {
                task.abort();
                lock(&watched.held).settle(answer, false);
            }
        }
    }

    /// More of the body is to come; the instance is waited for, or the client.
    pub(crate) fn goes_on(&mut self, awaits_instance: bool, context: &Context<'_>) {
        let watched = match &self.holding {
            Holding::Watched(watched, _) => watched,
            Holding::Alone(Held::Nothing) if self.deadline.is_none() => return,
            Holding::Alone(_) => self.watch(),
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
        let held = match &mut self.holding {
            Holding::Alone(held) => std::mem::replace(held, Held::Nothing),
            Holding::Watched(..) => Held::Nothing,
        };
        let watched = Arc::new(Watched {
            held: Mutex::new(held),
            awaits_instance: AtomicBool::new(true),
            is_cut: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        let task = tokio::spawn(watch(Arc::clone(&watched), self.deadline)).abort_handle();
        self.holding = Holding::Watched(watched, task);
        match &self.holding {
            Holding::Watched(watched, _) => watched,
            Holding::Alone(_) => unreachable!("it was put there in the line above"),
        }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        if let Holding::Watched(watched, task) = &self.holding {
            task.abort();
            *lock(&watched.held) = Held::Nothing;
        }
    }
}

async fn watch(watched: Arc<Watched>, deadline: Option<Instant>) {
    let limit = match &*lock(&watched.held) {
        Held::Attempt(attempt) => Some((attempt.time_left(), attempt.timed_out() == CallErrorKind::DeadlineExceeded)),
        Held::Nothing | Held::Connection { .. } => None,
    };
    if let Some((left, is_deadline)) = limit {
        // At half of it, and not when it is all but up: a busy thread is late by more than one would leave it.
        let half = left.map(|left| left / 2);
        let ends_first = half.is_some_and(|half| half < LONGEST);
        sleep(half.unwrap_or(LONGEST).min(LONGEST)).await;
        let is_late = ends_first && is_deadline && watched.awaits_instance.load(Ordering::Relaxed);
        if !is_late {
            lock(&watched.held).settle(Answer::success(), true);
        }
    }
    let Some(deadline) = deadline else { return };
    sleep_until(deadline).await;
    lock(&watched.held).settle(Answer::failure().retryable(false), false);
    watched.is_cut.store(true, Ordering::Relaxed);
    if let Some(waker) = lock(&watched.waker).take() {
        waker.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
