//! Turns the config into what the data plane reads. Rules whose settings did not change keep
//! their state (buckets, counters) over a reload, upstreams their health and connections.

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use seaworthy_policy::client::ClientResolver;
use seaworthy_policy::mode::{Buckets, ModeSetting};
use seaworthy_policy::names::{Names, RuleName};
use seaworthy_policy::protection::{Memory, Protection};
use seaworthy_policy::record::{RouteId, RuleId};
use seaworthy_policy::registry::{BuildContext, InstallKey, Protect, REGISTRY};
use seaworthy_policy::rollout::PolicyHash;
use seaworthy_policy::route::{RoutePattern, RouteTable};
use seaworthy_policy::source::Sources;
use seaworthy_proxy::upstream::health::HealthChecks;
use seaworthy_proxy::upstream::{
    EjectionPolicy, HostHeader, UpstreamOptions, UpstreamProtocol, UpstreamSpec, Upstreams,
};
use seaworthy_proxy::{
    ConnectionLimits, Link, ModeTable, Operation, Operations, Route, Snapshot, Version,
};

use super::book::Standings;
use super::{announce, tls};
use crate::config::{Announce, Config, HostPolicy, Protocol};

/// A compiled rule, kept to be used again by the next config.
#[derive(Clone)]
pub(crate) struct Rule {
    pub(crate) id: RuleId,
    pub(crate) name: RuleName,
    pub(crate) setting: ModeSetting,
    /// What has the rule's mode.
    pub(crate) current: Built,
    /// What the config says now, where `current` stays in force until evidence lets it go.
    pub(crate) next: Option<Built>,
    /// Since when it has judged by what the config says.
    since_unix_s: i64,
}

/// One version of a rule.
#[derive(Clone)]
pub(crate) struct Built {
    pub(crate) policy: PolicyHash,
    pub(crate) settings: serde_json::Value,
    /// Of the texts that the settings name.
    pub(crate) sources: Option<[u8; 32]>,
    protection: Arc<dyn Protection>,
}

impl Rule {
    /// What the config says.
    pub(crate) fn latest(&self) -> &Built {
        self.next.as_ref().unwrap_or(&self.current)
    }
}

/// A config, ready for the data plane.
pub(crate) struct Compiled {
    pub(crate) snapshot: Snapshot,
    pub(crate) rules: Vec<Rule>,
    pub(crate) health: Option<HealthChecks>,
}

/// What is the same for every config of a process.
pub(crate) struct Ground {
    pub(crate) names: Arc<Names>,
    pub(crate) key: InstallKey,
    /// What `Via` calls this gateway.
    pub(crate) pseudonym: Arc<str>,
}

