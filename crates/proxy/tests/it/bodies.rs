//! Bodies, both ways: streamed, kept, replayed, broken off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sidecar::serve_api;
use crate::upstream::{Upstream, response};

const AT_ONCE: &str = "retry.initial_delay_seconds = 0";

/// Tells the client what it was sent.
async fn echo() -> Upstream {
    Upstream::start(|mut wire| async move {
        while let Some(head) = wire.head().await {
            let body = wire.body(&head).await;
            wire.write(response("200 OK", std::str::from_utf8(&body).unwrap())).await;
        }
    })
    .await
}

#[tokio::test]
async fn bodies_go_through_with_a_length_or_in_chunks() {
    let echo = echo().await;
    let sidecar = serve_api(&[&echo], "");
    let mut client = sidecar.connect().await;
    assert_eq!(client.put("POST", "/", "with a length").await.text(), "with a length");
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=1\r\nin\r\n7\r\n chunks\r\n0\r\n\r\n";
    client.send(chunked).await;
    assert_eq!(client.reply().await.unwrap().text(), "in chunks");
    // A GET may have one too.
    client.send(chunked.replace("POST", "GET")).await;
    assert_eq!(client.reply().await.unwrap().text(), "in chunks");
    assert_eq!(client.put("POST", "/", "").await.text(), "");
}

#[tokio::test]
async fn a_body_streams_while_it_is_sent() {
    let upstream = Upstream::start(|mut wire| async move {
        wire.head().await;
        assert_eq!(wire.chunk().await.unwrap(), b"one");
        wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
        assert_eq!(wire.chunk().await.unwrap(), b"two");
        wire.write("6\r\nsecond\r\n").await;
        assert_eq!(wire.chunk().await.unwrap(), b"");
        wire.write("0\r\n\r\n").await;
        wire.hang().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await;
    let head = client.reply_to("HEAD").await.unwrap();
    assert_eq!(head.status, 200);
    // Each side hears the other before either has come to its end.
    assert_eq!(client.exactly(10).await, b"5\r\nfirst\r\n");
    client.send("3\r\ntwo\r\n").await;
    assert_eq!(client.exactly(11).await, b"6\r\nsecond\r\n");
    client.send("0\r\n\r\n").await;
    assert_eq!(client.exactly(5).await, b"0\r\n\r\n");
}

#[tokio::test]
async fn a_body_is_sent_again_from_its_beginning() {
    let resets = Upstream::start(|mut wire| async move {
        let head = wire.head().await.unwrap();
        if head.contains("ontent-") {
            wire.bytes(4).await;
        }
        wire.reset();
    })
    .await;
    let echo = echo().await;
    let sidecar = serve_api(&[&resets, &echo], &format!("{AT_ONCE}\ninstance_circuit_breaker = false"));
    let mut client = sidecar.connect().await;
    for _ in 0..4 {
        assert_eq!(client.put("PUT", "/", "all of it").await.text(), "all of it");
        client
            .send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n6\r\n of it\r\n0\r\n\r\n")
            .await;
        assert_eq!(client.reply().await.unwrap().text(), "all of it");
    }
    assert!(resets.seen.requests() >= 2);
}

#[tokio::test]
async fn a_body_that_is_too_large_to_keep_is_sent_once() {
    let half = Upstream::start(|mut wire| async move {
        wire.head().await;
        wire.bytes(70_000).await;
        wire.reset();
    })
    .await;
    let sidecar = serve_api(&[&half], AT_ONCE);
    let reply = sidecar.connect().await.put("PUT", "/", &"x".repeat(100_000)).await;
    assert_eq!((reply.status, reply.refused()), (502, Some("connection_lost")));
    assert_eq!(half.seen.requests(), 1);
}

#[tokio::test]
async fn the_policy_says_how_much_of_a_body_is_kept() {
    let half = Upstream::start(|mut wire| async move {
        wire.head().await;
        wire.bytes(300_000).await;
        wire.reset();
    })
    .await;
    let echo = echo().await;
    let body: String = (0..300_000).map(|number| char::from(b'a' + u8::try_from(number % 26).unwrap())).collect();
    let sidecar = serve_api(&[&half, &echo], &format!("{AT_ONCE}\nreplay.body_bytes = 300_000"));
    assert!(sidecar.connect().await.put("PUT", "/", &body).await.text() == body);
    let sidecar = serve_api(&[&half, &echo], &format!("{AT_ONCE}\nreplay.body_bytes = 299_999"));
    assert_eq!(sidecar.connect().await.put("PUT", "/", &body).await.refused(), Some("connection_lost"));
}

#[tokio::test]
async fn a_large_body_goes_through_whole_in_both_directions() {
    let echo = echo().await;
    let sidecar = serve_api(&[&echo], "");
    let body: String = (0..300_000).map(|number| char::from(b'a' + u8::try_from(number % 26).unwrap())).collect();
    let reply = sidecar.connect().await.put("POST", "/", &body).await;
    assert!(reply.text() == body);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let echo = echo().await;
    let sidecar = serve_api(&[&echo], "limits.body_bytes = 10");
    let reply = sidecar.connect().await.put("POST", "/", "more than ten").await;
    assert_eq!((reply.status, reply.refused()), (413, Some("body_too_large")));
    assert_eq!(echo.seen.requests(), 0);
    let mut client = sidecar.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n")
        .await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.status, reply.refused()), (413, Some("body_too_large")));
    let api = sidecar.proxy("api");
    assert_eq!(api.circuit_breaker().failure_count(), 0);
}

