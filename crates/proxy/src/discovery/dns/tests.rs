//! Against a name server of the test, over real sockets. Nobody waits for a clock: a set that is published wakes the test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Record, RecordType};
use service_mesh::DiscoveryConfig;
use tokio::net::UdpSocket;

use super::*;
use crate::journal::Journal;

fn looking() -> Arc<Looking> {
    Arc::new(Looking::new("api", &Journal::stderr()))
}

/// A name server: what it says to each question may be changed at any time.
#[derive(Clone)]
pub(in crate::discovery) struct NameServer {
    pub(in crate::discovery) address: SocketAddr,
    says: Arc<Mutex<BTreeMap<(String, RecordType), Says>>>,
}

#[derive(Clone)]
enum Says {
    Data(Vec<RData>, u32),
    Fails,
}

impl NameServer {
    /// Knows nothing: every name is unknown.
    pub(in crate::discovery) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: socket.local_addr().unwrap(), says: Arc::default() };
        let says = Arc::clone(&server.says);
        tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut packet).await {
                let request = Message::from_vec(&packet[..length]).unwrap();
                let reply = answer(&request, &says.lock().unwrap()).to_vec().unwrap();
                socket.send_to(&reply, client).await.unwrap();
            }
        });
        server
    }

    fn say(&self, name: &str, kind: RecordType, says: Says) {
        self.says.lock().unwrap().insert((name.to_owned(), kind), says);
    }

    pub(in crate::discovery) fn addresses(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.partition(IpAddr::is_ipv4);
        let data = |address: IpAddr| match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        self.say(name, RecordType::A, Says::Data(v4.into_iter().map(data).collect(), 30));
        self.say(name, RecordType::AAAA, Says::Data(v6.into_iter().map(data).collect(), 40));
    }

    fn services(&self, name: &str, targets: &[(u16, u16, u16, &str)]) {
        let srv = |&(priority, weight, port, target): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(priority, weight, port, Name::from_utf8(target).unwrap()))
        };
        self.say(name, RecordType::SRV, Says::Data(targets.iter().map(srv).collect(), 20));
    }

    fn source(&self, query: DiscoveryQuery) -> Dns {
        let mut config = DiscoveryConfig::new(query);
        config.server = Some(self.address);
        Dns::new(&config, Held::new(&config, false), Environment::system(), looking())
    }
}

