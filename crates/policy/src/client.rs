//! Who is calling: the address behind the proxies we trust, the identity, the tenant.
//!
//! 1. The address is the peer's, unless the peer is a trusted proxy: then `X-Forwarded-For`, or
//!    where there is none the `for` of `Forwarded` (RFC 7239), is walked from the right over
//!    trusted addresses, and the first untrusted one is the client.
//! 2. The identity is the first source of [`ClientConfig::identity`] that the request carries.
//!    Secrets (tokens, keys, cookies) are never kept: only a keyed 64-bit hash of them is.
//! 3. An identity is a claim. A caller that invents a new token on every request gets a new
//!    identity each time, which is why the default rate limits also count by address.
//! 4. The tenant is what the configured header says, where that is there once and a plain name of
//!    at most 48 characters, and nobody's otherwise.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use siphasher::sip::SipHasher24;

use crate::quantity::serde_as_text;
use crate::record::Tenant;

/// `[client]` of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Where a request names its tenant. Default: the header `x-tenant-id`.
    pub tenant: TenantSource,
    /// The sources of an identity; the first that a request carries wins.
    pub identity: Vec<IdentitySource>,
    /// Proxies whose `X-Forwarded-*` and `x-request-id` are believed. Default: none.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            tenant: TenantSource { header: "x-tenant-id".to_owned() },
            identity: vec![
                IdentitySource::Bearer,
                IdentitySource::Header(HeaderName::from_static("x-api-key")),
                IdentitySource::Cookie("session".to_owned()),
                IdentitySource::Ip,
            ],
            trusted_proxies: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSource {
    pub header: String,
}

/// One place where an identity can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// `Authorization: Bearer …`
    Bearer,
    Header(HeaderName),
    Cookie(String),
    /// The address; always there.
    Ip,
}

/// Fits after "failed to read the identity source: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected \"bearer\", \"header:<name>\", \"cookie:<name>\" or \"ip\", not {0:?}")]
pub struct IdentitySourceError(String);

impl FromStr for IdentitySource {
    type Err = IdentitySourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || IdentitySourceError(text.to_owned());
        match text.split_once(':') {
            None if text == "bearer" => Ok(Self::Bearer),
            None if text == "ip" => Ok(Self::Ip),
            Some(("header", name)) => name.parse().map(Self::Header).map_err(|_| fault()),
            Some(("cookie", name)) if !name.is_empty() && name.bytes().all(is_cookie_name_byte) => {
                Ok(Self::Cookie(name.to_owned()))
            }
            _ => Err(fault()),
        }
    }
}

impl fmt::Display for IdentitySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Ip => f.write_str("ip"),
        }
    }
}

serde_as_text!(IdentitySource);

fn is_cookie_name_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte)
}

/// Names a client in evidence and logs without giving its secret away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKey {
    Bearer(u64),
    Header(u64),
    Cookie(u64),
    /// An IPv4 address, or an IPv6 network of 64 bits (its low half zero).
    Ip(IpAddr),
}

impl ClientKey {
    /// Whether the client said who it is, with more than its address.
    pub const fn is_identified(self) -> bool {
        !matches!(self, Self::Ip(_))
    }

    /// A fixed-length form for keyed hashing.
    pub fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        match self {
            Self::Bearer(id) | Self::Header(id) | Self::Cookie(id) => {
                bytes[1..9].copy_from_slice(&id.to_be_bytes());
            }
            Self::Ip(IpAddr::V4(ip)) => bytes[1..5].copy_from_slice(&ip.octets()),
            Self::Ip(IpAddr::V6(ip)) => bytes[1..17].copy_from_slice(&ip.octets()),
        }
        bytes[0] = match self {
            Self::Bearer(_) => 1,
            Self::Header(_) => 2,
            Self::Cookie(_) => 3,
            Self::Ip(IpAddr::V4(_)) => 4,
            Self::Ip(IpAddr::V6(_)) => 6,
        };
        bytes
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer(id) => write!(f, "bearer:{id:016x}"),
            Self::Header(id) => write!(f, "key:{id:016x}"),
            Self::Cookie(id) => write!(f, "cookie:{id:016x}"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "ip:{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "ip:{ip}/64"),
        }
    }
}

