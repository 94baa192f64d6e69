//! Drivers that are wrong on purpose, or right where the scenario is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use service_mesh_conformance::circuit_breaker::{self, CircuitBreakerScenario, Reading};
use service_mesh_conformance::load_balancer::{self, LoadBalancerScenario};
use service_mesh_conformance::retry::{self, Executed, RetryScenario};
use service_mesh_conformance::service_proxy::{self, Answer, Ended, Progress, ServiceProxyScenario, Told};
use service_mesh_conformance::{Need, Refusal, Reply, ReplyKind, Report, Scenario, ScenarioFile, budget};
use service_mesh_models::{CircuitBreakerConfig, CircuitState, RefusalReason, ServiceInstance};

fn file<S: Scenario>(rest: &str) -> ScenarioFile<S> {
    let head = format!("subject = {:?}\n\n[[scenario]]\nname = \"the claim\"\nrules = [\"0.0\"]\n", S::SUBJECT);
    ScenarioFile::parse("f.toml", format!("{head}{rest}")).unwrap_or_else(|error| panic!("{error}"))
}

/// The first line of the only failure.
fn failure(report: &Report) -> String {
    assert_eq!(report.failures.len(), 1, "{report}");
    report.failures[0].to_string().lines().next().unwrap().to_owned()
}

/// A breaker that trips after `failure_threshold` failures in a row and never recovers, with a fault to choose.
#[derive(Default)]
struct Fuse {
    threshold: u64,
    failures: u64,
    fault: Fault,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    RunsWhatItRefuses,
    SwallowsErrors,
    TellsNoTime,
}

impl Fuse {
    fn refusal(&self) -> Option<Refusal> {
        let retry_after = (self.fault != Fault::TellsNoTime).then_some(Duration::from_secs(30));
        (self.failures >= self.threshold).then_some(Refusal { reason: RefusalReason::Open, retry_after })
    }
}

impl circuit_breaker::Driver for Fuse {
    fn advance(&mut self, _by: Duration) {}

    fn call(&mut self, reply: ReplyKind, _takes: Duration) -> circuit_breaker::Called {
        let refused = self.refusal();
        let ran = refused.is_none() || self.fault == Fault::RunsWhatItRefuses;
        let reply = if self.fault == Fault::SwallowsErrors { ReplyKind::Ok } else { reply };
        if refused.is_none() {
            self.failures = if reply == ReplyKind::Ok { 0 } else { self.failures + 1 };
        }
        circuit_breaker::Called {
            state_during: ran.then_some(CircuitState::Closed),
            came_back: refused.map_or(circuit_breaker::CameBack::Replied(reply), circuit_breaker::CameBack::Refused),
        }
    }

    fn hold(&mut self, _call: &str) -> Result<(), Refusal> {
        self.refusal().map_or(Ok(()), Err)
    }

    fn end(&mut self, _call: &str, reply: ReplyKind) -> circuit_breaker::CameBack {
        circuit_breaker::CameBack::Replied(reply)
    }

    fn cancel(&mut self, _call: &str) {}

    fn can_execute(&mut self) -> bool {
        self.refusal().is_none()
    }

    fn record(&mut self, _success: bool) {}

    fn force_open(&mut self) {}

    fn force_closed(&mut self) {}

    fn reset(&mut self) {
        self.failures = 0;
    }

    fn update_config(&mut self, config: &CircuitBreakerConfig) {
        self.threshold = config.failure_threshold().into();
    }

    fn reading(&mut self) -> Reading {
        reading(if self.refusal().is_some() { CircuitState::Open } else { CircuitState::Closed }, self.failures)
    }

    fn take_events(&mut self) -> Vec<String> {
        vec![]
    }
}

fn reading(state: CircuitState, failure_count: u64) -> Reading {
    Reading { state, failure_count, success_count: 0, half_open_calls: 0, late_outcomes: 0 }
}

