//! Whether an instance is well, after so many answers: pure.
//!
//! `rise` and `fall` are `HAProxy`'s. So is it that the first answer decides by itself: of an instance that nobody has asked
//! before nothing is known that it would have to outweigh, and calls should not wait for `fall` checks to learn that it
//! is not there at all.

/// What is thought of one instance.
///
/// Invariant: it changes its mind only after `rise` good or `fall` bad answers in a row, but for the first answer.
#[derive(Debug)]
pub(super) struct Judge {
    rise: u32,
    fall: u32,
    healthy: bool,
    /// Answers in a row that speak against what is thought.
    against: u32,
    /// Whether an answer was heard, now or by whoever judged before.
    is_known: bool,
}

impl Judge {
    /// Thinks for the time being what is said already.
    pub(super) fn new(rise: u32, fall: u32, healthy: bool, is_known: bool) -> Self {
        Self { rise, fall, healthy, against: 0, is_known }
    }

    /// An answer has come; what is thought now, if that is another thing than before.
    pub(super) fn hear(&mut self, good: bool) -> Option<bool> {
        let is_first = !std::mem::replace(&mut self.is_known, true);
        if good == self.healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = if good { self.rise } else { self.fall };
        if self.against < enough && !is_first {
            return None;
        }
        (self.healthy, self.against) = (good, 0);
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said to each of the answers: `+` and `-` in, `U`p, `D`own or `.` out.
    fn told(judge: &mut Judge, answers: &str) -> String {
        let say = |said: Option<bool>| said.map_or('.', |healthy| if healthy { 'U' } else { 'D' });
        answers.chars().map(|answer| say(judge.hear(answer == '+'))).collect()
    }

    #[test]
    fn it_takes_rise_good_or_fall_bad_answers_in_a_row() {
        let mut judge = Judge::new(2, 3, true, true);
        assert_eq!(told(&mut judge, "--+--+---"), "........D");
        assert_eq!(told(&mut judge, "--+-+-++"), ".......U");
        assert_eq!(told(&mut judge, "+---"), "...D");
    }

    #[test]
    fn the_first_answer_decides_by_itself_and_the_second_does_not() {
        assert_eq!(told(&mut Judge::new(2, 3, true, false), "-+++"), "D.U.");
        assert_eq!(told(&mut Judge::new(2, 3, false, false), "+---"), "U..D");
        assert_eq!(told(&mut Judge::new(2, 3, true, false), "+---"), "...D");
        assert_eq!(told(&mut Judge::new(2, 3, false, false), "-+++"), "..U.");
    }

    #[test]
    fn one_is_enough_where_one_was_asked_for() {
        assert_eq!(told(&mut Judge::new(1, 1, true, true), "+-+-"), ".DUD");
    }
}
