//! Whether what was written makes sense: every mistake is one error, at the place of the mistake.
//!
//! Fields are literals, so that a value out of range is found when it is compiled and no call can ever panic over it.
//! Whatever must be computed is given whole, as `config = …`; it was checked where it was made.

use std::time::Duration;

use proc_macro2::Span;
use quote::ToTokens;
use syn::{Expr, ExprLit, ExprUnary, Ident, ItemFn, Lit, LitStr, ReturnType, UnOp};

use crate::fields::{self, Allows, Field, JITTERS, Window};
use crate::parse::{Arguments, Entry, Fields, Kind, Use, Value};

/// What one attribute puts around a function.
pub(crate) struct Layer {
    pub(crate) source: Source,
    pub(crate) classify: Option<Expr>,
}

/// Where the breaker or the policy comes from.
pub(crate) enum Source {
    /// A breaker of its own.
    Breaker { name: LitStr, config: Config },
    /// A policy of its own.
    Policy(Config),
    /// One that exists.
    Given(Kind, Expr),
}

impl Layer {
    pub(crate) const fn kind(&self) -> Kind {
        match self.source {
            Source::Breaker { .. } => Kind::CircuitBreaker,
            Source::Policy(_) => Kind::Retry,
            Source::Given(kind, _) => kind,
        }
    }

    /// Whether it is a policy of its own that may have to wait between attempts.
    pub(crate) fn may_wait(&self) -> bool {
        let Source::Policy(config) = &self.source else { return false };
        let Config::Fields(settings) = config else { return true };
        // A classifier may ask for a wait whatever the backoff is.
        let never = settings.iter().any(|setting| match (setting.field.key, &setting.value) {
            ("max_retries", Checked::Count(0)) => true,
            ("initial_delay_seconds" | "max_delay_seconds", Checked::Seconds(wait)) => {
                wait.is_zero() && self.classify.is_none()
            }
            _ => false,
        });
        !never
    }
}

/// A configuration.
pub(crate) enum Config {
    Fields(Vec<Setting>),
    Given(Expr),
}

/// A field and its value, which is in its range.
pub(crate) struct Setting {
    pub(crate) field: &'static Field,
    pub(crate) value: Checked,
    key: Ident,
    value_tokens: proc_macro2::TokenStream,
}

