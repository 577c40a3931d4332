//! Faults on demand: late answers, failing answers, no answer at all.
//!
//! A fault is written as what happens, to how many, and where:
//!
//! ```text
//! latency=50ms..200ms@10%            one answer in ten is 50 to 200 ms late
//! status=503@0.5%                    one answer in two hundred is a 503
//! drop@1%@/api/messages              the connection ends instead of an answer, on one path
//! latency=2s                         without a share: every answer
//! ```
//!
//! [`FaultPlan`] decides what happens to each request. It draws from a seeded stream: the n-th
//! request that a fault could strike always meets the same fate.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::random::Random;

/// Something that goes wrong with some of the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer is late by a time between `min` and `max`, both included.
    Latency { min: Duration, max: Duration, scope: Scope },
    /// The answer is this status (400 to 599) with `{"error": "a fault was asked for"}`, and the
    /// request is not looked at.
    Status { status: StatusCode, scope: Scope },
    /// The TCP connection is closed, with every request on it, and nothing is answered.
    Drop { scope: Scope },
}

/// Which requests a fault may strike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// How many of them it strikes.
    pub share: Share,
    /// Only those of this path and below it; all where it is `None`. `/api/messages` covers
    /// `/api/messages/7` and not `/api/messages-of-others`.
    pub path: Option<String>,
}

/// A share of requests in basis points: 0 to 10,000, written in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

/// Why a fault could not be read. Fits after "failed to read the fault: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error(
        "expected latency=TIME, status=CODE or drop, such as \"status=503@5%@/api\", not {0:?}"
    )]
    Kind(String),
    #[error("expected a time such as \"200ms\", \"2s\" or \"50ms..200ms\", up to 600s, not {0:?}")]
    Latency(String),
    #[error("expected a status from 400 to 599, not {0:?}")]
    Status(String),
    #[error("expected a share from 0% to 100% in steps of 0.01%, not {0:?}")]
    Share(String),
    #[error("expected a share such as \"5%\" or a path such as \"/api\" once each, not {0:?}")]
    Scope(String),
}

/// The longest delay, so that no fault outlives every timeout of whoever waits for it.
const LATENCY_MAX: Duration = Duration::from_secs(600);

impl Share {
    pub const ALL: Self = Self(10_000);

    /// `None` above 10,000.
    pub const fn from_basis_points(basis_points: u16) -> Option<Self> {
        if basis_points <= Self::ALL.0 { Some(Self(basis_points)) } else { None }
    }

    pub const fn basis_points(self) -> u16 {
        self.0
    }
}

impl FromStr for Share {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let fault = || FaultError::Share(text.to_owned());
        let percent = text.strip_suffix('%').ok_or_else(fault)?;
        let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "0"));
        let digits = |part: &str, max: usize| {
            (1..=max).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, 3) || !digits(fraction, 2) {
            return Err(fault());
        }
        let whole: u16 = whole.parse().map_err(|_| fault())?;
        let hundredths: u16 = format!("{fraction:0<2}").parse().map_err(|_| fault())?;
        Self::from_basis_points(whole * 100 + hundredths).ok_or_else(fault)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, tenths) if tenths % 10 == 0 => write!(f, "{whole}.{}%", tenths / 10),
            (whole, hundredths) => write!(f, "{whole}.{hundredths:02}%"),
        }
    }
}

impl Scope {
    /// Every request.
    pub const ALL: Self = Self { share: Share::ALL, path: None };

    fn parse<'a>(parts: impl Iterator<Item = &'a str>) -> Result<Self, FaultError> {
        let (mut share, mut path) = (None, None);
        for part in parts {
            if part.starts_with('/') && path.is_none() {
                path = Some(part.to_owned());
            } else if part.ends_with('%') && share.is_none() {
                share = Some(part.parse()?);
            } else {
                return Err(FaultError::Scope(part.to_owned()));
            }
        }
        Ok(Self { share: share.unwrap_or(Share::ALL), path })
    }

    fn covers(&self, path: &str) -> bool {
        let Some(prefix) = &self.path else { return true };
        match path.strip_prefix(prefix.trim_end_matches('/')) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.share != Share::ALL {
            write!(f, "@{}", self.share)?;
        }
        match &self.path {
            Some(path) => write!(f, "@{path}"),
            None => Ok(()),
        }
    }
}