/// Fits after "failed to read the client: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a client as the gateway calls it, such as \"bearer:…\", \"key:…\", \"cookie:…\" with \
     16 hexadecimal digits or \"ip:192.0.2.7\", not {0:?}"
)]
pub struct ClientKeyError(String);

impl FromStr for ClientKey {
    type Err = ClientKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |text: &str| {
            let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let whole = text.len() == 16 && text.bytes().all(is_hex);
            whole.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        let key = match text.split_once(':') {
            Some(("bearer", id)) => digits(id).map(Self::Bearer),
            Some(("key", id)) => digits(id).map(Self::Header),
            Some(("cookie", id)) => digits(id).map(Self::Cookie),
            Some(("ip", ip)) => match ip.split_once('/') {
                Some((net, "64")) => net.parse().ok().map(IpAddr::V6).map(prefix),
                Some(_) => None,
                None => ip.parse().ok().map(IpAddr::V4),
            }
            .map(Self::Ip),
            _ => None,
        };
        // What is not written as we write it is another client, or none.
        let canonical = key.filter(|key| key.to_string() == text);
        canonical.ok_or_else(|| ClientKeyError(text.chars().take(80).collect()))
    }
}

/// The caller of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub key: ClientKey,
    /// The address behind the trusted proxies.
    pub ip: IpAddr,
    pub tenant: Tenant,
    /// Whether the peer on the socket is a trusted proxy, so that its word is taken for the
    /// request id and the forwarded headers.
    pub via_trusted_proxy: bool,
}

/// [`ClientConfig`], ready to use.
#[derive(Clone)]
pub struct ClientResolver {
    tenant: HeaderName,
    identity: Vec<IdentitySource>,
    trusted: Vec<IpNet>,
    hasher: SipHasher24,
}

impl ClientResolver {
    /// Returns the fault in words where the tenant's header is no header name.
    pub fn new(config: &ClientConfig, key: &[u8; 16]) -> Result<Self, String> {
        let tenant = config.tenant.header.parse().map_err(|_| {
            format!("client.tenant.header: {:?} is not a header name", config.tenant.header)
        })?;
        Ok(Self {
            tenant,
            identity: config.identity.clone(),
            trusted: config.trusted_proxies.clone(),
            hasher: SipHasher24::new_with_key(key),
        })
    }

    pub fn is_trusted(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted.iter().any(|net| net.contains(&ip))
    }

    /// Says who sent `headers` over a connection from `peer`.
    pub fn resolve(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        let via_trusted_proxy = self.is_trusted(peer);
        let ip = if via_trusted_proxy { self.forwarded_for(peer, headers) } else { peer };
        let key = self
            .identity
            .iter()
            .find_map(|source| self.identify(source, ip, headers))
            .unwrap_or_else(|| ClientKey::Ip(prefix(ip)));
        Client { key, ip, tenant: self.tenant(headers), via_trusted_proxy }
    }

    fn identify(
        &self,
        source: &IdentitySource,
        ip: IpAddr,
        headers: &HeaderMap,
    ) -> Option<ClientKey> {
        match source {
            IdentitySource::Bearer => {
                let value = headers.get(header::AUTHORIZATION)?.as_bytes();
                let (scheme, token) = value.split_at_checked(7)?;
                (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty())
                    .then(|| ClientKey::Bearer(self.hash(token)))
            }
            IdentitySource::Header(name) => {
                let value = headers.get(name)?.as_bytes();
                (!value.is_empty()).then(|| ClientKey::Header(self.hash(value)))
            }
            IdentitySource::Cookie(name) => {
                cookie(headers, name).map(|value| ClientKey::Cookie(self.hash(value)))
            }
            IdentitySource::Ip => Some(ClientKey::Ip(prefix(ip))),
        }
    }

    fn hash(&self, secret: &[u8]) -> u64 {
        let mut hasher = self.hasher;
        hasher.write(secret);
        hasher.finish()
    }

    fn tenant(&self, headers: &HeaderMap) -> Tenant {
        let mut values = headers.get_all(&self.tenant).iter();
        // The gateway and the service could each take another one of two.
        let only = values.next().filter(|_| values.next().is_none());
        only.and_then(|value| value.to_str().ok())
            .filter(|text| is_tenant(text))
            .and_then(|text| Tenant::from(text).ok())
            .unwrap_or_default()
    }

