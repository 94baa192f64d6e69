//! Everything that was registered, and what was said of it since. Lives under the balancer's lock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::{LoadBalancerStrategy, ServiceInstance};

use super::EndpointStatus;
use super::attachment::{Attached, Attachment};
use super::endpoint::{Endpoint, EndpointKey};
use super::snapshot::{Candidate, Draft, EndpointSet};
use super::total::Total;
use crate::resilience::clock::Timestamp;

#[derive(Debug)]
pub(super) struct Registry {
    /// In order of registration; ids are unique.
    entries: Vec<Entry>,
    strategy: LoadBalancerStrategy,
    slow_start: Duration,
    /// The place in `entries` behind the one that had the last turn; 0 if nobody had one. At most `entries.len()`.
    resume: usize,
    keys: u64,
    version: u64,
    has_changed: bool,
    /// Those who were taken out or replaced since somebody asked, to be dropped without the lock.
    retired: Vec<Endpoint>,
    /// The connections of those who can be picked, where the strategy asks for it.
    total: Total,
}

#[derive(Debug)]
struct Entry {
    endpoint: Endpoint,
    healthy: bool,
    weight: u32,
    /// When it became pickable; kept only where there is a slow start.
    since: Option<Timestamp>,
}

impl Entry {
    const fn is_pickable(&self) -> bool {
        self.healthy && self.weight > 0
    }

    fn is(&self, id: &str) -> bool {
        self.endpoint.instance().id == id
    }
}

/// Whoever is registered no longer is not counted either, whatever its leases still do.
impl Drop for Entry {
    fn drop(&mut self) {
        self.endpoint.set_counted(false);
    }
}

impl Registry {
    pub(super) fn new(strategy: LoadBalancerStrategy, slow_start: Duration) -> Self {
        Self {
            entries: Vec::new(),
            strategy,
            slow_start,
            resume: 0,
            keys: 0,
            version: 0,
            has_changed: false,
            retired: Vec::new(),
            total: Total::default(),
        }
    }

    /// Notes how far the present set has come. To be called before anything is changed.
    pub(super) fn catch_up(&mut self, set: &EndpointSet) {
        if let Some(last) = set.last()
            && let Some(place) = self.entries.iter().position(|entry| entry.endpoint.key() == last.key())
        {
            self.resume = place + 1;
        }
    }

    /// Whether anything has changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Those who are registered no longer, since this was asked last. What is attached to them may do anything when it
    /// is dropped: not under the lock.
    pub(super) fn take_retired(&mut self) -> Vec<Endpoint> {
        std::mem::take(&mut self.retired)
    }

