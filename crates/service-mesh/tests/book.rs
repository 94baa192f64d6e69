//! The tables of the guides are what the examples say that make them.
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

fn assert_stands_in(page: &str, name: &str, table: &str) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/book").join(page)).unwrap();
    let (_, stands, _) = page::around(&text, name).expect("the page has marks for the table");
    assert_eq!(stands, table, "the example of {page} writes it anew: see the head of its main.rs");
}
