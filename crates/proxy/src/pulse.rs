//! Signs of life of one connection, and orders to it.
//!
//! What a peer may make us wait for is bounded, but a timer for each wait would cost more than the waits. So a
//! connection only notes what it waits for and since when, with a stamp of a clock that ticks a few times a second; and
//! one task a thread looks through all connections at each tick, and orders those to end that have waited for too long.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use service_mesh::ListenerLimitsConfig;

/// How often one looks; a wait may last so much longer than its limit.
pub(crate) const TICK: Duration = Duration::from_millis(TICK_MILLIS);
const TICK_MILLIS: u64 = 250;

/// The coarse clock of one thread, in ticks since it began.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    /// Ordering: Relaxed. Nothing hangs on it but the time itself.
    now: AtomicU32,
}

impl Ticks {
    pub(crate) fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn advance(&self) {
        self.now.fetch_add(1, Ordering::Relaxed);
    }
}

/// So many ticks are at least this long.
pub(crate) fn ticks(duration: Duration) -> u32 {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    u32::try_from(millis.div_ceil(TICK_MILLIS) + 1).unwrap_or(u32::MAX)
}

/// What a connection is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// It waits for a request, of which nothing has come.
    Idle,
    /// It waits for the rest of a request's head.
    Head,
    /// It serves a request.
    Busy,
    /// It is a tunnel.
    Tunnel,
}

/// What a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Order {
    /// Go on.
    None,
    /// End when nothing is in flight and nothing more has come; soon in any case where nobody asks for anything.
    Finish,
    /// End at once, for the client was too slow with the head of a request: tell it so.
    TimedOut,
    /// End at once.
    Cut,
}

/// All of these are written and read by one thread, but for tests that use several; they are atomic since what they are
/// in must be `Send`.
///
/// Ordering: Relaxed, throughout. Whoever reads them decides about time, a tick earlier or later.
#[derive(Debug)]
pub(crate) struct Pulse {
    patience: Patience,
    ticks: Arc<Ticks>,
    state: AtomicU8,
    /// When the state began, or something was last read or written in it.
    since: AtomicU32,
    /// Something waits to be written, and the peer does not read.
    is_blocked: AtomicBool,
    /// A request's body is waited for.
    awaits_body: AtomicBool,
    /// The answer to the present request has begun.
    has_answered: AtomicBool,
    /// When the present request came.
    asked: AtomicU32,
    order: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// How long a connection may wait, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the next request.
    pub(crate) idle: u32,
    /// For the rest of a head.
    pub(crate) head: u32,
    /// For any progress of a body, in either direction.
    pub(crate) body: u32,
    /// For any sign of life while a request is served.
    pub(crate) busy: u32,
}

/// nginx's `client_body_timeout` and `send_timeout` are 60 s; half of that is still long for a body that does not move.
const BODY: Duration = Duration::from_secs(30);

/// Envoy's `stream_idle_timeout`: no byte in either direction.
const SILENCE: Duration = Duration::from_secs(300);

/// So many ticks ago is just now.
const JUST_NOW: u32 = 4;

impl Patience {
    /// With a client. While it is served, it has what patience its instance has.
    pub(crate) fn with_client(limits: &ListenerLimitsConfig) -> Self {
        let busy = ticks(SILENCE).saturating_mul(2);
        Self { idle: ticks(limits.idle()), head: ticks(limits.header()), body: ticks(BODY), busy }
    }

    /// With an instance. The pool sees to connections that are idle.
    pub(crate) fn with_instance() -> Self {
        Self { idle: u32::MAX, head: u32::MAX, body: ticks(BODY), busy: ticks(SILENCE) }
    }
}

impl Pulse {
    pub(crate) fn new(ticks: &Arc<Ticks>, patience: Patience) -> Arc<Self> {
        Arc::new(Self {
            patience,
            since: AtomicU32::new(ticks.now()),
            ticks: Arc::clone(ticks),
            state: AtomicU8::new(State::Idle as u8),
            is_blocked: AtomicBool::new(false),
            awaits_body: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
            asked: AtomicU32::new(0),
            order: AtomicU8::new(Order::None as u8),
            waker: Mutex::new(None),
        })
    }

