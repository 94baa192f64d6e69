//! By key: calls with one key go to one instance, while it is there and not overloaded.
//!
//! The idea is Karger et al., "Consistent hashing and random trees" (STOC 1997); the bound on the load is Mirrokni,
//! Thorup and Zadimoghaddam, "Consistent hashing with bounded loads" (2016): nobody gets more than 1.25 times its share
//! of all connections in flight, rounded up, and who is full passes the call on to the next in the key's own order. So a
//! key that everybody wants cannot bring its instance down, and whoever else lives there loses little.
//!
//! # Neither a ring nor Maglev
//! A key names a slot of a table, as in Maglev, and the table holds for each slot whom [rendezvous
//! hashing](super::rendezvous) would choose. Measured beside the two, in the mean over 20 departures:
//!
//! | | a lookup | one leaves: moved without need, of 10 / 100 / 1,000 | share of one, deviation at 10 / 100 / 1,000 | a change costs, at 10 / 100 / 1,000 |
//! |---|---|---|---|---|
//! | this table, 65,537 slots | 2–4 ns | 0 / 0 / 0 | 0.8 / 2.8 / 8.8 % | 2 / 4 / 4 ms |
//! | Maglev, 65,537 slots | 2–4 ns | 0.28 / 0.56 / 0.59 % of all keys | 0 | 2 / 2 / 2 ms |
//! | ring, 160 points each | 10–146 ns | 0 / 0 / 0 | 5.1 / 7.5 / 7.9 % | 0.05 / 0.5 / 8 ms |
//!
//! Maglev moves half as many keys again as it must where one of 100 leaves; a cache pays for each. A ring's weights are
//! numbers of points, which move keys among the others if they are made relative to the set. What this costs beside the
//! ring is a quarter of a mebibyte, and shares that grow coarse beyond some thousand instances: one whose weight is
//! less than 1 in 65,537 of all may own no slot, and then gets no calls but by the bound or where others refuse.

use std::sync::Arc;

use super::asked::Asked;
use super::endpoint::{Endpoint, Live};
use super::key::KeyHash;
use super::ramp::Ramp;
use super::rendezvous::{Bidder, SLOTS, owners};
use super::total::Total;
use crate::environment::Moment;
use crate::resilience::clock::Timestamp;

/// The bound, as a fraction: small enough that a key which everybody wants is spread before it hurts; large enough that a
/// fifth of the weight has room at any time, so that those who are full find one in five steps.
const BOUND: (u128, u128) = (5, 4);

/// How many slots are walked for one with room before the rest is asked in order.
const WALK_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct ConsistentHash {
    /// The owner of each slot.
    slots: Box<[u32]>,
    members: Box<[Member]>,
    /// The sum of the weights.
    weight: u64,
    total: Total,
    rising: Option<Rising>,
}

/// What there is while somebody rises.
#[derive(Debug)]
struct Rising {
    ramp: Ramp,
    /// The owners of the slots without those who rise: a key stays where it was until it moves to one of them.
    before: Box<[u32]>,
}

#[derive(Debug)]
struct Member {
    live: Arc<Live>,
    weight: u32,
    name: u64,
}

impl ConsistentHash {
    /// `total` is of the connections of these endpoints.
    pub(super) fn new(endpoints: &[Endpoint], weights: &[u32], total: Total, ramp: Option<Ramp>) -> Self {
        let member = |(endpoint, weight): (&Endpoint, &u32)| Member {
            live: Arc::clone(endpoint.live()),
            weight: *weight,
            // By its id: whoever else knows it by that agrees, and it may move to another address.
            name: KeyHash::of(&endpoint.instance().id).bits(),
        };
        let members: Box<[Member]> = endpoints.iter().zip(weights).map(member).collect();
        let bidders: Vec<_> = (0..)
            .zip(&members)
            .map(|(index, member)| Bidder { index, name: member.name, weight: member.weight })
            .collect();
        let rising = ramp.map(|ramp| {
            let leads = |bidder: &&Bidder| ramp.leads(bidder.index as usize);
            let before = owners(bidders.iter().filter(leads).copied().collect());
            Rising { ramp, before }
        });
        let weight = weights.iter().copied().map(u64::from).sum();
        Self { slots: owners(bidders), members, weight, total, rising }
    }

