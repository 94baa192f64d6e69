//! A call by hand: a permit, and its verdict.

use service_mesh::{CircuitBreaker, CircuitState, Classify, OwnedPermit};
use service_mesh_conformance::circuit_breaker::CameBack;
use service_mesh_conformance::{Refusal, Reply, ReplyKind};

use super::Running;
use crate::conformance::replies::{ByKind, Replied};

pub(super) struct Permit(OwnedPermit);

impl Running for Permit {
    fn begin(breaker: &CircuitBreaker) -> Result<(Self, CircuitState), Refusal> {
        match breaker.try_acquire_owned() {
            Ok(permit) => Ok((Self(permit), breaker.state())),
            Err(refusal) => Err(Refusal { reason: refusal.reason(), retry_after: refusal.retry_after() }),
        }
    }

    fn end(self, reply: ReplyKind) -> CameBack {
        let result = Replied::once(Reply::at_once(reply)).returned();
        self.0.settle(ByKind.classify(&result).outcome());
        CameBack::Replied(reply)
    }
}
