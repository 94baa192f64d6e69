//! One after the other, in the order of registration.
//!
//! The oldest way to share evenly. The order is that of one shared cursor, so that callers on many threads together
//! see it too; pingora and nginx count in the same way. What is ours is that a change does not start it over: the next
//! set goes on behind the instance that was picked last.

use super::cursor::Cursor;

#[derive(Debug)]
pub(super) struct RoundRobin {
    cursor: Cursor,
    len: usize,
}

impl RoundRobin {
    /// Over `len` endpoints, the first pick being `start`.
    pub(super) fn new(start: usize, len: usize) -> Self {
        Self { cursor: Cursor::new(start, len), len }
    }

    #[inline]
    pub(super) fn pick(&self) -> usize {
        self.cursor.take()
    }

    /// The first one from the cursor on that is admitted; each is asked at most once.
    pub(super) fn pick_where(&self, mut admits: impl FnMut(usize) -> bool) -> Option<usize> {
        let turn = self.cursor.take();
        let found = (turn..self.len).chain(0..turn).enumerate().find(|(_, index)| admits(*index));
        // A turn that nobody took is still to be had: all the way round is where it was.
        self.cursor.skip(found.map_or(self.len - 1, |(passed, _)| passed));
        found.map(|(_, index)| index)
    }

    /// The endpoint that had the last turn, if there was any.
    pub(super) fn last(&self) -> Option<usize> {
        self.cursor.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_stand_behind_a_refused_one_share_its_turns_evenly() {
        let ring = RoundRobin::new(0, 4);
        let mut picks = [0; 4];
        for _ in 0..30 {
            picks[ring.pick_where(|index| index != 1).unwrap()] += 1;
        }
        assert_eq!(picks, [10, 0, 10, 10]);
    }

    #[test]
    fn each_is_asked_once_and_in_order_when_all_refuse() {
        let ring = RoundRobin::new(2, 4);
        let mut asked = Vec::new();
        let picked = ring.pick_where(|index| {
            asked.push(index);
            false
        });
        assert_eq!((picked, asked), (None, vec![2, 3, 0, 1]));
        assert_eq!(ring.pick(), 2, "nobody had the turn, so that it is not lost");
    }
}