fn fuse(fault: Fault, rest: &str) -> Report {
    circuit_breaker::replay(&file::<CircuitBreakerScenario>(rest), &[], |given| Fuse {
        threshold: given.config.failure_threshold().into(),
        fault,
        ..Fuse::default()
    })
}

#[test]
fn a_scenario_that_holds_passes() {
    let report = fuse(
        Fault::None,
        "config = { failure_threshold = 2 }\nsteps = [\n\
         { call = \"error\", failure_count = 1, state = \"closed\" },\n\
         { call = \"error\", state = \"open\", events = [] },\n\
         { call = \"ok\", refused = \"open\", retry_after_seconds = 30, times = 3 },\n\
         { can_execute = false },\n]\n",
    );
    assert_eq!(report.to_string(), "1 passed, 0 skipped, 0 failed");
    assert_eq!(report.passed, ["the claim"]);
}

#[test]
fn a_wrong_expectation_names_file_line_scenario_step_expected_and_got() {
    let report = fuse(Fault::None, "steps = [\n  { call = \"ok\" },\n  { call = \"error\", state = \"open\" },\n]\n");
    assert_eq!(
        report.failures[0].to_string(),
        "f.toml:8: \"the claim\", step 2: state: expected Open, got Closed\n    { call = \"error\", state = \"open\" }"
    );
    assert_eq!(report.to_string().lines().last(), Some("0 passed, 0 skipped, 1 failed"));
}

#[test]
#[should_panic(expected = "step 1: failure_count: expected 7, got 1")]
fn a_failure_fails_the_test_that_expects_none() {
    fuse(Fault::None, "steps = [{ call = \"error\", failure_count = 7 }]\n").expect(&[]);
}

#[test]
fn admission_is_always_judged() {
    let tripped = "config = { failure_threshold = 1 }\nsteps = [{ call = \"error\" }, { call = \"ok\" }]\n";
    assert!(failure(&fuse(Fault::None, tripped)).ends_with("step 2: the call: expected admitted, got refused: open"));
    let closed = "steps = [{ call = \"ok\", refused = \"open\" }]\n";
    assert!(failure(&fuse(Fault::None, closed)).ends_with("the call: expected refused: open, got admitted"));
}

#[test]
fn a_function_that_runs_although_it_is_refused_is_told() {
    let tripped = "config = { failure_threshold = 1 }\nsteps = [{ call = \"error\" },\n\
                   { call = \"ok\", refused = \"open\", retry_after_seconds = 30 }]\n";
    assert!(fuse(Fault::None, tripped).failures.is_empty());
    let told = failure(&fuse(Fault::RunsWhatItRefuses, tripped));
    assert!(told.ends_with("step 2: the function ran: expected false, got true"), "{told}");
}

#[test]
fn what_comes_back_must_be_what_the_function_answered() {
    let told = failure(&fuse(Fault::SwallowsErrors, "steps = [{ call = \"error\" }]\n"));
    assert!(told.ends_with("the caller got: expected Error, got Ok"), "{told}");
}

#[test]
fn when_to_come_back_is_told_exactly_where_it_is_expected() {
    let tripped = |refused: &str| {
        format!(
            "config = {{ failure_threshold = 1 }}\nsteps = [{{ call = \"error\" }}, {{ call = \"ok\", {refused} }}]\n"
        )
    };
    let with = tripped("refused = \"open\", retry_after_seconds = [29, 31]");
    assert!(fuse(Fault::None, &with).failures.is_empty());
    assert!(failure(&fuse(Fault::TellsNoTime, &with)).ends_with("retry_after_seconds: expected 29 to 31, got none"));
    let without = tripped("refused = \"open\"");
    assert!(failure(&fuse(Fault::None, &without)).ends_with("retry_after_seconds: expected none, got 30"));
}

#[test]
fn what_a_driver_cannot_do_is_skipped_and_listed() {
    let report = fuse(
        Fault::None,
        "needs = [\"overlap\", \"cancel\"]\nsteps = [{ hold = \"a\" }, { drop = \"a\", state = \"open\" }]\n",
    );
    assert_eq!(report.skipped, [("the claim".to_owned(), vec![Need::Overlap, Need::Cancel])]);
    assert!(report.failures.is_empty());
    report.expect(&["the claim"]);
}

