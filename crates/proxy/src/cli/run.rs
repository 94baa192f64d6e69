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

/// How a service is written on the command line.
const SERVICE: &str = "NAME=HOST:PORT,HOST:PORT";

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
                        return Err(Trouble::Input(format!(
                            "{flag} is for services on the command line, {SERVICE}; {file} would be a policy file, \
                             which has {section}"
                        )));
                    }
                }
                let path = Path::new(file);
                let text = read(path).map_err(|trouble| {
                    if path.exists() {
                        return trouble;
                    }
                    Trouble::Input(format!("{trouble}; a service would be {SERVICE}"))
                })?;
                Ok((Some(path.to_owned()), text))
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
        Some(address) => writeln!(text, "admin: {}", pages(address, policy)),
        None if file.is_some() => writeln!(text, "admin: none; [admin] would be one"),
        None => writeln!(text, "admin: none; --admin 127.0.0.1:9000 would be one"),
    };
    if let Some(file) = file {
        let _ = writeln!(text, "policy: a change of {}, or SIGHUP, puts it in force anew", file.display());
    }
    text.push_str("Ctrl-C ends it when what is in flight is finished; a second one at once");
    text
}

/// How the sidecar's own pages are asked for, and which there are: stories only where some are kept.
fn pages(address: &ListenAddress, policy: &PolicyFile) -> String {
    let has_token = policy.admin.as_ref().is_some_and(|admin| admin.token.is_some());
    let token = if has_token { "-H 'Authorization: Bearer TOKEN' " } else { "" };
    let place = match address {
        ListenAddress::Tcp(address) => format!("http://{address}"),
        other => format!("--unix-socket {} http://localhost", other.to_string().trim_start_matches("unix:")),
    };
    let has_stories = policy.services.values().any(|service| service.explain_ratio > 0.0);
    let explain = if has_stories { ", /explain" } else { "" };
    format!("curl {token}{place}/snapshot, or /metrics{explain}, /ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_asked_for_as_they_let_one_in() {
        let told = |text: &str| {
            let policy = service_mesh::read_policy_file(text).unwrap();
            pages(&policy.admin.as_ref().unwrap().address, &policy)
        };
        assert_eq!(
            told("[admin]\naddress = '127.0.0.1:9000'"),
            "curl http://127.0.0.1:9000/snapshot, or /metrics, /ready"
        );
        assert_eq!(
            told("[admin]\naddress = '127.0.0.1:9000'\ntoken = '0123456789abcdef'\n[services.a]\nexplain_ratio = 0.1"),
            "curl -H 'Authorization: Bearer TOKEN' http://127.0.0.1:9000/snapshot, or /metrics, /explain, /ready"
        );
        assert_eq!(
            told("[admin]\naddress = 'unix:/run/mesh.sock'"),
            "curl --unix-socket /run/mesh.sock http://localhost/snapshot, or /metrics, /ready"
        );
    }
}
