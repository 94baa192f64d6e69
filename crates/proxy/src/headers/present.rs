//! Which of the fields that something is to be done about a message has.
//!
//! To ask a map for a field costs a hash and a probe, whether the field is there or not, and there are twenty to ask for.
//! Nearly all of them are nearly never there. So all names are looked at once, and then only those are asked for that are
//! there.

use http::header::{
    CONNECTION, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE, VIA,
};

/// A set of fields, or of kinds of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present(u16);

impl Present {
    pub(crate) const CONNECTION: Self = Self(1);
    pub(crate) const TE: Self = Self(1 << 1);
    pub(crate) const TRANSFER_ENCODING: Self = Self(1 << 2);
    /// Any other that is of one connection.
    pub(crate) const OTHER_HOP_BY_HOP: Self = Self(1 << 3);
    pub(crate) const EXPECT: Self = Self(1 << 4);
    pub(crate) const VIA: Self = Self(1 << 5);
    pub(crate) const MAX_FORWARDS: Self = Self(1 << 6);
    /// How long the client waits.
    pub(crate) const TIMEOUT: Self = Self(1 << 7);
    /// `traceparent` or `tracestate`.
    pub(crate) const TRACE: Self = Self(1 << 8);
    /// What tells for whom a request is forwarded.
    pub(crate) const CLAIM: Self = Self(1 << 9);
    /// A name with an underscore that may be read as one of those.
    pub(crate) const UNDERSCORE: Self = Self(1 << 10);

    pub(crate) const HOST: Self = Self(1 << 11);

    /// Those of this message.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |present, name| present.and(Self::kind(name)))
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of these is among them.
    pub(crate) const fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    fn kind(name: &HeaderName) -> Self {
        match *name {
            CONNECTION => Self::CONNECTION,
            TE => Self::TE,
            TRANSFER_ENCODING => Self::TRANSFER_ENCODING,
            UPGRADE | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION => Self::OTHER_HOP_BY_HOP,
            EXPECT => Self::EXPECT,
            HOST => Self::HOST,
            VIA => Self::VIA,
            MAX_FORWARDS => Self::MAX_FORWARDS,
            FORWARDED => Self::CLAIM,
            _ => Self::other_kind(name.as_str()),
        }
    }

    /// Of a name that has no constant which a pattern can be.
    fn other_kind(name: &str) -> Self {
        // Most names are of no interest, and end here.
        match name.as_bytes().first() {
            Some(b'x') => match name {
                "x-service-mesh-timeout-ms" => Self::TIMEOUT,
                "x-real-ip" => Self::CLAIM,
                _ if name.starts_with("x-forwarded-") => Self::CLAIM,
                _ if name.as_bytes().contains(&b'_') => Self::UNDERSCORE,
                _ => Self::default(),
            },
            Some(b't') if matches!(name, "traceparent" | "tracestate") => Self::TRACE,
            Some(b'h' | b'k' | b'p') if matches!(name, "keep-alive" | "proxy-connection" | "http2-settings") => {
                Self::OTHER_HOP_BY_HOP
            }
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::headers::{forwarded, hop_by_hop};
    use crate::{forward, trace_context};

    /// What is not known here would not be looked for.
    #[test]
    fn every_field_that_is_looked_for_is_known() {
        let hop_by_hop =
            Present::CONNECTION.and(Present::TE).and(Present::TRANSFER_ENCODING).and(Present::OTHER_HOP_BY_HOP);
        let of = |name: &HeaderName| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::ACCEPT, HeaderValue::from_static(""));
            headers.insert(name, HeaderValue::from_static(""));
            Present::of(&headers)
        };
        assert!(hop_by_hop::ALWAYS.iter().all(|name| hop_by_hop.has(of(name))));
        assert!(forwarded::CLAIMS.iter().all(|name| of(name) == Present::CLAIM));
        assert_eq!(of(&forward::TIMEOUT), Present::TIMEOUT);
        assert_eq!(of(&trace_context::TRACEPARENT), Present::TRACE);
        assert_eq!(of(&trace_context::TRACESTATE), Present::TRACE);
        let dash = |byte: u8| if byte == b'-' { b'_' } else { byte };
        for claim in forwarded::CLAIMS.iter().filter(|claim| claim.as_str().contains('-')) {
            let alike: Vec<u8> = claim.as_str().bytes().map(dash).collect();
            assert_eq!(of(&HeaderName::from_bytes(&alike).unwrap()), Present::UNDERSCORE, "{claim}");
        }
        assert_eq!(of(&EXPECT).and(of(&VIA)).and(of(&MAX_FORWARDS)).0, 0b111 << 4);
        assert_eq!((of(&HOST), of(&http::header::COOKIE)), (Present::HOST, Present::default()));
    }
}
