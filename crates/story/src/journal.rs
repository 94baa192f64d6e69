//! What happened, as it is told: the events of the proxy while they happen, and the sums at the end.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use service_mesh::{CircuitState, Event, EventKind, Outcome, ServiceProxy, Story, Transition, TransitionReason};

use crate::NAMES;
use crate::books::{Attempts, Books, Row};
use crate::phase::Phase;
use crate::screen::Screen;
use crate::server::Counts;
use crate::stage::Ending;

/// What happened so far.
#[derive(Debug)]
pub(crate) struct Journal {
    start: Instant,
    pages: Mutex<Pages>,
}

#[derive(Debug)]
struct Pages {
    screen: Screen,
    phases: Vec<Phase>,
    proxy: Attempts,
    /// By the instance that failed and the one that was asked next.
    retries: BTreeMap<(String, String), u64>,
    /// The call with the most attempts; of these, the one that took longest.
    hardest: Option<Arc<Story>>,
    /// Since when a circuit is half-open, in seconds.
    probing: BTreeMap<String, f64>,
    first_failure: Option<String>,
    /// When it was interrupted, in seconds.
    interrupted: Option<f64>,
    /// The latest glances: when, in seconds, and who had answered how often.
    glances: VecDeque<(f64, Row)>,
}

/// Rates are those of so many glances.
const GLANCES: usize = 10;

impl Journal {
    /// An empty one; times are told from now on.
    pub(crate) fn new() -> Self {
        let pages = Pages {
            screen: Screen::of_process(),
            phases: Vec::new(),
            proxy: Attempts::default(),
            retries: BTreeMap::new(),
            hardest: None,
            probing: BTreeMap::new(),
            first_failure: None,
            interrupted: None,
            glances: VecDeque::new(),
        };
        Self { start: Instant::now(), pages: Mutex::new(pages) }
    }

    /// Tells something.
    pub(crate) fn say(&self, text: impl fmt::Display) {
        self.pages().screen.say(text);
    }

    /// A part of the script begins.
    pub(crate) fn begin(&self, title: &'static str) {
        let mut pages = self.pages();
        pages.tell_progress();
        pages.tell(self.seconds(), "", &format!("-- {title}"));
        pages.phases.push(Phase::new(title));
    }

    /// Nobody calls any more.
    pub(crate) fn finish(&self) {
        let mut pages = self.pages();
        pages.tell_progress();
        pages.screen.show(String::new());
    }

    /// A caller got an answer from this server.
    pub(crate) fn answered(&self, by: &str) {
        match NAMES.iter().position(|name| *name == by) {
            Some(server) => self.pages().phase(|phase| phase.answered[server] += 1),
            None => self.failed(&format!("{by:?} was answered, and is no server")),
        }
    }

    /// A caller got none.
    pub(crate) fn failed(&self, why: &str) {
        let mut pages = self.pages();
        pages.first_failure.get_or_insert_with(|| format!("at {:.2} s: {why}", self.seconds()));
        pages.phase(|phase| phase.failed += 1);
    }

    /// It ends here.
    pub(crate) fn interrupt(&self) {
        self.pages().interrupted = Some(self.seconds());
    }

    /// The proxy tells of something. Circuits are named `SERVICE/INSTANCE`.
    pub(crate) fn hear(&self, event: &Event) {
        let whose = event.name.split_once('/').map_or(&*event.name, |(_, instance)| instance);
        let (mut pages, now) = (self.pages(), self.seconds());
        match &event.kind {
            EventKind::Transition(transition) => pages.turned(now, whose, transition),
            EventKind::BudgetExhausted => pages.tell(now, whose, "a call was not retried: the budget is spent"),
            EventKind::Story(story) => pages.remember(story),
            _ => {}
        }
    }

    /// The line of progress: the circuit of each server, how many callers it answers in a second, and the sums.
    pub(crate) fn show(&self, proxy: &ServiceProxy) {
        let (mut pages, now) = (self.pages(), self.seconds());
        if !pages.screen.is_live() {
            return;
        }
        let sum = Phase::sum("", &pages.phases);
        if pages.glances.len() > GLANCES {
            pages.glances.pop_front();
        }
        pages.glances.push_back((now, sum.answered));
        let (since, before) = pages.glances[0];
        let mut line = format!("{now:5.1} s  ");
        for ((name, answered), before) in NAMES.into_iter().zip(sum.answered).zip(before) {
            let state = proxy.instance_circuit_breaker(name).map(|circuit| circuit.state());
            let passed = (now - since).max(0.1);
            #[expect(clippy::cast_precision_loss, reason = "a rate that a person reads")]
            let rate = (answered - before) as f64 / passed;
            let _ = write!(line, "{name} {} {rate:3.0}/s   ", mark(state));
        }
        let _ = write!(line, "{} answered, {} failed", sum.all_answered(), sum.failed);
        pages.screen.show(line);
    }

    /// Tells the sums, with what the servers have counted.
    pub(crate) fn end(&self, servers: [Counts; NAMES.len()]) -> Ending {
        let pages = self.pages();
        let sum = Phase::sum("in all", &pages.phases);
        let books = Books { answers: sum.answered, failed: sum.failed, proxy: pages.proxy, servers };
        pages.screen.say(Sums { pages: &pages, sum: &sum, books: &books });
        if sum.failed > 0 || books.disagreement().is_some() {
            Ending::Lost
        } else if pages.interrupted.is_some() {
            Ending::Interrupted
        } else {
            Ending::Whole
        }
    }