pub(crate) enum Checked {
    Count(u32),
    Number(f64),
    Seconds(Duration),
    Switch(bool),
    /// The variant of `Jitter`.
    Jitter(&'static str),
    Window(Window, Vec<Setting>),
}

/// The layers of a function, the outermost first.
pub(crate) fn layers(uses: Vec<Use>, function: &ItemFn) -> syn::Result<Vec<Layer>> {
    let kind = uses[0].kind.name();
    check_function(kind, function)?;
    let mut layers: Vec<Layer> = Vec::new();
    for written in uses {
        let (kind, span) = (written.kind, written.span);
        if layers.iter().any(|layer| layer.kind() == kind) {
            let message = match kind {
                Kind::Retry => "one `#[with_retry]` a function: two of them multiply their attempts",
                Kind::CircuitBreaker => {
                    "one `#[with_circuit_breaker]` a function: put the other on the function that it calls"
                }
            };
            return Err(syn::Error::new(span, message));
        }
        let arguments = syn::parse2(written.arguments)?;
        layers.push(match kind {
            Kind::CircuitBreaker => circuit_breaker(span, arguments)?,
            Kind::Retry => retry(arguments)?,
        });
    }
    Ok(layers)
}

fn check_function(attribute: &str, function: &ItemFn) -> syn::Result<()> {
    let signature = &function.sig;
    if let Some(token) = &signature.constness {
        let message =
            format!("`#[{attribute}]` cannot go on a `const fn`: what it needs to know changes as the program runs");
        return Err(syn::Error::new(token.span, message));
    }
    if let Some(abi) = &signature.abi {
        let message =
            format!("`#[{attribute}]` cannot go on an `extern` function: no foreign type says that a call failed");
        return Err(syn::Error::new_spanned(abi, message));
    }
    if matches!(signature.output, ReturnType::Default) {
        let message =
            format!("`#[{attribute}]` needs a function that returns a `Result`, or nobody knows whether a call failed");
        return Err(syn::Error::new(signature.ident.span(), message));
    }
    Ok(())
}

fn circuit_breaker(span: Span, Arguments { name, entries }: Arguments) -> syn::Result<Layer> {
    let mut parts = Parts::sort(Kind::CircuitBreaker, entries)?;
    let classify = parts.classify.take();
    if let Some((key, given)) = parts.given.take() {
        if let Some(name) = &name {
            return Err(syn::Error::new_spanned(name, "a breaker that exists has its name: give one or the other"));
        }
        parts.refuse_beside(&key)?;
        return Ok(Layer { source: Source::Given(Kind::CircuitBreaker, given), classify });
    }
    let Some(name) = name else {
        let message = "which circuit? Name it, as in `#[with_circuit_breaker(\"api-service\")]`, or give one that exists, as \
                       in `#[with_circuit_breaker(circuit_breaker = BREAKER)]`";
        return Err(syn::Error::new(span, message));
    };
    if name.value().is_empty() {
        return Err(syn::Error::new_spanned(name, "a circuit needs a name that errors and metrics can tell"));
    }
    let config = parts.config()?;
    if let Config::Fields(settings) = &config {
        check_circuit_breaker(settings)?;
    }
    Ok(Layer { source: Source::Breaker { name, config }, classify })
}

fn retry(Arguments { name, entries }: Arguments) -> syn::Result<Layer> {
    if let Some(name) = name {
        return Err(syn::Error::new_spanned(name, "a retry policy has no name: fields are written `key = value`"));
    }
    let mut parts = Parts::sort(Kind::Retry, entries)?;
    let classify = parts.classify.take();
    if let Some((key, given)) = parts.given.take() {
        parts.refuse_beside(&key)?;
        return Ok(Layer { source: Source::Given(Kind::Retry, given), classify });
    }
    Ok(Layer { source: Source::Policy(parts.config()?), classify })
}

/// The entries of an attribute, each where it belongs.
struct Parts {
    given: Option<(Ident, Expr)>,
    config: Option<(Ident, Expr)>,
    classify: Option<Expr>,
    settings: Vec<Setting>,
}

impl Parts {
    fn sort(kind: Kind, entries: Vec<Entry>) -> syn::Result<Self> {
        let (given, table) = match kind {
            Kind::CircuitBreaker => ("circuit_breaker", fields::CIRCUIT_BREAKER),
            Kind::Retry => ("policy", fields::RETRY),
        };
        let mut parts = Self { given: None, config: None, classify: None, settings: Vec::new() };
        refuse_doubled(&entries)?;
        for Entry { key, value } in entries {
            let name = key.to_string();
            if ![given, "config", "classify"].contains(&name.as_str()) {
                parts.settings.push(setting(Some(kind), table, &[given, "config", "classify"], key, value)?);
                continue;
            }
            let Value::Is(value) = value else {
                return Err(syn::Error::new(key.span(), format!("`{key}` takes one expression: `{key} = …`")));
            };
            match name.as_str() {
                "config" => parts.config = Some((key, value)),
                "classify" => parts.classify = Some(value),
                _ => parts.given = Some((key, value)),
            }
        }
        Ok(parts)
    }

    /// Fields or a configuration, not both.
    fn config(self) -> syn::Result<Config> {
        match (self.config, self.settings.first()) {
            (Some(_), Some(setting)) => {
                let message = format!("`config` says all of it: `{0}` belongs there", setting.key);
                Err(syn::Error::new(setting.key.span(), message))
            }
            (Some((_, config)), None) => Ok(Config::Given(config)),
            (None, _) => Ok(Config::Fields(self.settings)),
        }
    }

