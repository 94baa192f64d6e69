//! A socket that notes its signs of life: TCP or Unix, towards a client or an instance.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

use crate::guard::scan::{Finding, Scanner};
use crate::pulse::{Order, Pulse, State};

/// A connected socket of either family.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Who is at the other end; nobody knows of a Unix socket.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(socket) => socket.peer_addr().ok().map(|address| address.ip()),
            Self::Unix(_) => None,
        }
    }

    /// Whether nothing waits to be read, or never will.
    fn is_empty(&self) -> bool {
        let socket = match self {
            Self::Tcp(socket) => SockRef::from(socket),
            Self::Unix(socket) => SockRef::from(socket),
        };
        !matches!(socket.peek(&mut [MaybeUninit::uninit()]), Ok(1..))
    }
}

/// A socket, and the pulse that tells of it.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    pulse: Arc<Pulse>,
    /// Of a wire towards a client.
    reading: Option<Box<Reading>>,
}

/// The same call on whichever socket it is.
macro_rules! on_socket {
    ($socket:expr, $method:ident($($argument:expr),*)) => {
        match $socket {
            Socket::Tcp(socket) => Pin::new(socket).$method($($argument),*),
            Socket::Unix(socket) => Pin::new(socket).$method($($argument),*),
        }
    };
}

/// What reads along with a client.
#[derive(Debug)]
struct Reading {
    scanner: Scanner,
    finding: Arc<Finding>,
    half_closed: Option<HalfClosed>,
}

/// A client that has sent all that it will. It may wait for its answer, or be gone: both begin with the same FIN.
///
/// One that is gone answers whatever it is sent with a reset. So it is sent an interim response, which every client must
/// take at any time, and then one looks for the reset.
#[derive(Debug)]
struct HalfClosed {
    look: Pin<Box<Sleep>>,
    next: Duration,
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-15.2
//# A client MUST be able to parse one or more 1xx responses received
//# prior to a final response, even if the client does not expect one.
const ARE_YOU_THERE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The first look for a reset comes after so long, which is enough on one machine and within a data centre; then ten times
/// as long, up to a second.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// What a client hears that was too slow with the head of its request.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nx-service-mesh-refused: bad_request\r\nConnection: close\r\n\
    Content-Length: 0\r\n\r\n";

impl Wire {
    /// Towards an instance.
    pub(crate) fn new(socket: Socket, pulse: &Arc<Pulse>) -> Self {
        Self { socket, pulse: Arc::clone(pulse), reading: None }
    }

    /// Towards a client; what is wrong with what it sends goes to `finding`.
    pub(crate) fn of_client(socket: Socket, pulse: &Arc<Pulse>, finding: &Arc<Finding>) -> Self {
        let reading = Reading { scanner: Scanner::default(), finding: Arc::clone(finding), half_closed: None };
        Self { reading: Some(Box::new(reading)), ..Self::new(socket, pulse) }
    }

    fn note_written<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &result {
            Poll::Ready(Ok(_)) => self.pulse.has_written(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pulse.is_blocked(),
        }
        result
    }

    /// Whether it is ordered to end, nothing is in flight on it, and nothing more has come: not even what the system
    /// holds, of which the runtime does not know yet.
    ///
    /// One on which nothing was ever asked is not at that point: its client has connected only just now and cannot know
    /// that he may have to ask again. He is given the moment that the pulse gives everybody.
    fn has_finished(&self) -> bool {
        let Some(reading) = &self.reading else { return false };
        self.pulse.present_order() == Order::Finish
            && self.pulse.state() == State::Idle
            && !self.pulse.has_unwritten()
            && reading.scanner.has_read_a_request()
            && reading.scanner.is_between_requests()
            && self.socket.is_empty()
    }

    /// The client has closed its side, in the middle of an exchange or not.
    fn poll_half_closed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(Ok(())) };
        if self.pulse.has_unwritten() {
            // The answer has not left yet, and its writing will tell if nobody is there. The parser would drop it at the
            // word of an end; and what is written here would stand in the middle of it.
            return Poll::Pending;
        }
        // The parser looks for more before anybody begins to serve what it has.
        let has_just_asked = self.pulse.state() == State::Head && reading.scanner.has_read_a_request();
        let waits = match reading.half_closed {
            // Whoever breaks off his own request is gone.
            None => (has_just_asked || self.pulse.awaits_answer()) && reading.scanner.is_between_requests(),
            // He has waited from the beginning; how long the answer is says nothing.
            Some(_) => self.pulse.state() == State::Busy,
        };
        if !waits {
            return Poll::Ready(Ok(()));
        }
        let half_closed = match &mut reading.half_closed {
            Some(half_closed) => half_closed,
            none => {
                if (has_just_asked || self.pulse.is_unanswered()) && reading.scanner.takes_interim() {
                    let written = on_socket!(&mut self.socket, poll_write(context, ARE_YOU_THERE));
                    if let Poll::Ready(Err(error)) = written {
                        return Poll::Ready(Err(error));
                    }
                }
                none.insert(HalfClosed { look: Box::pin(sleep(FIRST_LOOK)), next: FIRST_LOOK })
            }
        };
        while half_closed.look.as_mut().poll(context).is_ready() {
            let error = match &self.socket {
                Socket::Tcp(socket) => socket.take_error()?,
                Socket::Unix(socket) => socket.take_error()?,
            };
            if let Some(error) = error {
                return Poll::Ready(Err(error));
            }
            half_closed.next = (half_closed.next * 10).min(LAST_LOOK);
            half_closed.look = Box::pin(sleep(half_closed.next));
        }
        Poll::Pending
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(reading) = &this.reading {
            if this.pulse.present_order() == Order::TimedOut {
                // To the parser this is a client that went away.
                let _ = on_socket!(&mut this.socket, poll_write(context, TOO_SLOW));
                return Poll::Ready(Ok(()));
            }
            if reading.half_closed.is_some() {
                return this.poll_half_closed(context);
            }
        }
        let before = into.filled().len();
        if on_socket!(&mut this.socket, poll_read(context, into))?.is_pending() {
            // To the parser, it is the client who ends it.
            return if this.has_finished() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let bytes = &into.filled()[before..];
        if bytes.is_empty() {
            return if into.remaining() > 0 { this.poll_half_closed(context) } else { Poll::Ready(Ok(())) };
        }
        this.pulse.has_read();
        if let Some(reading) = &mut this.reading
            && this.pulse.state() != State::Tunnel
        {
            reading.scanner.read(bytes, &reading.finding);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = on_socket!(&mut self.socket, poll_write(context, bytes));
        self.note_written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = on_socket!(&mut self.socket, poll_write_vectored(context, slices));
        self.note_written(result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(socket) => socket.is_write_vectored(),
            Socket::Unix(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(&mut self.socket, poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(&mut self.socket, poll_shutdown(context))
    }
}
