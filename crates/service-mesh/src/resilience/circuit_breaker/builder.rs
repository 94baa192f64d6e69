//! How a circuit breaker is made.

use std::sync::{Arc, OnceLock};

use service_mesh_models::CircuitBreakerConfig;

use super::{CircuitBreaker, EjectionCap};
use crate::environment::Environment;
use crate::resilience::event::{Announcer, Listener};

/// Builds a [`CircuitBreaker`]; nothing in it can fail, since a configuration that exists is valid.
///
/// ```
/// use service_mesh::{CircuitBreaker, CircuitBreakerConfig, Event};
/// let breaker = CircuitBreaker::builder("payments")
///     .config(CircuitBreakerConfig::builder().failure_threshold(3).build()?)
///     .listener(|event: &Event| println!("{event}"))
///     .build();
/// assert_eq!(breaker.config().failure_threshold(), 3);
/// # Ok::<(), service_mesh::ConfigError>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct CircuitBreakerBuilder {
    name: Arc<str>,
    config: Arc<CircuitBreakerConfig>,
    environment: Environment,
    announcer: Option<Arc<Announcer>>,
    cap: Option<Arc<EjectionCap>>,
}

impl CircuitBreakerBuilder {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self { name, config: default_config(), environment: Environment::system(), announcer: None, cap: None }
    }

    /// When it trips and how it recovers; breakers may share one. Default: [`CircuitBreakerConfig::default`].
    pub fn config(mut self, config: impl Into<Arc<CircuitBreakerConfig>>) -> Self {
        self.config = config.into();
        self
    }

    /// Its clock and its source of chance. Default: the system's.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Adds a listener; there may be several. Default: none.
    pub fn listener(mut self, listener: impl Listener + 'static) -> Self {
        self.announcer.get_or_insert_default().subscribe(Arc::new(listener));
        self
    }

    /// Shares listeners, if there are any, and an ejection cap with the other circuits of one service.
    pub(crate) fn of_service(mut self, announcer: Option<Arc<Announcer>>, cap: Option<Arc<EjectionCap>>) -> Self {
        self.announcer = announcer;
        self.cap = cap;
        self
    }

    /// Makes the breaker: Closed, nothing counted.
    pub fn build(self) -> CircuitBreaker {
        CircuitBreaker::made(self.name, self.config, self.environment, self.announcer, self.cap)
    }
}

/// One for all breakers that are given none.
fn default_config() -> Arc<CircuitBreakerConfig> {
    static DEFAULT: OnceLock<Arc<CircuitBreakerConfig>> = OnceLock::new();
    Arc::clone(DEFAULT.get_or_init(Arc::default))
}
