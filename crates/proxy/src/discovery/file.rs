//! Instances that stand in the policy file.

use std::future::pending;

use service_mesh::ServiceInstance;

use super::{Next, Source};

/// Yields the list of the file once. It has the last word where another source was at work until now.
#[derive(Debug)]
pub(super) struct Listed(Option<Vec<ServiceInstance>>);

impl Listed {
    pub(super) fn new(instances: Vec<ServiceInstance>) -> Self {
        Self(Some(instances))
    }
}

impl Source for Listed {
    fn next(&mut self) -> Next<'_> {
        Box::pin(async move {
            match self.0.take() {
                Some(instances) => instances,
                None => pending().await,
            }
        })
    }
}
