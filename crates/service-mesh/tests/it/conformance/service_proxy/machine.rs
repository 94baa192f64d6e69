//! A call by hand: `Call → Attempt → Verdict`, as any driver in any language would go.

use std::time::Duration;

use service_mesh::{Answer, Attempt, Call, CallOptions, Classify, ServiceProxy, Sleeping, Timestamp, Verdict};
use service_mesh_conformance::service_proxy::{CameBack, Ended};
use service_mesh_conformance::{Reply, ReplyKind};

use super::{Running, Said, Waits, stopped};
use crate::conformance::replies::{ByKind, Replied};

pub(super) struct Machine {
    waits: Waits,
    /// None when it is over.
    stage: Option<Stage>,
    /// The last error of the function.
    last: Option<ReplyKind>,
    /// The end of the present wait or time limit.
    alarm: Option<Sleeping>,
}

enum Stage {
    Ready { at: Timestamp, call: Call<ServiceProxy> },
    Tries(Attempt<ServiceProxy>),
}

impl Running for Machine {
    fn begin(proxy: &ServiceProxy, waits: &Waits, options: CallOptions) -> Self {
        let stage = Stage::Ready { at: waits.now(), call: proxy.begin_owned(&options) };
        Self { waits: waits.clone(), stage: Some(stage), last: None, alarm: None }
    }

    fn go_on(&mut self, reply: Option<Reply>) -> Option<Said> {
        match self.stage.take()? {
            Stage::Ready { at, call } if at <= self.waits.now() => Some(self.admit(call)),
            Stage::Tries(attempt) if reply.is_some() || attempt.time_left() == Some(Duration::ZERO) => {
                self.settle(attempt, reply)
            }
            waiting => {
                self.stage = Some(waiting);
                None
            }
        }
    }
}

impl Machine {
    fn admit(&mut self, call: Call<ServiceProxy>) -> Said {
        match call.admit() {
            Ok(attempt) => {
                let instance = attempt.instance().id.clone();
                self.alarm = attempt.time_left().map(|left| self.waits.alarm(left));
                self.stage = Some(Stage::Tries(attempt));
                Said::Tries(instance)
            }
            Err(refused) => self.ended(stopped(refused.kind()), refused.attempts()),
        }
    }

    /// The attempt has answered; or its time is up.
    fn settle(&mut self, attempt: Attempt<ServiceProxy>, reply: Option<Reply>) -> Option<Said> {
        let attempts = attempt.number();
        let Some(reply) = reply else {
            return match attempt.stop(Answer::failure()) {
                Ok((after, call)) => self.wait(after, call),
                Err(refused) => Some(self.ended(stopped(refused.kind()), refused.attempts())),
            };
        };
        let result = Replied::once(reply).returned();
        self.last = result.err().map(|error| error.kind()).or(self.last);
        match attempt.settle(ByKind.classify(&result)) {
            Verdict::Return => Some(self.ended(CameBack::Replied(reply.kind), attempts)),
            Verdict::Refused(refused) => Some(self.ended(stopped(refused.kind()), refused.attempts())),
            Verdict::Retry { after, call } => self.wait(after, call),
        }
    }

    fn wait(&mut self, after: Duration, call: Call<ServiceProxy>) -> Option<Said> {
        self.waits.note(after);
        self.alarm = Some(self.waits.alarm(after));
        self.stage = Some(Stage::Ready { at: self.waits.now().after(after), call });
        self.go_on(None)
    }

    fn ended(&self, came_back: CameBack, attempts: u32) -> Said {
        Said::Ended(Ended { came_back, cause: self.last, attempts: Some(attempts), story: None })
    }
}
