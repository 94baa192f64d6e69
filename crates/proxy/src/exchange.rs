//! One request of a client, and its answer.

use std::convert::Infallible;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, MAX_FORWARDS, TE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::access_log::Record;
use crate::alarm::Alarm;
use crate::drain::{Drain, Phase};
use crate::forward::{Forward, Head, TIMEOUT};
use crate::guard::scan::Finding;
use crate::guard::{self, Authority, Fault};
use crate::headers::present::Present;
use crate::headers::{forwarded, hop_by_hop, via};
use crate::listener::Listener;
use crate::outgoing::{Exchange, Outgoing, Relayed};
use crate::pulse::{Order, Pulse};
use crate::refusal::{Reason, Refusal};
use crate::replay::Replay;
use crate::route::Destination;
use crate::service::Service;
use crate::trace_context::TraceContext;
use crate::upgrade::{self, Tunnel};
use crate::wire::Socket;
use crate::worker::Worker;

/// A client, and what its connection has for itself.
#[derive(Debug)]
pub(crate) struct Client {
    worker: Arc<Worker>,
    listener: Arc<Listener>,
    pulse: Arc<Pulse>,
    forwarded: forwarded::Client,
    /// For what its requests wait for, one after the other.
    alarm: Alarm,
    drain: Drain,
    /// What was noticed while its requests were read.
    pub(crate) finding: Arc<Finding>,
    /// How many of them were served.
    ///
    /// Ordering: Relaxed; only the task of the connection counts.
    served: AtomicU64,
}

impl Client {
    pub(crate) fn new(
        worker: &Arc<Worker>,
        listener: &Arc<Listener>,
        socket: &Socket,
        pulse: &Arc<Pulse>,
        drain: Drain,
    ) -> Self {
        Self {
            worker: Arc::clone(worker),
            listener: Arc::clone(listener),
            pulse: Arc::clone(pulse),
            forwarded: forwarded::Client::new(socket.peer()),
            alarm: Alarm::default(),
            drain,
            finding: Arc::default(),
            served: AtomicU64::new(0),
        }
    }
}

impl Client {
    /// What has come was answered with this status before it was a request: by the parser, or since it came too slowly.
    pub(crate) fn refused_unread(&self, status: StatusCode) {
        self.worker.sidecar.refuses(None, Reason::BadRequest);
        let log = self.worker.sidecar.access_log();
        if let Some(mut record) = log.begin(&self.listener, self.forwarded.address(), None) {
            let told = record.told();
            (told.status, told.refused, told.completed) = (status.as_u16(), Some(Reason::BadRequest.as_str()), true);
        }
    }
}