    /// What the next set is made of.
    pub(super) fn draft(&mut self, now: Option<Timestamp>) -> Draft {
        self.version += 1;
        let is_bounded = self.strategy == LoadBalancerStrategy::ConsistentHash;
        self.entries.iter().for_each(|entry| entry.endpoint.set_counted(is_bounded && entry.is_pickable()));
        let start = self.entries[..self.resume].iter().filter(|entry| entry.is_pickable()).count();
        let candidates: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| entry.is_pickable())
            .map(|entry| Candidate { endpoint: entry.endpoint.clone(), weight: entry.weight, since: entry.since })
            .collect();
        Draft {
            version: self.version,
            strategy: self.strategy,
            // Nobody pickable stands behind the last turn: the round begins again.
            start: if start == candidates.len() { 0 } else { start },
            is_begun: self.resume > 0,
            candidates,
            now: now.unwrap_or_default(),
            slow_start: self.slow_start,
            total: self.total.clone(),
        }
    }

    pub(super) fn register(
        &mut self,
        instance: ServiceInstance,
        attachment: Option<Attachment>,
        now: Option<Timestamp>,
    ) -> Option<Endpoint> {
        let attached = Attached::new(attachment);
        let Some(place) = self.place(&instance.id) else {
            self.append(instance, attached, now);
            return None;
        };
        let (healthy, weight) = (instance.healthy, instance.weight);
        Some(self.replace(place, instance, attached, healthy, weight, now))
    }

    pub(super) fn deregister(&mut self, id: &str) -> Option<Arc<ServiceInstance>> {
        let place = self.place(id)?;
        let entry = self.entries.remove(place);
        if place < self.resume {
            self.resume -= 1;
        }
        self.has_changed = true;
        self.retired.push(entry.endpoint.clone());
        Some(Arc::clone(entry.endpoint.instance()))
    }

    pub(super) fn set_instances(&mut self, instances: Vec<ServiceInstance>, now: Option<Timestamp>) {
        let listed: HashSet<&str> = instances.iter().map(|instance| instance.id.as_str()).collect();
        let stays = |entry: &Entry| listed.contains(entry.endpoint.instance().id.as_str());
        let before = self.entries.len();
        self.resume = self.entries[..self.resume].iter().filter(|entry| stays(entry)).count();
        let goes = self.entries.iter().filter(|entry| !stays(entry));
        self.retired.extend(goes.map(|entry| entry.endpoint.clone()));
        self.entries.retain(stays);
        self.has_changed |= self.entries.len() < before;
        let ids = self.entries.iter().map(|entry| entry.endpoint.instance().id.clone());
        let mut places: HashMap<String, usize> = ids.zip(0..).collect();
        self.entries.reserve(instances.len().saturating_sub(places.len()));
        for instance in instances {
            if let Some(place) = places.get(&instance.id) {
                let entry = &self.entries[*place];
                let listed = entry.endpoint.instance();
                let stays = entry.endpoint.is_at_address_of(&instance);
                let healthy =
                    if stays && instance.healthy == listed.healthy { entry.healthy } else { instance.healthy };
                let weight = if stays && instance.weight == listed.weight { entry.weight } else { instance.weight };
                let attached = if stays { entry.endpoint.attached().clone() } else { Attached::default() };
                self.replace(*place, instance, attached, healthy, weight, now);
            } else {
                places.insert(instance.id.clone(), self.entries.len());
                self.append(instance, Attached::default(), now);
            }
        }
    }

    pub(super) fn set_health(&mut self, id: &str, healthy: bool, now: Option<Timestamp>) -> bool {
        let Some(place) = self.place(id) else { return false };
        self.update(place, healthy, self.entries[place].weight, now);
        true
    }

    pub(super) fn set_weight(&mut self, id: &str, weight: u32, now: Option<Timestamp>) -> bool {
        let Some(place) = self.place(id) else { return false };
        self.update(place, self.entries[place].healthy, weight, now);
        true
    }

    pub(super) const fn strategy(&self) -> LoadBalancerStrategy {
        self.strategy
    }

    pub(super) fn set_strategy(&mut self, strategy: LoadBalancerStrategy) {
        if strategy != self.strategy {
            self.strategy = strategy;
            self.resume = 0;
            self.has_changed = true;
        }
    }

    pub(super) const fn slow_start(&self) -> Duration {
        self.slow_start
    }

    pub(super) fn set_slow_start(&mut self, slow_start: Duration) {
        self.has_changed |= slow_start != self.slow_start;
        self.slow_start = slow_start;
    }

    pub(super) fn statuses(&self) -> Vec<EndpointStatus> {
        let status = |entry: &Entry| EndpointStatus {
            instance: Arc::clone(entry.endpoint.instance()),
            healthy: entry.healthy,
            weight: entry.weight,
            in_flight: entry.endpoint.in_flight(),
        };
        self.entries.iter().map(status).collect()
    }

    /// The endpoint of this id.
    pub(super) fn endpoint(&self, id: &str) -> Option<&Endpoint> {
        Some(&self.entries[self.place(id)?].endpoint)
    }

    /// All of them, in order of registration.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.entries.iter().map(|entry| &entry.endpoint)
    }

    pub(super) fn keys(&self) -> HashSet<EndpointKey> {
        self.entries.iter().map(|entry| entry.endpoint.key()).collect()
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.is(id))
    }

    fn append(&mut self, instance: ServiceInstance, attached: Attached, now: Option<Timestamp>) {
        let (healthy, weight) = (instance.healthy, instance.weight);
        let endpoint = Endpoint::new(self.new_key(), instance, attached, &self.total);
        self.entries.push(Entry { endpoint, healthy, weight, since: now });
        self.has_changed = true;
    }

    /// Puts another instance in the place of one with the same id, which is returned.
    fn replace(
        &mut self,
        place: usize,
        instance: ServiceInstance,
        attached: Attached,
        healthy: bool,
        weight: u32,
        now: Option<Timestamp>,
    ) -> Endpoint {
        let present = self.entries[place].endpoint.clone();
        if !present.is_at_address_of(&instance) {
            let endpoint = Endpoint::new(self.new_key(), instance, attached, &self.total);
            self.entries[place] = Entry { endpoint, healthy, weight, since: now };
            self.retired.push(present.clone());
            self.has_changed = true;
            return present;
        }
        if **present.instance() != instance || !attached.is(present.attached()) {
            self.entries[place].endpoint = present.with_instance(instance, attached);
            self.retired.push(present.clone());
            self.has_changed = true;
        }
        self.update(place, healthy, weight, now);
        present
    }

    fn update(&mut self, place: usize, healthy: bool, weight: u32, now: Option<Timestamp>) {
        let entry = &mut self.entries[place];
        if (entry.healthy, entry.weight) == (healthy, weight) {
            return;
        }
        let was_pickable = entry.is_pickable();
        (entry.healthy, entry.weight) = (healthy, weight);
        if !was_pickable && entry.is_pickable() {
            entry.since = now;
        }
        self.has_changed = true;
    }

    fn new_key(&mut self) -> EndpointKey {
        self.keys += 1;
        EndpointKey::new(self.keys)
    }
}
