//! One request, forwarded: the driver loop of the call machine.
//!
//! The machine says which instance, whether again and when; here is what is sent there, and what the result means. A
//! request is repeated by default only where that is safe: its method is idempotent, or nothing of it was sent. And only
//! while its body can still be sent from the beginning.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use service_mesh::{
    Answer, Attempt, CallErrorKind, CallOptions, Chance, Outcome, Refused, ServiceInstance, ServiceProxy, Verdict,
};
use tokio::time::{Instant, sleep, timeout};

use crate::alarm::Alarm;
use crate::judge::Judge;
use crate::limits::{Entry, Full};
use crate::outgoing::{Relayed, Route};
use crate::pool::Link;
use crate::pulse::State;
use crate::refusal::{Reason, Refusal};
use crate::replay::{Fault, Reader, Replay};
use crate::retry_after::retry_after;
use crate::service::Service;
use crate::trace_context::{SpanId, TraceContext};
use crate::upstream::connect;
use crate::worker::Worker;

/// Tells the instance how long its caller will wait, in milliseconds; an instance that calls others passes on what is
/// left. From a client it shortens the call's time, and never lengthens it.
pub const TIMEOUT: HeaderName = HeaderName::from_static("x-service-mesh-timeout-ms");

/// Whoever finds the service full is told to come back after this.
const COME_BACK: Duration = Duration::from_secs(1);

/// How long one waits for a connection that is in the hands of another thread: each looks four times a second.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// A body of a discarded answer that is not larger is read to its end, for that is cheaper than a new connection.
const CHEAP: u64 = 16 * 1024;

/// How long that may take.
const SHORT: Duration = Duration::from_secs(1);

/// A request on its way to a service.
#[derive(Debug)]
pub(crate) struct Forward<'a> {
    worker: &'a Arc<Worker>,
    alarm: &'a Alarm,
    service: Arc<Service>,
    head: Head,
    body: Replay,
    is_told: bool,
    /// Something of the request may have reached an instance.
    was_sent: bool,
    /// What the last attempt was told of its trace.
    span: Option<SpanId>,
}

/// What every attempt sends first.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// In origin form, or `*`.
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// There is a `Host` among them.
    pub(crate) names_host: bool,
    /// It asks for another protocol.
    pub(crate) wants_upgrade: bool,
    /// How long the client says that it will wait.
    pub(crate) timeout: Option<Duration>,
    /// The trace that it belongs to.
    pub(crate) trace: Option<TraceContext>,
}

/// What an instance answered, and the way that it came.
#[derive(Debug)]
struct Answered {
    response: Response<Incoming>,
    link: Link,
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// No connection came about: nothing was sent.
    Connect(io::Error),
    /// There are as many connections as there may be.
    Connections,
    /// The sidecar has not what a connection takes.
    Resources(io::Error),
    /// The connection ended before the answer's head.
    Lost(hyper::Error),
    /// What came is no proper answer.
    Answer(String),
    /// The head of the answer took longer than it may.
    Slow,
    /// The time for the attempt was up.
    TimedOut,
}

/// What a status says about whoever answered with it.
const fn outcome_of(status: StatusCode) -> Outcome {
    match status.as_u16() {
        // It says nothing about the instance: this client asks too much.
        429 => Outcome::Neutral,
        // These two are about the request (HAProxy's `observe layer7` sees them so too).
        501 | 505 => Outcome::Success,
        500.. => Outcome::Failure,
        // It answered as it should; what the client did wrong is no failure.
        _ => Outcome::Success,
    }
}

impl<'a> Forward<'a> {
    /// The alarm is that of the task which will run it. The answer says who gave it if that is to be told.
    pub(crate) fn new(
        worker: &'a Arc<Worker>,
        alarm: &'a Alarm,
        service: Arc<Service>,
        head: Head,
        body: Replay,
        is_told: bool,
    ) -> Self {
        Self { worker, alarm, service, head, body, is_told, was_sent: false, span: None }
    }

