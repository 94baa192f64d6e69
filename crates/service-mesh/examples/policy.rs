//! Services from a policy file, a reload that changes one of them under way, and a reload that is refused:
//!
//! ```text
//! cargo run -p service-mesh --features policy_file --example policy
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use service_mesh::Mesh;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/mesh.toml");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mesh = Mesh::from_path(FILE)?;
    let payments = mesh.service("payments").ok_or("the file has payments")?;

    // `a` is down: its circuit trips after three failures.
    for _ in 0..8 {
        let answer = payments.call(|attempt| match attempt.instance().id.as_str() {
            "a" => Err("connection refused"),
            _ => Ok("paid"),
        });
        assert_eq!(answer, Ok("paid"));
    }
    let state = || payments.instance_circuit_breaker("a").map(|circuit| circuit.state().to_string());
    println!("the circuit of a: {}", state().unwrap_or_default());

    // Another threshold: the circuit goes on as it is, and is judged by the new one from now on.
    let text = std::fs::read_to_string(FILE)?;
    println!("reloaded: {}", mesh.reload(&text.replace("failure_threshold = 3", "failure_threshold = 5"))?);
    println!("the circuit of a: {}", state().unwrap_or_default());

    // Mistakes are told with their places, and change nothing.
    if let Err(error) = mesh.reload(&text.replace("max_retries = 2", "max_retires = 2").replace("weighted", "heavy")) {
        println!("refused:\n{error}");
    }
    Ok(())
}