impl Fault {
    fn scope(&self) -> &Scope {
        match self {
            Self::Latency { scope, .. } | Self::Status { scope, .. } | Self::Drop { scope } => {
                scope
            }
        }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut parts = text.split('@');
        let what = parts.next().unwrap_or_default();
        let (kind, value) = match what.split_once('=') {
            Some((kind, value)) => (kind, Some(value)),
            None => (what, None),
        };
        match (kind, value) {
            ("latency", Some(value)) => {
                let (min, max) = parse_latency(value)?;
                Ok(Self::Latency { min, max, scope: Scope::parse(parts)? })
            }
            ("status", Some(value)) => {
                let status = value
                    .parse()
                    .ok()
                    .filter(|status: &StatusCode| (400..600).contains(&status.as_u16()))
                    .ok_or_else(|| FaultError::Status(value.to_owned()))?;
                Ok(Self::Status { status, scope: Scope::parse(parts)? })
            }
            ("drop", None) => Ok(Self::Drop { scope: Scope::parse(parts)? }),
            _ => Err(FaultError::Kind(text.to_owned())),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency { min, max, scope } if min == max => {
                write!(f, "latency={}{scope}", Time(*min))
            }
            Self::Latency { min, max, scope } => {
                write!(f, "latency={}..{}{scope}", Time(*min), Time(*max))
            }
            Self::Status { status, scope } => write!(f, "status={}{scope}", status.as_u16()),
            Self::Drop { scope } => write!(f, "drop{scope}"),
        }
    }
}

fn parse_latency(text: &str) -> Result<(Duration, Duration), FaultError> {
    let fault = || FaultError::Latency(text.to_owned());
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    let (min, max) = (parse_time(min).ok_or_else(fault)?, parse_time(max).ok_or_else(fault)?);
    if min <= max && max <= LATENCY_MAX { Ok((min, max)) } else { Err(fault()) }
}

fn parse_time(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(millis) => Some(Duration::from_millis(millis.parse().ok()?)),
        None => Some(Duration::from_secs(text.strip_suffix('s')?.parse().ok()?)),
    }
}

/// A time in the largest unit that states it exactly, as [`parse_time`] reads it.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis > 0 && millis % 1000 == 0 => write!(f, "{}s", millis / 1000),
            millis => write!(f, "{millis}ms"),
        }
    }
}

/// What happens to one request: first the delay, then the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) delay: Duration,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The service answers as it would.
    Answer,
    Status(StatusCode),
    Drop,
}

/// The faults in force, each with the count of requests that it could have struck.
#[derive(Debug, Default)]
pub(crate) struct FaultPlan {
    faults: Vec<(Fault, AtomicU64)>,
    seed: u64,
}

impl FaultPlan {
    pub(crate) fn new(faults: Vec<Fault>, seed: u64) -> Self {
        Self { faults: faults.into_iter().map(|fault| (fault, AtomicU64::new(0))).collect(), seed }
    }

    /// The fate of the next request of `path`. Delays add up; of the ends, the first one that
    /// strikes is it.
    pub(crate) fn fate(&self, path: &str) -> Fate {
        let mut fate = Fate { delay: Duration::ZERO, end: End::Answer };
        for (position, (fault, count)) in self.faults.iter().enumerate() {
            if !fault.scope().covers(path) {
                continue;
            }
            let mut random = Random::new(
                self.seed.wrapping_add(position as u64),
                count.fetch_add(1, Ordering::Relaxed),
            );
            if random.below(10_000) >= u64::from(fault.scope().share.basis_points()) {
                continue;
            }
            match fault {
                Fault::Latency { min, max, .. } => {
                    let span_ms = (*max - *min).as_millis() as u64;
                    fate.delay += *min + Duration::from_millis(random.below(span_ms + 1));
                }
                Fault::Status { status, .. } if fate.end == End::Answer => {
                    fate.end = End::Status(*status);
                }
                Fault::Drop { .. } if fate.end == End::Answer => fate.end = End::Drop,
                Fault::Status { .. } | Fault::Drop { .. } => {}
            }
        }
        fate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        text.parse().expect(text)
    }

