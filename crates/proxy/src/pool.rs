//! Connections to instances that wait for their next request: one pool for each thread, and in it a stack for each
//! instance.
//!
//! The connection that came back last is taken first, so that the others grow old and are closed when there are more
//! than needed; and so that the one taken is the least likely to be closed by its other end at this moment.

use std::collections::HashMap;
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
    count: Connection,
}

impl Link {
    pub(crate) fn new(sender: SendRequest<Reader>, pulse: Arc<Pulse>, count: Connection) -> Self {
        Self { sender, pulse, is_used: false, count }
    }
}

/// The pool of one thread.
#[derive(Debug)]
pub(crate) struct Pool {
    ticks: Arc<Ticks>,
    /// By the service's id, then by host. A lock that nobody contends for, but the tests, where threads share a pool.
    services: Mutex<Vec<HashMap<Box<str>, Vec<Stack>>>>,
}

/// The connections to one instance, the oldest first.
#[derive(Debug)]
struct Stack {
    port: u16,
    links: Vec<Resting>,
}

#[derive(Debug)]
struct Resting {
    link: Link,
    until: u32,
}

impl Pool {
    pub(crate) fn new(ticks: &Arc<Ticks>) -> Self {
        Self { ticks: Arc::clone(ticks), services: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<HashMap<Box<str>, Vec<Stack>>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection to this instance that came back last, of those that are still open.
    pub(crate) fn take(&self, service: &Service, host: &str, port: u16) -> Option<Link> {
        let mut services = self.lock();
        let stack = services.get_mut(service.gate.id())?.get_mut(host)?.iter_mut().find(|stack| stack.port == port)?;
        let now = self.ticks.now();
        while let Some(Resting { link, until }) = stack.links.pop() {
            if !link.sender.is_closed() && now < until {
                return Some(link);
            }
        }
        None
    }

    /// Lays a connection down that has served a request.
    pub(crate) fn put(&self, service: &Service, host: &str, port: u16, mut link: Link) {
        // One that nobody uses now is worth less than one that somebody has no leave to make.
        if link.sender.is_closed() || link.count.is_wanted() {
            return;
        }
        link.is_used = true;
        link.pulse.enter(State::Idle);
        let until = self.ticks.now().saturating_add(ticks(service.idle_limit()));
        let mut services = self.lock();
        let id = service.gate.id();
        if services.len() <= id {
            services.resize_with(id + 1, HashMap::new);
        }
        let hosts = &mut services[id];
        if !hosts.contains_key(host) {
            hosts.insert(host.into(), Vec::new());
        }
        let Some(stacks) = hosts.get_mut(host) else { return };
        let at = stacks.iter().position(|stack| stack.port == port).unwrap_or_else(|| {
            stacks.push(Stack { port, links: Vec::new() });
            stacks.len() - 1
        });
        let links = &mut stacks[at].links;
        if links.len() == MOST_IDLE {
            links.remove(0);
        }
        links.push(Resting { link, until });
    }

    /// Gives one up that lies idle, of any instance of this service, so that another may be made.
    pub(crate) fn give_up_one(&self, service: &Service) -> bool {
        let mut services = self.lock();
        let stacks = services.get_mut(service.gate.id()).into_iter().flat_map(HashMap::values_mut).flatten();
        let oldest = stacks.filter(|stack| !stack.links.is_empty()).min_by_key(|stack| stack.links[0].until);
        oldest.map(|stack| stack.links.remove(0)).is_some()
    }

    /// Closes what has lain idle for too long, or is wanted elsewhere, and forgets what was closed.
    pub(crate) fn sweep(&self) {
        let now = self.ticks.now();
        for hosts in self.lock().iter_mut() {
            hosts.retain(|_, stacks| {
                for stack in &mut *stacks {
                    stack.links.retain(|Resting { link, until }| {
                        now < *until && !link.sender.is_closed() && !link.count.is_wanted()
                    });
                }
                stacks.retain(|stack| !stack.links.is_empty());
                !stacks.is_empty()
            });
        }
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}