#[test]
fn an_expected_configuration_error_must_come() {
    let wrong = "config = { failure_threshold = 0 }\nconfig_error = \"failure_threshold\"\n";
    assert!(fuse(Fault::None, wrong).failures.is_empty());
    let right = "config = { failure_threshold = 1 }\nconfig_error = \"failure_threshold\"\n";
    assert_eq!(
        failure(&fuse(Fault::None, right)),
        "f.toml:3: \"the claim\", step 0: config: expected an error that names failure_threshold, got a configuration"
    );
}

/// Always the first that is registered and not excluded; it never counts a lease.
struct First(Vec<String>);

impl load_balancer::Driver for First {
    fn advance(&mut self, _by: Duration) {}

    fn register(&mut self, instance: &ServiceInstance) -> bool {
        self.0.push(instance.id.clone());
        false
    }

    fn deregister(&mut self, id: &str) -> bool {
        self.0.retain(|known| known != id);
        true
    }

    fn mark_healthy(&mut self, _id: &str, _healthy: bool) -> bool {
        true
    }

    fn pick(&mut self, exclude: &[String]) -> Option<String> {
        self.0.iter().find(|id| !exclude.contains(id)).cloned()
    }

    fn lease(&mut self, exclude: &[String]) -> Option<String> {
        self.pick(exclude)
    }

    fn release(&mut self, _id: &str) {}

    fn leased(&mut self, _id: &str) -> u64 {
        0
    }
}

fn first(steps: &str) -> Report {
    let rest = format!("instances = [\"a\", \"b\"]\nsteps = [{steps}]\n");
    load_balancer::replay(&file::<LoadBalancerScenario>(&rest), &[], |given| {
        First(given.instances.iter().map(|instance| instance.id.clone()).collect())
    })
}

#[test]
fn picks_are_compared_one_by_one() {
    let holds = "{ picks = \"a b|a\" }, { picks = \"b\", exclude = \"a\" }, { picks = \"-\", exclude = \"a b\" }, \
                 { pick_times = 5, counts = { a = [4, 6] } }, { register = \"c\", known = false }";
    assert!(first(holds).failures.is_empty(), "{}", first(holds));
    assert!(failure(&first("{ picks = \"a b\" }")).ends_with("picks: expected \"a b\", got \"a a\""));
    assert!(failure(&first("{ picks = \"-\" }")).ends_with("picks: expected \"-\", got \"a\""));
    let even = first("{ pick_times = 4, counts = { a = 2, b = 2 } }");
    assert!(failure(&even).ends_with("count of a: expected 2, got 4"));
    let unnamed = first("{ pick_times = 4, counts = { b = 0 } }");
    assert!(failure(&unnamed).ends_with("count of a: expected 0, got 4"));
    assert!(failure(&first("{ leases = \"a\", leased = { a = 1 } }")).ends_with("leased of a: expected 1, got 0"));
    assert!(failure(&first("{ register = \"c\", known = true }")).ends_with("known: expected true, got false"));
}

/// Runs the function once, waits a second for nothing, and forgets which answer it gives back.
struct Once;

impl retry::Driver for Once {
    fn advance(&mut self, _by: Duration) {}

    fn execute(&mut self, replies: &[Reply]) -> Executed {
        let sleeps = vec![Duration::from_secs(1)];
        Executed { calls: 1, sleeps, came_back: replies[0].kind, from_call: 2, attempts: None }
    }

    fn delay(&mut self, attempt: u32) -> Duration {
        Duration::from_secs(attempt.into())
    }
}

fn once(steps: &str) -> Report {
    retry::replay(&file::<RetryScenario>(&format!("steps = [{steps}]\n")), &[], |_| Once)
}