fn answer(request: &Message, says: &BTreeMap<(String, RecordType), Says>) -> Message {
    let query = request.queries[0].clone();
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.message_type = MessageType::Response;
    let name = query.name().to_utf8().to_lowercase();
    match says.get(&(name.trim_end_matches('.').to_owned(), query.query_type())) {
        Some(Says::Data(data, ttl)) => {
            reply.answers =
                data.iter().map(|data| Record::from_rdata(query.name().clone(), *ttl, data.clone())).collect();
        }
        Some(Says::Fails) => reply.metadata.response_code = ResponseCode::ServFail,
        None => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    reply.queries.push(query);
    reply
}

fn name() -> DiscoveryQuery {
    DiscoveryQuery::Dns("api.test:8080".parse().unwrap())
}

fn service() -> DiscoveryQuery {
    DiscoveryQuery::Srv(String::from("_http._tcp.test"))
}

fn found(answer: Answer) -> (Vec<String>, Duration) {
    let Answer::Found { instances, ttl } = answer else { panic!("it has failed") };
    (instances.iter().map(|instance| format!("{}*{}", instance.id, instance.weight)).collect(), ttl)
}

#[tokio::test]
async fn each_address_of_a_name_is_an_instance_and_the_shortest_time_counts() {
    let server = NameServer::start().await;
    let mut dns = server.source(name());
    server.addresses("api.test", &["10.0.0.2", "10.0.0.1", "2001:db8::1"]);
    let (instances, ttl) = found(dns.ask().await);
    assert_eq!(instances, ["10.0.0.2:8080*1", "10.0.0.1:8080*1", "[2001:db8::1]:8080*1"]);
    assert_eq!(ttl, Duration::from_secs(30));
}

#[tokio::test]
async fn no_such_name_and_no_addresses_are_answers_and_an_error_of_the_server_is_none() {
    let server = NameServer::start().await;
    let mut dns = server.source(name());
    assert_eq!(found(dns.ask().await).0, Vec::<String>::new());
    server.addresses("api.test", &[]);
    assert_eq!(found(dns.ask().await).0, Vec::<String>::new());
    let mut dns = server.source(name());
    server.say("api.test", RecordType::A, Says::Fails);
    server.say("api.test", RecordType::AAAA, Says::Fails);
    assert_eq!(dns.ask().await, Answer::Failed);
    assert!(dns.look.look().failure.as_ref().unwrap().contains("api.test"));
}

#[tokio::test]
async fn where_one_kind_of_address_fails_the_last_ones_stand_in() {
    let server = NameServer::start().await;
    let mut dns = server.source(name());
    server.addresses("api.test", &["10.0.0.1", "2001:db8::1"]);
    dns.ask().await;
    server.addresses("api.test", &["10.0.0.9"]);
    server.say("api.test", RecordType::AAAA, Says::Fails);
    let (instances, ttl) = found(dns.ask().await);
    assert_eq!(instances, ["10.0.0.9:8080*1", "[2001:db8::1]:8080*1"]);
    assert_eq!(ttl, Duration::ZERO, "what failed is asked for soon");
    assert!(dns.look.look().failure.is_some() && dns.look.look().answered.is_some());
    // Who was never told is not waited for, if there is anybody else.
    let mut dns = server.source(name());
    assert_eq!(found(dns.ask().await).0, ["10.0.0.9:8080*1"]);
    server.addresses("api.test", &[]);
    server.say("api.test", RecordType::AAAA, Says::Fails);
    assert_eq!(server.source(name()).ask().await, Answer::Failed);
}

#[tokio::test]
async fn of_a_service_the_best_priority_with_an_address_counts_with_its_ports_and_weights() {
    let server = NameServer::start().await;
    let mut dns = server.source(service());
    let targets = [(10, 5, 81, "a.test."), (10, 0, 82, "b.test."), (20, 1, 83, "c.test."), (5, 1, 84, "gone.test.")];
    server.services("_http._tcp.test", &targets);
    server.addresses("a.test", &["10.0.0.1", "2001:db8::1"]);
    server.addresses("b.test", &["10.0.0.2"]);
    server.addresses("c.test", &["10.0.0.3"]);
    let (instances, _) = found(dns.ask().await);
    assert_eq!(instances, ["10.0.0.1:81*5", "[2001:db8::1]:81*5", "10.0.0.2:82*1"]);
    for name in ["a.test", "b.test"] {
        server.addresses(name, &[]);
    }
    assert_eq!(found(dns.ask().await).0, ["10.0.0.3:83*1"]);
    // A service that is decidedly not there.
    server.services("_http._tcp.test", &[(0, 0, 0, ".")]);
    assert_eq!(found(dns.ask().await).0, Vec::<String>::new());
}

#[tokio::test]
async fn a_target_that_cannot_be_looked_up_keeps_its_addresses() {
    let server = NameServer::start().await;
    let mut dns = server.source(service());
    server.services("_http._tcp.test", &[(10, 1, 81, "a.test."), (10, 1, 82, "b.test.")]);
    server.addresses("a.test", &["10.0.0.1"]);
    server.addresses("b.test", &["10.0.0.2"]);
    dns.ask().await;
    server.say("a.test", RecordType::A, Says::Fails);
    server.say("a.test", RecordType::AAAA, Says::Fails);
    assert_eq!(found(dns.ask().await).0, ["10.0.0.1:81*1", "10.0.0.2:82*1"]);
    // A target that is gone is forgotten with what was known of it.
    server.services("_http._tcp.test", &[(10, 1, 82, "b.test.")]);
    assert_eq!(found(dns.ask().await).0, ["10.0.0.2:82*1"]);
    assert_eq!(dns.known.len(), 3);
}

#[tokio::test]
async fn an_address_needs_no_name_server() {
    let config = DiscoveryConfig::new(DiscoveryQuery::Dns("[::1]:80".parse().unwrap()));
    let mut dns = Dns::new(&config, Held::new(&config, false), Environment::system(), looking());
    assert_eq!(dns.next().await, [ServiceInstance::new("[::1]:80", "::1", 80)]);
}

#[tokio::test]
async fn a_source_yields_a_set_and_then_only_another_one() {
    let server = NameServer::start().await;
    let mut dns = server.source(name());
    server.addresses("api.test", &["10.0.0.1"]);
    assert_eq!(dns.next().await, [ServiceInstance::new("10.0.0.1:8080", "10.0.0.1", 8080)]);
    assert_eq!(dns.ask_again, Duration::from_secs(30));
    // Time is tokio's, and the test's to move; asking again takes real packets, of which it knows nothing.
    server.addresses("api.test", &["10.0.0.2"]);
    dns.ask_again = Duration::ZERO;
    assert_eq!(dns.next().await[0].host, "10.0.0.2");
}
