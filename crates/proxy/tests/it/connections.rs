//! Connections on both sides: kept, shared, reused, replaced, half closed, upgraded, drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use service_mesh_proxy::Phase;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::client::Client;
use crate::sidecar::{leased, serve, serve_api, serve_on};
use crate::upstream::{Upstream, field, response};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|mut wire| async move {
        while let Some(head) = wire.head().await {
            let body = wire.body(&head).await;
            let path = head.split(' ').nth(1).unwrap();
            wire.write(response("200 OK", &format!("{path}{}", String::from_utf8(body).unwrap()))).await;
        }
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let post = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    client.send([get("/1"), post.to_owned(), get("/3"), get("/4")].concat()).await;
    for expected in ["/1", "/2body", "/3", "/4"] {
        assert_eq!(client.reply().await.unwrap().text(), expected);
    }
}

#[tokio::test]
async fn a_head_is_answered_without_its_body_and_with_its_length() {
    let upstream = Upstream::start(|mut wire| async move {
        while wire.head().await.is_some() {
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
        }
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let reply = client.reply_to("HEAD").await.unwrap();
        assert_eq!((reply.status, reply.field("content-length")), (200, Some("1000")));
    }
    assert_eq!(upstream.seen.connections(), 1);
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for status in ["204 No Content", "304 Not Modified"] {
        let upstream = Upstream::answering(format!("HTTP/1.1 {status}\r\nETag: \"x\"\r\n\r\n")).await;
        let sidecar = serve_api(&[&upstream], "");
        let mut client = sidecar.connect().await;
        for _ in 0..2 {
            let reply = client.get("/").await;
            assert_eq!((reply.head[9..].starts_with(status), reply.field("etag")), (true, Some("\"x\"")));
        }
        assert_eq!(upstream.seen.connections(), 1);
    }
}

#[tokio::test]
async fn a_client_that_says_close_is_closed() {
    let upstream = Upstream::answering(response("200 OK", "ok")).await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.reply().await.unwrap().field("connection"), Some("close"));
    assert_eq!(client.byte().await, None);
    // The instance's connection is another matter.
    assert_eq!(sidecar.connect().await.get("/").await.text(), "ok");
    assert_eq!(upstream.seen.connections(), 1);
}

