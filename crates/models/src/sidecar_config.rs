//! What only the sidecar does: where it listens, where requests go, and its own pages. The libraries check its shape and
//! leave it alone, so that one file serves both.

use core::fmt;
use std::net::SocketAddr;

/// A place where the sidecar listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListenerConfig {
    /// An IP address and a port: `127.0.0.1:8080`, `[::1]:8080`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub address: SocketAddr,
}

/// Which requests go to which service. The first route that fits decides; what is not said fits everything.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouteConfig {
    /// The service that the requests go to: a name under `services`.
    pub service: String,
    /// The listener that they came by: a name under `listeners`. Default: any.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub listener: Option<String>,
    /// The host that they ask for, without a port. Default: any.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub host: Option<String>,
    /// What their path begins with; itself begins with a slash. Default `/`, any.
    #[cfg_attr(feature = "schema", schemars(default = "root"))]
    pub path_prefix: String,
    /// Their method, as `GET`. Default: any.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub method: Option<String>,
}

impl RouteConfig {
    /// Everything goes to this service.
    pub fn new(service: impl Into<String>) -> Self {
        Self { service: service.into(), listener: None, host: None, path_prefix: String::from("/"), method: None }
    }
}

#[cfg(feature = "schema")]
fn root() -> &'static str {
    "/"
}

/// The sidecar's own pages: health, metrics, dashboard.
///
/// `Debug` does not tell the token; serde does, since what is written must be what was read.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(description = "The sidecar's own pages: health, metrics, dashboard."))]
pub struct AdminConfig {
    /// Where they are served: an IP address and a port.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub address: SocketAddr,
    /// What whoever changes something must show. Default: nobody may change anything there.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub token: Option<String>,
}

impl fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "(hidden)");
        f.debug_struct("AdminConfig").field("address", &self.address).field("token", &token).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_does_not_reach_the_log() {
        let admin = AdminConfig { address: ([127, 0, 0, 1], 9000).into(), token: Some(String::from("secret")) };
        assert!(!format!("{admin:?}").contains("secret"));
    }
}
