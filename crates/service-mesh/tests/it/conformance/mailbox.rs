//! Words between a future and whoever polls it by hand.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

/// Holds one thing until it is taken. It wakes nobody: whoever puts something in polls.
pub(super) struct Mailbox<T>(Rc<Cell<Option<T>>>);

impl<T> Mailbox<T> {
    pub(super) fn put(&self, thing: T) {
        self.0.set(Some(thing));
    }

    pub(super) fn take(&self) -> Option<T> {
        self.0.take()
    }

    /// Takes what is put in, once it is there.
    pub(super) async fn wait(&self) -> T {
        poll_fn(|_| self.take().map_or(Poll::Pending, Poll::Ready)).await
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}
