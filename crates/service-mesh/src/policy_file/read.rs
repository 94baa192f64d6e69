//! Every section of the policy file, one after the other: which keys it has, and what they become.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::{
    Authority, CircuitBreakerConfig, CircuitBreakerConfigBuilder, ConfigError, CountWindow, CountWindowBuilder,
    DiscoveryConfig, DiscoveryQuery, HealthCheckConfig, HealthCheckConfigBuilder, HealthCheckType,
    InstanceCircuitBreaker, Jitter, LimitsConfig, LimitsConfigBuilder, LoadBalancerStrategy, PolicyFile, ReplayConfig,
    ReplayConfigBuilder, RetryBudgetConfig, RetryBudgetConfigBuilder, RetryConfig, RetryConfigBuilder, ServiceInstance,
    ServicePolicy, ServiceProxyConfig, StatusRanges, TimeWindow, TimeWindowBuilder, TimeoutsConfig, UnknownWord,
    duration_from_seconds, is_host_name,
};
use toml::de::DeValue;

use super::PolicyError;
use super::document::{Document, Entry, Read, Table};
use super::sidecar::sidecar;

/// Reads a policy file and checks all of it, without making anything of it. `service_mesh::Mesh` does both.
///
/// # Errors
/// Every mistake, with its line and column.
///
/// ```
/// let file = service_mesh::read_policy_file("[services.payments]\nstrategy = 'random'")?;
/// assert_eq!(file.services["payments"].strategy.as_str(), "random");
/// # Ok::<(), service_mesh::PolicyError>(())
/// ```
pub fn read_policy_file(text: &str) -> Result<PolicyFile, PolicyError> {
    Document::read(text, policy_file)
}

fn policy_file(root: Table<'_>) -> Option<PolicyFile> {
    let mut file = PolicyFile::default();
    file.services = root.entry("services").and_then(|entry| named(&entry, service)).unwrap_or_default();
    sidecar(&root, &mut file);
    root.finish().then_some(file)
}

/// A table whose keys are names.
pub(super) fn named<T>(entry: &Entry<'_>, read: fn(&Entry<'_>) -> Option<T>) -> Option<BTreeMap<String, T>> {
    let table = entry.table()?;
    let mut all = BTreeMap::new();
    for (name, entry) in table.names() {
        if name.is_empty() {
            entry.refuse::<()>("is empty; expected a name");
        } else if let Some(value) = read(&entry) {
            all.insert(name.to_owned(), value);
        }
    }
    Some(all)
}

// ----- a service -----

fn service(entry: &Entry<'_>) -> Option<ServicePolicy> {
    let table = entry.table()?;
    let mut policy = ServicePolicy::default();
    policy.strategy = table.read("strategy").unwrap_or_default();
    policy.instances = table.entry("instances").and_then(|entry| instances(&entry)).unwrap_or_default();
    policy.discovery = table.entry("discovery").and_then(|entry| discovery(&entry));
    if let (Some(entry), Some(_)) = (table.entry("discovery"), table.entry("instances")) {
        entry.refuse::<()>("stands beside instances; allowed: one of the two");
    }
    let circuit_breaker = match table.entry("circuit_breaker") {
        Some(entry) => entry.table().and_then(|table| circuit_breaker(table, Some(&policy.circuit_breaker))),
        None => Some(policy.circuit_breaker),
    };
    let instance_circuit_breaker = table
        .entry("instance_circuit_breaker")
        .and_then(|entry| instance_circuit_breaker(&entry, circuit_breaker.as_ref()));
    policy.instance_circuit_breaker = instance_circuit_breaker.unwrap_or_default();
    policy.circuit_breaker = circuit_breaker.unwrap_or_default();
    match table.entry("retry").and_then(|entry| switchable(&entry, retry)) {
        Some(Switch::Off) => policy.retry = never(),
        Some(Switch::Given(retry)) => policy.retry = retry,
        None => {}
    }
    match table.entry("budget").and_then(|entry| switchable(&entry, budget)) {
        Some(Switch::Off) => policy.budget = None,
        Some(Switch::Given(budget)) => policy.budget = Some(budget),
        None => {}
    }
    let timeouts = table.entry("timeouts").and_then(|entry| timeouts(entry.table()?));
    policy.timeouts = timeouts.unwrap_or_default();
    policy.max_ejected_ratio = table.read("max_ejected_ratio");
    policy.explain_ratio = table.read("explain_ratio").unwrap_or(policy.explain_ratio);
    policy.slow_start = table.read("slow_start_seconds").unwrap_or_default();
    policy.health_check = table.entry("health_check").and_then(|entry| health_check(entry.table()?));
    policy.replay = table.entry("replay").and_then(|entry| replay(entry.table()?)).unwrap_or_default();
    policy.limits = table.entry("limits").and_then(|entry| limits(entry.table()?)).unwrap_or_default();
    let ratios = ServiceProxyConfig::builder().explain_ratio(policy.explain_ratio);
    let ratios = match policy.max_ejected_ratio {
        Some(ratio) => ratios.max_ejected_ratio(ratio),
        None => ratios,
    };
    table.build(ratios.build_or_mistakes()).map(|_checked| policy)
}

