//! What the workers read: one immutable value that a reload replaces whole.

use std::sync::Arc;
use std::time::Duration;

use seaworthy_policy::client::ClientResolver;
use seaworthy_policy::mode::{Buckets, Mode};
use seaworthy_policy::protection::Protection;
use seaworthy_policy::record::{RouteId, RuleId};
use seaworthy_policy::route::RouteTable;

use crate::http1::request::HeadLimits;
use crate::upstream::Upstreams;

/// Config and modes, compiled.
#[derive(Debug)]
pub struct Snapshot {
    /// Tells snapshots apart; grows with each reload.
    pub generation: u64,
    pub clients: ClientResolver,
    pub buckets: Buckets,
    /// Finds the index into [`Self::routes`].
    pub table: RouteTable<usize>,
    pub routes: Vec<Route>,
    pub modes: ModeTable,
    pub upstreams: Arc<Upstreams>,
    pub limits: ConnectionLimits,
    /// HTTPS where there is one; taken up by new connections.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What `Via` calls this gateway; a request that already carries it has come in a circle.
    pub pseudonym: Arc<str>,
}

/// One route with the rules that its requests meet, in registry order.
#[derive(Debug)]
pub struct Route {
    pub id: RouteId,
    pub links: Vec<Link>,
}

/// One protection as a route has it.
#[derive(Clone)]
pub struct Link {
    /// The registry position.
    pub position: usize,
    pub rule: RuleId,
    pub rule_name: Arc<str>,
    pub protection: Arc<dyn Protection>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.rule_name)
    }
}

/// The mode in force of each rule, by its id.
#[derive(Clone, Debug, Default)]
pub struct ModeTable(Vec<Mode>);

impl ModeTable {
    /// A rule that is not among `modes` is off.
    pub fn new(modes: impl IntoIterator<Item = (RuleId, Mode)>) -> Self {
        let mut table = Self::default();
        for (rule, mode) in modes {
            let index = usize::from(rule.0);
            if table.0.len() <= index {
                table.0.resize(index + 1, Mode::Off);
            }
            table.0[index] = mode;
        }
        table
    }

    pub fn get(&self, rule: RuleId) -> Mode {
        self.0.get(usize::from(rule.0)).copied().unwrap_or(Mode::Off)
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
