//! Writes the JSON Schema of the policy file to a path, as the repository has it:
//!
//! ```text
//! cargo run -p service-mesh --features schema --example policy_schema -- docs/policy.schema.json
//! ```

fn main() -> std::io::Result<()> {
    let Some(path) = std::env::args_os().nth(1) else {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "say where to write the schema"));
    };
    std::fs::write(path, service_mesh::policy_file_schema())
}