    /// What exists already is not configured here.
    fn refuse_beside(&self, given: &Ident) -> syn::Result<()> {
        let config = self.config.as_ref().map(|(key, _)| key);
        match config.or_else(|| self.settings.first().map(|setting| &setting.key)) {
            Some(key) => {
                let message = format!("`{key}` has no effect beside `{given}`, which has its own configuration");
                Err(syn::Error::new(key.span(), message))
            }
            None => Ok(()),
        }
    }
}

fn refuse_doubled(entries: &[Entry]) -> syn::Result<()> {
    for (index, entry) in entries.iter().enumerate() {
        if entries[..index].iter().any(|earlier| earlier.key == entry.key) {
            return Err(syn::Error::new(entry.key.span(), format!("`{}` is set twice", entry.key)));
        }
    }
    Ok(())
}

/// A field with a value that it may have.
fn setting(
    kind: Option<Kind>,
    table: &'static [Field],
    others: &[&'static str],
    key: Ident,
    value: Value,
) -> syn::Result<Setting> {
    let Some(field) = table.iter().find(|field| key == field.key) else {
        return Err(syn::Error::new(key.span(), unknown(kind, table, others, &key.to_string())));
    };
    let value_tokens = match &value {
        Value::Is(value) => value.to_token_stream(),
        Value::Group(group) => group.clone(),
    };
    let value = match (&field.allows, value) {
        (Allows::Window(window), Value::Group(group)) => {
            let Fields(entries) = syn::parse2(group)?;
            refuse_doubled(&entries)?;
            let settings = entries.into_iter().map(|entry| setting(None, window.fields(), &[], entry.key, entry.value));
            let settings = settings.collect::<syn::Result<Vec<_>>>()?;
            check_window(*window, &key, &settings)?;
            Checked::Window(*window, settings)
        }
        (Allows::Window(_), Value::Is(_)) => {
            let message = format!("`{key}` has fields of its own: `{key}(failure_ratio = 0.5)`");
            return Err(syn::Error::new(key.span(), message));
        }
        (_, Value::Group(_)) => {
            return Err(syn::Error::new(key.span(), format!("`{key}` takes one value: `{key} = …`")));
        }
        (allows, Value::Is(value)) => check(&key, allows, &value)?,
    };
    Ok(Setting { field, value, key, value_tokens })
}

fn check(key: &Ident, allows: &Allows, value: &Expr) -> syn::Result<Checked> {
    let literal = Literal::of(value).ok_or_else(|| {
        let message = format!(
            "`{key}` takes a literal, which is checked when it is compiled; what must be computed goes into `config = …`"
        );
        syn::Error::new_spanned(value, message)
    })?;
    let range = match (allows, &literal) {
        (Allows::Count(min, max), Literal::Number(text)) => {
            let number = text.parse().ok().filter(|number| (min..=max).contains(&number));
            match number {
                Some(number) => return Ok(Checked::Count(number)),
                // As the configuration itself says it.
                None if text.parse::<i128>().is_ok_and(|number| number < i128::from(*min)) => format!("{min} or more"),
                None => format!("{min} to {max}"),
            }
        }
        (Allows::AtLeast(min), Literal::Number(text)) => match finite(text).filter(|number| number >= min) {
            Some(number) => return Ok(Checked::Number(number)),
            None => format!("a finite number, at least {min}"),
        },
        (Allows::Ratio, Literal::Number(text)) => match finite(text).filter(|ratio| (0.0..=1.0).contains(ratio)) {
            Some(ratio) => return Ok(Checked::Number(ratio)),
            None => "0 to 1".into(),
        },
        (Allows::PositiveRatio, Literal::Number(text)) => {
            match finite(text).filter(|ratio| *ratio > 0.0 && *ratio <= 1.0) {
                Some(ratio) => return Ok(Checked::Number(ratio)),
                None => "above 0, at most 1".into(),
            }
        }
        (Allows::Seconds, Literal::Number(text)) => match finite(text).filter(|seconds| *seconds >= 0.0) {
            Some(seconds) => {
                return Ok(Checked::Seconds(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)));
            }
            None => "a finite number of seconds, at least 0".into(),
        },
        (Allows::Switch, Literal::Bool(on)) => return Ok(Checked::Switch(*on)),
        (Allows::Jitter, Literal::Bool(on)) => {
            return Ok(Checked::Jitter(if *on { "Proportional" } else { "None" }));
        }
        (Allows::Jitter, Literal::Text(text)) => {
            if let Some((_, variant)) = JITTERS.iter().find(|(word, _)| word == text) {
                return Ok(Checked::Jitter(variant));
            }
            let meant = closest(text, JITTERS.iter().map(|(word, _)| *word));
            let meant = meant.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default();
            format!("{}{meant}", jitter_words())
        }
        (Allows::Switch, _) => "true or false".into(),
        (Allows::Jitter, _) => jitter_words(),
        (Allows::Count(..), _) => "a whole number".into(),
        (Allows::Seconds, _) => "a number of seconds".into(),
        _ => "a number".into(),
    };
    Err(syn::Error::new_spanned(value, format!("{key} is {literal}; allowed: {range}")))
}

fn jitter_words() -> String {
    let words: Vec<_> = JITTERS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    format!("true, false, {}", words.join(", "))
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A literal, without the underscores and the suffix that it may have.
enum Literal {
    Number(String),
    Bool(bool),
    Text(String),
}

impl Literal {
    fn of(expression: &Expr) -> Option<Self> {
        match expression {
            // A macro's `$value:expr` or `$value:literal` arrives in an invisible group.
            Expr::Group(group) => Self::of(&group.expr),
            Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => match Self::of(expr)? {
                Self::Number(text) => Some(Self::Number(format!("-{text}"))),
                _ => None,
            },
            Expr::Lit(ExprLit { lit, .. }) => match lit {
                Lit::Int(number) => Some(Self::Number(number.base10_digits().into())),
                Lit::Float(number) => Some(Self::Number(number.base10_digits().into())),
                Lit::Bool(on) => Some(Self::Bool(on.value)),
                Lit::Str(text) => Some(Self::Text(text.value())),
                _ => None,
            },
            _ => None,
        }
    }
}

impl std::fmt::Display for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(text) => f.write_str(text),
            Self::Bool(on) => on.fmt(f),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

fn find<'a>(settings: &'a [Setting], key: &str) -> Option<&'a Setting> {
    settings.iter().find(|setting| setting.field.key == key)
}

