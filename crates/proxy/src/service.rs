//! A service as the data plane sees it: who decides its calls, and how much of it is taken on.

use std::sync::Arc;
use std::time::Duration;

use service_mesh::{LimitsConfig, ServicePolicy, ServiceProxy, StatusRanges, TimeoutsConfig};

use crate::limits::Gate;

/// One service at one state of the policy. A reload makes a new one; the [`Gate`] and the proxy go on.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) proxy: ServiceProxy,
    pub(crate) timeouts: TimeoutsConfig,
    pub(crate) limits: LimitsConfig,
    /// The statuses after which another instance is asked.
    pub(crate) replayed: StatusRanges,
    /// How much of a request's body is kept.
    pub(crate) kept_bytes: usize,
    pub(crate) gate: Arc<Gate>,
}

/// Envoy's default, for whoever has set neither a time to connect nor one for the attempt.
const CONNECT: Duration = Duration::from_secs(5);

/// Below what common servers allow before they close an idle connection themselves (Node.js and uvicorn 5 s), so that
/// we close it first and no request meets the closing.
const IDLE: Duration = Duration::from_secs(4);

impl Service {
    pub(crate) fn new(proxy: ServiceProxy, policy: &ServicePolicy, gate: Arc<Gate>) -> Self {
        let replay = &policy.replay;
        Self {
            proxy,
            timeouts: policy.timeouts.clone(),
            limits: policy.limits.clone(),
            replayed: replay.statuses(),
            kept_bytes: usize::try_from(replay.body_bytes()).unwrap_or(usize::MAX),
            gate,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.proxy.name()
    }

    /// How long connecting may take, of an attempt that has `left`.
    pub(crate) fn connect_limit(&self, left: Option<Duration>) -> Duration {
        match (self.timeouts.connect(), left) {
            (Some(connect), Some(left)) => connect.min(left),
            (Some(limit), None) | (None, Some(limit)) => limit,
            (None, None) => CONNECT,
        }
    }

    /// How long a connection may lie unused before it is closed.
    pub(crate) fn idle_limit(&self) -> Duration {
        self.timeouts.idle().unwrap_or(IDLE)
    }
}
