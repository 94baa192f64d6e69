//! The one with the fewest connections; ties are broken at random.
//!
//! Join-the-shortest-queue (Winston, "Optimality of the shortest line discipline", 1977). An exact scan, so that a slow
//! instance, whose connections pile up, gets fewer; its price is one cache line an endpoint. Ties must be broken at
//! random: whoever takes the first of equals sends every call of an idle service to one instance.

use std::sync::Arc;

use super::asked::{Asked, CAPACITY, below};
use super::endpoint::{Endpoint, Live};
use crate::resilience::chance::Chance;

/// How often chance is asked for one of those who have the least, where they are every other one: it fails once in 256
/// times, or while counts move.
const DRAWS: usize = 8;

#[derive(Debug)]
pub(super) struct LeastConnections {
    /// The counters alone, in the order of the endpoints: the scan goes straight to them.
    live: Box<[Arc<Live>]>,
}

impl LeastConnections {
    pub(super) fn new(endpoints: &[Endpoint]) -> Self {
        Self { live: endpoints.iter().map(|endpoint| Arc::clone(endpoint.live())).collect() }
    }

    /// One of those whose count, as it was read, was the least. Asks chance only where several have it.
    #[inline]
    pub(super) fn pick(&self, chance: &Chance) -> usize {
        let (mut least, mut index, mut ties) = (u64::MAX, 0, 0);
        for (at, live) in self.live.iter().enumerate() {
            let connections = live.connections();
            if connections < least {
                unlikely();
                (least, index, ties) = (connections, at, 0);
            }
            ties += usize::from(connections == least);
        }
        if ties > 1 { self.one_of(ties, least, index, chance) } else { index }
    }

    /// Any of the `ties` endpoints with `least` connections, of which `first` is the first, each with the same chance.
    /// Counts may have moved since they were read: then any of those that still have the least will do.
    fn one_of(&self, ties: usize, least: u64, first: usize, chance: &Chance) -> usize {
        // In an idle set nearly everybody has it, and chance names one at once: nobody is looked at again.
        if ties * 2 >= self.live.len() {
            let mut drawn = (0..DRAWS).map(|_| below(chance, self.live.len()));
            if let Some(index) = drawn.find(|index| self.live[*index].connections() == least) {
                return index;
            }
        }
        let nth = below(chance, ties);
        let these = self.live[first..].iter().enumerate().filter(|(_, live)| live.connections() == least);
        these.take(nth + 1).last().map_or(first, |(behind, _)| first + behind)
    }

    /// The one with the fewest connections of those that admit; each is asked at most once. Where the 64 least loaded
    /// refuse, the rest is asked in order from a random one on.
    pub(super) fn pick_where(&self, chance: &Chance, mut admits: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut asked = Asked::new();
        for candidate in self.least_loaded(chance).candidates() {
            if admits(candidate.index) {
                return Some(candidate.index);
            }
            asked.insert(candidate.index);
        }
        asked.ask_the_rest(self.live.len(), chance, admits)
    }

    /// The least loaded, as many as a pick remembers, ties in random order. One scan.
    fn least_loaded(&self, chance: &Chance) -> LeastLoaded {
        let mut least = LeastLoaded { sorted: [Candidate::default(); CAPACITY], len: 0 };
        for (index, live) in self.live.iter().enumerate() {
            least.offer(Candidate { connections: live.connections(), lot: chance.bits(), index });
        }
        least
    }
}

/// Where this is called the compiler makes a branch. A new least comes ever more seldom in a scan; without a branch each
/// endpoint would wait for the one before, which takes a third longer.
#[cold]
const fn unlikely() {}

/// Compares by connections, then by lot.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    connections: u64,
    lot: u64,
    index: usize,
}

/// The least of those that were offered, in order.
struct LeastLoaded {
    sorted: [Candidate; CAPACITY],
    len: usize,
}

impl LeastLoaded {
    fn candidates(&self) -> &[Candidate] {
        &self.sorted[..self.len]
    }

    fn offer(&mut self, candidate: Candidate) {
        let place = self.candidates().partition_point(|kept| *kept < candidate);
        if place == CAPACITY {
            return;
        }
        // Where there is no room left, the largest is pushed out at the end.
        self.len = (self.len + 1).min(CAPACITY);
        self.sorted[place..self.len].rotate_right(1);
        self.sorted[place] = candidate;
    }
}

#[cfg(test)]
mod tests {
    use super::super::attachment::Attached;
    use super::super::endpoint::EndpointKey;
    use super::super::total::Total;
    use super::*;
    use crate::ServiceInstance;

    fn endpoints(connections: impl IntoIterator<Item = u32>) -> Vec<Endpoint> {
        let endpoint = |(number, connections)| {
            let instance = ServiceInstance::new("", "", 0).with_connections(connections);
            Endpoint::new(EndpointKey::new(number), instance, Attached::default(), &Total::default())
        };
        (0..).zip(connections).map(endpoint).collect()
    }

    #[test]
    fn leased_connections_and_the_instances_own_are_added() {
        let (endpoints, chance) = (endpoints([3, 1, 2]), Chance::seeded(0));
        let least = LeastConnections::new(&endpoints);
        assert_eq!(least.pick(&chance), 1);
        endpoints[1].connect();
        endpoints[1].connect();
        assert_eq!(least.pick(&chance), 2);
        endpoints[1].disconnect();
        endpoints[1].disconnect();
        assert_eq!(least.pick(&chance), 1);
    }

    #[test]
    fn ties_fall_on_each_with_the_same_chance() {
        let chance = Chance::seeded(0);
        let most_are_tied = LeastConnections::new(&endpoints([1, 0, 0, 7, 0]));
        let few_are_tied = LeastConnections::new(&endpoints([1, 0, 0, 7, 0, 1, 1, 1, 1]));
        for least in [most_are_tied, few_are_tied] {
            for pick in [LeastConnections::pick, |least: &LeastConnections, chance: &Chance| {
                least.pick_where(chance, |_| true).unwrap()
            }] {
                let mut picks = [0_u32; 9];
                for _ in 0..9_000 {
                    picks[pick(&least, &chance)] += 1;
                }
                assert_eq!(picks[1] + picks[2] + picks[4], 9_000);
                assert!([1, 2, 4].iter().all(|index| (2_700..3_300).contains(&picks[*index])), "{picks:?}");
            }
        }
    }

    #[test]
    fn those_that_refuse_are_passed_over_in_the_order_of_their_counts() {
        let chance = Chance::seeded(0);
        let least = LeastConnections::new(&endpoints([5, 3, 1, 4, 2]));
        let mut asked = Vec::new();
        let picked = least.pick_where(&chance, |index| {
            asked.push(index);
            false
        });
        assert_eq!((picked, asked), (None, vec![2, 4, 1, 3, 0]));
    }

    #[test]
    fn a_large_set_is_asked_from_the_least_loaded_on_and_each_once() {
        let chance = Chance::seeded(0);
        let least = LeastConnections::new(&endpoints((0..300).rev()));
        let mut asked = Vec::new();
        let picked = least.pick_where(&chance, |index| {
            asked.push(index);
            false
        });
        assert_eq!(picked, None);
        assert!(asked[..CAPACITY].iter().copied().eq((0..300).rev().take(CAPACITY)));
        asked.sort_unstable();
        assert!(asked.into_iter().eq(0..300));
    }
}
