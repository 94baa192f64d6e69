//! The set of endpoints that can be picked, as it was at one moment.

use std::num::NonZeroUsize;
use std::time::Duration;

use service_mesh_models::LoadBalancerStrategy;

use super::consistent_hash::ConsistentHash;
use super::endpoint::Endpoint;
use super::key::KeyHash;
use super::least_connections::LeastConnections;
use super::p2c::P2c;
use super::peak_ewma::PeakEwma;
use super::ramp::Ramp;
use super::random::Random;
use super::round_robin::RoundRobin;
use super::total::Total;
use super::weighted::Weighted;
use crate::environment::{Environment, Moment};
use crate::resilience::chance::Chance;
use crate::resilience::clock::Timestamp;
use crate::resilience::outcome::Outcome;

/// The set of endpoints that can be picked (healthy, weight above 0) in order of registration, and all that a pick
/// needs. Only counters and cursors in it change; a change to the balancer makes a new set.
#[derive(Debug)]
pub(crate) struct EndpointSet {
    version: u64,
    endpoints: Box<[Endpoint]>,
    chance: Chance,
    environment: Environment,
    plan: Plan,
}

/// Who was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    /// The index and one: so the answer "nobody" takes no word of its own, and all of it fits two registers.
    place: NonZeroUsize,
    /// When, by the balancer's clock, if the strategy asks how long an attempt takes: then [`EndpointSet::observe`] it.
    /// Otherwise [`UNTIMED`], which costs no clock.
    pub(crate) began: Timestamp,
}

impl Pick {
    #[inline]
    pub(crate) fn new(index: usize, began: Timestamp) -> Self {
        Self { place: NonZeroUsize::MIN.saturating_add(index), began }
    }

    /// Of [`EndpointSet::endpoints`].
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.place.get() - 1
    }
}

/// When an attempt began that nobody times. Later than any clock, and half as large as an option.
pub(crate) const UNTIMED: Timestamp = Timestamp::from_nanos(u64::MAX);

/// What a strategy prepared. A strategy sees endpoints as indices.
#[derive(Debug)]
enum Plan {
    /// There is nobody to pick.
    Nobody,
    RoundRobin(RoundRobin),
    Random(Random),
    Weighted(Weighted),
    LeastConnections(LeastConnections),
    P2c(P2c),
    PeakEwma(PeakEwma),
    ConsistentHash(ConsistentHash),
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
    pub(super) total: Total,
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
        Self { version: draft.version, endpoints, chance, environment: environment.clone(), plan }
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

    /// Takes in what came of an attempt that [`began`](Pick::began) then. Reads the clock.
    #[cold]
    pub(crate) fn observe(&self, index: usize, began: Timestamp, outcome: Outcome) {
        self.endpoints[index].observe(began, outcome, self.environment.now());
    }

    /// The strategy's choice, for this key if it goes by keys; `None` if there is nobody. Takes no lock and allocates
    /// nothing.
    #[inline]
    pub(crate) fn pick(&self, key: Option<KeyHash>) -> Option<Pick> {
        let index = match &self.plan {
            Plan::RoundRobin(ring) => ring.pick(),
            Plan::Random(random) => random.pick(&self.chance),
            Plan::Weighted(weighted) => weighted.pick(&self.chance),
            Plan::LeastConnections(least) => least.pick(&self.chance),
            _ => return self.pick_out_of_line(key),
        };
        Some(Pick::new(index, UNTIMED))
    }

    /// The same where nobody will [`observe`](Self::observe) the attempt: the latencies that a choice goes by fade within
    /// seconds, and about the time will do.
    #[inline]
    pub(super) fn pick_unobserved(&self, key: Option<KeyHash>) -> Option<usize> {
        match &self.plan {
            Plan::PeakEwma(ewma) => Some(self.pick_about_now(ewma)),
            _ => self.pick(key).map(Pick::index),
        }
    }

    #[inline(never)]
    fn pick_about_now(&self, ewma: &PeakEwma) -> usize {
        let about_now = self.environment.coarse();
        ewma.pick(&self.chance, &mut Moment::at(&self.environment, Some(about_now)))
    }

    /// The strategies that do more: inlined, they would take the registers that the others need.
    #[inline(never)]
    fn pick_out_of_line(&self, key: Option<KeyHash>) -> Option<Pick> {
        let mut moment = Moment::new(&self.environment);
        let index = match &self.plan {
            Plan::P2c(p2c) => p2c.pick(&self.chance, &mut moment),
            Plan::PeakEwma(ewma) => ewma.pick(&self.chance, &mut moment),
            Plan::ConsistentHash(hash) => hash.pick(self.key(key), &mut moment),
            _ => return None,
        };
        Some(Pick::new(index, self.began(&moment)))
    }

