//! Where the instances of a service are found.

use core::net::SocketAddr;
use core::time::Duration;

use crate::Authority;

/// Where the sidecar finds the instances of a service: `[services.NAME.discovery]`. The libraries read it and leave it
/// alone.
///
/// The name is asked for again whenever its answer has run out, and a failure changes nothing: the last set stays. A set
/// that becomes empty replaces one that was not only after a time of grace, since a name server that has lost its data
/// answers just so.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct DiscoveryConfig {
    /// What is asked for.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub query: DiscoveryQuery,
    /// The name server that is asked: an IP address and a port, `127.0.0.1:8600`. Default: those of the system
    /// (`/etc/resolv.conf`), with its search domains and its `/etc/hosts`.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    #[cfg_attr(feature = "schema", schemars(with = "String", default))]
    pub server: Option<SocketAddr>,
    /// How long an answer counts at least, in seconds, even if its time to live is shorter. Above 0, default 5.
    #[cfg_attr(feature = "serde", serde(rename = "min_ttl_seconds", with = "crate::seconds::codec"))]
    #[cfg_attr(feature = "schema", schemars(with = "f64", default = "min_ttl_seconds", extend("minimum" = 0)))]
    pub min_ttl: Duration,
    /// How long an answer counts at most, in seconds, even if its time to live is longer. At least `min_ttl_seconds`,
    /// default 300.
    #[cfg_attr(feature = "serde", serde(rename = "max_ttl_seconds", with = "crate::seconds::codec"))]
    #[cfg_attr(feature = "schema", schemars(with = "f64", default = "max_ttl_seconds", extend("minimum" = 0)))]
    pub max_ttl: Duration,
    /// For how many seconds the answers must be empty before the set of instances becomes so. 0 believes the first,
    /// default 60.
    #[cfg_attr(feature = "serde", serde(rename = "empty_grace_seconds", with = "crate::seconds::codec"))]
    #[cfg_attr(feature = "schema", schemars(with = "f64", default = "empty_grace_seconds", extend("minimum" = 0)))]
    pub empty_grace: Duration,
}

/// What is asked for. In the policy file the key tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum DiscoveryQuery {
    /// A host name and a port, `api.internal:8080`: each of its addresses (A and AAAA) is an instance with that port.
    Dns(Authority),
    /// The name of a service, `_http._tcp.api.internal`: each SRV record of the best priority is an instance for each
    /// address of its target, with its port and its weight.
    Srv(String),
}

impl DiscoveryConfig {
    /// Asks for this, with every default.
    pub fn new(query: DiscoveryQuery) -> Self {
        Self {
            query,
            server: None,
            min_ttl: Duration::from_secs(5),
            max_ttl: Duration::from_secs(300),
            empty_grace: Duration::from_secs(60),
        }
    }
}

#[cfg(feature = "schema")]
fn min_ttl_seconds() -> f64 {
    5.0
}

#[cfg(feature = "schema")]
fn max_ttl_seconds() -> f64 {
    300.0
}

#[cfg(feature = "schema")]
fn empty_grace_seconds() -> f64 {
    60.0
}
