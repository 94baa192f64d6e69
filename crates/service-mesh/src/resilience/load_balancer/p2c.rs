//! Power of two choices: of two that chance names, the one with fewer connections in flight relative to its weight.
//!
//! Mitzenmacher, "The power of two choices in randomized load balancing" (IEEE Transactions on Parallel and Distributed
//! Systems, 2001); Azar, Broder, Karlin and Upfal, "Balanced allocations" (1994). With one random choice the fullest of
//! `n` has about ln n / ln ln n more than its share, with two about ln ln n / ln 2: nearly all that a look at everybody
//! would gain, for two looks. And since each caller looks at two of its own, many that see the same stale counts do not
//! all run to the same endpoint, as they would to the least of all.
//!
//! Weights: bins of different sizes, drawn in proportion to them (Berenbrink, Brinkmann, Friedetzky and Nagel, "Balls
//! into non-uniform bins", 2010).

use super::endpoint::{Endpoint, Live};
use super::ramp::Ramp;
use super::two_choices::TwoChoices;
use crate::environment::Moment;
use crate::resilience::chance::Chance;

#[derive(Debug)]
pub(super) struct P2c(TwoChoices);

impl P2c {
    pub(super) fn new(endpoints: &[Endpoint], weights: &[u32], ramp: Option<Ramp>) -> Self {
        Self(TwoChoices::new(endpoints, weights, ramp))
    }

    /// Reads the clock only while somebody rises.
    #[inline]
    pub(super) fn pick(&self, chance: &Chance, moment: &mut Moment<'_>) -> usize {
        self.0.pick(chance, moment, alike)
    }

    pub(super) fn pick_where(
        &self,
        chance: &Chance,
        moment: &mut Moment<'_>,
        admits: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        self.0.pick_where(chance, moment, alike, admits)
    }
}

/// A call costs the same wherever it goes.
#[inline]
fn alike(_: &Live) -> f64 {
    1.0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use crate::testing::ManualClock;
    use crate::{Environment, Lease, LoadBalancer, LoadBalancerStrategy, ServiceInstance};

    fn balancer(strategy: LoadBalancerStrategy, weights: &[u32], clock: &ManualClock) -> LoadBalancer {
        let builder = LoadBalancer::builder().strategy(strategy).slow_start(Duration::from_secs(60));
        let balancer = builder.environment(Environment::manual(clock)).build();
        let instance =
            |(number, weight): (usize, &u32)| ServiceInstance::new(number.to_string(), "host", 80).with_weight(*weight);
        balancer.set_instances(weights.iter().enumerate().map(instance));
        balancer
    }

    fn p2c(weights: &[u32]) -> LoadBalancer {
        balancer(LoadBalancerStrategy::P2c, weights, &ManualClock::new())
    }

    fn number(instance: &ServiceInstance) -> usize {
        instance.id.parse().unwrap()
    }

    fn in_flight(balancer: &LoadBalancer) -> Vec<u32> {
        balancer.endpoints().iter().map(|endpoint| endpoint.in_flight).collect()
    }

    /// How far the fullest is above its share when everybody has a hundred connections on average.
    fn excess(strategy: LoadBalancerStrategy) -> u32 {
        let balancer = balancer(strategy, &[1; 100], &ManualClock::new());
        let _leases: Vec<Lease> = (0..10_000).filter_map(|_| balancer.acquire()).collect();
        in_flight(&balancer).into_iter().max().unwrap() - 100
    }

    #[test]
    fn two_choices_balance_far_better_than_one() {
        // √100 is one deviation of a single choice, and the fullest of 100 has two and a half.
        assert!(excess(LoadBalancerStrategy::Random) > 15);
        assert!(excess(LoadBalancerStrategy::P2c) <= 4);
    }

    #[test]
    fn an_idle_set_is_shared_by_weight() {
        let balancer = p2c(&[5, 1, 1, 3]);
        let mut picks = [0_u32; 4];
        for _ in 0..10_000 {
            picks[number(&balancer.get_instance().unwrap())] += 1;
        }
        for (count, share) in picks.into_iter().zip([5000, 1000, 1000, 3000]) {
            assert!(count.abs_diff(share) < 200, "{picks:?}");
        }
    }

    #[test]
    fn of_two_the_busy_one_is_left_alone() {
        let balancer = p2c(&[1, 1]);
        let lease = balancer.acquire().unwrap();
        assert!((0..100).all(|_| balancer.get_instance().unwrap().id != lease.instance().id));
    }

    #[test]
    fn a_light_instance_is_found_behind_a_very_heavy_one_that_is_excluded() {
        let balancer = p2c(&[60_000, 1, 1]);
        assert!((0..20).all(|_| balancer.get_instance_except(&["0"]).unwrap().id != "0"));
    }

    #[test]
    fn a_new_instance_gets_little_at_first_and_its_share_in_the_end() {
        let clock = ManualClock::new();
        let balancer = balancer(LoadBalancerStrategy::P2c, &[1, 1], &clock);
        clock.advance(Duration::from_secs(100));
        balancer.register(ServiceInstance::new("2", "host", 80));
        let share = || {
            // As many connections as are open, so that being empty makes the new one attractive.
            let leases: Vec<Lease> = (0..3_000).filter_map(|_| balancer.acquire()).collect();
            leases.iter().filter(|lease| lease.instance().id == "2").count()
        };
        // A tenth beside two wholes is 1 in 21; half-way 0.55 in 2.55.
        let (first, halfway, whole) = (
            share(),
            {
                clock.advance(Duration::from_secs(30));
                share()
            },
            {
                clock.advance(Duration::from_secs(30));
                share()
            },
        );
        assert!((130..160).contains(&first), "{first}");
        assert!((630..665).contains(&halfway), "{halfway}");
        assert!((995..1005).contains(&whole), "{whole}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn connections_converge_to_the_weights(weights in prop::collection::vec(1_u32..20, 2..12)) {
            let (balancer, sum) = (p2c(&weights), weights.iter().sum::<u32>());
            let _leases: Vec<Lease> = (0..sum * 40).filter_map(|_| balancer.acquire()).collect();
            for (connections, weight) in in_flight(&balancer).into_iter().zip(&weights) {
                let share = weight * 40;
                prop_assert!(connections.abs_diff(share) <= share / 5 + 2, "{connections} for {share}");
            }
        }
    }
}
