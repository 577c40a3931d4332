//! When nothing is promoted: Fridays after noon, the week before the holidays.
//!
//! Times are UTC: a calendar that shifts twice a year would promote an hour early once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quantity::serde_as_text;

/// One window, by days of the week or by dates. What is not said does not narrow it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Days of the week: `["fri", "sat"]`. Default: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Weekday>,
    /// From this time of the day on: `"12:00"`. Default: `"00:00"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<TimeOfDay>,
    /// Until this time of the day: `"24:00"`. Default: the day's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<TimeOfDay>,
    /// The first date: `"2026-12-20"`. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Date>,
    /// The last date. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Date>,
}

impl Freeze {
    /// What is wrong with it, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if let (Some(first), Some(last)) = (self.first, self.last)
            && first > last
        {
            return Err(format!("the window ends on {last}, before it begins on {first}"));
        }
        if self.from.unwrap_or(TimeOfDay::START) >= self.until.unwrap_or(TimeOfDay::END) {
            let message = "expected `from` before `until`: write one window for each day";
            return Err(message.to_owned());
        }
        if *self == Self::default() {
            let message =
                "the window has no bounds: use `approval = \"manual\"` to promote nothing";
            return Err(message.to_owned());
        }
        Ok(())
    }

    /// Whether it covers this moment.
    pub fn covers(&self, unix_s: i64) -> bool {
        let day = Date(unix_s.div_euclid(DAY_S));
        let minute = TimeOfDay((unix_s.rem_euclid(DAY_S) / 60) as u16);
        (self.days.is_empty() || self.days.contains(&day.weekday()))
            && minute >= self.from.unwrap_or(TimeOfDay::START)
            && minute < self.until.unwrap_or(TimeOfDay::END)
            && self.first.is_none_or(|first| day >= first)
            && self.last.is_none_or(|last| day <= last)
    }
}

impl fmt::Display for Freeze {
    /// `fri, sat from 12:00 until 24:00 UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.days.as_slice() {
            [] => f.write_str("every day")?,
            days => {
                let names: Vec<_> = days.iter().map(ToString::to_string).collect();
                f.write_str(&names.join(", "))?;
            }
        }
        let (from, until) =
            (self.from.unwrap_or(TimeOfDay::START), self.until.unwrap_or(TimeOfDay::END));
        if (from, until) != (TimeOfDay::START, TimeOfDay::END) {
            write!(f, " from {from} until {until} UTC")?;
        }
        match (self.first, self.last) {
            (None, None) => Ok(()),
            (Some(first), None) => write!(f, " since {first}"),
            (None, Some(last)) => write!(f, " up to {last}"),
            (Some(first), Some(last)) => write!(f, " between {first} and {last}"),
        }
    }
}

const DAY_S: i64 = 24 * 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Weekday {
    const ALL: [Self; 7] =
        [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];
}

impl fmt::Display for Weekday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        })
    }
}

/// Minutes since midnight, `24:00` among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    const START: Self = Self(0);
    const END: Self = Self(24 * 60);
}

/// Fits after "failed to read the freeze: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeError {
    #[error("expected a time such as \"17:30\", at most \"24:00\", not {0:?}")]
    Time(String),
    #[error("expected a date such as \"2026-12-20\", not {0:?}")]
    Date(String),
}

impl FromStr for TimeOfDay {
    type Err = FreezeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || FreezeError::Time(text.to_owned());
        let (hours, minutes) = text.split_once(':').ok_or_else(fault)?;
        let (hours, minutes) = number(hours, 2).zip(number(minutes, 2)).ok_or_else(fault)?;
        let time = Self((hours * 60 + minutes) as u16);
        if minutes < 60 && time <= Self::END { Ok(time) } else { Err(fault()) }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

serde_as_text!(TimeOfDay);

/// Days since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(i64);

impl Date {
    fn weekday(self) -> Weekday {
        // The epoch was a Thursday.
        Weekday::ALL[(self.0 + 3).rem_euclid(7) as usize]
    }