fn seconds(settings: &[Setting], key: &str) -> Option<Duration> {
    match find(settings, key)?.value {
        Checked::Seconds(duration) => Some(duration),
        _ => None,
    }
}

/// What the fields of a circuit breaker must be to one another.
fn check_circuit_breaker(settings: &[Setting]) -> syn::Result<()> {
    if let (Some(max), Some(setting)) =
        (seconds(settings, "timeout_max_seconds"), find(settings, "timeout_max_seconds"))
    {
        let timeout = seconds(settings, "timeout_seconds").unwrap_or(Duration::from_secs(30));
        if max < timeout {
            let (max, timeout) = (max.as_secs_f64(), timeout.as_secs_f64());
            let message =
                format!("timeout_max_seconds is {max}; allowed: at least timeout_seconds, which is {timeout}");
            return Err(syn::Error::new_spanned(&setting.value_tokens, message));
        }
    }
    if let Some(Setting { value: Checked::Switch(false), value_tokens, .. }) = find(settings, "consecutive")
        && find(settings, "count_window").is_none()
        && find(settings, "time_window").is_none()
    {
        let message = "consecutive is false; allowed: true, unless count_window or time_window is set";
        return Err(syn::Error::new_spanned(value_tokens, message));
    }
    Ok(())
}

/// What the fields of a window must be to one another.
fn check_window(window: Window, key: &Ident, settings: &[Setting]) -> syn::Result<()> {
    let (slow_ratio, slow_call) = (find(settings, "slow_call_ratio"), find(settings, "slow_call_seconds"));
    match (slow_ratio, slow_call) {
        (Some(ratio), None) => {
            Err(syn::Error::new(ratio.key.span(), "`slow_call_ratio` needs `slow_call_seconds`: what is slow?"))
        }
        (None, Some(slow)) => {
            Err(syn::Error::new(slow.key.span(), "`slow_call_seconds` needs `slow_call_ratio`: how many are too many?"))
        }
        (None, None) if find(settings, "failure_ratio").is_none() => {
            let message = format!("`{key}` has no rule: set `failure_ratio`, `slow_call_ratio`, or both");
            Err(syn::Error::new(key.span(), message))
        }
        _ => Ok(()),
    }?;
    if window == Window::Time
        && let Some(duration) = find(settings, "duration_seconds")
    {
        let buckets = match find(settings, "buckets").map(|setting| &setting.value) {
            Some(Checked::Count(buckets)) => *buckets,
            _ => 10,
        };
        if let Checked::Seconds(length) = duration.value
            && (length / buckets).is_zero()
        {
            let message = format!("duration_seconds is too short: each of its {buckets} buckets needs a nanosecond");
            return Err(syn::Error::new_spanned(&duration.value_tokens, message));
        }
    }
    Ok(())
}

