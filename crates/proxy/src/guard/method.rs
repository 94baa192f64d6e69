//! Methods that are not for a proxy of this kind.

use http::request::Parts;
use http::{Method, StatusCode};

use super::Fault;

pub(super) fn check(request: &Parts) -> Result<(), Fault> {
    match request.method {
        // A tunnel to anywhere is what an open proxy is abused for; this one knows services only.
        //= https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6
        //# CONNECT is intended for use in requests to a proxy.
        Method::CONNECT => Err(Fault::with("CONNECT is not served", StatusCode::METHOD_NOT_ALLOWED)),
        // It shows a script what the browser hid from it (cross-site tracing, 2003).
        //= https://www.rfc-editor.org/rfc/rfc9110#section-9.3.8
        //# A client MUST NOT generate fields in a TRACE request containing
        //# sensitive data that might be disclosed by the response.
        Method::TRACE => Err(Fault::with("TRACE is not served", StatusCode::METHOD_NOT_ALLOWED)),
        _ => Ok(()),
    }
}
