//! The fields of each configuration, in the words of the policy file, and what each may be.
//!
//! The ranges are those of `service-mesh-models`, on which nothing here may depend; a test holds the two together.

/// A field of a configuration.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its key, which is that of the policy file.
    pub(crate) key: &'static str,
    /// The method of the builder.
    pub(crate) method: &'static str,
    pub(crate) allows: Allows,
}

/// The values that a field may have.
#[derive(Debug)]
pub(crate) enum Allows {
    /// A whole number from the first to the second.
    Count(u32, u32),
    /// A finite number, at least this.
    AtLeast(f64),
    /// A ratio that may be 0.
    Ratio,
    /// A ratio above 0.
    PositiveRatio,
    /// A number of seconds, at least 0.
    Seconds,
    /// `true` or `false`.
    Switch,
    /// The name of a jitter, `true` or `false`.
    Jitter,
    /// A window with these fields.
    Window(Window),
}

/// Which window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    Count,
    Time,
}

impl Window {
    /// The type in `service_mesh`.
    pub(crate) const fn type_name(self) -> &'static str {
        match self {
            Self::Count => "CountWindow",
            Self::Time => "TimeWindow",
        }
    }

    pub(crate) const fn fields(self) -> &'static [Field] {
        match self {
            Self::Count => COUNT_WINDOW,
            Self::Time => TIME_WINDOW,
        }
    }
}

/// The jitters by their words, and the variants of `Jitter`.
pub(crate) const JITTERS: [(&str, &str); 5] = [
    ("none", "None"),
    ("proportional", "Proportional"),
    ("full", "Full"),
    ("equal", "Equal"),
    ("decorrelated", "Decorrelated"),
];

const COUNT_MAX: u32 = (1 << 24) - 1;

pub(crate) const CIRCUIT_BREAKER: &[Field] = &[
    field("failure_threshold", Allows::Count(1, COUNT_MAX)),
    field("consecutive", Allows::Switch),
    field("success_threshold", Allows::Count(1, COUNT_MAX)),
    seconds("timeout_seconds", "timeout"),
    field("half_open_max_calls", Allows::Count(1, COUNT_MAX)),
    field("timeout_multiplier", Allows::AtLeast(1.0)),
    field("timeout_jitter_ratio", Allows::Ratio),
    seconds("timeout_max_seconds", "timeout_max"),
    seconds("probe_timeout_seconds", "probe_timeout"),
    field("count_window", Allows::Window(Window::Count)),
    field("time_window", Allows::Window(Window::Time)),
];

const COUNT_WINDOW: &[Field] = &[
    field("size", Allows::Count(1, 1 << 20)),
    field("minimum_calls", Allows::Count(1, u32::MAX)),
    field("failure_ratio", Allows::PositiveRatio),
    field("slow_call_ratio", Allows::PositiveRatio),
    seconds("slow_call_seconds", "slow_call"),
];

const TIME_WINDOW: &[Field] = &[
    seconds("duration_seconds", "duration"),
    field("buckets", Allows::Count(10, 1000)),
    field("minimum_calls", Allows::Count(1, u32::MAX)),
    field("failure_ratio", Allows::PositiveRatio),
    field("slow_call_ratio", Allows::PositiveRatio),
    seconds("slow_call_seconds", "slow_call"),
];

pub(crate) const RETRY: &[Field] = &[
    field("max_retries", Allows::Count(0, u32::MAX)),
    seconds("initial_delay_seconds", "initial_delay"),
    seconds("max_delay_seconds", "max_delay"),
    field("exponential_base", Allows::AtLeast(1.0)),
    field("jitter", Allows::Jitter),
    seconds("retry_after_max_seconds", "retry_after_max"),
];

const fn field(key: &'static str, allows: Allows) -> Field {
    Field { key, method: key, allows }
}

