//! Instances that a name server names which nobody here has written: dnsmasq. Where it is not installed, the tests of the
//! module itself, against a name server of their own, must do.

use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

use crate::client::Client;
use crate::control::run;
use crate::upstream::{Upstream, response};
use service_mesh_proxy::{Ended, Signal};

/// Runs until it is dropped.
struct Dnsmasq(Child);

impl Dnsmasq {
    /// `None` where it is not installed.
    fn start(port: u16, records: &[String]) -> Option<Self> {
        let child = Command::new("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--pid-file=",
                "--user=",
                "--no-resolv",
                "--no-hosts",
            ])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces"])
            .arg(format!("--port={port}"))
            .args(records)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self(child)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("dnsmasq: {error}"),
        }
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that is free for UDP and for TCP, both of which a name server wants.
fn free_port() -> u16 {
    loop {
        let stream = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if UdpSocket::bind(stream).is_ok() {
            return stream.port();
        }
    }
}

#[tokio::test]
async fn instances_that_dnsmasq_names_are_asked_and_stay_when_it_is_gone() {
    let (one, other) =
        (Upstream::answering(response("200 OK", "one")).await, Upstream::answering(response("200 OK", "other")).await);
    let port = free_port();
    let srv = |name: &str, upstream: &Upstream, priority: u8| {
        format!("--srv-host=_http._tcp.mesh.test,{name}.mesh.test,{},{priority},5", upstream.address.port())
    };
    let records = [
        srv("one", &one, 10),
        srv("other", &other, 10),
        srv("far", &other, 20),
        String::from("--host-record=one.mesh.test,127.0.0.1"),
        String::from("--host-record=other.mesh.test,127.0.0.1"),
    ];
    let Some(mut dnsmasq) = Dnsmasq::start(port, &records) else {
        eprintln!("dnsmasq is not installed");
        return;
    };
    let times = "min_ttl_seconds = 0.01\nempty_grace_seconds = 1000";
    let query = format!("srv = '_http._tcp.mesh.test'\nserver = '127.0.0.1:{port}'");
    let whole = run("dnsmasq", &format!("[services.api.discovery]\n{query}\n{times}"));
    let api = whole.sidecar.mesh().service("api").unwrap();
    let discovery = async || whole.page("/snapshot").await["services"][0]["discovery"].clone();
    while api.load_balancer().endpoints().len() < 2 {
        assert_eq!(dnsmasq.0.try_wait().unwrap(), None, "dnsmasq has ended");
        tokio::task::yield_now().await;
    }
    let endpoints = api.load_balancer().endpoints();
    assert!(endpoints.iter().all(|endpoint| endpoint.weight == 5 && endpoint.instance.host == "127.0.0.1"));
    let mut client = Client::connect(whole.address).await;
    let mut texts = [client.get("/").await.text().to_owned(), client.get("/").await.text().to_owned()];
    texts.sort();
    assert_eq!(texts, ["one", "other"]);

    drop(dnsmasq);
    while discovery().await["failure"].is_null() {}
    assert_eq!(api.load_balancer().endpoints().len(), 2);
    assert_eq!(client.get("/").await.status, 200);
    drop(client);
    assert_eq!(whole.ended(Signal::Interrupt).await, Ended::Clean);
}
