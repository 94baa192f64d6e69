//! `call_with`, each call on a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use service_mesh::{Attempt, CallOptions, ServiceProxy};
use service_mesh_conformance::Reply;

use super::{Running, Said, Waits, ended};
use crate::conformance::replies::{ByKind, Replied};
use crate::conformance::turns::Turns;

pub(super) struct Thread {
    turns: Turns<Said, Reply>,
    /// It runs since it was begun, and has said nothing yet.
    fresh: bool,
}

impl Running for Thread {
    fn begin(proxy: &ServiceProxy, _: &Waits, options: CallOptions) -> Self {
        let proxy = proxy.clone();
        let turns = Turns::begin(move |turn| {
            let options = options.classify(ByKind);
            let function = |attempt: &Attempt<&ServiceProxy>| {
                Replied::once(turn.ask(Said::Tries(attempt.instance().id.clone()))).answer()
            };
            ended(catch_unwind(AssertUnwindSafe(|| proxy.call_with(&options, function))))
        });
        Self { turns, fresh: true }
    }

    fn go_on(&mut self, reply: Option<Reply>) -> Option<Said> {
        if std::mem::take(&mut self.fresh) {
            return Some(self.turns.listen());
        }
        reply.map(|reply| self.turns.tell(reply))
    }
}
