//! The retry budget. It has no drivers: whoever retries asks it.

use std::time::Duration;

use service_mesh::testing::ManualClock;
use service_mesh::{Environment, RetryBudget};
use service_mesh_conformance::budget::{Driver, replay};

struct Budget {
    clock: ManualClock,
    budget: RetryBudget,
}

impl Driver for Budget {
    fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    fn call(&mut self) {
        self.budget.deposit();
    }

    fn retry(&mut self) -> bool {
        self.budget.withdraw()
    }
}

#[test]
fn the_budget() {
    let start = |config: &service_mesh::RetryBudgetConfig| {
        let clock = ManualClock::new();
        let budget = RetryBudget::with_environment(config.clone(), Environment::manual(&clock));
        Budget { clock, budget }
    };
    replay(&super::open("budget.toml"), start).expect(&[]);
}