    /// Walks the forwarded addresses from the right, past trusted ones. What cannot be read ends
    /// the walk at the last address that could, so a forged entry never becomes the client.
    fn forwarded_for(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = if headers.contains_key(X_FORWARDED_FOR)
        {
            (X_FORWARDED_FOR, parse_hop)
        } else {
            (header::FORWARDED, parse_forwarded)
        };
        let mut nearest = peer;
        for value in headers.get_all(name).into_iter().rev() {
            for hop in value.as_bytes().rsplit(|byte| *byte == b',') {
                let Some(ip) = std::str::from_utf8(hop).ok().and_then(read) else {
                    return nearest;
                };
                nearest = ip;
                if !self.is_trusted(ip) {
                    return nearest;
                }
            }
        }
        nearest
    }

    /// The scheme that the client used, where the peer is a trusted proxy that says so.
    pub fn forwarded_https(&self, client: &Client, headers: &HeaderMap) -> Option<bool> {
        if !client.via_trusted_proxy {
            return None;
        }
        // A list names the hops; the last one is the proxy next to us.
        let value = headers.get_all(X_FORWARDED_PROTO).into_iter().next_back()?.as_bytes();
        match value.rsplit(|byte| *byte == b',').next()?.trim_ascii() {
            b"https" => Some(true),
            b"http" => Some(false),
            _ => None,
        }
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl fmt::Debug for ClientResolver {
    /// The key is a secret and stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientResolver").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Reads `203.0.113.7`, `203.0.113.7:1234`, `2001:db8::1` or `[2001:db8::1]:1234`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<std::net::SocketAddr>().map(|addr| addr.ip()))
        .or_else(|_| text.trim_start_matches('[').trim_end_matches(']').parse())
        .ok()?;
    Some(ip.to_canonical())
}

/// Reads the `for` of one element of `Forwarded`: `for=192.0.2.60;proto=http`.
fn parse_forwarded(element: &str) -> Option<IpAddr> {
    let node = element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    parse_hop(node.trim_matches('"'))
}

/// What counts as one address: all of IPv4, the network half of IPv6, since a single host
/// commonly has 2^64 addresses to choose from.
pub fn prefix(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
    }
}

/// The value of the first cookie called `name`; an empty one counts as absent.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get_all(header::COOKIE).into_iter().find_map(|value| {
        let mut rest = value.as_bytes();
        loop {
            let end = memchr::memchr(b';', rest);
            let pair = &rest[..end.unwrap_or(rest.len())];
            if let Some(value) = value_of(pair.trim_ascii(), name) {
                return Some(value);
            }
            rest = &rest[end? + 1..];
        }
    })
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    (!value.is_empty()).then_some(value)
}

/// Whether a request can name `text` as its tenant.
pub fn is_tenant(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=Tenant::new_const().capacity()).contains(&text.len()) && text.bytes().all(plain)
}

