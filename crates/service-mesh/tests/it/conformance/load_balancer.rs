//! The load balancer. It has no drivers: whoever calls asks it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use service_mesh::testing::ManualClock;
use service_mesh::{Environment, Lease, LoadBalancer, ServiceInstance};
use service_mesh_conformance::Need;
use service_mesh_conformance::load_balancer::{Driver, Given, replay};

struct World {
    clock: ManualClock,
    balancer: LoadBalancer,
    leases: BTreeMap<String, VecDeque<Lease>>,
}

impl World {
    fn new(given: &Given) -> Self {
        let clock = ManualClock::new();
        let balancer = LoadBalancer::builder()
            .strategy(given.strategy)
            .slow_start(given.slow_start.unwrap_or_default())
            .environment(Environment::manual(&clock))
            .build();
        for instance in &given.instances {
            balancer.register(instance.clone());
        }
        Self { clock, balancer, leases: BTreeMap::new() }
    }
}

fn borrowed(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}

impl Driver for World {
    fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    fn register(&mut self, instance: &ServiceInstance) -> bool {
        self.balancer.register(instance.clone()).is_some()
    }

    fn deregister(&mut self, id: &str) -> bool {
        self.balancer.deregister(id).is_some()
    }

    fn mark_healthy(&mut self, id: &str, healthy: bool) -> bool {
        self.balancer.mark_healthy(id, healthy)
    }

    fn pick(&mut self, exclude: &[String]) -> Option<String> {
        let instance = match exclude {
            [] => self.balancer.get_instance(),
            exclude => self.balancer.get_instance_except(&borrowed(exclude)),
        };
        Some(instance?.id.clone())
    }

    fn lease(&mut self, exclude: &[String]) -> Option<String> {
        let lease = match exclude {
            [] => self.balancer.acquire(),
            exclude => self.balancer.acquire_except(&borrowed(exclude)),
        }?;
        let id = lease.instance().id.clone();
        self.leases.entry(id.clone()).or_default().push_back(lease);
        Some(id)
    }

    fn release(&mut self, id: &str) {
        let lease = self.leases.get_mut(id).and_then(VecDeque::pop_front);
        drop(lease.expect("a scenario releases what it leased"));
    }

    fn leased(&mut self, id: &str) -> u64 {
        let endpoints = self.balancer.endpoints();
        endpoints.iter().find(|endpoint| endpoint.instance.id == id).map_or(0, |endpoint| endpoint.in_flight.into())
    }
}

#[test]
fn the_balancer() {
    replay(&super::open("load_balancer.toml"), &Need::ALL, World::new).expect(&[]);
}
