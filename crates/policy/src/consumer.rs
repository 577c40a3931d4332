//! Who stands behind a client: the operator's own programs, the world outside, or nobody knows.
//!
//! 1. A network is a fact and a User-Agent a claim that anyone can make, so networks decide first:
//!    an address in the networks of one kind has that kind.
//! 2. An address in no network has the kind whose patterns its User-Agent fits.
//! 3. What both kinds claim at the same step, or neither at any, is unknown.
//! 4. A kind is for people to read. No protection sees it and no decision depends on it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use arrayvec::ArrayString;
use http::{HeaderMap, header};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::protections::ip_filter::Network;
use crate::quantity::serde_as_text;

/// The `User-Agent` of a request: its printable ASCII; of more than 64 characters the first 61 and
/// "…". Empty where there is none.
pub type Agent = ArrayString<64>;

/// `[consumers]` of the config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsumersConfig {
    /// The operator's own programs and people. Default: nobody, since only the operator knows.
    pub internal: KindRules,
    /// Everyone who is not. Default: nobody.
    pub external: KindRules,
}

/// What makes a request one of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KindRules {
    /// Networks that its address may be in.
    pub networks: Vec<Network>,
    /// What its User-Agent may be.
    pub agents: Vec<AgentPattern>,
}

/// Items of one list: a request without a match walks all of them.
pub const ITEMS_MAX: usize = 64;

/// A User-Agent, or with `*` at its end the beginning of one; capitals do not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPattern {
    /// Without the `*`.
    text: String,
    is_prefix: bool,
}

/// Fits after "failed to read the pattern: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentPatternError {
    #[error(
        "expected a User-Agent such as \"curl/8.5.0\", or its beginning such as \"curl/*\", not {0:?}"
    )]
    Form(String),
    /// A User-Agent is compared as far as it is kept, so that a longer text could never match.
    #[error("expected at most {PATTERN_MAX} characters, not {0}")]
    Length(usize),
}

/// What an [`Agent`] keeps of a longer one, beside the "…" that ends it.
const PATTERN_MAX: usize = 61;

impl FromStr for AgentPattern {
    type Err = AgentPatternError;

    fn from_str(pattern: &str) -> Result<Self, Self::Err> {
        let (text, is_prefix) = match pattern.strip_suffix('*') {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if pattern.is_empty() || text.contains('*') || !text.bytes().all(printable) {
            return Err(AgentPatternError::Form(pattern.to_owned()));
        }
        if text.len() > PATTERN_MAX {
            return Err(AgentPatternError::Length(text.len()));
        }
        Ok(Self { text: text.to_owned(), is_prefix })
    }
}

impl fmt::Display for AgentPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}

serde_as_text!(AgentPattern);

impl AgentPattern {
    fn fits(&self, agent: &str) -> bool {
        let (agent, text) = (agent.as_bytes(), self.text.as_bytes());
        match agent.get(..text.len()) {
            Some(begin) if self.is_prefix || agent.len() == text.len() => {
                begin.eq_ignore_ascii_case(text)
            }
            _ => false,
        }
    }
}

/// The kind of a request's caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ConsumerKind {
    #[default]
    Unknown,
    Internal,
    External,
}

/// Fits after "failed to read the kind: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected \"internal\", \"external\" or \"unknown\", not {0:?}")]
pub struct ConsumerKindError(String);

impl ConsumerKind {
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Internal, Self::External];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Internal => "internal",
            Self::External => "external",
        }
    }
}

impl FromStr for ConsumerKind {
    type Err = ConsumerKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| ConsumerKindError(text.to_owned()))
    }
}

impl fmt::Display for ConsumerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

serde_as_text!(ConsumerKind);

/// Says of what kind the caller at `ip` is that calls itself `agent`.
pub fn classify(rules: &ConsumersConfig, ip: IpAddr, agent: &str) -> ConsumerKind {
    let ConsumersConfig { internal, external } = rules;
    let at_ip = |rules: &KindRules| rules.networks.iter().any(|network| network.contains(ip));
    let of_agent = |rules: &KindRules| rules.agents.iter().any(|pattern| pattern.fits(agent));
    match (at_ip(internal), at_ip(external)) {
        (true, true) => ConsumerKind::Unknown,
        (true, false) => ConsumerKind::Internal,
        (false, true) => ConsumerKind::External,
        (false, false) => match (of_agent(internal), of_agent(external)) {
            (true, false) => ConsumerKind::Internal,
            (false, true) => ConsumerKind::External,
            _ => ConsumerKind::Unknown,
        },
    }
}

/// What the caller calls itself. Other bytes than printable ASCII are left out: they have no
/// business there, and what is shown must not steer a terminal.
pub fn agent(headers: &HeaderMap) -> Agent {
    let mut agent = Agent::new();
    let Some(value) = headers.get(header::USER_AGENT) else { return agent };
    let value = value.as_bytes();
    let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if let Some(begin) = value.get(..value.len().min(agent.capacity()))
        && begin.iter().all(printable)
        && let Ok(text) = std::str::from_utf8(begin)
    {
        // What nearly every client sends, taken at once.
        agent.push_str(text);
        if value.len() > agent.capacity() && value[agent.capacity()..].iter().any(printable) {
            cut(&mut agent);
        }
        return agent;
    }
    for byte in value.iter().copied().filter(printable) {
        if agent.try_push(char::from(byte)).is_err() {
            cut(&mut agent);
            break;
        }
    }
    agent
}