    /// The time of its thread, in ticks.
    pub(crate) fn now(&self) -> u32 {
        self.ticks.now()
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Idle,
            1 => State::Head,
            2 => State::Busy,
            _ => State::Tunnel,
        }
    }

    pub(crate) fn enter(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
        self.awaits_body.store(false, Ordering::Relaxed);
        self.has_answered.store(false, Ordering::Relaxed);
        self.touch();
        self.asked.store(self.ticks.now(), Ordering::Relaxed);
    }

    /// The answer to the present request begins.
    pub(crate) fn answers(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
    }

    /// Whether a request is served to which nothing has been answered.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.state() == State::Busy && !self.has_answered.load(Ordering::Relaxed)
    }

    /// Whether a client that sends no more may still wait for an answer: there is none yet, or the request came only just
    /// now. One that closes in the middle of a long answer is gone.
    pub(crate) fn awaits_answer(&self) -> bool {
        let age = self.ticks.now().saturating_sub(self.asked.load(Ordering::Relaxed));
        self.is_unanswered() || (self.state() == State::Busy && age <= JUST_NOW)
    }

    fn touch(&self) {
        self.since.store(self.ticks.now(), Ordering::Relaxed);
    }

    /// Something was read.
    pub(crate) fn has_read(&self) {
        match self.state() {
            State::Idle => self.enter(State::Head),
            // A head is given its time as a whole, however many pieces it comes in.
            State::Head => {}
            State::Busy | State::Tunnel => self.touch(),
        }
    }

    /// Something was written.
    pub(crate) fn has_written(&self) {
        self.is_blocked.store(false, Ordering::Relaxed);
        self.touch();
    }

    /// The peer takes no more for now.
    pub(crate) fn is_blocked(&self) {
        if !self.is_blocked.swap(true, Ordering::Relaxed) {
            self.touch();
        }
    }

    /// Whether something waits to be written that the peer does not take.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// Whether the body of a request is waited for.
    pub(crate) fn awaits_body(&self, awaits: bool) {
        if awaits && !self.awaits_body.swap(true, Ordering::Relaxed) {
            self.touch();
        } else if !awaits {
            self.awaits_body.store(false, Ordering::Relaxed);
        }
    }

    /// What a connection with these signs of life should be ordered, if its patience is at an end.
    fn due(&self) -> Order {
        let patience = &self.patience;
        let waited = self.ticks.now().saturating_sub(self.since.load(Ordering::Relaxed));
        let is_slow = self.is_blocked.load(Ordering::Relaxed) || self.awaits_body.load(Ordering::Relaxed);
        let (limit, order) = match self.state() {
            _ if is_slow => (patience.body, Order::Cut),
            // A request may be on its way at this moment: whoever ends looks first.
            State::Idle if self.present_order() == Order::None => (patience.idle, Order::Finish),
            State::Idle => (JUST_NOW, Order::Cut),
            State::Head => (patience.head, Order::TimedOut),
            State::Busy | State::Tunnel => (patience.busy, Order::Cut),
        };
        if waited > limit { order } else { Order::None }
    }

    /// Looks whether its patience is at an end, and orders what is due.
    pub(crate) fn check(&self) {
        let due = self.due();
        if due != Order::None {
            self.order(due);
        }
    }

    /// Gives an order, unless it has a stronger one.
    pub(crate) fn order(&self, order: Order) {
        if self.order.fetch_max(order as u8, Ordering::Relaxed) < order as u8 {
            if order == Order::Finish {
                self.touch();
            }
            let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// For the task of the connection: how its orders find it. A task that moves calls it again.
    pub(crate) fn listen(&self, context: &Context<'_>) {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    /// Runs this, and keeps back what would wake the connection's task by [its own waker](Wake) meanwhile, on this
    /// thread: so only what this itself does. Tells whether there was anything.
    pub(crate) fn holding_back<R>(&self, act: impl FnOnce() -> R) -> (R, bool) {
        let held = HELD.replace(Held { pulse: self, is_woken: false });
        let restore = Restore(held);
        let result = act();
        let is_woken = HELD.get().is_woken;
        drop(restore);
        (result, is_woken)
    }

    /// What it is to do.
    pub(crate) fn present_order(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            0 => Order::None,
            1 => Order::Finish,
            2 => Order::TimedOut,
            _ => Order::Cut,
        }
    }
}

/// As a waker, it wakes whoever listens: the task of the connection.
impl Wake for Pulse {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let held = HELD.get();
        if ptr::eq(held.pulse, &raw const **self) {
            HELD.set(Held { is_woken: true, ..held });
            return;
        }
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

/// Whose wakes this thread keeps back, and whether there was one. The pointer is compared and never followed.
#[derive(Clone, Copy)]
struct Held {
    pulse: *const Pulse,
    is_woken: bool,
}

thread_local! {
    static HELD: Cell<Held> = const { Cell::new(Held { pulse: ptr::null(), is_woken: false }) };
}

/// Puts back what was held before, also if what runs meanwhile panics.
struct Restore(Held);

impl Drop for Restore {
    fn drop(&mut self) {
        HELD.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { idle: 8, head: 4, body: 2, busy: 100 };

    fn due_after(ticks: &Ticks, pulse: &Pulse, passed: u32) -> Order {
        for _ in 0..passed {
            ticks.advance();
        }
        pulse.due()
    }

    #[test]
    fn each_wait_has_its_own_patience() {
        let ticks = Arc::<Ticks>::default();
        let pulse = Pulse::new(&ticks, PATIENCE);
        assert_eq!(due_after(&ticks, &pulse, 8), Order::None);
        assert_eq!(due_after(&ticks, &pulse, 1), Order::Finish);
        pulse.has_read();
        assert_eq!(due_after(&ticks, &pulse, 4), Order::None);
        // A head that comes in drops gets no more time for it.
        pulse.has_read();
        assert_eq!(due_after(&ticks, &pulse, 1), Order::TimedOut);
        pulse.enter(State::Busy);
        assert_eq!(due_after(&ticks, &pulse, 100), Order::None);
        pulse.has_written();
        pulse.is_blocked();
        assert_eq!(due_after(&ticks, &pulse, 2), Order::None);
        assert_eq!(due_after(&ticks, &pulse, 1), Order::Cut);
        pulse.has_written();
        assert_eq!(due_after(&ticks, &pulse, 3), Order::None);
        pulse.awaits_body(true);
        assert_eq!(due_after(&ticks, &pulse, 3), Order::Cut);
    }

    #[test]
    fn what_is_held_back_is_only_what_is_done_here_and_now() {
        struct Count(AtomicU32);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicU32::new(0)));
        let woken = || count.0.load(Ordering::Relaxed);
        let task = Waker::from(Arc::clone(&count));
        let pulses: [_; 2] = std::array::from_fn(|_| Pulse::new(&Arc::default(), PATIENCE));
        let [one, other] = &pulses;
        for pulse in &pulses {
            pulse.listen(&Context::from_waker(&task));
        }
        let wake = |pulse: &Arc<Pulse>| Waker::from(Arc::clone(pulse)).wake();
        assert_eq!(one.holding_back(|| wake(one)), ((), true));
        assert_eq!(woken(), 0);
        assert_eq!(one.holding_back(|| wake(other)), ((), false));
        assert_eq!(woken(), 1);
        let elsewhere = || std::thread::scope(|scope| scope.spawn(|| wake(one)).join().unwrap());
        assert_eq!(one.holding_back(elsewhere), ((), false));
        assert_eq!(woken(), 2);
        let panics = std::panic::AssertUnwindSafe(|| one.holding_back(|| panic!("held")));
        assert!(std::panic::catch_unwind(panics).is_err());
        wake(one);
        assert_eq!(woken(), 3);
    }

    #[test]
    fn an_order_is_never_weakened() {
        let pulse = Pulse::new(&Arc::default(), PATIENCE);
        pulse.order(Order::Cut);
        pulse.order(Order::Finish);
        assert_eq!(pulse.present_order(), Order::Cut);
    }

    #[test]
    fn who_is_to_finish_and_asks_for_nothing_is_given_a_moment() {
        let ticks = Arc::<Ticks>::default();
        let pulse = Pulse::new(&ticks, PATIENCE);
        assert_eq!(due_after(&ticks, &pulse, 9), Order::Finish);
        pulse.check();
        assert_eq!((pulse.present_order(), due_after(&ticks, &pulse, JUST_NOW)), (Order::Finish, Order::None));
        assert_eq!(due_after(&ticks, &pulse, 1), Order::Cut);
        pulse.enter(State::Busy);
        assert_eq!(due_after(&ticks, &pulse, 100), Order::None);
    }

    #[test]
    fn a_number_of_ticks_is_never_too_short() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(Duration::from_millis(1)), 2);
        assert_eq!(ticks(Duration::from_secs(1)), 5);
        assert_eq!(ticks(Duration::MAX), u32::MAX);
    }
}