    /// The strategy's choice among those for which `admits` says true; `None` if it does so for nobody.
    ///
    /// `admits` may have an effect, such as taking a permit: each endpoint is asked at most once, and nobody is asked
    /// after one has admitted. At most `n` questions, no lock, no allocation.
    pub(crate) fn pick_where(
        &self,
        key: Option<KeyHash>,
        mut admits: impl FnMut(usize, &Endpoint) -> bool,
    ) -> Option<Pick> {
        let admits = |index: usize| admits(index, &self.endpoints[index]);
        let mut moment = Moment::new(&self.environment);
        let index = match &self.plan {
            Plan::Nobody => None,
            Plan::RoundRobin(ring) => ring.pick_where(admits),
            Plan::Random(random) => random.pick_where(&self.chance, admits),
            Plan::Weighted(weighted) => weighted.pick_where(&self.chance, admits),
            Plan::LeastConnections(least) => least.pick_where(&self.chance, admits),
            Plan::P2c(p2c) => p2c.pick_where(&self.chance, &mut moment, admits),
            Plan::PeakEwma(ewma) => ewma.pick_where(&self.chance, &mut moment, admits),
            Plan::ConsistentHash(hash) => hash.pick_where(self.key(key), &mut moment, admits),
        };
        index.map(|index| Pick::new(index, self.began(&moment)))
    }

    /// The strategy's choice among those whose ids are not excluded.
    pub(super) fn pick_except(&self, key: Option<KeyHash>, exclude: &[&str]) -> Option<Pick> {
        self.pick_where(key, |_, endpoint| !exclude.contains(&endpoint.instance().id.as_str()))
    }

    /// When what was picked at this moment begins.
    fn began(&self, moment: &Moment<'_>) -> Timestamp {
        match moment.known() {
            Some(now) if matches!(self.plan, Plan::PeakEwma(_)) => now,
            _ => UNTIMED,
        }
    }

    /// A call without a key has any.
    #[inline]
    fn key(&self, key: Option<KeyHash>) -> KeyHash {
        key.unwrap_or_else(|| KeyHash::from_bits(self.chance.bits()))
    }

    /// The endpoint that had the last turn, where the strategy gives turns and somebody had one.
    pub(super) fn last(&self) -> Option<&Endpoint> {
        let last = match &self.plan {
            Plan::RoundRobin(ring) => ring.last(),
            Plan::Weighted(weighted) => weighted.last(),
            Plan::Nobody
            | Plan::Random(_)
            | Plan::LeastConnections(_)
            | Plan::P2c(_)
            | Plan::PeakEwma(_)
            | Plan::ConsistentHash(_) => None,
        };
        last.map(|index| &self.endpoints[index])
    }
}

impl Plan {
    fn new(draft: &Draft, endpoints: &[Endpoint], environment: &Environment, chance: &Chance) -> Self {
        if endpoints.is_empty() {
            return Self::Nobody;
        }
        let weights = || draft.candidates.iter().map(|candidate| candidate.weight).collect::<Vec<_>>();
        let ramp = || {
            let since = draft.candidates.iter().map(|candidate| candidate.since);
            Ramp::new(since, draft.now, draft.slow_start, environment)
        };
        match draft.strategy {
            LoadBalancerStrategy::RoundRobin => Self::RoundRobin(RoundRobin::new(draft.start, endpoints.len())),
            LoadBalancerStrategy::Random => Self::Random(Random::new(endpoints.len())),
            LoadBalancerStrategy::Weighted => {
                Self::Weighted(Weighted::new(&weights(), draft.start, draft.is_begun, ramp(), chance))
            }
            LoadBalancerStrategy::LeastConnections => Self::LeastConnections(LeastConnections::new(endpoints)),
            LoadBalancerStrategy::P2c => Self::P2c(P2c::new(endpoints, &weights(), ramp())),
            LoadBalancerStrategy::PeakEwma => Self::PeakEwma(PeakEwma::new(endpoints, &weights(), ramp())),
            LoadBalancerStrategy::ConsistentHash => {
                Self::ConsistentHash(ConsistentHash::new(endpoints, &weights(), draft.total.clone(), ramp()))
            }
            // The models may grow a strategy for a later version of this crate only: both have one version.
            unknown => unreachable!("the strategy {unknown} has no plan"),
        }
    }
}
