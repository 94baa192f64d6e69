//! The one shape of every configuration: private fields, a getter and a builder setter each, and one place that can
//! fail, which can tell one mistake or all of them. [`config!`] writes that shape from a list of fields, so that a field's meaning, unit and default are said once.

use core::fmt::Display;
use core::ops::RangeInclusive;

use crate::ConfigError;

/// Declares a configuration and its builder.
///
/// Each line is `name: Type = default`; behind the `;` stands `name: Type` for each option that is off by default. `in
/// "key"` gives the key of the policy file for a duration, which ends in its unit; `as "key"` for anything else whose key
/// differs. The type must have a method `mistakes`, which
/// lists the fields that are out of range.
macro_rules! config {
    (
        $(#[$meta:meta])*
        $name:ident, $builder:ident {
            $(
                $(#[$doc:meta])*
                $field:ident $(in $key:literal)? $(as $word:literal)? : $type:ty = $default:expr
            ),* $(,)?
            ;
            $(
                $(#[$option_doc:meta])*
                $option:ident $(in $option_key:literal)? : $option_type:ty
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(try_from = "fields::Fields", into = "fields::Fields"))]
        pub struct $name {
            $($field: $type,)*
            $($option: Option<$option_type>,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* $($option: None,)* }
            }
        }

        impl $name {
            /// Starts from the defaults.
            pub fn builder() -> $builder {
                $builder { config: Self::default() }
            }

            /// Starts from this configuration, to change some of it.
            pub fn to_builder(&self) -> $builder {
                $builder { config: self.clone() }
            }

            $($(#[$doc])* pub fn $field(&self) -> $type { self.$field.clone() })*
            $($(#[$option_doc])* pub fn $option(&self) -> Option<$option_type> { self.$option.clone() })*
        }

        #[doc = concat!("Builds a [`", stringify!($name), "`]; each method sets the field of the same name.")]
        #[derive(Clone, Debug)]
        #[must_use = "a builder does nothing until `build` is called"]
        pub struct $builder {
            config: $name,
        }

        impl $builder {
            $($(#[$doc])* pub fn $field(mut self, value: $type) -> Self { self.config.$field = value; self })*
            $($(#[$option_doc])* pub fn $option(mut self, value: impl Into<Option<$option_type>>) -> Self {
                self.config.$option = value.into();
                self
            })*

            /// Checks every field and gives the configuration.
            ///
            /// # Errors
            /// The first field that is out of range, with its value and what is allowed.
            pub fn build(self) -> Result<$name, ConfigError> {
                self.build_or_mistakes().map_err(|mut mistakes| mistakes.swap_remove(0))
            }

            /// The same, for whoever shows all that is wrong at once: a form, an editor.
            ///
            /// # Errors
            /// Every field that is out of range; never none.
            pub fn build_or_mistakes(self) -> Result<$name, Vec<ConfigError>> {
                let mistakes = self.config.mistakes();
                if mistakes.is_empty() { Ok(self.config) } else { Err(mistakes) }
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                fields::Fields::json_schema(generator)
            }
        }

        #[cfg(feature = "serde")]
        mod fields {
            #[allow(unused_imports, reason = "each configuration uses the types of its own fields only")]
            use super::*;

            #[derive(serde::Serialize, serde::Deserialize)]
            #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
            #[serde(default, deny_unknown_fields)]
            pub(super) struct Fields {
                $(
                    $(#[$doc])*
                    $(
                        #[serde(rename = $key, with = "crate::seconds::codec")]
                        #[cfg_attr(feature = "schema", schemars(with = "f64", extend("minimum" = 0)))]
                    )?
                    $(#[serde(rename = $word)])?
                    $field: $type,
                )*
                $(
                    $(#[$option_doc])*
                    $(
                        #[serde(rename = $option_key, with = "crate::seconds::option_codec")]
                        #[cfg_attr(feature = "schema", schemars(with = "f64", extend("minimum" = 0)))]
                    )?
                    #[serde(skip_serializing_if = "Option::is_none")]
                    $option: Option<$option_type>,
                )*
            }

            impl Default for Fields {
                fn default() -> Self { $name::default().into() }
            }

            impl From<$name> for Fields {
                fn from(config: $name) -> Self {
                    Self { $($field: config.$field,)* $($option: config.$option,)* }
                }
            }

            impl TryFrom<Fields> for $name {
                type Error = ConfigError;

                fn try_from(fields: Fields) -> Result<Self, ConfigError> {
                    let config = Self { $($field: fields.$field,)* $($option: fields.$option,)* };
                    $builder { config }.build()
                }
            }
        }
    };
}
pub(crate) use config;

/// A value outside the range.
pub(crate) fn in_range<T: PartialOrd + Display>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Option<ConfigError> {
    let is_within = range.contains(&value);
    (!is_within).then(|| ConfigError::new(field, value, format!("{} to {}", range.start(), range.end())))
}

/// A count below the least or above the most. Whoever is below it need not read how many bits there are.
pub(crate) fn count(field: &'static str, value: u32, range: RangeInclusive<u32>) -> Option<ConfigError> {
    if value < *range.start() {
        return Some(ConfigError::new(field, value, format!("{} or more", range.start())));
    }
    in_range(field, value, range)
}

/// A factor that would shrink what it multiplies.
pub(crate) fn factor(field: &'static str, value: f64) -> Option<ConfigError> {
    let is_one = value >= 1.0 && value.is_finite();
    (!is_one).then(|| ConfigError::new(field, value, "a finite number, at least 1"))
}

/// What is no ratio above zero: a rule that is reached at zero would always be reached.
pub(crate) fn positive_ratio(field: &'static str, value: f64) -> Option<ConfigError> {
    let is_one = value > 0.0 && value <= 1.0;
    (!is_one).then(|| ConfigError::new(field, value, "above 0, at most 1"))
}