fn instances(entry: &Entry<'_>) -> Option<Vec<ServiceInstance>> {
    let (mut instances, mut ids) = (Vec::new(), BTreeSet::new());
    for entry in entry.elements()? {
        instances.extend(instance(&entry, &mut ids));
    }
    Some(instances)
}

/// Its id must be none of those that there are, and is one from then on.
fn instance(entry: &Entry<'_>, ids: &mut BTreeSet<String>) -> Option<ServiceInstance> {
    let table = entry.table()?;
    let (id, host, port) = (table.require::<Word>("id"), table.require::<Host>("host"), table.require::<Port>("port"));
    if let Some(Word(id)) = &id
        && !ids.insert(id.clone())
    {
        entry.refuse::<()>(format_args!("has the id of another instance, {id:?}"));
    }
    let weight = table.read("weight").unwrap_or(1);
    let healthy = table.read("healthy").unwrap_or(true);
    let connections = table.read("connections").unwrap_or(0);
    let metadata = table.entry("metadata").and_then(|entry| named(&entry, String::read)).unwrap_or_default();
    if !table.finish() {
        return None;
    }
    let mut instance = ServiceInstance::new(id?.0, host?.0, port?.0);
    (instance.weight, instance.healthy) = (weight, healthy);
    (instance.connections, instance.metadata) = (connections, metadata);
    Some(instance)
}

/// A section that may be `false`.
enum Switch<T> {
    Off,
    Given(T),
}

/// `true` says no more than a section that is not there.
fn switchable<T>(entry: &Entry<'_>, read: fn(Table<'_>) -> Option<T>) -> Option<Switch<T>> {
    match entry.value() {
        DeValue::Boolean(on) => (!on).then_some(Switch::Off),
        _ => entry.table_or("a table, or false").and_then(read).map(Switch::Given),
    }
}

/// Starts from `base`, so that what is not said is inherited; of a base with a mistake nothing is known.
fn circuit_breaker(table: Table<'_>, base: Option<&CircuitBreakerConfig>) -> Option<CircuitBreakerConfig> {
    use CircuitBreakerConfigBuilder as Builder;
    let table = if base.is_some() { table } else { table.heir_of_a_mistake() };
    let builder = base.map_or_else(CircuitBreakerConfig::builder, CircuitBreakerConfig::to_builder);
    let builder = table.set("failure_threshold", builder, Builder::failure_threshold);
    let builder = table.set("consecutive", builder, Builder::consecutive);
    let builder = table.set("success_threshold", builder, Builder::success_threshold);
    let builder = table.set("timeout_seconds", builder, Builder::timeout);
    let builder = table.set("half_open_max_calls", builder, Builder::half_open_max_calls);
    let builder = table.set("timeout_multiplier", builder, Builder::timeout_multiplier);
    let builder = table.set("timeout_jitter_ratio", builder, Builder::timeout_jitter_ratio);
    let builder = table.set("timeout_max_seconds", builder, |builder, time: Duration| builder.timeout_max(time));
    let builder = table.set("probe_timeout_seconds", builder, |builder, time: Duration| builder.probe_timeout(time));
    let builder = match table.entry("count_window") {
        Some(entry) => builder.count_window(count_window(&entry, base)),
        None => builder,
    };
    let builder = match table.entry("time_window") {
        Some(entry) => builder.time_window(time_window(&entry, base)),
        None => builder,
    };
    table.build(builder.build_or_mistakes())
}

