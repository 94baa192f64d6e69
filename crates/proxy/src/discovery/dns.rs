//! Instances from DNS: the addresses of a name (A and AAAA), or the targets of a service (SRV, RFC 2782).
//!
//! Several questions make one answer: two for a name, and two for each target of a service. Where some of them fail, what
//! they said the last time stands in for them, so that a name server that is slow to tell IPv6 addresses does not take
//! the IPv6 instances out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use service_mesh::{Authority, DiscoveryConfig, DiscoveryQuery, Environment, ServiceInstance};

use super::{Answer, Held, Looking, Next, Source, Step};

/// How long one question may take before it is asked again, of another server if there is one.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long all questions of one answer may take together: a service may have many targets, and each may be slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// The instances that DNS names.
pub(super) struct Dns {
    query: DiscoveryQuery,
    server: Option<SocketAddr>,
    /// Made at the first question, and after a failure anew: the system's name servers may be others by now.
    resolver: Option<TokioResolver>,
    /// What each question said the last time.
    known: BTreeMap<(Name, RecordType), Records>,
    held: Held,
    environment: Environment,
    look: Arc<Looking>,
    /// How long to wait before the name is asked for again.
    ask_again: Duration,
}

/// What a question said.
#[derive(Clone, Debug, Default)]
struct Records {
    addresses: Vec<IpAddr>,
    targets: Vec<Target>,
    /// How long they count. Servers need not say it of what is not there.
    ttl: Option<Duration>,
}

/// Of an SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    priority: u16,
    name: Name,
    port: u16,
    weight: u16,
}

impl Dns {
    pub(super) fn new(config: &DiscoveryConfig, held: Held, environment: Environment, look: Arc<Looking>) -> Self {
        Self {
            query: config.query.clone(),
            server: config.server,
            resolver: None,
            known: BTreeMap::new(),
            held,
            environment,
            look,
            ask_again: Duration::ZERO,
        }
    }

    /// Asks for everything, once.
    async fn ask(&mut self) -> Answer {
        let mut asked = Asked::default();
        let found = match self.query.clone() {
            DiscoveryQuery::Dns(authority) => self.addresses(&authority, &mut asked).await,
            DiscoveryQuery::Srv(name) => self.services(&name, &mut asked).await,
            _ => Err(String::from("nobody knows how to ask for this")),
        };
        if asked.failure.is_some() || found.is_err() {
            self.resolver = None;
        }
        // What was not asked for this time belongs to targets that are gone.
        self.known.retain(|question, _| asked.questions.contains(question));
        match found {
            Ok(instances) => {
                self.look.answered(self.environment.now(), asked.failure);
                Answer::Found { instances, ttl: asked.ttl.unwrap_or_default() }
            }
            Err(failure) => {
                self.look.failed(failure);
                Answer::Failed
            }
        }
    }

    /// The addresses of a name, with its port.
    async fn addresses(&mut self, authority: &Authority, asked: &mut Asked) -> Result<Vec<ServiceInstance>, String> {
        if let Ok(address) = authority.host.parse::<IpAddr>() {
            return Ok(vec![instance(address, authority.port)]);
        }
        let name = parse(&authority.host)?;
        let addresses = self.addresses_of(&name, asked).await?;
        Ok(addresses.into_iter().map(|address| instance(address, authority.port)).collect())
    }

    /// The targets of a service: those of the lowest priority of which any has an address.
    async fn services(&mut self, name: &str, asked: &mut Asked) -> Result<Vec<ServiceInstance>, String> {
        let mut targets = self.records(&parse(name)?, RecordType::SRV, asked).await?.targets;
        targets.sort();
        let mut failure = None;
        for priority in targets.chunk_by(|one, next| one.priority == next.priority) {
            let mut instances = Vec::new();
            // RFC 2782: a target of "." says that the service is decidedly not available.
            for target in priority.iter().filter(|target| !target.name.is_root() && target.port > 0) {
                match self.addresses_of(&target.name, asked).await {
                    Ok(addresses) => instances.extend(addresses.into_iter().map(|address| {
                        // A weight of 0 would drain it; the RFC means a very small chance, or that all are alike.
                        instance(address, target.port)
                            .with_weight(u32::from(target.weight.max(1)))
                            .with_metadata("target", target.name.to_utf8().trim_end_matches('.'))
                    })),
                    Err(error) => failure = Some(error),
                }
            }
            if !instances.is_empty() {
                return Ok(instances);
            }
        }
        // Nobody has an address; where a question failed, that is not known.
        failure.map_or_else(|| Ok(Vec::new()), Err)
    }