    /// Sends the request until an answer is final. Dropped meanwhile, the client went away: the attempt is cancelled,
    /// and its connection closed.
    pub(crate) async fn run(&mut self) -> Result<Response<Box<Relayed>>, Refusal> {
        let limit = self.time_limit();
        // One that no clock can tell is none.
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut options = CallOptions::new();
        if let Some(limit) = limit {
            options = options.timeout(limit);
        }
        let mut call = self.service.proxy.begin_owned(&options);
        let entry = self.enter(limit).await?;
        loop {
            let attempt = call.admit().map_err(|refused| self.refused(&refused))?;
            let number = attempt.number();
            let result = self.attempt(&attempt).await;
            if let Some(fault) = self.body.fault() {
                // Nobody but the client is to blame, and the attempt is dropped.
                return Err(self.refused_body(fault));
            }
            let answer = match &result {
                Ok(answered) => {
                    let status = answered.response.status();
                    let may_pass = self.may_pass(status);
                    let answer = match outcome_of(status) {
                        Outcome::Success if !may_pass => {
                            let Ok(answered) = result else { unreachable!("it was looked at above") };
                            let by = self.is_told.then(|| Arc::clone(attempt.target().instance()));
                            return Ok(self.relay(answered, by, number, Judge::new(attempt, deadline), entry));
                        }
                        Outcome::Success => Answer::success(),
                        Outcome::Failure => Answer::failure(),
                        Outcome::Neutral => Answer::neutral(),
                    }
                    .retryable(may_pass);
                    let wait = retry_after(answered.response.headers(), SystemTime::now());
                    wait.map_or(answer, |wait| answer.retry_after(wait))
                }
                Err(Failure::Connections) => return Err(self.overloaded("all connections to the instances are in use")),
                Err(Failure::Resources(error)) => return Err(self.overloaded(format!("no connection: {error}"))),
                Err(_) => Answer::failure().retryable(self.may_repeat()),
            };
            let (instance, timed_out) = (Arc::clone(attempt.target().instance()), attempt.timed_out());
            match (attempt.settle(answer), result) {
                (Verdict::Return | Verdict::Refused(_), Ok(answered)) => {
                    return Ok(self.relay(answered, Some(instance), number, Judge::none(deadline), entry));
                }
                (Verdict::Return, Err(failure)) => {
                    let refusal = failure.refusal(&timed_out).at_instance(&instance.id);
                    return Err(self.signed(refusal, number));
                }
                (Verdict::Refused(refused), Err(_)) => return Err(self.refused(&refused)),
                (Verdict::Retry { after, call: next }, result) => {
                    call = next;
                    if let Ok(answered) = result {
                        answered.discard(self.body.clone());
                    }
                    if !after.is_zero() {
                        Box::pin(sleep(after)).await;
                    }
                }
            }
        }
    }

    /// The time for the whole call: the policy's, or the client's if that is shorter.
    fn time_limit(&self) -> Option<Duration> {
        let policy = self.service.timeouts.call();
        self.head.timeout.map_or(policy, |client| Some(policy.map_or(client, |policy| policy.min(client))))
    }

    async fn enter(&self, patience: Option<Duration>) -> Result<Entry, Refusal> {
        let limits = &self.service.limits;
        let entry = self.service.gate.enter(limits.in_flight(), limits.queue(), patience).await;
        entry.map_err(|full| {
            self.overloaded(match full {
                Full::Queue => "too many requests are in flight, and the queue is full",
                Full::Wait => "too many requests are in flight, and the wait in the queue was too long",
            })
        })
    }

    /// Whether the request may be sent again.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2
    //# A proxy MUST NOT automatically retry non-idempotent requests.
    fn may_repeat(&self) -> bool {
        !self.was_sent || (self.head.method.is_idempotent() && self.body.is_repeatable())
    }

    /// Whether another instance is asked after an answer with this status.
    fn may_pass(&self, status: StatusCode) -> bool {
        let is_meant = status.as_u16() >= 400 && self.service.replayed.contains(status.as_u16());
        is_meant && self.may_repeat()
    }

    /// Sends the request to the instance of this attempt, in the time that it has.
    async fn attempt(&mut self, attempt: &Attempt<ServiceProxy>) -> Result<Answered, Failure> {
        let (alarm, left) = (self.alarm, attempt.time_left());
        let wants_upgrade = self.head.wants_upgrade;
        // Not moved from here: it is large.
        let mut sending = pin!(self.send(attempt.instance(), left));
        // One that no clock can tell is none.
        let answered = match left.and_then(|left| Instant::now().checked_add(left)) {
            Some(limit) => alarm.within(limit, sending.as_mut()).await.unwrap_or(Err(Failure::TimedOut))?,
            None => sending.await?,
        };
        check(&answered.response, wants_upgrade)?;
        Ok(answered)
    }

