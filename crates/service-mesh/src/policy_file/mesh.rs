//! The services of a policy file, alive.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use service_mesh_models::{ConfigError, PolicyFile, ServiceProxyConfig};

use super::changes::{Maker, PolicyChanges};
use super::error::PolicyError;
use super::read::read_policy_file;
use crate::environment::Environment;
use crate::resilience::event::Listener;
use crate::resilience::service_proxy::ServiceProxy;
use crate::resilience::sync::{Mutex, Snapshot};

/// The services of a policy file, each with its proxy. Clones are handles of the same mesh.
///
/// ```
/// use service_mesh::Mesh;
///
/// let mesh: Mesh = r#"
///     [services.payments]
///     instances = [{ id = "a", host = "10.0.0.1", port = 8080 }]
///     retry.max_retries = 2
/// "#
/// .parse()?;
/// let payments = mesh.service("payments").expect("it stands in the file");
/// assert_eq!(payments.call(|attempt| Ok::<_, std::io::Error>(attempt.instance().address()))?, "10.0.0.1:8080");
///
/// // What has changed changes; the rest goes on as it was.
/// let changes = mesh.reload("[services.payments]\nretry.max_retries = 3")?;
/// assert_eq!(changes.to_string(), "payments: instances, retry");
/// assert_eq!(payments.retry_policy().config().max_retries(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reloading
/// [`reload`](Self::reload) compares the new file with the one in force, section by section. Services that the new one
/// does not change are not touched; where a section has changed, it is applied to the running proxy, which keeps the
/// states of its circuits, its counters, its budget's past and its calls in flight. What code has changed in the
/// meantime stays, unless the file changes the same section. A file with a mistake changes nothing at all.
///
/// # Cost
/// [`service`](Self::service) is one load of a shared pointer, a search among the names, and one reference count. Keep
/// the proxy that it returns: it follows reloads by itself.
#[derive(Clone)]
pub struct Mesh(Arc<Inner>);

struct Inner {
    services: Snapshot<BTreeMap<String, ServiceProxy>>,
    /// What `services` were made of; held while they change.
    policy: Mutex<Arc<PolicyFile>>,
    maker: Maker,
}

impl Mesh {
    /// Starts from the system's environment, without listeners.
    pub fn builder() -> MeshBuilder {
        MeshBuilder {
            maker: Maker {
                environment: Environment::system(),
                listeners: Vec::new(),
                max_ejected_ratio: ServiceProxyConfig::default().max_ejected_ratio(),
            },
        }
    }

    /// Reads a file, and makes a proxy for each of its services.
    ///
    /// # Errors
    /// The file cannot be read, or every mistake in it.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, PolicyError> {
        Self::builder().read_path(path)
    }

    /// The proxy of the service of this name; `None` if the file has none.
    pub fn service(&self, name: &str) -> Option<ServiceProxy> {
        self.0.services.load().get(name).cloned()
    }

    /// The proxies of all services, in the order of their names.
    pub fn services(&self) -> Vec<ServiceProxy> {
        self.0.services.load().values().cloned().collect()
    }

    /// The policy in force, with what only the sidecar uses.
    pub fn policy(&self) -> Arc<PolicyFile> {
        Arc::clone(&self.0.policy.lock())
    }

    /// Puts another text in force, and tells what it has changed. Of two at the same time, one comes after the other.
    ///
    /// A service that is new appears, Closed and with nothing counted; one that is gone is not found any more, and
    /// whoever still holds its proxy goes on with it as it was. A list of instances that has changed becomes the list
    /// of the balancer, as [`set_instances`](crate::LoadBalancer::set_instances) tells; one that has not leaves alone
    /// what discovery or code has registered.
    ///
    /// # Errors
    /// Every mistake in the text; nothing has changed then.
    pub fn reload(&self, text: &str) -> Result<PolicyChanges, PolicyError> {
        let policy = Arc::new(read_policy_file(text)?);
        let inner = &*self.0;
        let mut present = inner.policy.lock();
        let mut services = inner.services.load().as_ref().clone();
        let (changes, removed) = inner.maker.apply(&mut services, &present, &policy);
        let before = inner.services.swap(Arc::new(services));
        *present = policy;
        drop(present);
        // The last handles may be these, and with them goes what users gave to the proxy: not under the lock.
        drop((before, removed));
        Ok(changes)
    }

    /// The same with a file. Call it whenever you like: on a signal, on a timer, when the file has changed.
    ///
    /// # Errors
    /// The file cannot be read, or every mistake in it; nothing has changed then.
    pub fn reload_path(&self, path: impl AsRef<Path>) -> Result<PolicyChanges, PolicyError> {
        with_text_of(path.as_ref(), |text| self.reload(text))
    }
}

impl FromStr for Mesh {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        Self::builder().read_text(text)
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("services", &self.0.services.load().as_ref()).finish_non_exhaustive()
    }
}

/// Says what a [`Mesh`] gives to the proxies that it makes, now and at a reload.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is given a policy"]
pub struct MeshBuilder {
    maker: Maker,
}

impl MeshBuilder {
    /// Clock, chance and timers of all services. Default: the system's.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.maker.environment = environment;
        self
    }

    /// Adds a listener for everything that happens at any service.
    pub fn listener(mut self, listener: impl Listener + 'static) -> Self {
        self.maker.listeners.push(Arc::new(listener));
        self
    }

    /// The `max_ejected_ratio` of services of which the file says nothing. Above 0, at most 1, default 1.
    ///
    /// # Errors
    /// It is out of range.
    pub fn max_ejected_ratio(mut self, ratio: f64) -> Result<Self, ConfigError> {
        let config = ServiceProxyConfig::builder().max_ejected_ratio(ratio).build()?;
        self.maker.max_ejected_ratio = config.max_ejected_ratio();
        Ok(self)
    }

    /// Reads the file, and makes a proxy for each of its services.
    ///
    /// # Errors
    /// The file cannot be read, or every mistake in it.
    pub fn read_path(self, path: impl AsRef<Path>) -> Result<Mesh, PolicyError> {
        with_text_of(path.as_ref(), |text| self.read_text(text))
    }

    /// Makes a proxy for each service of the text.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn read_text(self, text: &str) -> Result<Mesh, PolicyError> {
        let policy = Arc::new(read_policy_file(text)?);
        let mut services = BTreeMap::new();
        self.maker.apply(&mut services, &PolicyFile::default(), &policy);
        Ok(Mesh(Arc::new(Inner {
            services: Snapshot::new(Arc::new(services)),
            policy: Mutex::new(policy),
            maker: self.maker,
        })))
    }
}

fn with_text_of<T>(path: &Path, then: impl FnOnce(&str) -> Result<T, PolicyError>) -> Result<T, PolicyError> {
    fs::read_to_string(path)
        .map_err(PolicyError::unreadable)
        .and_then(|text| then(&text))
        .map_err(|error| error.of_file(path))
}
