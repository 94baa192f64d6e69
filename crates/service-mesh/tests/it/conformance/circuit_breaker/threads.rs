//! `execute_with`, each call on a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use service_mesh::{CircuitBreaker, CircuitState};
use service_mesh_conformance::circuit_breaker::CameBack;
use service_mesh_conformance::{Refusal, ReplyKind};

use super::{Running, answer, came_back, refused};
use crate::conformance::replies::ByKind;
use crate::conformance::turns::Turns;

pub(super) struct Thread(Turns<Said, ReplyKind>);

enum Said {
    Runs(CircuitState),
    Ended(CameBack),
}

impl Running for Thread {
    fn begin(breaker: &CircuitBreaker) -> Result<(Self, CircuitState), Refusal> {
        let breaker = breaker.clone();
        let thread = Turns::begin(move |turn| {
            let function = || answer(turn.ask(Said::Runs(breaker.state())));
            let call = || breaker.execute_with(&ByKind, function);
            Said::Ended(came_back(catch_unwind(AssertUnwindSafe(call))))
        });
        match thread.listen() {
            Said::Runs(state) => Ok((Self(thread), state)),
            Said::Ended(came_back) => Err(refused(came_back)),
        }
    }

    fn end(self, reply: ReplyKind) -> CameBack {
        match self.0.tell(reply) {
            Said::Ended(came_back) => came_back,
            Said::Runs(_) => panic!("the function ran twice"),
        }
    }
}
