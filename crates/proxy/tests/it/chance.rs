//! What holds of every policy file and of every stream of bytes that a client may send, tried on some that chance makes.
//!
//! The seed is fixed, so that a failure here is a failure everywhere; `PROPTEST_CASES=100000` hunts for longer.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed};
use service_mesh::read_policy_file;
use tokio::runtime::Builder;

use crate::sidecar::serve_api;
use crate::upstream::{Upstream, response};

fn cases(cases: u32) -> Config {
    let hunting = std::env::var_os("PROPTEST_CASES").is_some();
    let usual = Config { failure_persistence: None, ..Config::default() };
    if hunting { usual } else { Config { cases, rng_seed: RngSeed::Fixed(0x5eed), ..usual } }
}

// ----- the sidecar's sections of the policy file -----

/// Sections as somebody may write them, each of them in order.
fn sections() -> impl Strategy<Value = Vec<String>> {
    let seconds = || (1..1_000_000_u32).prop_map(|millis| f64::from(millis) / 1000.0);
    let address = prop_oneof![
        (any::<[u8; 4]>(), 1..=u16::MAX).prop_map(|(ip, port)| format!("{}:{port}", std::net::Ipv4Addr::from(ip))),
        (any::<[u8; 16]>(), 1..=u16::MAX).prop_map(|(ip, port)| format!("[{}]:{port}", std::net::Ipv6Addr::from(ip))),
        "/[a-z]{1,9}/[a-z]{1,9}\\.sock".prop_map(|path| format!("unix:{path}")),
    ];
    let listener = ("[a-z]{1,8}", address, 1..9999_u32, seconds(), seconds(), 8192..99_999_u32).prop_map(
        |(name, address, connections, header, idle, bytes)| {
            format!(
                "[listeners.{name}]\naddress = '{address}'\nlimits = {{ connections = {connections}, \
                 header_seconds = {header}, idle_seconds = {idle}, header_bytes = {bytes}, body_bytes = {bytes} }}\n"
            )
        },
    );
    let route = (
        "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}",
        "(/[a-z0-9]{1,6}){1,3}",
        proptest::sample::subsequence(vec!["'GET'", "'POST'", "'PUT'", "'DELETE'"], 0..4),
        any::<[bool; 3]>(),
    )
        .prop_map(|(host, path, methods, [has_host, is_wild, has_path])| {
            let mut text = String::from("[[routes]]\nservice = 'api'\n");
            if has_host {
                let _ = writeln!(text, "host = '{}{host}'", if is_wild { "*." } else { "" });
            }
            if has_path {
                let _ = writeln!(text, "path_prefix = '{path}'");
            }
            if !methods.is_empty() {
                let _ = writeln!(text, "methods = [{}]", methods.join(", "));
            }
            text
        });
    // Never where a listener is.
    let admin = (1..=u16::MAX, "[a-zA-Z0-9]{16,40}")
        .prop_map(|(port, token)| format!("[admin]\naddress = 'unix:/admin-{port}'\ntoken = '{token}'\n"));
    let log = (select(vec!["off", "all", "sampled"]), 0.0..=1.0_f64).prop_map(|(mode, ratio)| {
        format!(
            "[access_log]\nmode = '{mode}'\n{}",
            if mode == "sampled" { format!("sample_ratio = {ratio}\n") } else { String::new() }
        )
    });
    let drain = (seconds(), seconds())
        .prop_map(|(delay, deadline)| format!("[drain]\ndelay_seconds = {delay}\ndeadline_seconds = {deadline}\n"));
    let service = (1..99_u32, 1..99_u32, seconds(), any::<bool>()).prop_map(|(rise, fall, timeout, is_found)| {
        let interval = timeout * 2.0;
        let found = "discovery = { dns = 'api.internal:8080', min_ttl_seconds = 1, max_ttl_seconds = 60 }\n";
        format!(
            "[services.api]\n{}health_check = {{ rise = {rise}, fall = {fall}, interval_seconds = {interval}, \
             timeout_seconds = {timeout}, statuses = '200-299, 304' }}\nlimits = {{ in_flight = {rise}, queue = {fall} }}\n",
            if is_found { found } else { "" }
        )
    });
    (service, listener, proptest::collection::vec(route, 0..6), admin, log, drain).prop_map(
        |(service, listener, routes, admin, log, drain)| {
            // No two of them fit the same requests, which would be a mistake.
            let routes = routes.into_iter().enumerate().map(|(number, route)| {
                if route.contains("path_prefix") {
                    route.replacen("path_prefix = '", &format!("path_prefix = '/{number}"), 1)
                } else {
                    format!("{route}path_prefix = '/{number}'\n")
                }
            });
            let routes = routes.collect();
            [vec![service, listener], routes, vec![admin, log, drain]].concat()
        },
    )
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_policy_that_was_read_is_written_and_read_as_the_same(sections in sections()) {
        let text = sections.concat();
        let read = read_policy_file(&text);
        prop_assert!(read.is_ok(), "{text}\n{}", read.unwrap_err());
        let read = read.unwrap();
        let written = toml::to_string(&read).unwrap();
        match read_policy_file(&written) {
            Ok(again) => prop_assert_eq!(again, read),
            Err(error) => prop_assert!(false, "{written}\n{error}"),
        }
    }

    #[test]
    fn a_mistake_stands_where_it_is_told(sections in sections(), at in any::<Index>(), letter in "[a-z]") {
        let text = sections.concat();
        let lines: Vec<&str> = text.lines().collect();
        let keys: Vec<usize> = (0..lines.len()).filter(|line| lines[*line].contains(" = ")).collect();
        let line = keys[at.index(keys.len())];
        // A letter too many at the end of a key: no key is another one with a letter behind it.
        let (key, value) = lines[line].split_once(" = ").unwrap();
        let mut mistaken: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        mistaken[line] = format!("{key}{letter} = {value}");
        let error = read_policy_file(&mistaken.join("\n")).unwrap_err();
        prop_assert!(
            error.mistakes().iter().any(|mistake| mistake.line() == line + 1 && mistake.message().contains(&format!("did you mean {key}"))),
            "line {}: {}\n{error}", line + 1, mistaken[line]
        );
    }

    #[test]
    fn no_text_is_too_strange_to_be_refused_in_order(sections in sections(), cut in any::<Index>(), strange in "\\PC{0,20}", drop in 0..40_usize) {
        let text = sections.concat();
        let at = cut.index(text.len());
        let text = format!("{}{strange}{}", &text[..at], &text[(at + drop).min(text.len())..]);
        if let Err(error) = read_policy_file(&text) {
            prop_assert!(!error.mistakes().is_empty());
            for mistake in error.mistakes() {
                let line = text.split('\n').nth(mistake.line().max(1) - 1);
                prop_assert!(line.is_some() && mistake.column() <= line.unwrap().chars().count() + 1, "{mistake:?} in {text}");
            }
        }
    }

    #[test]
    fn it_makes_no_difference_where_a_route_stands(sections in sections(), turn in any::<Index>()) {
        let (routes, rest): (Vec<String>, Vec<String>) = sections.into_iter().partition(|text| text.starts_with("[[routes]]"));
        let policy = |routes: &[String]| read_policy_file(&[rest.concat(), routes.concat()].concat()).unwrap().routes;
        let mut turned = routes.clone();
        if !turned.is_empty() {
            turned.rotate_left(turn.index(routes.len()));
        }
        // Of two that are equally specific the first decides, so these may change places.
        let kind = |host: &Option<String>| host.as_deref().map(|host| match host.strip_prefix("*.") {
            None => (true, 0),
            Some(rest) => (false, rest.len()),
        });
        for routes in [policy(&routes), policy(&turned)] {
            for (at, one) in routes.iter().enumerate() {
                for later in &routes[at + 1..] {
                    prop_assert!(kind(&one.host) >= kind(&later.host), "{one:?} before {later:?}");
                    let ranks = [one, later].map(|route| (route.path_prefix.len(), !route.methods.is_empty()));
                    prop_assert!(one.host != later.host || ranks[0] >= ranks[1], "{one:?} before {later:?}");
                }
            }
        }
    }
}

