//! Reads a file of scenarios, and runs them one after the other.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use toml::Spanned;

use crate::expect::Mismatch;
use crate::{Failure, Need, Report};

/// Where the scenarios of this repository lie.
pub fn scenarios_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance")
}

/// One scenario of some subject.
pub trait Scenario: DeserializeOwned {
    /// The word at the head of its file: `subject = "…"`.
    const SUBJECT: &'static str;

    /// The claim that it proves.
    fn name(&self) -> &str;
    /// The rules that it shows, as `conformance/README.md` numbers them.
    fn rules(&self) -> &[String];
    /// What it needs of a driver.
    fn needs(&self) -> &[Need];
    /// What its steps use, in any order and any number.
    fn uses(&self) -> Vec<Need>;
    /// Where in the file each step stands.
    fn steps(&self) -> Vec<Range<usize>>;
    /// Whether every step makes sense by itself.
    ///
    /// # Errors
    /// The step, counted from 1 (0 is the scenario), and what is wrong with it.
    fn check(&self) -> Result<(), (usize, String)>;
}

/// A file of scenarios that all make sense.
#[derive(Debug)]
pub struct ScenarioFile<S> {
    name: String,
    text: String,
    scenarios: Vec<Spanned<S>>,
}

#[derive(Deserialize)]
struct Head {
    subject: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<S> {
    #[serde(rename = "subject")]
    _subject: String,
    #[serde(rename = "scenario", bound(deserialize = "S: Deserialize<'de>"))]
    scenarios: Vec<Spanned<S>>,
}

impl<S: Scenario> ScenarioFile<S> {
    /// Reads a file of `conformance/`.
    ///
    /// # Errors
    /// It cannot be read, or does not make sense; the error says where.
    pub fn open(file: &str) -> Result<Self, FormatError> {
        let path = scenarios_directory().join(file);
        let name = format!("conformance/{file}");
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(name, text),
            Err(error) => Err(FormatError { file: name, line: 0, message: error.to_string() }),
        }
    }

    /// Reads scenarios from a text; `name` stands for the file in what is told.
    ///
    /// # Errors
    /// It does not make sense; the error says where.
    pub fn parse(name: impl Into<String>, text: impl Into<String>) -> Result<Self, FormatError> {
        let (name, text) = (name.into(), text.into());
        let error = |at: usize, message: String| FormatError { file: name.clone(), line: line_of(&text, at), message };
        let malformed =
            |fault: toml::de::Error| error(fault.span().map_or(0, |span| span.start), fault.message().to_owned());

        let head: Head = toml::from_str(&text).map_err(malformed)?;
        if head.subject != S::SUBJECT {
            return Err(error(0, format!("its subject is {:?}, not {:?}", head.subject, S::SUBJECT)));
        }
        let Body { scenarios, .. }: Body<S> = toml::from_str(&text).map_err(malformed)?;
        let mut names = BTreeSet::new();
        for spanned in &scenarios {
            let (scenario, at) = (spanned.get_ref(), spanned.span().start);
            if !names.insert(scenario.name()) {
                return Err(error(at, format!("{:?} is claimed twice", scenario.name())));
            }
            let used: BTreeSet<Need> = scenario.uses().into_iter().collect();
            if used != scenario.needs().iter().copied().collect() || used.len() != scenario.needs().len() {
                let words: Vec<String> = used.iter().map(|need| format!("{:?}", need.as_str())).collect();
                return Err(error(at, format!("its needs are [{}]", words.join(", "))));
            }
            scenario.check().map_err(|(step, message)| {
                let at = step.checked_sub(1).map_or(at, |index| scenario.steps()[index].start);
                error(at, message)
            })?;
        }
        Ok(Self { name, text, scenarios })
    }

    /// The scenarios, in the order of the file.
    pub fn scenarios(&self) -> impl Iterator<Item = &S> {
        self.scenarios.iter().map(Spanned::get_ref)
    }

