//! The exponential part of a wait.

/// `initial · base^attempt` in nanoseconds, cut to 584 years. Exact to the nanosecond where doubles are: with an
/// integer base, up to 104 days.
///
/// Nothing overflows: a power that passes the doubles is infinite, and infinity is cut like any other. Nothing times
/// infinity is no number, which the cast makes 0, and 0 is what no initial delay asks for.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast from a double is saturating, which is the point; the cast to one errs by 2⁻⁵³"
)]
pub(super) fn exponential(initial: u64, base: f64, attempt: u32) -> u64 {
    // Two thousand million powers tell a base that differs from 1 at all from 1; the rest would tell no more.
    let power = base.powi(i32::try_from(attempt).unwrap_or(i32::MAX));
    (initial as f64 * power).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_exact_where_doubles_are() {
        assert_eq!((0..5).map(|n| exponential(100, 2.0, n)).collect::<Vec<_>>(), [100, 200, 400, 800, 1600]);
        assert_eq!((0..4).map(|n| exponential(7, 3.0, n)).collect::<Vec<_>>(), [7, 21, 63, 189]);
        assert_eq!((0..4).map(|n| exponential(1000, 1.5, n)).collect::<Vec<_>>(), [1000, 1500, 2250, 3375]);
    }

    #[test]
    fn no_attempt_overflows() {
        for base in [1.0, 1.0 + f64::EPSILON, 1.5, 2.0, 1e300, f64::MAX] {
            for attempt in [0, 1, 63, 64, 1024, i32::MAX as u32, u32::MAX] {
                assert_eq!(exponential(0, base, attempt), 0);
                assert!(exponential(1, base, attempt) >= 1);
            }
        }
        assert_eq!(exponential(100, 1.0, u32::MAX), 100);
        assert_eq!(exponential(1, 2.0, u32::MAX), u64::MAX);
        assert_eq!(exponential(u64::MAX, f64::MAX, u32::MAX), u64::MAX);
    }
}
