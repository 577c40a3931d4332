//! `[service]`: the HTTP service behind the gateway and how it is reached.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::uri::{PathAndQuery, Uri};
use seaworthy_policy::quantity::Period;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::check::Checks;

/// `[service]` of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// What pages and telemetry call the service.
    pub name: String,
    /// Its addresses. Empty by default: only the operator knows them.
    pub upstreams: Vec<UpstreamUrl>,
    /// `auto` by default: HTTP/1.1 is what every service speaks in the clear, and over TLS the
    /// two sides agree by themselves.
    pub protocol: Protocol,
    /// A PEM bundle that replaces the system's roots for `https` upstreams. None by default.
    pub ca: Option<PathBuf>,
    /// How long a new connection may take. 2s: a service nearby answers in a millisecond, and one
    /// lost SYN costs one second.
    pub connect_timeout: Period,
    /// How long a connection without a request is kept. 60s is below the 75s after which nginx,
    /// and above the 5s after which Node closes its side; a connection that died is replaced.
    pub idle_timeout: Period,
    /// Connections of one worker to one upstream. 256 is far more than a service of this size
    /// works on at once, and bounds its sockets.
    pub connections_max: usize,
    /// Which Host the service sees. `keep` by default: services build links from it.
    pub host: HostPolicy,
    /// Active checks. None by default: only the operator knows a path that says "healthy".
    pub health: Option<Health>,
    /// When an upstream that fails real requests is left alone, and for how long.
    pub eject: Ejection,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            name: "service".to_owned(),
            upstreams: Vec::new(),
            protocol: Protocol::Auto,
            ca: None,
            connect_timeout: Period::secs(2),
            idle_timeout: Period::secs(60),
            connections_max: 1024,
            host: HostPolicy::Keep,
            health: None,
            eject: Ejection::default(),
        }
    }
}

/// Which HTTP is spoken to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 on `http`, what ALPN settles on for `https`.
    Auto,
    Http1,
    /// HTTP/2, with prior knowledge on `http`.
    Http2,
}

/// Which Host header the service sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostPolicy {
    /// The client's own.
    Keep,
    /// The upstream's address.
    Upstream,
}

/// `service.health`: a GET on a path of the service, again and again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    pub path: String,
    /// 5s: with three failures an outage is noticed within 15 seconds.
    #[serde(default = "Health::default_interval")]
    pub interval: Period,
    /// 2s: a health page that is slower is not healthy.
    #[serde(default = "Health::default_timeout")]
    pub timeout: Period,
    /// Failures in a row. 3: one slow answer is not an outage.
    #[serde(default = "Health::default_unhealthy_after")]
    pub unhealthy_after: u32,
    /// Successes in a row. 2: one lucky answer is not a recovery.
    #[serde(default = "Health::default_healthy_after")]
    pub healthy_after: u32,
}

impl Health {
    fn default_interval() -> Period {
        Period::secs(5)
    }

    fn default_timeout() -> Period {
        Period::secs(2)
    }

    fn default_unhealthy_after() -> u32 {
        3
    }

    fn default_healthy_after() -> u32 {
        2
    }
}

/// `service.eject`: the circuit breaker of each upstream.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ejection {
    /// Failed requests in a row. 5 is no accident and still spares the sixth client.
    pub failures: u32,
    /// How long it is left alone the first time. 5s: a restart takes about that.
    #[serde(rename = "for")]
    pub period: Period,
    /// The time doubles with each ejection up to this. 60s: nobody waits longer for a repair to
    /// be noticed.
    #[serde(rename = "for_max")]
    pub period_max: Period,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, period: Period::secs(5), period_max: Period::secs(60) }
    }
}

/// One address of the service: a scheme, a host and a port, nothing behind them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamUrl {
    pub https: bool,
    /// A name in lowercase or an IP address; IPv6 has no brackets.
    pub host: String,
    pub port: u16,
}

/// Fits after "failed to read the upstream: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a URL such as \"http://127.0.0.1:3000\", not {text:?}: {why}")]
pub struct UpstreamUrlError {
    pub text: String,
    pub why: &'static str,
}

