//! The field that says who passed a message on.

use http::Version;
use http::header::{HeaderMap, HeaderValue, VIA};

//= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3
//# An HTTP-to-HTTP gateway MUST send an appropriate Via header field in
//# each inbound request message and MAY send a Via header field in
//# forwarded response messages.
pub(crate) fn add(headers: &mut HeaderMap, received: Version) {
    let hop = if received == Version::HTTP_10 { "1.0 service-mesh" } else { "1.1 service-mesh" };
    headers.append(VIA, HeaderValue::from_static(hop));
}