    /// Answers that callers got.
    #[cfg(test)]
    pub(crate) fn answers(&self) -> Row {
        Phase::sum("", &self.pages().phases).answered
    }

    fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn tell(&self, now: f64, whose: &str, what: &str) {
        self.screen.say(format_args!("{now:5.2} s  {whose:5}  {what}"));
    }

    /// What came of the phase that ends, for whoever sees no line of progress.
    fn tell_progress(&self) {
        if let Some(phase) = self.phases.last()
            && !self.screen.is_live()
        {
            let (answered, retried, failed) = (phase.all_answered(), phase.retried, phase.failed);
            self.screen.say(format_args!("{:16}{answered} answered, {retried} retries, {failed} failed", ""));
        }
    }

    fn phase(&mut self, change: impl FnOnce(&mut Phase)) {
        if let Some(phase) = self.phases.last_mut() {
            change(phase);
        }
    }

    /// A circuit that may be probed is told of when the probes have decided.
    fn turned(&mut self, now: f64, whose: &str, transition: &Transition) {
        let half_open_since = self.probing.remove(whose);
        let probed = half_open_since.map(|since| format!("probed at {since:.2} s: ")).unwrap_or_default();
        match (transition.to, &transition.reason) {
            (CircuitState::HalfOpen, _) => {
                self.probing.insert(whose.to_owned(), now);
            }
            (CircuitState::Open, TransitionReason::Tripped(reason)) => {
                self.tell(now, whose, &format!("{probed}circuit tripped, {reason}"));
            }
            (CircuitState::Closed, reason) => self.tell(now, whose, &format!("{probed}circuit reset, {reason}")),
            (_, reason) => self.tell(now, whose, &format!("{probed}{reason}")),
        }
    }

    /// The story of a call: each attempt but the first is a retry.
    fn remember(&mut self, story: &Arc<Story>) {
        self.proxy.calls += 1;
        for attempt in &story.attempts {
            let name = attempt.instance.as_deref();
            if let Some(server) = NAMES.iter().position(|known| Some(*known) == name) {
                self.proxy.made[server] += 1;
                self.proxy.succeeded[server] += u64::from(attempt.outcome == Some(Outcome::Success));
                self.proxy.too_late[server] += u64::from(attempt.timed_out);
                let has_failed = attempt.outcome == Some(Outcome::Failure) && !attempt.timed_out;
                self.proxy.failed[server] += u64::from(has_failed);
            }
        }
        for pair in story.attempts.windows(2) {
            let [from, to] = [0, 1].map(|at| pair[at].instance.as_deref().unwrap_or("nobody").to_owned());
            *self.retries.entry((from, to)).or_default() += 1;
            self.phase(|phase| phase.retried += 1);
        }
        let hardness = |story: &Arc<Story>| (story.attempts.len(), story.took);
        if story.attempts.len() > 1 && self.hardest.as_ref().map(hardness) < Some(hardness(story)) {
            self.hardest = Some(Arc::clone(story));
        }
    }
}

/// A circuit in the line of progress.
fn mark(state: Option<CircuitState>) -> char {
    match state {
        Some(CircuitState::Closed) => '●',
        Some(CircuitState::HalfOpen) => '◐',
        Some(CircuitState::Open) => '○',
        None => '?',
    }
}

/// What is told at the end.
struct Sums<'a> {
    pages: &'a Pages,
    sum: &'a Phase,
    books: &'a Books,
}

impl fmt::Display for Sums<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pages, sum, books } = self;
        if let Some(seconds) = pages.interrupted {
            let part = pages.phases.last().map_or("nothing had happened", |phase| phase.title);
            write!(f, "\ninterrupted after {seconds:.2} s ({part}); what follows is all until then\n")?;
        }
        let [alpha, beta, gamma] = NAMES;
        writeln!(f, "\n{:26}{alpha:>8}{beta:>8}{gamma:>8}{:>10}{:>10}", "answers from", "retries", "failed")?;
        pages.phases.iter().try_for_each(|phase| writeln!(f, "{phase}"))?;
        writeln!(f, "{sum}\n\n{books}")?;
        if !pages.retries.is_empty() {
            writeln!(f, "\nretried elsewhere")?;
        }
        for ((from, to), times) in &pages.retries {
            writeln!(f, "  {from:>5} -> {to:5} {times:>6}")?;
        }
        if let Some(story) = &pages.hardest {
            writeln!(f, "\nthe call that was hit hardest\n  {}", story.to_string().replace('\n', "\n  "))?;
        }
        let so_far = if pages.interrupted.is_some() { "until the interruption " } else { "" };
        let calls = sum.all_answered() + sum.failed;
        write!(f, "\n{so_far}{calls} calls, {} retries, {} failed", sum.retried, sum.failed)?;
        match &pages.first_failure {
            Some(failure) => write!(f, "; the first {failure}"),
            None => f.write_str(": no caller noticed anything"),
        }
    }
}
