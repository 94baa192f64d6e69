//! Scenarios of a service proxy: one call, with everything that takes part in it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use service_mesh_models::{
    CircuitBreakerConfig, CircuitState, LoadBalancerStrategy, RefusalReason, RetryBudgetConfig, RetryConfig,
    ServiceInstance, ServiceProxyConfig,
};
use toml::Spanned;

use crate::circuit_breaker::{Forced, Reading};
use crate::expect::{Bounds, Checked, Mismatch, Names, Span, mismatch, names, row, same, same_if_given, told, within};
use crate::file::{Config, belongs, one_action};
use crate::load_balancer::Instance;
use crate::reply::{Refusal, Reply, ReplyKind};
use crate::{Need, Report, Scenario, ScenarioFile};

/// The name of the service in every scenario; its instances' breakers are thus named `api/a`, `api/b`, …
pub const SERVICE: &str = "api";

/// A service proxy under test, on a clock of its own.
///
/// The clock moves where the driver is told to [advance](Self::advance) it, where a function takes time or hangs until
/// its time is up, and where a call waits before a retry. The classifier makes of every [`ReplyKind`] what is said there.
pub trait Driver {
    /// Moves the clock; held calls whose time is thereby up go on as far as they can.
    fn advance(&mut self, by: Duration);
    /// The present time, since whatever origin.
    fn now(&mut self) -> Duration;
    /// From now on the instance answers so, except to held calls.
    fn set_answer(&mut self, instance: &str, answer: Answer);
    /// Makes one call from begin to end, which may take no longer than its own timeout, where it has one.
    fn call(&mut self, timeout: Option<Duration>) -> Progress;
    /// Begins so many calls, one after the other, each as far as it goes without time passing; then lets time pass, to
    /// one timer after the other, until all are over. In the order in which they began.
    fn callers(&mut self, callers: u32) -> Vec<Progress>;
    /// Begins a call whose attempts do not answer before they are told to. It is in its first attempt then, or refused.
    fn hold(&mut self, call: &str);
    /// Lets the attempt of a held call answer; the call goes on, until its next attempt or to its end.
    fn answer(&mut self, call: &str, reply: Reply);
    /// Lets time pass in which nobody runs the held call, so that no timer of its own is seen, and drops it then.
    fn cancel(&mut self, call: &str, stalled: Duration);
    /// How far a held call has come.
    fn progress(&mut self, call: &str) -> Progress;
    /// The waits before retries since it was asked last, in order; waits of zero and timers of timeouts are left out.
    fn take_sleeps(&mut self) -> Vec<Duration>;
    /// Registers an instance.
    fn register(&mut self, instance: &ServiceInstance);
    /// Takes an instance out.
    fn deregister(&mut self, id: &str);
    /// Marks an instance.
    fn mark_healthy(&mut self, id: &str, healthy: bool);
    /// Forces the service's breaker open.
    fn force_open(&mut self);
    /// Forces the service's breaker closed.
    fn force_closed(&mut self);
    /// Resets the service's breaker.
    fn reset(&mut self);
    /// What the service's breaker tells.
    fn service(&mut self) -> Reading;
    /// What the breaker of an instance tells; none if there is no such instance, or it has none.
    fn instance(&mut self, id: &str) -> Option<Reading>;
    /// How many connections to a registered instance are leased.
    fn leased(&mut self, id: &str) -> u64;
    /// What a listener heard since it was asked last: changes of state in the words of
    /// [`transition_words`](crate::transition_words), write-offs in those of
    /// [`probes_written_off_words`](crate::probes_written_off_words), retries in those of
    /// [`retry_words`](crate::retry_words), what was given up for lack of time in those of
    /// [`given_up_words`](crate::given_up_words), and `ejection_capped` and `budget_exhausted`, each after the name of whom
    /// it befell, as in `api/a: ejection_capped`. The rest is left out.
    fn take_events(&mut self) -> Vec<String>;
}

