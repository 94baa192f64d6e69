//! Where the story is played: the servers, those who call, and the journal.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use service_mesh::{Event, ServiceInstance, ServiceProxy};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::caller::{Caller, Pace, call};
use crate::journal::Journal;
use crate::script::{self, Played};
use crate::server::Server;
use crate::speed::Speed;
use crate::{CALLERS, NAMES};

/// How often the line of progress changes.
const GLANCE: Duration = Duration::from_millis(100);

/// The servers, and the journal of what happens to them.
#[derive(Debug)]
pub struct Stage {
    servers: [Server; NAMES.len()],
    journal: Arc<Journal>,
    speed: Speed,
}

/// How the story ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every call was answered, and everybody's counts agree.
    Whole,
    /// A call failed, counts differ, or the script could not be played to its end.
    Lost,
    /// It was interrupted.
    Interrupted,
}

impl Stage {
    /// Starts the servers, on free ports of this machine. Must run in a tokio runtime.
    ///
    /// # Errors
    /// A port cannot be listened on.
    pub fn build(speed: Speed) -> io::Result<Self> {
        let [alpha, beta, gamma] = NAMES;
        let servers = [Server::start(alpha)?, Server::start(beta)?, Server::start(gamma)?];
        Ok(Self { servers, journal: Arc::new(Journal::new()), speed })
    }

    /// What a load balancer must know of the servers.
    pub fn instances(&self) -> [ServiceInstance; NAMES.len()] {
        self.servers.each_ref().map(Server::instance)
    }

    /// What the proxy's events must be told to: what it says of circuits is told at once. The proxy must explain every
    /// call, since its count of attempts is made of the stories.
    pub fn listener(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let journal = Arc::clone(&self.journal);
        move |event| journal.hear(event)
    }

    /// Tells something.
    pub fn say(&self, text: impl fmt::Display) {
        self.journal.say(text);
    }

    /// Plays the script while callers call, until it ends or `interrupt` does. Calls in flight are finished then.
    ///
    /// # Errors
    /// A server that is well was not trusted again, or a server could not be started again.
    pub async fn play<C: Caller>(
        &mut self,
        proxy: &ServiceProxy,
        caller: impl FnMut() -> C,
        interrupt: impl Future<Output = ()>,
    ) -> Played {
        // Before anybody calls, or the quickest answers would belong to no part and be missing from the sums.
        script::begin(&self.journal);
        let (stop, stopped) = watch::channel(false);
        let pace = Pace::new();
        let callers = std::iter::repeat_with(caller).take(CALLERS as usize);
        let callers: JoinSet<()> =
            callers.map(|caller| call(caller, pace.clone(), Arc::clone(&self.journal), stopped.clone())).collect();
        let journal = &*self.journal;
        let played = tokio::select! {
            played = script::play(&mut self.servers, proxy, journal, self.speed) => played,
            () = interrupt => {
                journal.interrupt();
                Ok(())
            }
            () = glance(journal, proxy) => Ok(()),
        };
        stop.send_replace(true);
        callers.join_all().await;
        journal.finish();
        played
    }

    /// Tells the sums. When nothing is under way any more, also at the proxy, they are complete.
    pub fn end(self, played: &Played) -> Ending {
        let counts = self.servers.each_ref().map(Server::counts);
        let ending = self.journal.end(counts);
        if let Err(error) = played {
            self.say(format_args!("the script could not be played to its end: {error}"));
            return Ending::Lost;
        }
        ending
    }
}

/// Keeps the line of progress.
async fn glance(journal: &Journal, proxy: &ServiceProxy) {
    let mut ticks = interval(GLANCE);
    loop {
        ticks.tick().await;
        journal.show(proxy);
    }
}

impl From<Ending> for ExitCode {
    /// 0, 1, or what shells give to what Ctrl-C ended: 130.
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Whole => Self::SUCCESS,
            Ending::Lost => Self::FAILURE,
            Ending::Interrupted => Self::from(130),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    /// Somebody who is answered at once.
    struct Quick;

    impl Caller for Quick {
        async fn ask(&mut self) -> Result<String, String> {
            Ok(String::from("beta"))
        }
    }

    #[tokio::test]
    async fn the_quickest_answer_is_among_the_sums() {
        let mut stage = Stage::build(Speed::default()).unwrap();
        let journal = Arc::clone(&stage.journal);
        // No answer can come earlier than that: the callers are only just being made.
        let caller = || {
            journal.answered("alpha");
            Quick
        };
        stage.play(&ServiceProxy::new("shop"), caller, ready(())).await.unwrap();
        assert_eq!(journal.answers()[0], u64::from(CALLERS));
    }
}
