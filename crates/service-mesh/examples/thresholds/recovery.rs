//! What open times and probes let through while a service is down, and how late they notice that it is well again.

use std::fmt::Write;
use std::time::Duration;

use service_mesh::{CircuitBreakerConfig, CircuitState, ConfigError};

use crate::traffic::Traffic;

const CALLS_A_SECOND: u32 = 10;
/// It is down for that long, and 7 seconds longer in each further run, so that it comes back at any time of an open time.
const DOWN: Duration = Duration::from_secs(600);
const LONGER: Duration = Duration::from_secs(7);
const RUNS: u32 = 9;
const HOUR: Duration = Duration::from_secs(3_600);

/// The table of the page.
pub(crate) fn table() -> Result<String, ConfigError> {
    let mut table = String::from(
        "| `timeout` | `timeout_multiplier` | `success_threshold` | down: calls that fail | then well: Closed within | half \
         of all fail: calls that fail |\n|--:|--:|--:|--:|--:|--:|\n",
    );
    for (timeout, multiplier, success_threshold) in
        [(5, 1.0, 2), (30, 1.0, 1), (30, 1.0, 2), (30, 1.0, 10), (5, 2.0, 2), (5, 2.0, 10)]
    {
        let config = CircuitBreakerConfig::builder()
            .timeout(Duration::from_secs(timeout))
            .timeout_multiplier(multiplier)
            .timeout_max(Duration::from_secs(120))
            .success_threshold(success_threshold)
            .build()?;
        let (down, closed_within) = through(&config, 1.0);
        let (half, _) = through(&config, 0.5);
        writeln!(
            table,
            "| {timeout} s | {multiplier} | {success_threshold} | {down} | {:.0} s | {half} |",
            closed_within.as_secs_f64(),
        )
        .expect("a string takes everything");
    }
    Ok(table)
}

/// How many calls reach the service and fail, in the median run, while this share of them does; and how long it takes at
/// most to be Closed after.
fn through(config: &CircuitBreakerConfig, failure_ratio: f64) -> (u32, Duration) {
    let (mut counts, mut longest) = (Vec::new(), Duration::ZERO);
    for run in 0..RUNS {
        let traffic = Traffic::new(config.clone(), CALLS_A_SECOND, u64::from(run));
        let mut failed = 0;
        let _ = traffic.run(DOWN + LONGER * run, failure_ratio, |_, reached_and_failed| {
            failed += u32::from(reached_and_failed);
            true
        });
        counts.push(failed);
        let closed = traffic.run(HOUR, 0.0, |breaker, _| breaker.state() != CircuitState::Closed);
        longest = longest.max(closed.expect("a service that is well is found out"));
    }
    counts.sort_unstable();
    (counts[counts.len() / 2], longest)
}