#[tokio::test]
async fn a_client_waits_for_100_before_it_sends_and_is_not_asked_where_nobody_takes_it() {
    let echo = echo().await;
    let sidecar = serve_api(&[&echo], "");
    let mut client = sidecar.connect().await;
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    client.send(head).await;
    assert_eq!(client.reply().await.unwrap().status, 100);
    client.send("body").await;
    assert_eq!(client.reply().await.unwrap().text(), "body");
    let api = sidecar.proxy("api");
    api.circuit_breaker().force_open();
    client.send(head).await;
    assert_eq!(client.reply().await.unwrap().refused(), Some("circuit_open"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_at_the_client_and_is_a_failure() {
    let whole = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start({
        let whole = Arc::clone(&whole);
        move |mut wire| {
            let whole = Arc::clone(&whole);
            async move {
                wire.head().await;
                match whole.fetch_add(1, Ordering::SeqCst) {
                    0 => wire.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await,
                    1 => wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await,
                    _ => {
                        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
                        wire.reset();
                    }
                }
            }
        }
    })
    .await;
    let sidecar = serve_api(&[&upstream], "circuit_breaker.failure_threshold = 3");
    for _ in 0..3 {
        let reply = sidecar.connect().await.get("/").await;
        assert_eq!((reply.status, reply.is_whole), (200, false));
    }
    assert_eq!(sidecar.connect().await.get("/").await.refused(), Some("circuit_open"));
}

#[tokio::test]
async fn trailers_go_through_in_both_directions() {
    let upstream = Upstream::start(|mut wire| async move {
        let head = wire.head().await.unwrap();
        assert!(head.contains("trailer: X-Sum"), "{head}");
        assert!(head.contains("te: trailers") && head.contains("connection: te"), "{head}");
        assert_eq!(wire.bytes(11).await, b"3\r\nabc\r\n0\r\n");
        assert_eq!(wire.lines().await, ["x-sum: 6"]);
        wire.write(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n\r\n2\r\nok\r\n0\r\nX-Back: 7\r\nHost: evil\r\n\r\n",
        )
        .await;
        wire.hang().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\
             Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n",
        )
        .await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.text(), reply.is_whole), ("ok", true));
    assert_eq!(reply.trailers, ["x-back: 7"]);
}
