//! Expectations.

use http::StatusCode;
use http::header::EXPECT;
use http::request::Parts;

use super::Fault;

//= https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
//# A server that receives an Expect field value containing a member other
//# than 100-continue MAY respond with a 417 (Expectation Failed) status code
//# to indicate that the unexpected expectation cannot be met.
pub(super) fn check(request: &Parts) -> Result<(), Fault> {
    let mut expectations = request.headers.get_all(EXPECT).iter();
    let known = expectations.by_ref().all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if known { Ok(()) } else { Err(Fault::with("an expectation that is unknown", StatusCode::EXPECTATION_FAILED)) }
}
