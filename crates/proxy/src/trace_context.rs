//! W3C Trace Context: passed on to the instances, with a span of its own for each attempt.
//!
//! Two attempts of one request are two spans: behind one id, a trace would show two instances in one place. The trace and
//! what else it carries (`tracestate`) stay as they were, and so does whether it is recorded.
//!
//! Where a request has no trace, none is begun: to say that a trace is there and not recorded keeps the libraries behind
//! us from recording one. A `traceparent` that is none is taken away, together with `tracestate`, so that the next who
//! cares begins anew.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use service_mesh::Chance;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The length of a `traceparent` of version 00, and of what of a later one is known.
const LENGTH: usize = 55;

/// The flags that are known: sampled, and random (level 2).
const KNOWN_FLAGS: u8 = 0b11;

/// The trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    trace: u128,
    parent: SpanId,
    flags: u8,
}

/// The id of a span. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId(u64);

impl TraceContext {
    /// That of a request; `None` if it has none. What is wrong is taken out of the headers.
    pub(crate) fn take(headers: &mut HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let context = match (parents.next(), parents.next()) {
            (Some(parent), None) => Self::parse(parent.as_bytes()),
            _ => None,
        };
        if context.is_none() {
            headers.remove(TRACEPARENT);
            //= https://www.w3.org/TR/trace-context-1/#a-traceparent-is-received
            //# If the vendor failed to parse traceparent, it MUST NOT attempt to
            //# parse tracestate.
            headers.remove(TRACESTATE);
        }
        context
    }

    /// Strictly by section 3.2: `00-TRACE-PARENT-FLAGS`, in small letters, no id all zero. Of a later version what is known
    /// of it, whatever follows after another dash.
    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let version = hex(&known[..2])?;
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        if !is_whole || [2, 35, 52].iter().any(|dash| known[*dash] != b'-') {
            return None;
        }
        let (trace, parent) = (hex(&known[3..35])?, u64::try_from(hex(&known[36..52])?).ok()?);
        let flags = u8::try_from(hex(&known[53..])?).ok()?;
        (trace != 0 && parent != 0).then_some(Self { trace, parent: SpanId(parent), flags: flags & KNOWN_FLAGS })
    }

    /// Who asked us.
    pub(crate) fn parent(&self) -> SpanId {
        self.parent
    }

    /// The trace, in 32 digits.
    pub(crate) fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// What an attempt with this span says to its instance.
    pub(crate) fn header(&self, span: SpanId) -> (HeaderName, HeaderValue) {
        let text = format!("00-{:032x}-{span}-{:02x}", self.trace, self.flags);
        (TRACEPARENT, HeaderValue::try_from(text).expect("digits and dashes are a value of a header"))
    }
}

impl SpanId {
    /// By chance.
    pub(crate) fn draw(chance: &Chance) -> Self {
        Self(chance.bits().max(1))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// At most 32 hexadecimal digits in small letters.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(parents: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
        }
        headers.append(TRACESTATE, HeaderValue::from_static("congo=t61rcWkgMzE"));
        headers.append(TRACESTATE, HeaderValue::from_static("rojo=00f067aa0ba902b7"));
        headers
    }

    #[test]
    fn a_trace_goes_on_with_another_span_and_the_same_state() {
        let mut headers = headers(&[PARENT]);
        let context = TraceContext::take(&mut headers).unwrap();
        assert_eq!(
            (context.trace_id().as_str(), context.parent().to_string().as_str()),
            (&PARENT[3..35], &PARENT[36..52])
        );
        let chance = Chance::seeded(1);
        let (one, other) = (SpanId::draw(&chance), SpanId::draw(&chance));
        assert_ne!(one, other);
        let (name, value) = context.header(one);
        assert_eq!((name, value.to_str().unwrap()), (TRACEPARENT, format!("{}{one}-01", &PARENT[..36]).as_str()));
        assert_eq!(headers.get_all(TRACESTATE).iter().count(), 2);
        assert_eq!(headers[TRACEPARENT], PARENT);
    }

    #[test]
    fn what_is_no_traceparent_is_taken_away_with_its_state() {
        let zeros = |range: std::ops::Range<usize>| {
            let mut text = PARENT.to_owned();
            text.replace_range(range.clone(), &"0".repeat(range.len()));
            text
        };
        let mistakes = [
            String::new(),
            PARENT[..54].to_owned(),
            format!("{PARENT}-"),
            format!("{PARENT}0"),
            format!("ff{}", &PARENT[2..]),
            format!("0{}", &PARENT[1..54]),
            PARENT.to_uppercase(),
            PARENT.replace('-', "_"),
            zeros(3..35),
            zeros(36..52),
            PARENT.replace("0af7", "0gf7"),
            PARENT.replace("0af7", "+af7"),
            PARENT.replace("-01", "- 1"),
            format!("01{}x", &PARENT[2..]),
        ];
        for mistake in mistakes {
            let mut headers = headers(&[&mistake]);
            assert_eq!(TraceContext::take(&mut headers), None, "{mistake}");
            assert!(headers.is_empty(), "{mistake}");
        }
        let mut twice = headers(&[PARENT, PARENT]);
        assert!(TraceContext::take(&mut twice).is_none() && twice.is_empty());
        let mut alone = headers(&[]);
        assert!(TraceContext::take(&mut alone).is_none() && alone.is_empty());
    }

    #[test]
    fn of_a_later_version_what_is_known_goes_on_as_the_version_that_we_speak() {
        for text in [format!("cc{}", &PARENT[2..]), format!("01{}-what-ever", &PARENT[2..])] {
            let context = TraceContext::take(&mut headers(&[&text])).unwrap();
            assert!(context.header(SpanId(1)).1.to_str().unwrap().starts_with("00-0af7"));
        }
        // Flags that nobody knows are not passed on.
        let context = TraceContext::take(&mut headers(&[&PARENT.replace("-01", "-ff")])).unwrap();
        assert!(context.header(SpanId(1)).1.to_str().unwrap().ends_with("-0000000000000001-03"));
    }
}
