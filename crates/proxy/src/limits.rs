//! How much is taken on for one service. Limits are no circuits: they say nothing about the instances' health, and trip
//! nothing.
//!
//! What is over a limit waits in a queue, and what the queue has no room for is refused at once: to answer "not now"
//! costs little, to hold on to everything costs all (Envoy's `max_requests` and `max_pending_requests`, but counted
//! exactly and over all threads).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::refusal::Refusals;

/// The counts of one service, shared by all threads; a reload leaves them alone. The limits themselves come with each
/// question, so that a reload needs no word with those who are inside.
///
/// Invariant: `in_flight` never rises while it is at the limit of whoever asks.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Names the service within its sidecar, for tables of each thread.
    id: usize,
    /// Ordering: Relaxed. It publishes nothing: what a request reads does not depend on who was counted before.
    in_flight: AtomicU32,
    /// Ordering: changed and read with `SeqCst`, as `in_flight` is by whoever leaves, so that a leaver who sees nobody
    /// waiting and a waiter who sees no room cannot both be right.
    waiting: AtomicU32,
    /// Ordering: changed with `SeqCst`, and `wanting` is too, as `in_flight` and `waiting` are and for the same reason.
    connections: AtomicU32,
    /// Those who wait for a connection to end, so that they may have one.
    wanting: AtomicU32,
    room: Notify,
    ended: Notify,
    /// Requests to this service that the sidecar has answered itself.
    pub(crate) refusals: Refusals,
}

/// A request that was let in, until this is dropped.
#[derive(Debug)]
pub(crate) struct Entry(Arc<Gate>);

/// A connection to an instance that is counted, until this is dropped.
#[derive(Debug)]
pub(crate) struct Connection(Arc<Gate>);

/// No room within the time that there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The queue is full, or there is none.
    Queue,
    /// The wait was too long.
    Wait,
}

/// The longest wait in a queue of a call without a deadline. Longer, and clients have given up.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl Gate {
    pub(crate) fn new(id: usize) -> Arc<Self> {
        Arc::new(Self {
            id,
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            wanting: AtomicU32::new(0),
            room: Notify::new(),
            ended: Notify::new(),
            refusals: Refusals::default(),
        })
    }

    pub(crate) fn id(&self) -> usize {
        self.id
    }

    /// Requests inside, at this moment.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests that wait for their turn.
    pub(crate) fn queued(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Connections to the instances.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Lets a request in, if need be after a wait. Dropped meanwhile, it leaves the queue.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        limit: u32,
        queue: u32,
        patience: Option<Duration>,
    ) -> Result<Entry, Full> {
        // Whoever comes now does not pass those who wait.
        if self.waiting.load(Ordering::Relaxed) == 0 && self.count(limit) {
            return Ok(Entry(Arc::clone(self)));
        }
        Box::pin(self.wait(limit, queue, patience)).await
    }

    #[cold]
    async fn wait(self: &Arc<Self>, limit: u32, queue: u32, patience: Option<Duration>) -> Result<Entry, Full> {
        let place = below(&self.waiting, queue).then(|| Place(self)).ok_or(Full::Queue)?;
        let patience = patience.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        let entered = timeout(patience, async {
            loop {
                let room = self.room.notified();
                if self.count(limit) {
                    break;
                }
                room.await;
            }
        });
        let entered = entered.await.map(|()| Entry(Arc::clone(self)));
        drop(place);
        entered.map_err(|_elapsed| Full::Wait)
    }

    fn count(&self, limit: u32) -> bool {
        below(&self.in_flight, limit)
    }

    /// Counts a connection to an instance; none if there are `limit` of them.
    pub(crate) fn connect(self: &Arc<Self>, limit: u32) -> Option<Connection> {
        below(&self.connections, limit).then(|| Connection(Arc::clone(self)))
    }

    /// The same, if need be after a wait: others may have connections that lie idle, or that they are done with in a
    /// moment, and give them up when they hear that somebody wants one.
    pub(crate) async fn connect_within(self: &Arc<Self>, limit: u32, patience: Duration) -> Option<Connection> {
        self.wanting.fetch_add(1, Ordering::SeqCst);
        let wanting = Wanting(self);
        let connected = timeout(patience, async {
            loop {
                let ended = self.ended.notified();
                if let Some(connection) = self.connect(limit) {
                    break connection;
                }
                ended.await;
            }
        });
        let connected = connected.await.ok();
        drop(wanting);
        connected
    }
}

/// One who wants a connection.
struct Wanting<'a>(&'a Gate);

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        // A word that came too late for this one is for another.
        if self.0.wanting.fetch_sub(1, Ordering::SeqCst) > 1 {
            self.0.ended.notify_one();
        }
    }
}

impl Connection {
    /// Whether somebody waits for one of this service to end.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.wanting.load(Ordering::Relaxed) > 0
    }
}

/// Adds one, unless that would pass the limit.
fn below(count: &AtomicU32, limit: u32) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| (count < limit).then(|| count + 1)).is_ok()
}

/// A place in the queue.
struct Place<'a>(&'a Gate);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        // A limit that was raised lets in more than one.
        self.0.room.notify_one();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.room.notify_one();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
        if self.0.wanting.load(Ordering::SeqCst) > 0 {
            self.0.ended.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_over_the_limit_waits_and_what_is_over_the_queue_does_not() {
        let gate = Gate::new(0);
        let first = gate.enter(1, 1, None).await.unwrap();
        let second = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(1, 1, None).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert_eq!(gate.enter(1, 1, None).await.unwrap_err(), Full::Queue);
        drop(first);
        assert!(second.await.unwrap());
        assert_eq!(gate.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_call_may_take() {
        let gate = Gate::new(0);
        let _entry = gate.enter(1, 9, None).await.unwrap();
        assert_eq!(gate.enter(1, 9, Some(Duration::from_secs(1))).await.unwrap_err(), Full::Wait);
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_leaves_the_queue_passes_his_turn_on() {
        let gate = Gate::new(0);
        let inside = gate.enter(1, 9, None).await.unwrap();
        let (mut gone, mut next) = (Box::pin(gate.enter(1, 9, None)), Box::pin(gate.enter(1, 9, None)));
        assert!(futures_poll(&mut gone).is_none() && futures_poll(&mut next).is_none());
        drop(inside);
        drop(gone);
        assert!(next.await.is_ok());
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_a_connection_is_heard_of_and_gets_the_next() {
        let gate = Gate::new(0);
        let one = gate.connect(1).unwrap();
        assert!(!one.is_wanted());
        let (mut gone, mut next) = (
            Box::pin(gate.connect_within(1, Duration::from_secs(1))),
            Box::pin(gate.connect_within(1, Duration::from_secs(1))),
        );
        assert!(futures_poll(&mut gone).is_none() && futures_poll(&mut next).is_none() && one.is_wanted());
        drop(one);
        drop(gone);
        let one = next.await.unwrap();
        assert!(!one.is_wanted());
        assert!(gate.connect_within(1, Duration::from_secs(1)).await.is_none() && !one.is_wanted());
    }

    #[test]
    fn connections_are_given_back() {
        let gate = Gate::new(0);
        let one = gate.connect(1);
        assert!(one.is_some() && gate.connect(1).is_none());
        drop(one);
        assert!(gate.connect(1).is_some());
    }
}
