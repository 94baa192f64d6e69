//! A TOML document as it is read: every key knows where it stands, and every mistake is noted, so that one look at a
//! file finds them all.
//!
//! A table learns the keys that it may have by being asked for them, so that no list of keys stands beside the code that
//! reads them: what was never asked for is unknown.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use service_mesh_models::ConfigError;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Mistake, PolicyError};
use super::suggestion::closest;

/// The text, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Document<'a> {
    text: &'a str,
    mistakes: RefCell<Vec<Mistake>>,
}

/// What can be read from behind a key. `None` if it was wrong; the mistake is noted then.
pub(super) trait Read: Sized {
    fn read(entry: &Entry<'_>) -> Option<Self>;
}

/// A key, and what stands behind it.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    document: &'a Document<'a>,
    /// With all the tables that it is in.
    path: String,
    /// Where it stands, in bytes.
    at: usize,
    value: &'a DeValue<'a>,
}

/// A table that is being read. To be ended by [`finish`](Self::finish) or [`build`](Self::build).
#[derive(Debug)]
#[must_use = "what it does not know is found when it is finished"]
pub(super) struct Table<'a> {
    document: &'a Document<'a>,
    path: String,
    at: usize,
    entries: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
    missing: RefCell<Vec<&'static str>>,
    /// The keys that were meant by those that are unknown.
    miswritten: RefCell<Vec<&'static str>>,
    /// Whether all that it does not say would be inherited from a table with a mistake.
    is_heir_of_a_mistake: bool,
    /// How many mistakes there were when it was begun.
    mistakes_before: usize,
}

impl<'a> Document<'a> {
    /// Reads a document by way of its outermost table.
    pub(super) fn read<T>(text: &'a str, read: impl FnOnce(Table<'_>) -> Option<T>) -> Result<T, PolicyError> {
        let document = Document { text, mistakes: RefCell::default() };
        let result = match DeTable::parse(text) {
            Ok(root) => read(Table::new(&document, String::new(), 0, root.get_ref())),
            Err(error) => {
                document.refuse(
                    "",
                    error.span().map_or(0, |span| span.start),
                    format!("not TOML: {}", error.message()),
                );
                None
            }
        };
        let mistakes = document.mistakes.into_inner();
        match result {
            Some(result) if mistakes.is_empty() => Ok(result),
            _ => Err(PolicyError::mistaken(mistakes)),
        }
    }

    /// Notes what is wrong with `path`, which stands `at`.
    fn refuse(&self, path: &str, at: usize, message: impl fmt::Display) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        self.mistakes.borrow_mut().push(Mistake {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: path.to_owned(),
            message: message.to_string(),
        });
    }
}

impl<'a> Entry<'a> {
    /// Notes what is wrong with it.
    pub(super) fn refuse<T>(&self, message: impl fmt::Display) -> Option<T> {
        self.document.refuse(&self.path, self.at, message);
        None
    }

    /// Notes that it is of the wrong kind.
    pub(super) fn expected<T>(&self, what: &str) -> Option<T> {
        let kind = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.refuse(format_args!("is {kind}; expected {what}"))
    }

    /// Notes a word that is none of those that are known.
    pub(super) fn unknown_word<T>(&self, word: &str, known: &[&str]) -> Option<T> {
        self.refuse(format_args!("is {word:?}; {}", meant(word, known)))
    }

    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// Itself as a table; a mistake if it is none.
    pub(super) fn table(&self) -> Option<Table<'a>> {
        self.table_or("a table")
    }

    /// Itself as a table; a mistake if it is not what was expected.
    pub(super) fn table_or(&self, expected: &str) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(entries) => Some(Table::new(self.document, self.path.clone(), self.at, entries)),
            _ => self.expected(expected),
        }
    }

    /// What it lists; a mistake if it is no list.
    pub(super) fn elements(&self) -> Option<Vec<Self>> {
        let DeValue::Array(elements) = self.value else { return self.expected("a list") };
        let element = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| Self {
            document: self.document,
            path: format!("{}[{index}]", self.path),
            at: value.span().start,
            value: value.get_ref(),
        };
        Some(elements.iter().enumerate().map(element).collect())
    }
}

impl<'a> Table<'a> {
    fn new(document: &'a Document<'a>, path: String, at: usize, entries: &'a DeTable<'a>) -> Self {
        let mistakes_before = document.mistakes.borrow().len();
        Self {
            document,
            path,
            at,
            entries,
            known: RefCell::default(),
            missing: RefCell::default(),
            miswritten: RefCell::default(),
            is_heir_of_a_mistake: false,
            mistakes_before,
        }
    }

    /// From now on nothing is known of what it does not say.
    pub(super) fn heir_of_a_mistake(mut self) -> Self {
        self.is_heir_of_a_mistake = true;
        self
    }