// ----- the guard -----

/// What requests are made of, and what has been used to make two of one.
const PIECES: [&str; 40] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "\0",
    "\x0b",
    "0",
    "3",
    "a",
    "abc",
    "0\r\n\r\n",
    "3\r\nabc\r\n",
    "+3",
    "0x3",
    "1.0",
    "1.1",
    "HTTP/1.1",
    "GET / HTTP/1.1\r\n",
    "POST /x HTTP/1.1\r\n",
    "Host: api.example\r\n",
    "Host: other\r\n",
    "Host : api.example\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "content-length:3\n",
    "Content-Length: 3, 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Connection: close\r\n",
    "Connection: host, content-length\r\n",
    "TE: trailers\r\n",
    "Expect: 100-continue\r\n",
    " folded\r\n",
];

const REQUESTS: [&str; 4] = [
    "GET /one HTTP/1.1\r\nHost: api.example\r\n\r\n",
    "PUT /two HTTP/1.1\r\nHost: api.example\r\nContent-Length: 3\r\n\r\nabc",
    "PUT /three HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "PUT /four HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3;a=b\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
];

/// Requests, with pieces put in and bytes taken out.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0..12_usize, select(PIECES.to_vec()), any::<bool>());
    (proptest::collection::vec(select(REQUESTS.to_vec()), 1..3), proptest::collection::vec(change, 0..4)).prop_map(
        |(requests, changes)| {
            let mut stream = requests.concat().into_bytes();
            for (at, count, piece, takes_out) in changes {
                let at = at.index(stream.len() + 1);
                let end = if takes_out { (at + count).min(stream.len()) } else { at };
                stream.splice(at..end, piece.bytes());
            }
            stream
        },
    )
}

