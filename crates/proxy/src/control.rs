//! What surrounds the path of a request: who the instances are, how they are, what the sidecar tells of itself, and how it
//! begins anew or ends.
//!
//! It runs on a runtime of its own, away from the threads that serve: nothing here may slow a request down.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service_mesh::{
    AccessLogConfig, AdminConfig, DrainConfig, Environment, ListenAddress, Mesh, PolicyChanges, PolicyFile, Timestamp,
    read_policy_file,
};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::access_log::{AccessLog, Sink};
use crate::admin::{Admin, Bound, Stories};
use crate::discovery::Discovery;
use crate::drain::{Phase, Shutdown};
use crate::health::Health;
use crate::journal::{Journal, Level};
use crate::metrics::{Metrics, Text};
use crate::reload::{self, Read, Reloads, Watched};
use crate::sidecar::Sidecar;
use crate::signals::{Signal, Signals};

/// Puts a policy that was checked in force, listeners and services alike, or leaves everything as it was.
///
/// It is given the text and what it says. What it returns is what has changed, or why nothing has.
pub type Apply = Box<dyn FnMut(&str, &PolicyFile) -> Result<PolicyChanges, String> + Send>;

/// How often what is counted is looked through for who has gone, where nobody reads it.
const SWEEP: Duration = Duration::from_secs(600);

/// How long those who were cut off may take to notice.
const CUT: Duration = Duration::from_secs(1);

/// How long the end may wait for the last lines of the access log.
const FLUSH: Duration = Duration::from_secs(1);

/// Keeps a sidecar's surroundings as its policy says, until it ends.
pub struct Control {
    surroundings: Arc<Surroundings>,
    admin: Option<Admin>,
    apply: Apply,
    file: Option<(PathBuf, Watched)>,
}

/// What the pages tell of, and what keeps the instances. Shared by all connections to the pages.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) mesh: Mesh,
    pub(crate) stories: Stories,
    sidecar: Sidecar,
    journal: Journal,
    shutdown: Shutdown,
    environment: Environment,
    discovery: Mutex<Discovery>,
    health: Mutex<Health>,
    metrics: Mutex<Metrics>,
    reloads: Mutex<Reloads>,
}

/// How the sidecar ended. Its code is that of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight was finished. 0.
    Clean,
    /// The deadline came first, and what was left was cut off. 1.
    Cut,
    /// It was told a second time, and did not wait. 1.
    AtOnce,
}

impl Ended {
    /// The exit code of the process.
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Cut | Self::AtOnce => 1,
        }
    }
}

impl Control {
    /// Begins with what the policy in force says, and serves the pages. Must run in a tokio runtime, which runs all that
    /// follows; dropping the control ends it.
    ///
    /// Each [`Drain`](crate::Drain) of this `shutdown` holds up the end.
    ///
    /// # Errors
    /// The pages cannot be served where the policy wants them, or the access log cannot be written.
    pub fn start(sidecar: &Sidecar, shutdown: Shutdown, apply: Apply) -> Result<Self, String> {
        let mesh = sidecar.mesh();
        let environment = Environment::system();
        let journal = Journal::stderr();
        let surroundings = Arc::new(Surroundings {
            mesh: mesh.clone(),
            sidecar: sidecar.clone(),
            stories: Stories::default(),
            shutdown,
            discovery: Mutex::new(Discovery::new(environment.clone(), journal.clone())),
            health: Mutex::new(Health::new(environment.clone(), journal.clone())),
            metrics: Mutex::default(),
            reloads: Mutex::default(),
            environment,
            journal,
        });
        let policy = mesh.policy();
        let admin = policy.admin.as_ref().map(bind).transpose()?;
        sidecar.access_log().put(open(sidecar.access_log(), &policy.access_log)?);
        surroundings.follow();
        let admin = admin.map(|bound| bound.serve(&surroundings));
        Ok(Self { surroundings, admin, apply, file: None })
    }

