//! `--since`: a time back, or a date.

use std::str::FromStr;

use jiff::Timestamp;
use seaworthy_policy::quantity::Period;

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Ago(Period),
    At(Timestamp),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(period) = text.parse() {
            return Ok(Self::Ago(period));
        }
        text.parse().map(Self::At).map_err(|_| {
            "expected a time back such as \"15m\", or a date such as \"2026-08-01T12:00:00Z\""
                .to_owned()
        })
    }
}

impl Since {
    pub(super) fn unix_ms(self, now: Timestamp) -> i64 {
        match self {
            Self::At(time) => time.as_millisecond(),
            Self::Ago(period) => {
                let back = i64::try_from(period.as_duration().as_millis()).unwrap_or(i64::MAX);
                now.as_millisecond().saturating_sub(back)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_back_or_a_date() {
        let now: Timestamp = "2026-08-01T12:00:00Z".parse().unwrap();
        for (text, want) in [
            ("15m", "2026-08-01T11:45:00Z"),
            ("1d", "2026-07-31T12:00:00Z"),
            ("2026-01-02T03:04:05+01:00", "2026-01-02T02:04:05Z"),
        ] {
            let want: Timestamp = want.parse().unwrap();
            let since: Since = text.parse().expect(text);
            assert_eq!(since.unix_ms(now), want.as_millisecond(), "{text}");
        }
        for text in ["", "yesterday", "15", "2026-08-01"] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
    }
}
