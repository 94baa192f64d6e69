//! A circuit breaker: stops calling what keeps failing, and finds out carefully when it works again.
//!
//! ```text
//!            a rule is reached                    timeout passed, and somebody asks
//!  ┌────────┐ ───────────────▶ ┌──────┐ ─────────────────────────────────▶ ┌──────────┐
//!  │ Closed │                  │ Open │                                    │ HalfOpen │
//!  └────────┘                  └──────┘ ◀───────────────────────────────── └──────────┘
//!       ▲                                          a probe failed               │
//!       └───────────────────────────────────────────────────────────────────────┘
//!                              success_threshold probes succeeded
//! ```
//!
//! The idea is Michael Nygard's ("Release It!", 2007). What makes this one hard to wedge:
//!
//! - A permit is a guard. A probe that is cancelled, panics or is forgotten gives its place back.
//! - Probes are counted while they are *in flight*, so that `success_threshold` may be larger than their number; and
//!   those that never come back are written off when somebody asks, without a background task.
//! - Every change of state starts a new generation (gobreaker's idea), and an answer to an older one is not counted.
//! - Time is monotonic and asked for only where it matters: never on a success in Closed under the consecutive rule.
//!
//! What it costs stands at [`CircuitBreaker`], where users read it.
//!
//! # Invariants
//! - At most `half_open_max_calls` probes of one generation are in flight.
//! - One generation of Closed trips at most once, however many failures race.
//! - Whatever is decided under the lock is published by one store or compare-and-swap of the packed word (`state.rs`);
//!   failures and successes in Closed change its count without the lock.

mod admission;
mod assign;
mod builder;
mod control;
mod ejection;
mod permit;
mod snapshot;
mod state;
mod table;
mod trip;
mod verdict;
mod window;

#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use service_mesh_models::{
    CircuitBreakerConfig, CircuitOpenError, CircuitState, Transition, TransitionReason, TripReason,
};

use super::clock::Timestamp;
use super::event::{Announcer, EventKind, Listener};
use super::outcome::Outcome;
use super::sync::{AtomicU64, Mutex, Ordering};
use crate::environment::{Environment, Moment};
pub use builder::CircuitBreakerBuilder;
use control::Control;
pub(crate) use ejection::EjectionCap;
pub(crate) use permit::Ticket;
pub use permit::{Grant, OwnedPermit, Permit, Refusal};
pub use snapshot::CircuitSnapshot;
use state::{Phase, Word};
use table::Input;
use window::Windows;

/// Protects calls to one thing that may fail. Clones are handles of the same circuit.
///
/// ```
/// use service_mesh::{CallErrorKind, CircuitBreaker};
///
/// let breaker = CircuitBreaker::new("payments");
/// let paid: Result<&str, _> = breaker.execute(|| Ok::<_, std::io::Error>("paid"));
/// assert_eq!(paid.unwrap(), "paid");
///
/// breaker.force_open();
/// let refused = breaker.execute(|| Ok::<_, std::io::Error>("never run")).unwrap_err();
/// assert_eq!(refused.to_string(), "circuit payments is open");
/// assert!(matches!(refused.kind(), CallErrorKind::CircuitOpen(_)));
/// ```
///
/// # What is promised
/// - At most `half_open_max_calls` probes are in flight, and a probe that is cancelled, panics or is forgotten gives its
///   place back. Those that hang are written off when somebody asks; there is no background task.
/// - A period in Closed ends in at most one trip, however many failures race.
/// - A verdict that comes after the state has changed is not counted ([`late_outcomes`](Self::late_outcomes)).
/// - Listeners run with no lock held.
///
/// # Cost
/// In Closed a permit is one load and a success a second one of the same cache line, which nobody writes as long as
/// nothing fails. A failure is one compare-and-swap and a look at the coarse time. A refusal is two loads and a clock read. A count
/// window adds a lock to each call that it has to remember, a time window a look at the time and a lock that threads seldom
/// share. Otherwise only transitions, half-open verdicts and listeners take a lock. Nothing is allocated before the
/// first trip, but for windows.
///
/// # When not to use it
/// Not to limit load (that is a concurrency limit), and not around what cannot fail independently of the caller.
#[derive(Clone)]
pub struct CircuitBreaker(Arc<Inner>);

