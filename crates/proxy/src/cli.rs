//! The command line.

use std::error::Error;
use std::io::{self, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::{Args, Parser, Subcommand};
use service_mesh::policy_file_schema;
use tokio::runtime::Builder;

use crate::control::{Control, Ended};
use crate::drain::Shutdown;
use crate::quick::quick_policy;
use crate::server::Server;
use crate::sidecar::Sidecar;
use crate::signals::Signals;

/// Where one listens who does not say where. Nobody from outside comes in by it.
const LISTEN: &str = "127.0.0.1:8080";

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
    /// Does what was asked for, and says how it ended: 0; 1 after a mistake, which is told on the error
    /// output, or where requests in flight were cut off at the deadline; 2 where a second signal did not wait for them.
    pub fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Run(run) => run.run(),
            Command::Check { file } => check(&file),
            Command::Schema => write(&policy_file_schema()),
        };
        match done {
            Ok(code) => code,
            Err(error) => {
                tell(&error.to_string());
                ExitCode::FAILURE
            }
        }
    }
}

type Done = Result<ExitCode, Box<dyn Error>>;

fn check(file: &Path) -> Done {
    let policy = service_mesh::Mesh::from_path(file)?.policy();
    let count = policy.services.len();
    write(&format!("{}: {count} service{}, no mistake\n", file.display(), if count == 1 { "" } else { "s" }))
}

fn write(text: &str) -> Done {
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

impl Run {
    fn run(self) -> Done {
        let (file, text) = self.policy()?;
        let sidecar = Sidecar::from_policy(&text)?;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let server = Server::bind(&sidecar, self.threads.unwrap_or(cores))?;
        for (name, address) in server.addresses() {
            tell(&format!("{name} listens on {address}"));
        }
        let (shutdown, drain) = Shutdown::new();
        let (listeners, threads) = server.start(&drain)?.split();
        drop(drain);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let ended = runtime.block_on(async {
            let control = Control::start(&sidecar, shutdown, listeners.applying(&sidecar))?;
            if let Some(address) = control.admin_address() {
                tell(&format!("admin listens on {address}"));
            }
            let control = match file {
                Some(file) => control.following(file, text),
                None => control,
            };
            Ok::<_, Box<dyn Error>>(control.run(Signals::system()?).await)
        })?;
        // What it still waits for (a file system, a name server) is of no use any more.
        runtime.shutdown_background();
        if ended != Ended::AtOnce {
            threads.join();
        }
        Ok(ExitCode::from(ended.code()))
    }

    /// The policy file, if it is one, and the text of the policy: of that, or what the command line stands for.
    fn policy(&self) -> Result<(Option<PathBuf>, String), Box<dyn Error>> {
        match self.what.as_slice() {
            [file] if !file.contains('=') => {
                if !self.listen.is_empty() {
                    return Err("--listen is for services on the command line; a policy file has [listeners]".into());
                }
                let text = std::fs::read_to_string(file).map_err(|error| format!("{file} cannot be read: {error}"))?;
                Ok((Some(file.into()), text))
            }
            services => {
                let listen = if self.listen.is_empty() { &[String::from(LISTEN)] } else { self.listen.as_slice() };
                Ok((None, quick_policy(listen, services)?))
            }
        }
    }
}

fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "service-mesh: {line}");
}
