//! The request target: one form for each method, one reading of each path.

use http::request::Parts;
use http::uri::Scheme;
use http::{Method, StatusCode};

use super::Fault;

pub(super) fn check(request: &Parts) -> Result<(), Fault> {
    let uri = &request.uri;
    if let Some(scheme) = uri.scheme() {
        //= https://www.rfc-editor.org/rfc/rfc9110#section-7.4
        //# Unless the connection is from a trusted gateway, an origin server MUST
        //# reject a request if any scheme-specific requirements for the target URI
        //# are not met.
        if *scheme != Scheme::HTTP {
            return Err(Fault::with("a scheme other than http", StatusCode::MISDIRECTED_REQUEST));
        }
    } else if uri.authority().is_some() {
        //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.3
        //# The authority-form of request-target is only used for CONNECT requests
        return Err(Fault::bad("an authority as the target of a method other than CONNECT"));
    }
    let path = uri.path();
    if path == "*" {
        //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.4
        //# The asterisk-form of request-target is only used for a server-wide
        //# OPTIONS request
        return if request.method == Method::OPTIONS { Ok(()) } else { Err(Fault::bad("a target * without OPTIONS")) };
    }
    if !path.starts_with('/') {
        return Err(Fault::bad("a target that is no path"));
    }
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if !target.bytes().all(is_of_a_uri) {
        return Err(Fault::bad("a character that no target may have"));
    }
    check_path(path)
}

//= https://www.rfc-editor.org/rfc/rfc3986#section-2
//# A URI is composed from a limited set of characters consisting of digits,
//# letters, and a few graphic symbols.
fn is_of_a_uri(byte: u8) -> bool {
    // Browsers send some of those that would have to be encoded as they are; the rest has led to two readings: a
    // backslash is a slash to some, and a fragment never belongs here.
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'\\' | b'#' | b'<' | b'>')
}

/// A path that a service would read in another way than the routes did.
fn check_path(path: &str) -> Result<(), Fault> {
    let bytes = path.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        //= https://www.rfc-editor.org/rfc/rfc3986#section-2.1
        //# A percent-encoded octet is encoded as a character triplet, consisting
        //# of the percent character "%" followed by the two hexadecimal digits
        //# representing that octet's numeric value.
        let Some(&[high, low]) = bytes.get(at + 1..at + 3) else {
            return Err(Fault::bad("a percent sign without two digits"));
        };
        if !(high.is_ascii_hexdigit() && low.is_ascii_hexdigit()) {
            return Err(Fault::bad("a percent sign without two digits"));
        }
        // C ends a string there (CVE-2013-4547 and its kin).
        if (high, low) == (b'0', b'0') {
            return Err(Fault::bad("an encoded NUL in the path"));
        }
    }
    //= https://www.rfc-editor.org/rfc/rfc3986#section-3.3
    //# The path segments "." and "..", also known as dot-segments, are
    //# defined for relative reference within the path name hierarchy.
    //
    // Nearly no segment begins with what one of those begins with, and then they need not be told apart.
    let may_be_dots = bytes.windows(2).any(|pair| pair[0] == b'/' && matches!(pair[1], b'.' | b'%'));
    if may_be_dots && path.split('/').any(is_dots) {
        return Err(Fault::bad("a path with dot segments"));
    }
    Ok(())
}

/// Whether a segment is `.` or `..`, in any spelling, and with parameters behind it or without (`..;/` is how paths have
/// been carried past a proxy to Java servers).
fn is_dots(segment: &str) -> bool {
    let segment = segment.split(';').next().unwrap_or_default();
    if !segment.starts_with(['.', '%']) {
        return false;
    }
    let plain = segment.replace("%2e", ".").replace("%2E", ".");
    plain == "." || plain == ".."
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dot_segments_are_found_in_any_spelling() {
        for path in ["/..", "/a/../b", "/./a", "/%2e%2E/a", "/a/.%2e", "/..;x=1/a", "/%2e;/a"] {
            assert!(check_path(path).is_err(), "{path}");
        }
        for path in ["/", "/...", "/.well-known/x", "/a..b", "/..a", "/a.", "//a", "/%2ea", "/a;..", "/%41"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in ["/%", "/%4", "/%zz", "/%00", "/a%0"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    proptest! {
        /// Whoever decodes a path that was let through finds no way up in it.
        #[test]
        fn what_is_let_through_leads_nowhere_up(path in "(/|\\.|;|a|%2e|%2E|%41|%){0,12}") {
            let path = format!("/{path}");
            if check_path(&path).is_ok() {
                let decoded = path.replace("%2e", ".").replace("%2E", ".");
                let mut segments = decoded.split('/').map(|segment| segment.split(';').next().unwrap());
                prop_assert!(segments.all(|segment| segment != "." && segment != ".."), "{}", path);
            }
        }
    }
}
