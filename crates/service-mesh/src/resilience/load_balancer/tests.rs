//! What the balancer promises as a whole: order over changes, shares, counts, threads. The strategies' own laws stand
//! beside them.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::AtomicU32;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::resilience::chance::Chance;
use crate::resilience::clock::Clock;
use crate::resilience::outcome::Outcome;
use crate::testing::ManualClock;

const THREADS: usize = 8;

fn instance(id: &str) -> ServiceInstance {
    ServiceInstance::new(id, format!("host-{id}"), 80)
}

fn balancer(strategy: LoadBalancerStrategy, ids: &[&str]) -> LoadBalancer {
    let environment = Environment::system().with_chance(Chance::seeded(0));
    let balancer = LoadBalancer::builder().strategy(strategy).environment(environment).build();
    balancer.set_instances(ids.iter().map(|id| instance(id)));
    balancer
}

fn weighted(weights: &[(&str, u32)]) -> LoadBalancer {
    let balancer = balancer(LoadBalancerStrategy::Weighted, &[]);
    balancer.set_instances(weights.iter().map(|(id, weight)| instance(id).with_weight(*weight)));
    balancer
}

fn next(balancer: &LoadBalancer) -> Option<String> {
    balancer.get_instance().map(|instance| instance.id.clone())
}

/// The ids of the next picks, one behind the other.
fn picks(balancer: &LoadBalancer, count: usize) -> String {
    (0..count).filter_map(|_| next(balancer)).collect::<Vec<_>>().join(" ")
}

fn counts(picked: impl IntoIterator<Item = String>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    picked.into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
    counts
}

fn in_flight(balancer: &LoadBalancer) -> Vec<u32> {
    balancer.endpoints().iter().map(|endpoint| endpoint.in_flight).collect()
}

/// Tells on its way out how many instances its balancer has, which takes the lock of changes.
struct Nosy(LoadBalancer, Arc<AtomicU32>);

impl Drop for Nosy {
    fn drop(&mut self) {
        let registered = u32::try_from(self.0.endpoints().len()).unwrap();
        self.1.store(registered + 1, Ordering::Relaxed);
    }
}

#[test]
fn what_is_attached_comes_back_with_every_pick_and_goes_with_its_registration() {
    let balancer = balancer(LoadBalancerStrategy::RoundRobin, &[]);
    balancer.register_with(instance("a"), Arc::new("client of a"));
    balancer.register(instance("b"));
    let picked = balancer.pick().unwrap();
    assert_eq!((picked.attachment(), picked.attachment::<u32>()), (Some(&"client of a"), None));
    assert_eq!(balancer.pick().unwrap().attachment::<&str>(), None);
    let lease = balancer.acquire().unwrap();
    assert_eq!(lease.attachment(), Some(&"client of a"));

    // A list that changes nothing, or the weight only, leaves it where it is; another address does not.
    balancer.set_instances([instance("a"), instance("b")]);
    balancer.set_instances([instance("a").with_weight(2), instance("b")]);
    let attached = || balancer.registration("a").unwrap().attachment::<&str>().copied();
    assert_eq!(attached(), Some("client of a"));
    balancer.set_instances([ServiceInstance::new("a", "elsewhere", 80)]);
    assert_eq!(attached(), None);

    // Registered anew, even word for word, it has what it is given then.
    balancer.register_with(ServiceInstance::new("a", "elsewhere", 80), Arc::new("another"));
    assert_eq!(attached(), Some("another"));
    balancer.register(ServiceInstance::new("a", "elsewhere", 80));
    assert_eq!(attached(), None);
    balancer.registration("a").unwrap().attach(Arc::new("late"));
    balancer.registration("a").unwrap().attach(Arc::new("later"));
    assert_eq!((attached(), lease.attachment()), (Some("late"), Some(&"client of a")));
}

