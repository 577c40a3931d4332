//! What a worker reports of one request: a fixed-size value that is copied into a ring.
//!
//! Nothing in it points anywhere, so writing one takes no allocation and no lock. Names are
//! kept as ids ([`RouteId`]) or in bounded inline text; what does not fit is cut, and says so.

use arrayvec::ArrayString;

use crate::client::ClientKey;
use crate::consumer::{Agent, ConsumerKind};
use crate::evidence::Lane;
use crate::problem::Code;

/// Protections a registry can hold; [`Verdicts`] keeps two bits for each.
pub const PROTECTIONS_MAX: usize = 32;

/// A route as the telemetry knows it: an index into a table of names that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u16);

/// A rule as the telemetry knows it: an index into a table of names that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u16);

/// What a client, the service and the logs call this request. At most 64 characters of
/// `[A-Za-z0-9._-]`.
pub type RequestId = ArrayString<64>;

/// Whose data a request is about; empty where it does not say.
pub type Tenant = ArrayString<48>;

/// The path of a request, cut at a character where it is longer. Never the query: queries
/// carry secrets.
pub type PathText = ArrayString<120>;

/// The methods that have a name of their own in telemetry; a bound on label values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MethodLabel {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    /// Anything else, as the semantic conventions write it.
    Other,
}

impl MethodLabel {
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
        Self::Options,
        Self::Trace,
        Self::Other,
    ];

    pub fn of(method: &http::Method) -> Self {
        match *method {
            http::Method::GET => Self::Get,
            http::Method::HEAD => Self::Head,
            http::Method::POST => Self::Post,
            http::Method::PUT => Self::Put,
            http::Method::PATCH => Self::Patch,
            http::Method::DELETE => Self::Delete,
            http::Method::OPTIONS => Self::Options,
            http::Method::TRACE => Self::Trace,
            _ => Self::Other,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Other => "_OTHER",
        }
    }
}

/// What one protection said of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// Off, not applicable, or not reached.
    NotJudged,
    Allow,
    /// Would have been denied: the mode is `warn`, or the client is outside the share.
    WouldDeny,
    Deny,
}

/// The verdicts of all protections on one request, two bits each, by registry position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Verdicts(u64);

impl Verdicts {
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Where there is a verdict.
    pub fn judged(self) -> impl Iterator<Item = (usize, Verdict)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let protection = (rest.trailing_zeros() / 2) as usize;
            (rest != 0).then(|| {
                rest &= !(0b11 << (2 * protection));
                (protection, self.get(protection))
            })
        })
    }

    pub fn set(&mut self, protection: usize, verdict: Verdict) {
        assert!(protection < PROTECTIONS_MAX, "the registry holds at most {PROTECTIONS_MAX}");
        self.0 &= !(0b11 << (2 * protection));
        self.0 |= (verdict as u64) << (2 * protection);
    }

    pub fn get(self, protection: usize) -> Verdict {
        match (self.0 >> (2 * protection)) & 0b11 {
            0 => Verdict::NotJudged,
            1 => Verdict::Allow,
            2 => Verdict::WouldDeny,
            _ => Verdict::Deny,
        }
    }

    /// The registry positions with this verdict.
    pub fn with(self, verdict: Verdict) -> impl Iterator<Item = usize> {
        (0..PROTECTIONS_MAX).filter(move |index| self.get(*index) == verdict)
    }

    /// Whether a position has this verdict; all of them at once, as the sampler asks for each
    /// request.
    pub fn any(self, verdict: Verdict) -> bool {
        const LOW: u64 = u64::MAX / 0b11;
        let differs = self.0 ^ (LOW * verdict as u64);
        (differs | differs >> 1) & LOW != LOW
    }
}

/// Some of the protections, by registry position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Positions(u32);

impl Positions {
    pub const fn insert(&mut self, protection: usize) {
        assert!(protection < PROTECTIONS_MAX, "the registry holds no more");
        self.0 |= 1 << protection;
    }

    pub const fn contains(self, protection: usize) -> bool {
        self.0 >> protection & 1 == 1
    }

    pub const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Those of `self` that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// What the evidence is told of a judgement beside the verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Where the client is in the enforced share of the rule that judged it.
    pub enforced: Positions,
    /// Where the check took longer than the latency budget.
    pub slow: Positions,
    /// Where that of the version did that is to take a rule's place.
    pub next_slow: Positions,
    /// What the versions said that are to take a rule's place.
    pub next: Verdicts,
    /// Where such a version was enforced, in place of the present one.
    pub next_enforced: Positions,
}

