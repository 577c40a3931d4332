//! Modes: what is done with a protection's outcome, and for which share of the clients.
//!
//! A [`ModeSetting`] is what the config says, a [`Mode`] what is in force. Only the data
//! plane's chain reads a [`Mode`]; a protection never sees one.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use siphasher::sip::SipHasher24;

use crate::quantity::serde_as_text;

/// A share of the clients in basis points: 0 is nobody, 10 000 everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(10_000);

    /// Returns `None` above 10 000.
    pub const fn from_basis_points(basis_points: u16) -> Option<Self> {
        if basis_points <= 10_000 { Some(Self(basis_points)) } else { None }
    }

    pub const fn basis_points(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Share {
    /// Percent without trailing zeros: `10%`, `0.5%`, `12.34%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

/// Fits after "failed to read the share: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a share such as \"10%\" or \"0.5%\", not {0:?}")]
pub struct ShareError(String);

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_percent(text).ok_or_else(|| ShareError(text.to_owned()))
    }
}

serde_as_text!(Share);

/// What is done with a rule's outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The rule is not evaluated.
    Off,
    /// The rule judges and reports; nothing is denied.
    Warn,
    /// The rule denies for clients in the share and goes on judging the others in shadow.
    Enforce(Share),
}

impl Mode {
    /// The word without the share: the `mode` label of the metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Enforce(_) => "enforce",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforce(Share::ALL) => f.write_str("enforce"),
            Self::Enforce(share) => write!(f, "enforce {share}"),
            other => f.write_str(other.word()),
        }
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            ModeSetting::Pinned(mode) => Ok(mode),
            ModeSetting::Auto => Err(ModeError(text.to_owned())),
        }
    }
}

serde_as_text!(Mode);

/// What the config says of a rule's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ModeSetting {
    /// Evidence moves the mode. It starts in `warn`.
    #[default]
    Auto,
    /// The file is the truth.
    Pinned(Mode),
}

impl ModeSetting {
    pub const OFF: Self = Self::Pinned(Mode::Off);
    pub const ENFORCE: Self = Self::Pinned(Mode::Enforce(Share::ALL));

    /// The mode in force before any evidence has moved it.
    pub const fn initial(self) -> Mode {
        match self {
            Self::Auto => Mode::Warn,
            Self::Pinned(mode) => mode,
        }
    }
}

impl fmt::Display for ModeSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pinned(mode) => mode.fmt(f),
        }
    }
}

/// Fits after "failed to read the mode: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected \"auto\", \"off\", \"warn\", \"enforce\" or a share such as \"enforce 10%\", not {0:?}"
)]
pub struct ModeError(String);

impl FromStr for ModeSetting {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::OFF),
            "warn" => Ok(Self::Pinned(Mode::Warn)),
            "enforce" => Ok(Self::ENFORCE),
            _ => text
                .strip_prefix("enforce ")
                .and_then(parse_percent)
                .map(|share| Self::Pinned(Mode::Enforce(share)))
                .ok_or_else(|| ModeError(text.to_owned())),
        }
    }
}

serde_as_text!(ModeSetting);

/// Reads `10%` or `0.25%`: at most two decimals, at most 100.
fn parse_percent(text: &str) -> Option<Share> {
    let number = text.trim().strip_suffix('%')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    if !digits(whole) || !digits(fraction) || fraction.len() > 2 || whole.len() > 3 {
        return None;
    }
    let hundredths = fraction.parse::<u16>().ok()? * if fraction.len() == 1 { 10 } else { 1 };
    Share::from_basis_points(whole.parse::<u16>().ok()? * 100 + hundredths)
}

/// Assigns clients to shares: keyed, so that a caller cannot choose its bucket, and sticky, so
/// that the clients of 10 % are among those of 50 %.
#[derive(Clone, Copy)]
pub struct Buckets {
    hasher: SipHasher24,
}

impl Buckets {
    pub fn new(key: &[u8; 16]) -> Self {
        Self { hasher: SipHasher24::new_with_key(key) }
    }

    /// The buckets of one rule, with its name hashed once for all clients.
    pub fn of_rule(&self, rule: &str) -> RuleBuckets {
        let mut hasher = self.hasher;
        hasher.write(rule.as_bytes());
        hasher.write(&[0]);
        RuleBuckets { hasher }
    }
}

