//! The listeners of a sidecar that serves, and how they become others without losing anybody.
//!
//! What a new policy wants is bound first, on every thread; if that fails, nothing has changed. Then the threads begin to
//! accept there, and only then those that are gone take their last: who waits in the queue of a socket would be refused if
//! it were closed at once.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;

use service_mesh::{ListenerConfig, PolicyFile};
use tokio::sync::mpsc::UnboundedSender;

use crate::control::Apply;
use crate::footing;
use crate::listener::{Bound, Listener, bind};
use crate::server::ServeError;
use crate::sidecar::Sidecar;

/// What a thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept here, too.
    Listen(Arc<Listener>, Bound),
    /// The listener of the same name allows something else from now on. Those who are connected stay as they were.
    Change(Arc<Listener>),
    /// Accept who waits at the listener of this name, and then nobody.
    Leave(String),
}

/// The listeners of all threads.
#[derive(Debug)]
pub struct Listeners {
    threads: Vec<UnboundedSender<Order>>,
    present: BTreeMap<String, ListenerConfig>,
}

/// What is to become of them. Dropped, it is closed again, and nothing has happened.
#[derive(Debug)]
pub struct Prepared {
    /// For each thread, in their order.
    orders: Vec<Vec<Order>>,
    wanted: BTreeMap<String, ListenerConfig>,
}

impl Listeners {
    pub(crate) fn new(threads: Vec<UnboundedSender<Order>>, policy: &PolicyFile) -> Self {
        Self { threads, present: policy.listeners.clone() }
    }

    /// Binds what this policy has and the present one has not.
    ///
    /// # Errors
    /// An address cannot be listened on; nothing has changed then.
    pub fn prepare(&self, policy: &PolicyFile) -> Result<Prepared, ServeError> {
        let wanted = policy.listeners.clone();
        let mut orders: Vec<Vec<Order>> = self.threads.iter().map(|_| Vec::new()).collect();
        for (name, config) in &wanted {
            let present = self.present.get(name);
            if present == Some(config) {
                continue;
            }
            let listener = Listener::new(name, config.limits.clone());
            let stays = present.is_some_and(|present| present.address == config.address);
            if stays {
                for orders in &mut orders {
                    orders.push(Order::Change(Arc::clone(&listener)));
                }
                continue;
            }
            let bound = bind(&config.address, orders.len());
            let bound = bound.map_err(|cause| ServeError::new(format!("listen on {}", config.address), cause))?;
            for (orders, bound) in orders.iter_mut().zip(bound) {
                if present.is_some() {
                    orders.push(Order::Leave(name.clone()));
                }
                orders.push(Order::Listen(Arc::clone(&listener), bound));
            }
        }
        for name in self.present.keys().filter(|name| !wanted.contains_key(*name)) {
            for orders in &mut orders {
                orders.push(Order::Leave(name.clone()));
            }
        }
        Ok(Prepared { orders, wanted })
    }

    /// Puts policies in force, for a [`Control`](crate::Control): what one wants to listen at is bound before anything
    /// else changes. One by which no request could come in, or go anywhere, is refused.
    pub fn applying(mut self, sidecar: &Sidecar) -> Apply {
        let sidecar = sidecar.clone();
        Box::new(move |text, policy| {
            footing::check(policy).map_err(|missing| format!("the policy {missing}"))?;
            let prepared = self.prepare(policy).map_err(|error| match error.source() {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            })?;
            let changes = sidecar.reload(text).map_err(|mistakes| mistakes.to_string())?;
            self.commit(prepared);
            Ok(changes)
        })
    }

    /// Puts them in force.
    pub fn commit(&mut self, prepared: Prepared) {
        for (thread, orders) in self.threads.iter().zip(prepared.orders) {
            for order in orders {
                // A thread that has ended accepts nobody, as it should.
                let _ = thread.send(order);
            }
        }
        self.present = prepared.wanted;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn policy(text: &str) -> PolicyFile {
        service_mesh::read_policy_file(text).unwrap()
    }

    /// What the first of two threads is told.
    fn told(listeners: &mut Listeners, orders: &mut mpsc::UnboundedReceiver<Order>, text: &str) -> Vec<String> {
        let prepared = listeners.prepare(&policy(text)).unwrap();
        listeners.commit(prepared);
        let word = |order| match order {
            Order::Listen(listener, _) => format!("listen {}", listener.name),
            Order::Change(listener) => format!("change {}", listener.name),
            Order::Leave(name) => format!("leave {name}"),
        };
        std::iter::from_fn(|| orders.try_recv().ok()).map(word).collect()
    }

    #[test]
    fn only_what_differs_is_told_and_what_is_new_comes_before_what_goes() {
        let (threads, mut orders): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::unbounded_channel()).unzip();
        let mut listeners = Listeners::new(threads, &PolicyFile::default());
        let orders = &mut orders[0];
        let mut told = |text: &str| told(&mut listeners, orders, text);
        assert_eq!(told("[listeners.a]\naddress = '127.0.0.1:0'"), ["listen a"]);
        assert!(told("[listeners.a]\naddress = '127.0.0.1:0'\n[services.x]").is_empty());
        assert_eq!(told("[listeners.a]\naddress = '127.0.0.1:0'\nlimits.connections = 1"), ["change a"]);
        assert_eq!(told("[listeners.b]\naddress = '127.0.0.1:0'"), ["listen b", "leave a"]);
        assert_eq!(told("[listeners.b]\naddress = '127.0.0.2:0'"), ["leave b", "listen b"]);
    }

    #[test]
    fn an_address_that_is_taken_changes_nothing() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (sender, mut orders) = mpsc::unbounded_channel();
        let listeners = Listeners::new(vec![sender], &PolicyFile::default());
        let address = taken.local_addr().unwrap();
        let error = listeners.prepare(&policy(&format!("[listeners.a]\naddress = '{address}'"))).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
        assert!(orders.try_recv().is_err());
    }
}