    /// The proleptic Gregorian calendar, by eras of 400 years that begin in March.
    fn of_civil(year: i64, month: i64, day: i64) -> Self {
        let year = if month <= 2 { year - 1 } else { year };
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        Self(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
    }

    fn civil(self) -> (i64, i64, i64) {
        let days = self.0 + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let march = (5 * of_year + 2) / 153;
        let month = (march + 2) % 12 + 1;
        let day = of_year - (153 * march + 2) / 5 + 1;
        (era * 400 + year + i64::from(month <= 2), month, day)
    }
}

impl FromStr for Date {
    type Err = FreezeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || FreezeError::Date(text.to_owned());
        let mut parts = text.split('-');
        let mut part = |digits| parts.next().and_then(|part| number(part, digits));
        let (Some(year), Some(month), Some(day)) = (part(4), part(2), part(2)) else {
            return Err(fault());
        };
        if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(fault());
        }
        let date = Self::of_civil(year, month, day);
        // The 31st of June is another day's name.
        if date.civil() == (year, month, day) { Ok(date) } else { Err(fault()) }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

serde_as_text!(Date);

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn freeze(toml: &str) -> Freeze {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn a_window_covers_its_days_and_times() {
        // Friday, 2026-11-20T12:00:00Z.
        const FRIDAY_NOON: i64 = 1_795_176_000;
        let fridays = r#"days = ["fri"]"#;
        let evenings = "from = \"16:30\"\nuntil = \"24:00\"";
        let holidays = "first = \"2026-12-20\"\nlast = \"2027-01-03\"";
        let day = DAY_S;
        for (toml, at, covered) in [
            (fridays, FRIDAY_NOON, true),
            (fridays, FRIDAY_NOON + 12 * 3600 - 1, true),
            (fridays, FRIDAY_NOON + 12 * 3600, false),
            (fridays, FRIDAY_NOON - 12 * 3600, true),
            (fridays, FRIDAY_NOON - 12 * 3600 - 1, false),
            (fridays, FRIDAY_NOON + 7 * day, true),
            (evenings, FRIDAY_NOON + 4 * 3600 + 1799, false),
            (evenings, FRIDAY_NOON + 4 * 3600 + 1800, true),
            (evenings, FRIDAY_NOON + 12 * 3600 - 1, true),
            (evenings, FRIDAY_NOON + 12 * 3600, false),
            (holidays, FRIDAY_NOON + 29 * day, false),
            (holidays, FRIDAY_NOON + 30 * day, true),
            (holidays, FRIDAY_NOON + 44 * day, true),
            (holidays, FRIDAY_NOON + 45 * day, false),
        ] {
            assert_eq!(freeze(toml).covers(at), covered, "{toml} at {at}");
            assert_eq!(freeze(toml).check(), Ok(()));
        }
    }

    #[test]
    fn a_window_says_what_it_is() {
        for (toml, said) in [
            (r#"days = ["fri", "sat"]"#, "fri, sat"),
            ("days = [\"fri\"]\nfrom = \"12:00\"", "fri from 12:00 until 24:00 UTC"),
            ("first = \"2026-12-20\"", "every day since 2026-12-20"),
            (
                "first = \"2026-12-20\"\nlast = \"2027-01-03\"",
                "every day between 2026-12-20 and 2027-01-03",
            ),
        ] {
            assert_eq!(freeze(toml).to_string(), said);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for toml in [
            "from = \"24:01\"",
            "from = \"7:00\"",
            "from = \"12:60\"",
            "first = \"2026-02-29\"",
            "first = \"2026-13-01\"",
            "first = \"2026-1-1\"",
            "days = [\"friday\"]",
            "day = \"fri\"",
        ] {
            assert!(toml::from_str::<Freeze>(toml).is_err(), "{toml}");
        }
        for toml in [
            "",
            "from = \"12:00\"\nuntil = \"12:00\"",
            "from = \"22:00\"\nuntil = \"06:00\"",
            "first = \"2026-12-20\"\nlast = \"2026-12-19\"",
        ] {
            assert!(freeze(toml).check().is_err(), "{toml}");
        }
    }

    #[test]
    fn days_of_the_week_are_right() {
        for (date, weekday) in [
            ("1970-01-01", Weekday::Thu),
            ("2024-02-29", Weekday::Thu),
            ("2026-11-20", Weekday::Fri),
            ("2000-03-01", Weekday::Wed),
        ] {
            assert_eq!(date.parse::<Date>().unwrap().weekday(), weekday, "{date}");
        }
    }

    proptest! {
        #[test]
        fn a_date_is_read_as_it_is_written(days in -700_000..2_900_000_i64) {
            let date = Date(days);
            let (year, month, day) = date.civil();
            prop_assert_eq!(Date::of_civil(year, month, day), date);
            if year >= 0 {
                prop_assert_eq!(date.to_string().parse(), Ok(date));
            }
        }
    }
}
