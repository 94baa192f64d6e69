//! Replays the scenarios of a circuit breaker against the peers and prints the table of COMPARE.md: who fails what.
//!
//! Every make is asked only what it can be configured to do, and only what can be seen of it from outside; see
//! [`script`]. Ours goes the same way, so that the table says nothing that is due to the way. All of it happens on a
//! [`clock`] that is moved by hand, which no peer offers.
#![deny(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is its answer")]

mod circuit;
mod clock;
mod makes;
mod script;

use std::error::Error;

use service_mesh_conformance::circuit_breaker::{CircuitBreakerScenario, replay};
use service_mesh_conformance::{Need, ScenarioFile};

use circuit::Circuit;
use makes::{MAKES, Make};
use script::Script;

/// What came of a scenario.
enum Verdict {
    Holds,
    Fails(String),
    CannotSay,
}

fn main() -> Result<(), Box<dyn Error>> {
    if !clock::is_ours() {
        return Err("the clock of this system does not ask the C library".into());
    }
    let mut table = Vec::new();
    for script in script::scripts()? {
        let mut verdicts = Vec::new();
        for make in &MAKES {
            verdicts.push(verdict(make, &script)?);
        }
        table.push((script.name, verdicts));
    }
    table.retain(|(_, verdicts)| verdicts[1..].iter().any(|verdict| !matches!(verdict, Verdict::CannotSay)));
    let failed = |(_, verdicts): &(String, Vec<Verdict>)| verdicts.iter().any(|v| matches!(v, Verdict::Fails(_)));

    println!("| of {} scenarios that a peer can be asked | {} |", table.len(), MAKES.map(|make| make.name).join(" | "));
    println!("|---|{}", "---|".repeat(MAKES.len()));
    for (word, is) in [("hold", 0), ("**fail**", 1), ("cannot be said", 2)] {
        let counts = (0..MAKES.len()).map(|make| {
            let kind = |verdict: &Verdict| match verdict {
                Verdict::Holds => 0,
                Verdict::Fails(_) => 1,
                Verdict::CannotSay => 2,
            };
            table.iter().filter(|(_, verdicts)| kind(&verdicts[make]) == is).count().to_string()
        });
        println!("| {word} | {} |", counts.collect::<Vec<_>>().join(" | "));
    }
    println!("\nThose that somebody fails:\n");
    println!("| scenario | {} |\n|---|{}", MAKES.map(|make| make.name).join(" | "), "---|".repeat(MAKES.len()));
    for (name, verdicts) in table.iter().filter(|row| failed(row)) {
        let cells = verdicts.iter().map(|verdict| match verdict {
            Verdict::Holds => "holds".to_owned(),
            Verdict::Fails(how) => format!("**fails**: {how}"),
            Verdict::CannotSay => "–".to_owned(),
        });
        println!("| `\"{name}\"` | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    if table.iter().any(|(_, verdicts)| matches!(verdicts[0], Verdict::Fails(_))) {
        return Err("ours does not hold what it asks of others".into());
    }
    Ok(())
}

fn verdict(make: &Make, script: &Script) -> Result<Verdict, Box<dyn Error>> {
    let file: ScenarioFile<CircuitBreakerScenario> =
        ScenarioFile::parse(make.name, script.text(make.tells_state)?).map_err(|error| error.to_string())?;
    // The configuration is known only to the replay: it is asked once whether the make can have it, then for good.
    let mut can = true;
    let _ = replay(&file, &[Need::Overlap, Need::Cancel], |given| {
        can = (make.new)(given.config).is_some();
        Circuit::new((MAKES[0].new)(given.config).expect("ours can have it"))
    });
    if !can {
        return Ok(Verdict::CannotSay);
    }
    let report = replay(&file, &[Need::Overlap, Need::Cancel], |given| {
        Circuit::new((make.new)(given.config).expect("it could be made before"))
    });
    Ok(match report.failures.first() {
        None => Verdict::Holds,
        Some(failure) => Verdict::Fails(format!("{}: {} instead of {}", failure.what, failure.got, failure.expected)),
    })
}
