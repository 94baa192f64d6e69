//! The sections of the policy file that are the sidecar's alone. They are checked here too, so that one file serves all
//! doors and a mistake is told by whichever reads it first.

use std::cmp::Reverse;

use service_mesh_models::{
    AccessLogConfig, AccessLogConfigBuilder, AccessLogMode, AdminConfig, DrainConfig, DrainConfigBuilder,
    ListenAddress, ListenerConfig, ListenerLimitsConfig, ListenerLimitsConfigBuilder, PolicyFile, RouteConfig,
    is_host_name, is_method,
};
use toml::de::DeValue;

use super::document::{Entry, Read, Table};
use super::read::{Word, named, parsed, word};

/// Reads all of them into the file.
pub(super) fn sidecar(root: &Table<'_>, file: &mut PolicyFile) {
    file.listeners = root.entry("listeners").and_then(|entry| named(&entry, listener)).unwrap_or_default();
    let names = Names { services: names(root, "services"), listeners: names(root, "listeners") };
    file.routes = root.entry("routes").and_then(|entry| routes(&entry, &names)).unwrap_or_default();
    file.admin = root.entry("admin").and_then(|entry| admin(&entry));
    file.access_log = root.entry("access_log").and_then(|entry| access_log(entry.table()?)).unwrap_or_default();
    file.drain = root.entry("drain").and_then(|entry| drain(entry.table()?)).unwrap_or_default();
    each_place_once(root, file);
}

/// What routes may name: also what is itself mistaken, for one mistake must not be told as two.
struct Names<'a> {
    services: Vec<&'a str>,
    listeners: Vec<&'a str>,
}

fn names<'a>(root: &Table<'a>, key: &'static str) -> Vec<&'a str> {
    match root.entry(key).map(|entry| entry.value()) {
        Some(DeValue::Table(entries)) => entries.keys().map(|key| &**key.get_ref()).collect(),
        _ => Vec::new(),
    }
}

// ----- where it listens -----

fn listener(entry: &Entry<'_>) -> Option<ListenerConfig> {
    let table = entry.table()?;
    let address: Option<ListenAddress> = table.require("address");
    let limits = table.entry("limits").and_then(|entry| limits(entry.table()?)).unwrap_or_default();
    // Whatever else is wrong with it: nobody else may listen there.
    table.finish();
    let mut listener = ListenerConfig::new(address?);
    listener.limits = limits;
    Some(listener)
}

fn limits(table: Table<'_>) -> Option<ListenerLimitsConfig> {
    use ListenerLimitsConfigBuilder as Builder;
    let builder = table.set("connections", ListenerLimitsConfig::builder(), Builder::connections);
    let builder = table.set("header_seconds", builder, Builder::header);
    let builder = table.set("idle_seconds", builder, Builder::idle);
    let builder = table.set("header_bytes", builder, Builder::header_bytes);
    let builder = table.set("body_bytes", builder, |builder, bytes: u64| builder.body_bytes(bytes));
    table.build(builder.build_or_mistakes())
}

fn admin(entry: &Entry<'_>) -> Option<AdminConfig> {
    let table = entry.table()?;
    let (address, token) = (table.require::<ListenAddress>("address"), table.read::<Token>("token"));
    let entry = table.entry("address");
    if table.finish_knowing(&["token"])
        && let (Some(entry), Some(address), None) = (entry, &address, &token)
        && !address.is_local()
    {
        let allowed = "a loopback address or a Unix socket, unless there is a token";
        entry.refuse::<()>(format_args!("is \"{address}\"; allowed: {allowed}"));
    }
    let mut admin = AdminConfig::new(address?);
    admin.token = token.map(|token| token.0);
    Some(admin)
}

/// A string that can be sent as a bearer token, and is not guessed at once. A mistake does not tell it: it reaches a log.
struct Token(String);

impl Read for Token {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let token = String::read(entry)?;
        if token.len() >= AdminConfig::TOKEN_LEN_MIN && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(Self(token));
        }
        let length = AdminConfig::TOKEN_LEN_MIN;
        entry.refuse(format_args!("is not fit; allowed: at least {length} printable ASCII characters without a blank"))
    }
}

/// Two cannot listen at one place.
fn each_place_once(root: &Table<'_>, file: &PolicyFile) {
    let entry = root.entry("listeners");
    let listeners = entry.as_ref().filter(|_| !file.listeners.is_empty()).and_then(Entry::table);
    let mut taken: Vec<(&ListenAddress, &str)> = Vec::new();
    for (name, listener) in &file.listeners {
        let other = taken.iter().find(|(address, _)| *address == &listener.address && !address.is_any_port());
        let entry = listeners.as_ref().and_then(|table| table.names().find(|(key, _)| key == name));
        if let (Some((_, other)), Some((_, entry))) = (other, entry) {
            entry.refuse::<()>(format_args!("listens where listeners.{other} does"));
        }
        taken.push((&listener.address, name));
    }
    if let (Some(admin), Some(entry)) = (&file.admin, root.entry("admin"))
        && let Some((_, other)) = taken.iter().find(|(address, _)| *address == &admin.address && !address.is_any_port())
    {
        entry.refuse::<()>(format_args!("listens where listeners.{other} does"));
    }
}