    /// Both kinds of addresses of a name. An error only where neither is known.
    async fn addresses_of(&mut self, name: &Name, asked: &mut Asked) -> Result<Vec<IpAddr>, String> {
        let v4 = self.records(name, RecordType::A, asked).await;
        let v6 = self.records(name, RecordType::AAAA, asked).await;
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok([v4.addresses, v6.addresses].concat()),
            // One family was never told, the other has nobody: nobody knows.
            (Ok(known), Err(error)) | (Err(error), Ok(known)) if known.addresses.is_empty() => Err(error),
            (Ok(known), Err(_)) | (Err(_), Ok(known)) => Ok(known.addresses),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// The answer to one question: where it fails, the one before.
    async fn records(&mut self, name: &Name, kind: RecordType, asked: &mut Asked) -> Result<Records, String> {
        let question = (name.clone(), kind);
        let looked_up = self.look_up(name, kind).await;
        let records = match looked_up {
            Ok(records) => {
                asked.ttl = asked.ttl.into_iter().chain(records.ttl).min();
                self.known.insert(question.clone(), records.clone());
                Ok(records)
            }
            Err(failure) => {
                asked.ttl = Some(Duration::ZERO);
                asked.failure = Some(failure.clone());
                self.known.get(&question).cloned().ok_or(failure)
            }
        };
        asked.questions.push(question);
        records
    }

    async fn look_up(&mut self, name: &Name, kind: RecordType) -> Result<Records, String> {
        let failed = |error: NetError| format!("{name} {kind}: {error}");
        let resolver = match &self.resolver {
            Some(resolver) => resolver,
            None => self.resolver.insert(resolver(self.server).map_err(failed)?),
        };
        let lookup = match resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => lookup,
            // There is no such name, or none of these records: an answer too.
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let ttl = none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()));
                return Ok(Records { ttl, ..Records::default() });
            }
            Err(error) => return Err(failed(error)),
        };
        let mut records = Records::default();
        for record in lookup.answers() {
            // That of an alias counts as well: it may lead elsewhere afterwards.
            records.ttl = records.ttl.into_iter().chain([Duration::from_secs(record.ttl.into())]).min();
            match &record.data {
                RData::A(address) => records.addresses.push(address.0.into()),
                RData::AAAA(address) => records.addresses.push(address.0.into()),
                RData::SRV(srv) => records.targets.push(Target {
                    priority: srv.priority,
                    name: srv.target.clone(),
                    port: srv.port,
                    weight: srv.weight,
                }),
                _ => {}
            }
        }
        Ok(records)
    }
}

/// What all questions of one answer have in common.
#[derive(Default)]
struct Asked {
    questions: Vec<(Name, RecordType)>,
    /// The shortest time to live of all of them.
    ttl: Option<Duration>,
    /// The last that has gone wrong.
    failure: Option<String>,
}

impl Source for Dns {
    fn next(&mut self) -> Next<'_> {
        Box::pin(async move {
            loop {
                tokio::time::sleep(self.ask_again).await;
                let answer = match tokio::time::timeout(PATIENCE, self.ask()).await {
                    Ok(answer) => answer,
                    Err(_elapsed) => {
                        self.resolver = None;
                        self.look.failed(format!("no answer in {PATIENCE:?}"));
                        Answer::Failed
                    }
                };
                let Step { publish, ask_again } = self.held.hear(answer, self.environment.now());
                self.ask_again = ask_again;
                self.look.is_in_grace(self.held.is_in_grace());
                if let Some(instances) = publish {
                    return instances;
                }
            }
        })
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("query", &self.query).field("held", &self.held).finish_non_exhaustive()
    }
}

/// An instance is named by where it is: so it keeps its circuit and its connections, whatever else is in the answer.
fn instance(address: IpAddr, port: u16) -> ServiceInstance {
    ServiceInstance::new(SocketAddr::new(address, port).to_string(), address.to_string(), port)
}

fn parse(name: &str) -> Result<Name, String> {
    Name::from_utf8(name).map_err(|error| format!("{name:?} is no name of DNS: {error}"))
}

/// A resolver without a memory: how long an answer counts is decided in one place.
fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match server {
        None => TokioResolver::builder_tokio()?,
        Some(server) => {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            config.connections.iter_mut().for_each(|connection| connection.port = server.port());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options: &mut ResolverOpts = builder.options_mut();
    options.cache_size = 0;
    options.timeout = TIMEOUT;
    // Aliases are wanted for their time to live.
    options.preserve_intermediates = true;
    builder.build()
}

#[cfg(test)]
pub(super) mod tests;
