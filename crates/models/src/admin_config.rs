//! The sidecar's own pages.

use core::fmt;

use crate::ListenAddress;

/// The sidecar's own pages: health, metrics, what it knows, and what may be done by hand. The libraries read it and leave
/// it alone.
///
/// `Debug` does not tell the token; serde does, since what is written must be what was read.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(description = "The sidecar's own pages: health, metrics, what it knows, and what may be done by hand.")
)]
#[non_exhaustive]
pub struct AdminConfig {
    /// Where they are served: a loopback address and a port, or a Unix socket; with a token any address.
    pub address: ListenAddress,
    /// What whoever comes must show, as `Authorization: Bearer TOKEN`, but for `/live` and `/ready`. At least 16 printable
    /// ASCII characters. Default: nothing, and only this machine is let in.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    #[cfg_attr(feature = "schema", schemars(with = "String", default, length(min = 16)))]
    pub token: Option<String>,
}

impl AdminConfig {
    /// The shortest token, in characters.
    pub const TOKEN_LEN_MIN: usize = 16;

    /// Served there, without a token.
    pub fn new(address: impl Into<ListenAddress>) -> Self {
        Self { address: address.into(), token: None }
    }
}

impl fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "(hidden)");
        f.debug_struct("AdminConfig").field("address", &self.address).field("token", &token).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_token_does_not_reach_the_log() {
        let mut admin = AdminConfig::new(SocketAddr::from(([127, 0, 0, 1], 9000)));
        admin.token = Some(String::from("secret"));
        assert!(!format!("{admin:?}").contains("secret"));
    }
}
