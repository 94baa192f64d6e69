//! A network that misbehaves: it passes bytes between the sidecar and an instance, until it is told to do it worse.
//!
//! The faults are those of the toxics of Shopify's Toxiproxy: an instance that is well, and cannot be reached as one
//! would like. It passes what it has read piece by piece, and looks at each piece what the present fault is: so one that
//! begins while a connection lies in the pool meets that connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::upstream::Upstream;

/// What is wrong with the way to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    /// Each piece of an answer comes so much later.
    Latency(Duration),
    /// The connection is reset once so many bytes of answers have passed.
    Cut(usize),
    /// Nothing passes any more, and nobody is told; of answers so many bytes still do. With none, requests are not even
    /// read.
    Blackhole(usize),
    /// The instance has no more to say, in good order, once so many bytes of answers have passed. It still hears.
    HalfClose(usize),
    /// The instance has no more to hear once a request is there, and still speaks.
    Deaf,
    /// Once so many bytes of answers have passed, the rest passes a byte at a time, so far apart.
    Trickle(usize, Duration),
}

/// Stands before an instance, as an instance of its own.
pub(crate) struct Relay {
    /// What the sidecar takes it for.
    pub(crate) front: Upstream,
    fault: watch::Sender<Fault>,
    /// One for each connection, and this one.
    open: Arc<()>,
}

impl Relay {
    /// The way to this instance, with this fault.
    pub(crate) async fn before(upstream: &Upstream, fault: Fault) -> Self {
        let to = upstream.address;
        let (fault, present) = watch::channel(fault);
        let open = Arc::new(());
        let front = Upstream::start({
            let open = Arc::clone(&open);
            move |wire| {
                let (stream, fault, open) = (wire.into_stream(), present.clone(), Arc::clone(&open));
                async move {
                    pass_both(stream, to, fault).await;
                    drop(open);
                }
            }
        })
        .await;
        Self { front, fault, open }
    }

    /// From now on this is wrong.
    pub(crate) fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How many connections pass through it. (The script that makes them holds one, too.)
    pub(crate) fn connections(&self) -> usize {
        Arc::strong_count(&self.open) - 2
    }
}

/// How a way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    InOrder,
    Reset,
}

async fn pass_both(mut sidecar: TcpStream, to: SocketAddr, fault: watch::Receiver<Fault>) {
    let Ok(mut instance) = TcpStream::connect(to).await else { return };
    instance.set_nodelay(true).unwrap();
    let end = {
        let ((from_sidecar, to_sidecar), (from_instance, to_instance)) = (sidecar.split(), instance.split());
        let requests = pass(from_sidecar, to_instance, fault.clone(), false);
        let answers = pass(from_instance, to_sidecar, fault, true);
        tokio::pin!(requests, answers);
        tokio::select! {
            end = &mut requests => if end == End::Reset { end } else { answers.await },
            end = &mut answers => if end == End::Reset { end } else { requests.await },
        }
    };
    if end == End::Reset {
        let _ = (sidecar.set_zero_linger(), instance.set_zero_linger());
    }
}

/// Passes one way on, until it ends.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut fault: watch::Receiver<Fault>,
    are_answers: bool,
) -> End {
    let mut passed = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let present = *fault.borrow_and_update();
        let room = match present {
            Fault::Cut(bytes) | Fault::HalfClose(bytes) if are_answers => bytes.saturating_sub(passed),
            Fault::Blackhole(bytes) if are_answers || bytes == 0 => bytes.saturating_sub(passed),
            Fault::Trickle(bytes, _) if are_answers => bytes.saturating_sub(passed).max(1),
            Fault::Deaf if !are_answers && passed > 0 => 0,
            _ => buffer.len(),
        };
        if room == 0 {
            match present {
                Fault::Cut(_) => return End::Reset,
                Fault::HalfClose(_) | Fault::Deaf => break,
                _ => {}
            }
        }
        let room = room.min(buffer.len());
        let read = tokio::select! {
            read = from.read(&mut buffer[..room]), if room > 0 => read,
            changed = fault.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return End::Reset,
            },
        };
        let Ok(read) = read else { return End::Reset };
        if read == 0 {
            break;
        }
        // These two are what the fault is; nothing waits for them but what it is tried on.
        let pause = match present {
            Fault::Latency(pause) => pause,
            Fault::Trickle(bytes, pause) if passed >= bytes => pause,
            _ => Duration::ZERO,
        };
        if are_answers && !pause.is_zero() {
            sleep(pause).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return End::Reset;
        }
        passed += read;
    }
    let _ = to.shutdown().await;
    End::InOrder
}
