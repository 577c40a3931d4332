//! Refuses requests for host names that the service is not published under, so that a forged
//! Host cannot poison caches or the links in a mail, and DNS rebinding finds nothing.
//!
//! 1. The host is what the client named in `:authority`, else in `Host`, without regard to case
//!    or to one dot at the end of the name.
//! 2. `*.example.com` stands for every name below example.com, however deep, and not for
//!    example.com itself.
//! 3. A host that is listed without a port matches any port. One with a port matches that port,
//!    and a request that names none has its scheme's: 80 or 443.
//! 4. An empty list allows every host and leaves no evidence: nobody has said anything yet.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::origin::{normal_host, split_port};
use super::quoted::Quoted;
use crate::mode::ModeSetting;
use crate::problem::{Code, Denial};
use crate::protection::{Effects, Outcome, Protection, Request, Scheme};
use crate::quantity::serde_as_text;
use crate::registry::{BuildError, Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "host_allowlist",
    summary: "Refuses requests for host names that the service is not published under.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a real client may use a name that nobody thought of listing",
    codes: &[Code::HostNotAllowed],
    mode: |protect| protect.host_allowlist.mode,
    settings: |protect| settings_of(&protect.host_allowlist),
    build: |protect, _| Ok(Arc::new(HostAllowlist::build(&protect.host_allowlist)?)),
    ..Entry::PLAIN
};

/// `[protect.host_allowlist]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// The names that the service is published under. Empty by default: only the operator knows
    /// them.
    pub hosts: Vec<HostPattern>,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: ENTRY.default_mode, hosts: Vec::new() }
    }
}

/// `example.com`, `*.example.com`, `example.com:8443`, `192.0.2.1` or `[2001:db8::1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    name: NamePattern,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum NamePattern {
    Exact(String),
    /// Every name that ends in this, which starts with a dot.
    Below(String),
}