/// What is not said is as in the service's.
fn instance_circuit_breaker(
    entry: &Entry<'_>,
    service: Option<&CircuitBreakerConfig>,
) -> Option<InstanceCircuitBreaker> {
    match entry.value() {
        DeValue::Boolean(true) => Some(InstanceCircuitBreaker::Inherited),
        DeValue::Boolean(false) => Some(InstanceCircuitBreaker::Off),
        _ => {
            let table = entry.table_or("a table, or false")?;
            let config = circuit_breaker(table, service)?;
            Some(InstanceCircuitBreaker::Given(Arc::new(config)))
        }
    }
}

/// `false` is none, where one would be inherited. What is not said is as in that of `base`.
fn count_window(entry: &Entry<'_>, base: Option<&CircuitBreakerConfig>) -> Option<CountWindow> {
    use CountWindowBuilder as Builder;
    if matches!(entry.value(), DeValue::Boolean(false)) {
        return None;
    }
    let table = entry.table_or("a table, or false")?;
    let table = if base.is_some() { table } else { table.heir_of_a_mistake() };
    let builder = base.and_then(CircuitBreakerConfig::count_window).unwrap_or_default().to_builder();
    let builder = table.set("size", builder, Builder::size);
    let builder = table.set("minimum_calls", builder, Builder::minimum_calls);
    let builder = table.set("failure_ratio", builder, |builder, ratio: f64| builder.failure_ratio(ratio));
    let builder = table.set("slow_call_ratio", builder, |builder, ratio: f64| builder.slow_call_ratio(ratio));
    let builder = table.set("slow_call_seconds", builder, |builder, time: Duration| builder.slow_call(time));
    table.build(builder.build_or_mistakes())
}

fn time_window(entry: &Entry<'_>, base: Option<&CircuitBreakerConfig>) -> Option<TimeWindow> {
    use TimeWindowBuilder as Builder;
    if matches!(entry.value(), DeValue::Boolean(false)) {
        return None;
    }
    let table = entry.table_or("a table, or false")?;
    let table = if base.is_some() { table } else { table.heir_of_a_mistake() };
    let builder = base.and_then(CircuitBreakerConfig::time_window).unwrap_or_default().to_builder();
    let builder = table.set("duration_seconds", builder, Builder::duration);
    let builder = table.set("buckets", builder, Builder::buckets);
    let builder = table.set("minimum_calls", builder, Builder::minimum_calls);
    let builder = table.set("failure_ratio", builder, |builder, ratio: f64| builder.failure_ratio(ratio));
    let builder = table.set("slow_call_ratio", builder, |builder, ratio: f64| builder.slow_call_ratio(ratio));
    let builder = table.set("slow_call_seconds", builder, |builder, time: Duration| builder.slow_call(time));
    table.build(builder.build_or_mistakes())
}

fn retry(table: Table<'_>) -> Option<RetryConfig> {
    use RetryConfigBuilder as Builder;
    let builder = table.set("max_retries", RetryConfig::builder(), Builder::max_retries);
    let builder = table.set("initial_delay_seconds", builder, Builder::initial_delay);
    let builder = table.set("max_delay_seconds", builder, Builder::max_delay);
    let builder = table.set("exponential_base", builder, Builder::exponential_base);
    let builder = table.set("jitter", builder, Builder::jitter);
    let builder = table.set("retry_after_max_seconds", builder, Builder::retry_after_max);
    table.build(builder.build_or_mistakes())
}

/// `retry = false`.
fn never() -> RetryConfig {
    RetryConfig::builder().max_retries(0).build().expect("every number of retries is allowed")
}

fn budget(table: Table<'_>) -> Option<RetryBudgetConfig> {
    use RetryBudgetConfigBuilder as Builder;
    let builder = table.set("ratio", RetryBudgetConfig::builder(), Builder::ratio);
    let builder = table.set("floor_per_second", builder, Builder::floor_per_second);
    table.build(builder.build_or_mistakes())
}

fn timeouts(table: Table<'_>) -> Option<TimeoutsConfig> {
    let builder = TimeoutsConfig::builder();
    let builder = table.set("call_seconds", builder, |builder, limit: Duration| builder.call(limit));
    let builder = table.set("attempt_seconds", builder, |builder, limit: Duration| builder.attempt(limit));
    let builder = table.set("connect_seconds", builder, |builder, limit: Duration| builder.connect(limit));
    let builder = table.set("idle_seconds", builder, |builder, limit: Duration| builder.idle(limit));
    let builder = table.set("header_seconds", builder, |builder, limit: Duration| builder.header(limit));
    table.build(builder.build_or_mistakes())
}