/// Compiles `config`, taking over what it can from `before`. A rule that `standings` has enforced by
/// other settings goes on with those until the new ones have earned its place.
pub(crate) fn compile(
    config: &Config,
    ground: &Ground,
    standings: &Standings,
    before: Option<(&[Rule], &Upstreams)>,
) -> anyhow::Result<Compiled> {
    let mut compiler = Compiler {
        ground,
        standings,
        announce: &config.announce,
        sources: &config.sources,
        before: before.map(|(rules, _)| rules),
        buckets: Buckets::new(&ground.key.derive_16("share")),
        rules: Vec::new(),
    };
    let service = compiler.links(&config.protect, None, &[], None)?;
    let mut routes = vec![Route { id: RouteId(0), links: service.clone(), sunset: None }];
    for route in &config.routes {
        let name = route.pattern.to_string();
        let links =
            compiler.links(&route.protect, Some(&name), &route.overrides, Some(&service))?;
        let sunset = route.sunset.map(announce::sunset).transpose()?;
        routes.push(Route { id: ground.names.intern_route(&name), links, sunset });
    }
    let operations = compiler.operations(&config.protect)?;
    // The rule of an operation stands where the service's would.
    let is_met = |link: &Link| {
        let owns =
            |operation: &Operation| operation.links.iter().any(|own| own.position == link.position);
        !link.current.protection.is_inert()
            || link.next.as_ref().is_some_and(|next| !next.protection.is_inert())
            || operations.as_ref().is_some_and(|known| known.list.iter().any(owns))
    };
    for route in &mut routes {
        route.links.retain(is_met);
    }
    let table = RouteTable::build(config.routes.iter().map(|route| &route.pattern).zip(1..), 0)?;
    let modes = ModeTable::new(compiler.rules.iter().map(|rule| (rule.id, standings.modes(rule))));
    let listen = &config.listen;
    let snapshot = Snapshot {
        generation: 0,
        config: 0,
        clients: ClientResolver::new(&config.client, &ground.key.derive_16("client"))
            .map_err(anyhow::Error::msg)?,
        consumers: config.consumers.clone(),
        table,
        routes,
        operations,
        modes,
        check_budget: config.gates.latency.budget.as_duration(),
        upstreams: Arc::new(upstreams(config, before.map(|(_, upstreams)| upstreams))?),
        limits: ConnectionLimits {
            timeout_head: listen.head_timeout.as_duration(),
            timeout_body: listen.body_timeout.as_duration(),
            timeout_idle: listen.idle_timeout.as_duration(),
            head_bytes_max: usize::try_from(listen.head_bytes_max.0)?,
            fields_max: listen.headers_max,
            connections_max: listen.connections_max,
            http2_streams_max: listen.http2_streams_max,
            checked_body_bytes_max: usize::try_from(listen.checked_body_max.0)?,
            checked_bodies_bytes_max: usize::try_from(listen.checked_bodies_max.0)?,
        },
        tls: listen.tls.as_ref().map(|files| tls::server(&files.cert, &files.key)).transpose()?,
        announces: config.announce.enabled,
        learning: config.learn.sampling(),
        pseudonym: Arc::clone(&ground.pseudonym),
    };
    let health = config.service.health.as_ref().map(|health| HealthChecks {
        path: health.path.clone(),
        interval: health.interval.as_duration(),
        timeout: health.timeout.as_duration(),
        unhealthy_after: health.unhealthy_after,
        healthy_after: health.healthy_after,
    });
    Ok(Compiled { snapshot, rules: compiler.rules, health })
}

struct Compiler<'a> {
    ground: &'a Ground,
    standings: &'a Standings,
    announce: &'a Announce,
    buckets: Buckets,
    sources: &'a Sources,
    before: Option<&'a [Rule]>,
    rules: Vec<Rule>,
}