/// How an instance answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With this.
    Reply(Reply),
    /// Never.
    Hang,
}

/// How far a call has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The instance of each attempt so far.
    pub tried: Vec<String>,
    /// How it ended, if it has.
    pub ended: Option<Ended>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What its caller got.
    pub came_back: CameBack,
    /// The last failure of this call that a refusal carries along.
    pub cause: Option<ReplyKind>,
    /// The number of attempts, where it is told beside the result.
    pub attempts: Option<u32>,
    /// What its story tells, where one was [asked for](Given::explained) and the driver has it.
    pub story: Option<Told>,
}

/// What the story of a call tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What came of each attempt: `success`, `failure`, `neutral` or `timed_out`; `-` if it was cancelled.
    pub outcomes: Vec<String>,
    /// Why there was no other attempt: `not_retryable`, `retries_spent`, `retry_after_too_long`, `past_deadline` or
    /// `budget_spent`.
    pub given_up: Option<String>,
}

/// What the caller of a proxy got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameBack {
    /// What the last attempt answered.
    Replied(ReplyKind),
    /// `CircuitOpenError`.
    CircuitOpen {
        /// Whose circuit, by the error's name.
        name: String,
        /// Why, and when to come back.
        refusal: Refusal,
    },
    /// `NoHealthyInstanceError`.
    NoHealthyInstance,
    /// The call's time was up.
    DeadlineExceeded,
    /// The last attempt's time was up.
    AttemptTimedOut,
}

impl CameBack {
    fn word(&self) -> &'static str {
        match self {
            Self::Replied(kind) => kind.as_str(),
            Self::CircuitOpen { .. } => "circuit_open",
            Self::NoHealthyInstance => "no_healthy_instance",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::AttemptTimedOut => "attempt_timed_out",
        }
    }
}

/// What comes back, by its word alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Returned {
    Ok,
    Error,
    Fatal,
    Ignored,
    AcceptedError,
    BadValue,
    TryLater,
    Refusal,
    Panic,
    CircuitOpen,
    NoHealthyInstance,
    DeadlineExceeded,
    AttemptTimedOut,
}

impl Returned {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Fatal => "fatal",
            Self::Ignored => "ignored",
            Self::AcceptedError => "accepted_error",
            Self::BadValue => "bad_value",
            Self::TryLater => "try_later",
            Self::Refusal => "refusal",
            Self::Panic => "panic",
            Self::CircuitOpen => "circuit_open",
            Self::NoHealthyInstance => "no_healthy_instance",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::AttemptTimedOut => "attempt_timed_out",
        }
    }

    const fn is_refusal(self) -> bool {
        matches!(self, Self::CircuitOpen | Self::NoHealthyInstance)
    }
}

/// What the driver starts with.
#[derive(Clone, Debug)]
pub struct Given {
    /// How it picks.
    pub strategy: LoadBalancerStrategy,
    /// What is registered before the first step, in this order. All of them answer `ok` until they are told otherwise.
    pub instances: Vec<ServiceInstance>,
    /// The service's breaker.
    pub circuit_breaker: CircuitBreakerConfig,
    /// The breaker of each instance, or none. What the file leaves out is taken from the service's already.
    pub instance_circuit_breaker: Option<CircuitBreakerConfig>,
    /// The retry policy.
    pub retry: RetryConfig,
    /// The budget, or none.
    pub budget: Option<RetryBudgetConfig>,
    /// Time limits, and how instances leave and return.
    pub config: ServiceProxyConfig,
    /// Whether each call is asked for its story.
    pub explained: bool,
}

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceProxyScenario {
    name: String,
    rules: Vec<String>,
    #[serde(default)]
    needs: Vec<Need>,
    #[serde(default)]
    strategy: LoadBalancerStrategy,
    #[serde(default)]
    instances: Vec<Instance>,
    #[serde(default)]
    circuit_breaker: toml::Table,
    #[serde(default)]
    instance_circuit_breaker: InstanceBreaker,
    #[serde(default)]
    retry: RetryConfig,
    #[serde(default)]
    budget: Budget,
    #[serde(default)]
    config: ServiceProxyConfig,
    #[serde(default)]
    answers: BTreeMap<String, Answer>,
    steps: Vec<Spanned<Step>>,
}