    #[test]
    fn faults_are_read_and_written() {
        let cases = [
            ("latency=50ms..200ms@10%", "latency=50ms..200ms@10%"),
            ("latency=2000ms", "latency=2s"),
            ("latency=0ms..1s@/api", "latency=0ms..1s@/api"),
            ("status=503@5%", "status=503@5%"),
            ("status=500@0.50%@/api/messages", "status=500@0.5%@/api/messages"),
            ("drop@1%", "drop@1%"),
            ("drop@/api@0.01%", "drop@0.01%@/api"),
            ("drop@100%", "drop"),
            ("drop@0%", "drop@0%"),
        ];
        for (text, written) in cases {
            assert_eq!(fault(text).to_string(), written, "{text}");
            assert_eq!(fault(written), fault(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_fault_is_refused_with_the_part_that_is_wrong() {
        type Case = (&'static str, fn(String) -> FaultError, &'static str);
        let cases: [Case; 16] = [
            ("", FaultError::Kind, ""),
            ("slow@1%", FaultError::Kind, "slow@1%"),
            ("latency", FaultError::Kind, "latency"),
            ("drop=1@1%", FaultError::Kind, "drop=1@1%"),
            ("latency=fast", FaultError::Latency, "fast"),
            ("latency=200ms..50ms", FaultError::Latency, "200ms..50ms"),
            ("latency=601s", FaultError::Latency, "601s"),
            ("status=200", FaultError::Status, "200"),
            ("status=600", FaultError::Status, "600"),
            ("status=teapot", FaultError::Status, "teapot"),
            ("drop@101%", FaultError::Share, "101%"),
            ("drop@0.001%", FaultError::Share, "0.001%"),
            ("drop@-1%", FaultError::Share, "-1%"),
            ("drop@5", FaultError::Scope, "5"),
            ("drop@1%@2%", FaultError::Scope, "2%"),
            ("drop@/a@/b", FaultError::Scope, "/b"),
        ];
        for (text, error, part) in cases {
            assert_eq!(text.parse::<Fault>(), Err(error(part.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_path_covers_what_is_below_it() {
        let cases = [
            ("/api/messages", "/api/messages", true),
            ("/api/messages", "/api/messages/7", true),
            ("/api/messages/", "/api/messages", true),
            ("/api/messages", "/api/messages-of-others", false),
            ("/api/messages", "/api", false),
            ("/", "/healthz", true),
        ];
        for (prefix, path, covered) in cases {
            let scope = Scope { share: Share::ALL, path: Some(prefix.to_owned()) };
            assert_eq!(scope.covers(path), covered, "{prefix} {path}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_fates_whatever_else_is_asked_for() {
        let faults = || vec![fault("status=503@30%@/api"), fault("latency=1ms..9ms@50%@/api")];
        let fates = |seed, others: usize| {
            let plan = FaultPlan::new(faults(), seed);
            (0..200)
                .map(|_| {
                    (0..others).for_each(|_| assert_eq!(plan.fate("/healthz").end, End::Answer));
                    plan.fate("/api/traces")
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(fates(1, 0), fates(1, 3));
        assert_ne!(fates(1, 0), fates(2, 0));
    }

    #[test]
    fn a_fault_strikes_about_its_share() {
        let plan = FaultPlan::new(vec![fault("drop@5%")], 42);
        let struck = (0..10_000).filter(|_| plan.fate("/").end == End::Drop).count();
        assert!((400..600).contains(&struck), "{struck}");
    }

    #[test]
    fn delays_add_up_and_the_first_end_is_the_end() {
        let faults = ["latency=10ms", "drop", "status=500", "latency=5ms"].map(fault);
        let fate = FaultPlan::new(faults.to_vec(), 0).fate("/");
        assert_eq!(fate, Fate { delay: Duration::from_millis(15), end: End::Drop });
    }
}
