//! The body of a request, kept while it is first sent, so that it can be sent again.
//!
//! The first attempt streams: each piece goes to the instance as it comes from the client, and a copy of it stays here.
//! An attempt after it begins with what was kept and goes on with the rest of the stream. When more has come than the
//! service's policy has kept, it is let go: from then on the body goes through as it comes, and the call is not repeatable
//! any more. (linkerd's `ReplayBody`; nginx buffers the whole body before it connects.)
//!
//! Invariant: at most one [`Reader`] reads, the youngest; the attempt of an older one is over.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::headers::hop_by_hop::strip_trailers;
use crate::pulse::Pulse;

/// The largest piece that is sent at once of what was kept.
const PIECE: usize = 128 * 1024;

/// The body of one request. Clones are handles of the same.
#[derive(Clone, Debug)]
pub(crate) struct Replay(Option<Arc<Mutex<Log>>>);

/// Why a body cannot be sent to its end. None of it is the instance's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client went away, or sent what is no body.
    Client,
    /// It is larger than the limit.
    TooLarge,
    /// A younger attempt reads it.
    Superseded,
}

#[derive(Debug)]
struct Log {
    incoming: Incoming,
    /// For as long as [`Incoming`] has its length to tell.
    length: Option<u64>,
    pulse: Arc<Pulse>,
    kept: Kept,
    trailers: Option<HeaderMap>,
    received: u64,
    limit: u64,
    end: Option<Result<(), Fault>>,
    /// The number of the youngest reader.
    reader: u32,
}

impl Replay {
    /// Nothing has been read of it yet. More than `limit` bytes of it are refused; of more than `kept` bytes nothing is
    /// kept.
    pub(crate) fn new(incoming: Incoming, limit: Option<u64>, kept: usize, pulse: &Arc<Pulse>) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        Self(Some(Arc::new(Mutex::new(Log {
            length: incoming.size_hint().exact(),
            incoming,
            pulse: Arc::clone(pulse),
            kept: Kept::new(kept),
            trailers: None,
            received: 0,
            limit: limit.unwrap_or(u64::MAX),
            end: None,
            reader: 0,
        }))))
    }

    /// Whether it can be sent from its beginning.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.0.as_ref().is_none_or(|log| lock(log).kept.is_whole)
    }

    /// Whether the client has sent all of it.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.as_ref().is_none_or(|log| lock(log).end == Some(Ok(())))
    }

    /// What has gone wrong with it.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.0.as_ref().and_then(|log| lock(log).end?.err())
    }

    /// How much of it has come.
    pub(crate) fn received(&self) -> u64 {
        self.0.as_ref().map_or(0, |log| lock(log).received)
    }

    /// Reads it from its beginning; whoever read it before reads no more.
    pub(crate) fn reader(&self) -> Reader {
        let Some(log) = &self.0 else { return Reader(None) };
        let mut locked = lock(log);
        locked.reader += 1;
        let (number, length) = (locked.reader, locked.length);
        drop(locked);
        Reader(Some(Reading { log: Arc::clone(log), number, length, passed: 0, is_over: false }))
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The beginning of a body, for as long as it is all that has come.
///
/// It is copied. A reference to a piece would hold on to the buffer that it was read into, which is of 8 KiB and more; and
/// a client may send a body in pieces of one byte.
#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    /// Everything that has come is here.
    is_whole: bool,
}

/// The body as one attempt sends it.
#[derive(Debug)]
pub(crate) struct Reader(Option<Reading>);

#[derive(Debug)]
struct Reading {
    log: Arc<Mutex<Log>>,
    number: u32,
    length: Option<u64>,
    /// How much of the body has passed.
    passed: u64,
    is_over: bool,
}

impl Body for Reader {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut self.0 {
            Some(reading) if !reading.is_over => reading.poll_frame(context),
            _ => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|reading| reading.is_over || reading.length == Some(reading.passed))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(Reading { length: Some(length), passed, .. }) => SizeHint::with_exact(length.saturating_sub(*passed)),
            Some(_) => SizeHint::default(),
        }
    }
}

impl Reading {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut log = lock(&self.log);
        if log.reader != self.number {
            return Poll::Ready(Some(Err(Fault::Superseded)));
        }
        let frame = if let Some(piece) = log.kept.after(self.passed) {
            Some(Ok(Frame::data(piece)))
        } else {
            match log.end {
                None => ready!(log.poll_incoming(context)),
                Some(Ok(())) => log.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))),
                Some(Err(fault)) => Some(Err(fault)),
            }
        };
        match &frame {
            Some(Ok(frame)) if frame.is_data() => {
                self.passed += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            _ => self.is_over = true,
        }
        Poll::Ready(frame)
    }
}

impl Log {
    fn poll_incoming(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) else {
            self.pulse.awaits_body(true);
            return Poll::Pending;
        };
        self.pulse.awaits_body(false);
        let frame = match frame {
            None => {
                self.end = Some(Ok(()));
                return Poll::Ready(None);
            }
            Some(Err(_)) => return Poll::Ready(Some(Err(self.fail(Fault::Client)))),
            Some(Ok(frame)) => frame,
        };
        let frame = match frame.into_data() {
            Err(frame) => {
                self.end = Some(Ok(()));
                let Ok(mut trailers) = frame.into_trailers() else { return Poll::Ready(None) };
                strip_trailers(&mut trailers);
                self.trailers = Some(trailers.clone());
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            Ok(data) => data,
        };
        self.received += frame.len() as u64;
        if self.received > self.limit {
            return Poll::Ready(Some(Err(self.fail(Fault::TooLarge))));
        }
        self.kept.keep(&frame);
        if self.incoming.is_end_stream() {
            self.end = Some(Ok(()));
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.end = Some(Err(fault));
        fault
    }
}

impl Kept {
    const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, is_whole: true }
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.is_whole && self.bytes.len() + piece.len() <= self.limit {
            self.bytes.extend_from_slice(piece);
        } else {
            self.is_whole = false;
            self.bytes = Vec::new();
        }
    }

    /// What comes after so many bytes, if it was kept: all of it, or a piece.
    fn after(&self, passed: u64) -> Option<Bytes> {
        let rest = self.bytes.get(usize::try_from(passed).ok()?..).filter(|rest| !rest.is_empty())?;
        Some(Bytes::copy_from_slice(&rest[..rest.len().min(PIECE)]))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "the body of the request broke off",
            Self::TooLarge => "the body of the request is too large",
            Self::Superseded => "another attempt sends the body",
        })
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_piece_does_not_hold_on_to_the_buffer_that_it_came_in() {
        let mut kept = Kept::new(10);
        let piece = Bytes::from(vec![b'x'; 8192]).slice(..1);
        (0..10).for_each(|_| kept.keep(&piece));
        assert!(piece.is_unique());
        assert_eq!(kept.after(0).as_deref(), Some(&b"xxxxxxxxxx"[..]));
        assert_eq!((kept.after(9).as_deref(), kept.after(10), kept.after(11)), (Some(&b"x"[..]), None, None));
        kept.keep(&piece);
        assert_eq!((kept.is_whole, kept.after(0), kept.bytes.capacity()), (false, None, 0));
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_to_be() {
        let mut kept = Kept::new(0);
        kept.keep(b"");
        assert!(kept.is_whole, "an empty body can be sent again");
        kept.keep(b"x");
        assert!(!kept.is_whole);
    }
}
