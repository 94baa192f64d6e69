//! For whom a request is forwarded, told in a way that nobody outside can forge.
//!
//! `Forwarded` (RFC 7239) and the older `X-Forwarded-For`, `-Proto` and `-Host` say the same to different services. A
//! service believes them, so that what a stranger sent is thrown away; what a neighbour sent is kept and added to, for
//! there another proxy has seen the client. A neighbour is whoever comes over loopback, a Unix socket, or from an address
//! that is not of the public internet (Caddy's `private_ranges`).

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::headers::present::Present;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_SERVER: HeaderName = HeaderName::from_static("x-forwarded-server");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What a stranger must not say.
pub(super) const CLAIMS: [HeaderName; 8] = [
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    X_FORWARDED_PORT,
    X_FORWARDED_SERVER,
    X_FORWARDED_PREFIX,
    X_REAL_IP,
];

/// The client of one connection, as the fields name it. Worked out once for each connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    is_neighbour: bool,
    address: Option<IpAddr>,
    x_forwarded_for: HeaderValue,
    forwarded: HeaderValue,
}

impl Client {
    /// Whoever is at this address; without one he is on the other side of a Unix socket.
    pub(crate) fn new(address: Option<IpAddr>) -> Self {
        let address = address.map(|address| address.to_canonical());
        let name = address.map_or_else(|| String::from("unknown"), |address| address.to_string());
        //= https://www.rfc-editor.org/rfc/rfc7239#section-6
        //# Note that an IPv6 address is always enclosed in square brackets.
        let node =
            if address.is_some_and(|address| address.is_ipv6()) { format!("\"[{name}]\"") } else { name.clone() };
        let value = |text: String| HeaderValue::from_maybe_shared(bytes::Bytes::from(text));
        Self {
            is_neighbour: address.is_none_or(is_private),
            address,
            x_forwarded_for: value(name).unwrap_or(HeaderValue::from_static("unknown")),
            forwarded: value(format!("for={node};proto=http")).unwrap_or(HeaderValue::from_static("for=unknown")),
        }
    }

    /// Whether what he says is believed.
    pub(crate) fn is_neighbour(&self) -> bool {
        self.is_neighbour
    }

    /// His address, if he has one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Says for whom the request is forwarded, and which host he asked for. `present` tells what it says already.
    pub(crate) fn sign(&self, headers: &mut HeaderMap, present: Present, host: &HeaderValue) {
        if present.has(Present::UNDERSCORE) {
            remove_look_alikes(headers);
        }
        if present.has(Present::CLAIM) && !self.is_neighbour {
            for name in &CLAIMS {
                headers.remove(name);
            }
        }
        if !(present.has(Present::CLAIM) && self.is_neighbour) {
            // Nearly always: nobody has said anything, or nothing of it counts.
            headers.insert(X_FORWARDED_FOR, self.x_forwarded_for.clone());
            headers.insert(FORWARDED, self.forwarded.clone());
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
            if !host.is_empty() {
                headers.insert(X_FORWARDED_HOST, host.clone());
            }
            return;
        }
        append(headers, X_FORWARDED_FOR, &self.x_forwarded_for);
        append(headers, FORWARDED, &self.forwarded);
        headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        if !host.is_empty() {
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        }
    }
}

/// Adds to the list that is there, in one line: by the standard several lines are the same, but there are services that
/// look at one of them only.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    if !headers.contains_key(&name) {
        headers.insert(name, value.clone());
        return;
    }
    let mut list = Vec::new();
    for present in headers.get_all(&name).iter().chain([value]) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(present.as_bytes());
    }
    // Values and what joins them are values again.
    let list = HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).unwrap_or_else(|_| value.clone());
    headers.insert(name, list);
}

/// Removes what a service of the CGI kind cannot tell from one of the fields: there `-` and `_` are the same, and
/// `X_Forwarded_For` would stand beside what is said here, or in its place.
fn remove_look_alikes(headers: &mut HeaderMap) {
    let is_alike =
        |name: &HeaderName| name.as_str().contains('_') && CLAIMS.iter().any(|claim| is_read_as(name, claim));
    let alike: Vec<HeaderName> = headers.keys().filter(|name| is_alike(name)).cloned().collect();
    for name in alike {
        headers.remove(name);
    }
}

fn is_read_as(name: &HeaderName, claim: &HeaderName) -> bool {
    let (name, claim) = (name.as_str().bytes(), claim.as_str().bytes());
    name.map(|byte| if byte == b'_' { b'-' } else { byte }).eq(claim)
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(client: &str, fields: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let fields =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers: HeaderMap = fields.collect();
        let present = Present::of(&headers);
        Client::new(client.parse().ok()).sign(&mut headers, present, &HeaderValue::from_static("shop.example"));
        let mut fields: Vec<_> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        fields.sort();
        fields
    }

    fn expected(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_a_stranger_claims_is_thrown_away() {
        let claims = [
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "1"),
            ("x_forwarded_for", "1"),
        ];
        let fields = [
            ("forwarded", "for=203.0.113.7;proto=http"),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "http"),
        ];
        assert_eq!(signed("203.0.113.7", &claims), expected(&fields));
    }

    #[test]
    fn what_a_neighbour_says_is_kept_and_added_to() {
        let claims = [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https"), ("x_real_ip", "1")];
        let fields = [
            ("forwarded", "for=\"[fd00::1]\";proto=http"),
            ("x-forwarded-for", "203.0.113.7, fd00::1"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(signed("fd00::1", &claims), expected(&fields));
    }
}