/// What is wrong with a head as it arrives at an instance.
fn wrong(head: &str) -> Option<&'static str> {
    let lines: Vec<&str> = head.strip_suffix("\r\n\r\n")?.split("\r\n").collect();
    let count = |name: &str| {
        lines.iter().filter(|line| line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name))).count()
    };
    let is_line = |line: &&str| line.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte) || byte >= 0x80);
    let is_field = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        line.contains(':')
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let words: Vec<&str> = lines[0].split(' ').collect();
    match () {
        () if !lines.iter().all(is_line) => Some("a control character"),
        () if words.len() != 3 || words[2] != "HTTP/1.1" => Some("the line of the request"),
        () if !lines[1..].iter().all(is_field) => Some("a field without a name"),
        () if count("host") != 1 => Some("not one Host"),
        () if count("content-length") + count("transfer-encoding") > 1 => Some("two framings"),
        () => None,
    }
}

#[test]
fn whatever_a_client_sends_an_instance_gets_proper_requests_and_one_for_each_answer() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let upstream = runtime.block_on(Upstream::start({
        let heads = Arc::clone(&heads);
        move |mut wire| {
            let heads = Arc::clone(&heads);
            async move {
                while let Some(head) = wire.head().await {
                    heads.lock().unwrap().push(head.clone());
                    if wire.whole_body(&head).await.is_none() {
                        return;
                    }
                    wire.write(response("200 OK", "well")).await;
                }
            }
        }
    }));
    let sidecar = serve_api(&[&upstream], "retry = false\ncircuit_breaker.failure_threshold = 1000000");
    proptest!(cases(400), |(stream in stream())| {
        let answered = runtime.block_on(async {
            let mut client = sidecar.connect().await;
            client.send(&stream).await;
            let _ = client.try_half_close().await;
            let mut answered = 0;
            while let Some(reply) = client.reply().await {
                // An interim answer is none.
                answered += usize::from(reply.status >= 200 && reply.refused().is_none() && reply.text() == "well");
            }
            answered
        });
        // What is under way at the instance has been answered, or never will be.
        while sidecar.sidecar.in_flight("api") != Some(0) {
            std::thread::yield_now();
        }
        let heads = std::mem::take(&mut *heads.lock().unwrap());
        for head in &heads {
            prop_assert_eq!(wrong(head), None, "{}", head);
        }
        prop_assert!(answered <= heads.len(), "{answered} answers to {heads:?}");
        // A body that broke off is not answered, and the last that there is.
        prop_assert!(heads.len() <= answered + 1, "{answered} answers to {heads:?}");
    });
}
