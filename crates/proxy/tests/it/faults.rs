//! Instances that misbehave, and what the client sees of it.

use std::sync::Arc;

use service_mesh::CircuitState;

use crate::sidecar::{instances, leased, serve, serve_api};
use crate::upstream::{Upstream, Wire, response};

const AT_ONCE: &str = "retry.initial_delay_seconds = 0";

/// An instance that does this on each connection, once it has read the head of a request.
async fn upstream<F, Fut>(script: F) -> Upstream
where
    F: Fn(Wire) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Upstream::start(move |mut wire| {
        let script = script.clone();
        async move {
            if wire.head().await.is_some() {
                script(wire).await;
            }
        }
    })
    .await
}

/// What a client sees of one instance that does this, without retries.
async fn seen<F, Fut>(more: &str, script: F) -> (u16, String)
where
    F: Fn(Wire) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let upstream = upstream(script).await;
    let sidecar = serve_api(&[&upstream], &format!("retry = false\n{more}"));
    let reply = sidecar.connect().await.get("/").await;
    let failures = sidecar.proxy("api").circuit_breaker().failure_count();
    let what = reply.refused().unwrap_or_else(|| reply.text()).to_owned();
    (reply.status, format!("{what}, {failures} failure{}", if failures == 1 { "" } else { "s" }))
}

fn told(status: u16, what: &str) -> (u16, String) {
    (status, what.to_owned())
}

#[tokio::test]
async fn before_the_head_of_an_answer_every_fault_has_its_word() {
    let limit = "timeouts.attempt_seconds = 0.05";
    let lost = told(502, "connection_lost, 1 failure");
    assert_eq!(seen("", |_| async {}).await, lost);
    assert_eq!(seen("", |wire| async { wire.reset() }).await, lost);
    assert_eq!(seen("", |mut wire| async move { wire.write("HTTP/1.1 200 OK\r\nContent-Le").await }).await, lost);
    let bad = told(502, "bad_response, 1 failure");
    assert_eq!(seen("", |mut wire| async move { wire.write("SSH-2.0-OpenSSH_9.6\r\n").await }).await, bad);
    assert_eq!(seen("", |mut wire| async move { wire.write("HTTP/1.1 2OO OK\r\n\r\n").await }).await, bad);
    let slow = told(504, "attempt_timed_out, 1 failure");
    assert_eq!(seen(limit, |mut wire| async move { wire.hang().await }).await, slow);
    assert_eq!(seen("timeouts.header_seconds = 0.05", |mut wire| async move { wire.hang().await }).await, slow);
    let trickle = |mut wire: Wire| async move {
        for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().cycle() {
            wire.write([*byte]).await;
            if wire.is_ended().await {
                return;
            }
        }
    };
    assert_eq!(seen(limit, trickle).await.0, 504);
}

#[tokio::test]
async fn an_answer_that_has_no_end_or_two_readings_is_not_passed_on() {
    let bad = told(502, "bad_response, 1 failure");
    let endless = |mut wire: Wire| async move {
        wire.write("HTTP/1.1 200 OK\r\n").await;
        while !wire.is_ended().await {
            wire.write(format!("X: {}\r\n", "x".repeat(1000))).await;
        }
    };
    assert_eq!(seen("", endless).await, bad);
    for head in [
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "Content-Length: -1\r\n\r\n",
        "X : 1\r\nContent-Length: 0\r\n\r\n",
        "X: 1\r\n folded\r\nContent-Length: 0\r\n\r\n",
        "X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}");
        let script = move |mut wire: Wire| {
            let answer = answer.clone();
            async move {
                wire.write(answer).await;
                wire.hang().await;
            }
        };
        assert_eq!(seen("", script).await, bad, "{head:?}");
    }
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(seen("", move |mut wire| async move { wire.write(switching).await }).await.0, 502);
}

#[tokio::test]
async fn an_answer_longer_than_it_says_ends_where_it_says() {
    let upstream = Upstream::start(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            .await;
        wire.hang().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    // What came unasked is never taken for the answer to another request.
    for _ in 0..5 {
        assert_eq!(client.get("/").await.text(), "ok");
    }
}

#[tokio::test]
async fn interim_answers_are_for_the_sidecar() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let upstream = Upstream::answering(answer).await;
    let sidecar = serve_api(&[&upstream], "");
    assert_eq!(sidecar.connect().await.get("/").await.text(), "ok");
}