/// What [`is_tenant`] asks for.
pub const TENANT_WANTED: &str = "expected 1 to 48 letters, digits, dots, colons, dashes or underscores: a request can name no other tenant";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_client_is_refused() {
        for text in [
            "",
            "acme",
            "bearer:",
            "bearer:abc",
            "bearer:0000000000000ABC",
            "bearer:0000000000000abc0",
            "token:0000000000000abc",
            "ip:",
            "ip:2001:db8::1",
            "ip:2001:db8::1/64",
            "ip:2001:db8::/48",
            "ip:192.0.2.7/64",
            "~other",
        ] {
            assert!(text.parse::<ClientKey>().is_err(), "{text}");
        }
        let long = "x".repeat(1 << 20).parse::<ClientKey>().unwrap_err();
        assert!(long.to_string().len() < 300);
    }

    proptest! {
        #[test]
        fn a_client_is_read_as_it_is_written(id: u64, kind in 0..5_u8, ip: u128) {
            let key = match kind {
                0 => ClientKey::Bearer(id),
                1 => ClientKey::Header(id),
                2 => ClientKey::Cookie(id),
                3 => ClientKey::Ip(IpAddr::from((id as u32).to_be_bytes())),
                _ => ClientKey::Ip(prefix(Ipv6Addr::from(ip).into())),
            };
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn resolver() -> ClientResolver {
        let config = ClientConfig {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            ..ClientConfig::default()
        };
        ClientResolver::new(&config, &[7; 16]).unwrap()
    }

    #[test]
    fn the_address_is_counted_from_the_right_over_trusted_proxies() {
        let cases: [(&str, &[&str], &str); 9] = [
            ("203.0.113.1", &["1.1.1.1"], "203.0.113.1"),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6", "1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["1.1.1.1:80"], "1.1.1.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
        ];
        for (peer, forwarded, want) in cases {
            let fields: Vec<_> = forwarded.iter().map(|v| ("x-forwarded-for", *v)).collect();
            let client = resolver().resolve(peer.parse().unwrap(), &headers(&fields));
            assert_eq!(client.ip, want.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn forwarded_is_read_where_there_is_no_x_forwarded_for() {
        for (value, want) in [
            ("for=1.1.1.1", "1.1.1.1"),
            ("for=6.6.6.6, FOR=\"[2001:db8::1]:80\";proto=https, for=10.0.0.2", "2001:db8::1"),
            ("for=_hidden, for=10.0.0.2", "10.0.0.2"),
            ("proto=https", "10.0.0.1"),
        ] {
            let sent = headers(&[("forwarded", value)]);
            let client = resolver().resolve("10.0.0.1".parse().unwrap(), &sent);
            assert_eq!(client.ip, want.parse::<IpAddr>().unwrap(), "{value}");
        }
    }

    #[test]
    fn the_scheme_is_taken_from_trusted_proxies_alone() {
        for (peer, value, want) in [
            ("10.0.0.1", "https", Some(true)),
            ("10.0.0.1", "https, http", Some(false)),
            ("10.0.0.1", "gopher", None),
            ("203.0.113.1", "https", None),
        ] {
            let sent = headers(&[("x-forwarded-proto", value)]);
            let client = resolver().resolve(peer.parse().unwrap(), &sent);
            assert_eq!(resolver().forwarded_https(&client, &sent), want, "{peer} {value}");
        }
    }

    #[test]
    fn the_first_identity_present_wins_and_no_secret_is_kept() {
        let kind = |fields: &[(&str, &str)]| {
            let key = resolver().resolve("203.0.113.9".parse().unwrap(), &headers(fields)).key;
            let text = key.to_string();
            assert!(!text.contains("hunter2"), "{text}");
            text.split(':').next().unwrap().to_owned()
        };
        assert_eq!(kind(&[("authorization", "Bearer hunter2"), ("x-api-key", "k")]), "bearer");
        assert_eq!(kind(&[("authorization", "Basic hunter2"), ("x-api-key", "hunter2")]), "key");
        assert_eq!(kind(&[("cookie", "a=b; session=hunter2")]), "cookie");
        assert_eq!(kind(&[("cookie", "session=; xsession=1")]), "ip");
        assert_eq!(kind(&[("authorization", "Bearer ")]), "ip");
    }

    #[test]
    fn ipv6_clients_are_one_per_network() {
        let of = |ip: &str| resolver().resolve(ip.parse().unwrap(), &HeaderMap::new()).key;
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("2001:db8::1").to_string(), "ip:2001:db8::/64");
    }

    #[test]
    fn a_tenant_is_a_plain_name_or_nobody() {
        let long = "x".repeat(49);
        for (value, want) in [("acme", "acme"), ("a/b", ""), (long.as_str(), ""), ("", "")] {
            let client = resolver()
                .resolve("203.0.113.9".parse().unwrap(), &headers(&[("x-tenant-id", value)]));
            assert_eq!(client.tenant.as_str(), want);
        }
    }

    #[test]
    fn two_tenants_are_none() {
        let twice = headers(&[("x-tenant-id", "acme"), ("x-tenant-id", "globex")]);
        let client = resolver().resolve("203.0.113.9".parse().unwrap(), &twice);
        assert_eq!(client.tenant.as_str(), "");
    }

    #[test]
    fn identity_sources_are_read_and_written() {
        for text in ["bearer", "header:x-api-key", "cookie:session", "ip"] {
            assert_eq!(text.parse::<IdentitySource>().unwrap().to_string(), text);
        }
        for text in ["", "jwt", "header:", "header:a b", "cookie:", "cookie:a;b", "ip:1"] {
            assert_eq!(text.parse::<IdentitySource>(), Err(IdentitySourceError(text.to_owned())));
        }
    }
}
