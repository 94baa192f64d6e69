//! What may be said on the command line: nothing, but for a question.

use std::ffi::OsString;

const HELP: &str = "\
Sends thousands of HTTP requests through one proxy to three servers of this process that fail, hang and die, and tells
what the callers noticed. Takes nine seconds and no arguments.

Usage: quickstart [--help]

Exit status: 0 if every call was answered, 1 if not, 2 for an argument, 130 if Ctrl-C ended it (what is known until
then is told).";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// The show.
    None,
    /// This text.
    Help(&'static str),
}

impl Arguments {
    /// Reads the arguments, without the program's name.
    pub(crate) fn read(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        match arguments.next() {
            None => Ok(Self::None),
            Some(argument) if argument == "--help" || argument == "-h" => Ok(Self::Help(HELP)),
            Some(other) => {
                let other = other.display();
                Err(format!("quickstart takes no arguments, but was given {other}; try --help"))
            }
        }
    }
}
