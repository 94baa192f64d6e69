//! What one thread has for itself, and the task that looks after its connections.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::time::{MissedTickBehavior, interval};

use crate::drain::{Drain, Phase};
use crate::pool::Pool;
use crate::pulse::{Order, Pulse, TICK, Ticks};
use crate::sidecar::Sidecar;

/// What one thread has for itself. Nothing in it is shared with other threads, so nobody waits for anybody.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) sidecar: Sidecar,
    pub(crate) ticks: Arc<Ticks>,
    pub(crate) pool: Pool,
    clients: Mutex<Vec<Weak<Pulse>>>,
    upstreams: Mutex<Vec<Weak<Pulse>>>,
}

impl Worker {
    pub(crate) fn new(sidecar: Sidecar) -> Arc<Self> {
        let ticks = Arc::<Ticks>::default();
        let pool = Pool::new(&ticks);
        Arc::new(Self { sidecar, ticks, pool, clients: Mutex::default(), upstreams: Mutex::default() })
    }

    /// Looks after a connection of a client.
    pub(crate) fn watch_client(&self, pulse: &Arc<Pulse>, drain: &Drain) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(pulse));
        // Whoever comes while the others are told to end is told too.
        match drain.phase() {
            Phase::Serving | Phase::Leaving => {}
            Phase::Closing => pulse.order(Order::Finish),
            Phase::Ended => pulse.order(Order::Cut),
        }
    }

    /// Looks after a connection to an instance.
    pub(crate) fn watch_upstream(&self, pulse: &Arc<Pulse>) {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(pulse));
    }

    /// Looks through all connections at each tick, and tells them of the drain, until that has ended.
    pub(crate) async fn look_after(self: Arc<Self>, mut drain: Drain) {
        let mut interval = interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut phase = Phase::Serving;
        while phase < Phase::Ended {
            tokio::select! {
                _ = interval.tick() => self.tick(),
                () = drain.reached(if phase < Phase::Closing { Phase::Closing } else { Phase::Ended }) => {
                    phase = drain.phase().max(Phase::Closing);
                    self.tell_clients(if phase == Phase::Closing { Order::Finish } else { Order::Cut });
                }
            }
        }
        for_each(&self.upstreams, |pulse| pulse.order(Order::Cut));
        self.pool.clear();
    }

    /// Time has passed: who has waited for too long?
    pub(crate) fn tick(&self) {
        self.ticks.advance();
        for_each(&self.clients, Pulse::check);
        for_each(&self.upstreams, Pulse::check);
        self.pool.sweep();
    }

    /// Orders all clients' connections to do this.
    pub(crate) fn tell_clients(&self, order: Order) {
        for_each(&self.clients, |pulse| pulse.order(order));
    }
}

/// Does something with each that still lives, and forgets the rest.
fn for_each(pulses: &Mutex<Vec<Weak<Pulse>>>, mut act: impl FnMut(&Pulse)) {
    pulses.lock().unwrap_or_else(PoisonError::into_inner).retain(|pulse| {
        let pulse = pulse.upgrade();
        if let Some(pulse) = &pulse {
            act(pulse);
        }
        pulse.is_some()
    });
}
