//! Counts the instructions of each row under callgrind, and fails where a commit has made one dearer.
//!
//! Instructions are the same however busy the machine is, which no clock can say. Each row runs 10,000 times in a
//! process of its own, and only what is within `Row::run` is counted, so that it does not matter what it costs to start.
//! What was counted last is in `crates/bench/instructions.txt`; `record` writes it anew. The counts hold for the
//! compiler that they were recorded with.
#![expect(clippy::print_stdout, reason = "the counts are its answer")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fmt::Write as _, fs};

use service_mesh_bench::rows;

/// A row may be dearer than recorded by this share, and by one instruction at least.
const TOLERANCE: f64 = 0.05;
const TIMES: u64 = 10_000;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", row, times] => {
            let times = times.parse()?;
            let row = rows().into_iter().find(|known| known.what == row).ok_or("no such row")?;
            row.run(times);
            row.check();
            Ok(ExitCode::SUCCESS)
        }
        ["check"] => check(),
        ["record"] => record(),
        _ => Err("instructions check | record".into()),
    }
}

fn check() -> Result<ExitCode, Box<dyn Error>> {
    let recorded = recorded()?;
    let mut dearer = 0;
    println!("| instructions | recorded | now | |\n|---|--:|--:|---|");
    for row in rows() {
        let now = count(row.what)?;
        let (was, verdict) = match recorded.get(row.what) {
            Some(&was) if now > was + f64::max(1.0, was * TOLERANCE) => {
                dearer += 1;
                (was.to_string(), "**dearer**")
            }
            Some(&was) if now < was - f64::max(1.0, was * TOLERANCE) => (was.to_string(), "cheaper: record it"),
            Some(&was) => (was.to_string(), ""),
            None => {
                dearer += 1;
                ("–".to_owned(), "**not recorded**")
            }
        };
        println!("| {} | {was} | {now} | {verdict} |", row.what);
    }
    Ok(if dearer == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn record() -> Result<ExitCode, Box<dyn Error>> {
    let mut text = String::new();
    for row in rows() {
        let now = count(row.what)?;
        println!("{now:7} {}", row.what);
        writeln!(text, "{now} {}", row.what)?;
    }
    fs::write(thresholds(), text)?;
    Ok(ExitCode::SUCCESS)
}

fn thresholds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt")
}

fn recorded() -> Result<BTreeMap<String, f64>, Box<dyn Error>> {
    let mut recorded = BTreeMap::new();
    for line in fs::read_to_string(thresholds())?.lines() {
        let (count, row) = line.split_once(' ').ok_or("a line is a count and a row")?;
        recorded.insert(row.to_owned(), count.parse()?);
    }
    Ok(recorded)
}

/// Instructions of one run, to a tenth.
fn count(row: &str) -> Result<f64, Box<dyn Error>> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let each = collected(row)? as f64 / TIMES as f64;
    Ok((each * 10.0).round() / 10.0)
}

/// Instructions of all runs.
fn collected(row: &str) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*Row::run"])
        .arg(env::current_exe()?)
        .args(["run", row, &TIMES.to_string()])
        .output()
        .map_err(|error| format!("valgrind, which counts: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim().parse());
    match counted {
        Some(Ok(count)) if count > 0 && output.status.success() => Ok(count),
        _ => Err(format!("{row}: {said}").into()),
    }
}
