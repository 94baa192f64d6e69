//! A host and a port.

use core::fmt;
use core::str::FromStr;

use crate::ConfigError;

/// A host name or an IP address, and a port: `api.internal:8080`, `[::1]:80`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    /// A host name or an IP address; an IPv6 address stands without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Authority {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refused =
            || ConfigError::new("host and port", format_args!("{text:?}"), "a host and a port, as api.internal:8080");
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<core::net::Ipv6Addr>().ok().map(|_| address),
            None => is_host_name(host).then_some(host),
        };
        match (host, port.parse()) {
            (Some(host), Ok(port)) if port > 0 => Ok(Self { host: host.to_owned(), port }),
            _ => Err(refused()),
        }
    }
}

/// Whether it can be the name of a host or of a service in DNS: labels of letters, digits, `-` and `_`, each of 1 to 63
/// characters, 253 in all, with or without a dot at the end (RFC 1035 section 2.3.4; the underscore is RFC 2782's).
pub fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(feature = "serde")]
impl serde::Serialize for Authority {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Authority {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Authority".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_survive_their_text_and_nothing_else_is_one() {
        for text in ["api.internal:8080", "10.0.0.1:1", "[::1]:65535", "_x._tcp.a.:80"] {
            assert_eq!(text.parse::<Authority>().unwrap().to_string(), text);
        }
        let long = format!("{}:80", "a".repeat(64));
        for text in ["", "api", "api:", "api:0", "api:65536", ":80", "::1:80", "[api]:80", "a..b:80", "a b:80", &long] {
            assert!(text.parse::<Authority>().is_err(), "{text}");
        }
    }
}