impl fmt::Debug for Buckets {
    /// The key is a secret and stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buckets")
    }
}

/// Assigns clients to the shares of one rule.
#[derive(Clone, Copy)]
pub struct RuleBuckets {
    hasher: SipHasher24,
}

impl RuleBuckets {
    /// The bucket of `client`, from 0 to 9999: `SipHash-2-4(key, rule ‖ 0 ‖ client) mod 10000`.
    pub fn place(&self, client: &[u8]) -> u16 {
        let mut hasher = self.hasher;
        hasher.write(client);
        u16::try_from(hasher.finish() % 10_000).expect("less than 10 000")
    }

    /// Whether `client` is in `share`: whether its bucket is less than the share's basis points.
    pub fn contains(&self, client: &[u8], share: Share) -> bool {
        share == Share::ALL || self.place(client) < share.basis_points()
    }
}

impl fmt::Debug for RuleBuckets {
    /// The key can be had from the state, which stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RuleBuckets")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::ClientKey;
    use crate::registry::InstallKey;

    #[test]
    fn settings_are_read_and_written() {
        let share = |bp| ModeSetting::Pinned(Mode::Enforce(Share::from_basis_points(bp).unwrap()));
        for (text, setting) in [
            ("auto", ModeSetting::Auto),
            ("off", ModeSetting::OFF),
            ("warn", ModeSetting::Pinned(Mode::Warn)),
            ("enforce", ModeSetting::ENFORCE),
            ("enforce 10%", share(1000)),
            ("enforce 0.5%", share(50)),
            ("enforce 12.34%", share(1234)),
        ] {
            assert_eq!(text.parse(), Ok(setting), "{text}");
            assert_eq!(setting.to_string(), text);
        }
        for text in ["", "Enforce", "enforce 101%", "enforce 10", "enforce -1%", "enforce 1.234%"] {
            assert_eq!(text.parse::<ModeSetting>(), Err(ModeError(text.to_owned())));
        }
    }

    #[test]
    fn auto_denies_nothing_before_there_is_evidence() {
        assert_eq!(ModeSetting::Auto.initial(), Mode::Warn);
    }

    /// Those of `docs/rollout.md`, computed with another implementation of SipHash and of HMAC.
    #[test]
    fn buckets_are_those_of_the_manual() {
        let key = InstallKey::new(std::array::from_fn(|index| index as u8));
        let share_key = key.derive_16("share");
        let digits: String = share_key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, "27e15812969d15af1c9a41fb25b66615");
        let buckets = Buckets::new(&share_key);
        for (rule, client, place) in [
            ("csrf", "bearer:0123456789abcdef", 4792),
            ("csrf", "bearer:0123456789abcdf0", 4197),
            ("csrf", "key:0123456789abcdef", 4011),
            ("csrf", "cookie:0000000000000000", 9882),
            ("rate_limit@POST /api/traces", "bearer:0123456789abcdef", 4586),
            ("rate_limit", "key:fedcba9876543210", 1032),
        ] {
            let client: ClientKey = client.parse().unwrap();
            let buckets = buckets.of_rule(rule);
            assert_eq!(buckets.place(&client.to_bytes()), place, "{rule} {client}");
            let share = |basis_points| Share::from_basis_points(basis_points).unwrap();
            assert!(!buckets.contains(&client.to_bytes(), share(place)));
            assert!(buckets.contains(&client.to_bytes(), share(place + 1)));
        }
    }

    proptest! {
        #[test]
        fn a_larger_share_keeps_every_client_of_a_smaller_one(
            key: [u8; 16], client: Vec<u8>, small in 0u16..=10_000, large in 0u16..=10_000,
        ) {
            prop_assume!(small <= large);
            let share = |bp| Share::from_basis_points(bp).unwrap();
            let buckets = Buckets::new(&key).of_rule("csrf");
            if buckets.contains(&client, share(small)) {
                prop_assert!(buckets.contains(&client, share(large)));
            }
            prop_assert!(!buckets.contains(&client, share(0)));
            prop_assert!(buckets.contains(&client, Share::ALL));
        }
    }
}