    /// What stands behind this key, which is known from now on.
    pub(super) fn entry(&self, key: &'static str) -> Option<Entry<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let (key, value) = self.entries.get_key_value(key)?;
        Some(self.entry_of(key.get_ref(), key.span(), value))
    }

    /// Every key, whatever its name, and what stands behind it: for tables whose keys are names.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'a str, Entry<'a>)> {
        self.entries.iter().map(|(key, value)| (&**key.get_ref(), self.entry_of(key.get_ref(), key.span(), value)))
    }

    /// What stands behind this key; `None` if nothing does, or something wrong.
    pub(super) fn read<T: Read>(&self, key: &'static str) -> Option<T> {
        T::read(&self.entry(key)?)
    }

    /// The same where something must stand.
    pub(super) fn require<T: Read>(&self, key: &'static str) -> Option<T> {
        let entry = self.entry(key);
        if entry.is_none() {
            self.missing.borrow_mut().push(key);
        }
        T::read(&entry?)
    }

    /// Tells a builder what stands behind this key, if anything does.
    pub(super) fn set<B, T: Read>(&self, key: &'static str, builder: B, set: impl FnOnce(B, T) -> B) -> B {
        match self.read(key) {
            Some(value) => set(builder, value),
            None => builder,
        }
    }

    /// Notes the keys that nobody asked for, and those that are missing. Whether nothing in the table is wrong.
    pub(super) fn finish(self) -> bool {
        self.note_strangers();
        self.document.mistakes.borrow().len() == self.mistakes_before
    }

    /// The same. Whether it is known what these keys say.
    pub(super) fn finish_knowing(self, keys: &[&str]) -> bool {
        self.note_strangers();
        self.are_known(keys)
    }

    /// Finishes it, and takes what was built of it; each value that is out of range stands at its key. What would not be
    /// wrong but for another mistake is not told: that one may be all there is.
    pub(super) fn build<T>(self, built: Result<T, Vec<ConfigError>>) -> Option<T> {
        self.note_strangers();
        let told = |error: &ConfigError| !self.is_in_doubt(error.field()) && self.are_known(error.beside());
        match built {
            Ok(built) => (self.document.mistakes.borrow().len() == self.mistakes_before).then_some(built),
            Err(errors) => {
                let told: Vec<_> = errors.into_iter().filter(told).collect();
                for error in &told {
                    self.refuse(error);
                }
                None
            }
        }
    }

    fn are_known(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.is_in_doubt(key))
    }

    /// Whether nobody knows what was meant by this key: it was miswritten, its value is wrong, or what it would inherit.
    fn is_in_doubt(&self, key: &str) -> bool {
        let is_heir = self.is_heir_of_a_mistake && !self.entries.contains_key(key);
        if is_heir || self.miswritten.borrow().contains(&key) {
            return true;
        }
        let path = self.path_of(key);
        let is_within = |mistake: &Mistake| {
            mistake.key.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.document.mistakes.borrow()[self.mistakes_before..].iter().any(is_within)
    }

    /// Notes the keys that nobody asked for, and those that are missing.
    fn note_strangers(&self) {
        let (known, mut miswritten) = (self.known.borrow(), self.miswritten.borrow_mut());
        for (key, _) in self.entries {
            if !known.contains(&&**key.get_ref()) {
                let message = format!("is unknown; {}", meant(key.get_ref(), &known));
                self.document.refuse(&self.path_of(key.get_ref()), key.span().start, message);
                let meant = closest(key.get_ref(), known.iter().copied());
                miswritten.extend(meant.filter(|meant| !self.entries.contains_key(*meant)));
            }
        }
        // A key that was written wrongly is not missing as well.
        for key in self.missing.borrow().iter().filter(|key| !miswritten.contains(*key)) {
            self.document.refuse(&self.path_of(key), self.at, "is missing");
        }
    }

    /// Notes what is out of range.
    fn refuse(&self, error: &ConfigError) {
        let message = format_args!("is {}; allowed: {}", error.value(), error.allowed());
        match self.entries.get_key_value(error.field()) {
            Some((key, _)) => self.document.refuse(&self.path_of(error.field()), key.span().start, message),
            // It says something of the table as a whole, or of a key that is not there.
            None if self.path.ends_with(error.field()) => self.document.refuse(&self.path, self.at, message),
            None => self.document.refuse(&self.path_of(error.field()), self.at, message),
        }
    }

    fn entry_of(&self, key: &str, span: Range<usize>, value: &'a Spanned<DeValue<'a>>) -> Entry<'a> {
        Entry { document: self.document, path: self.path_of(key), at: span.start, value: value.get_ref() }
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// The path of a key in a table, spelled as TOML spells it.
fn join(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let key = if is_bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The word that was meant, or all that would have been right.
fn meant(word: &str, known: &[&str]) -> String {
    match closest(word, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None if known.is_empty() => String::from("there is none"),
        None => format!("allowed: {}", known.join(", ")),
    }
}