impl Marks {
    /// Where the check of a rule's version in `lane` was slow.
    pub fn slow_in(&mut self, lane: Lane) -> &mut Positions {
        match lane {
            Lane::Current => &mut self.slow,
            Lane::Next => &mut self.next_slow,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ending {
    /// The service answered and the answer went out whole.
    Served,
    /// The gateway answered by itself: a preflight, a token, a page of its own.
    Answered,
    /// A protection denied it.
    Denied,
    /// The gateway could not make sense of it and refused it before any protection.
    Refused,
    /// The service could not be reached, broke off or answered nonsense.
    UpstreamFailed,
    /// The client went away first.
    ClientGone,
}

impl Ending {
    pub const ALL: [Self; 6] = [
        Self::Served,
        Self::Answered,
        Self::Denied,
        Self::Refused,
        Self::UpstreamFailed,
        Self::ClientGone,
    ];

    /// Whether the service did what it was asked, so that denying it would have broken a real
    /// client: a would-denial of such a request is harm.
    pub const fn was_success(self, status: u16) -> bool {
        matches!(self, Self::Served | Self::ClientGone) && matches!(status, 101 | 200..=399)
    }

    /// Whether the service failed: it answered with 5xx, or not at all.
    pub const fn was_failure(self, status: u16) -> bool {
        match self {
            Self::Served | Self::ClientGone => matches!(status, 500..=599),
            Self::UpstreamFailed => true,
            Self::Answered | Self::Denied | Self::Refused => false,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Answered => "answered",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::UpstreamFailed => "upstream_failed",
            Self::ClientGone => "client_gone",
        }
    }
}

/// One request, as the evidence and the telemetry see it.
#[derive(Clone, Copy, Debug)]
pub struct RequestRecord {
    pub id: RequestId,
    /// Unix time in milliseconds at which the head was complete.
    pub started_unix_ms: i64,
    /// Head complete to last byte of the answer handed to the socket, in microseconds.
    pub duration_us: u32,
    /// The part of `duration_us` spent waiting for the service's response head; 0 where the
    /// service was not asked.
    pub upstream_us: u32,
    /// The operation of the service, else the config's route.
    pub route: RouteId,
    /// The config's route, whose settings the request fell under.
    pub settings: RouteId,
    pub method: MethodLabel,
    /// The status that the client was sent; 499 where it was gone before one could be.
    pub status: u16,
    pub ending: Ending,
    pub client: ClientKey,
    pub kind: ConsumerKind,
    pub agent: Agent,
    pub tenant: Tenant,
    pub path: PathText,
    /// Body bytes received from the client.
    pub request_bytes: u64,
    /// Body bytes sent to the client.
    pub response_bytes: u64,
    pub verdicts: Verdicts,
    pub marks: Marks,
    /// The first denial, else the first would-denial, else why the gateway failed.
    pub reason: Option<Code>,
    /// The position of the upstream in the config, where one was asked.
    pub upstream: Option<u8>,
}

/// Copies as much of `text` as fits, whole characters only.
pub fn clip<const N: usize>(text: &str) -> ArrayString<N> {
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).map(|text| ArrayString::from(text).expect("cut to fit")).unwrap_or_default()
}

/// As [`clip`], with "…" at the end of what was cut: for people, who would take it for the whole.
pub fn abridge<const N: usize>(text: &str) -> ArrayString<N> {
    const ELLIPSIS: char = '…';
    if text.len() <= N {
        return clip(text);
    }
    let mut end = N.saturating_sub(ELLIPSIS.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut short = clip(text.get(..end).unwrap_or_default());
    short.push(ELLIPSIS);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_keep_two_bits_each() {
        let mut verdicts = Verdicts::default();
        verdicts.set(0, Verdict::Allow);
        verdicts.set(31, Verdict::Deny);
        verdicts.set(5, Verdict::Deny);
        verdicts.set(5, Verdict::WouldDeny);
        assert_eq!(verdicts.get(0), Verdict::Allow);
        for verdict in [Verdict::NotJudged, Verdict::Allow, Verdict::WouldDeny, Verdict::Deny] {
            assert!(verdicts.any(verdict), "{verdict:?}");
            let only = Verdicts::default();
            assert_eq!(only.any(verdict), verdict == Verdict::NotJudged, "{verdict:?}");
        }
        assert_eq!(verdicts.get(1), Verdict::NotJudged);
        assert_eq!(verdicts.with(Verdict::WouldDeny).collect::<Vec<_>>(), [5]);
        assert_eq!(verdicts.with(Verdict::Deny).collect::<Vec<_>>(), [31]);
        let judged = [(0, Verdict::Allow), (5, Verdict::WouldDeny), (31, Verdict::Deny)];
        assert_eq!(verdicts.judged().collect::<Vec<_>>(), judged);
    }

    /// Every worker's ring holds 8192 of them, 3.25 MiB, and each is copied twice. Whoever adds a
    /// field sees here what it costs.
    #[test]
    fn a_record_is_small() {
        assert!(size_of::<RequestRecord>() <= 416, "{}", size_of::<RequestRecord>());
    }

    #[test]
    fn clipping_keeps_characters_whole() {
        assert_eq!(clip::<4>("aéé").as_str(), "aé");
        assert_eq!(clip::<4>("ab").as_str(), "ab");
    }

    #[test]
    fn what_people_read_says_that_it_was_cut() {
        for (text, want) in [("abcd", "abcd"), ("abcde", "a…"), ("éééé", "…"), ("", "")] {
            assert_eq!(abridge::<4>(text).as_str(), want, "{text}");
        }
    }
}
