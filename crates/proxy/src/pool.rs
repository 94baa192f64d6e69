//! Connections to instances that wait for their next request: one pool for each thread, and in it a stack for each
//! instance.
//!
//! The connection that came back last is taken first, so that the others grow old and are closed when there are more
//! than needed; and so that the one taken is the least likely to be closed by its other end at this moment.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::client::conn::http1::SendRequest;

use crate::limits::Connection;
use crate::pulse::{Pulse, State, Ticks, ticks};
use crate::replay::Reader;
use crate::service::Service;

/// So many wait for each instance and thread at most. A thread that has more in flight than that gains little by it.
const MOST_IDLE: usize = 128;

/// A connection to an instance, with nothing in flight on it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) sender: SendRequest<Reader>,
    pub(crate) pulse: Arc<Pulse>,
    /// Has served a request before.
    pub(crate) is_used: bool,
    /// Where it waits; none while it does, or the two would keep each other.
    stack: Option<Arc<Stack>>,
    /// How long it may wait there, in ticks.
    patience: u32,
    count: Connection,
}

/// The pool of one thread.
#[derive(Debug)]
pub(crate) struct Pool {
    ticks: Arc<Ticks>,
    /// By the service's id, then by host. A lock that nobody contends for, but the tests, where threads share a pool.
    services: Mutex<Vec<Hosts>>,
}

type Hosts = HashMap<Box<str>, Vec<Arc<Stack>>, BuildHasherDefault<Fnv>>;

/// The connections to one instance, the oldest first.
#[derive(Debug)]
struct Stack {
    port: u16,
    links: Mutex<Vec<Resting>>,
}

#[derive(Debug)]
struct Resting {
    link: Link,
    until: u32,
}

impl Link {
    /// Gives it back, for it has served a request.
    pub(crate) fn lay_down(mut self) {
        // Nobody waits at a stack that the pool has given up: it goes with this link.
        let Some(stack) = self.stack.take() else { return };
        // One that nobody uses now is worth less than one that somebody has no leave to make.
        if self.sender.is_closed() || self.count.is_wanted() {
            return;
        }
        self.is_used = true;
        self.pulse.enter(State::Idle);
        let until = self.pulse.now().saturating_add(self.patience);
        let mut links = stack.lock();
        if links.len() == MOST_IDLE {
            links.remove(0);
        }
        links.push(Resting { link: self, until });
    }
}

impl Pool {
    pub(crate) fn new(ticks: &Arc<Ticks>) -> Self {
        Self { ticks: Arc::clone(ticks), services: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Hosts>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection to this instance, which will come back here.
    pub(crate) fn link(
        &self,
        service: &Service,
        (host, port): (&str, u16),
        (sender, pulse): (SendRequest<Reader>, Arc<Pulse>),
        count: Connection,
    ) -> Link {
        let patience = ticks(service.idle_limit());
        let mut services = self.lock();
        let id = service.gate.id();
        if services.len() <= id {
            services.resize_with(id + 1, Hosts::default);
        }
        let stacks = services[id].entry(host.into()).or_default();
        let known = stacks.iter().find(|stack| stack.port == port).map(Arc::clone);
        let stack = known.unwrap_or_else(|| {
            let stack = Arc::new(Stack { port, links: Mutex::default() });
            stacks.push(Arc::clone(&stack));
            stack
        });
        Link { sender, pulse, is_used: false, stack: Some(stack), patience, count }
    }

    /// Takes the connection to this instance that came back last, of those that are still open.
    pub(crate) fn take(&self, service: &Service, host: &str, port: u16) -> Option<Link> {
        let services = self.lock();
        let stack = services.get(service.gate.id())?.get(host)?.iter().find(|stack| stack.port == port)?;
        let now = self.ticks.now();
        let mut links = stack.lock();
        while let Some(Resting { mut link, until }) = links.pop() {
            if !link.sender.is_closed() && now < until {
                (link.stack, link.patience) = (Some(Arc::clone(stack)), ticks(service.idle_limit()));
                return Some(link);
            }
        }
        None
    }

    /// Gives one up that lies idle, of any instance of this service, so that another may be made.
    pub(crate) fn give_up_one(&self, service: &Service) -> bool {
        let services = self.lock();
        let stacks = services.get(service.gate.id()).into_iter().flat_map(HashMap::values).flatten();
        let oldest = stacks.filter_map(|stack| Some((stack.lock().first()?.until, stack)));
        let oldest = oldest.min_by_key(|(until, _)| *until);
        oldest.is_some_and(|(_, stack)| {
            let mut links = stack.lock();
            !links.is_empty() && {
                links.remove(0);
                true
            }
        })
    }

    /// Closes what has lain idle for too long, or is wanted elsewhere, and forgets what was closed.
    pub(crate) fn sweep(&self) {
        let now = self.ticks.now();
        for hosts in self.lock().iter_mut() {
            hosts.retain(|_, stacks| {
                stacks.retain(|stack| {
                    let mut links = stack.lock();
                    links.retain(|Resting { link, until }| {
                        now < *until && !link.sender.is_closed() && !link.count.is_wanted()
                    });
                    // Those that serve a request will come back to it.
                    !links.is_empty() || Arc::strong_count(stack) > 1
                });
                !stacks.is_empty()
            });
        }
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}

impl Stack {
    fn lock(&self) -> MutexGuard<'_, Vec<Resting>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// FNV-1a in 64 bits (Fowler, Noll and Vo). A host is a few bytes; and whoever names hosts here, policy or discovery,
/// needs no collisions to do harm.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