impl Read for ListenAddress {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        parsed(entry)
    }
}

// ----- what goes where -----

fn routes(entry: &Entry<'_>, names: &Names<'_>) -> Option<Vec<RouteConfig>> {
    let mut routes: Vec<RouteConfig> = Vec::new();
    for entry in entry.elements()? {
        let Some(route) = route(&entry, names) else { continue };
        let fits = |route: &RouteConfig| {
            let RouteConfig { listener, host, path_prefix, methods, .. } = route.clone();
            (listener, host, path_prefix, methods)
        };
        if routes.iter().any(|other| fits(other) == fits(&route)) {
            entry.refuse::<()>("fits the same requests as another route, which stands before it");
        }
        routes.push(route);
    }
    routes.sort_by_cached_key(specificity);
    Some(routes)
}

/// Less is more specific. The sort is stable, so that of two alike the first in the file decides.
fn specificity(route: &RouteConfig) -> impl Ord + use<> {
    let host = match route.host.as_deref() {
        None => (2, Reverse(0)),
        Some(host) => (u8::from(host.starts_with("*.")), Reverse(host.len())),
    };
    (route.listener.is_none(), host, Reverse(route.path_prefix.len()), route.methods.is_empty())
}

fn route(entry: &Entry<'_>, names: &Names<'_>) -> Option<RouteConfig> {
    let table = entry.table()?;
    let service: Option<String> = table.require("service");
    let mut route = RouteConfig::new(service.clone().unwrap_or_default());
    if let (Some(entry), Some(service)) = (table.entry("service"), service)
        && !names.services.contains(&service.as_str())
    {
        entry.unknown_word::<()>(&service, &names.services);
    }
    route.listener = table.read("listener");
    if let (Some(entry), Some(listener)) = (table.entry("listener"), &route.listener)
        && !names.listeners.contains(&listener.as_str())
    {
        entry.unknown_word::<()>(listener, &names.listeners);
    }
    route.host = table.read::<RouteHost>("host").map(|host| host.0);
    route.path_prefix = table.read::<PathPrefix>("path_prefix").map_or(route.path_prefix, |prefix| prefix.0);
    route.methods = table.entry("methods").and_then(|entry| methods(&entry)).unwrap_or_default();
    table.finish_knowing(&["listener", "host", "path_prefix", "methods"]).then_some(route)
}

/// A host as it is compared: in small letters, without a dot at the end.
struct RouteHost(String);

impl Read for RouteHost {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let written = String::read(entry)?;
        let host = written.strip_suffix('.').unwrap_or(&written).to_ascii_lowercase();
        let is_address = || {
            let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
        };
        if is_host_name(host.strip_prefix("*.").unwrap_or(&host)) || is_address() {
            return Some(Self(host));
        }
        let allowed = "a host without a port, as shop.example, *.shop.example or [::1]";
        entry.refuse(format_args!("is {written:?}; allowed: {allowed}"))
    }
}

/// A path as it is compared: without a slash at the end, unless it is the only one.
struct PathPrefix(String);

impl Read for PathPrefix {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let written = String::read(entry)?;
        let fits = written.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
        if !written.starts_with('/') || !fits {
            let allowed = "a path that begins with /, without a query";
            return entry.refuse(format_args!("is {written:?}; allowed: {allowed}"));
        }
        let prefix = written.trim_end_matches('/');
        Some(Self(String::from(if prefix.is_empty() { "/" } else { prefix })))
    }
}

/// Methods as they are compared: each once, in the order of the alphabet.
fn methods(entry: &Entry<'_>) -> Option<Vec<String>> {
    let mut methods = Vec::new();
    let elements = entry.elements()?;
    if elements.is_empty() {
        return entry.refuse("is empty; expected a method");
    }
    for entry in elements {
        let Some(method) = String::read(&entry) else { continue };
        if is_method(&method) {
            methods.push(method);
        } else if is_method(&method.to_ascii_uppercase()) {
            entry.refuse::<()>(format_args!("is {method:?}; did you mean {}?", method.to_ascii_uppercase()));
        } else {
            entry.refuse::<()>(format_args!("is {method:?}; allowed: a method, as GET"));
        }
    }
    methods.sort();
    methods.dedup();
    Some(methods)
}

// ----- the rest -----

fn access_log(table: Table<'_>) -> Option<AccessLogConfig> {
    use AccessLogConfigBuilder as Builder;
    let builder = table.set("mode", AccessLogConfig::builder(), Builder::mode);
    let builder = table.set("sample_ratio", builder, Builder::sample_ratio);
    let builder = table.set("path", builder, |builder, Word(path)| builder.path(path));
    table.build(builder.build_or_mistakes())
}

impl Read for AccessLogMode {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        word(entry)
    }
}

fn drain(table: Table<'_>) -> Option<DrainConfig> {
    use DrainConfigBuilder as Builder;
    let builder = table.set("delay_seconds", DrainConfig::builder(), Builder::delay);
    let builder = table.set("deadline_seconds", builder, Builder::deadline);
    table.build(builder.build_or_mistakes())
}