    /// By a connection that waits in the pool, or by a new one.
    ///
    /// One that waited may have been closed by the instance at this very moment. If nothing was sent on it, or if what
    /// was sent may be repeated, it is replaced by another; that says nothing about the instance and costs no attempt.
    async fn send(&mut self, instance: &ServiceInstance, left: Option<Duration>) -> Result<Answered, Failure> {
        let pool = &self.worker.pool;
        while let Some(mut link) = pool.take(&self.service, &instance.host, instance.port) {
            if !link.sender.is_ready() && link.sender.ready().await.is_err() {
                continue;
            }
            let was_sent = self.was_sent;
            match self.send_by(&mut link, instance, left).await {
                Ok(response) => return Ok(Answered { response, link }),
                Err(Failure::Lost(_)) if self.was_sent == was_sent && !was_sent => {}
                // Once: a request that makes instances break off must not be fed to every connection that there is.
                Err(Failure::Lost(_)) if self.may_repeat() && self.body.fault().is_none() => break,
                Err(failure) => return Err(failure),
            }
        }
        // Apart, for it is seldom needed, and larger than all the rest together.
        let mut link = Box::pin(self.connect(instance, left)).await?;
        let response = self.send_by(&mut link, instance, left).await?;
        Ok(Answered { response, link })
    }

    async fn connect(&self, instance: &ServiceInstance, left: Option<Duration>) -> Result<Link, Failure> {
        let (gate, limit) = (&self.service.gate, self.service.limits.connections());
        let count = gate.connect(limit).or_else(|| {
            // Others of this service's connections may lie idle while this one is needed.
            self.worker.pool.give_up_one(&self.service).then(|| gate.connect(limit)).flatten()
        });
        let count = if let Some(count) = count {
            count
        } else {
            // Waiting for our own limit is no fault of the instance: the attempt must not end meanwhile.
            let patience = left.map_or(ELSEWHERE, |left| ELSEWHERE.min(left / 2));
            gate.connect_within(limit, patience).await.ok_or(Failure::Connections)?
        };
        let limit = self.service.connect_limit(left);
        let connected = connect(self.worker, &self.service, instance, count, limit).await;
        connected.map_err(|error| if is_ours(&error) { Failure::Resources(error) } else { Failure::Connect(error) })
    }

    async fn send_by(
        &mut self,
        link: &mut Link,
        instance: &ServiceInstance,
        left: Option<Duration>,
    ) -> Result<Response<Incoming>, Failure> {
        link.pulse.enter(State::Busy);
        let was_sent = std::mem::replace(&mut self.was_sent, true);
        let sending = link.sender.try_send_request(self.request(instance, left));
        let result = match self.service.timeouts.header() {
            Some(limit) => Box::pin(timeout(limit, sending)).await.map_err(|_elapsed| Failure::Slow)?,
            None => sending.await,
        };
        match result {
            Ok(response) => Ok(response),
            Err(mut error) => {
                if error.take_message().is_some() {
                    self.was_sent = was_sent;
                }
                let error = error.into_error();
                if error.is_parse() { Err(Failure::Answer(told(&error))) } else { Err(Failure::Lost(error)) }
            }
        }
    }