/// What to say of a key that nobody knows.
fn unknown(kind: Option<Kind>, table: &[Field], others: &[&'static str], key: &str) -> String {
    let keys = || table.iter().map(|field| field.key).chain(others.iter().copied());
    if kind == Some(Kind::CircuitBreaker) && key == "name" {
        return "the name goes first, without a key: `#[with_circuit_breaker(\"api-service\")]`".into();
    }
    if let Some(meant) = closest(key, keys()) {
        return format!("unknown field `{key}`; did you mean `{meant}`?");
    }
    let elsewhere = |fields: &[Field]| fields.iter().any(|field| field.key == key);
    let window = [Window::Count, Window::Time].iter().any(|window| elsewhere(window.fields()));
    if kind != Some(Kind::Retry) && elsewhere(fields::RETRY) {
        return format!("`{key}` is a field of `#[with_retry]`");
    }
    if kind != Some(Kind::CircuitBreaker) && elsewhere(fields::CIRCUIT_BREAKER) {
        return format!("`{key}` is a field of `#[with_circuit_breaker]`");
    }
    if kind == Some(Kind::CircuitBreaker) && window {
        return format!("`{key}` is a field of a window: `count_window({key} = …)` or `time_window({key} = …)`");
    }
    let keys: Vec<_> = keys().map(|key| format!("`{key}`")).collect();
    format!("unknown field `{key}`; known are {}", keys.join(", "))
}

/// The word that was most likely meant: one that continues it, or else the nearest by edits, if it is near.
fn closest<'a>(word: &str, words: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let continued = words.clone().find(|known| known.strip_prefix(word).is_some_and(|rest| rest.starts_with('_')));
    continued.or_else(|| {
        let nearest = words.map(|known| (edits(word, known), known)).min()?;
        (nearest.0 <= word.len().div_ceil(4)).then_some(nearest.1)
    })
}

/// How many letters must be added, taken out or changed to make one word of the other (Levenshtein's distance).
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.chars().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, expected) in [("", "abc", 3), ("kitten", "sitting", 3), ("retries", "retries", 0)] {
            assert_eq!((edits(from, to), edits(to, from)), (expected, expected));
        }
    }

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let keys = || fields::CIRCUIT_BREAKER.iter().map(|field| field.key);
        assert_eq!(closest("failure_treshold", keys()), Some("failure_threshold"));
        assert_eq!(closest("timeout", keys()), Some("timeout_seconds"));
        assert_eq!(closest("max_retries", keys()), None);
    }
}
