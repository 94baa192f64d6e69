//! Of two that chance names, the better: what P2C and peak EWMA have in common.
//!
//! The first is drawn by weight, and so is the second, who is another one. The first gets the call, unless the second is
//! clearly better off: see [`Contender::yields_to`]. So an idle set is shared by weight exactly, a busy one until
//! everybody's connections are in proportion to the weights, and nobody is run over for having been the best at the last
//! look: all that a caller can be wrong about is two endpoints.

use std::sync::Arc;

use super::asked::{Asked, CAPACITY};
use super::endpoint::{Endpoint, Live};
use super::lots::Lots;
use super::ramp::Ramp;
use crate::environment::Moment;
use crate::resilience::chance::Chance;
use crate::resilience::clock::Timestamp;

/// How often chance is asked for one who was not asked yet and is not spared.
const DRAWS: usize = 64;

/// One who answers so many times as slowly as another is passed over even while he is idle. Less would be the noise of
/// two equals, and the idle share of one would follow it.
const SLOWER: f64 = 2.0;

#[derive(Debug)]
pub(super) struct TwoChoices {
    lots: Lots,
    members: Box<[Member]>,
    ramp: Option<Ramp>,
}

#[derive(Debug)]
struct Member {
    live: Arc<Live>,
    weight: f64,
}

/// One of two.
#[derive(Clone, Copy, Debug)]
struct Contender {
    connections: f64,
    weight: f64,
    /// What a call there costs: its latency, or the same for all.
    cost: f64,
}

impl Contender {
    /// Whether `second` should get the call that was drawn for this one.
    ///
    /// It should where, with the call, it would be no worse off than this one is without it: where its connections and
    /// one more, relative to its weight and times its cost, are at most those of this one. For equal weights and costs
    /// that is "fewer connections". An idle one is no worse off than anybody, however slow; there, the cost alone must
    /// be [`SLOWER`].
    #[inline]
    fn yields_to(self, second: Self) -> bool {
        let here = (self.connections * second.weight).max(self.weight / SLOWER);
        let there = (second.connections + 1.0) * self.weight;
        here * self.cost >= there * second.cost
    }
}

impl TwoChoices {
    pub(super) fn new(endpoints: &[Endpoint], weights: &[u32], ramp: Option<Ramp>) -> Self {
        let member = |(endpoint, weight): (&Endpoint, &u32)| Member {
            live: Arc::clone(endpoint.live()),
            weight: f64::from(*weight),
        };
        Self { lots: Lots::new(weights), members: endpoints.iter().zip(weights).map(member).collect(), ramp }
    }

    /// The better of two by `cost`. Two draws and two cache lines, whatever the number of endpoints.
    #[inline]
    pub(super) fn pick(&self, chance: &Chance, moment: &mut Moment<'_>, cost: impl Fn(&Live) -> f64) -> usize {
        if self.members.len() == 1 {
            return 0;
        }
        if self.ramp.as_ref().is_some_and(Ramp::is_active) {
            return self.pick_where(chance, moment, cost, |_| true).unwrap_or(0);
        }
        let first = self.lots.draw(chance);
        let second = self.lots.draw_other(first, chance);
        if self.contender(first, 1.0, &cost).yields_to(self.contender(second, 1.0, &cost)) { second } else { first }
    }

    /// The better of two, of those that admit; each is asked at most once. After 64 have refused, the rest is asked in
    /// order from a random one on.
    #[cold]
    pub(super) fn pick_where(
        &self,
        chance: &Chance,
        moment: &mut Moment<'_>,
        cost: impl Fn(&Live) -> f64,
        mut admits: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let ramp = self.ramp.as_ref().filter(|ramp| ramp.is_active()).map(|ramp| (ramp, ramp.at(moment.now())));
        let mut asked = Asked::new();
        for _ in 0..CAPACITY {
            let Some(first) = self.draw(chance, ramp, |index| !asked.contains(index)) else { break };
            let second = self.draw(chance, ramp, |index| index != first && !asked.contains(index));
            let contender = |index| {
                let share = ramp.map_or(1.0, |(ramp, now)| ramp.share_of(index, now));
                self.contender(index, share, &cost)
            };
            let better = second.filter(|second| contender(first).yields_to(contender(*second))).unwrap_or(first);
            if admits(better) {
                return Some(better);
            }
            asked.insert(better);
        }
        asked.ask_the_rest(self.members.len(), chance, admits)
    }

    /// One who is wanted, by weight and by how far he has risen; `None` if chance names nobody.
    fn draw(
        &self,
        chance: &Chance,
        ramp: Option<(&Ramp, Timestamp)>,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        (0..DRAWS)
            .map(|_| self.lots.draw(chance))
            .find(|index| is_wanted(*index) && !ramp.is_some_and(|(ramp, now)| ramp.spares(*index, now, chance)))
    }

    /// `share` is how much of its weight counts.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "connections are fewer than 2³³")]
    fn contender(&self, index: usize, share: f64, cost: impl Fn(&Live) -> f64) -> Contender {
        let Member { live, weight } = &self.members[index];
        Contender { connections: live.connections() as f64, weight: weight * share, cost: cost(live) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(connections: f64, weight: f64, cost: f64) -> Contender {
        Contender { connections, weight, cost }
    }

    #[test]
    fn equals_yield_to_whoever_has_fewer_connections() {
        for (first, second, yields) in [(0.0, 0.0, false), (1.0, 1.0, false), (1.0, 0.0, true), (0.0, 1.0, false)] {
            assert_eq!(contender(first, 3.0, 7.0).yields_to(contender(second, 3.0, 7.0)), yields);
        }
    }

    #[test]
    fn a_heavy_one_yields_when_the_light_one_would_be_no_worse_off() {
        let heavy = |connections| contender(connections, 5.0, 1.0);
        let light = |connections| contender(connections, 1.0, 1.0);
        assert!(!heavy(4.0).yields_to(light(0.0)) && heavy(5.0).yields_to(light(0.0)));
        assert!(!heavy(9.0).yields_to(light(1.0)) && heavy(10.0).yields_to(light(1.0)));
        assert!(!light(0.0).yields_to(heavy(0.0)), "idle, each keeps what was drawn for it");
        assert!(light(1.0).yields_to(heavy(4.0)) && !light(1.0).yields_to(heavy(5.0)));
    }

    #[test]
    fn an_idle_one_yields_when_it_is_twice_as_slow() {
        for weights in [(1.0, 1.0), (5.0, 1.0), (1.0, 5.0)] {
            let first = |cost| contender(0.0, weights.0, cost);
            let second = |connections| contender(connections, weights.1, 1.0);
            assert!(!first(1.9).yields_to(second(0.0)) && first(2.0).yields_to(second(0.0)));
            assert!(!first(3.9).yields_to(second(1.0)) && first(4.0).yields_to(second(1.0)));
        }
    }
}
