//! How a row is timed.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use service_mesh_bench::Row;

/// Short, so that most samples see no interruption.
const SAMPLE: Duration = Duration::from_millis(1);
const SAMPLES_ALONE: usize = 61;
const SAMPLES_CONTENDED: usize = 41;
const NANOSECONDS: f64 = 1e9;

/// What one operation costs, in ns of a core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) alone: f64,
    /// None where only one thread can do it, or there is only one core.
    pub(crate) contended: Option<f64>,
}

pub(crate) fn measure(row: &Row) -> Figures {
    pin(0);
    let times = enough(row);
    let alone =
        median((0..SAMPLES_ALONE).map(|_| time(row, times).as_secs_f64() * NANOSECONDS / float(times)).collect());
    let two_cores = thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) || pin(1);
    let contended = (row.shared && two_cores).then(|| {
        let sample = || together(row, times).as_secs_f64() * NANOSECONDS / float(times);
        median((0..SAMPLES_CONTENDED).map(|_| sample()).collect())
    });
    row.check();
    Figures { alone, contended }
}

/// How many runs fill a sample.
fn enough(row: &Row) -> u64 {
    let mut times = 1000;
    while time(row, times) < SAMPLE {
        times *= 2;
    }
    times
}

fn time(row: &Row, times: u64) -> Duration {
    let start = Instant::now();
    row.run(times);
    start.elapsed()
}

/// Two threads, each so many times; the time of the slower one, which is wall time x 2 / operations for each.
fn together(row: &Row, times: u64) -> Duration {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let threads = [0, 1].map(|core| {
            let start = &start;
            scope.spawn(move || {
                pin(core);
                start.wait();
                time(row, times)
            })
        });
        threads.into_iter().map(|thread| thread.join().expect("a row does not panic")).max().unwrap_or_default()
    })
}

/// Keeps this thread on one core. False where that is not possible.
fn pin(core: usize) -> bool {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).is_ok()
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(times: u64) -> f64 {
    times as f64
}
