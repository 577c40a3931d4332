//! Quantities as an operator writes them: `"1MiB"`, `"30s"`, `"100/min"`.
//!
//! Each is parsed once, where the config is read; after that a value that exists is right.
//! `Display` writes a form that parses back to the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a quantity could not be read. Fits after "failed to read the value: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("expected a size such as \"64KiB\", \"1MiB\" or \"2GB\", not {0:?}")]
    ByteSize(String),
    #[error("expected a duration such as \"250ms\", \"30s\", \"5m\", \"1h\" or \"7d\", not {0:?}")]
    Period(String),
    #[error("expected a rate such as \"100/min\", \"5/s\" or \"1000/hour\", not {0:?}")]
    Rate(String),
}

/// A number of bytes. `KiB`, `MiB`, `GiB` are powers of 1024; `kB`, `MB`, `GB` of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("KB", 1000),
    ("B", 1),
];

impl ByteSize {
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (count, unit) = split_number(text);
        let factor = SIZES.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        count
            .zip(factor)
            .and_then(|(count, factor)| count.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| QuantityError::ByteSize(text.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in SIZES.iter().filter(|(name, _)| name.ends_with("iB")) {
            if self.0 >= *factor && self.0.is_multiple_of(*factor) {
                return write!(f, "{}{name}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A length of time with a resolution of one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

const PERIODS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Period {
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Period {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (count, unit) = split_number(text);
        let factor = PERIODS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        count
            .zip(factor)
            .and_then(|(count, factor)| count.checked_mul(factor))
            .map(Self::millis)
            .ok_or_else(|| QuantityError::Period(text.to_owned()))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (name, factor) in PERIODS {
            if millis >= u128::from(factor) && millis.is_multiple_of(u128::from(factor)) {
                return write!(f, "{}{name}", millis / u128::from(factor));
            }
        }
        write!(f, "{millis}ms")
    }
}

/// So many events in each window: `"100/min"`. The count is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Window {
    Second,
    Minute,
    Hour,
    Day,
}

const WINDOWS: [(&str, Window); 10] = [
    ("s", Window::Second),
    ("sec", Window::Second),
    ("second", Window::Second),
    ("min", Window::Minute),
    ("minute", Window::Minute),
    ("m", Window::Minute),
    ("h", Window::Hour),
    ("hour", Window::Hour),
    ("d", Window::Day),
    ("day", Window::Day),
];

impl Rate {
    pub const fn per_minute(count: u32) -> Self {
        assert!(count > 0, "a rate of nothing is not a rate");
        Self { count, window: Window::Minute }
    }

    pub const fn per_second(count: u32) -> Self {
        assert!(count > 0, "a rate of nothing is not a rate");
        Self { count, window: Window::Second }
    }

    pub const fn count(self) -> u32 {
        self.count
    }

    pub const fn window(self) -> Duration {
        Duration::from_secs(match self.window {
            Window::Second => 1,
            Window::Minute => 60,
            Window::Hour => 3600,
            Window::Day => 86_400,
        })
    }
}

impl FromStr for Rate {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || QuantityError::Rate(text.to_owned());
        let (count, window) = text.split_once('/').ok_or_else(fault)?;
        let count = count.trim().parse().ok().filter(|count| *count > 0).ok_or_else(fault)?;
        let window = window.trim();
        let (_, window) = WINDOWS.iter().find(|(name, _)| *name == window).ok_or_else(fault)?;
        Ok(Self { count, window: *window })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = match self.window {
            Window::Second => "s",
            Window::Minute => "min",
            Window::Hour => "hour",
            Window::Day => "day",
        };
        write!(f, "{}/{window}", self.count)
    }
}

/// Splits `"64KiB"` into the number and the unit behind it.
fn split_number(text: &str) -> (Option<u64>, &str) {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number.parse().ok(), unit.trim_start())
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_as_text;

serde_as_text!(ByteSize, Period, Rate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_periods_and_rates_are_read_and_written() {
        let sizes =
            [("1MiB", 1 << 20, "1MiB"), ("64 KiB", 65_536, "64KiB"), ("2kB", 2000, "2000B")];
        for (text, bytes, written) in sizes {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written), "{text}");
        }
        for (text, millis, written) in
            [("250ms", 250, "250ms"), ("90s", 90_000, "90s"), ("120s", 120_000, "2m")]
        {
            let period: Period = text.parse().expect(text);
            assert_eq!(period, Period::millis(millis), "{text}");
            assert_eq!(period.to_string(), written);
        }
        for (text, count, seconds, written) in
            [("100/min", 100, 60, "100/min"), ("5 / s", 5, 1, "5/s"), ("7/hour", 7, 3600, "7/hour")]
        {
            let rate: Rate = text.parse().expect(text);
            assert_eq!((rate.count(), rate.window().as_secs()), (count, seconds), "{text}");
            assert_eq!(rate.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_examples() {
        for text in ["", "MiB", "-1KiB", "1.5MiB", "1XB", "99999999999GiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(QuantityError::ByteSize(text.to_owned())));
        }
        for text in ["", "10", "s", "1w", "99999999999999999d"] {
            assert_eq!(text.parse::<Period>(), Err(QuantityError::Period(text.to_owned())));
        }
        for text in ["", "100", "0/min", "-1/s", "5/fortnight", "/s"] {
            assert_eq!(text.parse::<Rate>(), Err(QuantityError::Rate(text.to_owned())));
        }
    }
}
