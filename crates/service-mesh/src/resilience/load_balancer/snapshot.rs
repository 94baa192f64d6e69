//! The set of endpoints that can be picked, as it was at one moment.

use std::time::Duration;

use service_mesh_models::LoadBalancerStrategy;

use super::endpoint::Endpoint;
use super::least_connections::LeastConnections;
use super::ramp::Ramp;
use super::random::Random;
use super::round_robin::RoundRobin;
use super::weighted::Weighted;
use crate::environment::Environment;
use crate::resilience::chance::Chance;
use crate::resilience::clock::Timestamp;

/// The set of endpoints that can be picked (healthy, weight above 0) in order of registration, and all that a pick
/// needs. Only counters and cursors in it change; a change to the balancer makes a new set.
#[derive(Debug)]
pub(crate) struct EndpointSet {
    version: u64,
    endpoints: Box<[Endpoint]>,
    chance: Chance,
    plan: Plan,
}

/// What a strategy prepared. A strategy sees endpoints as indices.
#[derive(Debug)]
enum Plan {
    /// There is nobody to pick.
    Nobody,
    RoundRobin(RoundRobin),
    Random(Random),
    Weighted(Weighted),
    LeastConnections(LeastConnections),
}

/// What a set is made of.
pub(super) struct Draft {
    pub(super) version: u64,
    pub(super) strategy: LoadBalancerStrategy,
    pub(super) candidates: Vec<Candidate>,
    /// The candidate whose turn it would be in round robin.
    pub(super) start: usize,
    /// Whether anybody had a turn yet.
    pub(super) is_begun: bool,
    pub(super) now: Timestamp,
    pub(super) slow_start: Duration,
}

/// Somebody who can be picked.
pub(super) struct Candidate {
    pub(super) endpoint: Endpoint,
    pub(super) weight: u32,
    /// When it became pickable, where slow start asks for it.
    pub(super) since: Option<Timestamp>,
}

impl EndpointSet {
    pub(super) fn new(draft: &Draft, environment: &Environment) -> Self {
        let endpoints: Box<[_]> = draft.candidates.iter().map(|candidate| candidate.endpoint.clone()).collect();
        let chance = environment.chance();
        let plan = Plan::new(draft, &endpoints, environment, &chance);
        Self { version: draft.version, endpoints, chance, plan }
    }

    /// Differs from that of every other set of this balancer.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Those who can be picked, in order of registration. A pick is an index of them.
    #[inline]
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The strategy's choice; `None` if there is nobody. Takes no lock and allocates nothing.
    #[inline]
    pub(crate) fn pick(&self) -> Option<usize> {
        Some(match &self.plan {
            Plan::Nobody => return None,
            Plan::RoundRobin(ring) => ring.pick(),
            Plan::Random(random) => random.pick(&self.chance),
            Plan::Weighted(weighted) => weighted.pick(&self.chance),
            Plan::LeastConnections(least) => least.pick(&self.chance),
        })
    }

    /// The strategy's choice among those for which `admits` says true; `None` if it does so for nobody.
    ///
    /// `admits` may have an effect, such as taking a permit: each endpoint is asked at most once, and nobody is asked
    /// after one has admitted. At most `n` questions, no lock, no allocation.
    pub(crate) fn pick_where(&self, mut admits: impl FnMut(usize, &Endpoint) -> bool) -> Option<usize> {
        let admits = |index: usize| admits(index, &self.endpoints[index]);
        match &self.plan {
            Plan::Nobody => None,
            Plan::RoundRobin(ring) => ring.pick_where(admits),
            Plan::Random(random) => random.pick_where(&self.chance, admits),
            Plan::Weighted(weighted) => weighted.pick_where(&self.chance, admits),
            Plan::LeastConnections(least) => least.pick_where(&self.chance, admits),
        }
    }

    /// The strategy's choice among those whose ids are not excluded.
    pub(super) fn pick_except(&self, exclude: &[&str]) -> Option<usize> {
        self.pick_where(|_, endpoint| !exclude.contains(&endpoint.instance().id.as_str()))
    }

    /// The endpoint that had the last turn, where the strategy gives turns and somebody had one.
    pub(super) fn last(&self) -> Option<&Endpoint> {
        let last = match &self.plan {
            Plan::RoundRobin(ring) => ring.last(),
            Plan::Weighted(weighted) => weighted.last(),
            Plan::Nobody | Plan::Random(_) | Plan::LeastConnections(_) => None,
        };
        last.map(|index| &self.endpoints[index])
    }
}

impl Plan {
    fn new(draft: &Draft, endpoints: &[Endpoint], environment: &Environment, chance: &Chance) -> Self {
        if endpoints.is_empty() {
            return Self::Nobody;
        }
        match draft.strategy {
            LoadBalancerStrategy::RoundRobin => Self::RoundRobin(RoundRobin::new(draft.start, endpoints.len())),
            LoadBalancerStrategy::Random => Self::Random(Random::new(endpoints.len())),
            LoadBalancerStrategy::Weighted => {
                let weights: Vec<u32> = draft.candidates.iter().map(|candidate| candidate.weight).collect();
                let since = draft.candidates.iter().map(|candidate| candidate.since);
                let ramp = Ramp::new(since, draft.now, draft.slow_start, environment);
                Self::Weighted(Weighted::new(&weights, draft.start, draft.is_begun, ramp, chance))
            }
            LoadBalancerStrategy::LeastConnections => Self::LeastConnections(LeastConnections::new(endpoints)),
            // The models may grow a strategy for a later version of this crate only: both have one version.
            unknown => unreachable!("the strategy {unknown} has no plan"),
        }
    }
}
