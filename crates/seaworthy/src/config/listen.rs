//! `[listen]`: the port for clients, and the bounds on their connections.

use std::net::SocketAddr;
use std::path::PathBuf;

use seaworthy_policy::quantity::{ByteSize, Period};
use serde::{Deserialize, Serialize};

use super::addr;
use super::check::Checks;

/// `[listen]` of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// All addresses by default: clients are elsewhere.
    #[serde(deserialize_with = "addr::read")]
    pub addr: SocketAddr,
    /// HTTPS with HTTP/2 by ALPN. None by default: only the operator has a certificate.
    pub tls: Option<TlsFiles>,
    /// Threads that serve clients. 0 is one a core: they share nothing, so more only take turns.
    pub workers: usize,
    /// How long a request head may take. 10s: a phone in a tunnel needs a few, a slowloris wants
    /// hours.
    pub head_timeout: Period,
    /// How long a client may pause while it sends a body or takes a response. 30s: a whole body
    /// may take as long as it wants, silence may not.
    pub body_timeout: Period,
    /// How long a connection may wait for its next request. 75s is nginx's: browsers count on
    /// about a minute.
    pub idle_timeout: Period,
    /// Bytes of a request head, for the parser. 64KiB is above every protection's own limit.
    pub head_bytes_max: ByteSize,
    /// Header fields of a request, for the parser. 100 is Apache's, and what is parsed without an
    /// allocation.
    pub headers_max: usize,
    /// Connections of one worker. 20000 is far more than one core is busy with, and bounds its
    /// memory and file descriptors.
    pub connections_max: usize,
    /// Requests at once on one HTTP/2 connection. 128 is nginx's: browsers are used to it.
    pub http2_streams_max: u32,
    /// The largest request body that is read whole for the checks that have to see it. 1MiB is
    /// more than nearly all JSON and forms have; more streams unread.
    pub checked_body_max: ByteSize,
    /// All such bodies that one worker holds at the same time. 64MiB is 64 of the largest.
    pub checked_bodies_max: ByteSize,
    /// How long requests under way may go on when the gateway is told to stop. 30s is what
    /// Kubernetes waits before it kills.
    pub drain_timeout: Period,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([0, 0, 0, 0], 8080)),
            tls: None,
            workers: 0,
            head_timeout: Period::secs(10),
            body_timeout: Period::secs(30),
            idle_timeout: Period::secs(75),
            head_bytes_max: ByteSize::kib(64),
            headers_max: 100,
            connections_max: 20_000,
            http2_streams_max: 128,
            checked_body_max: ByteSize::mib(1),
            checked_bodies_max: ByteSize::mib(64),
            drain_timeout: Period::secs(30),
        }
    }
}

/// `listen.tls`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, then those that lead to its root.
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// More threads than any machine has cores for.
const WORKERS_MAX: usize = 1024;

impl Listen {
    pub(crate) fn check(&self, checks: &mut Checks<'_>) {
        let hour = Period::secs(3600);
        checks.within("workers", self.workers, 0..=WORKERS_MAX);
        checks.lasts("head_timeout", self.head_timeout, Period::millis(100)..=hour);
        checks.lasts("body_timeout", self.body_timeout, Period::millis(100)..=hour);
        checks.lasts("idle_timeout", self.idle_timeout, Period::millis(100)..=hour);
        checks.lasts("drain_timeout", self.drain_timeout, Period::millis(0)..=hour);
        let (least, most) = (ByteSize::kib(4), ByteSize::mib(1));
        checks.require(
            (least..=most).contains(&self.head_bytes_max),
            "head_bytes_max",
            format!("expected \"{least}\" to \"{most}\", not \"{}\"", self.head_bytes_max),
        );
        let (least, most) = (ByteSize::kib(1), ByteSize::mib(64));
        checks.require(
            (least..=most).contains(&self.checked_body_max),
            "checked_body_max",
            format!("expected \"{least}\" to \"{most}\", not \"{}\"", self.checked_body_max),
        );
        checks.require(
            self.checked_bodies_max >= self.checked_body_max,
            "checked_bodies_max",
            format!(
                "expected at least checked_body_max, which is \"{}\", not \"{}\"",
                self.checked_body_max, self.checked_bodies_max
            ),
        );
        checks.within("headers_max", self.headers_max, 16..=4096);
        checks.within("connections_max", self.connections_max, 1..=1_000_000);
        checks.within("http2_streams_max", self.http2_streams_max, 1..=65_536);
    }
}
