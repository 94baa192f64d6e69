//! How the sidecar asks an instance whether it is well.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use crate::circuit_state::{UnknownWord, find};
use crate::config::{config, count, in_range};
use crate::{ConfigError, StatusRanges, is_method, seconds::above_zero};

config! {
    /// How the sidecar asks an instance whether it is well. The libraries read it and leave it alone.
    ///
    /// `rise` and `fall` are `HAProxy`'s, with its defaults; interval and timeout are those of Kubernetes' probes.
    ///
    /// ```
    /// use service_mesh_models::{HealthCheckConfig, HealthCheckType};
    /// let check = HealthCheckConfig::builder().path(String::from("/ready")).build()?;
    /// assert_eq!((check.kind(), check.rise(), check.fall()), (HealthCheckType::Http, 2, 3));
    /// # Ok::<(), service_mesh_models::ConfigError>(())
    /// ```
    HealthCheckConfig, HealthCheckConfigBuilder {
        /// What is asked: `http` a path, `tcp` for a connection only. Default `http`.
        kind as "type": HealthCheckType = HealthCheckType::Http,
        /// How long after one question the next is asked, in seconds in the policy file. Above 0, default 10 s.
        interval in "interval_seconds": Duration = Duration::from_secs(10),
        /// How long an answer may take. Above 0, not longer than the interval, default 1 s.
        timeout in "timeout_seconds": Duration = Duration::from_secs(1),
        /// Good answers in a row that make an unhealthy instance healthy. At least 1, default 2.
        rise: u32 = 2,
        /// Bad answers in a row that make a healthy instance unhealthy. At least 1, default 3.
        fall: u32 = 3
        ;
        /// The port that is asked. At least 1; default: the instance's own.
        port: u16,
        /// What is asked for over HTTP; begins with a slash. Default `/`.
        path: String,
        /// How it is asked for over HTTP. Default `GET`.
        method: String,
        /// The host that is asked for over HTTP. Default: the instance's address.
        host: String,
        /// The statuses that are good answers over HTTP, as `200-299, 304`. Default `200-299`.
        statuses: StatusRanges,
    }
}

impl HealthCheckConfig {
    fn mistakes(&self) -> Vec<ConfigError> {
        let fields = [
            above_zero("interval_seconds", self.interval),
            above_zero("timeout_seconds", self.timeout),
            self.timeout_beyond_interval(),
            count("rise", self.rise, 1..=u32::MAX),
            count("fall", self.fall, 1..=u32::MAX),
            in_range("port", self.port.unwrap_or(1), 1..=u16::MAX),
        ];
        let of_http = match self.kind {
            HealthCheckType::Http => self.over_http(),
            HealthCheckType::Tcp => self.over_tcp(),
        };
        fields.into_iter().chain(of_http).flatten().collect()
    }

    fn timeout_beyond_interval(&self) -> Option<ConfigError> {
        // An interval of no time is a mistake of its own.
        if self.timeout <= self.interval || self.interval.is_zero() {
            return None;
        }
        let allowed = format!("at most interval_seconds, which is {}", self.interval.as_secs_f64());
        let mistake = ConfigError::new("timeout_seconds", self.timeout.as_secs_f64(), allowed);
        Some(mistake.judged_beside(&["interval_seconds"]))
    }

    fn over_http(&self) -> [Option<ConfigError>; 4] {
        let path = self.path.as_ref().filter(|path| !is_path(path));
        let method = self.method.as_ref().filter(|method| !is_method(method));
        let is_host = |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        let host = self.host.as_ref().filter(|host| !is_host(host));
        let none = self.statuses.as_ref().filter(|statuses| statuses.are_none());
        [
            none.map(|_| ConfigError::new("statuses", "\"none\"", "statuses from 100 to 599, as 200-299 or 200, 204")),
            path.map(|path| ConfigError::new("path", format_args!("{path:?}"), "a path that begins with /")),
            method.map(|method| {
                ConfigError::new("method", format_args!("{method:?}"), "a method in capital letters, as GET")
            }),
            host.map(|host| ConfigError::new("host", format_args!("{host:?}"), "a host, with or without a port")),
        ]
    }

    /// What means something over HTTP only.
    fn over_tcp(&self) -> [Option<ConfigError>; 4] {
        let fields = [
            ("path", self.path.clone()),
            ("method", self.method.clone()),
            ("host", self.host.clone()),
            ("statuses", self.statuses.as_ref().map(ToString::to_string)),
        ];
        fields.map(|(field, value)| {
            let mistake = ConfigError::new(field, format_args!("{:?}", value?), "none where type is \"tcp\"");
            Some(mistake.judged_beside(&["type"]))
        })
    }
}

/// Whether a request can ask for it: no blanks, no control characters, and no fragment.
fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// What a health check asks. `Display`, `FromStr` and serde use the words `http` and `tcp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(description = "What a health check asks."))]
#[non_exhaustive]
pub enum HealthCheckType {
    /// An HTTP request, whose status is judged.
    #[default]
    Http,
    /// Whether a connection can be made.
    Tcp,
}

impl HealthCheckType {
    /// All types.
    pub const ALL: [Self; 2] = [Self::Http, Self::Tcp];

    /// The word for this type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for HealthCheckType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for HealthCheckType {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        find(word, &Self::ALL, Self::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_field_value_and_range() {
        let refusal = |builder: HealthCheckConfigBuilder| builder.build().unwrap_err().to_string();
        let builder = HealthCheckConfig::builder;
        assert_eq!(refusal(builder().interval(Duration::ZERO)), "interval_seconds is 0; allowed: above 0");
        assert_eq!(
            refusal(builder().timeout(Duration::from_secs(11))),
            "timeout_seconds is 11; allowed: at most interval_seconds, which is 10"
        );
        assert_eq!(refusal(builder().rise(0)), "rise is 0; allowed: 1 or more");
        assert_eq!(refusal(builder().path(String::from("x"))), "path is \"x\"; allowed: a path that begins with /");
        assert_eq!(
            refusal(builder().kind(HealthCheckType::Tcp).path(String::from("/"))),
            "path is \"/\"; allowed: none where type is \"tcp\""
        );
        assert_eq!(
            refusal(builder().kind(HealthCheckType::Tcp).statuses(StatusRanges::default())),
            "statuses is \"200-299\"; allowed: none where type is \"tcp\""
        );
        assert_eq!(
            refusal(builder().method(String::from("get"))),
            "method is \"get\"; allowed: a method in capital letters, as GET"
        );
        assert_eq!(
            refusal(builder().host(String::from("a b"))),
            "host is \"a b\"; allowed: a host, with or without a port"
        );
        assert_eq!(refusal(builder().port(0)), "port is 0; allowed: 1 to 65535");
    }
}
