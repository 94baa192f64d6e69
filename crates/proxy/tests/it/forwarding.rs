//! A request goes through, whoever of the instances answers it.

use crate::sidecar::{instances, serve, serve_api};
use crate::upstream::{Upstream, field, response};

#[tokio::test]
async fn a_request_reaches_an_instance_and_its_answer_the_client() {
    let upstream = Upstream::start(|mut wire| async move {
        while let Some(head) = wire.head().await {
            assert!(head.starts_with("GET /items?page=2 HTTP/1.1\r\n"), "{head}");
            assert_eq!(field(&head, "host"), Some("shop.example"));
            assert_eq!(field(&head, "via"), Some("1.1 service-mesh"));
            assert_eq!(field(&head, "x-forwarded-for"), Some("127.0.0.1"));
            assert_eq!(field(&head, "x-hop"), None);
            wire.write(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Answer: 7\r\nConnection: x-own\r\nX-Own: 1\r\n\r\nok",
            )
            .await;
        }
    })
    .await;
    let sidecar = serve_api(&[&upstream], "");
    let mut client = sidecar.connect().await;
    let request = "GET /items?page=2 HTTP/1.1\r\nHost: shop.example\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
    for _ in 0..3 {
        client.send(request).await;
        let reply = client.reply().await.unwrap();
        assert_eq!((reply.status, reply.text(), reply.field("x-answer")), (200, "ok", Some("7")));
        assert_eq!((reply.field("x-own"), reply.refused()), (None, None));
    }
    // All of them went by one connection.
    assert_eq!((upstream.seen.connections(), upstream.seen.requests()), (1, 3));
}

#[tokio::test]
async fn an_instance_that_is_gone_is_not_noticed() {
    let (absent, present) = (Upstream::absent().await, Upstream::answering(response("200 OK", "b")).await);
    let sidecar = serve_api(&[&absent, &present], "retry.initial_delay_seconds = 0");
    let mut client = sidecar.connect().await;
    for _ in 0..20 {
        // What was never sent may be sent again, whatever the method.
        assert_eq!(client.put("POST", "/", "order").await.text(), "b");
    }
}

#[tokio::test]
async fn a_status_that_may_pass_is_tried_elsewhere_where_that_is_safe() {
    let busy = Upstream::answering(response("503 Service Unavailable", "busy")).await;
    let well = Upstream::answering(response("200 OK", "well")).await;
    let sidecar = serve_api(&[&busy, &well], "retry.initial_delay_seconds = 0\ninstance_circuit_breaker = false");
    let mut client = sidecar.connect().await;
    for _ in 0..4 {
        assert_eq!(client.get("/").await.text(), "well");
        assert_eq!(client.put("PUT", "/", "idempotent").await.text(), "well");
    }
    let asked = busy.seen.requests();
    let posts = [client.put("POST", "/", "once").await, client.put("POST", "/", "once").await];
    assert_eq!(busy.seen.requests(), asked + 1);
    let mut texts = posts.map(|reply| reply.text().to_owned());
    texts.sort();
    assert_eq!(texts, ["busy", "well"]);
}

#[tokio::test]
async fn the_last_answer_of_the_service_is_the_answer() {
    let one = Upstream::answering(response("502 Bad Gateway", "no luck")).await;
    let sidecar = serve_api(&[&one], "retry.max_retries = 2\nretry.initial_delay_seconds = 0");
    let reply = sidecar.connect().await.get("/").await;
    assert_eq!((reply.status, reply.text(), reply.refused()), (502, "no luck", None));
    assert_eq!(one.seen.requests(), 3);
}

#[tokio::test]
async fn a_status_that_will_not_pass_is_not_tried_again() {
    let broken = Upstream::answering(response("500 Internal Server Error", "bug")).await;
    let sidecar = serve_api(&[&broken], "retry.initial_delay_seconds = 0");
    let reply = sidecar.connect().await.get("/").await;
    assert_eq!((reply.status, reply.text(), broken.seen.requests()), (500, "bug", 1));
}

#[tokio::test]
async fn a_time_that_no_clock_can_tell_is_no_limit() {
    let well = Upstream::answering(response("200 OK", "well")).await;
    for limit in ["call_seconds", "attempt_seconds", "connect_seconds", "header_seconds", "idle_seconds"] {
        let sidecar = serve_api(&[&well], &format!("timeouts.{limit} = 1e19"));
        assert_eq!(sidecar.connect().await.get("/").await.text(), "well", "{limit}");
    }
    let sidecar = serve_api(&[&well], "");
    let mut client = sidecar.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Service-Mesh-Timeout-Ms: 18446744073709551615\r\n\r\n").await;
    assert_eq!(client.reply().await.unwrap().text(), "well");
}

#[tokio::test]
async fn the_policy_says_after_which_statuses_another_instance_is_asked() {
    for (status, statuses, is_tried_again) in [
        ("500 Internal Server Error", "500", true),
        ("503 Service Unavailable", "500", false),
        ("503 Service Unavailable", "none", false),
        ("429 Too Many Requests", "400-599", true),
        ("404 Not Found", "404, 503", true),
        ("404 Not Found", "502-504", false),
    ] {
        let (one, well) =
            (Upstream::answering(response(status, "no luck")), Upstream::answering(response("200 OK", "well")));
        let (one, well) = (one.await, well.await);
        let policy = format!("replay.statuses = '{statuses}'\nretry.initial_delay_seconds = 0");
        let sidecar = serve_api(&[&one, &well], &policy);
        let reply = sidecar.connect().await.get("/").await;
        let expected = if is_tried_again { "well" } else { "no luck" };
        assert_eq!((reply.text(), one.seen.requests()), (expected, 1), "{status} with {statuses}");
        // What is not safe to repeat is not, whatever its answer is.
        let sidecar = serve_api(&[&one, &well], &policy);
        let reply = sidecar.connect().await.put("POST", "/", "once").await;
        assert_eq!(reply.text(), "no luck", "{status} with {statuses}");
    }
}