/// The breakers of the instances: `"off"`, or what differs from the service's.
#[derive(Clone, Debug)]
enum InstanceBreaker {
    Off,
    Table(toml::Table),
}

impl Default for InstanceBreaker {
    fn default() -> Self {
        Self::Table(toml::Table::new())
    }
}

/// The budget: `"off"`, or a table.
#[derive(Clone, Debug)]
enum Budget {
    Off,
    On(RetryBudgetConfig),
}

impl Default for Budget {
    fn default() -> Self {
        Self::On(RetryBudgetConfig::default())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Off {
    Off,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Hang {
    Hang,
}

/// One word, or something to be said at length.
#[derive(Deserialize)]
#[serde(untagged)]
enum WordOr<W, T> {
    Word(W),
    Other(T),
}

impl<'de> Deserialize<'de> for InstanceBreaker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WordOr::deserialize(deserializer)? {
            WordOr::Word(Off::Off) => Self::Off,
            WordOr::Other(table) => Self::Table(table),
        })
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WordOr::deserialize(deserializer)? {
            WordOr::Word(Off::Off) => Self::Off,
            WordOr::Other(config) => Self::On(config),
        })
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match WordOr::deserialize(deserializer)? {
            WordOr::Word(Hang::Hang) => Self::Hang,
            WordOr::Other(reply) => Self::Reply(reply),
        })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    call: bool,
    callers: Option<u32>,
    hold: Option<String>,
    answer: Option<String>,
    drop: Option<String>,
    advance_seconds: Option<Span>,
    set: Option<BTreeMap<String, Answer>>,
    register: Option<Instance>,
    deregister: Option<String>,
    mark_healthy: Option<String>,
    mark_unhealthy: Option<String>,
    force: Option<Forced>,
    #[serde(default)]
    reset: bool,

    timeout_seconds: Option<Span>,
    with: Option<Reply>,
    stalled_seconds: Option<Span>,
    times: Option<u32>,

    tries: Option<Names>,
    attempts_at: Option<BTreeMap<String, Bounds>>,
    returns: Option<Returned>,
    refused: Option<RefusalReason>,
    retry_after_seconds: Option<Bounds>,
    cause: Option<ReplyKind>,
    sleeps_seconds: Option<Vec<Bounds>>,
    took_seconds: Option<Bounds>,
    outcomes: Option<Names>,
    given_up: Option<String>,
    ended: Option<BTreeMap<String, Returned>>,

    state: Option<CircuitState>,
    failure_count: Option<u64>,
    success_count: Option<u64>,
    half_open_calls: Option<u64>,
    late_outcomes: Option<u64>,
    instance_states: Option<BTreeMap<String, CircuitState>>,
    instance_failure_counts: Option<BTreeMap<String, u64>>,
    instance_half_open_calls: Option<BTreeMap<String, u64>>,
    leased: Option<BTreeMap<String, u64>>,
    events: Option<Vec<String>>,
    retries: Option<Vec<String>>,
}

/// The held calls of a scenario, and how many attempts of each were seen.
#[derive(Default)]
struct Held {
    running: BTreeMap<String, usize>,
    ids: BTreeSet<String>,
}