    /// Plays each scenario that a driver which `can` do so much is able to play.
    pub(crate) fn run(&self, can: &[Need], mut play: impl FnMut(&S) -> Result<(), (usize, Mismatch)>) -> Report {
        let mut report = Report::default();
        for spanned in &self.scenarios {
            let scenario = spanned.get_ref();
            let name = scenario.name().to_owned();
            let lacking: Vec<Need> = scenario.needs().iter().copied().filter(|need| !can.contains(need)).collect();
            if !lacking.is_empty() {
                report.skipped.push((name, lacking));
                continue;
            }
            match play(scenario) {
                Ok(()) => report.passed.push(name),
                Err((step, mismatch)) => report.failures.push(self.failure(spanned, step, mismatch)),
            }
        }
        report
    }

    fn failure(&self, scenario: &Spanned<S>, step: usize, mismatch: Mismatch) -> Failure {
        let written = step.checked_sub(1).map(|index| scenario.get_ref().steps()[index].clone());
        let at = written.as_ref().map_or_else(|| scenario.span().start, |span| span.start);
        Failure {
            file: self.name.clone(),
            line: line_of(&self.text, at),
            scenario: scenario.get_ref().name().to_owned(),
            step,
            written: written.map(|span| self.text[span].to_owned()).unwrap_or_default(),
            what: mismatch.what,
            expected: mismatch.expected,
            got: mismatch.got,
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// A file that does not make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// The file, as it was opened.
    pub file: String,
    /// The line, counted from 1; 0 where the file could not be read at all.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl std::error::Error for FormatError {}

/// Finds the one action of a step among those that are written there.
pub(crate) fn one_action(present: &[(&'static str, bool)]) -> Result<&'static str, String> {
    let written: Vec<&str> = present.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    match written[..] {
        [action] => present.iter().find(|(name, _)| *name == action).map(|(name, _)| *name).ok_or_else(String::new),
        [] => {
            let known: Vec<&str> = present.iter().map(|(name, _)| *name).collect();
            Err(format!("a step has one action of {}", known.join(", ")))
        }
        _ => Err(format!("a step has one action, not {}", written.join(" and "))),
    }
}

/// Refuses what does not belong to an action: the name of each key, whether it is written, and the actions it belongs to.
pub(crate) fn belongs(action: &str, keys: &[(&str, bool, &[&str])]) -> Result<(), String> {
    for (key, there, actions) in keys {
        if *there && !actions.contains(&action) {
            return Err(format!("`{key}` belongs to {}, not to `{action}`", actions.join(", ")));
        }
    }
    Ok(())
}

/// A configuration, or why the model refused it: a scenario may expect that.
#[derive(Clone, Debug)]
pub(crate) struct Config<T>(pub(crate) Result<T, String>);

impl<T: Default> Default for Config<T> {
    fn default() -> Self {
        Self(Ok(T::default()))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Config<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_table(toml::Table::deserialize(deserializer)?))
    }
}

impl<T: DeserializeOwned> Config<T> {
    pub(crate) fn from_table(table: toml::Table) -> Self {
        Self(table.try_into().map_err(|error: toml::de::Error| error.to_string()))
    }
}

impl<T> Config<T> {
    /// It must be valid, unless an error of a field is expected; then there must be no steps either.
    pub(crate) fn check(&self, expected: Option<&str>, steps: usize) -> Result<(), (usize, String)> {
        match (&self.0, expected) {
            (Err(message), None) => Err((0, message.clone())),
            (_, Some(_)) if steps > 0 => Err((1, "nothing can happen after a config_error".to_owned())),
            _ => Ok(()),
        }
    }

    /// The configuration, or none where it was refused as expected.
    pub(crate) fn play(&self, expected: Option<&str>) -> Result<Option<&T>, (usize, Mismatch)> {
        let got = match (&self.0, expected) {
            (Ok(config), None) => return Ok(Some(config)),
            (Err(message), Some(field)) if message.contains(field) => return Ok(None),
            (Err(message), _) => message.as_str(),
            (Ok(_), _) => "a configuration",
        };
        let expected =
            expected.map_or_else(|| "a configuration".to_owned(), |field| format!("an error that names {field}"));
        Err((0, Mismatch { what: "config".to_owned(), expected, got: got.to_owned() }))
    }
}
