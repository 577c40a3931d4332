//! Numbers, times and waits in the gates' sentences.

use super::minute::{Minute, TickLength};

/// `1,410`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 request`, `1,410 requests`
pub(super) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}

/// `0.5 %`: two decimals, or two digits where it is less than 0.1 %.
pub(super) fn percent(share: f64) -> String {
    let value = 100.0 * share;
    let decimals = match value {
        _ if value >= 0.1 || value <= 0.0 => 2,
        _ if value >= 0.01 => 3,
        _ if value >= 0.001 => 4,
        _ if value >= 0.0001 => 5,
        _ => return "less than 0.0001 %".to_owned(),
    };
    let text = format!("{value:.decimals$}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `E = 12.3`; above a million its power of ten.
pub(super) fn e_value(ln_e: f64) -> String {
    let log10 = ln_e / std::f64::consts::LN_10;
    match log10 {
        _ if log10 >= 6.0 => format!("10^{log10:.0}"),
        _ if log10 < -2.0 => "less than 0.01".to_owned(),
        _ if log10 >= 2.0 => count(libm::round(libm::exp(ln_e)) as u64),
        _ => format!("{:.2}", libm::exp(ln_e)),
    }
}

/// `12 seconds`, `38 minutes`, `7 hours`, `3 days`
fn duration(seconds: f64) -> String {
    let minutes = libm::ceil(seconds / 60.0) as u64;
    match minutes {
        0..=1 if seconds <= 45.0 => counted((libm::ceil(seconds) as u64).max(1), "second"),
        0..120 => counted(minutes.max(1), "minute"),
        120..2880 => counted((minutes + 30) / 60, "hour"),
        _ => counted((minutes + 720) / 1440, "day"),
    }
}

/// What a tick is called: the word of its length where there is one.
pub(super) const fn tick(length: TickLength) -> &'static str {
    match length.ms() {
        60_000 => "minute",
        1000 => "second",
        _ => "tick",
    }
}

/// `2026-11-21 10:02 UTC`; with seconds where ticks are shorter than a minute.
pub(super) fn time(minute: Minute, length: TickLength) -> String {
    let unix_s = length.unix_ms(minute).div_euclid(1000);
    let (year, month, day) = civil(unix_s.div_euclid(86_400));
    let of_day = unix_s.rem_euclid(86_400);
    let seconds = match length {
        TickLength::MINUTE => String::new(),
        _ => format!(":{:02}", of_day % 60),
    };
    let (hour, minute) = (of_day / 3600, of_day / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}{seconds} UTC")
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A wait longer than this is no plan but a dead end: 30 days.
const PATIENCE_SECONDS: f64 = 30.0 * 86_400.0;

/// What is missing, and how long it takes at this traffic.
pub(super) struct Wait<'a> {
    /// So many more; `None` where no number is enough.
    pub(super) more: Option<u64>,
    /// `request`, `check`
    pub(super) unit: &'a str,
    /// In a tick.
    pub(super) per_minute: f64,
    pub(super) now: Minute,
    pub(super) tick: TickLength,
    /// What an operator can do where it takes too long: `raise p0, waive, or pin`.
    pub(super) ways_out: &'a str,
}

impl Wait<'_> {
    pub(super) fn text(&self) -> String {
        let Self { unit, ways_out, .. } = self;
        let Some(more) = self.more else {
            return format!("unprovable with clean {unit}s alone; {ways_out}");
        };
        if self.per_minute <= 0.0 {
            return format!("{}; there is no traffic now", counted(more, &format!("more {unit}")));
        }
        let tick_s = f64::from(self.tick.ms()) / 1000.0;
        let seconds = libm::ceil(more as f64 / self.per_minute) * tick_s;
        if seconds <= PATIENCE_SECONDS {
            let time = duration(seconds);
            let more = counted(more, &format!("more {unit}"));
            return format!("{more}, about {time} at this traffic");
        }
        let per_hour = 3600.0 / tick_s * self.per_minute;
        let pace = if per_hour >= 1.0 {
            format!("{} an hour", counted(libm::round(per_hour) as u64, unit))
        } else {
            format!("{} a day", counted(libm::round(24.0 * per_hour) as u64, unit))
        };
        let now_unix_s = self.tick.unix_ms(self.now).div_euclid(1000);
        format!("unprovable at {pace} before {}; {ways_out}", until(now_unix_s, seconds))
    }
}

