//! What callers, proxy and servers have counted, each for themselves, and whether that is one and the same.

use std::fmt;

use crate::NAMES;
use crate::server::Counts;

/// By server.
pub(crate) type Row = [u64; NAMES.len()];

/// What the proxy has counted, attempt by attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempts {
    pub(crate) calls: u64,
    pub(crate) made: Row,
    pub(crate) succeeded: Row,
    /// Those that outlasted their limit.
    pub(crate) too_late: Row,
    /// Those that failed before it: by an answer that was an error, or for want of a connection.
    pub(crate) failed: Row,
}

/// What everybody has counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Books {
    /// Answers that callers got.
    pub(crate) answers: Row,
    /// Calls that failed for a caller.
    pub(crate) failed: u64,
    pub(crate) proxy: Attempts,
    pub(crate) servers: [Counts; NAMES.len()],
}

impl Books {
    fn row(&self, count: impl Fn(&Counts) -> u64) -> Row {
        std::array::from_fn(|at| count(&self.servers[at]))
    }

    /// Where they differ, if they do.
    ///
    /// Each answer of a server is one attempt that succeeded and one answer for a caller, but for two cases. An attempt
    /// may have met nobody, since a dead server refuses the connection: so a server may have seen fewer requests than
    /// there were attempts. And when the machine halts, an answer may come when its attempt has outlasted its limit: that
    /// is a failure of the server whatever becomes of the answer, which may be thrown away, or have reached the caller.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let asked: u64 = self.answers.iter().sum::<u64>() + self.failed;
        let strangers: u64 = self.row(|counts| counts.strangers).iter().sum();
        let calls = self.proxy.calls;
        if calls < asked || (calls > asked && strangers == 0) {
            return Some(format!("callers made {asked} calls, and the proxy counted {calls}"));
        }
        for (at, (name, server)) in NAMES.into_iter().zip(&self.servers).enumerate() {
            let (answers, succeeded, made) = (self.answers[at], self.proxy.succeeded[at], self.proxy.made[at]);
            let least = answers.saturating_sub(self.proxy.too_late[at]);
            if !(least..=answers + server.strangers).contains(&succeeded) {
                return Some(format!("callers got {answers} answers of {name}, and the proxy counted {succeeded}"));
            }
            if server.answered < succeeded.max(answers) {
                let answered = server.answered;
                let more = succeeded.max(answers);
                return Some(format!("{name} answered {answered} times, and proxy or callers counted {more}"));
            }
            if server.all() > made {
                return Some(format!("{name} saw {} requests, and the proxy made {made} attempts", server.all()));
            }
        }
        None
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strangers = self.row(|counts| counts.strangers);
        let met_nobody: Row = std::array::from_fn(|at| self.proxy.made[at].saturating_sub(self.servers[at].all()));
        let error: Row = std::array::from_fn(|at| self.proxy.failed[at].saturating_sub(met_nobody[at]));
        let rows = [
            ("callers: answers", self.answers, true),
            ("proxy: attempts", self.proxy.made, true),
            ("  that succeeded", self.proxy.succeeded, true),
            ("  that got an error", error, false),
            ("  that took too long", self.proxy.too_late, false),
            ("  that met nobody", met_nobody, false),
            ("servers: answered", self.row(|counts| counts.answered), true),
            ("  answered 503", self.row(|counts| counts.failed), false),
            ("  never answered", self.row(|counts| counts.hung), false),
            ("  (yours, not callers')", strangers, false),
        ];
        let [alpha, beta, gamma] = NAMES;
        write!(f, "{:26}{alpha:>8}{beta:>8}{gamma:>8}{:>10}", "the books", "in all")?;
        for (title, row, is_shown) in rows {
            let sum: u64 = row.iter().sum();
            if is_shown || sum > 0 {
                let [alpha, beta, gamma] = row;
                write!(f, "\n  {title:24}{alpha:>8}{beta:>8}{gamma:>8}{sum:>10}")?;
            }
        }
        match self.disagreement() {
            None => f.write_str("\n  they agree: every answer of a caller is one of the proxy's and one of a server's"),
            Some(difference) => write!(f, "\n  they do not agree: {difference}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let well = Counts { answered: 10, failed: 0, hung: 0, strangers: 0 };
        Books {
            answers: [10, 10, 10],
            failed: 0,
            proxy: Attempts {
                calls: 30,
                made: [12, 11, 13],
                succeeded: [10, 10, 10],
                too_late: [0, 1, 0],
                failed: [2, 0, 3],
            },
            servers: [Counts { failed: 2, ..well }, Counts { hung: 1, ..well }, well],
        }
    }

    #[test]
    fn a_dead_server_that_met_nobody_is_no_disagreement() {
        assert_eq!(books().disagreement(), None);
        let text = books().to_string();
        let met_nobody = text.lines().find(|line| line.contains("met nobody")).unwrap();
        assert_eq!(met_nobody.split_whitespace().skip(3).collect::<Vec<_>>(), ["0", "0", "3", "3"]);
    }

    #[test]
    fn the_attempts_of_the_proxy_are_the_sum_of_what_became_of_them() {
        let text = books().to_string();
        let proxys = text.lines().skip_while(|line| !line.starts_with("  proxy: attempts"));
        let rows = proxys.take_while(|line| !line.starts_with("  servers:"));
        let rows = rows.map(|line| line.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).collect());
        let rows: Vec<Vec<u64>> = rows.collect();
        assert_eq!(rows[0], [12, 11, 13, 36]);
        assert_eq!(rows.len(), 5, "{text}");
        for (column, attempts) in rows[0].iter().enumerate() {
            assert_eq!(rows[1..].iter().map(|row| row[column]).sum::<u64>(), *attempts, "{text}");
        }
    }

    #[test]
    fn an_answer_that_came_too_late_was_tried_again_and_is_no_disagreement() {
        let mut books = books();
        (books.servers[2].answered, books.proxy.made[2]) = (11, 14);
        assert_eq!(books.disagreement(), None);
    }

    #[test]
    fn an_answer_that_was_passed_on_too_late_is_no_disagreement() {
        let mut books = books();
        books.proxy.succeeded[2] = 9;
        assert!(books.disagreement().is_some());
        books.proxy.too_late[2] = 1;
        assert_eq!(books.disagreement(), None);
    }

    #[test]
    fn those_who_came_to_look_are_counted_apart() {
        let mut books = books();
        (books.proxy.calls, books.proxy.made[0], books.proxy.succeeded[0]) = (31, 13, 11);
        assert!(books.disagreement().is_some());
        (books.servers[0].answered, books.servers[0].strangers) = (11, 1);
        assert_eq!(books.disagreement(), None);
        assert!(books.to_string().contains("yours"));
    }

    #[test]
    fn every_difference_is_told() {
        let with = |change: fn(&mut Books)| {
            let mut books = books();
            change(&mut books);
            books.disagreement()
        };
        assert!(with(|books| books.proxy.calls += 1).is_some());
        assert!(with(|books| books.failed += 1).is_some());
        assert!(with(|books| books.servers[0].answered -= 1).is_some());
        assert!(with(|books| books.servers[1].hung += 1).is_some());
        let lost = with(|books| (books.answers[2], books.failed) = (9, 1));
        assert_eq!(lost.unwrap(), "callers got 9 answers of gamma, and the proxy counted 10");
    }
}
