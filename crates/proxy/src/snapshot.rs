//! What the workers read: one immutable value that a reload replaces whole.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use seaworthy_policy::client::ClientResolver;
use seaworthy_policy::consumer::ConsumersConfig;
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::mode::{Mode, RuleBuckets};
use seaworthy_policy::protection::Protection;
use seaworthy_policy::record::{RouteId, RuleId};
use seaworthy_policy::route::RouteTable;

use crate::http1::request::HeadLimits;
use crate::learn::Sampling;
use crate::upstream::Upstreams;

/// Config and modes, compiled.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Tells snapshots apart; grows with each.
    pub generation: u64,
    /// Counts the configs, from 0.
    pub config: u64,
    pub clients: ClientResolver,
    /// Of what kind a client is; for the records alone.
    pub consumers: ConsumersConfig,
    /// Finds the index into [`Self::routes`].
    pub table: RouteTable<usize>,
    pub routes: Vec<Route>,
    /// The service's operations that have rules of their own.
    pub operations: Option<Operations>,
    pub modes: ModeTable,
    /// What a check may take; slower ones are counted.
    pub check_budget: Duration,
    pub upstreams: Arc<Upstreams>,
    pub limits: ConnectionLimits,
    /// HTTPS where there is one; taken up by new connections.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether clients are told of rules that are going to be enforced.
    pub announces: bool,
    /// Where a schema is learned from what requests are like.
    pub learning: Option<Sampling>,
    /// What `Via` calls this gateway; a request that already carries it has come in a circle.
    pub pseudonym: Arc<str>,
}

/// One route with the rules that its requests meet, in registry order.
#[derive(Clone, Debug)]
pub struct Route {
    pub id: RouteId,
    pub links: Vec<Link>,
    /// `Sunset` (RFC 8594), where the resource itself ends.
    pub sunset: Option<HeaderValue>,
}

/// The operations of the service for which some protection has rules.
#[derive(Clone, Debug)]
pub struct Operations {
    /// Finds the index into [`Self::list`].
    pub table: RouteTable<Option<usize>>,
    pub list: Vec<Operation>,
}

#[derive(Clone, Debug)]
pub struct Operation {
    pub id: RouteId,
    /// Its rules, in registry order. Each takes the place of the service's rule of the same
    /// protection, and never that of a route's own.
    pub links: Vec<Link>,
}

/// The rules that a request meets, in registry order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain<'a> {
    route: &'a Route,
    operation: Option<&'a Operation>,
}

impl Snapshot {
    /// The chain of the requests of `method` to `path`, for [`Self::chain`].
    pub(crate) fn find(&self, method: &http::Method, path: &str) -> ChainId {
        ChainId {
            route: self.table.find(method, path),
            operation: self.operations.as_ref().and_then(|known| known.table.find(method, path)),
        }
    }

    /// The links of all routes and operations; a rule can be among them several times.
    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        let routes = self.routes.iter().flat_map(|route| &route.links);
        let operations = self.operations.iter().flat_map(|known| &known.list);
        routes.chain(operations.flat_map(|operation| &operation.links))
    }

    pub(crate) fn chain(&self, id: ChainId) -> Chain<'_> {
        let operations = self.operations.as_ref();
        Chain {
            route: &self.routes[id.route],
            operation: operations.zip(id.operation).map(|(known, index)| &known.list[index]),
        }
    }
}

/// Names a [`Chain`] of a snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChainId {
    route: usize,
    operation: Option<usize>,
}

impl<'a> Chain<'a> {
    pub(crate) fn sunset(self) -> Option<&'a HeaderValue> {
        self.route.sunset.as_ref()
    }

    /// The operation, else the route.
    pub(crate) fn route(self) -> RouteId {
        self.operation.map_or(self.route.id, |operation| operation.id)
    }

    /// The route whose settings hold.
    pub(crate) fn settings(self) -> RouteId {
        self.route.id
    }

    pub(crate) fn links(self) -> impl Iterator<Item = &'a Link> {
        (0..self.route.links.len()).map(move |index| self.link(index))
    }

    pub(crate) fn link(self, index: usize) -> &'a Link {
        let link = &self.route.links[index];
        let Some(operation) = self.operation else { return link };
        // The service's own rule of a protection has its number.
        if usize::from(link.rule.0) != link.position {
            return link;
        }
        operation.links.iter().find(|own| own.position == link.position).unwrap_or(link)
    }
}

