//! A place to listen at.

use core::fmt;
use core::str::FromStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::ConfigError;

/// A place where the sidecar listens: an IP address and a port, or a Unix socket. `Display`, `FromStr` and serde use
/// `127.0.0.1:8080`, `[::1]:8080` and `unix:/run/mesh.sock`.
///
/// Names are not taken: what they mean is known after a look-up only, and it may be several addresses.
///
/// ```
/// use service_mesh_models::ListenAddress;
/// let address: ListenAddress = "unix:/run/mesh.sock".parse()?;
/// assert!(address.is_local());
/// assert!(!"0.0.0.0:80".parse::<ListenAddress>()?.is_local());
/// # Ok::<(), service_mesh_models::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ListenAddress {
    /// An IP address and a port; port 0 is any free one.
    Tcp(SocketAddr),
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// What is said of an address that is none.
    pub const ALLOWED: &str = "an IP address and a port, as 127.0.0.1:8080 or [::1]:8080, or the path of a Unix socket, as unix:/run/mesh.sock";

    /// The longest path of a Unix socket, in bytes, as Linux takes it (`sun_path` in unix(7), without the end of it).
    const PATH_BYTES_MAX: usize = 107;

    /// Whether nobody but this machine can reach it: a loopback address, or a Unix socket.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether it stands for any free port, so that two that are equal are two places.
    pub fn is_any_port(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.port() == 0)
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let path = text.strip_prefix("unix:").map(Path::new);
        let address = match path {
            Some(path) => {
                let fits = path.is_absolute() && path.as_os_str().len() <= Self::PATH_BYTES_MAX && !text.contains('\0');
                fits.then(|| Self::Unix(path.to_owned()))
            }
            None => text.parse().ok().map(Self::Tcp),
        };
        address.ok_or_else(|| ConfigError::new("address", format_args!("{text:?}"), Self::ALLOWED))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for ListenAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ListenAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ListenAddress".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_survives_its_text() {
        for text in ["127.0.0.1:80", "[::1]:8080", "0.0.0.0:0", "unix:/run/mesh.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let too_long = format!("unix:/{}", "x".repeat(107));
        for text in ["", "localhost:80", "127.0.0.1", "::1:80", "unix:", "unix:mesh.sock", "unix:/a\0b", &too_long] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn local_is_what_no_other_machine_reaches() {
        for (text, is_local) in [
            ("127.0.0.1:80", true),
            ("127.9.9.9:80", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("unix:/run/mesh.sock", true),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("10.0.0.1:80", false),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().is_local(), is_local, "{text}");
        }
    }
}