impl Step {
    fn check(&self) -> Result<(), String> {
        let action = one_action(&[
            ("call", self.call),
            ("callers", self.callers.is_some()),
            ("hold", self.hold.is_some()),
            ("answer", self.answer.is_some()),
            ("drop", self.drop.is_some()),
            ("advance_seconds", self.advance_seconds.is_some()),
            ("set", self.set.is_some()),
            ("register", self.register.is_some()),
            ("deregister", self.deregister.is_some()),
            ("mark_healthy", self.mark_healthy.is_some()),
            ("mark_unhealthy", self.mark_unhealthy.is_some()),
            ("force", self.force.is_some()),
            ("reset", self.reset),
        ])?;
        let calling = &["call", "callers", "hold", "answer"][..];
        belongs(
            action,
            &[
                ("timeout_seconds", self.timeout_seconds.is_some(), &["call"]),
                ("with", self.with.is_some(), &["answer"]),
                ("stalled_seconds", self.stalled_seconds.is_some(), &["drop"]),
                ("times", self.times.is_some(), &["call"]),
                ("tries", self.tries.is_some(), &["call", "hold", "answer"]),
                ("attempts_at", self.attempts_at.is_some(), &["call", "callers"]),
                ("returns", self.returns.is_some(), calling),
                ("took_seconds", self.took_seconds.is_some(), &["call", "callers"]),
                ("outcomes", self.outcomes.is_some(), &["call", "answer"]),
                ("given_up", self.given_up.is_some(), &["call", "answer"]),
                ("ended", self.ended.is_some(), &["advance_seconds"]),
            ],
        )?;
        let refused = self.returns == Some(Returned::CircuitOpen);
        for (key, there) in
            [("refused", self.refused.is_some()), ("retry_after_seconds", self.retry_after_seconds.is_some())]
        {
            if there && !refused {
                return Err(format!("`{key}` wants `returns = \"circuit_open\"`"));
            }
        }
        if self.cause.is_some() && !self.returns.is_some_and(Returned::is_refusal) {
            return Err("`cause` wants `returns` to be a refusal".to_owned());
        }
        if self.outcomes.is_some() && self.returns.is_none() {
            return Err("`outcomes` wants `returns`".to_owned());
        }
        if self.given_up.is_some() && self.outcomes.is_none() {
            return Err("`given_up` wants `outcomes`".to_owned());
        }
        match action {
            "call" if self.tries.is_none() && self.attempts_at.is_none() => {
                Err("`call` wants `tries` or `attempts_at`".to_owned())
            }
            "call" if self.returns.is_none() => Err("`call` wants `returns`".to_owned()),
            "callers" if self.returns.is_none() => Err("`callers` wants `returns`".to_owned()),
            "answer" if self.with.is_none() => Err("`answer` wants `with`".to_owned()),
            _ => Ok(()),
        }
    }

    fn uses(&self) -> impl Iterator<Item = Need> {
        let replies = self.set.iter().flat_map(BTreeMap::values).copied().chain(self.with.map(Answer::Reply));
        let panics = replies.into_iter().any(panics);
        let timed_out = [Some(Returned::AttemptTimedOut), Some(Returned::DeadlineExceeded)].contains(&self.returns);
        // A call that was given no time at all is refused by every driver; to end an attempt is another matter.
        let stops = timed_out && self.tries.as_ref().is_none_or(|tries| !tries.0.is_empty());
        let used = [
            (Need::Overlap, self.hold.is_some() || self.callers.is_some()),
            (Need::Cancel, self.drop.is_some()),
            (Need::Panic, panics),
            (Need::StopAttempts, stops),
        ];
        used.into_iter().filter_map(|(need, used)| used.then_some(need))
    }

    fn play(&self, held: &mut Held, driver: &mut impl Driver) -> Checked {
        let from = driver.now();
        self.act(held, driver)?;
        let took = driver.now().saturating_sub(from);
        if let Some(bounds) = self.took_seconds {
            within("took_seconds", bounds, took.as_secs_f64())?;
        }
        let sleeps = driver.take_sleeps();
        if let Some(expected) = &self.sleeps_seconds {
            row("sleeps_seconds", expected, &sleeps)?;
        }
        self.readings(held, driver)
    }