/// One protection as a route has it.
#[derive(Clone)]
pub struct Link {
    /// The registry position.
    pub position: usize,
    pub rule: RuleId,
    pub rule_name: Arc<str>,
    /// Which clients are in the rule's share.
    pub buckets: RuleBuckets,
    /// What has the rule's mode.
    pub current: Version,
    /// What is to take its place: judged beside it, and enforced for a share of its own.
    pub next: Option<Version>,
    /// What the client of a request that would be denied is told.
    pub announcement: Option<Arc<Announcement>>,
}

/// The protection of a rule with certain settings.
#[derive(Clone)]
pub struct Version {
    pub protection: Arc<dyn Protection>,
    /// One of so many requests is judged, and off the path, where the rule only judges; see
    /// [`Protection::sampling`].
    pub sampling: Option<NonZeroU32>,
}

impl From<Arc<dyn Protection>> for Version {
    fn from(protection: Arc<dyn Protection>) -> Self {
        let sampling = protection.sampling();
        Self { protection, sampling }
    }
}

impl Link {
    /// Whether a version of it adds headers to responses.
    pub(crate) fn decorates(&self) -> bool {
        let mut versions = std::iter::once(&self.current).chain(&self.next);
        versions.any(|version| version.protection.decorator().is_some())
    }

    pub(crate) fn version(&self, lane: Lane) -> &Version {
        match (lane, &self.next) {
            (Lane::Next, Some(next)) => next,
            _ => &self.current,
        }
    }
}

/// A notice in the response's header that a rule is going to be enforced.
#[derive(Debug)]
pub struct Announcement {
    /// `Deprecation` (RFC 9745).
    pub deprecation: HeaderValue,
    /// `Link` to the explanation.
    pub link: HeaderValue,
    /// `Seaworthy-Enforcement`, where there is a date.
    pub enforcement: Option<HeaderValue>,
    /// The date, as it is shown.
    pub date: Option<String>,
}

/// The place of the rule `name` on the page that explains all of them.
pub fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.".contains(c) { c } else { '-' };
    name.chars().map(plain).collect()
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.rule_name)
    }
}

/// The modes in force of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    pub current: Mode,
    /// That of the version that is to take the rule's place, where there is one.
    pub next: Mode,
}

impl Modes {
    const OFF: Self = Self { current: Mode::Off, next: Mode::Off };
}

impl From<Mode> for Modes {
    fn from(current: Mode) -> Self {
        Self { current, ..Self::OFF }
    }
}

/// The modes in force of each rule, by its id.
#[derive(Clone, Debug, Default)]
pub struct ModeTable(Vec<Modes>);

impl ModeTable {
    /// A rule that is not among `modes` is off.
    pub fn new(modes: impl IntoIterator<Item = (RuleId, Modes)>) -> Self {
        let mut table = Self::default();
        for (rule, modes) in modes {
            table.set(rule, modes);
        }
        table
    }

    /// Changes the modes of one rule.
    pub fn set(&mut self, rule: RuleId, modes: Modes) {
        let index = usize::from(rule.0);
        if self.0.len() <= index {
            self.0.resize(index + 1, Modes::OFF);
        }
        self.0[index] = modes;
    }

    pub fn get(&self, rule: RuleId) -> Mode {
        self.of(rule).current
    }

    pub fn of(&self, rule: RuleId) -> Modes {
        self.0.get(usize::from(rule.0)).copied().unwrap_or(Modes::OFF)
    }
}

/// Bounds on one client connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// From the first byte of a head to its last.
    pub timeout_head: Duration,
    /// A pause of the client while it sends a body or takes a response.
    pub timeout_body: Duration,
    /// A connection without a request.
    pub timeout_idle: Duration,
    pub head_bytes_max: usize,
    pub fields_max: usize,
    /// Connections of one worker.
    pub connections_max: usize,
    pub http2_streams_max: u32,
    /// A request body, where a check has to see it.
    pub checked_body_bytes_max: usize,
    /// All such bodies that one worker holds at the same time.
    pub checked_bodies_bytes_max: usize,
}

impl ConnectionLimits {
    pub(crate) const fn head(&self) -> HeadLimits {
        HeadLimits { bytes_max: self.head_bytes_max, fields_max: self.fields_max }
    }
}
