//! The listeners of a sidecar that serves, and how they become others without losing anybody.
//!
//! What a new policy wants is bound first, on every thread; if that fails, nothing has changed. Then the threads begin to
//! accept there, and only then those that are gone take their last: who waits in the queue of a socket would be refused if
//! it were closed at once.

use std::error::Error as _;
use std::sync::Arc;

use service_mesh::{ListenAddress, ListenerConfig, PolicyFile};
use tokio::sync::mpsc::UnboundedSender;

use crate::control::Apply;
use crate::footing;
use crate::listener::{Bound, Listener, bind, look};
use crate::server::ServeError;
use crate::sidecar::Sidecar;

/// What a thread is told. A listener is known by its number: names change, and places.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept here, too.
    Listen(u64, Arc<Listener>, Bound),
    /// It is called otherwise from now on, or allows something else. Those who are connected stay as they were.
    Change(u64, Arc<Listener>),
    /// Accept who waits there, and then nobody.
    Leave(u64),
}

/// The listeners of all threads.
#[derive(Debug)]
pub struct Listeners {
    threads: Vec<UnboundedSender<Order>>,
    sidecar: Sidecar,
    present: Vec<Present>,
    /// Where one listened until the last change: the threads may be about to leave it.
    left: Vec<ListenAddress>,
    /// How many there ever were.
    made: u64,
}

/// One that is listened on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Present {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) config: ListenerConfig,
}

/// What is to become of them. Dropped, it is closed again, and nothing has happened.
#[derive(Debug)]
pub struct Prepared {
    /// For each thread, in their order.
    orders: Vec<Vec<Order>>,
    wanted: Vec<Present>,
    made: u64,
}

impl Listeners {
    /// These, of which the threads know.
    pub(crate) fn new(threads: Vec<UnboundedSender<Order>>, present: Vec<Present>, sidecar: &Sidecar) -> Self {
        let made = present.iter().map(|present| present.number + 1).max().unwrap_or(0);
        Self { threads, sidecar: sidecar.clone(), present, left: Vec::new(), made }
    }

    /// Binds what this policy has and the present one has not.
    ///
    /// # Errors
    /// An address cannot be listened on; nothing has changed then.
    pub fn prepare(&self, policy: &PolicyFile) -> Result<Prepared, ServeError> {
        let orders = self.threads.iter().map(|_| Vec::new()).collect();
        let mut prepared = Prepared { orders, wanted: Vec::new(), made: self.made };
        let mut remaining: Vec<&Present> = self.present.iter().collect();
        // A socket stays with whoever has its name, where there are several at any port; else with whoever has its place.
        let mut take = |name: Option<&String>, config: &ListenerConfig| {
            let fits = |present: &&Present| {
                present.config.address == config.address && name.is_none_or(|name| *name == present.name)
            };
            let at = remaining.iter().position(fits)?;
            Some(remaining.swap_remove(at))
        };
        let kept: Vec<_> = policy.listeners.iter().map(|(name, config)| take(Some(name), config)).collect();
        for ((name, config), kept) in policy.listeners.iter().zip(kept) {
            match kept.or_else(|| take(None, config)) {
                Some(present) => prepared.keep(present, &self.listener(name, config), config),
                None => self.listen(&mut prepared, name, config)?,
            }
        }
        for present in remaining {
            prepared.orders.iter_mut().for_each(|orders| orders.push(Order::Leave(present.number)));
        }
        Ok(prepared)
    }

    fn listen(&self, prepared: &mut Prepared, name: &str, config: &ListenerConfig) -> Result<(), ServeError> {
        let failed = |cause| ServeError::new(format!("listen on {}", config.address), cause);
        if !self.left.contains(&config.address) {
            look(&config.address).map_err(failed)?;
        }
        let bound = bind(&config.address, prepared.orders.len()).map_err(failed)?;
        let (number, listener) = (prepared.made, self.listener(name, config));
        prepared.made += 1;
        for (orders, bound) in prepared.orders.iter_mut().zip(bound) {
            orders.push(Order::Listen(number, Arc::clone(&listener), bound));
        }
        prepared.wanted.push(Present { number, name: name.to_owned(), config: config.clone() });
        Ok(())
    }

    fn listener(&self, name: &str, config: &ListenerConfig) -> Arc<Listener> {
        Listener::new(name, config.limits.clone(), self.sidecar.clients(name))
    }