#[test]
fn what_is_attached_is_dropped_with_no_lock_held() {
    type Change = fn(&LoadBalancer);
    let changes: [Change; 4] = [
        |balancer| drop(balancer.deregister("a")),
        |balancer| drop(balancer.register(instance("a"))),
        |balancer| balancer.set_instances([]),
        |balancer| drop(balancer.register(ServiceInstance::new("a", "elsewhere", 80))),
    ];
    for change in changes {
        for healthy in [true, false] {
            let balancer = balancer(LoadBalancerStrategy::RoundRobin, &[]);
            let seen = Arc::new(AtomicU32::new(0));
            let nosy = Nosy(balancer.clone(), Arc::clone(&seen));
            balancer.register_with(instance("a").with_healthy(healthy), Arc::new(nosy));
            change(&balancer);
            // It would wait for ever for a lock that is held.
            assert_ne!(seen.load(Ordering::Relaxed), 0);
        }
    }
}

#[test]
fn connections_that_somebody_else_counts_are_set_without_a_new_snapshot() {
    let balancer = balancer(LoadBalancerStrategy::LeastConnections, &["a", "b"]);
    let version = balancer.version();
    assert!(balancer.set_connections("a", 2) && !balancer.set_connections("c", 1));
    assert_eq!(picks(&balancer, 3), "b b b");
    let registration = balancer.registration("b").unwrap();
    registration.set_connections(3);
    assert_eq!((picks(&balancer, 3), registration.connections()), ("a a a".to_owned(), 3));
    assert_eq!(balancer.version(), version);
}

#[test]
fn a_connection_counts_for_as_long_as_it_lasts_whatever_was_registered_since() {
    let balancer = balancer(LoadBalancerStrategy::LeastConnections, &["a", "b"]);
    let lease = balancer.acquire().unwrap();
    let (busy, idle) = if lease.instance().id == "a" { ("a", "b") } else { ("b", "a") };
    let registration = lease.registration();
    let connection = registration.connect();
    assert_eq!(registration.in_flight(), 2);
    lease.settle(Outcome::Success);
    assert_eq!((registration.in_flight(), picks(&balancer, 3)), (1, format!("{idle} {idle} {idle}")));
    balancer.register(instance(busy));
    assert_eq!(balancer.registration(busy).unwrap().in_flight(), 1);
    balancer.deregister(busy);
    drop(connection);
    assert_eq!(registration.in_flight(), 0);
}