/// 112 bytes without its windows; what is read on every call comes first and is rarely written.
struct Inner {
    /// The packed state.
    ///
    /// Ordering: transitions store it with Release under the lock; an Acquire load that sees a phase sees the `gate`
    /// that was stored before it. Counts in Closed publish nothing and are Relaxed.
    word: AtomicU64,
    /// Until when calls are refused, in nanoseconds: in Open the end of the open time, in `HalfOpenFull` the time at
    /// which the probes have hung too long. Means nothing in other phases.
    ///
    /// Ordering: stored before `word` under the lock, loaded after it; paired by `word`.
    gate: AtomicU64,
    /// What a verdict in Closed must know of the configuration: [`Rules`].
    ///
    /// Ordering: Relaxed. It decides which path is taken; the path itself reads the configuration under its lock.
    rules: AtomicU64,
    /// When a failure was last counted, plus 1 ns; 0 for never.
    ///
    /// Ordering: Relaxed; a time that is told, never decided upon.
    last_failure: AtomicU64,
    windows: OnceLock<Box<Windows>>,
    control: Mutex<Control>,
    name: Arc<str>,
    environment: Environment,
    cap: Option<Arc<EjectionCap>>,
}

/// What a verdict in Closed must know of the configuration, in one word.
#[derive(Clone, Copy)]
struct Rules(u64);

impl Rules {
    /// There is a window: every outcome must be recorded.
    const WINDOWED: u64 = 1 << 32;
    /// A rule asks how long calls take: a permit notes when it was given.
    const TIMED: u64 = 1 << 33;
    /// Somebody listens: refusals must be announced.
    const HEARD: u64 = 1 << 34;

    fn new(config: &CircuitBreakerConfig, heard: bool) -> Self {
        let (count, time) = (config.count_window(), config.time_window());
        let threshold = if config.consecutive() { config.failure_threshold() } else { u32::MAX };
        let windowed = count.is_some() || time.is_some();
        let timed = count.is_some_and(|window| window.slow_call().is_some())
            || time.is_some_and(|window| window.slow_call().is_some());
        let flag = |on: bool, flag: u64| if on { flag } else { 0 };
        Self(
            u64::from(threshold) | flag(windowed, Self::WINDOWED) | flag(timed, Self::TIMED) | flag(heard, Self::HEARD),
        )
    }

    #[inline]
    const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// The row that trips; out of reach where failures in a row are not judged.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the threshold is the low 32 bits")]
    const fn threshold(self) -> u32 {
        self.0 as u32
    }
}