    /// Puts policies in force, for a [`Control`](crate::Control): what one wants to listen at is bound before anything
    /// else changes. One by which no request could come in, or go anywhere, is refused.
    pub fn applying(mut self) -> Apply {
        Box::new(move |text, policy| {
            footing::check(policy).map_err(|missing| format!("the policy {missing}"))?;
            let prepared = self.prepare(policy).map_err(|error| match error.source() {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            })?;
            let changes = self.sidecar.reload(text).map_err(|mistakes| mistakes.to_string())?;
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
        let before = std::mem::replace(&mut self.present, prepared.wanted);
        self.made = prepared.made;
        let is_left = |address: &ListenAddress| self.present.iter().all(|present| present.config.address != *address);
        self.left = before.into_iter().map(|present| present.config.address).filter(is_left).collect();
    }
}

impl Prepared {
    /// What listens there goes on, as this.
    fn keep(&mut self, present: &Present, listener: &Arc<Listener>, config: &ListenerConfig) {
        let wanted = Present { number: present.number, name: listener.name.clone(), config: config.clone() };
        if wanted != *present {
            for orders in &mut self.orders {
                orders.push(Order::Change(present.number, Arc::clone(listener)));
            }
        }
        self.wanted.push(wanted);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn policy(text: &str) -> PolicyFile {
        service_mesh::read_policy_file(text).unwrap()
    }

    fn listeners(threads: Vec<UnboundedSender<Order>>) -> Listeners {
        Listeners::new(threads, Vec::new(), &Sidecar::from_policy("").unwrap())
    }

    /// What the first of two threads is told.
    fn told(listeners: &mut Listeners, orders: &mut mpsc::UnboundedReceiver<Order>, text: &str) -> Vec<String> {
        let prepared = listeners.prepare(&policy(text)).unwrap();
        listeners.commit(prepared);
        let word = |order| match order {
            Order::Listen(number, listener, _) => format!("listen {} {number}", listener.name),
            Order::Change(number, listener) => format!("change {} {number}", listener.name),
            Order::Leave(number) => format!("leave {number}"),
        };
        std::iter::from_fn(|| orders.try_recv().ok()).map(word).collect()
    }

    #[test]
    fn only_what_differs_is_told_and_what_is_new_comes_before_what_goes() {
        let (threads, mut orders): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::unbounded_channel()).unzip();
        let mut listeners = listeners(threads);
        let orders = &mut orders[0];
        let mut told = |text: &str| told(&mut listeners, orders, text);
        assert_eq!(told("[listeners.a]\naddress = '127.0.0.1:0'"), ["listen a 0"]);
        assert!(told("[listeners.a]\naddress = '127.0.0.1:0'\n[services.x]").is_empty());
        assert_eq!(told("[listeners.a]\naddress = '127.0.0.1:0'\nlimits.connections = 1"), ["change a 0"]);
        assert_eq!(told("[listeners.a]\naddress = '127.0.0.2:0'"), ["listen a 1", "leave 0"]);
    }

    #[test]
    fn a_listener_that_is_called_otherwise_keeps_its_socket() {
        let (sender, mut orders) = mpsc::unbounded_channel();
        let mut listeners = listeners(vec![sender]);
        let mut told = |text: &str| told(&mut listeners, &mut orders, text);
        let listener = |name: &str, host: u8| format!("[listeners.{name}]\naddress = '127.0.0.{host}:0'\n");
        assert_eq!(told(&format!("{}{}", listener("a", 1), listener("b", 2))), ["listen a 0", "listen b 1"]);
        // Also where two change their names with each other.
        assert_eq!(told(&format!("{}{}", listener("a", 2), listener("b", 1))), ["change a 1", "change b 0"]);
        assert_eq!(told(&listener("c", 1)), ["change c 0", "leave 1"]);
        // Of two at any port each keeps its own.
        assert_eq!(told(&format!("{}{}", listener("b", 1), listener("c", 1))), ["listen b 2"]);
    }

    #[test]
    fn an_address_that_is_taken_changes_nothing() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (sender, mut orders) = mpsc::unbounded_channel();
        let listeners = listeners(vec![sender]);
        let address = taken.local_addr().unwrap();
        let error = listeners.prepare(&policy(&format!("[listeners.a]\naddress = '{address}'"))).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
        assert!(orders.try_recv().is_err());
    }

    #[test]
    fn the_port_of_another_sidecar_is_not_shared_and_one_that_was_left_just_now_may_be() {
        let other = bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = other[0].address().unwrap();
        let wanted = policy(&format!("[listeners.a]\naddress = '{address}'"));
        let mut listeners = listeners(vec![mpsc::unbounded_channel().0]);
        assert!(listeners.prepare(&wanted).is_err());
        let config = wanted.listeners["a"].clone();
        listeners.present = vec![Present { number: 0, name: String::from("a"), config }];
        listeners.made = 1;
        let prepared = listeners.prepare(&PolicyFile::default()).unwrap();
        listeners.commit(prepared);
        assert!(listeners.prepare(&wanted).is_ok());
    }
}
