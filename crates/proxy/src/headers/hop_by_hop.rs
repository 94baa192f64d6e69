//! Fields that are of one connection and go no further.

use http::header::{
    CONNECTION, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use crate::headers::present::Present;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Removed whether `Connection` names them or not. `Trailer` stays: it announces trailers, which go through.
//= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
//# Furthermore, intermediaries SHOULD remove or replace fields that are
//# known to require removal before forwarding, whether or not they appear
//# as a connection-option, after applying those fields' semantics.
pub(super) const ALWAYS: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
];

/// Everything that the `Connection` fields name.
pub(crate) fn options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let fields = headers.get_all(CONNECTION).into_iter();
    fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Whether `Connection` names this.
pub(crate) fn has_option(headers: &HeaderMap, option: &str) -> bool {
    options(headers).any(|present| present.eq_ignore_ascii_case(option.as_bytes()))
}

/// Whether whoever sent these takes trailers.
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(TE).into_iter();
    fields
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Removes what is of the connection that the message came by.
//= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
//# Intermediaries MUST parse a received Connection header field before a
//# message is forwarded and, for each connection-option in this field,
//# remove any header or trailer field(s) from the message with the same
//# name as the connection-option, and then remove the Connection header
//# field itself
pub(crate) fn strip(headers: &mut HeaderMap) {
    strip_present(headers, Present::of(headers));
}

/// The same for whoever knows which are there.
pub(crate) fn strip_present(headers: &mut HeaderMap, present: Present) {
    if present.has(Present::CONNECTION) {
        // Nearly all of them are names of no field, `close` and `keep-alive`: so nothing is copied for those.
        let names_none =
            |option: &[u8]| option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive");
        let mut fields = headers.get_all(CONNECTION).iter();
        let is_plain = fields.next().is_some_and(|field| names_none(field.as_bytes())) && fields.next().is_none();
        if !is_plain {
            let named: Vec<HeaderName> = options(headers)
                .filter(|option| !names_none(option))
                .filter_map(|option| HeaderName::from_bytes(option).ok())
                .filter(|name| headers.contains_key(name))
                .collect();
            for name in named {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    if present.has(Present::TE.and(Present::TRANSFER_ENCODING).and(Present::OTHER_HOP_BY_HOP)) {
        // To look through the few names that there are costs less than to ask for each of those that are known.
        while let Some(name) = headers.keys().find(|name| ALWAYS.contains(name)).cloned() {
            headers.remove(name);
        }
    }
}

/// Removes from trailers what must not be said so late: framing, routing, and what a service would take for a part of
/// the head.
//= https://www.rfc-editor.org/rfc/rfc9110#section-6.5.1
//# Many fields cannot be processed outside the header section because
//# their evaluation is necessary prior to receiving the content, such as
//# those that describe message framing, routing, authentication, request
//# modifiers, response controls, or content format.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    use http::header::{
        AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, EXPECT, HOST, SET_COOKIE,
        VIA,
    };
    const NEVER: [HeaderName; 12] = [
        HOST,
        CONTENT_LENGTH,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        CONTENT_RANGE,
        AUTHORIZATION,
        COOKIE,
        SET_COOKIE,
        EXPECT,
        VIA,
        TRAILER,
        http::header::FORWARDED,
    ];
    strip(trailers);
    for name in &NEVER {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        fields.collect()
    }

    #[test]
    fn what_is_of_the_connection_goes_and_the_rest_stays() {
        let mut all = headers(&[
            ("connection", "close, X-Hop"),
            ("connection", " x-other ,, keep-alive"),
            ("x-hop", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
            ("proxy-authorization", "Basic x"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
            ("x-end", "3"),
        ]);
        assert!(has_option(&all, "X-OTHER") && !has_option(&all, "upgrade") && takes_trailers(&all));
        strip(&mut all);
        assert_eq!(all, headers(&[("trailer", "x-sum"), ("x-end", "3")]));
    }

    #[test]
    fn trailers_say_nothing_of_framing_or_routing() {
        let mut trailers =
            headers(&[("host", "evil"), ("content-length", "3"), ("x-sum", "1"), ("authorization", "x")]);
        strip_trailers(&mut trailers);
        assert_eq!(trailers, headers(&[("x-sum", "1")]));
    }
}
