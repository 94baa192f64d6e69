//! What is registered with a load balancer.

use std::collections::BTreeMap;

/// One instance of a service: where it listens, and what share of the calls it should get.
///
/// ```
/// use service_mesh_models::ServiceInstance;
/// let instance = ServiceInstance::new("1", "api-1", 8080).with_weight(5).with_metadata("zone", "a");
/// assert_eq!(instance.address(), "api-1:8080");
/// assert_eq!(ServiceInstance::new("2", "::1", 80).address(), "[::1]:80");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceInstance {
    /// Names the instance within its balancer; registering the same id again replaces it. Not empty.
    #[cfg_attr(feature = "serde", serde(deserialize_with = "read::some_text"))]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub id: String,
    /// A host name or an IP address; an IPv6 address stands without brackets. Not empty.
    #[cfg_attr(feature = "serde", serde(deserialize_with = "read::some_text"))]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub host: String,
    /// The port. Above 0.
    #[cfg_attr(feature = "serde", serde(deserialize_with = "read::port"))]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub port: u16,
    /// Its share of the calls, relative to the others. Default 1; 0 drains it: no new calls.
    #[cfg_attr(feature = "serde", serde(default = "one"))]
    pub weight: u32,
    /// Whether it may be picked when it is registered. Default true.
    #[cfg_attr(feature = "serde", serde(default = "yes"))]
    pub healthy: bool,
    /// Connections that somebody else counts for it; least connections adds them to those that it leased. Default 0.
    #[cfg_attr(feature = "serde", serde(default))]
    pub connections: u32,
    /// Whatever else is known of it, for the user's own purposes.
    #[cfg_attr(feature = "serde", serde(default))]
    pub metadata: BTreeMap<String, String>,
}

impl ServiceInstance {
    /// An instance of weight 1, healthy, without connections or metadata.
    ///
    /// Nothing is checked here, nor when it is registered: an empty id names an instance like any other, and to an empty
    /// host or port 0 the calls fail. What is read, from the policy file or by serde, is refused there.
    pub fn new(id: impl Into<String>, host: impl Into<String>, port: u16) -> Self {
        Self {
            id: id.into(),
            host: host.into(),
            port,
            weight: 1,
            healthy: true,
            connections: 0,
            metadata: BTreeMap::new(),
        }
    }

    /// With this weight; 0 drains it.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// With this health.
    #[must_use]
    pub fn with_healthy(mut self, healthy: bool) -> Self {
        self.healthy = healthy;
        self
    }

    /// With so many connections of somebody else's.
    #[must_use]
    pub fn with_connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// With one more entry of metadata.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// `host:port`, as a client takes it: an IPv6 host stands in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') && !self.host.starts_with('[') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(feature = "serde")]
mod read {
    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) fn some_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Err(D::Error::custom("it is empty; expected some text")) } else { Ok(text) }
    }

    pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        match u16::deserialize(deserializer)? {
            0 => Err(D::Error::custom("the port is 0; allowed: 1 to 65535")),
            port => Ok(port),
        }
    }
}

#[cfg(feature = "serde")]
fn one() -> u32 {
    1
}

#[cfg(feature = "serde")]
fn yes() -> bool {
    true
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_is_read_has_an_id_and_an_address() {
        let read = |text: &str| serde_json::from_str::<ServiceInstance>(text).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"id": "1", "host": "api-1", "port": 8080}"#), Ok(ServiceInstance::new("1", "api-1", 8080)));
        for wrong in [r#"{"id": "", "host": "h", "port": 1}"#, r#"{"id": "1", "host": "", "port": 1}"#] {
            assert!(read(wrong).unwrap_err().starts_with("it is empty; expected some text"));
        }
        let refused = read(r#"{"id": "1", "host": "h", "port": 0}"#).unwrap_err();
        assert!(refused.starts_with("the port is 0; allowed: 1 to 65535"), "{refused}");
    }
}
