//! Instances that are well behind a network that is not, and what the client sees of each fault of it: alone, and where
//! there is another instance to go to. Where something must end, a time limit of the policy ends it.

use std::time::Duration;

use crate::client::Reply;
use crate::relay::{Fault, Relay};
use crate::sidecar::{Running, serve_api};
use crate::upstream::{Upstream, Wire, response};

const AT_ONCE: &str = "retry.initial_delay_seconds = 0";
const ALONE: &str = "retry = false\ncircuit_breaker.failure_threshold = 1000";
const FOR_EVER: Duration = Duration::from_secs(3600);
const A_MOMENT: Duration = Duration::from_millis(1);

/// Longer than what the system's buffers take, and without a pattern that a shift would keep.
fn long_body() -> String {
    (0..200_000).flat_map(|line: u32| line.to_string().into_bytes()).map(char::from).collect()
}

async fn well() -> Upstream {
    Upstream::answering(response("200 OK", "well")).await
}

/// An instance behind this fault, alone, by these settings; and what a client sees who asks by GET.
async fn alone(fault: Fault, more: &str) -> (Reply, Running, (Relay, Upstream)) {
    let upstream = well().await;
    let (reply, sidecar, relay) = alone_before(&upstream, fault, more).await;
    (reply, sidecar, (relay, upstream))
}

async fn alone_before(upstream: &Upstream, fault: Fault, more: &str) -> (Reply, Running, Relay) {
    let relay = Relay::before(upstream, fault).await;
    let sidecar = serve_api(&[&relay.front], &format!("{ALONE}\n{more}"));
    let reply = sidecar.connect().await.get("/").await;
    (reply, sidecar, relay)
}

fn failures(sidecar: &Running) -> u32 {
    sidecar.proxy("api").circuit_breaker().failure_count()
}

/// What a client sees where the first instance is behind this fault, and the second is well.
async fn with_another(fault: Fault, more: &str) -> Vec<Reply> {
    let (one, other) = (Upstream::answering(response("200 OK", "one")).await, well().await);
    let relay = Relay::before(&one, fault).await;
    let sidecar = serve_api(&[&relay.front, &other], &format!("{AT_ONCE}\n{more}"));
    let mut client = sidecar.connect().await;
    let mut replies = Vec::new();
    for _ in 0..8 {
        replies.push(client.get("/").await);
    }
    assert!(relay.front.seen.connections() > 0, "nobody has met the fault");
    replies
}