fn health_check(table: Table<'_>) -> Option<HealthCheckConfig> {
    use HealthCheckConfigBuilder as Builder;
    let builder = table.set("type", HealthCheckConfig::builder(), Builder::kind);
    let builder = table.set("port", builder, |builder, port: Port| builder.port(port.0));
    let builder = table.set("path", builder, |builder, path: String| builder.path(path));
    let builder = table.set("method", builder, |builder, method: String| builder.method(method));
    let builder = table.set("host", builder, |builder, host: String| builder.host(host));
    let builder = table.set("statuses", builder, |builder, statuses: StatusRanges| builder.statuses(statuses));
    let builder = table.set("interval_seconds", builder, Builder::interval);
    let builder = table.set("timeout_seconds", builder, Builder::timeout);
    let builder = table.set("rise", builder, Builder::rise);
    let builder = table.set("fall", builder, Builder::fall);
    table.build(builder.build_or_mistakes())
}

fn replay(table: Table<'_>) -> Option<ReplayConfig> {
    use ReplayConfigBuilder as Builder;
    let builder = table.set("statuses", ReplayConfig::builder(), Builder::statuses);
    let builder = table.set("body_bytes", builder, Builder::body_bytes);
    table.build(builder.build_or_mistakes())
}

fn limits(table: Table<'_>) -> Option<LimitsConfig> {
    use LimitsConfigBuilder as Builder;
    let builder = table.set("connections", LimitsConfig::builder(), Builder::connections);
    let builder = table.set("in_flight", builder, Builder::in_flight);
    let builder = table.set("queue", builder, Builder::queue);
    let builder = table.set("header_bytes", builder, Builder::header_bytes);
    let builder = table.set("body_bytes", builder, |builder, bytes: u64| builder.body_bytes(bytes));
    table.build(builder.build_or_mistakes())
}

fn discovery(entry: &Entry<'_>) -> Option<DiscoveryConfig> {
    let table = entry.table()?;
    let (dns, srv) = (table.read::<Authority>("dns"), table.read::<ServiceName>("srv").map(|name| name.0));
    let names = (table.entry("dns").is_some(), table.entry("srv").is_some());
    let mut config = DiscoveryConfig::new(DiscoveryQuery::Srv(String::new()));
    config.server = table.read("server");
    config.min_ttl = table.read("min_ttl_seconds").unwrap_or(config.min_ttl);
    // What is not said is not less than what is.
    config.max_ttl = table.read("max_ttl_seconds").unwrap_or_else(|| config.max_ttl.max(config.min_ttl));
    config.empty_grace = table.read("empty_grace_seconds").unwrap_or(config.empty_grace);
    let query = match names {
        (false, false) => Some(("without a name", &["dns", "srv"][..])),
        (true, true) => Some(("by two names", &[][..])),
        _ => None,
    };
    let query = query.map(|(names, beside)| ConfigError::new("discovery", names, "dns or srv").judged_beside(beside));
    let no_time = config.min_ttl.is_zero().then(|| ConfigError::new("min_ttl_seconds", 0, "above 0"));
    let too_short = (config.max_ttl < config.min_ttl).then(|| {
        let allowed = format!("at least min_ttl_seconds, which is {}", config.min_ttl.as_secs_f64());
        let mistake = ConfigError::new("max_ttl_seconds", config.max_ttl.as_secs_f64(), allowed);
        mistake.judged_beside(&["min_ttl_seconds"])
    });
    let mistakes: Vec<_> = [query, no_time, too_short].into_iter().flatten().collect();
    table.build(if mistakes.is_empty() { Ok(()) } else { Err(mistakes) })?;
    config.query = dns.map(DiscoveryQuery::Dns).or_else(|| srv.map(DiscoveryQuery::Srv))?;
    Some(config)
}

// ----- values -----

impl Read for bool {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        match entry.value() {
            DeValue::Boolean(on) => Some(*on),
            _ => entry.expected("true or false"),
        }
    }
}

impl Read for u32 {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        whole(entry, Self::MAX.into())
    }
}

impl Read for u64 {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        whole(entry, Self::MAX)
    }
}

