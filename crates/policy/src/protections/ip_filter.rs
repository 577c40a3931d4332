//! Lets in or keeps out addresses.
//!
//! 1. The address is the client's: the peer's, or the one behind the trusted proxies.
//! 2. `deny` wins over `allow`.
//! 3. A list of allowed networks denies all others. An empty one allows what is not denied.
//! 4. Where both are empty nothing was asked for, and no evidence is left.
//! 5. Overlapping and adjacent networks are merged and sorted, so a block list of 100 000
//!    networks costs a request seventeen comparisons.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::mode::ModeSetting;
use crate::problem::{Code, Denial};
use crate::protection::{Effects, Outcome, Protection, Request};
use crate::quantity::serde_as_text;
use crate::registry::{BuildError, Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "ip_filter",
    summary: "Lets in or keeps out the addresses of listed networks.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a real client may call from an address that nobody expected",
    codes: &[Code::IpDenied],
    mode: |protect| protect.ip_filter.mode,
    settings: |protect| settings_of(&protect.ip_filter),
    build: |protect, _| Ok(Arc::new(IpFilter::build(&protect.ip_filter)?)),
    ..Entry::PLAIN
};

/// `[protect.ip_filter]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// The only networks that are let in. Empty by default: everyone is.
    pub allow: Vec<Network>,
    /// Networks that are kept out. Empty by default.
    pub deny: Vec<Network>,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: ENTRY.default_mode, allow: Vec::new(), deny: Vec::new() }
    }
}

/// `203.0.113.0/24`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// Fits after "failed to read the network: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a network such as \"203.0.113.0/24\" or \"2001:db8::/32\", or an address, not {0:?}"
)]
pub struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| NetworkError(text.to_owned()))?;
        // Clients' addresses are canonical, so IPv4 in IPv6's clothes would never match.
        let mapped = match net {
            IpNet::V6(net) if net.prefix_len() >= 96 => {
                let len = net.prefix_len() - 96;
                net.addr().to_ipv4_mapped().and_then(|ip| Ipv4Net::new(ip, len).ok())
            }
            _ => None,
        };
        Ok(Self(mapped.map_or(net, IpNet::V4).trunc()))
    }
}

impl Network {
    /// Whether the canonical address `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(Network);

/// Networks of one list: 20 MiB.
const NETWORKS_MAX: usize = 1 << 20;

struct IpFilter {
    allow: Networks,
    deny: Networks,
}

/// Disjoint networks in the order of their addresses.
struct Networks(Box<[IpNet]>);

impl IpFilter {
    fn build(config: &Config) -> Result<Self, BuildError> {
        for (key, list) in [("allow", &config.allow), ("deny", &config.deny)] {
            if list.len() > NETWORKS_MAX {
                let message = format!("at most {NETWORKS_MAX} networks a list");
                return Err(BuildError { key, message });
            }
        }
        Ok(Self { allow: Networks::new(&config.allow), deny: Networks::new(&config.deny) })
    }
}

impl Networks {
    fn new(list: &[Network]) -> Self {
        let mut nets = IpNet::aggregate(&list.iter().map(|network| network.0).collect());
        nets.sort_unstable();
        Self(nets.into())
    }

    /// The network that `ip` is in.
    fn find(&self, ip: IpAddr) -> Option<IpNet> {
        let after = self.0.partition_point(|net| net.network() <= ip);
        let candidate = self.0.get(after.checked_sub(1)?)?;
        candidate.contains(&ip).then_some(*candidate)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Protection for IpFilter {
    fn is_inert(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    fn check(&self, request: &Request<'_>, _effects: &mut Effects) -> Outcome {
        if self.is_inert() {
            return Outcome::NotApplicable;
        }
        let ip = request.client.ip;
        if let Some(net) = self.deny.find(ip) {
            return Outcome::Deny(denied(ip).internal(format!("{ip} is in denied network {net}")));
        }
        if !self.allow.is_empty() && self.allow.find(ip).is_none() {
            return Outcome::Deny(denied(ip).internal(format!("{ip} is in no allowed network")));
        }
        Outcome::Allow
    }
}

/// The client is told its address as the gateway sees it: behind NAT or a proxy it may not know.
fn denied(ip: IpAddr) -> Denial {
    Denial::new(Code::IpDenied, format!("requests from the address {ip} are not accepted"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Sample, build, fault};

    #[test]
    fn deny_wins_and_allow_is_exclusive() {
        let both = r#"allow = ["10.0.0.0/8", "2001:db8::/32"]
            deny = ["10.66.0.0/16", "2001:db8:dead::/48"]"#;
        let only_deny = r#"deny = ["203.0.113.0/25", "203.0.113.128/25", "198.51.100.9"]"#;
        let mapped = r#"allow = ["::ffff:192.0.2.0/120"]"#;
        for (lines, ip, want) in [
            ("", "203.0.113.7", "n/a"),
            (both, "10.1.2.3", "allow"),
            (both, "10.66.0.1", "ip-denied"),
            (both, "11.0.0.1", "ip-denied"),
            (both, "2001:db8::1", "allow"),
            (both, "2001:db8:dead::1", "ip-denied"),
            (both, "2001:db9::1", "ip-denied"),
            (both, "::a:0:1", "ip-denied"),
            (only_deny, "203.0.113.200", "ip-denied"),
            (only_deny, "203.0.112.255", "allow"),
            (only_deny, "203.0.114.0", "allow"),
            (only_deny, "198.51.100.9", "ip-denied"),
            (only_deny, "198.51.100.8", "allow"),
            (only_deny, "0.0.0.0", "allow"),
            (only_deny, "2001:db8::1", "allow"),
            (mapped, "192.0.2.1", "allow"),
            (mapped, "192.0.3.1", "ip-denied"),
        ] {
            let sample = Sample::new("GET", "/", &[]).with_ip(ip);
            assert_eq!(sample.verdict(&*build(&ENTRY, lines)), want, "{lines} {ip}");
        }
    }

    #[test]
    fn the_client_is_told_its_address_and_the_operator_the_network() {
        let filter = build(&ENTRY, r#"deny = ["203.0.113.0/24"]"#);
        let denial = Sample::new("GET", "/", &[]).denial(&*filter);
        assert_eq!(denial.detail, "requests from the address 203.0.113.7 are not accepted");
        assert_eq!(denial.internal, "203.0.113.7 is in denied network 203.0.113.0/24");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0", "localhost", "::/129"] {
            let said = fault(&ENTRY, &format!("deny = [{text:?}]"));
            assert!(said.contains("expected a network") && said.contains(text), "{said}");
        }
    }
}