#[tokio::test]
async fn whoever_is_asked_to_come_back_too_late_gives_up_at_once() {
    let busy = Upstream::answering("HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 4\r\n\r\nbusy").await;
    let sidecar = serve_api(&[&busy], "");
    let reply = sidecar.connect().await.get("/").await;
    assert_eq!((reply.status, reply.field("retry-after"), busy.seen.requests()), (503, Some("3600"), 1));
}

#[tokio::test]
async fn a_retry_after_of_no_time_is_none() {
    let busy = Upstream::answering("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nbusy").await;
    let well = Upstream::answering(response("200 OK", "well")).await;
    let sidecar = serve_api(&[&busy, &well], "retry.initial_delay_seconds = 0");
    assert_eq!(sidecar.connect().await.get("/").await.text(), "well");
}

#[tokio::test]
async fn an_open_circuit_is_told_with_the_time_to_come_back() {
    let broken = Upstream::answering(response("500 Internal Server Error", "bug")).await;
    let sidecar = serve_api(&[&broken], "circuit_breaker.failure_threshold = 2");
    let mut client = sidecar.connect().await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.status, 500);
    }
    let reply = client.get("/").await;
    assert_eq!((reply.status, reply.refused(), reply.field("retry-after")), (503, Some("circuit_open"), Some("30")));
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((&body["refused"], &body["service"]), (&"circuit_open".into(), &"api".into()));
    assert_eq!(broken.seen.requests(), 2);
    // The connection goes on.
    assert_eq!(client.get("/").await.status, 503);
}

#[tokio::test]
async fn a_service_without_instances_says_so() {
    let sidecar = serve("[services.api]");
    let reply = sidecar.connect().await.get("/").await;
    assert_eq!((reply.status, reply.refused()), (503, Some("no_healthy_instance")));
}

#[tokio::test]
async fn routes_decide_by_host_path_and_method() {
    let [shop, pay, rest] = [
        Upstream::answering(response("200 OK", "shop")).await,
        Upstream::answering(response("200 OK", "pay")).await,
        Upstream::answering(response("200 OK", "rest")).await,
    ];
    let services =
        [("shop", &shop), ("pay", &pay), ("rest", &rest)].map(|(name, one)| instances(name, &[one])).concat();
    let routes = r#"
        [[routes]]
        service = "rest"
        path_prefix = "/rest"
        methods = ["GET"]
        [[routes]]
        service = "shop"
        host = "shop.example"
        [[routes]]
        service = "pay"
        host = "shop.example"
        path_prefix = "/pay"
    "#;
    let sidecar = serve(&format!("{services}{routes}"));
    let mut client = sidecar.connect().await;
    assert_eq!(client.get("/").await.text(), "shop");
    assert_eq!(client.get("/pay/7").await.text(), "pay");
    assert_eq!(client.get("/payroll").await.text(), "shop");
    client.send("GET /rest HTTP/1.1\r\nHost: other.example:80\r\n\r\n").await;
    assert_eq!(client.reply().await.unwrap().text(), "rest");
    client.send("DELETE /rest HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.status, reply.refused()), (404, Some("no_route")));
}

#[tokio::test]
async fn the_deadline_goes_with_the_request_and_ends_it() {
    let upstream = Upstream::start(|mut wire| async move {
        let head = wire.head().await.unwrap();
        let left: u64 = field(&head, "x-service-mesh-timeout-ms").unwrap().parse().unwrap();
        assert!(left <= 50, "{left}");
        wire.hang().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "timeouts.call_seconds = 30");
    let mut client = sidecar.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Service-Mesh-Timeout-Ms: 50\r\n\r\n").await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.status, reply.refused()), (504, Some("deadline_exceeded")));
    upstream.seen.has_ended(1).await;
}

#[tokio::test]
async fn an_instance_that_hangs_costs_an_attempt_and_not_the_call() {
    let hanging = Upstream::start(|mut wire| async move { wire.hang().await }).await;
    let well = Upstream::answering(response("200 OK", "well")).await;
    let more = "timeouts.attempt_seconds = 0.05\nretry.initial_delay_seconds = 0";
    let sidecar = serve_api(&[&hanging, &well], more);
    assert_eq!(sidecar.connect().await.get("/").await.text(), "well");
    hanging.seen.has_ended(1).await;
    let sidecar = serve_api(&[&hanging], "timeouts.attempt_seconds = 0.05\nretry = false");
    let reply = sidecar.connect().await.get("/").await;
    assert_eq!((reply.status, reply.refused()), (504, Some("attempt_timed_out")));
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_instance_at_once_and_counts_for_nothing() {
    let upstream = Upstream::start(|mut wire| async move {
        wire.head().await;
        wire.hang().await;
    })
    .await;
    let sidecar = serve_api(&[&upstream], "circuit_breaker.failure_threshold = 1");
    for gone in 1..=3 {
        let mut client = sidecar.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        upstream.seen.has_requests(gone).await;
        if gone == 2 {
            client.reset();
        } else {
            drop(client);
        }
        upstream.seen.has_ended(gone).await;
    }
    let api = sidecar.proxy("api");
    assert_eq!(api.circuit_breaker().failure_count(), 0);
    assert_eq!(api.load_balancer().endpoints()[0].in_flight, 0);
    assert_eq!(sidecar.sidecar.in_flight("api"), Some(0));
}
