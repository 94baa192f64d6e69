//! A thread that is handed its turns: it runs until it says something, and sleeps until it is told something.
//!
//! The test does the opposite, so that calls of the sync driver overlap without ever racing.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// The test's end.
pub(super) struct Turns<Says, Told> {
    says: Receiver<Says>,
    tell: Sender<Told>,
}

/// The thread's end.
pub(super) struct Turn<Says, Told> {
    say: Sender<Says>,
    told: Receiver<Told>,
}

impl<Says: Send + 'static, Told: Send + 'static> Turns<Says, Told> {
    /// Begins a thread. The last thing that `run` returns is the last thing that it says.
    pub(super) fn begin(run: impl FnOnce(&Turn<Says, Told>) -> Says + Send + 'static) -> Self {
        let ((say, says), (tell, told)) = (channel(), channel());
        thread::spawn(move || {
            let turn = Turn { say, told };
            let last = run(&turn);
            // A test that has failed listens to nobody.
            turn.say.send(last).ok();
        });
        Self { says, tell }
    }

    /// What the thread says next.
    pub(super) fn listen(&self) -> Says {
        self.says.recv().expect("the thread ended without a last word: it panicked")
    }

    /// Tells it something, and hears what it says next.
    pub(super) fn tell(&self, told: Told) -> Says {
        self.tell.send(told).expect("the thread waits to be told");
        self.listen()
    }
}

impl<Says, Told> Turn<Says, Told> {
    /// Says something and waits to be told something. If the test is over, so is the thread.
    pub(super) fn ask(&self, says: Says) -> Told {
        self.say.send(says).ok();
        self.told.recv().unwrap_or_else(|gone| resume_unwind(Box::new(gone)))
    }
}
