//! What the sidecar itself answers, when it is not the service that does: who refused, why, and when to come back.
//!
//! A caller must be able to tell "the service says 503" from "the sidecar did not ask it". So every such answer has a
//! header `x-service-mesh-refused` with one word, and a small JSON body.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};
use service_mesh::CallErrorKind;

use crate::access_log::Told;

/// The header that tells an answer of the sidecar from one of the service. Its value is one of [`Reason`]'s words.
pub const REFUSED: HeaderName = HeaderName::from_static("x-service-mesh-refused");

/// Why the sidecar answered itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The request is no proper HTTP, or ambiguous; the body says by which rule. 400, or as the rule says.
    BadRequest,
    /// No route fits the request. 404.
    NoRoute,
    /// The body is larger than the limit. 413.
    BodyTooLarge,
    /// The service takes no more requests at the moment: limit and queue are full. 503.
    Overloaded,
    /// A circuit is open. 503.
    CircuitOpen,
    /// No instance is there that could be asked. 503.
    NoHealthyInstance,
    /// No connection to the instance came about. 502.
    ConnectFailed,
    /// The connection broke before there was an answer. 502.
    ConnectionLost,
    /// The instance's answer is no proper HTTP. 502.
    BadResponse,
    /// The attempt took longer than one may. 504.
    AttemptTimedOut,
    /// The call took longer than it may. 504.
    DeadlineExceeded,
    /// The request has been through too many proxies: it goes in a circle. 508.
    Loop,
}

impl Reason {
    pub(crate) const ALL: [Self; 12] = [
        Self::BadRequest,
        Self::NoRoute,
        Self::BodyTooLarge,
        Self::Overloaded,
        Self::CircuitOpen,
        Self::NoHealthyInstance,
        Self::ConnectFailed,
        Self::ConnectionLost,
        Self::BadResponse,
        Self::AttemptTimedOut,
        Self::DeadlineExceeded,
        Self::Loop,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NoRoute => "no_route",
            Self::BodyTooLarge => "body_too_large",
            Self::Overloaded => "overloaded",
            Self::CircuitOpen => "circuit_open",
            Self::NoHealthyInstance => "no_healthy_instance",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectionLost => "connection_lost",
            Self::BadResponse => "bad_response",
            Self::AttemptTimedOut => "attempt_timed_out",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Loop => "loop",
        }
    }

    /// The status that it is answered with, unless a rule has one of its own.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded | Self::CircuitOpen | Self::NoHealthyInstance => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectFailed | Self::ConnectionLost | Self::BadResponse => StatusCode::BAD_GATEWAY,
            Self::AttemptTimedOut | Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
        }
    }
}

/// How often the sidecar has answered itself, by why.
#[derive(Debug, Default)]
pub(crate) struct Refusals(
    /// In the order of [`Reason::ALL`].
    ///
    /// Ordering: Relaxed; counts that are told.
    [AtomicU64; Reason::ALL.len()],
);

impl Refusals {
    pub(crate) fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that there were.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let counts = Reason::ALL.into_iter().zip(&self.0);
        counts.map(|(reason, count)| (reason, count.load(Ordering::Relaxed))).filter(|(_, count)| *count > 0)
    }
}

/// An answer of the sidecar itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) status: StatusCode,
    message: Cow<'static, str>,
    pub(crate) service: Option<Box<str>>,
    instance: Option<Box<str>>,
    attempts: u32,
    retry_after: Option<Duration>,
    /// The connection cannot go on, since nobody knows where the next request on it would begin.
    closes: bool,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            status: reason.status(),
            message: message.into(),
            service: None,
            instance: None,
            attempts: 0,
            retry_after: None,
            closes: false,
        }
    }

    /// What the call machine said, where it ended the call.
    pub(crate) fn of_call(kind: &CallErrorKind) -> Self {
        let reason = match kind {
            CallErrorKind::CircuitOpen(_) => Reason::CircuitOpen,
            CallErrorKind::NoHealthyInstance(_) => Reason::NoHealthyInstance,
            CallErrorKind::AttemptTimedOut => Reason::AttemptTimedOut,
            CallErrorKind::DeadlineExceeded => Reason::DeadlineExceeded,
            _ => Reason::ConnectionLost,
        };
        let refusal = Self::new(reason, kind.to_string());
        match kind {
            CallErrorKind::CircuitOpen(error) => Self { retry_after: error.retry_after(), ..refusal },
            _ => refusal,
        }
    }

    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn of_service(mut self, service: &str) -> Self {
        self.service = Some(service.into());
        self
    }

    pub(crate) fn at_instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.into());
        self
    }

    pub(crate) fn after_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub(crate) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// What of it belongs into the access log.
    pub(crate) fn tell(&self, told: &mut Told) {
        (told.status, told.refused, told.attempts) = (self.status.as_u16(), Some(self.reason.as_str()), self.attempts);
        told.service = self.service.as_deref().map(String::from);
        told.instance = self.instance.as_deref().map(String::from);
    }

    pub(crate) fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(self.body());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(REFUSED, HeaderValue::from_static(self.reason.as_str()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn body(&self) -> Bytes {
        let mut body = Map::new();
        body.insert(String::from("refused"), self.reason.as_str().into());
        body.insert(String::from("message"), Value::from(&*self.message));
        if let Some(service) = &self.service {
            body.insert(String::from("service"), Value::from(&**service));
        }
        if let Some(instance) = &self.instance {
            body.insert(String::from("instance"), Value::from(&**instance));
        }
        if self.attempts > 0 {
            body.insert(String::from("attempts"), self.attempts.into());
        }
        if let Some(wait) = self.retry_after {
            body.insert(String::from("retry_after_seconds"), whole_seconds(wait).into());
        }
        let mut text = Value::from(body).to_string();
        text.push('\n');
        Bytes::from(text)
    }
}

/// Never early: part of a second is a second.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_why() {
        let refusals = Refusals::default();
        for reason in Reason::ALL.into_iter().chain([Reason::Loop]) {
            refusals.count(reason);
        }
        let counts = refusals.counts().map(|(reason, count)| if reason == Reason::Loop { count - 1 } else { count });
        assert_eq!(counts.collect::<Vec<_>>(), [1; Reason::ALL.len()]);
    }

    #[test]
    fn a_refusal_says_who_refused_why_and_when_to_come_back() {
        let refusal = Refusal::new(Reason::CircuitOpen, "circuit api is open")
            .of_service("api")
            .after_attempts(2)
            .retry_after(Duration::from_millis(1500));
        let response = refusal.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[REFUSED], "circuit_open");
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        let expected = serde_json::json!({
            "refused": "circuit_open", "message": "circuit api is open", "service": "api", "attempts": 2,
            "retry_after_seconds": 2,
        });
        assert_eq!(body, expected);
    }
}
