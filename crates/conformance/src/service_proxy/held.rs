//! The held calls of a scenario.

use std::collections::{BTreeMap, BTreeSet};

use super::driver::Driver;
use crate::expect::{Checked, same};

/// How many attempts of each were seen, and the ids of the instances that are registered.
#[derive(Default)]
pub(super) struct Held {
    pub(super) running: BTreeMap<String, usize>,
    pub(super) ids: BTreeSet<String>,
}

/// The law of every step after which no call is running.
pub(super) fn everything_was_given_back(held: &Held, driver: &mut impl Driver) -> Checked {
    same("half_open_calls with no call running", &0, &driver.service().half_open_calls)?;
    for id in &held.ids {
        same(&format!("leased of {id} with no call running"), &0, &driver.leased(id))?;
        let places = driver.instance(id).map_or(0, |reading| reading.half_open_calls);
        same(&format!("half_open_calls of {id} with no call running"), &0, &places)?;
    }
    Ok(())
}
