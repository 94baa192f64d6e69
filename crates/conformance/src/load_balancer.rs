//! Scenarios of a load balancer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use service_mesh_models::{LoadBalancerStrategy, ServiceInstance};
use toml::Spanned;

use crate::expect::{Bounds, Checked, Mismatch, Names, Span, names, same, same_if_given, within};
use crate::file::{belongs, one_action};
use crate::{Need, Report, Scenario, ScenarioFile};

/// A load balancer under test, on a clock of its own that stands still unless it is moved.
pub trait Driver {
    /// Moves the clock.
    fn advance(&mut self, by: Duration);
    /// Registers an instance; whether its id was known.
    fn register(&mut self, instance: &ServiceInstance) -> bool;
    /// Takes an instance out; whether it was known.
    fn deregister(&mut self, id: &str) -> bool;
    /// Marks an instance; whether it was known.
    fn mark_healthy(&mut self, id: &str, healthy: bool) -> bool;
    /// The id of the instance that `get_instance` gives, if any, leaving out the ids of `exclude`.
    fn pick(&mut self, exclude: &[String]) -> Option<String>;
    /// The id of the instance of which `acquire` gives a lease, if any. The driver keeps the lease.
    fn lease(&mut self, exclude: &[String]) -> Option<String>;
    /// Gives back the oldest lease of that instance which the driver keeps.
    fn release(&mut self, id: &str);
    /// How many leases of a registered instance are out, as the balancer tells it, without the instance's own
    /// `connections`.
    fn leased(&mut self, id: &str) -> u64;
}

/// What the driver starts with.
#[derive(Clone, Debug)]
pub struct Given {
    /// How it picks.
    pub strategy: LoadBalancerStrategy,
    /// How long a new instance takes to its full share, if at all.
    pub slow_start: Option<Duration>,
    /// What is registered before the first step, in this order.
    pub instances: Vec<ServiceInstance>,
}

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadBalancerScenario {
    name: String,
    rules: Vec<String>,
    #[serde(default)]
    needs: Vec<Need>,
    #[serde(default)]
    strategy: LoadBalancerStrategy,
    slow_start_seconds: Option<Span>,
    #[serde(default)]
    instances: Vec<Instance>,
    #[serde(default)]
    steps: Vec<Spanned<Step>>,
}

/// An instance in a file: its id alone, or a table with an id; the host is then the id and the port 80 unless given.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "WrittenInstance")]
pub(crate) struct Instance(pub(crate) ServiceInstance);

