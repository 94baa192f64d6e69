//! `service-mesh run`.

use std::fmt::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use service_mesh::{ListenAddress, PolicyFile};
use tokio::runtime::Builder;

use super::outline::services;
use super::{Done, Trouble, failure, read, sidecar, tell};
use crate::footing;
use crate::launch::Launched;
use crate::quick::quick_policy;
use crate::signals::Signals;

/// Where one listens who does not say where. Nobody from outside comes in by it.
const LISTEN: &str = "127.0.0.1:8080";

/// Serve: by a policy file, or by what stands on the command line.
///
/// It serves until a signal ends it. SIGTERM tells clients first, and Ctrl-C does not; both finish what is in flight. A
/// second signal does not wait for that. SIGHUP, and a change of the file, put the policy in force anew.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// A policy file; or services, as NAME=HOST:PORT,HOST:PORT.
    #[arg(required = true, value_name = "FILE or NAME=HOST:PORT,…")]
    what: Vec<String>,
    /// Where to listen, without a policy file: IP:PORT, or unix:PATH. Default: 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Where the sidecar's own pages are, without a policy file: IP:PORT, or unix:PATH. Default: nowhere.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// How many threads serve. Default: one for each core.
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
}

impl Run {
    pub(super) fn run(self) -> Done {
        let (file, text) = self.policy()?;
        let sidecar = sidecar(&text, file.as_deref())?;
        let policy = sidecar.mesh().policy();
        if let Some(file) = &file {
            footing::check(&policy).map_err(|missing| Trouble::Input(format!("{} {missing}", file.display())))?;
        }
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failure)?;
        let ended = runtime.block_on(async {
            // Before anybody is let in: until then a signal would end the process as it stands.
            let signals = Signals::system().map_err(failure)?;
            let launched = Launched::launch(&sidecar, self.threads.unwrap_or(cores)).map_err(failure)?;
            tell(&greeting(&launched, &policy, file.as_deref()));
            let launched = match file {
                Some(file) => launched.following(file, text),
                None => launched,
            }
            .telling();
            Ok(launched.run(signals).await)
        })?;
        // What it still waits for (a file system, a name server) is of no use any more.
        runtime.shutdown_background();
        Ok(ExitCode::from(ended.code()))
    }

    /// The policy file, if it is one, and the text of the policy: of that, or what the command line stands for.
    fn policy(&self) -> Result<(Option<PathBuf>, String), Trouble> {
        match self.what.as_slice() {
            [file] if !file.contains('=') => {
                for (flag, is_given, section) in
                    [("--listen", !self.listen.is_empty(), "[listeners]"), ("--admin", self.admin.is_some(), "[admin]")]
                {
                    if is_given {
                        let wrong = format!("{flag} is for services on the command line; a policy file has {section}");
                        return Err(Trouble::Input(wrong));
                    }
                }
                Ok((Some(file.into()), read(Path::new(file))?))
            }
            services => {
                let listen = if self.listen.is_empty() { &[String::from(LISTEN)] } else { self.listen.as_slice() };
                let text = quick_policy(listen, self.admin.as_deref(), services).map_err(Trouble::Input)?;
                Ok((None, text))
            }
        }
    }
}

/// What is served, where, and how it ends.
fn greeting(launched: &Launched, policy: &PolicyFile, file: Option<&Path>) -> String {
    let mut text = String::new();
    for (name, address) in launched.listening() {
        let _ = writeln!(text, "listening on {address} ({name})");
    }
    for line in services(policy) {
        let _ = writeln!(text, "{line}");
    }
    let _ = match launched.admin() {
        Some(ListenAddress::Tcp(address)) => {
            writeln!(text, "admin: curl http://{address}/snapshot, or /metrics, /explain, /ready")
        }
        Some(address) => {
            let path = address.to_string();
            let path = path.trim_start_matches("unix:");
            writeln!(text, "admin: curl --unix-socket {path} http://localhost/snapshot, or /metrics, /explain, /ready")
        }
        None if file.is_some() => writeln!(text, "admin: none; [admin] would be one"),
        None => writeln!(text, "admin: none; --admin 127.0.0.1:9000 would be one"),
    };
    if let Some(file) = file {
        let _ = writeln!(text, "policy: a change of {}, or SIGHUP, puts it in force anew", file.display());
    }
    text.push_str("Ctrl-C ends it when what is in flight is finished; a second one at once");
    text
}
