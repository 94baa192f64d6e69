//! Which requests go where.

/// Which requests go to which service: `[[routes]]`. What is not said fits everything.
///
/// Where several routes fit a request, the most specific one decides. Asked in this order: does it name a listener? how
/// exactly does it name the host (a name, a `*.` with the longer name behind it, any)? how long is its path prefix? does
/// it name methods? Where that leaves two, the one that stands first in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(deny_unknown_fields))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct RouteConfig {
    /// The service that the requests go to: a name under `services`.
    pub service: String,
    /// The listener that they came by: a name under `listeners`. Default: any.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub listener: Option<String>,
    /// The host that they ask for, without a port, in any case of letters; `*.shop.example` is every name that ends so.
    /// Default: any.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub host: Option<String>,
    /// What their path begins with, by whole segments: `/pay` fits `/pay` and `/pay/7`, and not `/payments`. Begins with
    /// a slash; one at the end does not count. Default `/`, any.
    #[cfg_attr(feature = "schema", schemars(default = "root"))]
    pub path_prefix: String,
    /// Their methods, as `["GET", "HEAD"]`. Default: any.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    #[cfg_attr(feature = "schema", schemars(default))]
    pub methods: Vec<String>,
}

impl RouteConfig {
    /// Everything goes to this service.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            listener: None,
            host: None,
            path_prefix: String::from("/"),
            methods: Vec::new(),
        }
    }
}

/// Whether it is a method of HTTP: a token (RFC 9110 section 5.6.2) without small letters. Methods are told apart by case, and
/// one in small letters is a slip.
pub fn is_method(word: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.bytes().all(is_char)
}

#[cfg(feature = "schema")]
fn root() -> &'static str {
    "/"
}
