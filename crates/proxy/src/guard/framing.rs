//! Where a body ends must be said once, and in a way that everybody understands.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{StatusCode, Version};

use super::Fault;

pub(super) fn check(request: &Parts) -> Result<(), Fault> {
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    //= https://www.rfc-editor.org/rfc/rfc9112#section-6.1
    //# A server or client that receives an HTTP/1.0 message containing a
    //# Transfer-Encoding header field MUST treat the message as if the
    //# framing is faulty, even if a Content-Length is present, and close the
    //# connection after processing the message.
    if request.version != Version::HTTP_11 {
        return Err(Fault::bad("a transfer coding in HTTP/1.0"));
    }
    //= https://www.rfc-editor.org/rfc/rfc9112#section-6.1
    //# A server MAY reject a request that contains both Content-Length and
    //# Transfer-Encoding or process such a request in accordance with the
    //# Transfer-Encoding alone.
    if request.headers.contains_key(CONTENT_LENGTH) {
        return Err(Fault::bad("a length beside a transfer coding"));
    }
    //= https://www.rfc-editor.org/rfc/rfc9112#section-6.1
    //# A sender MUST NOT apply the chunked transfer coding more than once to a
    //# message body
    if codings.next().is_some() {
        return Err(Fault::bad("several transfer codings"));
    }
    if coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    //= https://www.rfc-editor.org/rfc/rfc9112#section-6.1
    //# A server that receives a request message with a transfer coding it
    //# does not understand SHOULD respond with 501 (Not Implemented).
    Err(Fault::with("a transfer coding other than chunked", StatusCode::NOT_IMPLEMENTED))
}