#[tokio::test]
async fn http_1_0_is_answered_in_its_own_way() {
    let upstream = Upstream::start(|mut wire| async move {
        while let Some(head) = wire.head().await {
            assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
            assert!(field(&head, "host").unwrap().starts_with("127.0.0.1:"), "{head}");
            wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.text(), reply.field("transfer-encoding")), ("ok", None));
    assert_eq!(client.byte().await, None);
}

#[tokio::test]
async fn an_instance_that_closes_or_speaks_1_0_gets_a_new_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    ] {
        let upstream = Upstream::start(move |mut wire| async move {
            wire.head().await;
            wire.write(answer).await;
        })
        .await;
        let sidecar = serve_api(&[&upstream], "");
        let mut client = sidecar.connect().await;
        for asked in 1..=3 {
            let reply = client.get("/").await;
            assert_eq!((reply.text(), reply.is_whole), ("ok", true), "{answer}");
            assert_eq!(upstream.seen.connections(), asked);
        }
        let api = sidecar.proxy("api");
        assert_eq!(api.circuit_breaker().failure_count(), 0);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_no_attempt() {
    // It takes the second request and closes, as if its time had been up while that was on the way.
    let upstream = Upstream::start(|mut wire| async move {
        wire.head().await;
        wire.write(response("200 OK", "ok")).await;
        wire.head().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "retry = false\ncircuit_breaker.failure_threshold = 1");
    let mut client = sidecar.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "ok");
    }
    // What may not be sent twice is not, and this is an honest answer.
    let reply = client.put("POST", "/", "order").await;
    assert_eq!((reply.status, reply.refused()), (502, Some("connection_lost")));
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let go_on = Arc::new(tokio::sync::Notify::new());
    let upstream = Upstream::start({
        let go_on = Arc::clone(&go_on);
        move |mut wire| {
            let go_on = Arc::clone(&go_on);
            async move {
                while wire.head().await.is_some() {
                    go_on.notified().await;
                    wire.write(response("200 OK", "late")).await;
                }
            }
        }
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.seen.has_requests(1).await;
    client.half_close().await;
    // It is asked whether it is there, and does not mind.
    assert_eq!(client.reply().await.unwrap().status, 100);
    go_on.notify_one();
    assert_eq!(client.reply().await.unwrap().text(), "late");
    assert_eq!(client.byte().await, None);
}

#[tokio::test]
async fn a_web_socket_becomes_a_tunnel() {
    let upstream = Upstream::start(|mut wire| async move {
        let head = wire.head().await.unwrap();
        assert_eq!((field(&head, "upgrade"), field(&head, "connection")), (Some("websocket"), Some("upgrade")));
        assert_eq!(field(&head, "sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        wire.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello").await;
        let said = wire.bytes(4).await;
        wire.write(said).await;
        wire.hang().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    client
        .send(
            "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .await;
    let reply = client.reply().await.unwrap();
    assert_eq!(
        (reply.status, reply.field("upgrade"), reply.field("connection")),
        (101, Some("websocket"), Some("upgrade"))
    );
    assert_eq!(client.exactly(5).await, b"hello");
    client.send("a\nb\n").await;
    assert_eq!(client.exactly(4).await, b"a\nb\n");
    let counted = || (sidecar.sidecar.in_flight("api"), leased(&sidecar.proxy("api"), "a"));
    assert_eq!(counted(), (Some(1), 1));
    drop(client);
    upstream.seen.has_ended(1).await;
    while counted() != (Some(0), 0) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_tunnel_counts_among_the_connections_for_as_long_as_it_lasts() {
    let upstream = Upstream::start(|mut wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
        wire.bytes(3).await;
        wire.hang().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "limits.connections = 1\ntimeouts.attempt_seconds = 1");
    let mut client = sidecar.connect().await;
    client.send(UPGRADE).await;
    assert_eq!(client.reply().await.unwrap().status, 101);
    assert_eq!(sidecar.connect().await.get("/").await.refused(), Some("overloaded"));
    client.reset();
    while sidecar.sidecar.in_flight("api") != Some(0) {
        tokio::task::yield_now().await;
    }
    let mut client = sidecar.connect().await;
    client.send(UPGRADE).await;
    assert_eq!(client.reply().await.unwrap().status, 101);
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

#[tokio::test]
async fn a_connection_that_lies_idle_with_one_thread_does_not_keep_the_others_from_asking() {
    let upstream = Upstream::answering(response("200 OK", "well")).await;
    let policy = format!(
        "[listeners.web]\naddress = '127.0.0.1:0'\n[services.api]\nlimits.connections = 1\n{}",
        crate::sidecar::instances("api", &[&upstream])
    );
    let sidecar = serve_on(service_mesh_proxy::Sidecar::from_policy(&policy).unwrap(), 4);
    // The system spreads them; that all come to one thread would be one case in a billion.
    for _ in 0..16 {
        assert_eq!(sidecar.connect().await.get("/").await.text(), "well");
    }
}

#[tokio::test]
async fn an_upgrade_that_the_instance_declines_is_an_answer_like_any_other() {
    let upstream = Upstream::answering(response("426 Upgrade Required", "no")).await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n").await;
    assert_eq!(client.reply().await.unwrap().text(), "no");
    assert_eq!(client.get("/").await.text(), "no");
}

#[tokio::test]
async fn nobody_gets_past_by_h2c() {
    let saw_upgrade = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start({
        let saw_upgrade = Arc::clone(&saw_upgrade);
        move |mut wire| {
            let saw_upgrade = Arc::clone(&saw_upgrade);
            async move {
                while let Some(head) = wire.head().await {
                    saw_upgrade.fetch_or(field(&head, "upgrade").is_some(), Ordering::SeqCst);
                    wire.write(response("200 OK", "ok")).await;
                }
            }
        }
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    for upgrade in ["h2c", "H2C", "h2c, websocket", "HTTP/2.0"] {
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: {upgrade}\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
            ))
            .await;
        assert_eq!(client.reply().await.unwrap().text(), "ok");
    }
    assert!(!saw_upgrade.load(Ordering::SeqCst));
}

#[tokio::test]
async fn unix_sockets_and_ipv6_serve_on_either_side() {
    let directory = std::env::temp_dir().join(format!("service-mesh-it-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (front, back) = (directory.join("front.sock"), directory.join("back.sock"));
    let _ = std::fs::remove_file(&back);
    let unix = UnixListener::bind(&back).unwrap();
    let six = TcpListener::bind("[::1]:0").await.unwrap();
    let port = six.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = unix.accept().await.unwrap();
            tokio::spawn(answer(stream, "over a unix socket"));
        }
    });
    tokio::spawn(async move {
        loop {
            let (stream, _) = six.accept().await.unwrap();
            tokio::spawn(answer(stream, "over ipv6"));
        }
    });
    let sidecar = serve(&format!(
        "[listeners.six]\naddress = \"[::1]:0\"\n[listeners.unix]\naddress = \"unix:{}\"\n[services.api]\n\
         instances = [{{ id = \"u\", host = \"unix:{}\", port = 1 }}, {{ id = \"6\", host = \"::1\", port = {port} }}]",
        front.display(),
        back.display()
    ));
    let mut clients = vec![Client::new(UnixStream::connect(&front).await.unwrap())];
    clients.push(Client::new(UnixStream::connect(&front).await.unwrap()));
    for client in &mut clients {
        let texts = [client.get("/").await, client.get("/").await].map(|reply| reply.text().to_owned());
        assert_eq!(texts, ["over a unix socket", "over ipv6"]);
    }
    sidecar.enter(Phase::Closing);
    drop(clients);
    sidecar.ended().await;
    assert!(!front.exists(), "it takes its socket with it");
    let _ = std::fs::remove_dir_all(directory);
}

async fn answer(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, text: &str) {
    let mut wire = Client::new(stream);
    // Requests of this test are as long as they are.
    while let Some(()) = wire.skip_head().await {
        wire.send(response("200 OK", text)).await;
    }
}

#[tokio::test]
async fn a_second_sidecar_does_not_share_the_port_of_the_first() {
    let first = serve("[services.api]");
    let policy = format!("[listeners.web]\naddress = \"{}\"\n[services.api]", first.address);
    let second = service_mesh_proxy::Sidecar::from_policy(&policy).unwrap();
    let error = service_mesh_proxy::Server::bind(&second, 2).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}", first.address));
}

#[tokio::test]
async fn a_slow_head_is_told_so_and_ended() {
    let upstream = Upstream::answering(response("200 OK", "ok")).await;
    let policy = "limits.header_seconds = 0.05\nlimits.idle_seconds = 0.05\n[services.api]\n";
    let sidecar = serve(&format!("{policy}{}", crate::sidecar::instances("api", &[&upstream])));
    let mut slow = sidecar.connect().await;
    slow.send("GET / HTTP/1.1\r\nHost: a").await;
    let reply = slow.reply().await.unwrap();
    assert_eq!((reply.status, reply.refused()), (408, Some("bad_request")));
    assert_eq!(slow.byte().await, None);
    // One that has asked for nothing is owed no answer.
    assert_eq!(sidecar.connect().await.byte().await, None);
    assert_eq!(upstream.seen.requests(), 0);
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_begins_nothing() {
    let go_on = Arc::new(tokio::sync::Notify::new());
    let upstream = Upstream::start({
        let go_on = Arc::clone(&go_on);
        move |mut wire| {
            let go_on = Arc::clone(&go_on);
            async move {
                while wire.head().await.is_some() {
                    go_on.notified().await;
                    wire.write(response("200 OK", "done")).await;
                }
            }
        }
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let (mut busy, mut idle) = (sidecar.connect().await, sidecar.connect().await);
    go_on.notify_one();
    assert_eq!(idle.get("/").await.text(), "done");
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.seen.has_requests(2).await;
    sidecar.enter(Phase::Leaving);
    go_on.notify_one();
    // Whoever is served meanwhile is told to look elsewhere.
    let reply = busy.reply().await.unwrap();
    assert_eq!((reply.text(), reply.field("connection")), ("done", Some("close")));
    let mut busy = sidecar.connect().await;
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.seen.has_requests(3).await;
    sidecar.enter(Phase::Closing);
    assert_eq!(idle.byte().await, None);
    go_on.notify_one();
    assert_eq!(busy.reply().await.unwrap().text(), "done");
    sidecar.ended().await;
}

#[tokio::test]
async fn a_drain_whose_time_is_up_cuts_off_the_rest() {
    let upstream = Upstream::start(|mut wire| async move { wire.hang().await }).await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while upstream.seen.connections() == 0 {
        tokio::task::yield_now().await;
    }
    sidecar.enter(Phase::Closing);
    sidecar.enter(Phase::Ended);
    sidecar.ended().await;
    assert!(client.reply().await.is_none());
}

#[tokio::test]
async fn what_is_over_a_limit_waits_or_is_told_to_come_back() {
    let go_on = Arc::new(tokio::sync::Notify::new());
    let upstream = Upstream::start({
        let go_on = Arc::clone(&go_on);
        move |mut wire| {
            let go_on = Arc::clone(&go_on);
            async move {
                while wire.head().await.is_some() {
                    go_on.notified().await;
                    wire.write(response("200 OK", "served")).await;
                }
            }
        }
    })
    .await;
    let sidecar = serve_api(&[&upstream], "limits.in_flight = 1\nlimits.queue = 1");
    let (mut one, mut two, mut three) = (sidecar.connect().await, sidecar.connect().await, sidecar.connect().await);
    one.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.seen.has_requests(1).await;
    // Whichever of these comes second finds the queue full.
    two.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    three.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (refused, mut waiting) = tokio::select! {
        reply = two.reply() => (reply.unwrap(), three),
        reply = three.reply() => (reply.unwrap(), two),
    };
    assert_eq!((refused.status, refused.refused(), refused.field("retry-after")), (503, Some("overloaded"), Some("1")));
    go_on.notify_one();
    assert_eq!(one.reply().await.unwrap().text(), "served");
    go_on.notify_one();
    assert_eq!(waiting.reply().await.unwrap().text(), "served");
    assert_eq!(upstream.seen.requests(), 2);
}
