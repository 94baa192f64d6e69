//! The body of an answer on its way to the client, and what is held for as long as it lasts.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake as _};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use service_mesh::ServiceInstance;

use crate::access_log::Record;
use crate::headers::hop_by_hop::strip_trailers;
use crate::judge::Judge;
use crate::limits::Entry;
use crate::pool::Link;
use crate::pulse::{Pulse, State};
use crate::replay::Replay;
use crate::service::Service;
use crate::trace_context::SpanId;

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Outgoing {
    content: Content,
    exchange: Exchange,
}

#[derive(Debug)]
enum Content {
    /// The sidecar's own words.
    Own(Bytes),
    Relayed(Box<Relayed>),
}

/// For as long as it lives, the connection of the client serves a request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pulse: Arc<Pulse>,
    /// What the access log will say of it.
    pub(crate) record: Option<Record>,
}

/// A body that comes from an instance.
#[derive(Debug)]
pub(crate) struct Relayed {
    pub(crate) incoming: Incoming,
    pub(crate) judge: Judge,
    pub(crate) route: Route,
    pub(crate) entry: Option<Entry>,
}

/// The way that the answer comes: it goes back to the pool when the answer has passed.
#[derive(Debug)]
pub(crate) struct Route {
    /// Who has answered, where the access log wants to know.
    pub(crate) by: Option<(Arc<Service>, Arc<ServiceInstance>)>,
    pub(crate) link: Option<Link>,
    pub(crate) request: Replay,
    /// Which attempt of the call it was.
    pub(crate) attempts: u32,
    /// The span that the instance was told, if the request belongs to a trace.
    pub(crate) span: Option<SpanId>,
}

/// The body of the answer cannot be passed on to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The instance broke it off.
    Instance(hyper::Error),
    /// The time for the call is up.
    Deadline,
}

impl Exchange {
    pub(crate) fn begin(pulse: &Arc<Pulse>) -> Self {
        pulse.enter(State::Busy);
        Self { pulse: Arc::clone(pulse), record: None }
    }

    /// So many bytes of the answer's body pass.
    fn passes(&mut self, bytes: usize) {
        if let Some(record) = &mut self.record {
            record.told().response_bytes += bytes as u64;
        }
    }

    /// The answer has passed to its end.
    fn completes(&mut self) {
        if let Some(record) = &mut self.record {
            record.told().completed = true;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // An exchange that became a tunnel has said so.
        if self.pulse.state() == State::Busy {
            self.pulse.enter(State::Idle);
        }
    }
}

impl Route {
    /// Of the connection that the answer comes by.
    pub(crate) fn pulse(&self) -> Option<Arc<Pulse>> {
        self.link.as_ref().map(|link| Arc::clone(&link.pulse))
    }

    /// The answer has passed: the connection may serve another request, if this one has been sent to its end.
    pub(crate) fn give_back(&mut self) {
        if let Some(link) = self.link.take()
            && self.request.is_complete()
        {
            link.lay_down();
        }
    }
}

impl Outgoing {
    pub(crate) fn own(bytes: Bytes, mut exchange: Exchange) -> Self {
        // It is in memory already; nobody would learn more by waiting.
        exchange.passes(bytes.len());
        exchange.completes();
        Self { content: Content::Own(bytes), exchange }
    }

    pub(crate) fn relayed(relayed: Box<Relayed>, mut exchange: Exchange) -> Self {
        let mut relayed = relayed;
        if relayed.incoming.is_end_stream() {
            relayed.finish();
            exchange.completes();
        }
        Self { content: Content::Relayed(relayed), exchange }
    }
}

impl Relayed {
    /// Whoever takes a piece wakes the task of the instance's connection, so that it brings the next; but after the last
    /// piece of a body of known length nobody is there to bring anything, and the wake would be a look at everything for
    /// nothing.
    fn poll_incoming(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { incoming, route, .. } = self;
        let Some(link) = &route.link else { return Pin::new(incoming).poll_frame(context) };
        let (frame, is_woken) = link.pulse.holding_back(|| Pin::new(&mut *incoming).poll_frame(context));
        let is_last = matches!(frame, Poll::Ready(Some(Ok(_)))) && incoming.is_end_stream();
        if is_woken && !is_last {
            link.pulse.wake_by_ref();
        }
        frame
    }

    fn finish(&mut self) {
        self.judge.succeed();
        self.route.give_back();
        self.entry = None;
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = match self.poll_incoming(context) {
            Poll::Pending if self.judge.is_cut() => return Poll::Ready(Some(Err(Broken::Deadline))),
            Poll::Pending => {
                self.judge.goes_on(true, context);
                return Poll::Pending;
            }
            Poll::Ready(frame) => frame,
        };
        match frame {
            None => {
                self.finish();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                self.judge.fail();
                Poll::Ready(Some(Err(Broken::Instance(error))))
            }
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    strip_trailers(trailers);
                    self.finish();
                } else if self.incoming.is_end_stream() {
                    self.finish();
                } else if self.judge.is_cut() {
                    return Poll::Ready(Some(Err(Broken::Deadline)));
                } else {
                    self.judge.goes_on(false, context);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self { content, exchange } = &mut *self;
        let relayed = match content {
            Content::Own(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Content::Own(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Relayed(relayed) => relayed,
        };
        let polled = relayed.poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => exchange.passes(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(None) => exchange.completes(),
            _ => {}
        }
        if matches!(polled, Poll::Ready(Some(Ok(_)))) && relayed.incoming.is_end_stream() {
            exchange.completes();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_empty(),
            Content::Relayed(relayed) => relayed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Relayed(relayed) => relayed.incoming.size_hint(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instance(_) => "the instance broke its answer off",
            Self::Deadline => "the time for the call is up",
        })
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Instance(error) => Some(error),
            Self::Deadline => None,
        }
    }
}
