//! `--until`: a time ahead, or a date.

use std::str::FromStr;

use jiff::Timestamp;
use seaworthy_policy::quantity::Period;

/// Up to then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    In(Period),
    At(Timestamp),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(period) = text.parse() {
            return Ok(Self::In(period));
        }
        text.parse().map(Self::At).map_err(|_| {
            "expected a time ahead such as \"2h\", or a date such as \"2026-12-01T12:00:00Z\""
                .to_owned()
        })
    }
}

impl Until {
    /// `None` where that is over already.
    pub(super) fn unix_ms(self, now: Timestamp) -> Option<i64> {
        let now_unix_ms = now.as_millisecond();
        let until_unix_ms = match self {
            Self::At(time) => time.as_millisecond(),
            Self::In(period) => {
                let ahead = i64::try_from(period.as_duration().as_millis()).unwrap_or(i64::MAX);
                now_unix_ms.saturating_add(ahead)
            }
        };
        (until_unix_ms > now_unix_ms).then_some(until_unix_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ahead_or_a_date() {
        let now: Timestamp = "2026-08-01T12:00:00Z".parse().unwrap();
        for (text, want) in [
            ("2h", Some("2026-08-01T14:00:00Z")),
            ("14d", Some("2026-08-15T12:00:00Z")),
            ("2026-12-01T12:00:00+01:00", Some("2026-12-01T11:00:00Z")),
            ("2026-08-01T12:00:00Z", None),
            ("2025-08-01T12:00:00Z", None),
        ] {
            let want = want.map(|text| text.parse::<Timestamp>().unwrap().as_millisecond());
            let until: Until = text.parse().expect(text);
            assert_eq!(until.unix_ms(now), want, "{text}");
        }
        for text in ["", "tomorrow", "2", "-2h", "2026-12-01"] {
            assert!(text.parse::<Until>().is_err(), "{text}");
        }
    }
}
