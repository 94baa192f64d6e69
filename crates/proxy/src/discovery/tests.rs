use std::time::Duration;

use service_mesh::Mesh;

use super::Discovery;
use super::dns::tests::NameServer;
use crate::journal::Journal;
use service_mesh::Environment;

fn file(server: &NameServer) -> String {
    // Asked again so soon that nobody waits for it.
    let times = "min_ttl_seconds = 0.001\nmax_ttl_seconds = 0.001\nempty_grace_seconds = 1000";
    format!("[services.api.discovery]\ndns = 'api.test:80'\nserver = '{}'\n{times}", server.address)
}

fn ids(mesh: &Mesh) -> Vec<String> {
    let endpoints = mesh.service("api").unwrap().load_balancer().endpoints();
    endpoints.iter().map(|endpoint| endpoint.instance.id.clone()).collect()
}

/// Until the instances are these: somebody else must put them in force.
async fn becomes(mesh: &Mesh, expected: &[&str]) {
    let same = async {
        while ids(mesh) != expected {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), same).await;
    assert!(in_time.is_ok(), "{:?} instead of {expected:?}", ids(mesh));
}

#[tokio::test]
async fn instances_come_and_go_as_the_name_says_and_those_that_stay_keep_everything() {
    let server = NameServer::start().await;
    server.addresses("api.test", &["10.0.0.1", "10.0.0.2"]);
    let mesh: Mesh = file(&server).parse().unwrap();
    let mut discovery = Discovery::new(Environment::system(), Journal::stderr());
    discovery.follow(&mesh);
    becomes(&mesh, &["10.0.0.1:80", "10.0.0.2:80"]).await;
    let api = mesh.service("api").unwrap();
    let lease = api.load_balancer().acquire_except(&["10.0.0.1:80"]).unwrap();
    api.instance_circuit_breaker("10.0.0.2:80").unwrap().record_failure();
    api.load_balancer().set_weight("10.0.0.2:80", 0);

    server.addresses("api.test", &["10.0.0.3", "10.0.0.2"]);
    becomes(&mesh, &["10.0.0.2:80", "10.0.0.3:80"]).await;
    let stayed = &api.load_balancer().endpoints()[0];
    assert_eq!((stayed.in_flight, stayed.weight), (1, 0));
    api.load_balancer().set_weight("10.0.0.2:80", 1);
    assert_eq!(api.instance_circuit_breaker("10.0.0.2:80").unwrap().failure_count(), 1);
    drop(lease);

    // A name server that has lost its data says that nobody is there.
    server.addresses("api.test", &[]);
    while !discovery.looks()["api"].in_grace {
        tokio::task::yield_now().await;
    }
    assert_eq!(ids(&mesh), ["10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!(discovery.looks()["api"].failure, None);
}

#[tokio::test]
async fn a_list_has_the_last_word_when_it_takes_over() {
    let server = NameServer::start().await;
    server.addresses("api.test", &["10.0.0.1"]);
    let mesh: Mesh = file(&server).parse().unwrap();
    let mut discovery = Discovery::new(Environment::system(), Journal::stderr());
    discovery.follow(&mesh);
    becomes(&mesh, &["10.0.0.1:80"]).await;
    mesh.reload("[services.api]\ninstances = [{ id = 'a', host = 'a', port = 80 }]").unwrap();
    // As if an answer had come between the reload and what follows it.
    mesh.service("api").unwrap().load_balancer().set_instances([]);
    discovery.follow(&mesh);
    becomes(&mesh, &["a"]).await;
    assert!(discovery.looks().is_empty());
    // And the other way round; the service itself may go, too.
    mesh.reload(&file(&server)).unwrap();
    discovery.follow(&mesh);
    becomes(&mesh, &["10.0.0.1:80"]).await;
    mesh.reload("").unwrap();
    discovery.follow(&mesh);
    assert!(discovery.running.is_empty());
}
