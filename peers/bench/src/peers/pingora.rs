//! The balancer of pingora.

use std::collections::BTreeSet;
use std::hint::black_box;

use pingora_load_balancing::selection::{BackendIter, BackendSelection, Consistent, Random, RoundRobin};
use pingora_load_balancing::{Backend, Backends, LoadBalancer, discovery};
use service_mesh_bench::{Row, ready};

pub(super) fn rows() -> Vec<Row> {
    fn row<S>(what: &'static str, instances: usize, weighted: bool) -> Row
    where
        S: BackendSelection + Send + Sync + 'static,
        S::Iter: BackendIter,
        S::Config: Send + Sync,
    {
        let weight = |n: usize| if weighted { 1 + n % 3 } else { 1 };
        let backend = |n| Backend::new_with_weight(&format!("10.0.0.1:{}", 1000 + n), weight(n)).expect("an address");
        let backends: BTreeSet<Backend> = (0..instances).map(backend).collect();
        let balancer = LoadBalancer::<S>::from_backends(Backends::new(discovery::Static::new(backends)));
        ready(balancer.update()).expect("a static set");
        Row::new(what, "pingora 0.9", move |run| {
            assert!(black_box(balancer.select(&run.to_ne_bytes(), 256)).is_some(), "nobody was picked");
        })
    }
    vec![
        row::<RoundRobin>("pick of 10: round robin", 10, false),
        row::<Random>("pick of 10: random", 10, false),
        row::<RoundRobin>("pick of 10: weighted", 10, true),
        row::<Consistent>("pick of 1000: hash by key", 1000, true),
    ]
}
