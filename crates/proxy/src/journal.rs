//! What the sidecar tells whoever operates it, as it happens: a line on the error output for another policy, and for what
//! becomes of services: a circuit that changes its state, an instance that falls ill, a search that fails.
//!
//! Calls change circuits, and no call waits until somebody has read of it. So lines go through a queue to a thread that
//! writes them; what comes while the queue is full is counted, and the next line says how many are missing. An error
//! output that is closed is nobody's failure.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use service_mesh::{CircuitState, Event, EventKind, Listener};

/// So many lines wait to be written.
const QUEUE: usize = 1024;

/// Where lines are told. Clones are handles of the same.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Inner>);

struct Inner {
    /// Ordering: Relaxed; a line more or less at the moment when it is set.
    tells_changes: AtomicBool,
    /// None when it is closed, or could not begin.
    queue: Mutex<Option<SyncSender<String>>>,
    /// Lines that found no place since the last one that did.
    ///
    /// Ordering: Relaxed; a count that is told.
    missing: AtomicU64,
    /// Nothing is ever sent; it ends when the thread has written its last line.
    done: Mutex<Receiver<()>>,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// It goes as it should.
    Info,
    /// Somebody may want to look.
    Warn,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
        }
    }
}

impl Journal {
    /// On the error output.
    pub(crate) fn stderr() -> Self {
        Self::to(io::stderr())
    }

    fn to(mut out: impl Write + Send + 'static) -> Self {
        let (queue, lines) = sync_channel::<String>(QUEUE);
        let (end, done) = sync_channel(0);
        let write = move || {
            for line in lines {
                let _ = out.write_all(line.as_bytes());
            }
            drop(end);
        };
        // Without a thread there is no journal, and everything else.
        let began = thread::Builder::new().name(String::from("journal")).spawn(write);
        let queue = Mutex::new(began.is_ok().then_some(queue));
        Self(Arc::new(Inner {
            tells_changes: AtomicBool::new(false),
            queue,
            missing: AtomicU64::new(0),
            done: Mutex::new(done),
        }))
    }

    /// Tells this, line by line. It does not wait.
    pub(crate) fn tell(&self, level: Level, text: impl Display) {
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = &*queue else { return };
        let missing = self.0.missing.swap(0, Ordering::Relaxed);
        let mut lines = String::new();
        if missing > 0 {
            lines.push_str(&line(Level::Warn, &format!("{missing} lines are missing here")));
        }
        text.to_string().lines().for_each(|text| lines.push_str(&line(level, text)));
        if queue.try_send(lines).is_err() {
            self.0.missing.fetch_add(missing + 1, Ordering::Relaxed);
        }
    }

    /// From now on it also tells what becomes of services.
    pub(crate) fn tell_changes(&self) {
        self.0.tells_changes.store(true, Ordering::Relaxed);
    }

    /// Something has become of a service.
    pub(crate) fn change(&self, level: Level, text: impl Display) {
        if self.0.tells_changes.load(Ordering::Relaxed) {
            self.tell(level, text);
        }
    }

    /// Writes what is left, and nothing more; for no longer than this.
    pub(crate) fn close(&self, patience: Duration) {
        drop(self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let done = self.0.done.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the thread hangs in a write, it ends with the process.
        let _ = done.recv_timeout(patience);
    }
}

#[cfg(test)]
impl Journal {
    /// One that ends when it is asked what it has told.
    pub(crate) fn kept() -> (Self, impl FnOnce() -> String) {
        let (sender, told) = std::sync::mpsc::channel::<Vec<u8>>();
        let journal = Self::to(tests::Kept(sender));
        let kept = journal.clone();
        let tell = move || {
            kept.close(Duration::from_secs(20));
            String::from_utf8(told.try_iter().collect::<Vec<_>>().concat()).unwrap()
        };
        (journal, tell)
    }
}

fn line(level: Level, text: &str) -> String {
    format!("service-mesh: {}: {text}\n", level.as_str())
}

impl Listener for Journal {
    fn on_event(&self, event: &Event) {
        if let EventKind::Transition(change) = &event.kind {
            let level = if change.to == CircuitState::Open { Level::Warn } else { Level::Info };
            self.change(level, format_args!("circuit {event}"));
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use service_mesh::CircuitBreaker;

    use super::*;

    /// Gives each write to the test, once it is allowed to.
    struct Pipe(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(super) struct Kept(pub(super) Sender<Vec<u8>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn journal() -> (Journal, Sender<()>, Receiver<Vec<u8>>) {
        let (free, stuck) = channel();
        let (told, written) = channel();
        (Journal::to(Pipe(stuck, told)), free, written)
    }

    fn written(journal: &Journal, free: Sender<()>, written: &Receiver<Vec<u8>>) -> String {
        drop(free);
        journal.close(Duration::from_secs(20));
        String::from_utf8(written.iter().collect::<Vec<_>>().concat()).unwrap()
    }

    #[test]
    fn a_circuit_tells_when_it_changes_its_state_and_why() {
        let (journal, told) = Journal::kept();
        let circuit = CircuitBreaker::builder("pay/a").listener(journal.clone()).build();
        circuit.force_open();
        circuit.reset();
        // It is told to from here on.
        journal.tell_changes();
        (0..5).for_each(|_| circuit.record_failure());
        circuit.reset();
        let told = told();
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("service-mesh: warn: circuit pay/a: closed -> open: 5 failures"), "{told}");
        assert_eq!(lines[1..], ["service-mesh: info: circuit pay/a: open -> closed: reset"]);
    }

    #[test]
    fn who_tells_does_not_wait_and_what_is_missing_is_told() {
        let (journal, free, out) = journal();
        (0..QUEUE + 100).for_each(|number| journal.tell(Level::Info, number));
        free.send(()).unwrap();
        let first = out.recv().unwrap();
        assert_eq!(first, b"service-mesh: info: 0\n");
        // There is a place now, or there will be one in a moment.
        while journal.0.missing.load(Ordering::Relaxed) > 0 {
            free.send(()).unwrap();
            journal.tell(Level::Info, "at last\nand again");
        }
        let told = written(&journal, free, &out);
        assert!(told.contains(" lines are missing here\nservice-mesh: info: at last\nservice-mesh: info: and again\n"));
    }

    #[test]
    fn after_its_end_nothing_is_told() {
        let (journal, free, out) = journal();
        journal.tell(Level::Warn, "one");
        assert_eq!(written(&journal, free, &out), "service-mesh: warn: one\n");
        journal.tell(Level::Warn, "two");
        assert!(out.recv().is_err());
    }
}
