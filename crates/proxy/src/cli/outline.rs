//! What a policy says, in a few lines.

use std::fmt;

use service_mesh::{DiscoveryQuery, PolicyFile, RouteConfig, ServiceInstance, ServicePolicy};

/// A policy in a few lines: a line for each service, listener and route.
#[derive(Debug)]
pub(super) struct Outline<'a>(pub(super) &'a PolicyFile);

/// More instances than these are counted.
const NAMED: usize = 8;

impl fmt::Display for Outline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(policy) = self;
        for line in services(policy) {
            writeln!(f, "  service {line}")?;
        }
        for (name, listener) in &policy.listeners {
            writeln!(f, "  listener {name}: {}", listener.address)?;
        }
        for route in &policy.routes {
            writeln!(f, "  route {}", told(route))?;
        }
        if let Some(admin) = &policy.admin {
            let token = if admin.token.is_some() { ", with a token" } else { "" };
            writeln!(f, "  admin: {}{token}", admin.address)?;
        }
        if policy.services.is_empty() {
            writeln!(f, "  no service")?;
        }
        Ok(())
    }
}

/// A line for each service: its name, how instances are picked, and which they are.
pub(super) fn services(policy: &PolicyFile) -> impl Iterator<Item = String> {
    let told = |(name, service): (&String, &ServicePolicy)| {
        format!("{name}: {}", instances(service, service.strategy.as_str()))
    };
    policy.services.iter().map(told)
}

fn instances(service: &ServicePolicy, strategy: &str) -> String {
    let found = service.discovery.as_ref().map(|discovery| match &discovery.query {
        DiscoveryQuery::Dns(authority) => format!("instances of DNS, {authority}"),
        DiscoveryQuery::Srv(name) => format!("instances of DNS, SRV {name}"),
        _ => String::from("instances that are discovered"),
    });
    let named = || {
        let addresses: Vec<String> = service.instances.iter().take(NAMED).map(ServiceInstance::address).collect();
        let more = service.instances.len() - addresses.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", addresses.join(", "))
    };
    match found {
        Some(found) => format!("{strategy} over {found}"),
        None if service.instances.is_empty() => String::from("no instances"),
        None => format!("{strategy} over {}", named()),
    }
}

fn told(route: &RouteConfig) -> String {
    let methods = if route.methods.is_empty() { String::from("any method") } else { route.methods.join(", ") };
    let host = route.host.as_deref().unwrap_or("any host");
    let by = route.listener.as_ref().map(|listener| format!(" by {listener}")).unwrap_or_default();
    format!("{methods} {host} {}{by} -> {}", route.path_prefix, route.service)
}
