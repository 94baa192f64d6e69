//! Times service-mesh beside its peers, in one run, and prints the table of COMPARE.md.
//!
//! Each figure is the median of many short samples, so that a sample in which the machine did something else does not
//! count. Threads are pinned: two threads that are woken together otherwise run on one core for milliseconds, and their
//! contention is not seen. With two threads the figure is core-nanoseconds for one operation, wall time x 2 / operations:
//! the same as with one thread is perfect, twice as much is serialised. After each row its state is asserted.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is its answer")]

mod peers;
mod stopwatch;

use std::collections::BTreeMap;
use std::env;
use std::process::Command;

use service_mesh_bench::{Row, rows};
use stopwatch::{Figures, measure};

fn main() {
    let only = env::args().nth(1).unwrap_or_default();
    let all: Vec<Row> = rows().into_iter().chain(peers::rows()).filter(|row| row.what.contains(&only)).collect();
    let mut order = Vec::new();
    let mut table: BTreeMap<&str, Vec<(&Row, Figures)>> = BTreeMap::new();
    for row in &all {
        let figures = measure(row);
        eprintln!("{:50} {:35} {figures:?}", row.what, row.who);
        if !table.contains_key(row.what) {
            order.push(row.what);
        }
        table.entry(row.what).or_default().push((row, figures));
    }
    println!("{}\n", conditions());
    println!("| what | who | one thread | two threads | bar | |\n|---|---|--:|--:|--:|---|");
    for what in order {
        let competitors = &table[what];
        let ours = competitors.iter().find(|(row, _)| row.who == "service-mesh").map(|(_, figures)| *figures);
        for (row, figures) in competitors {
            let contended = figures.contended.map_or_else(|| "–".to_owned(), number);
            let (alone, verdict) = (number(figures.alone), verdict(row, *figures, ours));
            println!("| {what} | {} | {alone} | {contended} | {} | {verdict} |", row.who, bar(row));
        }
    }
}

/// Where and when this was measured.
fn conditions() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let loadavg = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = loadavg.split(' ').next().unwrap_or("unknown");
    format!(
        "`make bench` on {cores} cores of {}, load average {load}, {}, {}. Nanoseconds.",
        model.map_or("an unknown processor", |(_, model)| model),
        said_by("rustc", "--version"),
        said_by("date", "+%F")
    )
}

fn said_by(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map_or_else(|_| program.to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn number(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}

fn bar(row: &Row) -> String {
    match row.bar {
        Some((alone, Some(contended))) => format!("{alone} / {contended}"),
        Some((alone, None)) => format!("{alone}"),
        None => String::new(),
    }
}

/// What is to be said of a row: ours may miss its bar, a peer may be faster.
fn verdict(row: &Row, figures: Figures, ours: Option<Figures>) -> String {
    let ratio = |peer: f64, ours: f64| peer / ours;
    match (row.bar, ours) {
        (Some((alone, contended)), _) => {
            let missed_alone = figures.alone > alone;
            let missed_contended = matches!((contended, figures.contended), (Some(bar), Some(got)) if got > bar);
            match (missed_alone, missed_contended) {
                (false, false) => String::new(),
                (true, false) => "**misses its bar** with one thread".to_owned(),
                (false, true) => "**misses its bar** with two threads".to_owned(),
                (true, true) => "**misses its bar** with one and two threads".to_owned(),
            }
        }
        (None, Some(ours)) if row.who != "service-mesh" => {
            let mut words = Vec::new();
            let pairs = [
                Some((figures.alone, ours.alone, "one")),
                figures.contended.zip(ours.contended).map(|(peer, ours)| (peer, ours, "two")),
            ];
            for (peer, ours, threads) in pairs.into_iter().flatten() {
                if ratio(peer, ours) < 0.95 {
                    words.push(format!("**faster than ours** with {threads}: x {:.2}", ratio(peer, ours)));
                }
            }
            words.join("; ")
        }
        _ => String::new(),
    }
}