    /// The first in the key's order that has room.
    #[inline]
    pub(super) fn pick(&self, key: KeyHash, moment: &mut Moment<'_>) -> usize {
        let owner = self.slots[slot(key)] as usize;
        if self.rising().is_none() && self.has_room(owner) {
            return owner;
        }
        self.pick_where(key, moment, |_| true).unwrap_or(owner)
    }

    /// The first in the key's order that has room and admits; if there is none, the first that admits. Each is asked at
    /// most once.
    #[cold]
    pub(super) fn pick_where(
        &self,
        key: KeyHash,
        moment: &mut Moment<'_>,
        mut admits: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let rising = self.rising().map(|rising| (rising, rising.ramp.at(moment.now())));
        let mut asked = Asked::new();
        for wants_room in [true, false] {
            for slot in walk(key) {
                let index = self.owner(slot, key, rising);
                if asked.contains(index) || wants_room && !self.has_room(index) {
                    continue;
                }
                if !asked.has_room() {
                    break;
                }
                if admits(index) {
                    return Some(index);
                }
                asked.insert(index);
                if asked.len() == self.members.len() {
                    return None;
                }
            }
        }
        asked.ask_the_rest_from(slot(key) % self.members.len(), self.members.len(), admits)
    }

    #[inline]
    fn rising(&self) -> Option<&Rising> {
        self.rising.as_ref().filter(|rising| rising.ramp.is_active())
    }

    /// Who owns a slot, as far as this key goes: those who rise get their keys one by one.
    fn owner(&self, slot: usize, key: KeyHash, rising: Option<(&Rising, Timestamp)>) -> usize {
        let owner = self.slots[slot] as usize;
        let Some((Rising { ramp, before }, now)) = rising else { return owner };
        let share = ramp.share_of(owner, now);
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let lot = || key.with(self.members[owner].name) as f64 / u64::MAX as f64;
        if share < 1.0 && lot() >= share { before[slot] as usize } else { owner }
    }

    /// Whether, with one more, its connections were within the bound: ⌈5/4 of its share of all of them⌉.
    #[inline]
    fn has_room(&self, index: usize) -> bool {
        let Member { live, weight, .. } = &self.members[index];
        let connections = live.leased();
        if connections == 0 {
            return true;
        }
        let all = u128::from(self.total.connections() + 1);
        let (over, under) = BOUND;
        u128::from(connections) * under * u128::from(self.weight) < all * over * u128::from(*weight)
    }
}

#[inline]
fn slot(key: KeyHash) -> usize {
    (((key.bits() >> 32) * u64::from(SLOTS)) >> 32) as usize
}