#[tokio::test]
async fn every_fault_before_the_head_is_hidden_by_another_instance() {
    let well = Upstream::answering(response("200 OK", "well")).await;
    let faulty = [
        upstream(|_| async {}).await,
        upstream(|wire| async { wire.reset() }).await,
        upstream(|mut wire| async move { wire.write("nonsense\r\n\r\n").await }).await,
        upstream(|mut wire| async move { wire.hang().await }).await,
        upstream(|mut wire| async move { wire.write("HTTP/1.1 200 OK\r\nX: ").await }).await,
        Upstream::absent().await,
    ];
    for fault in &faulty {
        // Long, so that whoever is well makes it on a busy machine, too; and each fault is met once.
        let more = format!("{AT_ONCE}\ntimeouts.attempt_seconds = 1\ninstance_circuit_breaker.failure_threshold = 1");
        let sidecar = serve_api(&[fault, &well], &more);
        let mut client = sidecar.connect().await;
        for _ in 0..4 {
            assert_eq!(client.get("/").await.text(), "well");
        }
    }
}

#[tokio::test]
async fn a_body_that_stalls_past_the_deadline_is_cut_and_is_the_instances_fault() {
    let upstream = upstream(|mut wire| async move {
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        wire.hang().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "timeouts.call_seconds = 1");
    let reply = sidecar.connect().await.get("/").await;
    assert_eq!((reply.status, reply.is_whole), (200, false));
    upstream.seen.has_ended(1).await;
    assert_eq!(sidecar.proxy("api").circuit_breaker().failure_count(), 1);
}

#[tokio::test]
async fn an_attempts_time_is_for_the_head_and_not_for_a_long_body() {
    let go_on = Arc::new(tokio::sync::Notify::new());
    let upstream = upstream({
        let go_on = Arc::clone(&go_on);
        move |mut wire| {
            let go_on = Arc::clone(&go_on);
            async move {
                wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlong\r\n").await;
                go_on.notified().await;
                wire.write("0\r\n\r\n").await;
                wire.hang().await;
            }
        }
    })
    .await;
    // A probe, for of a probe it can be seen when it is judged.
    let policy = "circuit_breaker.success_threshold = 1\ntimeouts.attempt_seconds = 2";
    let sidecar = serve_api(&[&upstream], policy);
    let api = sidecar.proxy("api");
    api.circuit_breaker().assign_state(CircuitState::HalfOpen);
    let mut client = sidecar.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.reply_to("HEAD").await.unwrap().status, 200);
    // It is judged, by its head, before its time is up; then its connection counts for the balancer alone.
    while api.circuit_breaker().state() != CircuitState::Closed {
        tokio::task::yield_now().await;
    }
    assert_eq!((api.circuit_breaker().failure_count(), leased(&api, "a")), (0, 1));
    go_on.notify_one();
    assert_eq!(client.exactly(14).await, b"4\r\nlong\r\n0\r\n\r\n");
    while leased(&api, "a") > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_its_body_is_nobodys_failure() {
    let upstream = Upstream::start(|mut wire| async move {
        let head = wire.head().await.unwrap();
        assert!(wire.whole_body(&head).await.is_none());
        wire.hang().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "circuit_breaker.failure_threshold = 1");
    let mut client = sidecar.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this").await;
    upstream.seen.has_requests(1).await;
    drop(client);
    upstream.seen.has_ended(1).await;
    let api = sidecar.proxy("api");
    while sidecar.sidecar.in_flight("api") != Some(0) {
        tokio::task::yield_now().await;
    }
    assert_eq!(api.circuit_breaker().failure_count(), 0);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_passed_on() {
    let upstream = Upstream::start(|mut wire| async move {
        wire.head().await;
        wire.bytes(4).await;
        wire.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
        wire.hang().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this").await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.status, reply.text()), (401, "no"));
}

#[tokio::test]
async fn one_of_three_is_killed_under_load_and_no_request_is_lost() {
    let mut upstreams = Vec::new();
    for _ in 0..3 {
        upstreams.push(Upstream::answering(response("200 OK", "ok")).await);
    }
    let all = upstreams.iter().collect::<Vec<_>>();
    let policy = format!("[services.api]\n{AT_ONCE}\n{}", instances("api", &all));
    let sidecar = serve(&policy);
    let killed = upstreams.pop().unwrap();
    let seen = Arc::clone(&killed.seen);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = sidecar.connect().await;
        clients.spawn(async move {
            let mut answered = 0;
            for _ in 0..250 {
                let reply = client.get("/").await;
                assert_eq!((reply.status, reply.text()), (200, "ok"), "{reply:?}");
                answered += 1;
            }
            answered
        });
    }
    seen.has_requests(100).await;
    drop(killed);
    let answered: usize = clients.join_all().await.into_iter().sum();
    assert_eq!(answered, 2000);
    // Whoever was killed may have read requests that another has answered; nobody was answered twice.
    let served = upstreams.iter().map(|upstream| upstream.seen.requests()).sum::<usize>();
    assert!((2000..2000 + 8).contains(&(served + seen.requests())), "{served} and {}", seen.requests());
    assert_eq!(sidecar.sidecar.in_flight("api"), Some(0));
}