    fn act(&self, held: &mut Held, driver: &mut impl Driver) -> Checked {
        if self.call {
            let timeout = self.timeout_seconds.map(|timeout| timeout.0);
            return self.all((0..self.times.unwrap_or(1)).map(|_| driver.call(timeout)));
        }
        if let Some(callers) = self.callers {
            return self.all(driver.callers(callers));
        }
        if let Some(call) = &self.hold {
            driver.hold(call);
            held.running.insert(call.clone(), 0);
            return self.go_on(call, held, driver);
        }
        if let (Some(call), Some(reply)) = (&self.answer, self.with) {
            driver.answer(call, reply);
            return self.go_on(call, held, driver);
        }
        if let Some(call) = &self.drop {
            driver.cancel(call, self.stalled_seconds.unwrap_or_default().0);
            held.running.remove(call);
        } else if let Some(by) = self.advance_seconds {
            driver.advance(by.0);
            return self.ended(held, driver);
        } else if let Some(answers) = &self.set {
            for (id, answer) in answers {
                driver.set_answer(id, *answer);
            }
        } else {
            self.change(held, driver);
        }
        Ok(())
    }

    fn change(&self, held: &mut Held, driver: &mut impl Driver) {
        if let Some(Instance(instance)) = &self.register {
            driver.register(instance);
            held.ids.insert(instance.id.clone());
        } else if let Some(id) = &self.deregister {
            driver.deregister(id);
            held.ids.remove(id);
        } else if let Some(id) = &self.mark_healthy {
            driver.mark_healthy(id, true);
        } else if let Some(id) = &self.mark_unhealthy {
            driver.mark_healthy(id, false);
        } else {
            match self.force {
                Some(Forced::Open) => driver.force_open(),
                Some(Forced::Closed) => driver.force_closed(),
                None => driver.reset(),
            }
        }
    }

    /// A held call has moved: by which attempts, and whether that was its end.
    fn go_on(&self, call: &str, held: &mut Held, driver: &mut impl Driver) -> Checked {
        let progress = driver.progress(call);
        let seen = held.running.get(call).copied().unwrap_or(0);
        self.tried(&progress.tried[seen..])?;
        match &progress.ended {
            Some(_) => held.running.remove(call),
            None => held.running.insert(call.to_owned(), progress.tried.len()),
        };
        self.judge(&progress)
    }

    fn tried(&self, tried: &[String]) -> Checked {
        let tried: Vec<_> = tried.iter().cloned().map(Some).collect();
        self.tries.as_ref().map_or(Ok(()), |expected| names("tries", expected, &tried))
    }

    /// A call ended as expected, or is still running as expected.
    fn judge(&self, progress: &Progress) -> Checked {
        let ended = match (self.returns, &progress.ended) {
            (None, None) => return Ok(()),
            (None, Some(ended)) => return Err(mismatch("returns", "nothing yet", ended.came_back.word())),
            (Some(expected), None) => return Err(mismatch("returns", expected.word(), "nothing yet")),
            (Some(expected), Some(ended)) => {
                same("returns", &expected.word(), &ended.came_back.word())?;
                if expected.is_refusal() {
                    same("cause", &self.cause, &ended.cause)?;
                }
                ended
            }
        };
        if let Some(attempts) = ended.attempts {
            same("attempts told", &progress.tried.len(), &(attempts as usize))?;
        }
        if let (Some(expected), Some(told)) = (&self.outcomes, &ended.story) {
            let outcomes: Vec<_> = told.outcomes.iter().cloned().map(Some).collect();
            names("outcomes", expected, &outcomes)?;
            same("given_up", &self.given_up, &told.given_up)?;
        }
        if let CameBack::CircuitOpen { name, refusal } = &ended.came_back {
            same("the refusing circuit", &SERVICE, &name.as_str())?;
            same_if_given("refused", self.refused.as_ref(), &refusal.reason)?;
            told("retry_after_seconds", self.retry_after_seconds, refusal.retry_after)?;
        }
        Ok(())
    }