#[test]
fn a_weak_registration_keeps_nothing_alive() {
    let balancer = balancer(LoadBalancerStrategy::RoundRobin, &["a"]);
    let weak = balancer.registration("a").unwrap().downgrade();
    assert_eq!(weak.upgrade().unwrap().instance().id, "a");
    let lease = balancer.acquire_where(|instance| instance.id == "a").unwrap();
    assert!(balancer.acquire_where(|_| false).is_none());
    balancer.deregister("a");
    assert_eq!(weak.upgrade().unwrap().in_flight(), 1);
    drop(lease);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_pick_by_key_goes_round_those_that_are_excluded() {
    let balancer = balancer(LoadBalancerStrategy::ConsistentHash, &["a", "b", "c"]);
    let first = balancer.pick_for("key").unwrap();
    let second = balancer.pick_for_except("key", &[&first.id]).unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(balancer.pick_except(&[&first.id, &second.id]).unwrap().registration().in_flight(), 0);
    assert!(balancer.pick_for_except("key", &["a", "b", "c"]).is_none());
}

#[test]
fn every_strategy_has_a_plan_and_none_left_is_none() {
    for strategy in LoadBalancerStrategy::ALL {
        let balancer = balancer(strategy, &[]);
        assert_eq!(balancer.strategy(), strategy);
        assert!(balancer.get_instance().is_none() && balancer.acquire().is_none() && balancer.pick().is_none());
        balancer.register(instance("a"));
        assert_eq!(picks(&balancer, 2), "a a");
        balancer.mark_healthy("a", false);
        assert!(balancer.get_instance().is_none() && balancer.get_instance_except(&[]).is_none());
    }
}

#[test]
fn an_unhealthy_or_weightless_instance_is_never_picked() {
    for strategy in LoadBalancerStrategy::ALL {
        let balancer = balancer(strategy, &["a", "b", "c", "d"]);
        balancer.mark_healthy("b", false);
        balancer.set_weight("c", 0);
        balancer.register(instance("e").with_healthy(false));
        balancer.register(instance("f").with_weight(0));
        for _ in 0..100 {
            assert!(["a", "d"].contains(&balancer.get_instance().unwrap().id.as_str()));
            assert!(["a", "d"].contains(&balancer.acquire_except(&[]).unwrap().instance().id.as_str()));
        }
    }
}

#[test]
fn exclude_is_strict_in_every_strategy() {
    for strategy in LoadBalancerStrategy::ALL {
        let balancer = balancer(strategy, &["a", "b", "c"]);
        for _ in 0..20 {
            assert_ne!(balancer.get_instance_except(&["b"]).unwrap().id, "b");
            assert_eq!(balancer.get_instance_except(&["a", "c"]).unwrap().id, "b");
            assert_eq!(balancer.acquire_except(&["b", "a", "unknown"]).unwrap().instance().id, "c");
            assert!(balancer.acquire_except(&["c", "b", "a"]).is_none());
        }
    }
}

#[test]
fn round_robin_begins_with_the_first_and_goes_on_without_the_one_that_left() {
    for leaving in [
        |balancer: &LoadBalancer| drop(balancer.deregister("b")),
        |balancer: &LoadBalancer| {
            balancer.mark_healthy("b", false);
        },
    ] {
        let balancer = balancer(LoadBalancerStrategy::RoundRobin, &["a", "b", "c"]);
        assert_eq!(picks(&balancer, 5), "a b c a b");
        leaving(&balancer);
        assert_eq!(picks(&balancer, 4), "c a c a");
    }
    let balancer = balancer(LoadBalancerStrategy::RoundRobin, &["a", "b", "c"]);
    assert_eq!(picks(&balancer, 2), "a b");
    balancer.deregister("a");
    assert_eq!(picks(&balancer, 3), "c b c");
}

#[test]
fn one_that_returns_takes_its_old_turn_and_a_new_one_the_last() {
    let balancer = balancer(LoadBalancerStrategy::RoundRobin, &["a", "b", "c"]);
    balancer.mark_healthy("b", false);
    assert_eq!(picks(&balancer, 1), "a");
    balancer.mark_healthy("b", true);
    assert_eq!(picks(&balancer, 2), "b c");
    balancer.register(instance("d"));
    assert_eq!(picks(&balancer, 5), "d a b c d");
}

#[test]
fn a_turn_is_remembered_over_a_time_without_anybody() {
    let balancer = balancer(LoadBalancerStrategy::RoundRobin, &["a", "b", "c"]);
    assert_eq!(picks(&balancer, 1), "a");
    for healthy in [false, true] {
        for id in ["a", "b", "c"] {
            balancer.mark_healthy(id, healthy);
        }
    }
    assert_eq!(picks(&balancer, 3), "b c a");
}

#[test]
fn the_same_id_at_the_same_address_keeps_its_connections_and_its_key() {
    let balancer = balancer(LoadBalancerStrategy::LeastConnections, &["a"]);
    let key = || balancer.endpoint_set().endpoints()[0].key();
    let lease = balancer.acquire().unwrap();
    let first = key();
    let replaced = balancer.register(instance("a").with_weight(2).with_metadata("zone", "b")).unwrap();
    assert_eq!((replaced.weight, in_flight(&balancer), key()), (1, vec![1], first));
    balancer.register(ServiceInstance::new("a", "elsewhere", 80));
    assert_eq!(in_flight(&balancer), [0]);
    assert_ne!(key(), first);
    drop(lease);
    assert_eq!(in_flight(&balancer), [0]);
}

#[test]
fn unknown_ids_are_no_error_and_the_answer_tells() {
    let balancer = balancer(LoadBalancerStrategy::RoundRobin, &["a"]);
    assert!(balancer.deregister("b").is_none() && !balancer.mark_healthy("b", true) && !balancer.set_weight("b", 1));
    assert!(balancer.mark_healthy("a", true) && balancer.set_weight("a", 1));
    assert!(balancer.register(instance("b")).is_none());
    assert_eq!(balancer.deregister("a").unwrap().id, "a");
    assert!(balancer.deregister("a").is_none());
}

#[test]
fn what_changes_nothing_makes_no_new_set() {
    let balancer = balancer(LoadBalancerStrategy::RoundRobin, &["a", "b"]);
    let version = balancer.version();
    balancer.mark_healthy("a", true);
    balancer.set_weight("a", 1);
    balancer.set_strategy(LoadBalancerStrategy::RoundRobin);
    balancer.set_instances([instance("b"), instance("a")]);
    assert!(balancer.register(instance("a")).is_some());
    assert_eq!(balancer.version(), version);
    balancer.mark_healthy("a", false);
    assert_ne!(balancer.version(), version);
    assert_eq!(balancer.endpoint_set().version(), balancer.version());
}

#[test]
fn a_new_list_keeps_places_marks_and_counts_of_those_who_stay() {
    let balancer = balancer(LoadBalancerStrategy::RoundRobin, &["a", "b", "c", "d"]);
    let lease = balancer.acquire().unwrap();
    balancer.mark_healthy("b", false);
    balancer.set_instances([instance("e"), instance("d"), instance("b"), instance("a")]);
    let told: Vec<_> = balancer.endpoints().into_iter().map(|e| (e.instance.id.clone(), e.healthy)).collect();
    let expected = [("a", true), ("b", false), ("d", true), ("e", true)];
    assert!(told.iter().map(|(id, healthy)| (id.as_str(), *healthy)).eq(expected), "{told:?}");
    assert_eq!(in_flight(&balancer), [1, 0, 0, 0]);
    assert_eq!(picks(&balancer, 3), "d e a");
    // News of its health, or another address, end a mark.
    balancer.set_instances([instance("a").with_healthy(false), ServiceInstance::new("b", "elsewhere", 80)]);
    assert_eq!(picks(&balancer, 2), "b b");
    balancer.set_instances([instance("a")]);
    assert_eq!(picks(&balancer, 2), "a a");
    drop(lease);
    assert_eq!(in_flight(&balancer), [0]);
}

#[test]
fn a_new_list_drains_nobody_anew_and_brings_nobody_drained_back_without_news() {
    let balancer = balancer(LoadBalancerStrategy::RoundRobin, &["a", "b"]);
    balancer.set_weight("a", 0);
    balancer.set_instances([instance("a"), instance("b"), instance("c")]);
    assert_eq!(picks(&balancer, 4), "b c b c");
    balancer.set_instances([instance("a").with_weight(2), instance("b"), instance("c")]);
    assert_eq!(picks(&balancer, 3), "a b c");
    balancer.set_weight("a", 0);
    balancer.set_instances([ServiceInstance::new("a", "elsewhere", 80).with_weight(2)]);
    assert_eq!(picks(&balancer, 2), "a a");
}

#[test]
fn a_slow_start_that_is_switched_on_spares_those_who_come_after_it() {
    const PICKS: usize = 10_000;
    let clock = ManualClock::new();
    let environment = Environment::manual(&clock);
    let balancer = LoadBalancer::builder().strategy(LoadBalancerStrategy::Weighted).environment(environment).build();
    let count = |id: &str| counts((0..PICKS).filter_map(|_| next(&balancer))).get(id).copied().unwrap_or(0);
    balancer.set_instances(["a", "b"].map(instance));
    clock.advance(Duration::from_secs(1));
    balancer.set_slow_start(Duration::from_secs(60));
    assert_eq!((balancer.slow_start(), count("a")), (Duration::from_secs(60), PICKS / 2));
    balancer.register(instance("c"));
    // A tenth of 1 beside 1 + 1.
    assert!((350..600).contains(&count("c")));
    balancer.set_slow_start(Duration::ZERO);
    assert!((PICKS / 3..=PICKS / 3 + 1).contains(&count("c")));
    let version = balancer.version();
    balancer.set_slow_start(Duration::ZERO);
    assert_eq!(balancer.version(), version);
}

#[test]
fn the_last_of_several_with_one_id_counts() {
    let balancer = balancer(LoadBalancerStrategy::RoundRobin, &[]);
    balancer.set_instances([instance("a"), instance("b"), instance("a").with_weight(0)]);
    assert_eq!(picks(&balancer, 2), "b b");
}

#[test]
fn another_strategy_begins_at_its_beginning_and_keeps_the_counts() {
    let balancer = weighted(&[("a", 5), ("b", 1), ("c", 1)]);
    assert_eq!(picks(&balancer, 8), "a a b a c a a a");
    let lease = balancer.acquire().unwrap();
    balancer.set_strategy(LoadBalancerStrategy::LeastConnections);
    assert!((0..20).all(|_| balancer.get_instance().unwrap().id != lease.instance().id));
    balancer.set_strategy(LoadBalancerStrategy::Weighted);
    assert_eq!(picks(&balancer, 7), "a a b a c a a");
}

#[test]
fn a_set_that_changes_after_each_pick_starves_nobody() {
    let balancer = weighted(&[("a", 5), ("b", 1), ("c", 1), ("flapping", 1)]);
    let mut healthy = true;
    let picked = (0..4_000).map(|_| {
        healthy = !healthy;
        balancer.mark_healthy("flapping", healthy);
        next(&balancer).unwrap()
    });
    let counts = counts(picked);
    assert!((400..650).contains(&counts["b"]) && (400..650).contains(&counts["c"]), "{counts:?}");
}

#[test]
fn weights_hold_among_those_that_are_not_excluded() {
    let balancer = weighted(&[("a", 5), ("b", 2), ("c", 1), ("d", 1)]);
    let picked = (0..400).map(|_| balancer.get_instance_except(&["a"]).unwrap().id.clone());
    assert_eq!(counts(picked), HashMap::from([("b".into(), 200), ("c".into(), 100), ("d".into(), 100)]));
}

#[test]
fn a_light_instance_is_found_behind_a_very_heavy_one_that_is_excluded() {
    let balancer = weighted(&[("a", 60_000), ("b", 1)]);
    assert!((0..10).all(|_| balancer.get_instance_except(&["a"]).unwrap().id == "b"));
}

#[test]
fn a_lease_is_given_back_on_drop_and_on_panic_and_after_the_balancer() {
    let balancer = balancer(LoadBalancerStrategy::LeastConnections, &["a", "b"]);
    let leases: Vec<_> = (0..6).filter_map(|_| balancer.acquire()).collect();
    assert_eq!(in_flight(&balancer), [3, 3]);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _lease = balancer.acquire().unwrap();
        std::panic::resume_unwind(Box::new("the call fails"));
    }));
    assert!(panicked.is_err());
    assert_eq!(in_flight(&balancer), [3, 3]);
    balancer.deregister("a");
    assert_eq!(in_flight(&balancer), [3]);
    let handle = balancer.clone();
    drop(balancer);
    drop(leases);
    assert_eq!(in_flight(&handle), [0]);
}