impl FromStr for UpstreamUrl {
    type Err = UpstreamUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = |why| UpstreamUrlError { text: text.to_owned(), why };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| fault("it has no scheme"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(fault("the scheme is http or https")),
        };
        if rest.contains('#') {
            return Err(fault("it has a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| fault("it is no URL"))?;
        let authority = uri.authority().ok_or_else(|| fault("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(fault("a user or password does not belong here"));
        }
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(fault("it ends after the port: paths pass through as they are"));
        }
        let default = if https { 443 } else { 80 };
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().len() > authority.host().len() => {
                return Err(fault("its port is not one"));
            }
            None => default,
        };
        if port == 0 {
            return Err(fault("its port is not one"));
        }
        let host = host(authority.host()).ok_or_else(|| fault("its host is not one"))?;
        Ok(Self { https, host, port })
    }
}

/// A host in the form in which it is kept: lowercase, IPv6 without brackets.
fn host(text: &str) -> Option<String> {
    if let Some(ip) = text.strip_prefix('[') {
        let ip: std::net::Ipv6Addr = ip.strip_suffix(']')?.parse().ok()?;
        return Some(ip.to_string());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let known = name.len() <= 253 && name.split('.').all(label);
    // A name whose last label is a number would be taken for an address somewhere.
    let number = name.rsplit('.').next()?.bytes().all(|byte| byte.is_ascii_digit());
    let ip = name.parse::<std::net::Ipv4Addr>().is_ok();
    (known && number == ip).then(|| name.to_ascii_lowercase())
}

impl fmt::Display for UpstreamUrl {
    /// With the port, so that two addresses are the same exactly where their texts are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for UpstreamUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UpstreamUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Telemetry keeps the position of an upstream in one byte, and pages list them all.
const UPSTREAMS_MAX: usize = 64;

/// Names are shown beside each other in pages and metrics.
const NAME_MAX: usize = 64;

impl Service {
    pub(crate) fn check(&self, checks: &mut Checks<'_>) {
        let millis = Period::millis;
        let named = !self.name.trim().is_empty()
            && self.name.chars().count() <= NAME_MAX
            && !self.name.contains(char::is_control);
        checks.require(named, "name", format!("expected 1 to {NAME_MAX} printable characters"));
        let count = self.upstreams.len();
        checks.require(
            count <= UPSTREAMS_MAX,
            "upstreams",
            format!("expected at most {UPSTREAMS_MAX} upstreams, not {count}"),
        );
        let mut seen = std::collections::HashSet::new();
        for url in &self.upstreams {
            checks.require(seen.insert(url), "upstreams", format!("{url} is there twice"));
        }
        checks.lasts("connect_timeout", self.connect_timeout, millis(1)..=Period::secs(300));
        checks.lasts("idle_timeout", self.idle_timeout, millis(1)..=Period::secs(86_400));
        checks.within("connections_max", self.connections_max, 1..=65_536);
        if let Some(health) = &self.health {
            let path = health.path.starts_with('/') && health.path.parse::<PathAndQuery>().is_ok();
            checks.require(
                path,
                "health.path",
                format!("expected a path such as \"/healthz\", not {:?}", health.path),
            );
            checks.lasts("health.interval", health.interval, millis(100)..=Period::secs(3600));
            checks.lasts("health.timeout", health.timeout, millis(1)..=Period::secs(300));
            checks.within("health.unhealthy_after", health.unhealthy_after, 1..=1000);
            checks.within("health.healthy_after", health.healthy_after, 1..=1000);
        }
        checks.within("eject.failures", self.eject.failures, 1..=1_000_000);
        checks.lasts("eject.for", self.eject.period, millis(1)..=Period::secs(86_400));
        checks.lasts("eject.for_max", self.eject.period_max, millis(1)..=Period::secs(86_400));
        checks.require(
            self.eject.period <= self.eject.period_max,
            "eject.for",
            format!(
                "\"{}\" is longer than `for_max`, \"{}\"",
                self.eject.period, self.eject.period_max
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read_and_written() {
        for (text, https, host, port, written) in [
            ("http://127.0.0.1:3000", false, "127.0.0.1", 3000, "http://127.0.0.1:3000"),
            ("http://localhost/", false, "localhost", 80, "http://localhost:80"),
            (
                "HTTPS://Api.Example.COM",
                true,
                "api.example.com",
                443,
                "https://api.example.com:443",
            ),
            ("http://[::1]:3000", false, "::1", 3000, "http://[::1]:3000"),
            ("http://my_service:8000", false, "my_service", 8000, "http://my_service:8000"),
        ] {
            let url: UpstreamUrl = text.parse().expect(text);
            assert_eq!((url.https, url.host.as_str(), url.port), (https, host, port), "{text}");
            assert_eq!(url.to_string(), written);
            assert_eq!(written.parse(), Ok(url));
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused_and_told_why() {
        for (text, why) in [
            ("127.0.0.1:3000", "it has no scheme"),
            ("ftp://a", "the scheme is http or https"),
            ("http://a/b", "it ends after the port: paths pass through as they are"),
            ("http://a/?b", "it ends after the port: paths pass through as they are"),
            ("http://a?b", "it ends after the port: paths pass through as they are"),
            ("http://a#b", "it has a fragment"),
            ("http://user:secret@a", "a user or password does not belong here"),
            ("http://", "it is no URL"),
            ("http://a:0", "its port is not one"),
            ("http://a:99999", "its port is not one"),
            ("http://a:", "its port is not one"),
            ("http://a..b", "its host is not one"),
            ("http://1.2.3", "its host is not one"),
            ("http://300.0.0.1", "its host is not one"),
            ("http://[::1", "it is no URL"),
            ("http://a b", "it is no URL"),
        ] {
            let fault = text.parse::<UpstreamUrl>().expect_err(text);
            assert_eq!(fault.why, why, "{text}");
        }
    }
}
