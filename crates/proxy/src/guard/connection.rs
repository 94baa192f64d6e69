//! What `Connection` may name.

use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, StatusCode};

use super::Fault;
use crate::headers::hop_by_hop::options;

/// Fields that say what the request is. Whoever has them stripped on the way gives the service another request than the
/// one that was judged here (Nathan Davison, "Abusing HTTP hop-by-hop request headers", 2019).
const END_TO_END: [HeaderName; 6] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, AUTHORIZATION, COOKIE, CACHE_CONTROL];

/// So many options are more than anybody needs, and each costs a look at every field.
const MOST: usize = 16;

//= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
//# A sender MUST NOT send a connection option corresponding to a field
//# that is intended for all recipients of the content.  For example,
//# Cache-Control is never appropriate as a connection option
pub(super) fn check(request: &Parts) -> Result<(), Fault> {
    for (number, option) in options(&request.headers).enumerate() {
        if number == MOST {
            return Err(Fault::with("too many connection options", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        }
        if option.is_empty() {
            continue;
        }
        let name = HeaderName::from_bytes(option).map_err(|_| Fault::bad("a connection option that is no token"))?;
        if END_TO_END.contains(&name) {
            return Err(Fault::bad("a connection option that names a field for everybody"));
        }
    }
    Ok(())
}