#[test]
fn a_new_instance_rises_to_its_share_and_a_first_set_is_not_spared() {
    const PICKS: usize = 10_000;
    let clock = ManualClock::new();
    let balancer = LoadBalancer::builder()
        .strategy(LoadBalancerStrategy::Weighted)
        .slow_start(Duration::from_secs(60))
        .environment(Environment::manual(&clock))
        .build();
    let count = |id: &str| counts((0..PICKS).filter_map(|_| next(&balancer))).get(id).copied().unwrap_or(0);
    balancer.set_instances(["a", "b"].map(|id| instance(id).with_weight(2)));
    assert_eq!(count("a"), PICKS / 2);
    clock.advance(Duration::from_secs(120));
    balancer.register(instance("c").with_weight(4));
    // A tenth of 4 beside 2 + 2; half-way 2.2; in the end 4.
    assert!((750..1_100).contains(&count("c")));
    clock.advance(Duration::from_secs(30));
    assert!((3_300..3_800).contains(&count("c")));
    clock.advance(Duration::from_secs(30));
    assert_eq!(count("c"), PICKS / 2);
    balancer.mark_healthy("b", false);
    balancer.mark_healthy("b", true);
    assert!((200..500).contains(&count("b")), "one that recovered rises too");
    balancer.deregister("a");
    balancer.deregister("c");
    assert_eq!(picks(&balancer, 3), "b b b");
}