    fn request(&mut self, instance: &ServiceInstance, left: Option<Duration>) -> Request<Reader> {
        let Head { method, uri, headers, names_host, trace, .. } = &mut self.head;
        // What differs from attempt to attempt is put into the original, which has room for it: a copy has none to spare.
        match left {
            Some(left) => {
                headers.insert(TIMEOUT, HeaderValue::from(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
            }
            None => headers.remove(TIMEOUT),
        };
        if let Some(trace) = trace {
            let span = SpanId::draw(&Chance::system());
            self.span = Some(span);
            let (name, value) = trace.header(span);
            headers.insert(name, value);
        }
        // HTTP/1.0 need not name a host, and HTTP/1.1 must.
        if !*names_host && let Ok(host) = HeaderValue::try_from(instance.address()) {
            headers.insert(HOST, host);
        }
        let mut request = Request::new(self.body.reader());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        request
    }

    /// The answer is the call's; where there is still an attempt to judge, its body decides.
    fn relay(
        &mut self,
        answered: Answered,
        by: Option<Arc<ServiceInstance>>,
        attempts: u32,
        judge: Judge,
        entry: Entry,
    ) -> Response<Box<Relayed>> {
        let Answered { response, link } = answered;
        let by = by.map(|instance| (Arc::clone(&self.service), instance));
        let route = Route { by, link: Some(link), request: self.body.clone(), attempts, span: self.span };
        response.map(|incoming| Box::new(Relayed { incoming, judge, route, entry: Some(entry) }))
    }

    fn signed(&self, refusal: Refusal, attempts: u32) -> Refusal {
        refusal.of_service(self.service.name()).after_attempts(attempts)
    }

    fn refused(&self, refused: &Refused) -> Refusal {
        self.signed(Refusal::of_call(refused.kind()), refused.attempts())
    }

    fn overloaded(&self, message: impl Into<Cow<'static, str>>) -> Refusal {
        self.signed(Refusal::new(Reason::Overloaded, message).retry_after(COME_BACK), 0)
    }

    fn refused_body(&self, fault: Fault) -> Refusal {
        let reason = if fault == Fault::TooLarge { Reason::BodyTooLarge } else { Reason::BadRequest };
        self.signed(Refusal::new(reason, fault.to_string()).closing(), 0)
    }
}

/// What no proxy can pass on without guessing.
fn check(response: &Response<Incoming>, wants_upgrade: bool) -> Result<(), Failure> {
    let wrong = |what: &str| Err(Failure::Answer(what.to_owned()));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !wants_upgrade {
        return wrong("the instance switches protocols, and nobody has asked for it");
    }
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    // The parser takes `chunked` off, and a coding below it would go on undeclared.
    match (codings.next(), codings.next()) {
        (None, None) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => wrong("the answer has a transfer coding other than chunked"),
    }
}

impl Answered {
    /// Nobody wants this answer. Where little of it is left, that is read, so that its connection stays.
    fn discard(self, request: Replay) {
        let Self { response, link } = self;
        let mut incoming = response.into_body();
        if incoming.size_hint().upper().is_some_and(|left| left <= CHEAP) {
            tokio::spawn(timeout(SHORT, async move {
                while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {}
                if incoming.is_end_stream() && request.is_complete() {
                    link.lay_down();
                }
            }));
        }
    }
}

impl Failure {
    fn refusal(&self, timed_out: &CallErrorKind) -> Refusal {
        match self {
            Self::Connect(error) | Self::Resources(error) => {
                Refusal::new(Reason::ConnectFailed, format!("no connection: {error}"))
            }
            Self::Connections => Refusal::new(Reason::Overloaded, "all connections to the instances are in use"),
            Self::Lost(error) => Refusal::new(Reason::ConnectionLost, format!("no answer: {}", told(error))),
            Self::Answer(what) => Refusal::new(Reason::BadResponse, format!("no proper answer: {what}")),
            Self::Slow => Refusal::new(Reason::AttemptTimedOut, "the head of the answer took too long"),
            Self::TimedOut => Refusal::of_call(timed_out),
        }
    }
}

/// Whether it is this machine that has no descriptors, ports or memory left. No instance is to blame for that; were it, all
/// of their circuits would trip at once.
fn is_ours(error: &io::Error) -> bool {
    // ENOMEM, ENFILE and EMFILE; the standard library has no words for the last two.
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
        || matches!(error.raw_os_error(), Some(23 | 24))
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_did_wrong_is_no_failure_of_the_instance() {
        let outcome = |status: u16| outcome_of(StatusCode::from_u16(status).unwrap());
        for status in [200, 204, 301, 304, 400, 404, 408, 499, 501, 505] {
            assert_eq!(outcome(status), Outcome::Success, "{status}");
        }
        assert_eq!(outcome(429), Outcome::Neutral);
        for status in [500, 502, 503, 504, 507, 599, 999] {
            assert_eq!(outcome(status), Outcome::Failure, "{status}");
        }
    }

    #[test]
    fn what_this_machine_has_not_is_nobody_elses_failure() {
        for (code, expected) in
            [(23, true), (24, true), (99, true), (12, true), (111, false), (113, false), (104, false)]
        {
            assert_eq!(is_ours(&io::Error::from_raw_os_error(code)), expected, "{code}");
        }
        assert!(!is_ours(&io::Error::from(io::ErrorKind::TimedOut)));
    }
}