/// Fits after "failed to read the host: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a host such as \"example.com\", \"*.example.com\" or \"example.com:8443\", not {text:?}: {why}"
)]
pub struct HostPatternError {
    pub text: String,
    pub why: &'static str,
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = |why| HostPatternError { text: text.to_owned(), why };
        let lower = text.to_ascii_lowercase();
        if lower == "*" {
            return Err(fault("an empty list allows every host"));
        }
        if lower.contains('/') {
            return Err(fault("a host has no scheme and no path"));
        }
        let (host, port) = split_port(&lower).ok_or_else(|| fault("its port is not a number"))?;
        let name = match host.strip_prefix("*.") {
            Some(parent) => NamePattern::Below(format!(".{}", normal_host(parent).map_err(fault)?)),
            None => NamePattern::Exact(normal_host(host).map_err(fault)?),
        };
        Ok(Self { name, port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            NamePattern::Exact(name) => f.write_str(name)?,
            NamePattern::Below(parent) => write!(f, "*{parent}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

serde_as_text!(HostPattern);

impl HostPattern {
    fn matches(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
            && match &self.name {
                NamePattern::Exact(name) => host == name,
                NamePattern::Below(parent) => {
                    host.len() > parent.len() && host.ends_with(parent.as_str())
                }
            }
    }
}

/// Hosts of one rule. All of them are looked at for a request, so there are not too many.
const HOSTS_MAX: usize = 256;

struct HostAllowlist {
    hosts: Vec<HostPattern>,
}

impl HostAllowlist {
    fn build(config: &Config) -> Result<Self, BuildError> {
        if config.hosts.len() > HOSTS_MAX {
            let message = format!("at most {HOSTS_MAX} hosts a rule");
            return Err(BuildError { key: "hosts", message });
        }
        Ok(Self { hosts: config.hosts.clone() })
    }

    fn allows(&self, request: &Request<'_>) -> bool {
        let Some((host, port)) = split_port(request.authority) else {
            return false;
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        let port = port.unwrap_or(match request.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        });
        self.hosts.iter().any(|pattern| pattern.matches(host, port))
    }
}

impl Protection for HostAllowlist {
    fn is_inert(&self) -> bool {
        self.hosts.is_empty()
    }

    fn check(&self, request: &Request<'_>, _effects: &mut Effects) -> Outcome {
        if self.is_inert() {
            Outcome::NotApplicable
        } else if self.allows(request) {
            Outcome::Allow
        } else {
            Outcome::Deny(self.denial(request))
        }
    }
}

impl HostAllowlist {
    fn denial(&self, request: &Request<'_>) -> Denial {
        let host = Quoted(request.authority.as_bytes());
        Denial::new(Code::HostNotAllowed, format!("{host} is not a host name of this service"))
            .internal(format!("{host} matches none of {} listed hosts", self.hosts.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Sample, build, fault};

    #[test]
    fn listed_hosts_pass() {
        let allowlist =
            build(&ENTRY, r#"hosts = ["a.example", "*.b.example", "C.example:8443", "[::1]"]"#);
        for (authority, scheme, want) in [
            ("a.example", Scheme::Http, "allow"),
            ("a.example:8080", Scheme::Http, "allow"),
            ("a.example:", Scheme::Http, "allow"),
            ("a.example.", Scheme::Http, "allow"),
            ("a.example..", Scheme::Http, "host-not-allowed"),
            ("x.a.example", Scheme::Http, "host-not-allowed"),
            ("xa.example", Scheme::Http, "host-not-allowed"),
            ("a.example.evil.example", Scheme::Http, "host-not-allowed"),
            ("x.b.example", Scheme::Http, "allow"),
            ("x.y.b.example:81", Scheme::Http, "allow"),
            ("b.example", Scheme::Http, "host-not-allowed"),
            (".b.example", Scheme::Http, "host-not-allowed"),
            ("xb.example", Scheme::Http, "host-not-allowed"),
            ("c.example:8443", Scheme::Https, "allow"),
            ("c.example", Scheme::Https, "host-not-allowed"),
            ("[::1]:8080", Scheme::Http, "allow"),
            ("a.example:http", Scheme::Http, "host-not-allowed"),
            ("", Scheme::Http, "host-not-allowed"),
        ] {
            let sample = Sample::new("GET", "/", &[]).at(scheme, authority);
            assert_eq!(sample.verdict(&*allowlist), want, "{authority}");
        }
    }

    #[test]
    fn a_request_without_a_port_has_its_schemes() {
        let allowlist = build(&ENTRY, r#"hosts = ["a.example:443"]"#);
        let verdict =
            |scheme| Sample::new("GET", "/", &[]).at(scheme, "a.example").verdict(&*allowlist);
        assert_eq!(verdict(Scheme::Https), "allow");
        assert_eq!(verdict(Scheme::Http), "host-not-allowed");
    }

    #[test]
    fn an_empty_list_says_nothing() {
        assert_eq!(Sample::new("GET", "/", &[]).verdict(&*build(&ENTRY, "")), "n/a");
    }

    #[test]
    fn the_client_is_told_which_host_it_named_and_none_that_is_listed() {
        let allowlist = build(&ENTRY, r#"hosts = ["secret.example"]"#);
        let denial = Sample::new("GET", "/", &[]).denial(&*allowlist);
        assert_eq!(denial.detail, "\"app.example\" is not a host name of this service");
        assert!(!denial.internal.contains("secret"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for (host, words) in [
            ("*", "an empty list allows every host"),
            ("https://a.example", "no scheme"),
            ("a.*.example", "wildcard"),
            ("*.", "no host"),
            ("a.example:x", "port"),
            ("::1", "port"),
            ("a b", "malformed"),
        ] {
            let said = fault(&ENTRY, &format!("hosts = [{host:?}]"));
            assert!(said.contains(words), "{said}");
        }
        let many: Vec<_> = (0..=HOSTS_MAX).map(|n| format!("h{n}.example")).collect();
        assert_eq!(fault(&ENTRY, &format!("hosts = {many:?}")), "hosts: at most 256 hosts a rule");
    }
}
