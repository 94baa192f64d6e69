//! What a `Retry-After` field asks for.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// How long the answer asks to wait; none if it asks for nothing, or for nothing that can be understood.
///
/// It is one number of seconds, or a date; a date that has passed is no wait.
//= https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
//# Retry-After = HTTP-date / delay-seconds
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let mut values = headers.get_all(RETRY_AFTER).iter();
    let (value, None) = (values.next()?.to_str().ok()?.trim(), values.next()) else { return None };
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than fit is for ever.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn wait(value: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
        // Sun, 06 Nov 1994 08:49:37 GMT
        retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn it_is_seconds_or_a_date() {
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(wait(" 0 "), Some(Duration::ZERO));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(wait("Sunday, 06-Nov-94 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(wait("Sun Nov  6 08:50:37 1994"), Some(Duration::from_secs(60)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn what_cannot_be_understood_asks_for_nothing() {
        for value in ["", "-1", "+1", "1.5", "soon", "1, 2", "Sun, 06 Nov 1994"] {
            assert_eq!(wait(value), None, "{value:?}");
        }
        let twice = HeaderMap::from_iter(["1", "2"].map(|value| (RETRY_AFTER, HeaderValue::from_static(value))));
        assert_eq!(retry_after(&twice, SystemTime::UNIX_EPOCH), None);
    }

    proptest! {
        #[test]
        fn no_value_is_too_strange(value in "\\PC{0,40}", seconds in any::<u64>()) {
            let Ok(strange) = HeaderValue::from_str(&value) else { return Ok(()) };
            let _ = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, strange)]), SystemTime::now());
            prop_assert_eq!(wait(&seconds.to_string()), Some(Duration::from_secs(seconds)));
        }

        #[test]
        fn a_date_is_as_far_away_as_it_is(ahead in 0..4_000_000_000_u64, now in 0..4_000_000_000_u64) {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            let date = httpdate::fmt_http_date(now + Duration::from_secs(ahead));
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(&date).unwrap())]);
            prop_assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(ahead)));
        }
    }
}