/// The key's own order: its slot and those that follow. Whom a retry or an overload leads to from there differs from
/// slot to slot, so that nobody's neighbour has to carry all of it.
fn walk(key: KeyHash) -> impl Iterator<Item = usize> {
    let (slot, slots) = (slot(key), SLOTS as usize);
    (slot..slots).chain(0..slot).take(WALK_MAX)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use crate::testing::ManualClock;
    use crate::{
        Answer, CallOptions, Environment, Lease, LoadBalancer, LoadBalancerStrategy, RetryConfig, ServiceInstance,
        ServiceProxy,
    };

    const KEYS: u32 = 10_000;

    fn instance(id: &str) -> ServiceInstance {
        ServiceInstance::new(id, format!("host-{id}"), 80)
    }

    fn on_clock(clock: &ManualClock, ids: &[&str]) -> LoadBalancer {
        let builder = LoadBalancer::builder().strategy(LoadBalancerStrategy::ConsistentHash);
        let balancer = builder.slow_start(Duration::from_secs(60)).environment(Environment::manual(clock)).build();
        balancer.set_instances(ids.iter().map(|id| instance(id)));
        balancer
    }

    fn balancer(ids: &[&str]) -> LoadBalancer {
        on_clock(&ManualClock::new(), ids)
    }

    /// Where each key lives.
    fn homes(balancer: &LoadBalancer) -> Vec<String> {
        (0..KEYS).map(|key| balancer.get_instance_for(&key).unwrap().id.clone()).collect()
    }

    fn counts(homes: &[String]) -> HashMap<&str, u32> {
        let mut counts = HashMap::new();
        for id in homes {
            *counts.entry(id.as_str()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn one_key_goes_to_one_instance_whoever_asks_and_in_whatever_order_they_were_registered() {
        let homes_of = homes(&balancer(&["a", "b", "c", "d"]));
        assert_eq!(homes_of, homes(&balancer(&["d", "b", "a", "c"])));
        assert_eq!(counts(&homes_of).len(), 4);
        let elsewhere = balancer(&["b", "c", "d"]);
        elsewhere.register(ServiceInstance::new("a", "moved", 81));
        assert_eq!(homes_of, homes(&elsewhere), "the id is what counts, not the address");
    }

    #[test]
    fn when_one_leaves_only_its_keys_move_and_they_come_back_with_it() {
        let balancer = balancer(&["a", "b", "c", "d", "e"]);
        let before = homes(&balancer);
        for change in [false, true] {
            balancer.mark_healthy("c", change);
            for (before, after) in before.iter().zip(homes(&balancer)) {
                assert!(*before == after || (before == "c" && !change), "{before} {after}");
            }
        }
        let moved = counts(&before)["c"];
        assert!((1_850..2_150).contains(&moved), "a fifth of the keys, and no more, were on the way: {moved}");
    }

    #[test]
    fn one_that_comes_takes_its_share_and_nothing_else_moves() {
        let balancer = balancer(&["a", "b", "c", "d"]);
        let before = homes(&balancer);
        balancer.register(instance("e").with_weight(2));
        // It rises only beside those who have risen; here all have begun together.
        let after = homes(&balancer);
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || after == "e"));
        assert!((3_150..3_500).contains(&counts(&after)["e"]));
    }

    #[test]
    fn keys_are_shared_by_weight_and_so_are_calls_without_one() {
        let balancer = balancer(&["a"]);
        balancer.set_instances([instance("a").with_weight(5), instance("b"), instance("c").with_weight(4)]);
        let keyless: Vec<String> = (0..KEYS).map(|_| balancer.get_instance().unwrap().id.clone()).collect();
        for homes in [homes(&balancer), keyless] {
            let counts = counts(&homes);
            assert!(counts["a"].abs_diff(5_000) < 250, "{counts:?}");
            assert!(counts["b"].abs_diff(1_000) < 150, "{counts:?}");
            assert!(counts["c"].abs_diff(4_000) < 250, "{counts:?}");
        }
    }

    #[test]
    fn a_key_that_everybody_wants_is_carried_by_all_within_the_bound() {
        let balancer = balancer(&["a", "b", "c", "d"]);
        let home = balancer.get_instance_for("hot").unwrap().id.clone();
        let leases: Vec<Lease> = (0..400).filter_map(|_| balancer.acquire_for("hot")).collect();
        let of = |id: &str| leases.iter().filter(|lease| lease.instance().id == id).count();
        assert_eq!(of(&home), 125);
        assert!(["a", "b", "c", "d"].into_iter().all(|id| of(id) <= 125));
        drop(leases);
        assert_eq!(balancer.get_instance_for("hot").unwrap().id, home, "with room again, it comes home");
    }

    #[test]
    fn connections_of_one_that_fell_ill_or_left_loosen_nobodys_bound() {
        let balancer = balancer(&["a", "b", "c"]);
        let hung: Vec<Lease> = (0..1_000).filter_map(|key| balancer.acquire_for(&key)).collect();
        let (stay, hung): (Vec<_>, Vec<_>) = hung.into_iter().partition(|lease| lease.instance().id == "a");
        drop(stay);
        balancer.mark_healthy("b", false);
        balancer.deregister("c");
        balancer.register(instance("d"));
        let leases: Vec<Lease> = (0..8).filter_map(|_| balancer.acquire_for("hot")).collect();
        let most = |leases: &[Lease]| {
            let of = |id| leases.iter().filter(|lease| lease.instance().id == id).count();
            of("a").max(of("d"))
        };
        assert_eq!(most(&leases), 5, "⌈8 · 5/4 / 2⌉");
        drop(hung);
        drop(leases);
        // Nothing is left behind, by any way of changing the set.
        balancer.mark_healthy("b", true);
        balancer.deregister("b");
        balancer.set_strategy(LoadBalancerStrategy::P2c);
        let across = balancer.acquire().unwrap();
        balancer.set_strategy(LoadBalancerStrategy::ConsistentHash);
        drop(across);
        let leases: Vec<Lease> = (0..8).filter_map(|_| balancer.acquire_for("hot")).collect();
        assert_eq!(most(&leases), 5);
    }

    #[test]
    fn exclusion_leads_along_the_keys_own_order() {
        let balancer = balancer(&["a", "b", "c", "d"]);
        let mut successors: HashMap<String, Vec<String>> = HashMap::new();
        for key in 0..200_u32 {
            let mut order: Vec<String> = Vec::new();
            while order.len() < 4 {
                let exclude: Vec<&str> = order.iter().map(String::as_str).collect();
                let (first, again) =
                    (balancer.acquire_for_except(&key, &exclude), balancer.acquire_for_except(&key, &exclude));
                let id = first.unwrap().instance().id.clone();
                drop(again);
                assert!(!order.contains(&id));
                order.push(id);
            }
            let exclude: Vec<&str> = order.iter().map(String::as_str).collect();
            assert!(balancer.acquire_for_except(&key, &exclude).is_none());
            successors.entry(order[0].clone()).or_default().push(order[1].clone());
        }
        for (home, successors) in successors {
            assert_eq!(counts(&successors).len(), 3, "all others follow {home}");
        }
    }

    #[test]
    fn those_over_the_bound_are_asked_when_nobody_else_admits() {
        let balancer = balancer(&["a", "b"]);
        let leases: Vec<Lease> = (0..20).filter_map(|_| balancer.acquire_except(&["b"])).collect();
        assert_eq!(leases.len(), 20);
        assert!(leases.iter().all(|lease| lease.instance().id == "a"));
    }

    #[test]
    fn a_rising_instance_gets_its_keys_one_by_one_and_keeps_them() {
        let clock = ManualClock::new();
        let balancer = on_clock(&clock, &["a", "b"]);
        clock.advance(Duration::from_secs(100));
        let mut before = homes(&balancer);
        balancer.register(instance("c"));
        for (seconds, ideal) in [(0, 333), (30, 1_833), (30, 3_333)] {
            clock.advance(Duration::from_secs(seconds));
            let after = homes(&balancer);
            assert!(before.iter().zip(&after).all(|(before, after)| before == after || after == "c"));
            assert!(counts(&after)["c"].abs_diff(ideal) < 150, "{} for {ideal}", counts(&after)["c"]);
            before = after;
        }
    }

    #[test]
    fn a_call_of_a_proxy_goes_by_its_key_and_its_retry_to_the_next_in_the_keys_order() {
        let clock = ManualClock::new();
        let balancer = on_clock(&clock, &["a", "b", "c", "d"]);
        let proxy = ServiceProxy::builder("service")
            .load_balancer(balancer.clone())
            .environment(Environment::manual(&clock))
            .retry(RetryConfig::builder().max_retries(2).build().unwrap())
            .without_retry_budget()
            .build();
        for key in 0..20_u32 {
            let mut tried = Vec::new();
            let refuse = |_: &Result<(), &str>| Answer::failure();
            let options = CallOptions::new().key(key).classify(refuse);
            let _ = proxy.call_with(&options, |attempt| {
                tried.push(attempt.instance().id.clone());
                Err::<(), _>("down")
            });
            let second = balancer.acquire_for_except(&key, &[tried[0].as_str()]).unwrap().instance().id.clone();
            let third = balancer.acquire_for_except(&key, &[tried[0].as_str(), tried[1].as_str()]).unwrap();
            assert_eq!(
                tried,
                [balancer.get_instance_for(&key).unwrap().id.clone(), second, third.instance().id.clone()]
            );
            proxy.circuit_breaker().reset();
            clock.advance(Duration::from_secs(60));
            for id in ["a", "b", "c", "d"] {
                proxy.instance_circuit_breaker(id).unwrap().reset();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn nobody_is_given_more_than_the_bound(
            weights in prop::collection::vec(1_u32..9, 1..8),
            keys in prop::collection::vec((0_u32..6, any::<bool>(), any::<prop::sample::Index>()), 1..200),
        ) {
            let balancer = balancer(&[]);
            let instances = weights.iter().enumerate();
            balancer.set_instances(instances.map(|(id, weight)| instance(&id.to_string()).with_weight(*weight)));
            let sum = u64::from(weights.iter().sum::<u32>());
            let mut leases = Vec::new();
            for (key, is_released, which) in keys {
                let lease = balancer.acquire_for(&key).unwrap();
                let id: usize = lease.instance().id.parse().unwrap();
                leases.push(lease);
                let (in_flight, all) = (u64::from(balancer.endpoints()[id].in_flight), leases.len() as u64);
                prop_assert!(in_flight <= (all * 5 * u64::from(weights[id])).div_ceil(4 * sum));
                if is_released {
                    drop(leases.swap_remove(which.index(leases.len())));
                }
            }
        }
    }
}
