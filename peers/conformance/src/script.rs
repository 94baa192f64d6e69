//! The scenarios, as far as a peer can be asked about them.

use std::error::Error;
use std::{fs, path::Path};

use service_mesh_conformance::scenarios_directory;
use toml::{Table, Value};

/// What no peer can do, or not all of them in one way.
const ACTIONS: [&str; 5] = ["can_execute", "record", "force", "reset", "update_config"];
/// Answers that a predicate of errors cannot tell apart.
const REPLIES: [&str; 4] = ["panic", "refusal", "bad_value", "accepted_error"];
/// What is not to be seen from outside.
const EXPECTATIONS: [&str; 7] = [
    "failure_count",
    "success_count",
    "half_open_calls",
    "late_outcomes",
    "events",
    "retry_after_seconds",
    "state_during",
];

/// A scenario, with what every make can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) name: String,
    scenario: Table,
}

/// The scenarios of all files that ask nothing which no peer can do.
pub(crate) fn scripts() -> Result<Vec<Script>, Box<dyn Error>> {
    let mut scripts = Vec::new();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios.toml");
    let files = ["windows.toml", "circuit_breaker.toml"].map(|file| scenarios_directory().join(file));
    for file in [own].into_iter().chain(files) {
        let mut table: Table = fs::read_to_string(&file)?.parse()?;
        let Some(Value::Array(scenarios)) = table.remove("scenario") else { return Err("no scenarios".into()) };
        scripts.extend(scenarios.into_iter().filter_map(Script::new));
    }
    Ok(scripts)
}

impl Script {
    fn new(scenario: Value) -> Option<Self> {
        let Value::Table(mut scenario) = scenario else { return None };
        let name = scenario.get("name")?.as_str()?.to_owned();
        if scenario.contains_key("listener") || scenario.contains_key("config_error") {
            return None;
        }
        for step in steps(&mut scenario) {
            let replies = ["call", "with"].map(|key| step.get(key).and_then(Value::as_str));
            let unknown = replies.into_iter().flatten().any(|reply| REPLIES.contains(&reply));
            if unknown || ACTIONS.iter().any(|action| step.contains_key(*action)) {
                return None;
            }
            for expectation in EXPECTATIONS {
                step.remove(expectation);
            }
            if step.contains_key("refused") {
                step.insert("refused".to_owned(), "open".into());
            }
        }
        Some(Self { name, scenario })
    }

    /// A file of this scenario alone. Of a make that does not tell its state, an open one is asked to refuse a call,
    /// and one that is closed in the end to admit one.
    pub(crate) fn text(&self, tells_state: bool) -> Result<String, toml::ser::Error> {
        let mut scenario = self.scenario.clone();
        if !tells_state {
            let mut asked = Vec::new();
            let last = steps(&mut scenario).count();
            for (step, number) in steps(&mut scenario).zip(1..) {
                let state = step.remove("state");
                asked.push(Value::Table(step.clone()));
                match state.as_ref().and_then(Value::as_str) {
                    Some("open") => asked.push(call(Some("open"))),
                    Some("closed") if number == last => asked.push(call(None)),
                    _ => {}
                }
            }
            scenario.insert("steps".to_owned(), Value::Array(asked));
        }
        let mut file = Table::new();
        file.insert("subject".to_owned(), "circuit_breaker".into());
        file.insert("scenario".to_owned(), Value::Array(vec![Value::Table(scenario)]));
        toml::to_string(&file)
    }
}

fn steps(scenario: &mut Table) -> impl Iterator<Item = &mut Table> {
    let steps = scenario.get_mut("steps").and_then(Value::as_array_mut);
    steps.into_iter().flatten().filter_map(Value::as_table_mut)
}

fn call(refused: Option<&str>) -> Value {
    let mut step = Table::new();
    step.insert("call".to_owned(), "ok".into());
    if let Some(reason) = refused {
        step.insert("refused".to_owned(), reason.into());
    }
    Value::Table(step)
}