#[test]
fn runs_waits_and_what_comes_back_are_compared() {
    let execute = |rest: &str| failure(&once(&format!("{{ execute = [\"error\"], returns = \"error\", {rest} }}")));
    assert!(execute("calls = 2, sleeps_seconds = [1]").ends_with("calls: expected 2, got 1"));
    assert!(execute("calls = 1, sleeps_seconds = []").ends_with("sleeps_seconds: expected [], got [1.0]"));
    assert!(execute("calls = 1, sleeps_seconds = [[0, 2]]").ends_with("answer came back: expected 1, got 2"));
    assert!(failure(&once("{ delay_of = 3, seconds = [0, 2] }")).ends_with("seconds: expected 0 to 2, got 3"));
    let still = failure(&once("{ delay_of = 3, draws = 9, seconds = 3, varies = true }"));
    assert!(still.ends_with("varies: expected true, got 1 different delays"), "{still}");
}

/// Grants everything.
struct Spendthrift;

impl budget::Driver for Spendthrift {
    fn advance(&mut self, _by: Duration) {}

    fn call(&mut self) {}

    fn retry(&mut self) -> bool {
        true
    }
}

#[test]
fn granted_retries_are_counted() {
    let file = file("steps = [{ calls = 1 }, { retries = 3, granted = 1 }]\n");
    let report = budget::replay(&file, |_| Spendthrift);
    assert!(failure(&report).ends_with("step 2: granted: expected 1, got 3"));
}

/// A proxy whose calls try `a`, get what `a` answers, and leave `leaked` connections behind. Held calls stay at `a`.
#[derive(Default)]
struct Straight {
    answers: BTreeMap<String, Answer>,
    held: BTreeMap<String, Progress>,
    leaked: u64,
}

impl Straight {
    fn ended(reply: ReplyKind) -> Progress {
        let came_back = service_proxy::CameBack::Replied(reply);
        let story = Some(Told { outcomes: vec!["timed_out".to_owned()], given_up: Some("budget_spent".to_owned()) });
        let ended = Ended { came_back, cause: None, attempts: Some(1), story };
        Progress { tried: vec!["a".to_owned()], ended: Some(ended) }
    }
}

impl service_proxy::Driver for Straight {
    fn advance(&mut self, _by: Duration) {
        for call in self.held.values_mut() {
            *call = Self::ended(ReplyKind::Error);
        }
    }

    fn now(&mut self) -> Duration {
        Duration::ZERO
    }

    fn set_answer(&mut self, instance: &str, answer: Answer) {
        self.answers.insert(instance.to_owned(), answer);
    }

    fn call(&mut self, _timeout: Option<Duration>) -> Progress {
        match self.answers.get("a") {
            Some(Answer::Reply(reply)) => Self::ended(reply.kind),
            _ => Self::ended(ReplyKind::Ok),
        }
    }

    fn callers(&mut self, callers: u32) -> Vec<Progress> {
        (0..callers).map(|_| service_proxy::Driver::call(self, None)).collect()
    }

    fn hold(&mut self, call: &str) {
        self.held.insert(call.to_owned(), Progress { tried: vec!["a".to_owned()], ended: None });
    }

    fn answer(&mut self, call: &str, reply: Reply) {
        self.held.insert(call.to_owned(), Self::ended(reply.kind));
    }

    fn cancel(&mut self, call: &str, _stalled: Duration) {
        self.held.remove(call);
    }

    fn progress(&mut self, call: &str) -> Progress {
        self.held[call].clone()
    }

    fn take_sleeps(&mut self) -> Vec<Duration> {
        vec![]
    }

    fn register(&mut self, _instance: &ServiceInstance) {}

    fn deregister(&mut self, _id: &str) {}

    fn mark_healthy(&mut self, _id: &str, _healthy: bool) {}

    fn force_open(&mut self) {}

    fn force_closed(&mut self) {}

    fn reset(&mut self) {}

    fn service(&mut self) -> Reading {
        reading(CircuitState::Closed, 0)
    }

    fn instance(&mut self, _id: &str) -> Option<Reading> {
        None
    }