    /// Every call ended as expected, and together they tried each instance as often as expected.
    fn all(&self, calls: impl IntoIterator<Item = Progress>) -> Checked {
        let mut attempts: BTreeMap<String, u32> = BTreeMap::new();
        for progress in calls {
            self.tried(&progress.tried)?;
            self.judge(&progress)?;
            for id in progress.tried {
                *attempts.entry(id).or_default() += 1;
            }
        }
        for (id, bounds) in self.attempts_at.iter().flatten() {
            within(&format!("attempts at {id}"), *bounds, attempts.get(id).copied().unwrap_or(0).into())?;
        }
        Ok(())
    }

    /// Of the held calls exactly those are over, and in the way, that were expected after time has passed.
    fn ended(&self, held: &mut Held, driver: &mut impl Driver) -> Checked {
        let mut got = BTreeMap::new();
        for (call, seen) in &mut held.running {
            let progress = driver.progress(call);
            *seen = progress.tried.len();
            if let Some(ended) = progress.ended {
                got.insert(call.clone(), ended.came_back.word());
            }
        }
        held.running.retain(|call, _| !got.contains_key(call));
        let expected: BTreeMap<String, &str> =
            self.ended.iter().flatten().map(|(call, returned)| (call.clone(), returned.word())).collect();
        same("ended", &expected, &got)
    }

    fn readings(&self, held: &Held, driver: &mut impl Driver) -> Checked {
        let service = driver.service();
        same_if_given("state", self.state.as_ref(), &service.state)?;
        same_if_given("failure_count", self.failure_count.as_ref(), &service.failure_count)?;
        same_if_given("success_count", self.success_count.as_ref(), &service.success_count)?;
        same_if_given("half_open_calls", self.half_open_calls.as_ref(), &service.half_open_calls)?;
        same_if_given("late_outcomes", self.late_outcomes.as_ref(), &service.late_outcomes)?;
        for (id, expected) in self.instance_states.iter().flatten() {
            same(&format!("state of {id}"), &Some(*expected), &driver.instance(id).map(|reading| reading.state))?;
        }
        for (id, expected) in self.instance_failure_counts.iter().flatten() {
            let got = driver.instance(id).map(|reading| reading.failure_count);
            same(&format!("failure_count of {id}"), &Some(*expected), &got)?;
        }
        for (id, expected) in self.instance_half_open_calls.iter().flatten() {
            let got = driver.instance(id).map(|reading| reading.half_open_calls);
            same(&format!("half_open_calls of {id}"), &Some(*expected), &got)?;
        }
        for (id, expected) in self.leased.iter().flatten() {
            same(&format!("leased of {id}"), expected, &driver.leased(id))?;
        }
        let (retries, events): (Vec<_>, Vec<_>) =
            driver.take_events().into_iter().partition(|event| retry_of(event).is_some());
        if let Some(expected) = &self.retries {
            let causes: Vec<_> = retries.iter().filter_map(|event| retry_of(event)).collect();
            same("retries", &expected.iter().map(String::as_str).collect(), &causes)?;
        }
        if let Some(expected) = &self.events {
            same("events", &by_name(expected), &by_name(&events))?;
        }
        if held.running.is_empty() { everything_was_given_back(held, driver) } else { Ok(()) }
    }
}

/// The law of every step after which no call is running.
fn everything_was_given_back(held: &Held, driver: &mut impl Driver) -> Checked {
    same("half_open_calls with no call running", &0, &driver.service().half_open_calls)?;
    for id in &held.ids {
        same(&format!("leased of {id} with no call running"), &0, &driver.leased(id))?;
        let places = driver.instance(id).map_or(0, |reading| reading.half_open_calls);
        same(&format!("half_open_calls of {id} with no call running"), &0, &places)?;
    }
    Ok(())
}