const fn seconds(key: &'static str, method: &'static str) -> Field {
    Field { key, method, allows: Allows::Seconds }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};
    use service_mesh::{CircuitBreakerConfig, CountWindow, Jitter, RetryConfig, TimeWindow};

    use super::*;

    type Accepts = fn(Value) -> Result<(), String>;

    fn accepts<T: serde::de::DeserializeOwned>(config: Value) -> Result<(), String> {
        serde_json::from_value::<T>(config).map(drop).map_err(|error| error.to_string())
    }

    /// Each table with the configuration that it stands for, and what else that configuration needs to be whole.
    fn tables() -> [(&'static [Field], Accepts, Value); 4] {
        let window = json!({ "failure_ratio": 0.5, "slow_call_ratio": 0.5, "slow_call_seconds": 1 });
        [
            (CIRCUIT_BREAKER, accepts::<CircuitBreakerConfig>, json!({ "count_window": window })),
            (COUNT_WINDOW, accepts::<CountWindow>, window.clone()),
            (TIME_WINDOW, accepts::<TimeWindow>, window),
            (RETRY, accepts::<RetryConfig>, json!({})),
        ]
    }

    /// Values that a field takes and values that it refuses, at the borders of its range.
    fn borders(allows: &Allows) -> (Vec<Value>, Vec<Value>) {
        match *allows {
            Allows::Count(min, max) => {
                let below = i64::from(min) - 1;
                (vec![json!(min), json!(max)], vec![json!(below), json!(u64::from(max) + 1), json!(1.5)])
            }
            Allows::AtLeast(min) => (vec![json!(min), json!(1e300)], vec![json!(min - 1e-9)]),
            Allows::Ratio => (vec![json!(0), json!(1)], vec![json!(-1e-9), json!(1.000_001)]),
            Allows::PositiveRatio => (vec![json!(1e-9), json!(1)], vec![json!(0), json!(1.000_001)]),
            // Large enough for `timeout_max_seconds`, whose least is `timeout_seconds`.
            Allows::Seconds => (vec![json!(30), json!(1e300)], vec![json!(-1e-9)]),
            Allows::Switch => (vec![json!(true), json!(false)], vec![json!(1)]),
            Allows::Jitter => (vec![json!(true), json!("full")], vec![json!("some")]),
            Allows::Window(_) => (vec![json!({ "failure_ratio": 0.5 })], vec![json!({})]),
        }
    }

    #[test]
    fn every_field_is_that_of_its_configuration_and_has_its_range() {
        for (table, accepts, rest) in tables() {
            let rest: Map<String, Value> = serde_json::from_value(rest).unwrap();
            let with = |key: &str, value: Value| {
                let mut config = rest.clone();
                config.insert(key.into(), value);
                accepts(config.into())
            };
            for field in table {
                let (legal, illegal) = borders(&field.allows);
                for value in legal {
                    assert_eq!(with(field.key, value.clone()), Ok(()), "{} = {value}", field.key);
                }
                for value in illegal {
                    assert!(with(field.key, value.clone()).is_err(), "{} = {value}", field.key);
                }
            }
        }
    }

    #[test]
    fn no_field_of_a_configuration_is_missing() {
        for (table, accepts, _) in tables() {
            let refused = accepts(json!({ "?": 0 })).unwrap_err();
            // serde lists them: unknown field `?`, expected one of `a`, `b`
            let known: Vec<_> = refused.split('`').skip(3).step_by(2).collect();
            let mut keys: Vec<_> = table.iter().map(|field| field.key).collect();
            assert_eq!(keys.len(), known.len(), "{refused}");
            keys.retain(|key| !known.contains(key));
            assert!(keys.is_empty(), "{keys:?} in {refused}");
        }
    }

    #[test]
    fn every_jitter_has_its_word() {
        let words = JITTERS.map(|(word, variant)| (String::from(word), String::from(variant)));
        assert_eq!(words, Jitter::ALL.map(|jitter| (jitter.to_string(), format!("{jitter:?}"))));
    }
}
