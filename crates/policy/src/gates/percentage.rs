use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quantity::serde_as_text;

/// A share between 0 % and 100 % as an operator writes it: `"0.5%"`. Kept in millionths, so that
/// what is written, compared and hashed is the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percentage(u32);

impl Percentage {
    /// Returns `None` above 1 000 000.
    pub const fn from_millionths(millionths: u32) -> Option<Self> {
        if millionths <= 1_000_000 { Some(Self(millionths)) } else { None }
    }

    /// For defaults: 5 is 0.5 %.
    pub(super) const fn thousandths(thousandths: u32) -> Self {
        assert!(thousandths <= 1000, "a default is at most 100%");
        Self(thousandths * 1000)
    }

    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// Between 0 and 1; the nearest number to what was written.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1_000_000.0
    }
}

impl fmt::Display for Percentage {
    /// Without trailing zeros: `0.5%`, `99%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

/// Fits after "failed to read the value: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a percentage with at most 4 decimals such as \"0.5%\" or \"99%\", not {0:?}")]
pub struct PercentageError(String);

impl FromStr for Percentage {
    type Err = PercentageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| PercentageError(text.chars().take(32).collect()))
    }
}

fn parse(text: &str) -> Option<Percentage> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str, most: usize| {
        !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 3) || !digits(fraction, 4) {
        return None;
    }
    let decimals = fraction.bytes().chain([b'0'; 4]).take(4);
    let fraction = decimals.fold(0, |sum, digit| 10 * sum + u32::from(digit - b'0'));
    Percentage::from_millionths(whole.parse::<u32>().ok()? * 10_000 + fraction)
}

serde_as_text!(Percentage);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_and_written() {
        for (text, millionths, written) in [
            ("0.5%", 5000, "0.5%"),
            ("1 %", 10_000, "1%"),
            ("99%", 990_000, "99%"),
            ("100%", 1_000_000, "100%"),
            ("0.0001%", 1, "0.0001%"),
            ("0%", 0, "0%"),
        ] {
            let read: Percentage = text.parse().expect(text);
            assert_eq!((read.millionths(), read.to_string().as_str()), (millionths, written));
        }
        assert_eq!("0.5%".parse::<Percentage>().unwrap().share(), 0.005);
        assert_eq!("0.1%".parse::<Percentage>().unwrap().share(), 0.001);
        for text in ["", "5", "%", "-1%", "100.0001%", "1e-3%", ".5%", "0.12345%", "1000%", "½%"] {
            assert!(text.parse::<Percentage>().is_err(), "{text}");
        }
    }
}