impl Compiler<'_> {
    /// The chain of one route. Protections it does not override are the service's own, with
    /// their state.
    fn links(
        &mut self,
        protect: &Protect,
        route: Option<&str>,
        overrides: &[usize],
        service: Option<&[Link]>,
    ) -> anyhow::Result<Vec<Link>> {
        let mut links = Vec::with_capacity(REGISTRY.len());
        for position in 0..REGISTRY.len() {
            match service {
                Some(service) if !overrides.contains(&position) => {
                    links.push(service[position].clone());
                }
                _ => links.push(self.link(protect, route, position)?),
            }
        }
        Ok(links)
    }

    /// The rules that the service's settings make for single operations.
    fn operations(&mut self, protect: &Protect) -> anyhow::Result<Option<Operations>> {
        let mut list: Vec<(RoutePattern, Operation)> = Vec::new();
        for (position, entry) in REGISTRY.iter().enumerate() {
            let (key, sources) = (&self.ground.key, self.sources);
            let context = BuildContext { key, sources, memory: None, operations_apart: false };
            let rules = (entry.operations)(protect, &context).map_err(|error| {
                anyhow::anyhow!("protect.{}.{}: {error}", entry.name, error.key)
            })?;
            for (pattern, protection) in rules {
                let name = pattern.to_string();
                let rule = RuleName { protection: position, route: Some(name.as_str().into()) };
                // A `[[route]]` of that name has said how it is to be judged. Its requests are still
                // those of this operation, and of no less specific one.
                let is_new = !self.rules.iter().any(|known| known.name == rule);
                let settings = (entry.settings)(protect);
                let sources = self.sources.fingerprint(&(entry.sources)(protect));
                let built = Built::new(&rule, settings, sources, protection);
                let link = is_new.then(|| self.add(protect, rule, built));
                match list.iter_mut().find(|(known, _)| *known == pattern) {
                    Some((_, operation)) => operation.links.extend(link),
                    None => {
                        let id = self.ground.names.intern_route(&name);
                        let links = link.into_iter().collect();
                        list.push((pattern, Operation { id, links }));
                    }
                }
            }
        }
        if list.is_empty() {
            return Ok(None);
        }
        // HEAD is GET without a body, where the document says nothing of it.
        let named = |pattern: &RoutePattern| list.iter().any(|(known, _)| known == pattern);
        let head = |(index, (pattern, _)): (usize, &(RoutePattern, Operation))| {
            let head = RoutePattern { method: Some(Method::HEAD), path: pattern.path.clone() };
            let is_get = pattern.method == Some(Method::GET);
            (is_get && !named(&head)).then_some((head, Some(index)))
        };
        let heads: Vec<_> = list.iter().enumerate().filter_map(head).collect();
        let patterns = list.iter().map(|(pattern, _)| pattern).zip((0..).map(Some));
        let heads = heads.iter().map(|(pattern, index)| (pattern, *index));
        let table = RouteTable::build(patterns.chain(heads), None)?;
        let list = list.into_iter().map(|(_, operation)| operation).collect();
        Ok(Some(Operations { table, list }))
    }

    fn link(
        &mut self,
        protect: &Protect,
        route: Option<&str>,
        position: usize,
    ) -> anyhow::Result<Link> {
        let name = RuleName { protection: position, route: route.map(Arc::from) };
        let before = self.rule_before(&name);
        let settings = (REGISTRY[position].settings)(protect);
        let sources = self.sources.fingerprint(&(REGISTRY[position].sources)(protect));
        let same = before.and_then(|rule| rule.with(&settings, sources)).cloned();
        let built = match same {
            Some(built) => built,
            None => {
                let memory = before.and_then(|rule| rule.latest().protection.memory());
                let protection = self.build(protect, position, memory, route.is_none())?;
                for notice in protection.notices() {
                    tracing::warn!(rule = %name, "{notice}");
                }
                Built::new(&name, settings, sources, protection)
            }
        };
        Ok(self.add(protect, name, built))
    }

    fn rule_before(&self, name: &RuleName) -> Option<&Rule> {
        self.before.and_then(|rules| rules.iter().find(|rule| rule.name == *name))
    }

    fn build(
        &self,
        protect: &Protect,
        position: usize,
        memory: Option<Memory>,
        operations_apart: bool,
    ) -> anyhow::Result<Arc<dyn Protection>> {
        let entry = REGISTRY[position];
        let (key, sources) = (&self.ground.key, self.sources);
        let context = BuildContext { key, sources, memory, operations_apart };
        (entry.build)(protect, &context)
            .map_err(|errors| anyhow::anyhow!("protect.{}: {errors}", entry.name))
    }

    /// Notes a rule, and makes the link to it.
    fn add(&mut self, protect: &Protect, name: RuleName, built: Built) -> Link {
        let position = name.protection;
        let id = self.ground.names.intern_rule(name.clone());
        let setting = (REGISTRY[position].mode)(protect);
        let rule_name: Arc<str> = name.to_string().into();
        let since_unix_s = self
            .rule_before(&name)
            .filter(|rule| rule.latest().settings == built.settings)
            .map_or_else(|| Timestamp::now().as_second(), |rule| rule.since_unix_s);
        let (current, next) = match self.incumbent(&name, setting, built.policy) {
            Some(incumbent) => (incumbent, Some(built)),
            None => (built, None),
        };
        let rule = Rule { id, name, setting, current, next, since_unix_s };
        let mode = self.standings.modes(&rule).current;
        let announcement = self.announce.enabled.then(|| {
            Arc::new(announce::announcement(&rule_name, mode, self.announce, since_unix_s))
        });
        let current = Version::from(Arc::clone(&rule.current.protection));
        let next = rule.next.as_ref().map(|next| Version::from(Arc::clone(&next.protection)));
        self.rules.push(rule);
        let buckets = self.buckets.of_rule(&rule_name);
        Link { position, rule: id, rule_name, buckets, current, next, announcement }
    }

    /// What stays in force where a rule that is enforced gets another policy than `policy`.
    fn incumbent(
        &self,
        name: &RuleName,
        setting: ModeSetting,
        policy: PolicyHash,
    ) -> Option<Built> {
        let standing = self.standings.get(&name.to_string())?;
        if setting != ModeSetting::Auto || !standing.outlasts(policy) {
            return None;
        }
        let policy = standing.current.policy;
        if let Some(before) = self.rule_before(name) {
            let versions = [Some(&before.current), before.next.as_ref()];
            if let Some(built) = versions.into_iter().flatten().find(|one| one.policy == policy) {
                return Some(built.clone());
            }
        }
        // After a restart: from the settings that it was enforced with, if their files are as they
        // were. Rules of single operations are made from all of a document.
        let entry = REGISTRY[name.protection];
        let protect = serde_json::json!({ (entry.name): standing.settings });
        let protect: Protect = serde_json::from_value(protect).ok()?;
        let sources = self.sources.fingerprint(&(entry.sources)(&protect));
        let apart = name.route.is_none();
        let protection = self.build(&protect, name.protection, None, apart).ok()?;
        let built = Built::new(name, standing.settings.clone(), sources, protection);
        (built.policy == policy).then_some(built)
    }
}

