//! When the policy file is read again, and what is known of that.
//!
//! The file is looked at once a second and compared by its text. A watch of the file system would hear of it sooner, but
//! it hears of names: editors and Kubernetes put another file in place of the one that is watched, network file systems
//! tell nothing, and it has to be re-armed for each of these. Reading a small file costs some microseconds.
//!
//! A text is tried when it was read twice in a row: one that is being written may be half of itself, and half of a TOML
//! file is one as well. On SIGHUP it is tried at once; whoever sends that has finished.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use service_mesh::Timestamp;

use crate::metrics::Text;

/// How often the file is looked at.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// The file as it was read, or why it could not be.
pub(crate) type Read = Result<String, String>;

/// Reads the file. It may block.
pub(crate) fn read(path: &Path) -> Read {
    std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

/// What was read of the file, look for look: pure.
#[derive(Debug)]
pub(crate) struct Watched {
    /// What was tried last, whatever came of it.
    tried: Read,
    /// What differs from that and was read once.
    fresh: Option<Read>,
}

impl Watched {
    /// The text in force is this.
    pub(crate) fn new(text: String) -> Self {
        Self { tried: Ok(text), fresh: None }
    }

    /// The file was read; whether that should be tried now.
    pub(crate) fn look(&mut self, read: &Read) -> bool {
        if *read == self.tried {
            self.fresh = None;
            return false;
        }
        let is_settled = self.fresh.as_ref() == Some(read);
        if !is_settled {
            self.fresh = Some(read.clone());
        }
        is_settled
    }

    /// It is tried now.
    pub(crate) fn tried(&mut self, read: Read) {
        (self.tried, self.fresh) = (read, None);
    }
}

/// What came of the reloads, for those who ask.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    path: Option<PathBuf>,
    applied: u64,
    refused: u64,
    /// When the last one was applied, and what it changed.
    last: Option<(Timestamp, String)>,
    /// When what is in the file now was refused, and why; none if it is in force.
    refusal: Option<(Timestamp, String)>,
}

impl Reloads {
    /// None so far, of this file.
    pub(crate) fn of(path: Option<&Path>) -> Self {
        Self { path: path.map(Path::to_owned), ..Self::default() }
    }

    /// What came of one.
    pub(crate) fn record(&mut self, result: &Result<String, String>, now: Timestamp) {
        match result {
            Ok(changes) => {
                self.applied += 1;
                self.last = Some((now, changes.clone()));
                self.refusal = None;
            }
            Err(why) => {
                self.refused += 1;
                self.refusal = Some((now, why.clone()));
            }
        }
    }

    /// As JSON.
    pub(crate) fn told(&self, now: Timestamp) -> Value {
        let ago = |at: Timestamp| now.since(at).as_secs();
        json!({
            "path": self.path,
            "reloads_applied": self.applied,
            "reloads_refused": self.refused,
            "last_reload": self.last.as_ref().map(|(at, changes)| json!({ "seconds_ago": ago(*at), "changes": changes })),
            "refused": self.refusal.as_ref().map(|(at, why)| json!({ "seconds_ago": ago(*at), "why": why })),
        })
    }

    /// As metrics.
    pub(crate) fn render(&self, text: &mut Text) {
        text.counter("service_mesh_policy_reloads_total", "Times that the policy file was read again.");
        text.sample(&[("result", "applied")], self.applied);
        text.sample(&[("result", "refused")], self.refused);
        text.gauge(
            "service_mesh_policy_refused",
            "1 where the policy file is not what is in force, since it was refused.",
        );
        text.sample(&[], u64::from(self.refusal.is_some()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it stands beside readings that failed")]
    fn ok(text: &str) -> Read {
        Ok(text.to_owned())
    }

    #[test]
    fn a_text_is_tried_when_it_was_read_twice() {
        let mut watched = Watched::new(String::from("a"));
        assert!(!watched.look(&ok("a")));
        assert!(!watched.look(&ok("ab")), "it may be half of itself");
        assert!(!watched.look(&ok("abc")));
        assert!(watched.look(&ok("abc")));
        watched.tried(ok("abc"));
        assert!(!watched.look(&ok("abc")), "whatever came of it");
        // One that goes back to what is in force is no change.
        assert!(!watched.look(&ok("x")) && !watched.look(&ok("abc")) && !watched.look(&ok("x")));
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_is_no_news_and_one_that_stays_away_is() {
        let gone = Err(String::from("cannot be read"));
        let mut watched = Watched::new(String::from("a"));
        assert!(!watched.look(&gone) && !watched.look(&ok("a")) && !watched.look(&gone));
        assert!(watched.look(&gone));
        watched.tried(gone.clone());
        assert!(!watched.look(&gone));
        assert!(!watched.look(&ok("a")) && watched.look(&ok("a")));
    }

    #[test]
    fn a_refusal_is_told_until_something_is_applied() {
        let mut reloads = Reloads::of(Some(Path::new("mesh.toml")));
        let (now, wrong) = (Timestamp::ORIGIN, Err(String::from("2:1: retri is unknown")));
        reloads.record(&wrong, now);
        let told = reloads.told(now);
        assert_eq!((&told["refused"]["why"], &told["reloads_refused"]), (&json!("2:1: retri is unknown"), &json!(1)));
        let mut text = Text::default();
        reloads.render(&mut text);
        assert!(text.into_string().ends_with("service_mesh_policy_refused 1\n"));
        reloads.record(&Ok(String::from("a: retry")), now);
        let told = reloads.told(now);
        assert_eq!((&told["refused"], &told["last_reload"]["changes"]), (&Value::Null, &json!("a: retry")));
    }
}
