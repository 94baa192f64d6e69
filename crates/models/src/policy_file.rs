//! All that the policy file says.

use std::collections::BTreeMap;

use crate::{AccessLogConfig, AdminConfig, DrainConfig, ListenerConfig, RouteConfig, ServicePolicy};

/// All that the policy file says, with every default filled in and everything checked. `service-mesh` reads it, with
/// its feature `policy_file`; serde writes it.
///
/// There is no `Deserialize`: what an instance's circuit inherits depends on what is written, which a reader that sees
/// values only cannot tell.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(default, deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(title = "Policy file of the service mesh", description = ""))]
#[non_exhaustive]
pub struct PolicyFile {
    /// The services that may be called, by name.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "BTreeMap::is_empty"))]
    pub services: BTreeMap<String, ServicePolicy>,
    /// Where the sidecar listens, by name.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "BTreeMap::is_empty"))]
    pub listeners: BTreeMap<String, ListenerConfig>,
    /// Which of the sidecar's requests go where, the most specific first: the first that fits decides.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub routes: Vec<RouteConfig>,
    /// The sidecar's own pages. Default: none.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    #[cfg_attr(feature = "schema", schemars(with = "AdminConfig"))]
    pub admin: Option<AdminConfig>,
    /// Which requests the sidecar writes down.
    pub access_log: AccessLogConfig,
    /// How the sidecar ends when it is told to.
    pub drain: DrainConfig,
}
