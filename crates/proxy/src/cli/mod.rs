//! The command line.

mod outline;
mod run;

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use service_mesh::{Mistake, policy_file_schema};
use service_mesh_story::Speed;
use tokio::runtime::Builder;

use self::outline::Outline;
use self::run::Run;
use crate::demo;
use crate::footing;
use crate::sidecar::Sidecar;

/// Circuit breaking, balancing, retries and limits before any HTTP service.
///
/// Exit status: 0; 1 where something failed, or requests in flight were cut off at the end; 2 for a mistake in the
/// arguments or in a policy file.
#[derive(Debug, Parser)]
#[command(name = "service-mesh", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell a story: three servers in trouble, and callers before the sidecar who do not notice.
    Demo(Demo),
    /// Serve: by a policy file, or by what stands on the command line.
    Run(Run),
    /// Check a policy file: tell what it says, or every mistake in it.
    Check {
        /// The policy file.
        file: PathBuf,
    },
    /// Print the JSON Schema of the policy file.
    Schema,
}

/// Tell a story: three servers in trouble, and callers before the sidecar who do not notice.
///
/// Three servers of this process fail, hang, die and come back by script. Sixteen callers send them thousands of
/// requests through the sidecar, over sockets of this machine. It takes nine seconds and ends with the sums of callers,
/// sidecar and servers.
///
/// Exit status: 0 if every call was answered and all sums agree, 1 if not, 130 if Ctrl-C ended it (what is known until
/// then is told).
#[derive(Args, Debug)]
struct Demo {
    /// How fast: 0.1 leaves time to look around, 4 is the fastest.
    #[arg(long, default_value = "1")]
    speed: Speed,
}

impl Cli {
    /// Does what was asked for, and says how it ended, as its help tells.
    pub fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Demo(Demo { speed }) => demo(speed),
            Command::Run(run) => run.run(),
            Command::Check { file } => check(&file),
            Command::Schema => write(&policy_file_schema()),
        };
        done.unwrap_or_else(|trouble| {
            tell(&trouble);
            trouble.code()
        })
    }
}

type Done = Result<ExitCode, Trouble>;

/// Why it was not done.
#[derive(Debug)]
enum Trouble {
    /// What it was given is wrong.
    Input(String),
    /// What it was given is right, and yet it failed.
    Failure(String),
}

impl Trouble {
    fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Input(_) => 2,
            Self::Failure(_) => 1,
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Input(text) | Self::Failure(text)) = self;
        f.write_str(text)
    }
}

fn demo(speed: Speed) -> Done {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failure)?;
    let ending = runtime.block_on(demo::tell(speed)).map_err(failure)?;
    Ok(ending.into())
}

fn check(file: &Path) -> Done {
    let text = read(file)?;
    let sidecar = sidecar(&text, Some(file))?;
    let policy = sidecar.mesh().policy();
    let note = footing::check(&policy)
        .map_or_else(|missing| format!("  run would refuse it: it {missing}\n"), |()| String::new());
    write(&format!("{}: no mistake\n{}{note}", file.display(), Outline(&policy)))
}

/// The text of a policy file.
fn read(file: &Path) -> Result<String, Trouble> {
    let failed = |error| Trouble::Input(format!("{} cannot be read: {error}", file.display()));
    std::fs::read_to_string(file).map_err(failed)
}

/// A sidecar of this text, whose mistakes are told with their places in the file: a line for each.
fn sidecar(text: &str, file: Option<&Path>) -> Result<Sidecar, Trouble> {
    let told = |mistake: &Mistake| match file {
        Some(file) => format!("{}:{mistake}", file.display()),
        // Nobody has seen the text that a command line stands for.
        None => format!("{} {}", mistake.key(), mistake.message()),
    };
    Sidecar::from_policy(text).map_err(|error| {
        let mistakes: Vec<String> = error.mistakes().iter().map(told).collect();
        Trouble::Input(mistakes.join("\n"))
    })
}

/// Whoever closed the pipe does not want to read it.
fn write(text: &str) -> Done {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failure(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn failure(error: impl fmt::Display) -> Trouble {
    Trouble::Failure(error.to_string())
}

/// On the error output, each line with who says it.
fn tell(text: &impl fmt::Display) {
    let text = text.to_string();
    let mut out = io::stderr().lock();
    for line in text.lines() {
        let _ = writeln!(out, "service-mesh: {line}");
    }
}
