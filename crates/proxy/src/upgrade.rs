//! Another protocol on the same connection: WebSocket, mostly. After the 101 there is no HTTP any more, and two streams of
//! bytes are copied until both ends have said all.

use std::sync::Arc;

use http::Method;
use http::header::UPGRADE;
use http::request::Parts;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use service_mesh::Connection;
use tokio::io::copy_bidirectional;

use crate::connection::cut;
use crate::drain::Drain;
use crate::headers::hop_by_hop::has_option;
use crate::limits::Entry;
use crate::pool::Link;
use crate::pulse::{Pulse, State};

/// Takes the client's end of what the connection is to become; none if no upgrade is asked for, or none that is passed
/// on.
///
/// HTTP/2 over plain text is not: whoever gets it through speaks to the service past every rule here (Jake Miller, "h2c
/// smuggling", 2020). One protocol must be named, by a GET without a body.
//= https://www.rfc-editor.org/rfc/rfc9110#section-7.8
//# A server that receives an Upgrade header field in an HTTP/1.0 request
//# MUST ignore that Upgrade field.
pub(crate) fn take(parts: &mut Parts, body: &Incoming) -> Option<OnUpgrade> {
    let on_upgrade = parts.extensions.remove::<OnUpgrade>()?;
    let mut protocols = parts.headers.get_all(UPGRADE).iter();
    let (Some(protocol), None) = (protocols.next(), protocols.next()) else { return None };
    let protocol = protocol.as_bytes().trim_ascii();
    let is_passed_on = parts.method == Method::GET
        && body.is_end_stream()
        && has_option(&parts.headers, "upgrade")
        && !protocol.contains(&b',')
        && !protocol.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case(b"h2"))
        && !protocol.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case(b"http/"));
    is_passed_on.then_some(on_upgrade)
}

/// Two connections that become one.
pub(crate) struct Tunnel {
    pub(crate) client_end: OnUpgrade,
    pub(crate) instance_end: OnUpgrade,
    pub(crate) pulses: (Arc<Pulse>, Option<Arc<Pulse>>),
    /// For as long as it lasts, it counts among the service's requests, for the balancer, and among the connections that
    /// there may be.
    pub(crate) counted: (Option<Entry>, Option<Connection>, Option<Link>),
    pub(crate) drain: Drain,
}

impl Tunnel {
    /// Copies in both directions, in a task of its own.
    pub(crate) fn open(self) {
        self.pulses.0.enter(State::Tunnel);
        if let Some(pulse) = &self.pulses.1 {
            pulse.enter(State::Tunnel);
        }
        tokio::spawn(self.run());
    }

    async fn run(self) {
        let Self { client_end, instance_end, pulses: (client, instance), counted, drain } = self;
        let (Ok(client_end), Ok(instance_end)) = (client_end.await, instance_end.await) else { return };
        let (mut client_end, mut instance_end) = (TokioIo::new(client_end), TokioIo::new(instance_end));
        let instance_is_cut = async {
            match &instance {
                Some(pulse) => cut(pulse).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = copy_bidirectional(&mut client_end, &mut instance_end) => {}
            () = cut(&client) => {}
            () = instance_is_cut => {}
        }
        drop((counted, drain));
    }
}
