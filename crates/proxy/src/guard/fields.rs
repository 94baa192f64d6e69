//! Names and values of fields.

use http::request::Parts;

use super::Fault;

pub(super) fn check(request: &Parts) -> Result<(), Fault> {
    for value in request.headers.values() {
        //= https://www.rfc-editor.org/rfc/rfc9110#section-5.5
        //# Field values containing CR, LF, or NUL characters are
        //# invalid and dangerous, due to the varying ways that implementations
        //# might parse and interpret those characters
        if value.as_bytes().iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(Fault::bad("a control character in a field"));
        }
    }
    Ok(())
}