/// Answers a request: with what the service says, or with why nobody asked it.
///
/// The future is moved to where it is polled, and every connection keeps one: so it holds the request only as it goes on.
pub(crate) fn answer(
    client: &Client,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Outgoing>, Infallible>> {
    let mut exchange = Exchange::begin(&client.pulse);
    let log = client.worker.sidecar.access_log();
    let (method, uri) = (request.method(), request.uri());
    exchange.record = log.begin(&client.listener, client.forwarded.address(), Some((method, uri)));
    let mut examined = examine(client, request, &mut exchange.record);
    async move {
        let served = match &mut examined {
            Ok(Examined::GoesOn(forward, upgrade)) => {
                forward.run().await.map(|response| Served::Relayed(response, upgrade.take()))
            }
            Ok(Examined::Answered(response)) => Ok(Served::Own(mem::take(response))),
            Err(refusal) => Err(refusal.clone()),
        };
        Ok(conclude(client, served, exchange))
    }
}

fn conclude(client: &Client, served: Result<Served, Refusal>, mut exchange: Exchange) -> Response<Outgoing> {
    if let Err(refusal) = &served {
        client.worker.sidecar.refuses(refusal.service.as_deref(), refusal.reason);
    }
    if let Some(record) = &mut exchange.record {
        match &served {
            Ok(served) => served.tell(record),
            Err(refusal) => refusal.tell(record.told()),
        }
    }
    let mut response = match served {
        Ok(Served::Relayed(response, tunnel)) => relayed(client, response, tunnel, exchange),
        Ok(Served::Own(response)) => response.map(|body| Outgoing::own(body, exchange)),
        Err(refusal) => refusal.into_response().map(|body| Outgoing::own(body, exchange)),
    };
    client.pulse.answers();
    let ends = client.drain.phase() > Phase::Serving || client.pulse.present_order() == Order::Finish;
    if ends && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // So that its client looks for another place before this one is gone.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A request against which nothing speaks.
#[expect(clippy::large_enum_variant, reason = "it lies where it is run; a box would be an allocation for each request")]
enum Examined<'a> {
    /// To the service; with the client's end of the tunnel that it may become.
    GoesOn(Forward<'a>, Option<OnUpgrade>),
    /// It was for the sidecar.
    Answered(Response<Bytes>),
}

enum Served {
    /// The service's answer, and the client's end of the tunnel that it may become.
    Relayed(Response<Box<Relayed>>, Option<OnUpgrade>),
    Own(Response<Bytes>),
}

impl Served {
    /// What of it belongs into the access log.
    fn tell(&self, record: &mut Record) {
        let response = match self {
            Self::Own(response) => {
                record.told().status = response.status().as_u16();
                return;
            }
            Self::Relayed(response, _) => response,
        };
        let route = &response.body().route;
        let told = record.told();
        (told.status, told.attempts, told.span) = (response.status().as_u16(), route.attempts, route.span);
        if let Some((service, instance)) = &route.by {
            told.service = Some(service.name().to_owned());
            told.instance = Some(instance.id.clone());
        }
        record.request(route.request.clone());
    }
}

fn examine<'a>(
    client: &'a Client,
    request: Request<Incoming>,
    record: &mut Option<Record>,
) -> Result<Examined<'a>, Refusal> {
    let (mut parts, body) = request.into_parts();
    if let Some(fault) = client.finding.of_request(client.served.fetch_add(1, Ordering::Relaxed)) {
        return Err(fault.into());
    }
    let present = Present::of(&parts.headers);
    let authority = guard::check(&parts, present)?;
    if let Some(record) = record {
        authority.host().clone_into(&mut record.told().host);
    }
    let service = route(client, &parts, &authority)?;
    if present.has(Present::MAX_FORWARDS)
        && let Some(response) = last_hop(&mut parts)?
    {
        return Ok(Examined::Answered(response));
    }
    let limits = [client.listener.limits.body_bytes(), service.limits.body_bytes()];
    let limit = limits.into_iter().flatten().min();
    if limit.is_some_and(|limit| body.size_hint().lower() > limit) {
        let refusal = Refusal::new(Reason::BodyTooLarge, "the body of the request is too large");
        return Err(refusal.of_service(service.name()).closing());
    }
    let upgrade = upgrade::take(&mut parts, &body);
    let head = prepare(client, parts, present, &body, &authority, upgrade.is_some());
    let body = Replay::new(body, limit, service.kept_bytes, &client.pulse);
    if let Some(record) = record {
        record.told().trace = head.trace;
    }
    let forward = Forward::new(&client.worker, &client.alarm, service, head, body, record.is_some());
    Ok(Examined::GoesOn(forward, upgrade))
}

fn route(client: &Client, parts: &Parts, authority: &Authority) -> Result<Arc<Service>, Refusal> {
    let table = client.worker.sidecar.table();
    let destination = Destination {
        listener: &client.listener.name,
        host: authority.host(),
        path: parts.uri.path(),
        method: &parts.method,
    };
    let service = table.find(destination).map(Arc::clone);
    service.ok_or_else(|| Refusal::new(Reason::NoRoute, "no route fits this host, path and method"))
}

/// The answer to an `OPTIONS` that is to go no further; one that is to go on loses a hop.
//= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.2
//# Each intermediary that receives a TRACE or OPTIONS request containing a
//# Max-Forwards header field MUST check and update its value prior to
//# forwarding the request.  If the received value is zero (0), the
//# intermediary MUST NOT forward the request; instead, the intermediary
//# MUST respond as the final recipient.
fn last_hop(parts: &mut Parts) -> Result<Option<Response<Bytes>>, Refusal> {
    let Some(hops) = parts.headers.get(MAX_FORWARDS).filter(|_| parts.method == Method::OPTIONS) else {
        return Ok(None);
    };
    let hops = hops.to_str().ok().and_then(|hops| hops.parse::<u32>().ok());
    match hops.ok_or(Fault::bad("Max-Forwards is no number"))? {
        0 => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(Some(response))
        }
        hops => {
            parts.headers.insert(MAX_FORWARDS, HeaderValue::from(hops - 1));
            Ok(None)
        }
    }
}

