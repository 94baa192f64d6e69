//! A sidecar for one test.

use std::fmt::Write as _;
use std::net::SocketAddr;

use service_mesh::ServiceProxy;
use service_mesh_proxy::{Drain, Phase, Server, Serving, Shutdown, Sidecar};

use crate::client::Client;
use crate::upstream::Upstream;

/// A sidecar that serves for as long as it lives.
pub(crate) struct Running {
    pub(crate) sidecar: Sidecar,
    pub(crate) address: SocketAddr,
    shutdown: Shutdown,
    serving: Option<Serving>,
}

/// A sidecar of this policy, which is given a listener on a free port.
pub(crate) fn serve(policy: &str) -> Running {
    let text = format!("[listeners.web]\naddress = \"127.0.0.1:0\"\n{policy}");
    serve_sidecar(Sidecar::from_policy(&text).unwrap_or_else(|error| panic!("{text}\n{error}")))
}

/// One that is made already, at its first listener.
pub(crate) fn serve_sidecar(sidecar: Sidecar) -> Running {
    serve_on(sidecar, 1)
}

/// The same, on so many threads.
pub(crate) fn serve_on(sidecar: Sidecar, threads: usize) -> Running {
    let server = Server::bind(&sidecar, threads).unwrap();
    let address = server.addresses()[0].1;
    let (shutdown, drain): (Shutdown, Drain) = Shutdown::new();
    let serving = Some(server.start(&drain).unwrap());
    Running { sidecar, address, shutdown, serving }
}

/// A sidecar before these instances of one service, `api`; `more` is what else its section says. They are named a, b, c
/// and asked in turn, beginning with a.
pub(crate) fn serve_api(upstreams: &[&Upstream], more: &str) -> Running {
    serve(&format!("[services.api]\n{more}\n{}", instances("api", upstreams)))
}

/// The instances of a service, as the policy file has them.
pub(crate) fn instances(service: &str, upstreams: &[&Upstream]) -> String {
    let mut text = String::new();
    for (id, upstream) in ('a'..).zip(upstreams) {
        let port = upstream.address.port();
        let _ = writeln!(text, "[[services.{service}.instances]]\nid = \"{id}\"\nhost = \"127.0.0.1\"\nport = {port}");
    }
    text
}

/// The connections that are counted for an instance.
pub(crate) fn leased(service: &ServiceProxy, id: &str) -> u32 {
    service.load_balancer().registration(id).map_or(0, |registration| registration.in_flight())
}

impl Running {
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) fn proxy(&self, service: &str) -> ServiceProxy {
        self.sidecar.mesh().service(service).unwrap()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.shutdown.enter(phase);
    }

    /// Waits until its threads have ended.
    pub(crate) async fn ended(mut self) {
        let serving = self.serving.take().expect("it is taken once");
        tokio::task::spawn_blocking(|| serving.join()).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.enter(Phase::Ended);
    }
}