    fn leased(&mut self, _id: &str) -> u64 {
        self.leaked + self.held.values().filter(|call| call.ended.is_none()).count() as u64
    }

    fn take_events(&mut self) -> Vec<String> {
        ["api/b: ejection_capped", "api: retry: a failure", "api: budget_exhausted"].map(str::to_owned).into()
    }
}

fn straight(leaked: u64, rest: &str) -> Report {
    let rest = format!("instances = [\"a\"]\nretry = {{ max_retries = 0 }}\n{rest}");
    service_proxy::replay(&file::<ServiceProxyScenario>(&rest), &Need::ALL, |_| Straight {
        leaked,
        ..Straight::default()
    })
}

#[test]
fn a_proxys_calls_are_compared_by_their_attempts_and_their_end() {
    let steps = |steps: &str| straight(0, &format!("steps = [{steps}]\n"));
    let holds = "{ set = { a = \"error\" } }, { call = true, times = 3, tries = \"a\", returns = \"error\", attempts_at = { a = 3 } }";
    assert!(steps(holds).failures.is_empty());
    // Events of several circuits come in any order.
    let events = "{ reset = true, events = [\"api: budget_exhausted\", \"api/b: ejection_capped\"] }";
    assert!(steps(events).failures.is_empty());

    assert!(steps("{ reset = true, retries = [\"a failure\"] }").failures.is_empty());
    let story = |outcomes: &str| format!("{{ call = true, tries = \"a\", returns = \"ok\", outcomes = {outcomes} }}");
    assert!(steps(&story("\"timed_out\", given_up = \"budget_spent\"")).failures.is_empty());

    let told = |text: &str| failure(&steps(text));
    assert!(told("{ reset = true, retries = [] }").ends_with("retries: expected [], got [\"a failure\"]"));
    assert!(told(&story("\"failure\"")).ends_with("outcomes: expected \"failure\", got \"timed_out\""));
    assert!(told(&story("\"timed_out\"")).ends_with("given_up: expected None, got Some(\"budget_spent\")"));
    assert!(told("{ call = true, tries = \"a a\", returns = \"ok\" }").ends_with("tries: expected \"a a\", got \"a\""));
    assert!(told("{ call = true, tries = \"a\", returns = \"error\" }").ends_with("expected \"error\", got \"ok\""));
    assert!(
        told("{ call = true, attempts_at = { a = 0 }, returns = \"ok\" }")
            .ends_with("attempts at a: expected 0, got 1")
    );
    assert!(told("{ call = true, tries = \"a\", returns = \"ok\", took_seconds = 1 }").ends_with("expected 1, got 0"));
    assert!(told("{ reset = true, instance_states = { a = \"open\" } }").ends_with("expected Some(Open), got None"));
}

#[test]
fn a_held_call_is_running_or_over_as_expected() {
    let steps = |steps: &str| {
        straight(
            0,
            &format!(
                "needs = [\"overlap\"]\nsteps = [{{ hold = \"p\", tries = \"a\", leased = {{ a = 1 }} }}, {steps}]\n"
            ),
        )
    };
    let holds = steps("{ answer = \"p\", with = \"ok\", tries = \"\", returns = \"ok\", leased = { a = 0 } }");
    assert!(holds.failures.is_empty(), "{holds}");
    let running = steps("{ answer = \"p\", with = \"ok\" }");
    assert!(failure(&running).ends_with("step 2: returns: expected nothing yet, got ok"));
    let ended = steps("{ advance_seconds = 1, ended = { p = \"error\" } }");
    assert!(ended.failures.is_empty(), "{ended}");
    let unforeseen = steps("{ advance_seconds = 1 }");
    assert!(failure(&unforeseen).ends_with("step 2: ended: expected {}, got {\"p\": \"error\"}"));
}

#[test]
fn a_connection_that_is_not_given_back_is_told() {
    let report = straight(1, "steps = [{ call = true, tries = \"a\", returns = \"ok\" }]\n");
    assert!(failure(&report).ends_with("step 1: leased of a with no call running: expected 0, got 1"));
}
