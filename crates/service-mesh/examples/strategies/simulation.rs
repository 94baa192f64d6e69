//! Five instances behind a balancer, call by call, in virtual time and with chance that repeats itself.
//!
//! Calls come at random, 2,000 a second for 30 seconds, whatever became of those before. An instance works at as many
//! calls at once as it has workers; the others wait there. Nothing times out and nothing is tried again: what is seen is
//! the strategy alone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::fmt::Write;
use std::ops::Range;
use std::time::Duration;

use service_mesh::testing::ManualClock;
use service_mesh::{Chance, Clock, Environment, Lease, LoadBalancer, LoadBalancerStrategy, Outcome, ServiceInstance};

/// What every instance is like, unless its story says otherwise.
const WORKERS: usize = 8;
/// Nine calls of ten take so long at a worker, the tenth five times as long.
const WORK: Duration = Duration::from_millis(10);
/// In each step of time a call comes or does not.
const STEP: Duration = Duration::from_micros(100);
const CALLS_A_STEP: f64 = 0.2;
const ARRIVALS: Range<u64> = seconds(0..30);
/// When an instance is in trouble.
const TROUBLE: Range<u64> = seconds(10..20);
/// Half of all calls are about one of the hot keys, the others about any.
const HOT_KEYS: u32 = 200;
const KEYS: u32 = 2_000;
/// How many keys an instance keeps, where it keeps any, and what it costs to fetch another.
const KEPT: usize = 600;
const FETCH: Duration = Duration::from_millis(6);

const fn seconds(range: Range<u64>) -> Range<u64> {
    range.start * 1_000_000_000..range.end * 1_000_000_000
}

/// What is the matter with the instances.
#[derive(Clone, Copy, PartialEq)]
enum Story {
    /// Nothing.
    Alike,
    /// `a` has 16 workers and the others 6; their weights are 8 and 3.
    Sizes,
    /// `a` takes ten times as long, for ten seconds.
    Slows,
    /// `a` answers each call with an error after a millisecond, for ten seconds.
    Fails,
    /// Each instance keeps what it has fetched for the last keys.
    Caches,
}

/// The table of the page.
pub(crate) fn table() -> String {
    let mut table = String::from(
        "| strategy | all alike | `a` is larger | `a` slows down | `a` fails at once | caches |\n|---|--:|--:|--:|--:|--:|\n",
    );
    for strategy in LoadBalancerStrategy::ALL {
        let of = |story| Simulation::new(strategy, story).run();
        let (alike, sizes, slows) = (of(Story::Alike), of(Story::Sizes), of(Story::Slows));
        let (fails, caches) = (of(Story::Fails), of(Story::Caches));
        writeln!(
            table,
            "| `{strategy}` | {} | {}, {} | {}, {} | {} failed | {} hit, {} |",
            alike.latency(),
            sizes.percent(|call| call.to_a),
            sizes.latency(),
            slows.percent(|call| call.to_a),
            slows.latency(),
            fails.percent(|call| call.failed),
            caches.percent(|call| call.hit),
            caches.latency(),
        )
        .expect("a string takes everything");
    }
    table
}

struct Simulation {
    story: Story,
    clock: ManualClock,
    chance: Chance,
    balancer: LoadBalancer,
    instances: Vec<Instance>,
    /// What will be finished when, at which instance; the number tells apart what is finished at the same time.
    finished: BinaryHeap<Reverse<(u64, usize, usize)>>,
    /// By number.
    calls: Vec<Call>,
    leases: Vec<Option<Lease>>,
}

struct Instance {
    idle: usize,
    waiting: VecDeque<usize>,
    kept: VecDeque<u32>,
    keeps: HashSet<u32>,
}

struct Call {
    key: u32,
    began: u64,
    took: Duration,
    to_a: bool,
    failed: bool,
    hit: bool,
}

impl Simulation {
    fn new(strategy: LoadBalancerStrategy, story: Story) -> Self {
        let clock = ManualClock::new();
        let balancer = LoadBalancer::builder().strategy(strategy).environment(Environment::manual(&clock)).build();
        let mut instances = Vec::new();
        for id in ["a", "b", "c", "d", "e"] {
            let (workers, weight) = match (story, id) {
                (Story::Sizes, "a") => (16, 8),
                (Story::Sizes, _) => (6, 3),
                _ => (WORKERS, 1),
            };
            balancer.register(ServiceInstance::new(id, "10.0.0.1", 80).with_weight(weight));
            let (waiting, kept) = (VecDeque::new(), VecDeque::new());
            instances.push(Instance { idle: workers, waiting, kept, keeps: HashSet::new() });
        }
        let (chance, finished) = (Chance::seeded(1), BinaryHeap::new());
        Self { story, clock, chance, balancer, instances, finished, calls: Vec::new(), leases: Vec::new() }
    }