/// What came of the attempt that is followed by a retry, if the event is one.
fn retry_of(event: &str) -> Option<&str> {
    event.split_once(": ")?.1.strip_prefix("retry: ")
}

/// Events of one circuit come in order; among several, no order is promised.
fn by_name(events: &[String]) -> Vec<String> {
    let mut events = events.to_vec();
    events.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
    events
}

fn panics(answer: Answer) -> bool {
    matches!(answer, Answer::Reply(Reply { kind: ReplyKind::Panic, .. }))
}

impl Scenario for ServiceProxyScenario {
    const SUBJECT: &'static str = "service_proxy";

    fn name(&self) -> &str {
        &self.name
    }

    fn rules(&self) -> &[String] {
        &self.rules
    }

    fn needs(&self) -> &[Need] {
        &self.needs
    }

    fn uses(&self) -> Vec<Need> {
        let mut used: Vec<Need> = self.steps.iter().flat_map(|step| step.get_ref().uses()).collect();
        used.extend(self.answers.values().copied().filter(|answer| panics(*answer)).map(|_| Need::Panic));
        used.extend(self.config.attempt_timeout().map(|_| Need::StopAttempts));
        used
    }

    fn steps(&self) -> Vec<Range<usize>> {
        self.steps.iter().map(Spanned::span).collect()
    }

    fn check(&self) -> Result<(), (usize, String)> {
        self.given().map_err(|message| (0, message))?;
        if self.uses().contains(&Need::Overlap) && !self.retry.initial_delay().is_zero() && self.retry.max_retries() > 0
        {
            return Err((
                0,
                "where calls overlap, a wait before a retry would make their order the driver's".to_owned(),
            ));
        }
        let check = |(index, step): (usize, &Spanned<Step>)| step.get_ref().check().map_err(|fault| (index + 1, fault));
        self.steps.iter().enumerate().try_for_each(check)
    }
}

impl ServiceProxyScenario {
    fn given(&self) -> Result<Given, String> {
        let instance_circuit_breaker = match &self.instance_circuit_breaker {
            InstanceBreaker::Off => None,
            InstanceBreaker::Table(own) => {
                let mut table = self.circuit_breaker.clone();
                table.extend(own.clone());
                Some(Config::from_table(table).0?)
            }
        };
        Ok(Given {
            strategy: self.strategy,
            instances: self.instances.iter().map(|instance| instance.0.clone()).collect(),
            circuit_breaker: Config::from_table(self.circuit_breaker.clone()).0?,
            instance_circuit_breaker,
            retry: self.retry.clone(),
            budget: match &self.budget {
                Budget::Off => None,
                Budget::On(config) => Some(config.clone()),
            },
            config: self.config.clone(),
            explained: self.steps.iter().any(|step| step.get_ref().outcomes.is_some()),
        })
    }

    fn play<D: Driver>(&self, start: &mut impl FnMut(&Given) -> D) -> Result<(), (usize, Mismatch)> {
        let given = self.given().map_err(|message| (0, mismatch("config", "a configuration", message)))?;
        let mut driver = start(&given);
        let ids = given.instances.iter().map(|instance| instance.id.clone()).collect();
        let mut held = Held { ids, ..Held::default() };
        for (id, answer) in &self.answers {
            driver.set_answer(id, *answer);
        }
        for (index, step) in self.steps.iter().enumerate() {
            step.get_ref().play(&mut held, &mut driver).map_err(|mismatch| (index + 1, mismatch))?;
        }
        Ok(())
    }
}

/// Replays a file: `start` makes a fresh driver for each scenario.
pub fn replay<D: Driver>(
    file: &ScenarioFile<ServiceProxyScenario>,
    can: &[Need],
    mut start: impl FnMut(&Given) -> D,
) -> Report {
    file.run(can, |scenario| scenario.play(&mut start))
}
