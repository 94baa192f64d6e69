//! A timer for the waits of one task, of which it has one after the other.
//!
//! A timer of its own for each request would be put into the runtime's wheel and taken out again, and hardly one of a
//! million rings. This one stays: a wait that begins only looks whether it will ring early enough, which it does if it
//! was set for a wait before. When it rings, and the present wait may last longer, it is set anew. So a task that serves
//! ten thousand requests, with five seconds for each, sets it once in five seconds. A wait ends no earlier for that, and
//! no later.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of one task. It wakes the task that waited with it first: another task needs another.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Mutex<Option<Pin<Box<Sleep>>>>);

impl Alarm {
    /// Waits for the future, but not beyond the deadline.
    pub(crate) async fn within<F: Future>(&self, deadline: Instant, mut future: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            self.poll_reached(deadline, context).map(|()| None)
        })
        .await
    }

    /// Whether the deadline has come; until then the task is woken by then.
    fn poll_reached(&self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let timer = match &mut *timer {
            Some(timer) => {
                // It has been waited for by this task, and will ring in time.
                if !timer.is_elapsed() && timer.deadline() <= deadline {
                    return Poll::Pending;
                }
                if timer.is_elapsed() && timer.deadline() >= deadline {
                    return Poll::Ready(());
                }
                timer.as_mut().reset(deadline);
                timer
            }
            none => none.insert(Box::pin(sleep_until(deadline))),
        };
        // Whatever else this task has done in its turn: a timer that is put off is not set, and is not asked again.
        Pin::new(&mut unconstrained(timer.as_mut())).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::time::Duration;

    use tokio::task::coop::{consume_budget, has_budget_remaining};
    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn waits(alarm: &Alarm, wait: Duration) -> Duration {
        let began = Instant::now();
        assert!(alarm.within(began + wait, pin!(pending::<()>())).await.is_none());
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_time() {
        let alarm = Alarm::default();
        for wait in [5, 5, 1, 7, 2] {
            let took = waits(&alarm, wait * SECOND).await;
            assert!((wait * SECOND..wait * SECOND + SECOND / 100).contains(&took), "{took:?} of {wait} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_set_for_a_wait_before_rings_for_nobody_else() {
        let alarm = Alarm::default();
        // Half a second before it rings, another wait begins; and one that is shorter than what is left.
        for (wait, passes) in [(5, 4500), (5, 3000), (1, 0)] {
            let deadline = Instant::now() + wait * SECOND;
            let mut never = pin!(pending::<()>());
            let mut wait = pin!(alarm.within(deadline, never.as_mut()));
            for passes in [passes, 0] {
                assert!(poll_fn(|context| Poll::Ready(wait.as_mut().poll(context).is_pending())).await);
                tokio::time::advance(Duration::from_millis(passes)).await;
            }
        }
        let wait = Duration::from_millis(3500);
        assert!((wait..wait + SECOND / 100).contains(&waits(&alarm, wait).await));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_set_also_at_the_end_of_a_turn() {
        let alarm = Alarm::default();
        let mut never = pin!(pending::<()>());
        let mut wait = pin!(alarm.within(Instant::now() + SECOND, never.as_mut()));
        poll_fn(|context| {
            while has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(context);
            }
            assert!(wait.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(timeout(2 * SECOND, wait).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_in_time_is_returned() {
        assert_eq!(Alarm::default().within(Instant::now(), pin!(ready(7))).await, Some(7));
    }
}