    fn run(mut self) -> Figures {
        let step = nanos(STEP);
        let mut arrival = ARRIVALS.start;
        loop {
            match self.finished.peek() {
                Some(&Reverse((at, number, instance))) if at <= arrival || arrival >= ARRIVALS.end => {
                    self.finished.pop();
                    self.advance_to(at);
                    self.finish(number, instance);
                }
                _ if arrival < ARRIVALS.end => {
                    self.advance_to(arrival);
                    if self.chance.ratio() < CALLS_A_STEP {
                        self.begin();
                    }
                    arrival += step;
                }
                _ => break,
            }
        }
        let in_trouble = matches!(self.story, Story::Slows | Story::Fails);
        let looked_at = if in_trouble { TROUBLE } else { ARRIVALS };
        Figures(self.calls.into_iter().filter(|call| looked_at.contains(&call.began)).collect())
    }

    fn begin(&mut self) {
        let key = if self.chance.below(2) == 0 { self.chance.below(HOT_KEYS) } else { self.chance.below(KEYS) };
        let lease = self.balancer.acquire_for(&key).expect("all are healthy");
        let instance = usize::from(lease.instance().id.as_bytes()[0] - b'a');
        let number = self.calls.len();
        let (took, to_a) = (Duration::ZERO, instance == 0);
        self.calls.push(Call { key, began: self.now(), took, to_a, failed: false, hit: false });
        self.leases.push(Some(lease));
        self.instances[instance].waiting.push_back(number);
        self.work(instance);
    }

    /// Idle workers take what waits.
    fn work(&mut self, index: usize) {
        let now = self.now();
        let instance = &mut self.instances[index];
        while instance.idle > 0
            && let Some(number) = instance.waiting.pop_front()
        {
            instance.idle -= 1;
            let call = &mut self.calls[number];
            let mut work = if self.chance.below(10) == 0 { WORK * 5 } else { WORK };
            match self.story {
                Story::Slows if call.to_a && TROUBLE.contains(&now) => work *= 10,
                Story::Fails if call.to_a && TROUBLE.contains(&now) => {
                    (work, call.failed) = (Duration::from_millis(1), true);
                }
                Story::Caches if instance.keeps.contains(&call.key) => call.hit = true,
                Story::Caches => {
                    work += FETCH;
                    instance.keep(call.key);
                }
                _ => {}
            }
            self.finished.push(Reverse((now + nanos(work), number, index)));
        }
    }

    fn finish(&mut self, number: usize, instance: usize) {
        let now = self.now();
        let call = &mut self.calls[number];
        call.took = Duration::from_nanos(now - call.began);
        let outcome = if call.failed { Outcome::Failure } else { Outcome::Success };
        self.leases[number].take().expect("a call is finished once").settle(outcome);
        self.instances[instance].idle += 1;
        self.work(instance);
    }

    fn now(&self) -> u64 {
        self.clock.now().as_nanos()
    }

    fn advance_to(&self, at: u64) {
        self.clock.advance(Duration::from_nanos(at - self.now()));
    }
}

impl Instance {
    /// Keeps a key, for the one that it has kept longest.
    fn keep(&mut self, key: u32) {
        self.keeps.insert(key);
        self.kept.push_back(key);
        if self.kept.len() > KEPT {
            let oldest = self.kept.pop_front().expect("there are too many");
            self.keeps.remove(&oldest);
        }
    }
}

/// What is told of some calls.
struct Figures(Vec<Call>);

impl Figures {
    /// The share of calls that are so, in percent.
    fn percent(&self, is_so: impl Fn(&Call) -> bool) -> String {
        let share = self.0.iter().filter(|call| is_so(call)).count() * 1000 / self.0.len();
        if share < 100 { format!("{}.{} %", share / 10, share % 10) } else { format!("{} %", share / 10) }
    }

    /// Median and 99th percentile, in milliseconds.
    fn latency(&self) -> String {
        let mut all: Vec<_> = self.0.iter().map(|call| call.took.as_millis()).collect();
        all.sort_unstable();
        format!("{} / {} ms", all[all.len() / 2], all[all.len() * 99 / 100])
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a simulation is shorter than centuries")
}
