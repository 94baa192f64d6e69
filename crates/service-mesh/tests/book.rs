//! The tables of the guides are what the examples say that make them, and programs of peers are those that are run.
#![cfg(not(loom))]

use std::fs;
use std::path::Path;

#[path = "../examples/strategies/page.rs"]
#[expect(dead_code, reason = "the examples write pages, and this test reads them")]
mod page;
#[path = "../examples/thresholds/recovery.rs"]
mod recovery;
#[path = "../examples/thresholds/rules.rs"]
mod rules;
#[path = "../examples/strategies/simulation.rs"]
mod simulation;
#[path = "../examples/thresholds/traffic.rs"]
mod traffic;

#[test]
fn the_table_of_strategies_is_what_the_simulation_says() {
    assert_stands_in("choosing-a-strategy.md", "strategies", &simulation::table());
}

#[test]
fn the_table_of_rules_is_what_the_simulation_says() {
    assert_stands_in("choosing-thresholds.md", "rules", &rules::table().unwrap());
}

#[test]
fn the_table_of_recovery_is_what_the_simulation_says() {
    assert_stands_in("choosing-thresholds.md", "recovery", &recovery::table().unwrap());
}

#[test]
fn the_programs_to_come_from_are_those_that_make_compare_runs() {
    let page = text("docs/book/coming-from.md");
    for program in ["failsafe", "tower_resilience"] {
        let program = text(&format!("peers/programs/examples/{program}.rs"));
        let (_, code) = program.split_once("\n\n").expect("a head, and a line between");
        assert!(page.contains(code), "the page must have this:\n{code}");
    }
}

fn assert_stands_in(page: &str, name: &str, table: &str) {
    let text = text(&format!("docs/book/{page}"));
    let (_, stands, _) = page::around(&text, name).expect("the page has marks for the table");
    assert_eq!(stands, table, "the example of {page} writes it anew: see the head of its main.rs");
}

/// A file of the repository.
fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}