    /// The same, which follows a file from now on: it has been read as this text, which is in force.
    #[must_use]
    pub fn following(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let path = path.into();
        *lock(&self.surroundings.reloads) = Reloads::of(Some(&path));
        self.file = Some((path, Watched::new(text.into())));
        self
    }

    /// The same, which also tells on the error output when a circuit changes its state, when an instance falls ill or
    /// recovers, and when discovery fails.
    #[must_use]
    pub fn telling(self) -> Self {
        self.surroundings.journal.tell_changes();
        self
    }

    /// Where the pages are served, if they are.
    pub fn admin_address(&self) -> Option<&ListenAddress> {
        self.admin.as_ref().map(Admin::address)
    }

    #[cfg(test)]
    pub(crate) fn admin(&mut self) -> &mut Admin {
        self.admin.as_mut().expect("the pages are served")
    }

    #[cfg(test)]
    pub(crate) fn surroundings(&self) -> &Arc<Surroundings> {
        &self.surroundings
    }

    #[cfg(test)]
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.surroundings.shutdown
    }

    /// Does what the file and the signals say, until one of them tells it to end and everything is over.
    ///
    /// It ends in this order: the pages say that it is not ready; after the delay (SIGTERM) or at once (SIGINT) nobody new
    /// is let in and connections end with the answer in flight; at the deadline what is left is cut. A second signal that
    /// tells it to end does not wait for any of it.
    pub async fn run(mut self, mut signals: Signals) -> Ended {
        let signal = self.serve(&mut signals).await;
        let drain = self.surroundings.mesh.policy().drain.clone();
        let ended = end(&self.surroundings.shutdown, &drain, signal, &mut signals).await;
        if ended != Ended::AtOnce {
            self.surroundings.sidecar.access_log().close(FLUSH);
        }
        self.surroundings.journal.close(FLUSH);
        ended
    }

    async fn serve(&mut self, signals: &mut Signals) -> Signal {
        let mut looks = interval(reload::PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweeps = interval(SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut at_once = false;
        loop {
            if !at_once {
                at_once = tokio::select! {
                    signal = signals.next() => match signal {
                        Signal::Reload => true,
                        end => return end,
                    },
                    _ = looks.tick(), if self.file.is_some() => false,
                    _ = sweeps.tick() => {
                        lock(&self.surroundings.metrics).forget_unread();
                        continue;
                    }
                };
            }
            let mut reload = std::pin::pin!(self.reload(std::mem::take(&mut at_once)));
            // Reading may hang, and whoever tells it to end is heard nevertheless.
            loop {
                tokio::select! {
                    () = &mut reload => break,
                    signal = signals.next() => match signal {
                        Signal::Reload => at_once = true,
                        end => return end,
                    },
                }
            }
        }
    }

    /// Looks at the file, and tries what it says if that is due.
    async fn reload(&mut self, at_once: bool) {
        let Some((path, watched)) = &mut self.file else {
            return self.surroundings.journal.tell(Level::Warn, "there is no policy file to be read again");
        };
        let read = {
            let path = path.clone();
            // A file system may hang; the checks of the instances should not hang with it.
            tokio::task::spawn_blocking(move || reload::read(&path)).await
        };
        let Ok(read) = read else { return };
        if watched.look(&read) || at_once {
            watched.tried(read.clone());
            let path = path.display().to_string();
            let result = self.put_in_force(&read);
            match &result {
                Ok(changes) => self.surroundings.journal.tell(Level::Info, format!("{path}: {changes}")),
                Err(why) => {
                    let line = format!("{path} is refused, what was in force stays:\n{why}");
                    self.surroundings.journal.tell(Level::Warn, line);
                }
            }
            lock(&self.surroundings.reloads).record(&result, self.surroundings.now());
        }
    }

    /// What has changed, or why nothing has.
    fn put_in_force(&mut self, read: &Read) -> Result<String, String> {
        let text = read.as_ref().map_err(Clone::clone)?;
        let policy = read_policy_file(text).map_err(|mistakes| match &self.file {
            Some((path, _)) => mistakes.of_file(path).to_string(),
            None => mistakes.to_string(),
        })?;
        // Everything that can fail comes first.
        let admin = self.admin_for(policy.admin.as_ref())?;
        // Also where nothing of it has changed: the file may have been moved away.
        let log = self.surroundings.sidecar.access_log();
        let sink = open(log, &policy.access_log)?;
        let changes = (self.apply)(text, &policy)?;
        log.put(sink);
        self.surroundings.follow();
        match admin {
            Change::None => {}
            Change::Bind(bound) => self.admin = Some(bound.serve(&self.surroundings)),
            Change::Remove => self.admin = None,
            Change::Token(config) => {
                if let Some(admin) = &mut self.admin {
                    admin.update(config);
                }
            }
        }
        Ok(changes.to_string())
    }

    /// What is to be done about the pages; another address is bound by now.
    fn admin_for(&self, config: Option<&AdminConfig>) -> Result<Change, String> {
        let present = self.admin.as_ref();
        match (present, config) {
            (None, None) => Ok(Change::None),
            (Some(_), None) => Ok(Change::Remove),
            (Some(present), Some(config)) if present.config() == config => Ok(Change::None),
            (Some(present), Some(config)) if present.config().address == config.address => {
                Ok(Change::Token(config.clone()))
            }
            (_, Some(config)) => bind(config).map(Change::Bind),
        }
    }
}

fn bind(config: &AdminConfig) -> Result<Bound, String> {
    Bound::bind(config).map_err(|error| format!("admin.address: cannot listen at {}: {error}", config.address))
}

fn open(log: &AccessLog, config: &AccessLogConfig) -> Result<Option<Sink>, String> {
    log.open(config).map_err(|error| {
        let path = config.path().unwrap_or_default();
        format!("access_log.path: cannot write to {path}: {error}")
    })
}

/// What is to be done about the pages.
enum Change {
    None,
    Bind(Bound),
    /// At the same place, for another token.
    Token(AdminConfig),
    Remove,
}

/// Ends, as [`Control::run`] says.
async fn end(shutdown: &Shutdown, drain: &DrainConfig, signal: Signal, signals: &mut Signals) -> Ended {
    let in_order = async {
        shutdown.enter(Phase::Leaving);
        if signal == Signal::Terminate {
            sleep(drain.delay()).await;
        }
        shutdown.enter(Phase::Closing);
        if timeout(drain.deadline(), shutdown.over()).await.is_ok() {
            return Ended::Clean;
        }
        shutdown.enter(Phase::Ended);
        let _ = timeout(CUT, shutdown.over()).await;
        Ended::Cut
    };
    tokio::select! {
        ended = in_order => ended,
        _ = signals.end() => {
            shutdown.enter(Phase::Ended);
            Ended::AtOnce
        }
    }
}

impl Surroundings {
    /// Goes on as the policy says that is in force now.
    fn follow(&self) {
        for fresh in lock(&self.metrics).follow(&self.mesh) {
            fresh.subscribe(self.stories.clone());
            fresh.subscribe(self.journal.clone());
        }
        lock(&self.discovery).follow(&self.mesh);
        lock(&self.health).follow(&self.mesh);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.environment.now()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.shutdown.phase()
    }

    pub(crate) fn discovery(&self) -> MutexGuard<'_, Discovery> {
        lock(&self.discovery)
    }

    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    pub(crate) fn reloads(&self) -> MutexGuard<'_, Reloads> {
        lock(&self.reloads)
    }

    /// All metrics.
    pub(crate) fn render(&self, text: &mut Text) {
        lock(&self.metrics).render(text);
        lock(&self.reloads).render(text);
        self.sidecar.render(text);
        let (written, dropped) = self.sidecar.access_log().counts();
        text.counter("service_mesh_access_log_lines_total", "Lines of the access log, by what became of them.");
        text.sample(&[("result", "written")], written);
        text.sample(&[("result", "dropped")], dropped);
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("surroundings", &self.surroundings)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
