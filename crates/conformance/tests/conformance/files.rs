//! The files of the repository.

use std::collections::{BTreeMap, BTreeSet};

use service_mesh_conformance::{Scenario, ScenarioFile, scenarios_directory};
use service_mesh_conformance::{
    budget::BudgetScenario, circuit_breaker::CircuitBreakerScenario, load_balancer::LoadBalancerScenario,
    retry::RetryScenario, service_proxy::ServiceProxyScenario,
};

/// The rules of each scenario of a file.
fn rules<S: Scenario>(file: &str) -> BTreeMap<String, Vec<String>> {
    let file = ScenarioFile::<S>::open(file).unwrap_or_else(|error| panic!("{error}"));
    file.scenarios().map(|scenario| (scenario.name().to_owned(), scenario.rules().to_vec())).collect()
}

fn all() -> Vec<(&'static str, BTreeMap<String, Vec<String>>)> {
    vec![
        ("circuit_breaker.toml", rules::<CircuitBreakerScenario>("circuit_breaker.toml")),
        ("windows.toml", rules::<CircuitBreakerScenario>("windows.toml")),
        ("load_balancer.toml", rules::<LoadBalancerScenario>("load_balancer.toml")),
        ("retry.toml", rules::<RetryScenario>("retry.toml")),
        ("budget.toml", rules::<BudgetScenario>("budget.toml")),
        ("service_proxy.toml", rules::<ServiceProxyScenario>("service_proxy.toml")),
    ]
}

#[test]
fn every_file_of_the_directory_is_read_and_makes_sense() {
    let there: BTreeSet<String> = std::fs::read_dir(scenarios_directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let known: BTreeSet<String> = all().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(there, known);
}

#[test]
fn every_rule_of_the_readme_is_shown_by_some_scenario_and_no_other_rule_is_named() {
    let readme = std::fs::read_to_string(scenarios_directory().join("README.md")).unwrap();
    // A row of the table of rules: `| 2.1 | …`.
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| "));
    let rule = |row: &str| row.split(' ').next().filter(|word| word.starts_with(char::is_numeric)).map(str::to_owned);
    let told: BTreeSet<String> = rows.filter_map(rule).collect();
    let shown: BTreeSet<String> = all().into_iter().flat_map(|(_, rules)| rules.into_values()).flatten().collect();
    assert_eq!(told, shown);
    for (file, scenarios) in all() {
        for (name, rules) in scenarios {
            assert!(!rules.is_empty(), "{file}: {name:?} names no rule");
        }
    }
}
