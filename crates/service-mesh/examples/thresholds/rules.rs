//! How soon each rule trips.

use std::fmt::Write;
use std::time::Duration;

use service_mesh::{CircuitBreaker, CircuitBreakerConfig, CircuitState, ConfigError, CountWindow, TimeWindow};

use crate::traffic::Traffic;

/// What a service fails by chance while it is well.
const WELL: f64 = 0.001;
/// How long it has been well: long enough to fill each of the windows.
const WARM_UP: Duration = Duration::from_secs(15);
const WARM_UP_CALLS: u32 = 150;
const PATIENCE: Duration = Duration::from_secs(600);
const OUTAGE: Duration = Duration::from_secs(2);
const RUNS: u64 = 9;
const LOADS: [u32; 2] = [1, 100];

/// The table of the page.
pub(crate) fn table() -> Result<String, ConfigError> {
    let mut table = String::from(
        "| rule | calls a second | 10 % fail | 30 % fail | 60 % fail | all fail | all fail for 2 s |\n\
         |---|--:|--:|--:|--:|--:|--:|\n",
    );
    for (rule, config) in rules()? {
        for load in LOADS {
            write!(table, "| {rule} | {load} |").expect("a string takes everything");
            for failure_ratio in [0.1, 0.3, 0.6, 1.0] {
                write!(table, " {} |", trips(&config, load, failure_ratio, PATIENCE)).expect("the same");
            }
            writeln!(table, " {} |", trips(&config, load, 1.0, OUTAGE)).expect("the same");
        }
    }
    Ok(table)
}

fn rules() -> Result<[(&'static str, CircuitBreakerConfig); 7], ConfigError> {
    let in_a_row = |threshold| CircuitBreakerConfig::builder().failure_threshold(threshold).build();
    let count = |size| {
        let window = CountWindow::builder().size(size).minimum_calls(10).failure_ratio(0.5).build()?;
        CircuitBreakerConfig::builder().consecutive(false).count_window(window).build()
    };
    let time = |minimum_calls| {
        let window = TimeWindow::builder().minimum_calls(minimum_calls).failure_ratio(0.5).build()?;
        CircuitBreakerConfig::builder().consecutive(false).time_window(window).build()
    };
    let both = {
        let window = TimeWindow::builder().minimum_calls(20).failure_ratio(0.5).build()?;
        CircuitBreakerConfig::builder().failure_threshold(20).time_window(window).build()?
    };
    Ok([
        ("5 in a row", in_a_row(5)?),
        ("10 in a row", in_a_row(10)?),
        ("half of the last 20", count(20)?),
        ("half of the last 100", count(100)?),
        ("half of 10 s, at least 5 calls", time(5)?),
        ("half of 10 s, at least 20 calls", time(20)?),
        ("the same, and 20 in a row", both),
    ])
}

/// The median time to the trip; or, where fewer than half of the runs saw one, how many did.
fn trips(config: &CircuitBreakerConfig, load: u32, failure_ratio: f64, time: Duration) -> String {
    let closed = |breaker: &CircuitBreaker, _| breaker.state() == CircuitState::Closed;
    let run = |seed| {
        let traffic = Traffic::new(config.clone(), load, seed);
        let warm_up = WARM_UP.max(Duration::from_secs(1) * WARM_UP_CALLS / load);
        assert_eq!(traffic.run(warm_up, WELL, closed), None, "nothing has failed yet");
        traffic.run(time, failure_ratio, closed)
    };
    let mut times: Vec<_> = (0..RUNS).filter_map(run).collect();
    times.sort_unstable();
    match times.get(usize::try_from(RUNS / 2).expect("a handful")) {
        Some(median) if *median < Duration::from_secs(10) => format!("{:.2} s", median.as_secs_f64()),
        Some(median) => format!("{:.0} s", median.as_secs_f64()),
        None if times.is_empty() => "never".into(),
        None => format!("{} of {RUNS}", times.len()),
    }
}
