//! Where a request goes: listener, host, path and method to a service.
//!
//! The policy has them in order, the most specific first, and the first that fits decides. A path prefix ends at a slash:
//! `/pay` is for `/pay` and `/pay/7`, not for `/payroll` (Kubernetes' Gateway API has the same rule, for the same reason:
//! a route is a border).

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use service_mesh::{PolicyFile, RouteConfig};

use crate::service::Service;

/// The routes at one state of the policy.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    routes: Vec<Route>,
    pub(crate) services: BTreeMap<String, Arc<Service>>,
}

#[derive(Debug)]
struct Route {
    config: RouteConfig,
    service: Arc<Service>,
}

/// What of a request decides where it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'a> {
    pub(crate) listener: &'a str,
    /// Without the port.
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) method: &'a Method,
}

impl RouteTable {
    /// The routes of the policy. Without any, and with one service only, everything goes to that one.
    pub(crate) fn new(policy: &PolicyFile, services: BTreeMap<String, Arc<Service>>) -> Self {
        let all = match (policy.routes.is_empty(), services.first_key_value()) {
            (true, Some((only, _))) if services.len() == 1 => Some(RouteConfig::new(only.clone())),
            _ => None,
        };
        let routes = policy.routes.iter().cloned().chain(all);
        let routes = routes.filter_map(|config| {
            let service = Arc::clone(services.get(&config.service)?);
            Some(Route { config, service })
        });
        Self { routes: routes.collect(), services }
    }

    /// The service of the first route that fits.
    pub(crate) fn find(&self, destination: Destination<'_>) -> Option<&Arc<Service>> {
        self.routes.iter().find(|route| fits(&route.config, destination)).map(|route| &route.service)
    }
}

fn fits(route: &RouteConfig, to: Destination<'_>) -> bool {
    route.listener.as_deref().is_none_or(|listener| listener == to.listener)
        && route.host.as_deref().is_none_or(|host| is_meant(host, to.host))
        && (route.methods.is_empty() || route.methods.iter().any(|method| method == to.method.as_str()))
        && is_below(to.path, &route.path_prefix)
}

/// Whether a route for this host, or for `*.` and what its name ends with, means the host of a request.
fn is_meant(pattern: &str, host: &str) -> bool {
    let Some(end) = pattern.strip_prefix('*') else { return pattern.eq_ignore_ascii_case(host) };
    let at = host.len().saturating_sub(end.len());
    at > 0 && host.get(at..).is_some_and(|host| host.eq_ignore_ascii_case(end))
}

fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        // `OPTIONS *` asks about everything, and so it fits what fits everything.
        || prefix.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination<'a>(host: &'a str, path: &'a str, method: &'a Method) -> Destination<'a> {
        Destination { listener: "web", host, path, method }
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        for (prefix, path, expected) in [
            ("/", "/", true),
            ("/", "/pay", true),
            ("/", "*", true),
            ("/pay", "/pay", true),
            ("/pay", "/pay/7", true),
            ("/pay/", "/pay/7", true),
            ("/pay/", "/pay", true),
            ("/pay", "/payroll", false),
            ("/pay", "/", false),
            ("/pay", "*", false),
        ] {
            assert_eq!(is_below(path, prefix), expected, "{path} below {prefix}");
        }
    }

    #[test]
    fn what_is_said_must_fit() {
        let mut route = RouteConfig::new("shop");
        assert!(fits(&route, destination("any", "/any", &Method::PUT)));
        route.host = Some(String::from("Shop.example"));
        route.methods = vec![String::from("GET")];
        assert!(fits(&route, destination("shop.EXAMPLE", "/", &Method::GET)));
        assert!(!fits(&route, destination("shop.example", "/", &Method::POST)));
        assert!(!fits(&route, destination("example", "/", &Method::GET)));
        route.host = Some(String::from("*.shop.example"));
        assert!(fits(&route, destination("a.b.Shop.example", "/", &Method::GET)));
        for other in ["shop.example", "notshop.example", "", "ä.example"] {
            assert!(!fits(&route, destination(other, "/", &Method::GET)), "{other}");
        }
        route.listener = Some(String::from("other"));
        assert!(!fits(&route, destination("shop.example", "/", &Method::GET)));
    }
}