#[test]
fn nobody_reads_the_clock_where_nobody_rises() {
    #[derive(Clone, Debug, Default)]
    struct Counting(Arc<AtomicU32>);
    impl Clock for Counting {
        fn now(&self) -> Timestamp {
            self.0.fetch_add(1, Ordering::Relaxed);
            Timestamp::ORIGIN
        }
    }
    let build = |slow_start| {
        let clock = Counting::default();
        let environment = Environment::system().with_clock(clock.clone());
        let balancer = LoadBalancer::builder().slow_start(slow_start).environment(environment);
        (balancer.strategy(LoadBalancerStrategy::Weighted).build(), clock)
    };
    for (slow_start, reads) in [(Duration::ZERO, 0), (Duration::from_secs(1), 1)] {
        let (balancer, clock) = build(slow_start);
        balancer.set_instances([instance("a"), instance("b")]);
        picks(&balancer, 10);
        balancer.get_instance_except(&["a"]);
        assert_eq!(clock.0.load(Ordering::Relaxed), reads, "one for the change, none for picks");
    }
}

/// Picks on many threads at once, each so many times.
fn on_threads(balancer: &LoadBalancer, each: usize) -> HashMap<String, usize> {
    let barrier = Barrier::new(THREADS);
    let picked = thread::scope(|scope| {
        let pick = || {
            barrier.wait();
            (0..each).filter_map(|_| next(balancer)).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(pick)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    counts(picked)
}

#[test]
fn threads_share_evenly_to_within_one() {
    let counts = on_threads(&balancer(LoadBalancerStrategy::RoundRobin, &["a", "b", "c"]), 10_000);
    let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
    assert!(most - least <= 1, "{counts:?}");
    let counts = on_threads(&weighted(&[("a", 5), ("b", 2), ("c", 1)]), 10_000);
    assert_eq!(counts, HashMap::from([("a".into(), 50_000), ("b".into(), 20_000), ("c".into(), 10_000)]));
}

#[test]
fn nobody_starves_when_every_thread_picks_once() {
    let counts = on_threads(&balancer(LoadBalancerStrategy::RoundRobin, &["1", "2", "3", "4", "5", "6", "7", "8"]), 1);
    assert!(counts.len() == THREADS && counts.values().all(|count| *count == 1), "{counts:?}");
}

#[test]
fn racing_picks_pass_the_least_count_by_less_than_their_number() {
    let balancer = balancer(LoadBalancerStrategy::LeastConnections, &["a", "b", "c", "d"]);
    let barrier = Barrier::new(THREADS);
    let leases: Vec<Lease> = thread::scope(|scope| {
        let lease = || {
            barrier.wait();
            (0..500).filter_map(|_| balancer.acquire()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(lease)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let counts = in_flight(&balancer);
    assert_eq!(counts.iter().sum::<u32>() as usize, leases.len());
    let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
    assert!(spread as usize <= THREADS, "{counts:?}");
}

#[test]
fn a_pick_that_begins_after_a_change_has_returned_sees_it() {
    for strategy in LoadBalancerStrategy::ALL {
        // A change takes a table of consistent hashing milliseconds, without optimisation twenty.
        let changes = if strategy == LoadBalancerStrategy::ConsistentHash { 20 } else { 500 };
        let balancer = balancer(strategy, &["0"]);
        // The least id that may still be picked.
        let floor = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS - 1 {
                scope.spawn(|| {
                    loop {
                        let least = floor.load(Ordering::Acquire);
                        let picked = balancer.acquire().expect("one is always registered");
                        let number: u32 = picked.instance().id.parse().unwrap();
                        assert!(number >= least, "{number} was taken out before {least} was told");
                        if least == changes {
                            break;
                        }
                    }
                });
            }
            for number in 1..=changes {
                balancer.register(instance(&number.to_string()));
                balancer.deregister(&(number - 1).to_string());
                floor.store(number, Ordering::Release);
            }
        });
        assert_eq!(in_flight(&balancer), [0], "every lease was given back");
    }
}

/// What round robin should do, said plainly: nobody ever leaves the list, some are only no longer there.
#[derive(Default)]
struct Model {
    list: Vec<Member>,
    last: Option<usize>,
}

struct Member {
    id: u8,
    is_there: bool,
    healthy: bool,
    weight: u32,
}

impl Model {
    fn find(&mut self, id: u8) -> Option<&mut Member> {
        self.list.iter_mut().find(|member| member.is_there && member.id == id)
    }

    fn register(&mut self, id: u8) {
        match self.find(id) {
            Some(member) => (member.healthy, member.weight) = (true, 1),
            None => self.list.push(Member { id, is_there: true, healthy: true, weight: 1 }),
        }
    }

    /// The first that can be picked behind the last.
    fn pick(&mut self) -> Option<u8> {
        let from = self.last.map_or(0, |last| last + 1);
        let picked = (from..self.list.len()).chain(0..from).find(|at| {
            let member = &self.list[*at];
            member.is_there && member.healthy && member.weight > 0
        })?;
        self.last = Some(picked);
        Some(self.list[picked].id)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Register(u8),
    Deregister(u8),
    Health(u8, bool),
    Weight(u8, u32),
    List(Vec<u8>),
    Pick(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..6_u8;
    prop_oneof![
        id.clone().prop_map(Step::Register),
        id.clone().prop_map(Step::Deregister),
        (id.clone(), any::<bool>()).prop_map(|(id, healthy)| Step::Health(id, healthy)),
        (id.clone(), 0..2_u32).prop_map(|(id, weight)| Step::Weight(id, weight)),
        prop::collection::vec(id, 0..6).prop_map(Step::List),
        (1..9_usize).prop_map(Step::Pick),
        (1..9_usize).prop_map(Step::Pick),
    ]
}

proptest! {
    #[test]
    fn no_change_makes_round_robin_repeat_or_pass_over_anybody(
        steps in prop::collection::vec(step(), 1..60),
        strategy in prop::sample::select(vec![LoadBalancerStrategy::RoundRobin, LoadBalancerStrategy::Weighted]),
    ) {
        let (balancer, mut model) = (balancer(strategy, &[]), Model::default());
        for step in steps {
            match step {
                Step::Register(id) => {
                    let known = balancer.register(instance(&id.to_string())).is_some();
                    prop_assert_eq!(known, model.find(id).is_some());
                    model.register(id);
                }
                Step::Deregister(id) => {
                    let known = balancer.deregister(&id.to_string()).is_some();
                    prop_assert_eq!(known, model.find(id).map(|member| member.is_there = false).is_some());
                }
                Step::Health(id, healthy) => {
                    let known = balancer.mark_healthy(&id.to_string(), healthy);
                    prop_assert_eq!(known, model.find(id).map(|member| member.healthy = healthy).is_some());
                }
                Step::Weight(id, weight) => {
                    let known = balancer.set_weight(&id.to_string(), weight);
                    prop_assert_eq!(known, model.find(id).map(|member| member.weight = weight).is_some());
                }
                Step::List(ids) => {
                    balancer.set_instances(ids.iter().map(|id| instance(&id.to_string())));
                    model.list.iter_mut().for_each(|member| member.is_there &= ids.contains(&member.id));
                    for id in ids {
                        // The list has no news of those who are there.
                        if model.find(id).is_none() {
                            model.register(id);
                        }
                    }
                }
                Step::Pick(count) => {
                    for _ in 0..count {
                        prop_assert_eq!(next(&balancer), model.pick().map(|id| id.to_string()));
                    }
                }
            }
        }
    }

    #[test]
    fn any_stretch_as_long_as_a_cycle_gives_each_its_weight(
        weights in prop::collection::vec(1_u32..30, 1..8),
        skipped in 0..100_usize,
    ) {
        let ids: Vec<String> = (0..weights.len()).map(|number| number.to_string()).collect();
        let pairs: Vec<(&str, u32)> = ids.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        let balancer = weighted(&pairs);
        picks(&balancer, skipped);
        let sum: u32 = weights.iter().sum();
        let counts = counts((0..sum).filter_map(|_| next(&balancer)));
        for (id, weight) in pairs {
            prop_assert_eq!(counts[id], weight as usize);
        }
    }

    #[test]
    fn least_connections_picks_one_of_the_least(
        outside in prop::collection::vec(0_u32..4, 1..6),
        drops in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
    ) {
        let balancer = balancer(LoadBalancerStrategy::LeastConnections, &[]);
        let numbered = outside.iter().enumerate();
        balancer.set_instances(numbered.map(|(number, own)| instance(&number.to_string()).with_connections(*own)));
        let (mut counts, mut leases) = (outside, Vec::new());
        for drop in drops {
            for _ in 0..2 {
                let lease = balancer.acquire().unwrap();
                let picked: usize = lease.instance().id.parse().unwrap();
                prop_assert_eq!(counts[picked], *counts.iter().min().unwrap());
                counts[picked] += 1;
                leases.push(lease);
            }
            let ended = leases.swap_remove(drop.index(leases.len()));
            counts[ended.instance().id.parse::<usize>().unwrap()] -= 1;
        }
        leases.clear();
        prop_assert!(in_flight(&balancer).iter().all(|count| *count == 0));
    }

    #[test]
    fn each_endpoint_is_asked_at_most_once_and_nobody_after_one_admitted(
        strategy in prop::sample::select(LoadBalancerStrategy::ALL.to_vec()),
        weights in prop::collection::vec(1_u32..9, 1..200),
        admitted in 0..400_usize,
    ) {
        let balancer = balancer(strategy, &[]);
        let numbered = weights.iter().enumerate();
        balancer.set_instances(numbered.map(|(number, weight)| instance(&number.to_string()).with_weight(*weight)));
        let set = balancer.endpoint_set();
        for _ in 0..3 {
            let mut asked = vec![false; weights.len()];
            let mut has_admitted = false;
            let picked = set.pick_where(None, |index, _| {
                assert!(!has_admitted && !std::mem::replace(&mut asked[index], true));
                has_admitted = index == admitted;
                has_admitted
            });
            let picked = picked.map(Pick::index);
            prop_assert_eq!(picked, (admitted < weights.len()).then_some(admitted));
            prop_assert!(picked.is_some() || asked.iter().all(|asked| *asked));
        }
    }
}