/// So many fields of our own a request gets at most.
const OURS: usize = 8;

/// Makes of the client's request what the service is sent.
fn prepare(
    client: &Client,
    parts: Parts,
    present: Present,
    body: &Incoming,
    authority: &Authority,
    wants_upgrade: bool,
) -> Head {
    let Parts { method, uri, version, mut headers, .. } = parts;
    let takes_trailers = present.has(Present::TE) && hop_by_hop::takes_trailers(&headers);
    let upgrade = wants_upgrade.then(|| headers.get(http::header::UPGRADE).cloned()).flatten();
    hop_by_hop::strip_present(&mut headers, present);
    if present.has(Present::EXPECT) {
        // The sidecar itself has answered it, with 100, or will not.
        headers.remove(EXPECT);
    }
    let timeout = if present.has(Present::TIMEOUT) { told_timeout(&mut headers, &client.forwarded) } else { None };
    let trace = if present.has(Present::TRACE) { TraceContext::take(&mut headers) } else { None };
    headers.reserve(OURS);
    client.forwarded.sign(&mut headers, present, authority.field());
    via::add(&mut headers, version);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(http::header::UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    // A body without a length goes on in chunks, whatever the method.
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let names_host = present.has(Present::HOST);
    Head { method, uri: origin_form(uri), headers, names_host, wants_upgrade, timeout, trace }
}

/// How long the client says that it waits. It is believed where `Forwarded` is: an attempt that outlasts it is a failure
/// of its instance, so that a stranger who waits for a millisecond, again and again, would trip every circuit.
fn told_timeout(headers: &mut HeaderMap, client: &forwarded::Client) -> Option<Duration> {
    let told = headers.remove(TIMEOUT).filter(|_| client.is_neighbour())?;
    told.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

//= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.1
//# When making a request directly to an origin server, other than a
//# CONNECT or server-wide OPTIONS request (as detailed below), a client
//# MUST send only the absolute path and query components of the target
//# URI as the request-target.
fn origin_form(uri: Uri) -> Uri {
    if uri.authority().is_none() {
        return uri;
    }
    uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// Makes of the service's answer what the client is sent.
fn relayed(
    client: &Client,
    response: Response<Box<Relayed>>,
    upgrade: Option<OnUpgrade>,
    exchange: Exchange,
) -> Response<Outgoing> {
    let (mut parts, mut relayed) = response.into_parts();
    //= https://www.rfc-editor.org/rfc/rfc9112#section-2.3
    //# Intermediaries that process HTTP messages (i.e., all intermediaries
    //# other than those acting as tunnels) MUST send their own HTTP-version
    //# in forwarded messages
    parts.version = Version::HTTP_11;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client_end)) = (parts.status, upgrade) {
        let protocol = parts.headers.get(http::header::UPGRADE).cloned();
        hop_by_hop::strip(&mut parts.headers);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            parts.headers.insert(http::header::UPGRADE, protocol);
        }
        if let Some(instance_end) = parts.extensions.remove::<OnUpgrade>() {
            let pulses = (Arc::clone(&client.pulse), relayed.route.pulse());
            let counted = (relayed.entry.take(), relayed.judge.hand_over(), relayed.route.link.take());
            Tunnel { client_end, instance_end, pulses, counted, drain: client.drain.clone() }.open();
        }
        return Response::from_parts(parts, Outgoing::own(Bytes::new(), exchange));
    }
    hop_by_hop::strip(&mut parts.headers);
    parts.extensions.remove::<OnUpgrade>();
    Response::from_parts(parts, Outgoing::relayed(relayed, exchange))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_believed_of_a_neighbour_and_taken_from_everybody() {
        for (address, told, believed) in [
            ("127.0.0.1", "250", Some(250)),
            ("203.0.113.7", "250", None),
            ("10.0.0.1", "soon", None),
            ("10.0.0.1", "18446744073709551615", Some(u64::MAX)),
        ] {
            let mut headers = HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static(told))]);
            let client = forwarded::Client::new(address.parse().ok());
            assert_eq!(told_timeout(&mut headers, &client), believed.map(Duration::from_millis), "{address}: {told}");
            assert!(headers.is_empty());
        }
    }
}
