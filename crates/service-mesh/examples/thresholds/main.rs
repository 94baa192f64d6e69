//! How soon each rule trips a circuit, how often it does so without need, and what open times and probes let through: in
//! virtual time. The tables stand in `docs/book/choosing-thresholds.md`.
//!
//! ```text
//! cargo run --release -p service-mesh --example thresholds
//! cargo run --release -p service-mesh --example thresholds -- docs/book/choosing-thresholds.md   # writes them there
//! ```

#[path = "../strategies/page.rs"]
mod page;
mod recovery;
mod rules;
mod traffic;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    page::tell("rules", &rules::table()?)?;
    page::tell("recovery", &recovery::table()?)?;
    Ok(())
}
