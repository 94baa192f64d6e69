//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::counters::{BOUNDS, Told};

/// What `Content-Type` says of it.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text in the making: a family, its samples, the next family.
#[derive(Debug, Default)]
pub(crate) struct Text {
    text: String,
    family: &'static str,
}

impl Text {
    /// Begins a family of counters.
    pub(crate) fn counter(&mut self, name: &'static str, help: &str) {
        self.family(name, "counter", help);
    }

    /// Begins a family of gauges.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &str) {
        self.family(name, "gauge", help);
    }

    /// Begins a family of histograms.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) {
        self.family(name, "histogram", help);
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample of the family.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.line("", labels, None, value);
    }

    /// One histogram of the family.
    pub(super) fn buckets(&mut self, labels: &[(&str, &str)], told: &Told) {
        for (bound, count) in BOUNDS.iter().zip(told.cumulative) {
            self.line("_bucket", labels, Some(&bound.to_string()), count);
        }
        self.line("_bucket", labels, Some("+Inf"), told.count);
        self.line("_sum", labels, None, told.sum);
        self.line("_count", labels, None, told.count);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: impl Display) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (name, value) in labels {
            self.text.push(std::mem::replace(&mut before, ','));
            let _ = write!(self.text, "{name}=\"");
            for character in value.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// All of it.
    pub(crate) fn into_string(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_a_sample_may_have_none() {
        let mut text = Text::default();
        text.gauge("a", "What it is.");
        text.sample(&[("x", "1\\2\"3\n4"), ("y", "")], 7);
        text.sample(&[], 8);
        let expected = "# HELP a What it is.\n# TYPE a gauge\na{x=\"1\\\\2\\\"3\\n4\",y=\"\"} 7\na 8\n";
        assert_eq!(text.into_string(), expected);
    }
}
