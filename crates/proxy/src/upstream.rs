//! The service's addresses, their health, and the choice among them.

pub(crate) mod breaker;
pub(crate) mod connect;
pub mod health;
pub(crate) mod http1;
pub(crate) mod pool;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use seaworthy_policy::Moment;

use self::breaker::Breaker;
pub use self::breaker::EjectionPolicy;

/// One address of the service, as the config gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSpec {
    pub https: bool,
    pub host: String,
    pub port: u16,
}

impl fmt::Display for UpstreamSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl UpstreamSpec {
    /// `host:port`, with the brackets of an IPv6 address; the scheme's default port is left out.
    pub fn authority(&self) -> String {
        let default = if self.https { 443 } else { 80 };
        let host = if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }
}

/// Which HTTP is spoken to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1 in the clear, whatever ALPN settles on over TLS.
    Auto,
    Http1,
    /// HTTP/2, with prior knowledge in the clear.
    Http2,
}

/// What the `Host` that the service sees is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's own.
    Keep,
    /// The upstream's address.
    Upstream,
}

/// What all upstreams have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamOptions {
    pub protocol: UpstreamProtocol,
    pub host: HostHeader,
    pub timeout_connect: Duration,
    /// A pooled connection is closed after this long without a request.
    pub timeout_idle: Duration,
    /// Connections of one worker to one upstream.
    pub connections_max: usize,
    pub ejection: EjectionPolicy,
}

/// One address of the service, with what is known of it. Shared by all workers.
pub struct Upstream {
    /// The position in the config.
    pub index: u8,
    pub spec: UpstreamSpec,
    /// Shown in pages, metrics and logs.
    pub name: Arc<str>,
    pub(crate) authority: HeaderValue,
    tls: Option<Tls>,
    protocol: UpstreamProtocol,
    /// What the active checks say; true where there are none.
    healthy: AtomicBool,
    breaker: Breaker,
    requests: AtomicU64,
    failures: AtomicU64,
}

#[derive(Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.name)
    }
}

/// Why an upstream cannot be used. Fits after "failed to set up the upstream: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name that a certificate can be checked for")]
pub struct UpstreamError(String);

impl Upstream {
    fn new(
        index: u8,
        spec: UpstreamSpec,
        tls: &Arc<ClientConfig>,
        options: &UpstreamOptions,
    ) -> Result<Self, UpstreamError> {
        let fault = || UpstreamError(spec.host.clone());
        let tls = if spec.https {
            let host = spec.host.trim_start_matches('[').trim_end_matches(']');
            let server_name = ServerName::try_from(host.to_owned()).map_err(|_| fault())?;
            Some(Tls { config: Arc::clone(tls), server_name })
        } else {
            None
        };
        Ok(Self {
            index,
            name: spec.to_string().into(),
            authority: HeaderValue::from_str(&spec.authority()).map_err(|_| fault())?,
            tls,
            protocol: options.protocol,
            healthy: AtomicBool::new(true),
            breaker: Breaker::new(options.ejection),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            spec,
        })
    }

    /// Whether a connection to it may turn out to speak HTTP/2.
    pub(crate) fn may_speak_http2(&self) -> bool {
        match self.protocol {
            UpstreamProtocol::Auto => self.tls.is_some(),
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
        }
    }

    /// Whether the active checks find it healthy.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }

    /// Whether it was ejected for failing real requests, and is not due for another try.
    pub fn is_ejected(&self, now: Moment) -> bool {
        self.breaker.is_open(now)
    }

    pub fn ejections(&self) -> u64 {
        self.breaker.ejections()
    }

    /// Requests sent to it and those that failed below HTTP (not its own 5xx).
    pub fn counts(&self) -> (u64, u64) {
        (self.requests.load(Relaxed), self.failures.load(Relaxed))
    }

    pub(crate) fn succeeded(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.breaker.succeeded();
    }

    pub(crate) fn failed(&self, now: Moment) {
        self.requests.fetch_add(1, Relaxed);
        self.failures.fetch_add(1, Relaxed);
        if self.breaker.failed(now) {
            tracing::warn!(upstream = %self.name, "ejected after repeated failures");
        }
    }
}

/// All addresses of the service.
#[derive(Debug)]
pub struct Upstreams {
    pub list: Vec<Arc<Upstream>>,
    pub options: UpstreamOptions,
}

impl Upstreams {
    /// Builds the set. An address that `before` has under the same options keeps its health and
    /// its open connections.
    pub fn build(
        specs: Vec<UpstreamSpec>,
        options: UpstreamOptions,
        tls: &Arc<ClientConfig>,
        before: Option<&Self>,
    ) -> Result<Self, UpstreamError> {
        let list = specs
            .into_iter()
            .zip(0u8..)
            .map(|(spec, index)| {
                let kept = before
                    .filter(|before| before.options == options && !spec.https)
                    .and_then(|before| before.list.get(usize::from(index)))
                    .filter(|upstream| upstream.spec == spec);
                match kept {
                    Some(upstream) => Ok(Arc::clone(upstream)),
                    None => Upstream::new(index, spec, tls, &options).map(Arc::new),
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { list, options })
    }
}
