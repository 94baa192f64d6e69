//! The guard, over raw sockets.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use crate::guard_cases::CASES;
use crate::sidecar::serve_api;
use crate::upstream::{Upstream, response};

#[tokio::test]
async fn each_case_is_answered_as_it_should_and_reaches_nobody_whom_it_should_not() {
    const { assert!(CASES.len() >= 150) };
    // The heads of the requests that have come, and whether the body came to its end.
    let heads = Arc::<Mutex<Vec<(String, bool)>>>::default();
    let upstream = Upstream::start({
        let heads = Arc::clone(&heads);
        move |mut wire| {
            let heads = Arc::clone(&heads);
            async move {
                while let Some(head) = wire.head().await {
                    heads.lock().unwrap().push((head.clone(), false));
                    if wire.whole_body(&head).await.is_some() {
                        heads.lock().unwrap().last_mut().unwrap().1 = true;
                        wire.write(response("200 OK", "ok")).await;
                    }
                }
            }
        }
    })
    .await;
    let sidecar = serve_api(&[&upstream], "retry = false");
    let mut mistakes = String::new();
    for case in CASES {
        heads.lock().unwrap().clear();
        let mut client = sidecar.connect().await;
        client.send(case.bytes).await;
        // Some are answered as soon as the head is there; some need to know that no more will come.
        let mut statuses = Vec::new();
        if case.statuses.is_empty() {
            client.half_close().await;
        }
        let last = *case.statuses.last().unwrap_or(&0);
        for _ in case.statuses {
            statuses.extend(client.reply().await.map(|reply| reply.status));
        }
        let ends = last >= 400 || last == 0 || case.bytes.windows(5).any(|word| word == b"close");
        let is_over = !ends || client.byte().await.is_none();
        let heads = heads.lock().unwrap();
        let served = case.statuses.iter().filter(|status| **status == 200).count();
        let is_clean = heads.iter().all(|(head, _)| !head.contains("/smuggled"));
        let whole = heads.iter().filter(|(_, is_whole)| *is_whole).count();
        if statuses != case.statuses || !is_over || whole != served || !is_clean {
            let _ = writeln!(
                mistakes,
                "{}\n  {:?}\n  expected {:?}, was {statuses:?}, over: {is_over}, reached: {heads:?}",
                case.source,
                String::from_utf8_lossy(case.bytes),
                case.statuses,
            );
        }
    }
    assert!(mistakes.is_empty(), "{mistakes}");
}

#[tokio::test]
async fn what_grows_without_end_is_refused() {
    let upstream = Upstream::answering(response("200 OK", "ok")).await;
    let sidecar = serve_api(&[&upstream], "");
    let fields = |count: usize, length: usize| {
        let mut fields = String::new();
        (0..count).for_each(|number| {
            let _ = write!(fields, "X-{number}: {}\r\n", "x".repeat(length));
        });
        fields
    };
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(65_600)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(1, 70_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(90, 800)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(200, 1)), 431),
    ] {
        let mut client = sidecar.connect().await;
        client.send(request).await;
        assert_eq!(client.reply().await.unwrap().status, status);
        assert_eq!(client.byte().await, None);
    }
    assert_eq!(upstream.seen.requests(), 0);
    // What is large, but not too large, goes through.
    let mut client = sidecar.connect().await;
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(80, 700))).await;
    assert_eq!(client.reply().await.unwrap().status, 200);
}
