//! What one thread has for itself, and the task that looks after its connections.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::drain::{Drain, Phase};
use crate::pool::Pool;
use crate::pulse::{Order, Patience, Pulse, TICK, Ticks, ticks};
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

/// nginx's `keepalive_timeout`. Longer than clients keep a connection in their pools, so that they end it and not we.
const IDLE: Duration = Duration::from_secs(75);

/// HAProxy's usual `timeout http-request`: time enough for the slowest line, too short to hold connections with.
const HEAD: Duration = Duration::from_secs(10);

/// nginx's `client_body_timeout` and `send_timeout` are 60 s; half of that is still long for a body that does not move.
const BODY: Duration = Duration::from_secs(30);

/// Envoy's `stream_idle_timeout`: no byte in either direction.
const SILENCE: Duration = Duration::from_secs(300);

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
        // A client that is served has what patience its instance has.
        let patience = Patience {
            idle: ticks(IDLE),
            head: ticks(HEAD),
            body: ticks(BODY),
            busy: ticks(SILENCE).saturating_mul(2),
        };
        // The pool sees to those that are idle.
        let upstream = Patience { idle: u32::MAX, head: u32::MAX, busy: ticks(SILENCE), ..patience };
        let mut interval = interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut phase = Phase::Serving;
        while phase < Phase::Ended {
            tokio::select! {
                _ = interval.tick() => {
                    self.ticks.advance();
                    for_each(&self.clients, |pulse| pulse.check(&patience));
                    for_each(&self.upstreams, |pulse| pulse.check(&upstream));
                    self.pool.sweep();
                }
                () = drain.reached(if phase < Phase::Closing { Phase::Closing } else { Phase::Ended }) => {
                    phase = drain.phase().max(Phase::Closing);
                    let order = if phase == Phase::Closing { Order::Finish } else { Order::Cut };
                    for_each(&self.clients, |pulse| pulse.order(order));
                }
            }
        }
        for_each(&self.upstreams, |pulse| pulse.order(Order::Cut));
        self.pool.clear();
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
