//! Numbers as people read them: grouped, with about three digits that matter, and a unit.

/// `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number a second: `0`, `0.4`, `12.3`, `1,234`.
pub(crate) fn rate(per_s: f64) -> String {
    match per_s {
        n if n >= 99.95 => count(n.round() as u64),
        n if n < 0.05 => "0".to_owned(),
        n => format!("{n:.1}"),
    }
}

/// Any number, as it is found among the evidence: `-3`, `1,234`, `0.0025`, `4.605`, `1.8e308`.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size.fract() == 0.0 && size < 1e15 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", count(size as u64));
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{value:.1e}");
    }
    let decimals = match size {
        ..0.01 => 6,
        0.01..1.0 => 4,
        1.0..100.0 => 3,
        _ => 1,
    };
    format!("{value:.decimals$}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A part of a whole in percent. What is not nothing never reads `0%`, and what is not all
/// never reads `100%`.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p <= 0.0 || p.is_nan() => "0%".to_owned(),
        p if p < 0.01 => "<0.01%".to_owned(),
        p if p < 9.995 => format!("{p:.2}%"),
        p if p < 99.95 => format!("{p:.1}%"),
        p if p < 100.0 => ">99.9%".to_owned(),
        _ => "100%".to_owned(),
    }
}

/// `part` of `whole` in percent, or a dash of nothing.
pub(crate) fn percent_of(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { percent(part as f64 / whole as f64) }
}

/// A latency: `0 µs`, `850 µs`, `1.23 ms`, `45.6 ms`, `789 ms`, `12.3 s`.
pub(crate) fn latency(us: u32) -> String {
    let us = f64::from(us);
    let (value, unit) = match us {
        us if us < 999.5 => return format!("{us} µs"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    match value {
        v if v < 9.995 => format!("{v:.2} {unit}"),
        v if v < 99.95 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    }
}

/// A latency where there may be none.
pub(crate) fn latency_or_dash(us: Option<u32>) -> String {
    us.map_or_else(|| "–".to_owned(), latency)
}

/// A span of time in its two largest units: `42 s`, `3 min 5 s`, `2 h 0 min`, `12 d 4 h`.
pub(crate) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} d {} h", count(days), hours % 24),
    }
}

/// A size: `0 B`, `512 B`, `1.5 KiB`, `12.0 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        for (n, want) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (84_230, "84,230"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(n), want);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn rates_keep_what_matters() {
        for (per_s, want) in [
            (0.0, "0"),
            (0.04, "0"),
            (0.4, "0.4"),
            (12.34, "12.3"),
            (99.96, "100"),
            (1234.5, "1,235"),
        ] {
            assert_eq!(rate(per_s), want);
        }
    }

    #[test]
    fn numbers_of_any_size_are_short() {
        for (value, want) in [
            (0.0, "0"),
            (-3.0, "-3"),
            (1234.0, "1,234"),
            (0.0025, "0.0025"),
            (0.005, "0.005"),
            (4.605_17, "4.605"),
            (-12.5, "-12.5"),
            (123.45, "123.5"),
            (0.000_01, "1.0e-5"),
            (f64::MAX, "1.8e308"),
            (f64::MIN, "-1.8e308"),
        ] {
            assert_eq!(number(value), want);
        }
    }

    #[test]
    fn percents_never_round_to_nothing_or_all() {
        for (share, want) in [
            (0.0, "0%"),
            (f64::NAN, "0%"),
            (0.000_001, "<0.01%"),
            (0.003_5, "0.35%"),
            (0.123_4, "12.3%"),
            (0.999_9, ">99.9%"),
            (1.0, "100%"),
        ] {
            assert_eq!(percent(share), want);
        }
        assert_eq!(percent_of(0, 0), "–");
        assert_eq!(percent_of(1, 4), "25.0%");
    }

    #[test]
    fn latencies_have_three_digits_and_a_unit() {
        for (us, want) in [
            (0, "0 µs"),
            (850, "850 µs"),
            (1234, "1.23 ms"),
            (9996, "10.0 ms"),
            (45_600, "45.6 ms"),
            (789_400, "789 ms"),
            (999_600, "1.00 s"),
            (12_340_000, "12.3 s"),
            (u32::MAX, "4295 s"),
        ] {
            assert_eq!(latency(us), want);
        }
        assert_eq!(latency_or_dash(None), "–");
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, want) in [
            (0, "0 s"),
            (59, "59 s"),
            (185, "3 min 5 s"),
            (7200, "2 h 0 min"),
            (12 * 86_400 + 4 * 3600 + 5, "12 d 4 h"),
        ] {
            assert_eq!(span(seconds), want);
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (n, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (12 << 20, "12.0 MiB"),
            (1 << 50, "1024.0 TiB"),
        ] {
            assert_eq!(bytes(n), want);
        }
    }
}
