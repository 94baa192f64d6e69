//! Scenarios of a service proxy: one call, with everything that takes part in it.

mod driver;
mod format;
mod held;
mod returned;
mod step;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use service_mesh_models::{
    CircuitBreakerConfig, LoadBalancerStrategy, RetryBudgetConfig, RetryConfig, ServiceInstance, ServiceProxyConfig,
};
use toml::Spanned;

use self::format::{Budget, InstanceBreaker};
use self::held::Held;
use self::step::{Step, panics};
use crate::expect::{Mismatch, mismatch};
use crate::file::Config;
use crate::load_balancer::Instance;
use crate::{Need, Report, Scenario, ScenarioFile};

pub use self::driver::{Answer, CameBack, Driver, Ended, Progress, Told};

/// The name of the service in every scenario; its instances' breakers are thus named `api/a`, `api/b`, …
pub const SERVICE: &str = "api";

/// What the driver starts with.
#[derive(Clone, Debug)]
pub struct Given {
    /// How it picks.
    pub strategy: LoadBalancerStrategy,
    /// What is registered before the first step, in this order. All of them answer `ok` until they are told otherwise.
    pub instances: Vec<ServiceInstance>,
    /// The service's breaker.
    pub circuit_breaker: CircuitBreakerConfig,
    /// The breaker of each instance, or none. What the file leaves out is taken from the service's already.
    pub instance_circuit_breaker: Option<CircuitBreakerConfig>,
    /// The retry policy.
    pub retry: RetryConfig,
    /// The budget, or none.
    pub budget: Option<RetryBudgetConfig>,
    /// Time limits, and how instances leave and return.
    pub config: ServiceProxyConfig,
    /// Whether each call is asked for its story.
    pub explained: bool,
}

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceProxyScenario {
    name: String,
    rules: Vec<String>,
    #[serde(default)]
    needs: Vec<Need>,
    #[serde(default)]
    strategy: LoadBalancerStrategy,
    #[serde(default)]
    instances: Vec<Instance>,
    #[serde(default)]
    circuit_breaker: toml::Table,
    #[serde(default)]
    instance_circuit_breaker: InstanceBreaker,
    #[serde(default)]
    retry: RetryConfig,
    #[serde(default)]
    budget: Budget,
    #[serde(default)]
    config: ServiceProxyConfig,
    #[serde(default)]
    answers: BTreeMap<String, Answer>,
    steps: Vec<Spanned<Step>>,
}

impl Scenario for ServiceProxyScenario {
    const SUBJECT: &'static str = "service_proxy";

    fn name(&self) -> &str {
        &self.name
    }

    fn rules(&self) -> &[String] {
        &self.rules
    }

    fn needs(&self) -> &[Need] {
        &self.needs
    }

    fn uses(&self) -> Vec<Need> {
        let mut used: Vec<Need> = self.steps.iter().flat_map(|step| step.get_ref().uses()).collect();
        used.extend(self.answers.values().copied().filter(|answer| panics(*answer)).map(|_| Need::Panic));
        used.extend(self.config.attempt_timeout().map(|_| Need::StopAttempts));
        used
    }

    fn steps(&self) -> Vec<Range<usize>> {
        self.steps.iter().map(Spanned::span).collect()
    }

    fn check(&self) -> Result<(), (usize, String)> {
        self.given().map_err(|message| (0, message))?;
        if self.uses().contains(&Need::Overlap) && !self.retry.initial_delay().is_zero() && self.retry.max_retries() > 0
        {
            return Err((
                0,
                "where calls overlap, a wait before a retry would make their order the driver's".to_owned(),
            ));
        }
        let check = |(index, step): (usize, &Spanned<Step>)| step.get_ref().check().map_err(|fault| (index + 1, fault));
        self.steps.iter().enumerate().try_for_each(check)
    }
}

impl ServiceProxyScenario {
    fn given(&self) -> Result<Given, String> {
        let instance_circuit_breaker = match &self.instance_circuit_breaker {
            InstanceBreaker::Off => None,
            InstanceBreaker::Table(own) => {
                let mut table = self.circuit_breaker.clone();
                table.extend(own.clone());
                Some(Config::from_table(table).0?)
            }
        };
        Ok(Given {
            strategy: self.strategy,
            instances: self.instances.iter().map(|instance| instance.0.clone()).collect(),
            circuit_breaker: Config::from_table(self.circuit_breaker.clone()).0?,
            instance_circuit_breaker,
            retry: self.retry.clone(),
            budget: match &self.budget {
                Budget::Off => None,
                Budget::On(config) => Some(config.clone()),
            },
            config: self.config.clone(),
            explained: self.steps.iter().any(|step| step.get_ref().wants_story()),
        })
    }

    fn play<D: Driver>(&self, start: &mut impl FnMut(&Given) -> D) -> Result<(), (usize, Mismatch)> {
        let given = self.given().map_err(|message| (0, mismatch("config", "a configuration", message)))?;
        let mut driver = start(&given);
        let ids = given.instances.iter().map(|instance| instance.id.clone()).collect();
        let mut held = Held { ids, ..Held::default() };
        for (id, answer) in &self.answers {
            driver.set_answer(id, *answer);
        }
        for (index, step) in self.steps.iter().enumerate() {
            step.get_ref().play(&mut held, &mut driver).map_err(|mismatch| (index + 1, mismatch))?;
        }
        Ok(())
    }
}

/// Replays a file: `start` makes a fresh driver for each scenario.
pub fn replay<D: Driver>(
    file: &ScenarioFile<ServiceProxyScenario>,
    can: &[Need],
    mut start: impl FnMut(&Given) -> D,
) -> Report {
    file.run(can, |scenario| scenario.play(&mut start))
}
