//! The task of one connection: it moves bytes, and obeys the orders that its pulse brings.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::drain::Drain;
use crate::exchange::{Client, answer};
use crate::listener::Listener;
use crate::pulse::{Order, Patience, Pulse, State};
use crate::wire::{Socket, Wire};
use crate::worker::Worker;

/// The largest piece of a body that is read from a client at once.
const BUFFER: usize = 128 * 1024;

/// Serves one connection of a client to its end.
pub(crate) async fn serve(worker: Arc<Worker>, listener: Arc<Listener>, socket: Socket, drain: Drain) {
    let pulse = Pulse::new(&worker.ticks, Patience::with_client(&listener.limits));
    let head = usize::try_from(listener.limits.header_bytes()).unwrap_or(usize::MAX);
    worker.watch_client(&pulse, &drain);
    let client = Client::new(&worker, &listener, &socket, &pulse, drain);
    let service = service_fn(|request: Request<Incoming>| answer(&client, request));
    let io = TokioIo::new(Wire::of_client(socket, &pulse, &client.finding));
    let connection = http1::Builder::new()
        .max_header_size(head)
        .max_buf_size(head.max(BUFFER))
        // The pulse sees to it.
        .header_read_timeout(None)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut is_heard = false;
    poll_fn(|context| {
        // Once: a task has one waker for all of its life.
        if !std::mem::replace(&mut is_heard, true) {
            pulse.listen(context);
        }
        if pulse.present_order() == Order::Cut {
            return Poll::Ready(());
        }
        let mut polled = connection.as_mut().poll(context);
        // The wire tells the end where nothing more is to come. It was perhaps asked before the last answer was over.
        if polled.is_pending() && pulse.present_order() == Order::Finish && pulse.state() == State::Idle {
            polled = connection.as_mut().poll(context);
        }
        polled.map(|ended| {
            if let Some(status) = unread(pulse.present_order(), ended) {
                client.refused_unread(status);
            }
        })
    })
    .await;
}

/// The status that the client was told whose last bytes were no request. Whatever else became of a connection nobody needs
/// to know: those who were served have their answers.
fn unread(order: Order, ended: hyper::Result<()>) -> Option<StatusCode> {
    match ended {
        _ if order == Order::TimedOut => Some(StatusCode::REQUEST_TIMEOUT),
        Err(error) if error.is_parse_too_large() => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(error) if error.is_parse() => Some(StatusCode::BAD_REQUEST),
        _ => None,
    }
}

/// Drives a connection to an instance to its end.
pub(crate) async fn drive(connection: impl Future, pulse: Arc<Pulse>) {
    let mut connection = pin!(connection);
    // So that a wake for nothing can be kept back.
    let waker = Waker::from(Arc::clone(&pulse));
    let mut is_heard = false;
    poll_fn(|context| {
        if !std::mem::replace(&mut is_heard, true) {
            pulse.listen(context);
        }
        match pulse.present_order() {
            Order::Cut => Poll::Ready(()),
            _ => connection.as_mut().poll(&mut Context::from_waker(&waker)).map(drop),
        }
    })
    .await;
}

/// Waits until the connection is ordered to end at once.
pub(crate) async fn cut(pulse: &Pulse) {
    poll_fn(|context| {
        pulse.listen(context);
        if pulse.present_order() == Order::Cut { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests;