#[tokio::test]
async fn latency_is_borne_within_the_time_of_an_attempt_and_ends_it_beyond() {
    let (reply, ..) = alone(Fault::Latency(A_MOMENT), "timeouts.attempt_seconds = 30").await;
    assert_eq!((reply.status, reply.text()), (200, "well"));
    let (reply, sidecar, (relay, _upstream)) = alone(Fault::Latency(FOR_EVER), "timeouts.attempt_seconds = 0.05").await;
    assert_eq!((reply.status, reply.refused()), (504, Some("attempt_timed_out")));
    assert_eq!(failures(&sidecar), 1);
    // Its connection is not used again: the answer would be taken for that of the next.
    relay.set(Fault::Nothing);
    assert_eq!(sidecar.connect().await.get("/").await.text(), "well");
    assert_eq!(relay.front.seen.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_is_cut_before_the_head_is_lost() {
    // At once: it depends on who is quicker whether there was a connection to lose.
    let (reply, ..) = alone(Fault::Cut(0), "").await;
    assert_eq!(reply.status, 502);
    assert!(["connection_lost", "connect_failed"].contains(&reply.refused().unwrap()), "{reply:?}");
    for bytes in [1, 9, 20] {
        let (reply, sidecar, _stay) = alone(Fault::Cut(bytes), "").await;
        assert_eq!((reply.status, reply.refused()), (502, Some("connection_lost")), "after {bytes} bytes");
        assert_eq!(failures(&sidecar), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_seen_to_be() {
    let sized = Upstream::answering(response("200 OK", &long_body())).await;
    let chunked = Upstream::answering(format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        long_body().len(),
        long_body()
    ))
    .await;
    for upstream in [&sized, &chunked] {
        for fault in [Fault::Cut(100_000), Fault::HalfClose(100_000)] {
            let (reply, sidecar, _stay) = alone_before(upstream, fault, "").await;
            assert_eq!((reply.status, reply.is_whole), (200, false), "{fault:?}");
            assert!(long_body().as_bytes().starts_with(&reply.body), "what is there of it is as it was");
            while failures(&sidecar) == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn a_network_that_swallows_everything_costs_the_time_of_an_attempt() {
    let limits = ["timeouts.attempt_seconds = 0.05", "timeouts.header_seconds = 0.05"];
    for limit in limits {
        let (reply, sidecar, _stay) = alone(Fault::Blackhole(0), limit).await;
        assert_eq!((reply.status, reply.refused()), (504, Some("attempt_timed_out")), "{limit}");
        assert_eq!(failures(&sidecar), 1);
    }
    let (reply, sidecar, _stay) = alone(Fault::Blackhole(0), "timeouts.call_seconds = 0.05").await;
    assert_eq!((reply.status, reply.refused()), (504, Some("deadline_exceeded")));
    assert_eq!(failures(&sidecar), 1);
}

#[tokio::test]
async fn an_answer_that_is_swallowed_half_way_is_cut_at_the_deadline() {
    let upstream = Upstream::answering(response("200 OK", &long_body())).await;
    let (reply, sidecar, _stay) = alone_before(&upstream, Fault::Blackhole(100_000), "timeouts.call_seconds = 2").await;
    assert_eq!((reply.status, reply.is_whole), (200, false));
    while failures(&sidecar) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_given_up_when_the_attempts_time_is() {
    let upstream = well().await;
    let relay = Relay::before(&upstream, Fault::Blackhole(0)).await;
    let sidecar = serve_api(&[&relay.front], &format!("{ALONE}\ntimeouts.attempt_seconds = 0.1"));
    let mut reader = sidecar.connect().await;
    let (head, body) =
        ("PUT / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 8000000\r\n\r\n", "x".repeat(8_000_000));
    reader.send(format!("{head}{body}")).await;
    let reply = reader.reply().await.unwrap();
    assert_eq!((reply.status, reply.refused()), (504, Some("attempt_timed_out")));
}

#[tokio::test]
async fn an_instance_that_falls_silent_in_good_order_has_lost_the_connection() {
    for bytes in [0, 10] {
        let (reply, sidecar, _stay) = alone(Fault::HalfClose(bytes), "").await;
        assert_eq!((reply.status, reply.refused()), (502, Some("connection_lost")), "after {bytes} bytes");
        assert_eq!(failures(&sidecar), 1);
    }
}

#[tokio::test]
async fn an_instance_that_hears_no_more_may_still_answer() {
    let (reply, sidecar, _stay) = alone(Fault::Deaf, "").await;
    assert_eq!((reply.status, reply.text()), (200, "well"));
    assert_eq!(failures(&sidecar), 0);
}

#[tokio::test]
async fn an_answer_that_trickles_arrives_whole_where_there_is_time() {
    let (reply, sidecar, _stay) = alone(Fault::Trickle(0, Duration::ZERO), "timeouts.call_seconds = 60").await;
    assert_eq!((reply.status, reply.text(), reply.is_whole), (200, "well", true));
    assert_eq!(failures(&sidecar), 0);
}

#[tokio::test]
async fn a_head_that_trickles_is_not_waited_for_longer_than_the_attempt_lasts() {
    // Each byte comes well within the limit: it is the whole head that counts.
    let slow = Fault::Trickle(0, Duration::from_millis(10));
    for (limit, word) in [
        ("timeouts.attempt_seconds = 0.1", "attempt_timed_out"),
        ("timeouts.header_seconds = 0.1", "attempt_timed_out"),
        ("timeouts.call_seconds = 0.1", "deadline_exceeded"),
    ] {
        let (reply, sidecar, _stay) = alone(slow, limit).await;
        assert_eq!((reply.status, reply.refused()), (504, Some(word)), "{limit}");
        assert_eq!(failures(&sidecar), 1);
    }
}

#[tokio::test]
async fn a_body_that_trickles_is_cut_at_the_deadline() {
    let upstream = Upstream::answering(response("200 OK", &"slow".repeat(1000))).await;
    let (reply, ..) =
        alone_before(&upstream, Fault::Trickle(100, Duration::from_millis(2)), "timeouts.call_seconds = 2").await;
    assert_eq!((reply.status, reply.is_whole), (200, false));
}

#[tokio::test]
async fn before_the_head_every_fault_is_hidden_by_another_instance() {
    // Long, so that whoever is well makes it on a busy machine, too; and each fault is met once.
    let limit = "timeouts.attempt_seconds = 1\ninstance_circuit_breaker.failure_threshold = 1";
    for fault in [
        Fault::Latency(FOR_EVER),
        Fault::Cut(0),
        Fault::Cut(12),
        Fault::Blackhole(0),
        Fault::Blackhole(12),
        Fault::HalfClose(0),
        Fault::HalfClose(12),
        Fault::Trickle(0, Duration::from_millis(100)),
    ] {
        for reply in with_another(fault, limit).await {
            assert_eq!((reply.status, reply.text(), reply.refused()), (200, "well", None), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again_elsewhere() {
    let (one, other) = (well().await, well().await);
    let relay = Relay::before(&one, Fault::Cut(1)).await;
    let sidecar = serve_api(&[&relay.front, &other], AT_ONCE);
    let mut client = sidecar.connect().await;
    let reply = client.put("POST", "/", "pay").await;
    assert_eq!((reply.status, reply.refused()), (502, Some("connection_lost")));
    assert_eq!(one.seen.requests(), 1);
    assert_eq!(other.seen.requests(), 0);
    assert_eq!(client.put("PUT", "/", "state").await.text(), "well");
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_pool_is_replaced_and_nobody_is_to_blame() {
    let upstream = well().await;
    let relay = Relay::before(&upstream, Fault::Nothing).await;
    let sidecar = serve_api(&[&relay.front], "retry = false\ncircuit_breaker.failure_threshold = 1");
    let mut client = sidecar.connect().await;
    for round in 1..=5 {
        assert_eq!(client.get("/").await.text(), "well");
        assert_eq!(relay.front.seen.connections(), round);
        relay.set(Fault::Cut(0));
        while relay.connections() > 0 {
            tokio::task::yield_now().await;
        }
        relay.set(Fault::Nothing);
    }
    assert_eq!(failures(&sidecar), 0);
}

#[tokio::test]
async fn a_connection_that_goes_dead_in_the_pool_costs_an_attempt() {
    let (one, other) = (well().await, well().await);
    let relay = Relay::before(&one, Fault::Nothing).await;
    let sidecar = serve_api(&[&relay.front, &other], &format!("{AT_ONCE}\ntimeouts.attempt_seconds = 1"));
    let mut client = sidecar.connect().await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.text(), "well");
    }
    relay.set(Fault::Blackhole(0));
    for _ in 0..4 {
        assert_eq!(client.get("/").await.text(), "well");
    }
    let api = sidecar.proxy("api");
    assert!(api.instance_circuit_breaker("a").unwrap().failure_count() > 0);
    assert_eq!(api.circuit_breaker().failure_count(), 0);
}

#[tokio::test]
async fn an_upload_that_is_cut_goes_whole_to_another_instance() {
    let keeping = || {
        Upstream::start(|mut wire: Wire| async move {
            while let Some(head) = wire.head().await {
                let Some(body) = wire.whole_body(&head).await else { return };
                wire.write(response("200 OK", &format!("{} bytes", body.len()))).await;
            }
        })
    };
    let (one, other) = (keeping().await, keeping().await);
    let relay = Relay::before(&one, Fault::Cut(0)).await;
    let sidecar = serve_api(&[&relay.front, &other], AT_ONCE);
    let mut client = sidecar.connect().await;
    for _ in 0..4 {
        assert_eq!(client.put("PUT", "/", &"x".repeat(50_000)).await.text(), "50000 bytes");
    }
}