/// Says of `agent`, which is full, that it went on.
fn cut(agent: &mut Agent) {
    agent.truncate(PATTERN_MAX);
    agent.push('…');
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn rules(internal: (&str, &str), external: (&str, &str)) -> ConsumersConfig {
        let list = |text: &str| -> Vec<String> {
            text.split(", ").filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let kind = |(networks, agents): (&str, &str)| KindRules {
            networks: list(networks).iter().map(|network| network.parse().unwrap()).collect(),
            agents: list(agents).iter().map(|agent| agent.parse().unwrap()).collect(),
        };
        ConsumersConfig { internal: kind(internal), external: kind(external) }
    }

    #[test]
    fn networks_decide_then_agents_and_a_tie_is_unknown() {
        use ConsumerKind::{External, Internal, Unknown};
        let rules = rules(
            ("10.0.0.0/8, 2001:db8::/32, 192.0.2.1", "helpdesk-worker/*, Probe, both*"),
            ("10.9.0.0/16, 203.0.113.0/24", "Mozilla/*, both/2"),
        );
        for (name, ip, agent, kind) in [
            ("in an internal network", "10.1.2.3", "", Internal),
            ("in an internal network of IPv6", "2001:db8:1::5", "", Internal),
            ("a single address", "192.0.2.1", "", Internal),
            ("in an external network", "203.0.113.9", "", External),
            ("in networks of both", "10.9.0.1", "", Unknown),
            ("in networks of both, whatever it says", "10.9.0.1", "helpdesk-worker/1", Unknown),
            ("the network outweighs the agent", "203.0.113.9", "helpdesk-worker/1", External),
            ("and the other way round", "10.1.2.3", "Mozilla/5.0 (X11)", Internal),
            ("by its agent", "198.51.100.1", "helpdesk-worker/1.2", Internal),
            ("capitals do not matter", "198.51.100.1", "HelpDesk-Worker/1.2", Internal),
            ("the beginning alone", "198.51.100.1", "helpdesk-worker/", Internal),
            ("less than the beginning", "198.51.100.1", "helpdesk-worker", Unknown),
            ("a whole agent", "198.51.100.1", "probe", Internal),
            ("more than a whole agent", "198.51.100.1", "probe/1", Unknown),
            ("an external agent", "198.51.100.1", "mozilla/5.0", External),
            ("agents of both", "198.51.100.1", "both/2", Unknown),
            ("one of two that begin alike", "198.51.100.1", "both/1", Internal),
            ("nothing known", "198.51.100.1", "curl/8.5.0", Unknown),
            ("nothing said", "198.51.100.1", "", Unknown),
        ] {
            assert_eq!(classify(&rules, ip.parse().unwrap(), agent), kind, "{name}");
        }
        let nobody = ConsumersConfig::default();
        assert_eq!(classify(&nobody, [10, 0, 0, 1].into(), "probe"), Unknown);
    }

    #[test]
    fn a_star_alone_is_every_agent() {
        let rules = rules(("10.0.0.0/8", ""), ("", "*"));
        for (ip, agent, kind) in [
            ([10, 0, 0, 1], "curl", ConsumerKind::Internal),
            ([192, 0, 2, 1], "curl", ConsumerKind::External),
            ([192, 0, 2, 1], "", ConsumerKind::External),
        ] {
            assert_eq!(classify(&rules, ip.into(), agent), kind, "{ip:?} {agent:?}");
        }
    }

    #[test]
    fn patterns_are_read_and_written_and_nonsense_is_named() {
        for text in ["curl/*", "curl/8.5.0", "*", "Apache-HttpClient/4.5 (Java/17)"] {
            assert_eq!(text.parse::<AgentPattern>().unwrap().to_string(), text);
        }
        for text in ["", "a*b", "**", "*/8", "caf\u{e9}", "a\tb"] {
            let error = AgentPatternError::Form(text.to_owned());
            assert_eq!(text.parse::<AgentPattern>(), Err(error));
        }
        let long = "x".repeat(PATTERN_MAX + 1);
        assert_eq!(long.parse::<AgentPattern>(), Err(AgentPatternError::Length(62)));
        assert!(format!("{}*", "x".repeat(PATTERN_MAX)).parse::<AgentPattern>().is_ok());
        assert_eq!("mixed".parse::<ConsumerKind>(), Err(ConsumerKindError("mixed".to_owned())));
        for kind in ConsumerKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
    }

    #[test]
    fn an_agent_is_printable_and_short() {
        let long = "x".repeat(100);
        let (kept, mixed) = ("x".repeat(61) + "…", format!("\u{e9}{long}"));
        let (whole, more) = ("x".repeat(64), "x".repeat(65));
        for (sent, kept) in [
            ("curl/8.5.0", "curl/8.5.0"),
            ("caf\u{e9}/1 \u{2014} x", "caf/1  x"),
            ("a\tb", "ab"),
            ("", ""),
            (&long, &kept),
            (&mixed, &kept),
            (&whole, &whole),
            (&more, &kept),
            (&format!("{whole}\t"), &whole),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, HeaderValue::from_bytes(sent.as_bytes()).unwrap());
            assert_eq!(agent(&headers).as_str(), kept, "{sent:?}");
        }
        assert_eq!(agent(&HeaderMap::new()).as_str(), "");
    }
}
