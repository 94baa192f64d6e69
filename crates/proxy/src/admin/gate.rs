//! Who may see the pages.
//!
//! With a token, whoever shows it, but for the questions that a kubelet asks, which tell nothing. Without one, this
//! machine. That is not yet enough: a web page in a browser of this machine can send requests to a loopback address. So
//! the `Host` must be an address or `localhost` there, since a page that has made its own name mean 127.0.0.1 sends that
//! name (DNS rebinding); and what changes something must not come from a page at all, which browsers say in `Origin`.

use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;

use hyper::Method;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use hyper::http::request::Parts;
use service_mesh::{AdminConfig, Authority, ListenAddress};

use super::pages::Refusal;

/// Decides who is let in.
pub(super) struct Gate {
    token: Option<String>,
    /// Whether it is reached by an address, and not by a path.
    is_tcp: bool,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is nobody's affair.
        f.debug_struct("Gate").field("is_tcp", &self.is_tcp).finish_non_exhaustive()
    }
}

impl Gate {
    pub(super) fn new(config: &AdminConfig) -> Self {
        Self { token: config.token.clone(), is_tcp: matches!(config.address, ListenAddress::Tcp(_)) }
    }

    /// Whether this request is let in.
    pub(super) fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        if head.method != Method::POST && ["/live", "/ready"].contains(&head.uri.path()) {
            return Ok(());
        }
        if let Some(token) = &self.token {
            return match bearer(&head.headers) {
                Some(shown) if is_equal(shown.as_bytes(), token.as_bytes()) => Ok(()),
                _ => Err(Refusal::unauthorized()),
            };
        }
        if self.is_tcp && !is_named_by_address(&head.headers) {
            return Err(Refusal::forbidden("without a token the pages are asked for by address, or as localhost"));
        }
        if head.method == Method::POST && head.headers.contains_key(ORIGIN) {
            return Err(Refusal::forbidden("without a token no web page may change anything"));
        }
        Ok(())
    }
}

/// The token that is shown.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    //= https://www.rfc-editor.org/rfc/rfc9110#section-11.1
    //# It uses a case-insensitive token to identify the authentication scheme
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Takes as long for a token that is wrong at its first character as for one that is wrong at its last. How long the token
/// is may be found out.
fn is_equal(shown: &[u8], token: &[u8]) -> bool {
    if shown.len() != token.len() {
        return false;
    }
    let differing = shown.iter().zip(token).fold(0, |differing, (one, other)| black_box(differing | (one ^ other)));
    black_box(differing) == 0
}

fn is_named_by_address(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else { return false };
    let name = match host.parse::<Authority>() {
        Ok(authority) => authority.host,
        Err(_) => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn gate(address: &str, token: Option<&str>) -> Gate {
        let mut config = AdminConfig::new(address.parse::<ListenAddress>().unwrap());
        config.token = token.map(String::from);
        Gate::new(&config)
    }

    fn status(gate: &Gate, request: &str, headers: &[(&str, &str)]) -> u16 {
        let (method, path) = request.split_once(' ').unwrap();
        let mut builder = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (head, ()) = builder.body(()).unwrap().into_parts();
        gate.admit(&head).map_or_else(|refusal| refusal.status().as_u16(), |()| 200)
    }

    #[test]
    fn with_a_token_who_shows_it_is_let_in() {
        let gate = gate("0.0.0.0:1", Some("0123456789abcdef"));
        for (authorization, expected) in [
            ("Bearer 0123456789abcdef", 200),
            ("bearer  0123456789abcdef", 200),
            ("Bearer 0123456789abcdeF", 401),
            ("Bearer 0123456789abcde", 401),
            ("Bearer 0123456789abcdef0", 401),
            ("Bearer", 401),
            ("Basic 0123456789abcdef", 401),
        ] {
            let headers = [("authorization", authorization), ("host", "mesh.example")];
            assert_eq!(status(&gate, "GET /metrics", &headers), expected, "{authorization}");
            assert_eq!(status(&gate, "POST /reset", &headers), expected, "{authorization}");
        }
        assert_eq!(status(&gate, "GET /snapshot", &[]), 401);
        for path in ["/live", "/ready"] {
            assert_eq!(status(&gate, &format!("GET {path}"), &[]), 200);
            assert_eq!(status(&gate, &format!("POST {path}"), &[]), 401);
        }
    }

    #[test]
    fn without_a_token_no_name_but_localhost_leads_here() {
        let gate = gate("127.0.0.1:1", None);
        for (host, expected) in [
            ("127.0.0.1:1", 200),
            ("127.0.0.1", 200),
            ("[::1]:1", 200),
            ("[::1]", 200),
            ("LocalHost:1", 200),
            ("evil.example:1", 403),
            ("evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("", 403),
        ] {
            assert_eq!(status(&gate, "GET /snapshot", &[("host", host)]), expected, "{host}");
        }
        assert_eq!(status(&gate, "GET /snapshot", &[]), 403);
        assert_eq!(status(&gate, "GET /snapshot", &[("host", "localhost"), ("host", "evil.example")]), 403);
    }

    #[test]
    fn without_a_token_no_web_page_changes_anything() {
        for gate in [gate("127.0.0.1:1", None), gate("unix:/run/mesh.sock", None)] {
            let host = ("host", "localhost");
            assert_eq!(status(&gate, "POST /reset", &[host]), 200);
            assert_eq!(status(&gate, "POST /reset", &[host, ("origin", "https://evil.example")]), 403);
            assert_eq!(status(&gate, "POST /reset", &[host, ("origin", "null")]), 403);
        }
        assert_eq!(status(&gate("unix:/run/mesh.sock", None), "GET /snapshot", &[("host", "any")]), 200);
    }
}