/// The year of the time `seconds` from now; within this year its month as well.
fn until(now_unix_s: i64, seconds: f64) -> String {
    // Ten thousand years are enough to say "never" by.
    let then = now_unix_s.saturating_add(seconds.min(5.2e9 * 60.0) as i64);
    let (year, month, _) = civil(then.div_euclid(86_400));
    if year == civil(now_unix_s.div_euclid(86_400)).0 {
        format!("{} {year}", MONTHS[month - 1])
    } else {
        year.to_string()
    }
}

/// Year, month (1 to 12) and day of the proleptic Gregorian calendar, from days since 1970-01-01.
///
/// Counted in years that begin in March, so that the leap day is the last of its year; then the
/// days before a month are `(153 m + 2) / 5`.
fn civil(days: i64) -> (i64, usize, i64) {
    // Far beyond any date that is meant, and far from overflow.
    let days = days.clamp(-100_000_000, 100_000_000) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year_of_era + i64::from(month <= 2);
    (year, usize::try_from(month).unwrap_or(1), day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, text) in [(0, "0"), (412, "412"), (1410, "1,410"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (share, text) in [
            (0.0, "0 %"),
            (0.005, "0.5 %"),
            (0.003, "0.3 %"),
            (0.1, "10 %"),
            (1.0, "100 %"),
            (0.98764, "98.76 %"),
            (0.00041, "0.041 %"),
            (0.000_000_1, "less than 0.0001 %"),
        ] {
            assert_eq!(percent(share), text);
        }
        for (e, text) in [
            (164.3, "164"),
            (1084.0, "1,084"),
            (12.3456, "12.35"),
            (1e9, "10^9"),
            (1e-9, "less than 0.01"),
        ] {
            assert_eq!(e_value(libm::log(e)), text);
        }
    }

    #[test]
    fn days_have_their_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_778, (2026, 11, 21)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
        let (minutes, seconds) = (TickLength::MINUTE, TickLength::from_ms(1000).unwrap());
        for (minute, length, text) in [
            (20_778 * 1440 + 602, minutes, "2026-11-21 10:02 UTC"),
            (20_778 * 86_400 + 36_127, seconds, "2026-11-21 10:02:07 UTC"),
            (20_778 * 8640 + 3612, TickLength::from_ms(10_000).unwrap(), "2026-11-21 10:02:00 UTC"),
        ] {
            assert_eq!(time(Minute(minute), length), text);
        }
    }

    #[test]
    fn a_wait_says_how_long_or_that_it_is_hopeless() {
        let (now, march) = (Minute(20_778 * 1440), Minute(20_514 * 1440));
        for (more, per_hour, text) in [
            (Some(412), 650.0, "412 more requests, about 39 minutes at this traffic"),
            (Some(1), 650.0, "1 more request, about 1 minute at this traffic"),
            (Some(5000), 650.0, "5,000 more requests, about 8 hours at this traffic"),
            (Some(412), 0.0, "412 more requests; there is no traffic now"),
            (Some(2500), 3.0, "unprovable at 3 requests an hour before April 2026; x"),
            (Some(3500), 3.0, "unprovable at 3 requests an hour before 2027; x"),
            (Some(100), 0.1, "unprovable at 2 requests a day before 2027; x"),
            (Some(u64::MAX), 1.0, "unprovable at 1 request an hour before 11913; x"),
            (None, 650.0, "unprovable with clean requests alone; x"),
        ] {
            // One case begins in March, so that it ends in the same year.
            let now = if more == Some(2500) { march } else { now };
            let per_minute = per_hour / 60.0;
            let tick = TickLength::MINUTE;
            let wait = Wait { more, unit: "request", per_minute, now, tick, ways_out: "x" };
            assert_eq!(wait.text(), text, "{more:?} at {per_hour}");
            // The same traffic in ticks of a second waits as long.
            let (now, per_minute) = (Minute(60 * now.0), per_minute / 60.0);
            let tick = TickLength::from_ms(1000).unwrap();
            let wait = Wait { now, tick, per_minute, ..wait };
            let text = if more == Some(1) {
                "1 more request, about 6 seconds at this traffic"
            } else {
                text
            };
            assert_eq!(wait.text(), text, "{more:?} at {per_hour}, by seconds");
        }
    }
}