impl Rule {
    /// The version with these settings.
    fn with(&self, settings: &serde_json::Value, sources: Option<[u8; 32]>) -> Option<&Built> {
        let versions = [self.next.as_ref(), Some(&self.current)];
        let is_same = |built: &&Built| built.settings == *settings && built.sources == sources;
        versions.into_iter().flatten().find(is_same)
    }
}

impl Built {
    fn new(
        name: &RuleName,
        settings: serde_json::Value,
        sources: Option<[u8; 32]>,
        protection: Arc<dyn Protection>,
    ) -> Self {
        let what = match protection.policy() {
            Some(own) => own.to_vec(),
            // `serde_json` keeps the keys of a map in order.
            None => {
                let mut all = settings.to_string().into_bytes();
                all.extend_from_slice(sources.as_ref().map_or(&[], |hash| &hash[..]));
                all
            }
        };
        let policy = PolicyHash::of(&[name.to_string().as_bytes(), &what]);
        Self { policy, settings, sources, protection }
    }
}

fn upstreams(config: &Config, before: Option<&Upstreams>) -> anyhow::Result<Upstreams> {
    let service = &config.service;
    let specs = service
        .upstreams
        .iter()
        .map(|url| UpstreamSpec { https: url.https, host: url.host.clone(), port: url.port })
        .collect();
    let protocol = match service.protocol {
        Protocol::Auto => UpstreamProtocol::Auto,
        Protocol::Http1 => UpstreamProtocol::Http1,
        Protocol::Http2 => UpstreamProtocol::Http2,
    };
    let options = UpstreamOptions {
        protocol,
        host: match service.host {
            HostPolicy::Keep => HostHeader::Keep,
            HostPolicy::Upstream => HostHeader::Upstream,
        },
        timeout_connect: service.connect_timeout.as_duration(),
        timeout_idle: service.idle_timeout.as_duration(),
        connections_max: service.connections_max,
        ejection: EjectionPolicy {
            failures: service.eject.failures,
            period: service.eject.period.as_duration(),
            period_max: service.eject.period_max.as_duration(),
        },
    };
    let alpn: &[&[u8]] = match protocol {
        UpstreamProtocol::Auto => &[b"h2", b"http/1.1"],
        UpstreamProtocol::Http1 => &[b"http/1.1"],
        UpstreamProtocol::Http2 => &[b"h2"],
    };
    let tls = tls::client(service.ca.as_deref(), alpn)?;
    Ok(Upstreams::build(specs, options, &tls, before)?)
}
