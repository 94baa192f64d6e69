//! What each strategy makes of the same five instances, in virtual time: alike, of different sizes, with one that slows,
//! with one that fails at once, and with caches. The table stands in `docs/book/choosing-a-strategy.md`.
//!
//! ```text
//! cargo run --release -p service-mesh --example strategies
//! cargo run --release -p service-mesh --example strategies -- docs/book/choosing-a-strategy.md   # writes it there
//! ```

mod page;
mod simulation;

fn main() -> std::io::Result<()> {
    page::tell("strategies", &simulation::table())
}
