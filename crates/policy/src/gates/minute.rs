//! The exact counts of one rule in one minute, as the gates read them.
//!
//! A minute is the tick by which evidence is added up. A demonstration makes it shorter; then what
//! is told of times and waits goes by its [`TickLength`], and only the word "minute" is too long.

use std::fmt;
use std::num::NonZeroU32;

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::statistics::Proportion;

/// A minute by the calendar: whole minutes since 1970-01-01 00:00 UTC. Where ticks are shorter,
/// whole ticks since then.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Minute(pub i64);

impl Minute {
    /// The minutes from `earlier` to `self`, 0 where `earlier` is the later one.
    pub fn since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

/// How long a tick of evidence is, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TickLength(NonZeroU32);

impl TickLength {
    pub const MINUTE: Self = match Self::from_ms(60_000) {
        Some(minute) => minute,
        None => unreachable!(),
    };

    /// Returns `None` for 0.
    pub const fn from_ms(ms: u32) -> Option<Self> {
        match NonZeroU32::new(ms) {
            Some(ms) => Some(Self(ms)),
            None => None,
        }
    }

    pub const fn ms(self) -> u32 {
        self.0.get()
    }

    /// The tick that has this time in it.
    pub fn at_unix_ms(self, unix_ms: i64) -> Minute {
        Minute(unix_ms.div_euclid(self.ms().into()))
    }

    /// When a tick begins. Whatever a receipt says is a time, however far away.
    pub fn unix_ms(self, minute: Minute) -> i64 {
        minute.0.saturating_mul(self.ms().into())
    }
}

/// The name of a client or a route in evidence: 1 to [`NAME_BYTES_MAX`] bytes without control
/// characters, so that a table or a terminal shows what it holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(ArrayString<NAME_BYTES_MAX>);

pub const NAME_BYTES_MAX: usize = 96;

/// Fits after "failed to read the name: ". Never holds the name: it may be a megabyte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("expected at least one character")]
    Empty,
    #[error("expected at most {NAME_BYTES_MAX} bytes, not {0}")]
    TooLong(usize),
    #[error("expected no control characters")]
    Control,
}

impl Name {
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let name = ArrayString::from(text).map_err(|_| NameError::TooLong(text.len()))?;
        if text.chars().any(char::is_control) { Err(NameError::Control) } else { Ok(Self(name)) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As [`key_of`].
    #[must_use]
    pub fn key(&self) -> Self {
        Self::new(key_of(&self.0)).unwrap_or(*self)
    }
}

/// What tells a client from others, without the tenant before it: `bearer:…` of `acme (bearer:…)`.
/// The tenant is for people, and the same client may be written without.
pub fn key_of(client: &str) -> &str {
    let bare = client.strip_suffix(')').and_then(|text| text.rsplit_once(" ("));
    bare.map(|(_, key)| key).filter(|key| !key.is_empty()).unwrap_or(client)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// On which side of the share a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the share: what the rule denies is denied.
    Enforced,
    /// Identified and outside of the share: judged in shadow, the control.
    Control,
    /// Without an identity: judged, and never enforced below 100 %.
    Unidentified,
}

/// One client's part of a minute.
#[derive(Clone, Copy, Debug)]
pub struct ClientMinute {
    pub client: Name,
    pub standing: Standing,
    /// Requests that were judged; hits are those that were harmed. The harm of a client in the
    /// share cannot be seen: its denials never reach the service.
    pub judged: Proportion,
}

/// Clients of one rule and minute that are told apart; the others are one sum.
pub const CLIENTS_MAX: usize = 64;

/// The counts of one rule in one minute.
#[derive(Clone, Copy, Debug)]
pub struct RuleMinute<'a> {
    pub minute: Minute,
    /// The clients with the most harm, at most [`CLIENTS_MAX`]; those beyond count as `other`.
    pub clients: &'a [ClientMinute],
    /// All other clients outside of the share together.
    pub other: Proportion,
    /// Checks of this rule; hits took longer than the budget.
    pub checks: Proportion,
    /// Requests of the share that reached the service; hits were answered with 5xx.
    pub enforced_5xx: Proportion,
    /// The same for the control.
    pub control_5xx: Proportion,
    /// Requests of the share that were judged; hits were denied.
    pub denied: Proportion,
    /// Records of this minute that were lost.
    pub dropped: u64,
    /// Whether anything in this minute speaks against the change: an alarm, a firing alert.
    pub is_red: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_client_is_its_name_without_the_tenant() {
        for (text, key) in [
            ("bearer:0123456789abcdef", "bearer:0123456789abcdef"),
            ("acme (bearer:0123456789abcdef)", "bearer:0123456789abcdef"),
            ("bearer:0123456789abcdef (ip:192.0.2.7)", "ip:192.0.2.7"),
            ("acme-batch", "acme-batch"),
            ("acme ()", "acme ()"),
            (")", ")"),
        ] {
            let name = Name::new(text).unwrap();
            assert_eq!(name.key().as_str(), key);
            assert_eq!(name.key().key(), name.key());
        }
    }

    #[test]
    fn ticks_have_their_times() {
        let seconds = TickLength::from_ms(1000).unwrap();
        for (length, unix_ms, minute, begins) in [
            (TickLength::MINUTE, 60_000, 1, 60_000),
            (TickLength::MINUTE, 119_999, 1, 60_000),
            (TickLength::MINUTE, -1, -1, -60_000),
            (seconds, 119_999, 119, 119_000),
        ] {
            assert_eq!(length.at_unix_ms(unix_ms), Minute(minute), "{unix_ms}");
            assert_eq!(length.unix_ms(Minute(minute)), begins, "{minute}");
        }
        assert_eq!(seconds.unix_ms(Minute(i64::MIN)), i64::MIN);
        assert_eq!(TickLength::from_ms(0), None);
        assert!(serde_json::from_str::<TickLength>("0").is_err());
    }

    #[test]
    fn a_name_is_bounded_and_printable() {
        assert_eq!(Name::new("acme-batch").unwrap().as_str(), "acme-batch");
        let long = "x".repeat(1 << 20);
        for (text, error) in [
            ("", NameError::Empty),
            (long.as_str(), NameError::TooLong(1 << 20)),
            ("a\u{1b}[2J", NameError::Control),
            ("a\nb", NameError::Control),
        ] {
            assert_eq!(Name::new(text), Err(error));
        }
        assert!(serde_json::from_str::<Name>(r#""""#).is_err());
    }
}