fn whole<T: TryFrom<i128>>(entry: &Entry<'_>, max: u64) -> Option<T> {
    let DeValue::Integer(written) = entry.value() else { return entry.expected("a whole number") };
    let number =
        i128::from_str_radix(written.as_str(), written.radix()).ok().and_then(|number| T::try_from(number).ok());
    let is_below = written.as_str().starts_with('-');
    let most = || if is_below { String::from("or more") } else { format!("to {max}") };
    number.or_else(|| entry.refuse(format_args!("is {written}; allowed: 0 {}", most())))
}

impl Read for f64 {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let number = match entry.value() {
            DeValue::Float(written) => written.as_str().parse().ok(),
            // Nobody counts so far that a double would round it; whoever does gets the nearest.
            #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is meant")]
            DeValue::Integer(written) => {
                i128::from_str_radix(written.as_str(), written.radix()).ok().map(|number| number as Self)
            }
            _ => return entry.expected("a number"),
        };
        number.or_else(|| entry.expected("a number that a double can hold"))
    }
}

impl Read for Duration {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let duration = duration_from_seconds("", f64::read(entry)?);
        match duration {
            Ok(duration) => Some(duration),
            Err(error) => entry.refuse(format_args!("is {}; allowed: {}", error.value(), error.allowed())),
        }
    }
}

impl Read for String {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        match entry.value() {
            DeValue::String(text) => Some(text.clone().into_owned()),
            _ => entry.expected("a string"),
        }
    }
}

/// A string that is not empty.
pub(super) struct Word(pub(super) String);

impl Read for Word {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let word = String::read(entry)?;
        if word.is_empty() { entry.refuse("is empty; expected some text") } else { Some(Self(word)) }
    }
}

/// Where an instance listens, without its port. A URL, or an address with a port, is what people write here by mistake;
/// names are not judged any further, since resolvers know more of them than DNS does.
struct Host(String);

impl Read for Host {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let host = Word::read(entry)?.0;
        let is_ipv6 = || {
            let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
            address.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
        };
        let is_name = || !host.contains(|c: char| matches!(c, ':' | '/') || c.is_whitespace());
        if host.starts_with("unix:") || is_name() || is_ipv6() {
            return Some(Self(host));
        }
        let allowed = "a name or an IP address, without scheme and port, or unix:/run/app.sock";
        entry.refuse(format_args!("is {host:?}; allowed: {allowed}"))
    }
}

/// A port that somebody can listen on.
struct Port(u16);

impl Read for Port {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let DeValue::Integer(written) = entry.value() else { return entry.expected("a whole number") };
        let number = i128::from_str_radix(written.as_str(), written.radix()).ok();
        let port = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
        port.map(Self).or_else(|| entry.refuse(format_args!("is {written}; allowed: 1 to 65535")))
    }
}

/// The name of a service in DNS.
struct ServiceName(String);

impl Read for ServiceName {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let name = String::read(entry)?;
        if is_host_name(&name) {
            return Some(Self(name));
        }
        entry.refuse(format_args!("is {name:?}; allowed: the name of a service, as _http._tcp.api.internal"))
    }
}

impl Read for SocketAddr {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        let text = String::read(entry)?;
        let address = text.parse().ok();
        address
            .or_else(|| entry.refuse(format_args!("is {text:?}; allowed: an IP address and a port, as 127.0.0.1:53")))
    }
}

impl Read for Authority {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        parsed(entry)
    }
}

impl Read for StatusRanges {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        parsed(entry)
    }
}

/// A string of which a type of ours is made.
pub(super) fn parsed<T: FromStr<Err = ConfigError>>(entry: &Entry<'_>) -> Option<T> {
    match String::read(entry)?.parse() {
        Ok(value) => Some(value),
        Err(error) => entry.refuse(format_args!("is {}; allowed: {}", error.value(), error.allowed())),
    }
}

impl Read for LoadBalancerStrategy {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        word(entry)
    }
}

impl Read for HealthCheckType {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        word(entry)
    }
}

impl Read for Jitter {
    fn read(entry: &Entry<'_>) -> Option<Self> {
        match entry.value() {
            DeValue::Boolean(on) => Some((*on).into()),
            DeValue::String(_) => word(entry),
            _ => entry.expected("true, false, or the name of a jitter"),
        }
    }
}

pub(super) fn word<T: FromStr<Err = UnknownWord>>(entry: &Entry<'_>) -> Option<T> {
    let written = String::read(entry)?;
    match written.parse() {
        Ok(value) => Some(value),
        Err(unknown) => entry.unknown_word(&written, unknown.known()),
    }
}