#[derive(Deserialize)]
#[serde(untagged, expecting = "an instance: its id, or { id, host, port, weight, healthy, connections }")]
enum WrittenInstance {
    Id(String),
    Table(InstanceTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceTable {
    id: String,
    host: Option<String>,
    port: Option<u16>,
    weight: Option<u32>,
    healthy: Option<bool>,
    connections: Option<u32>,
}

impl From<WrittenInstance> for Instance {
    fn from(written: WrittenInstance) -> Self {
        let table = match written {
            WrittenInstance::Id(id) => return Self(ServiceInstance::new(id.clone(), id, 80)),
            WrittenInstance::Table(table) => table,
        };
        let host = table.host.unwrap_or_else(|| table.id.clone());
        Self(
            ServiceInstance::new(table.id, host, table.port.unwrap_or(80))
                .with_weight(table.weight.unwrap_or(1))
                .with_healthy(table.healthy.unwrap_or(true))
                .with_connections(table.connections.unwrap_or(0)),
        )
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    picks: Option<Names>,
    pick_times: Option<u32>,
    leases: Option<Names>,
    lease_times: Option<u32>,
    release: Option<String>,
    register: Option<Instance>,
    deregister: Option<String>,
    mark_healthy: Option<String>,
    mark_unhealthy: Option<String>,
    advance_seconds: Option<Span>,

    exclude: Option<Names>,

    counts: Option<BTreeMap<String, Bounds>>,
    known: Option<bool>,
    leased: Option<BTreeMap<String, u64>>,
}

impl Step {
    fn check(&self) -> Result<(), String> {
        let action = one_action(&[
            ("picks", self.picks.is_some()),
            ("pick_times", self.pick_times.is_some()),
            ("leases", self.leases.is_some()),
            ("lease_times", self.lease_times.is_some()),
            ("release", self.release.is_some()),
            ("register", self.register.is_some()),
            ("deregister", self.deregister.is_some()),
            ("mark_healthy", self.mark_healthy.is_some()),
            ("mark_unhealthy", self.mark_unhealthy.is_some()),
            ("advance_seconds", self.advance_seconds.is_some()),
        ])?;
        let choosing = &["picks", "pick_times", "leases", "lease_times"][..];
        let changing = &["register", "deregister", "mark_healthy", "mark_unhealthy"][..];
        belongs(
            action,
            &[
                ("exclude", self.exclude.is_some(), choosing),
                ("counts", self.counts.is_some(), &["pick_times", "lease_times"]),
                ("known", self.known.is_some(), changing),
            ],
        )?;
        if action.ends_with("_times") && self.counts.is_none() {
            return Err(format!("`{action}` wants `counts`"));
        }
        Ok(())
    }

    fn play(&self, driver: &mut impl Driver) -> Checked {
        self.act(driver)?;
        for (id, expected) in self.leased.iter().flatten() {
            same(&format!("leased of {id}"), expected, &driver.leased(id))?;
        }
        Ok(())
    }

    fn act(&self, driver: &mut impl Driver) -> Checked {
        let exclude = self.exclude.as_ref().map(Names::plain).unwrap_or_default();
        if let Some(expected) = &self.picks {
            let got: Vec<_> = expected.0.iter().map(|_| driver.pick(&exclude)).collect();
            return names("picks", expected, &got);
        }
        if let Some(expected) = &self.leases {
            let got: Vec<_> = expected.0.iter().map(|_| driver.lease(&exclude)).collect();
            return names("leases", expected, &got);
        }
        if let Some(times) = self.pick_times {
            return self.judge((0..times).map(|_| driver.pick(&exclude)));
        }
        if let Some(times) = self.lease_times {
            return self.judge((0..times).map(|_| driver.lease(&exclude)));
        }
        let known = if let Some(Instance(instance)) = &self.register {
            driver.register(instance)
        } else if let Some(id) = &self.deregister {
            driver.deregister(id)
        } else if let Some(id) = &self.mark_healthy {
            driver.mark_healthy(id, true)
        } else if let Some(id) = &self.mark_unhealthy {
            driver.mark_healthy(id, false)
        } else {
            match (&self.release, self.advance_seconds) {
                (Some(id), _) => driver.release(id),
                (None, by) => driver.advance(by.unwrap_or_default().0),
            }
            return Ok(());
        };
        same_if_given("known", self.known.as_ref(), &known)
    }

    /// How often each was chosen; whoever is not named must not be chosen at all. Nobody is `-`.
    fn judge(&self, chosen: impl Iterator<Item = Option<String>>) -> Checked {
        let mut got: BTreeMap<String, u32> = BTreeMap::new();
        for id in chosen {
            *got.entry(id.unwrap_or_else(|| "-".to_owned())).or_default() += 1;
        }
        let expected = self.counts.clone().unwrap_or_default();
        for (id, bounds) in &expected {
            within(&format!("count of {id}"), *bounds, got.get(id).copied().unwrap_or(0).into())?;
        }
        match got.iter().find(|(id, _)| !expected.contains_key(*id)) {
            None => Ok(()),
            Some((id, count)) => within(&format!("count of {id}"), Bounds::Exactly(0.0), (*count).into()),
        }
    }
}

impl Scenario for LoadBalancerScenario {
    const SUBJECT: &'static str = "load_balancer";

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
        self.slow_start_seconds.map(|_| Need::SlowStart).into_iter().collect()
    }

    fn steps(&self) -> Vec<Range<usize>> {
        self.steps.iter().map(Spanned::span).collect()
    }

    fn check(&self) -> Result<(), (usize, String)> {
        let check = |(index, step): (usize, &Spanned<Step>)| step.get_ref().check().map_err(|fault| (index + 1, fault));
        self.steps.iter().enumerate().try_for_each(check)
    }
}

impl LoadBalancerScenario {
    fn play<D: Driver>(&self, start: &mut impl FnMut(&Given) -> D) -> Result<(), (usize, Mismatch)> {
        let mut driver = start(&Given {
            strategy: self.strategy,
            slow_start: self.slow_start_seconds.map(|span| span.0),
            instances: self.instances.iter().map(|instance| instance.0.clone()).collect(),
        });
        for (index, step) in self.steps.iter().enumerate() {
            step.get_ref().play(&mut driver).map_err(|mismatch| (index + 1, mismatch))?;
        }
        Ok(())
    }
}

/// Replays a file: `start` makes a fresh driver for each scenario, with its instances registered in their order.
pub fn replay<D: Driver>(
    file: &ScenarioFile<LoadBalancerScenario>,
    can: &[Need],
    mut start: impl FnMut(&Given) -> D,
) -> Report {
    file.run(can, |scenario| scenario.play(&mut start))
}
