//! What a file may not say.

use service_mesh_conformance::{Scenario, ScenarioFile};
use service_mesh_conformance::{
    budget::BudgetScenario, circuit_breaker::CircuitBreakerScenario, load_balancer::LoadBalancerScenario,
    retry::RetryScenario, service_proxy::ServiceProxyScenario,
};

/// Why a file of one scenario is refused; `rest` begins on line 6.
fn refusal<S: Scenario + std::fmt::Debug>(rest: &str) -> String {
    let head = format!("subject = {:?}\n\n[[scenario]]\nname = \"n\"\nrules = [\"0.0\"]\n", S::SUBJECT);
    ScenarioFile::<S>::parse("f.toml", format!("{head}{rest}")).unwrap_err().to_string()
}

fn breaker(rest: &str) -> String {
    refusal::<CircuitBreakerScenario>(rest)
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    assert!(breaker("confug = {}\n").starts_with("f.toml:6: unknown field `confug`"));
    assert!(
        breaker("steps = [\n  { call = \"ok\" },\n  { call = \"ok\", stat = \"open\" },\n]\n")
            .starts_with("f.toml:8: unknown field `stat`")
    );
    assert!(refusal::<RetryScenario>("budget = { rate = 1 }\n").starts_with("f.toml:6: unknown field `rate`"));
    assert!(breaker("config = { timeout = 1 }\n").contains("unknown field `timeout`"));
    assert!(refusal::<ServiceProxyScenario>("circuit_breaker = { timeout = 1 }\nsteps = []\n").contains("`timeout`"));
}

#[test]
fn an_unknown_word_is_refused_with_its_line() {
    assert!(breaker("steps = [\n{ call = \"maybe\" }]\n").starts_with("f.toml:7: unknown variant `maybe`"));
    assert!(breaker("needs = [\"luck\"]\n").starts_with("f.toml:6: unknown variant `luck`"));
}

#[test]
fn a_step_has_exactly_one_action() {
    assert_eq!(
        breaker("steps = [\n  { call = \"ok\" },\n  { call = \"ok\", reset = true },\n]\n"),
        "f.toml:8: a step has one action, not call and reset"
    );
    assert!(breaker("steps = [{ state = \"open\" }]\n").starts_with("f.toml:6: a step has one action of call, hold"));
}

#[test]
fn what_does_not_belong_to_an_action_is_refused() {
    assert_eq!(
        breaker("steps = [{ reset = true, times = 3 }]\n"),
        "f.toml:6: `times` belongs to call, record, not to `reset`"
    );
    assert_eq!(breaker("steps = [{ end = \"a\" }]\n"), "f.toml:6: `end` wants `with`");
    assert_eq!(
        breaker("steps = [{ call = \"ok\", retry_after_seconds = 1 }]\n"),
        "f.toml:6: `retry_after_seconds` wants `refused`"
    );
    assert_eq!(
        refusal::<LoadBalancerScenario>("steps = [{ pick_times = 3 }]\n"),
        "f.toml:6: `pick_times` wants `counts`"
    );
    assert_eq!(refusal::<BudgetScenario>("steps = [{ retries = 3 }]\n"), "f.toml:6: `retries` wants `granted`");
    assert_eq!(
        refusal::<RetryScenario>("steps = [{ execute = [\"ok\"], calls = 1 }]\n"),
        "f.toml:6: `execute` wants `calls`, `sleeps_seconds` and `returns`"
    );
    assert_eq!(
        refusal::<ServiceProxyScenario>(
            "steps = [{ call = true, tries = \"a\", returns = \"ok\", cause = \"error\" }]\n"
        ),
        "f.toml:6: `cause` wants `returns` to be a refusal"
    );
}

#[test]
fn the_needs_are_exactly_what_the_steps_use() {
    assert_eq!(
        breaker("steps = [{ hold = \"a\" }, { drop = \"a\" }]\n"),
        "f.toml:3: its needs are [\"overlap\", \"cancel\"]"
    );
    assert_eq!(breaker("needs = [\"panic\"]\nsteps = [{ call = \"ok\" }]\n"), "f.toml:3: its needs are []");
    assert_eq!(
        refusal::<ServiceProxyScenario>("config = { attempt_timeout_seconds = 1 }\nsteps = []\n"),
        "f.toml:3: its needs are [\"stop_attempts\"]"
    );
    assert_eq!(refusal::<LoadBalancerScenario>("slow_start_seconds = 1\n"), "f.toml:3: its needs are [\"slow_start\"]");
}

#[test]
fn overlapping_calls_do_not_wait_before_a_retry() {
    let refused = refusal::<ServiceProxyScenario>("needs = [\"overlap\"]\nsteps = [{ hold = \"p\" }]\n");
    assert!(refused.starts_with("f.toml:3: where calls overlap"), "{refused}");
}

#[test]
fn a_wrong_configuration_is_refused_unless_the_scenario_is_about_it() {
    assert!(breaker("config = { failure_threshold = 0 }\n").contains("failure_threshold is 0; allowed: 1 or more"));
    assert_eq!(
        breaker(
            "config = { failure_threshold = 0 }\nconfig_error = \"failure_threshold\"\nsteps = [{ call = \"ok\" }]\n"
        ),
        "f.toml:8: nothing can happen after a config_error"
    );
}

#[test]
fn a_claim_is_made_once() {
    let twice = "[[scenario]]\nname = \"n\"\nrules = []\n";
    assert_eq!(breaker(twice), "f.toml:6: \"n\" is claimed twice");
}

#[test]
fn a_file_is_for_its_subject() {
    let wrong = ScenarioFile::<BudgetScenario>::parse("f.toml", "subject = \"retry\"\nscenario = []\n").unwrap_err();
    assert_eq!(wrong.to_string(), "f.toml:1: its subject is \"retry\", not \"budget\"");
    let missing = ScenarioFile::<BudgetScenario>::open("nowhere.toml").unwrap_err();
    assert!(missing.to_string().starts_with("conformance/nowhere.toml:0: "), "{missing}");
}
