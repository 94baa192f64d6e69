//! The host that a request asks for: one, and proper.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Version};

use super::Fault;

/// The one host that a request asks for; empty where HTTP/1.0 names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    field: HeaderValue,
    /// Where the port begins, with its colon.
    port_at: usize,
}

impl Authority {
    /// With the port, if there is one: what a `Host` field says.
    pub(crate) fn field(&self) -> &HeaderValue {
        &self.field
    }

    /// Without the port, and without the dot that ends an absolute name.
    pub(crate) fn host(&self) -> &str {
        let host = std::str::from_utf8(&self.field.as_bytes()[..self.port_at]).unwrap_or_default();
        host.strip_suffix('.').unwrap_or(host)
    }
}

const NO_HOST: Fault = Fault::bad("a host that is none");

pub(super) fn check(request: &Parts) -> Result<Authority, Fault> {
    let mut fields = request.headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2
        //# A server MUST respond with a 400 (Bad Request) status code to any
        //# HTTP/1.1 request message that lacks a Host header field and to any
        //# request message that contains more than one Host header field line or
        //# a Host header field with an invalid field value.
        (_, Some(_)) => return Err(Fault::bad("several Host fields")),
        (None, None) if request.version == Version::HTTP_11 => return Err(Fault::bad("no Host field")),
        // HTTP/1.0 may name its host in the target, or nowhere.
        (None, None) => match request.uri.authority() {
            None => return Ok(Authority { field: HeaderValue::from_static(""), port_at: 0 }),
            Some(authority) => {
                let field = HeaderValue::from_str(authority.as_str()).map_err(|_| NO_HOST)?;
                let port_at = host_len(field.as_bytes()).filter(|len| *len > 0).ok_or(NO_HOST)?;
                return Ok(Authority { field, port_at });
            }
        },
        (Some(field), None) => field,
    };
    let port_at = host_len(field.as_bytes()).ok_or(NO_HOST)?;
    //= https://www.rfc-editor.org/rfc/rfc9110#section-4.2.1
    //# A recipient that processes such a URI reference MUST reject it as
    //# invalid.
    if port_at == 0 {
        return Err(Fault::bad("an empty host"));
    }
    // A proxy would have to replace the field by the target's authority (RFC 9112, section 3.2.2); whoever sends two
    // that differ wants one to be seen here and the other behind.
    let differs =
        |authority: &http::uri::Authority| !field.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
    if request.uri.authority().is_some_and(differs) {
        return Err(Fault::bad("a target that disagrees with the Host field"));
    }
    Ok(Authority { field: field.clone(), port_at })
}

/// How long the host is, of a host with or without a port; none if it is no such thing.
//= https://www.rfc-editor.org/rfc/rfc9110#section-7.2
//# Host = uri-host [ ":" port ]
fn host_len(field: &[u8]) -> Option<usize> {
    let host_len = match field {
        [b'[', address @ ..] => {
            let end = address.iter().position(|byte| *byte == b']')?;
            let address = std::str::from_utf8(&address[..end]).ok()?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            end + 2
        }
        _ => field.iter().position(|byte| *byte == b':').unwrap_or(field.len()),
    };
    let (host, port) = field.split_at(host_len);
    let is_name = host.starts_with(b"[") || host.iter().all(|byte| is_of_a_name(*byte));
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => {
            // Of any length: zeros may stand before it.
            let add = |port: u16, digit: &u8| {
                let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
                port.checked_mul(10)?.checked_add(digit)
            };
            digits.iter().try_fold(0, add).is_some()
        }
        _ => false,
    };
    (is_name && is_port).then_some(host_len)
}

/// What names and IPv4 addresses are made of, and the underscore, which names within a cluster have. RFC 3986 would
/// allow signs and encoded octets that no name in use has.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for (field, len) in [
            ("shop.example", 12),
            ("shop.example:80", 12),
            ("shop.example.", 13),
            ("shop:", 4),
            ("127.0.0.1:8080", 9),
            ("[::1]", 5),
            ("[::1]:80", 5),
            ("a_b", 3),
            ("", 0),
            (":80", 0),
        ] {
            assert_eq!(host_len(field.as_bytes()), Some(len), "{field}");
        }
        for field in [
            "a b",
            "a@b",
            "a:b",
            "a:80:90",
            "a:99999",
            "a:-1",
            "::1",
            "[::1",
            "[a]",
            "[::1]x",
            "a/b",
            "a,b",
            "a\\b",
            "a?",
            "a#",
            "ä",
            "a:+80",
            "[::1%25eth0]",
            "a%2eb",
        ] {
            assert_eq!(host_len(field.as_bytes()), None, "{field}");
        }
    }

    proptest! {
        #[test]
        fn a_proper_host_is_as_long_as_it_is(
            name in prop_oneof![
                "[a-zA-Z0-9_~-]{1,20}(\\.[a-zA-Z0-9_~-]{1,20}){0,4}\\.?",
                any::<[u8; 4]>().prop_map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
                any::<[u8; 16]>().prop_map(|ip| format!("[{}]", std::net::Ipv6Addr::from(ip))),
            ],
            port in proptest::option::of(any::<u16>()),
        ) {
            let field = port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
            prop_assert_eq!(host_len(field.as_bytes()), Some(name.len()));
        }

        #[test]
        fn whatever_is_let_through_is_read_by_all_in_one_way(
            field in proptest::collection::vec(
                prop_oneof![Just(b':'), Just(b'@'), Just(b'['), Just(b']'), Just(b'%'), Just(b'1'), any::<u8>()], 0..20),
        ) {
            let Some(len) = host_len(&field) else { return Ok(()) };
            let text = std::str::from_utf8(&field).expect("nothing beyond ASCII");
            let (host, port) = text.split_at(len);
            prop_assert!(!host.contains(['@', '/', '\\', ',', '%', ' ', '?', '#']), "{text}");
            prop_assert!(!host.contains(':') || host.starts_with('['), "{text}");
            prop_assert!(port.is_empty() || port == ":" || port[1..].parse::<u16>().is_ok(), "{text}");
        }
    }
}
