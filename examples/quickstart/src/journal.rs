//! What happened, as it is told: the events of the proxy while they happen, and the sums at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Write, stdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use service_mesh::{CircuitState, Environment, Event, EventKind, Story, Timestamp, Transition, TransitionReason};

use crate::NAMES;

/// What happened so far.
#[derive(Debug)]
pub(crate) struct Journal {
    environment: Environment,
    start: Timestamp,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    phases: Vec<Phase>,
    /// By the instance that failed and the one that was asked next.
    retries: BTreeMap<(String, String), u64>,
    /// The call with the most attempts; of these, the one that took longest.
    hardest: Option<Arc<Story>>,
    /// Since when a circuit is half-open, in seconds.
    probing: BTreeMap<String, f64>,
    first_failure: Option<String>,
    /// When Ctrl-C ended it, in seconds.
    interrupted: Option<f64>,
}

/// A part of the script, and what came of it.
#[derive(Debug)]
struct Phase {
    title: &'static str,
    answered: [u64; NAMES.len()],
    retried: u64,
    failed: u64,
}

impl Journal {
    /// An empty one; times are told from now on, by the clock of the proxy's environment.
    pub(crate) fn new(environment: Environment) -> Self {
        Self { start: environment.now(), environment, pages: Mutex::default() }
    }

    /// A part of the script begins.
    pub(crate) fn begin(&self, title: &'static str) {
        self.tell("", &format!("-- {title}"));
        self.pages().phases.push(Phase { title, answered: [0; NAMES.len()], retried: 0, failed: 0 });
    }

    /// A caller got an answer from this server.
    pub(crate) fn answered(&self, by: &str) {
        let mut pages = self.pages();
        if let (Some(phase), Some(server)) = (pages.phases.last_mut(), NAMES.iter().position(|name| *name == by)) {
            phase.answered[server] += 1;
        }
    }

    /// A caller got none.
    pub(crate) fn failed(&self, why: &str) {
        let mut pages = self.pages();
        let failure = || format!("at {:.2} s: {why}", self.seconds());
        pages.first_failure.get_or_insert_with(failure);
        if let Some(phase) = pages.phases.last_mut() {
            phase.failed += 1;
        }
    }

    /// Ctrl-C ends it here.
    pub(crate) fn interrupt(&self) {
        self.pages().interrupted = Some(self.seconds());
    }

    /// How many callers got no answer.
    pub(crate) fn failures(&self) -> u64 {
        self.pages().phases.iter().map(|phase| phase.failed).sum()
    }

    /// The proxy tells of something. Circuits are named `SERVICE/INSTANCE`.
    pub(crate) fn hear(&self, event: &Event) {
        let whose = event.name.split_once('/').map_or(&*event.name, |(_, instance)| instance);
        match &event.kind {
            EventKind::Transition(transition) => self.turned(whose, transition),
            EventKind::BudgetExhausted => self.tell(whose, "a call was not retried: the budget is spent"),
            EventKind::Story(story) => self.remember(story),
            _ => {}
        }
    }

    /// A circuit that may be probed is told of when the probes have decided.
    fn turned(&self, whose: &str, transition: &Transition) {
        let half_open_since = self.pages().probing.remove(whose);
        let probed = half_open_since.map(|since| format!("probed at {since:.2} s: ")).unwrap_or_default();
        match (transition.to, &transition.reason) {
            (CircuitState::HalfOpen, _) => {
                self.pages().probing.insert(whose.to_owned(), self.seconds());
            }
            (CircuitState::Open, TransitionReason::Tripped(reason)) => {
                self.tell(whose, &format!("{probed}circuit tripped, {reason}"));
            }
            (CircuitState::Closed, reason) => self.tell(whose, &format!("{probed}circuit reset, {reason}")),
            (_, reason) => self.tell(whose, &format!("{probed}{reason}")),
        }
    }

    /// The story of a call: each attempt but the first is a retry.
    fn remember(&self, story: &Arc<Story>) {
        let mut pages = self.pages();
        for pair in story.attempts.windows(2) {
            let [from, to] = [0, 1].map(|at| pair[at].instance.as_deref().unwrap_or("nobody").to_owned());
            *pages.retries.entry((from, to)).or_default() += 1;
            if let Some(phase) = pages.phases.last_mut() {
                phase.retried += 1;
            }
        }
        let hardness = |story: &Arc<Story>| (story.attempts.len(), story.took);
        if story.attempts.len() > 1 && pages.hardest.as_ref().map(hardness) < Some(hardness(story)) {
            pages.hardest = Some(Arc::clone(story));
        }
    }

    fn tell(&self, whose: &str, what: &str) {
        say(format_args!("{:5.2} s  {whose:5}  {what}", self.seconds()));
    }

    fn seconds(&self) -> f64 {
        self.environment.now().since(self.start).as_secs_f64()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prints a line. Whoever closed the pipe does not want to read it.
pub(crate) fn say(line: impl fmt::Display) {
    drop(writeln!(stdout(), "{line}"));
}

/// The sums.
impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = self.pages();
        if let Some(seconds) = pages.interrupted {
            let part = pages.phases.last().map_or("nothing had happened", |phase| phase.title);
            write!(f, "\ninterrupted by Ctrl-C after {seconds:.2} s ({part}); what follows is all until then\n")?;
        }
        let [alpha, beta, gamma] = NAMES;
        writeln!(f, "\n{:20}{alpha:>8}{beta:>8}{gamma:>8}{:>10}{:>10}", "answers from", "retries", "failed")?;
        let mut sum = Phase { title: "in all", answered: [0; NAMES.len()], retried: 0, failed: 0 };
        for phase in &pages.phases {
            writeln!(f, "{phase}")?;
            sum.add(phase);
        }
        writeln!(f, "{sum}\n\nretried elsewhere")?;
        for ((from, to), times) in &pages.retries {
            writeln!(f, "  {from:>5} -> {to:5} {times:>6}")?;
        }
        if let Some(story) = &pages.hardest {
            writeln!(f, "\nthe call that was hit hardest\n  {}", story.to_string().replace('\n', "\n  "))?;
        }
        let answered: u64 = sum.answered.iter().sum();
        let so_far = if pages.interrupted.is_some() { "until the interruption " } else { "" };
        write!(f, "\n{so_far}{} calls, {} retries, {} failed", answered + sum.failed, sum.retried, sum.failed)?;
        match &pages.first_failure {
            Some(failure) => write!(f, "; the first {failure}"),
            None => f.write_str(": no caller noticed anything"),
        }
    }
}

impl Phase {
    fn add(&mut self, other: &Self) {
        for (sum, answered) in self.answered.iter_mut().zip(other.answered) {
            *sum += answered;
        }
        self.retried += other.retried;
        self.failed += other.failed;
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:18}", self.title)?;
        self.answered.iter().try_for_each(|answered| write!(f, "{answered:>8}"))?;
        write!(f, "{:>10}{:>10}", self.retried, self.failed)
    }
}