impl CircuitBreaker {
    /// A breaker with the default configuration.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::builder(name).build()
    }

    /// A breaker with this configuration.
    pub fn with_config(name: impl Into<Arc<str>>, config: CircuitBreakerConfig) -> Self {
        Self::builder(name).config(config).build()
    }

    /// A breaker with listeners, or with a clock of its own.
    pub fn builder(name: impl Into<Arc<str>>) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new(name.into())
    }

    fn made(
        name: Arc<str>,
        config: Arc<CircuitBreakerConfig>,
        environment: Environment,
        announcer: Option<Arc<Announcer>>,
        cap: Option<Arc<EjectionCap>>,
    ) -> Self {
        let windows = OnceLock::new();
        if Windows::are_wanted(&config) {
            windows.get_or_init(|| Box::new(Windows::new())).reconfigure(&config);
        }
        Self(Arc::new(Inner {
            word: AtomicU64::new(Word::NEW.bits()),
            gate: AtomicU64::new(0),
            rules: AtomicU64::new(Rules::new(&config, announcer.is_some()).0),
            last_failure: AtomicU64::new(0),
            windows,
            control: Mutex::new(Control::new(config, announcer)),
            name,
            environment,
            cap,
        }))
    }

    /// Leave to make one call, or why not. Never waits for others' calls; in Closed it is one load.
    ///
    /// # Errors
    /// The circuit is open, forced open, or half-open with all its probes in flight. [`refused`](Self::refused) turns
    /// the refusal into an error that names the circuit.
    ///
    /// ```
    /// # let breaker = service_mesh::CircuitBreaker::new("payments");
    /// # fn send() -> Result<(), std::io::Error> { Ok(()) }
    /// match breaker.try_acquire() {
    ///     Ok(permit) => match send() {
    ///         Ok(()) => permit.success(),
    ///         Err(_) => permit.failure(),
    ///     },
    ///     Err(refusal) => println!("{}", breaker.refused(refusal)),
    /// }
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Refusal> {
        match self.admit(&mut self.moment()) {
            Ok(ticket) => Ok(Permit::new(self, ticket)),
            Err(refusal) => Err(self.announce_refusal(refusal)),
        }
    }

    /// The same with a permit that may outlive this handle; costs one reference count more.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_owned(&self) -> Result<OwnedPermit, Refusal> {
        match self.admit(&mut self.moment()) {
            Ok(ticket) => Ok(OwnedPermit::new(self.clone(), ticket)),
            Err(refusal) => Err(self.announce_refusal(refusal)),
        }
    }

    /// The error that tells a refusal of this circuit.
    #[cold]
    pub fn refused(&self, refusal: Refusal) -> CircuitOpenError {
        CircuitOpenError::new(Arc::clone(&self.0.name), refusal.reason(), refusal.retry_after())
    }

    /// Whether a call would be admitted now, without taking a place. A circuit whose open time has passed becomes
    /// half-open by being asked.
    pub fn can_execute(&self) -> bool {
        let mut moment = self.moment();
        let due = self.word().phase() == Phase::Open && self.gate() <= moment.now();
        if due {
            self.locked(|control| self.half_open_locked(control, &mut moment));
        }
        self.would_admit(&mut moment)
    }

    /// Counts a success by hand, against the present state; in Open it is late. With permits there is no need for it.
    pub fn record_success(&self) {
        self.record(Outcome::Success);
    }

    /// Counts a failure by hand, against the present state; in Open it is late. With permits there is no need for it.
    pub fn record_failure(&self) {
        self.record(Outcome::Failure);
    }

    /// Refuses every call until [`reset`](Self::reset) or [`force_closed`](Self::force_closed).
    pub fn force_open(&self) {
        self.force(Input::ForceOpen, TransitionReason::ForcedOpen);
    }

    /// Admits every call and never trips, but goes on counting, until [`reset`](Self::reset) or
    /// [`force_open`](Self::force_open).
    pub fn force_closed(&self) {
        self.force(Input::ForceClosed, TransitionReason::ForcedClosed);
    }

    /// Back to automatic: Closed, with nothing counted. Verdicts of calls that are under way are late.
    pub fn reset(&self) {
        self.force(Input::Reset, TransitionReason::Reset);
    }

    /// Takes a new configuration and keeps state, counts and listeners. A present open time ends when it would have;
    /// counts are judged at the next outcome; a count window keeps its newest outcomes, a time window of another shape
    /// starts afresh.
    pub fn update_config(&self, config: impl Into<Arc<CircuitBreakerConfig>>) {
        let config = config.into();
        let mut control = self.0.control.lock();
        control.config = Arc::clone(&config);
        self.publish_rules_locked(&control);
        if Windows::are_wanted(&config) || self.0.windows.get().is_some() {
            self.0.windows.get_or_init(|| Box::new(Windows::new())).reconfigure(&config);
        }
        let word = self.word();
        if word.phase().probes() {
            self.store_probes_locked(&control, word, word.count());
        }
    }

    /// Adds a listener; it hears what happens from now on. From the first one on, each refusal takes a lock.
    pub fn subscribe(&self, listener: impl Listener + 'static) {
        let mut control = self.0.control.lock();
        control.announcer.get_or_insert_default().subscribe(Arc::new(listener));
        self.publish_rules_locked(&control);
    }

    /// Shares the listeners of a service, from now on, beside those that it has of its own. Like every change of how a
    /// circuit works, it announces nothing and so delivers nothing: the caller may hold locks.
    pub(crate) fn attach(&self, announcer: &Arc<Announcer>) {
        let mut control = self.0.control.lock();
        match &control.announcer {
            Some(own) if !Arc::ptr_eq(own, announcer) => own.forward(Arc::clone(announcer)),
            _ => control.announcer = Some(Arc::clone(announcer)),
        }
        self.publish_rules_locked(&control);
    }

    /// The circuit's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its configuration.
    pub fn config(&self) -> Arc<CircuitBreakerConfig> {
        Arc::clone(&self.0.control.lock().config)
    }

    /// Its state. Reading it changes nothing: a circuit whose open time has passed reads Open until somebody asks for a
    /// permit.
    pub fn state(&self) -> CircuitState {
        self.word().phase().state()
    }

    /// The failures in a row in Closed; after a trip the row that it had, until it is Closed again.
    pub fn failure_count(&self) -> u32 {
        let word = self.word();
        match word.phase() {
            Phase::HalfOpen | Phase::HalfOpenFull => self.0.control.lock().episode().map_or(0, |episode| episode.row),
            _ => word.count(),
        }
    }

    /// The successes of probes since the circuit became half-open; 0 in other states.
    pub fn success_count(&self) -> u32 {
        let control = self.0.control.lock();
        if !self.word().phase().probes() {
            return 0;
        }
        control.episode().map_or(0, |episode| episode.successes)
    }

    /// The probes in flight; 0 unless the circuit is half-open.
    pub fn half_open_calls(&self) -> u32 {
        let word = self.word();
        if word.phase().probes() { word.count() } else { 0 }
    }

    /// Verdicts that came after the state that they belonged to had ended, and were not counted.
    pub fn late_outcomes(&self) -> u64 {
        self.0.control.lock().episode().map_or(0, |episode| episode.late_outcomes)
    }

    /// When a failure was last counted, on the clock of the breaker's environment; to some milliseconds
    /// ([`Clock::coarse`](crate::Clock::coarse)).
    pub fn last_failure_time(&self) -> Option<Timestamp> {
        self.0.last_failure.load(Ordering::Relaxed).checked_sub(1).map(Timestamp::from_nanos)
    }

    /// The rule that tripped the circuit last, and the counts that reached it.
    pub fn last_trip(&self) -> Option<TripReason> {
        self.0.control.lock().episode().and_then(|episode| episode.trip)
    }

    /// How long an open circuit will go on refusing; none in other states, and none if it is forced.
    pub fn retry_after(&self) -> Option<Duration> {
        (self.word().phase() == Phase::Open).then(|| self.gate().since(self.moment().now()))
    }

    // ----- decisions for the drivers and the call machine -----

    pub(crate) fn environment(&self) -> &Environment {
        &self.0.environment
    }

    #[inline]
    pub(crate) fn moment(&self) -> Moment<'_> {
        Moment::new(&self.0.environment)
    }

    /// A ticket for one call; whoever has it must [`conclude`](Self::conclude) it once. A refusal is not announced: that
    /// is for those who pass it on to a caller ([`announce_refusal`](Self::announce_refusal)).
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one load and a comparison; a call would cost as much again")]
    pub(crate) fn admit(&self, moment: &mut Moment<'_>) -> Result<Ticket, Refusal> {
        let word = self.word();
        if !word.phase().passes() {
            return self.admit_probe(word, moment);
        }
        let began = if self.rules().has(Rules::TIMED) { moment.now() } else { Ticket::UNTIMED };
        Ok(Ticket { key: word.key(), began })
    }

    /// Takes the verdict on a call.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the same")]
    pub(crate) fn conclude(&self, ticket: Ticket, outcome: Outcome, moment: &mut Moment<'_>) {
        // The second load cannot be spared: failures that were counted while the call ran end with its success.
        let untouched = self.0.word.load(Ordering::Relaxed) == Word::of_key(ticket.key).bits();
        if outcome == Outcome::Success && untouched && !self.rules().has(Rules::WINDOWED) {
            return;
        }
        self.count(ticket, outcome, untouched, moment);
    }

    /// Whether a call would be admitted, without any effect.
    #[inline]
    pub(crate) fn would_admit(&self, moment: &mut Moment<'_>) -> bool {
        match self.word().phase() {
            Phase::Closed | Phase::ForcedClosed | Phase::HalfOpen => true,
            Phase::Open | Phase::HalfOpenFull => self.gate() <= moment.now(),
            Phase::ForcedOpen => false,
        }
    }

    /// What a call would be told now, if it would be refused.
    pub(crate) fn present_refusal(&self, moment: &mut Moment<'_>) -> Option<Refusal> {
        let phase = self.word().phase();
        (!self.would_admit(moment)).then(|| self.refusal(phase, moment))
    }

    /// The refusal that a call will meet for certain at a later time: an open circuit whose time will not have passed,
    /// or a forced one. Whether probes will have come back nobody knows.
    pub(crate) fn refusal_at(&self, later: Timestamp, moment: &mut Moment<'_>) -> Option<Refusal> {
        match self.word().phase() {
            Phase::Open if self.gate() > later => Some(self.refusal(Phase::Open, moment)),
            Phase::ForcedOpen => Some(self.refusal(Phase::ForcedOpen, moment)),
            _ => None,
        }
    }

    // ----- the word and its lock -----

    fn force(&self, input: Input, reason: TransitionReason) {
        self.locked(|control| self.enter_locked(control, input, 0, || reason));
    }

    /// Makes the transition that the table gives for `input`, if it gives one, and tells of it.
    fn enter_locked(&self, control: &mut Control, input: Input, count: u32, reason: impl FnOnce() -> TransitionReason) {
        // A swap, not a store: in Closed counts change without the lock, and whatever was counted last is of the old
        // generation either way.
        let mut word = self.word();
        let phase = loop {
            let Some(phase) = table::next(word.phase(), input) else { return };
            if self.exchange(word, word.entered(phase, count)) {
                break phase;
            }
            word = self.word();
        };
        if phase.passes() || phase == Phase::ForcedOpen {
            // It starts anew: the next trip is the first of its row, and its instance is no longer ejected.
            let episode = control.episode_mut();
            (episode.trips, episode.row, episode.successes, episode.write_offs) = (0, 0, 0, 0);
            (episode.capped_row, episode.ejection) = (0, None);
        }
        if phase != word.phase() {
            self.announce_transition(control, word.phase(), phase, reason());
        }
    }

    fn announce_transition(&self, control: &Control, from: Phase, to: Phase, reason: TransitionReason) {
        let transition = Transition { from: from.state(), to: to.state(), reason };
        control.announce(&self.0.name, || EventKind::Transition(transition));
    }

    /// Runs `decide` under the lock, and delivers what it announced after the lock is released.
    fn locked<R>(&self, decide: impl FnOnce(&mut Control) -> R) -> R {
        let mut control = self.0.control.lock();
        let result = decide(&mut control);
        let announcer = control.announcer.clone();
        drop(control);
        if let Some(announcer) = announcer {
            announcer.deliver();
        }
        result
    }

    fn publish_rules_locked(&self, control: &Control) {
        self.0.rules.store(Rules::new(&control.config, control.announcer.is_some()).0, Ordering::Relaxed);
    }

    #[inline]
    fn word(&self) -> Word {
        Word::from_bits(self.0.word.load(Ordering::Acquire))
    }

    #[inline]
    fn rules(&self) -> Rules {
        Rules(self.0.rules.load(Ordering::Relaxed))
    }

    #[inline]
    fn gate(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.gate.load(Ordering::Acquire))
    }

    /// One step from `present` to `next`; false if somebody was faster.
    #[inline]
    fn exchange(&self, present: Word, next: Word) -> bool {
        self.0.word.compare_exchange(present.bits(), next.bits(), Ordering::Release, Ordering::Relaxed).is_ok()
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name())
            .field("state", &self.state())
            .field("failure_count", &self.failure_count())
            .finish_non_exhaustive()
    }
}
