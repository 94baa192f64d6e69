//! Where the story is told: lines, and on a terminal a last one that changes.

use std::fmt;
use std::io::{self, IsTerminal, Write, stdout};

/// The standard output.
///
/// Whoever closed the pipe does not want to read it: what cannot be written is lost, and no failure.
#[derive(Debug)]
pub(crate) struct Screen {
    /// None where no line can change.
    last: Option<String>,
}

/// Goes to the beginning of the line, and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Around a line that may be longer than the terminal is wide: a second row could not be cleared.
const NO_WRAP: (&str, &str) = ("\x1b[?7l", "\x1b[?7h");

impl Screen {
    /// That of this process.
    pub(crate) fn of_process() -> Self {
        let can_clear = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        Self { last: (can_clear && stdout().is_terminal()).then(String::new) }
    }

    /// Whether a last line can change.
    pub(crate) fn is_live(&self) -> bool {
        self.last.is_some()
    }

    /// Adds a line, or several.
    pub(crate) fn say(&self, text: impl fmt::Display) {
        write(&self.with(text));
    }

    /// Changes the last line, where that can be.
    pub(crate) fn show(&mut self, line: String) {
        if let Some(last) = &mut self.last {
            write(&shown(&line));
            *last = line;
        }
    }

    fn with(&self, text: impl fmt::Display) -> String {
        match &self.last {
            Some(last) => format!("{CLEAR}{text}\n{}", shown(last)),
            None => format!("{text}\n"),
        }
    }
}

fn shown(line: &str) -> String {
    let (no_wrap, wrap) = NO_WRAP;
    if line.is_empty() { CLEAR.to_owned() } else { format!("{CLEAR}{no_wrap}{line}{wrap}") }
}

fn write(text: &str) {
    let mut out = stdout().lock();
    let _: io::Result<()> = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_stands_above_the_line_that_changes() {
        let screen = Screen { last: Some(String::from("3 s")) };
        assert_eq!(screen.with("news"), "\r\x1b[Knews\n\r\x1b[K\x1b[?7l3 s\x1b[?7h");
    }

    #[test]
    fn no_control_sequence_is_written_where_no_line_can_change() {
        let mut screen = Screen { last: None };
        screen.show(String::from("3 s"));
        assert_eq!(screen.with("news"), "news\n");
    }
}
