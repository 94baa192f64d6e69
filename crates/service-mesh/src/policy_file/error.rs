//! What is wrong with a policy file, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A policy file that cannot be used: it cannot be read, is no TOML, or makes mistakes. It tells all of them, in the
/// order of the file; its text has a line for each.
///
/// ```
/// use service_mesh::Mesh;
/// let error = "[services.payments.retry]\nmax_retires = 5".parse::<Mesh>().unwrap_err();
/// assert_eq!(error.to_string(), "2:1: services.payments.retry.max_retires is unknown; did you mean max_retries?");
/// assert_eq!((error.mistakes()[0].line(), error.mistakes()[0].column()), (2, 1));
/// ```
#[derive(Debug)]
pub struct PolicyError {
    path: Option<PathBuf>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unreadable(io::Error),
    /// Never empty.
    Mistaken(Vec<Mistake>),
}

/// One mistake in a policy file. Its text reads `LINE:COLUMN: KEY MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) key: String,
    pub(super) message: String,
}

impl PolicyError {
    pub(super) fn unreadable(error: io::Error) -> Self {
        Self { path: None, kind: Kind::Unreadable(error) }
    }

    pub(super) fn mistaken(mut mistakes: Vec<Mistake>) -> Self {
        debug_assert!(!mistakes.is_empty(), "a file without a mistake was refused");
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        Self { path: None, kind: Kind::Mistaken(mistakes) }
    }

    /// The same, told of the text of this file.
    #[must_use]
    pub fn of_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The file, where it was one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Every mistake, in the order of the file. None if it could not be read.
    pub fn mistakes(&self) -> &[Mistake] {
        match &self.kind {
            Kind::Unreadable(_) => &[],
            Kind::Mistaken(mistakes) => mistakes,
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Unreadable(_) => {
                write!(f, "{} cannot be read", self.path.as_deref().unwrap_or_else(|| Path::new("")).display())
            }
            Kind::Mistaken(mistakes) => mistakes.iter().enumerate().try_for_each(|(index, mistake)| {
                if index > 0 {
                    f.write_str("\n")?;
                }
                if let Some(path) = &self.path {
                    write!(f, "{}:", path.display())?;
                }
                mistake.fmt(f)
            }),
        }
    }
}

impl std::error::Error for PolicyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Unreadable(error) => Some(error),
            Kind::Mistaken(_) => None,
        }
    }
}

impl Mistake {
    /// The line of the key, or of the place where TOML ends, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Its column, in characters, counted from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// The key, with all the tables that it is in: `services.payments.retry.max_retries`. Empty where the file is no
    /// TOML.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong with it, as a sentence goes on behind the key: `is 0; allowed: 1 or more`.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{} ", self.key)?;
        }
        f.write_str(&self.message)
    }
}
