//! Weights as the decimal numbers that JSON writes, added without the errors of binary ones.
//!
//! 1. A number with at most 30 digits behind the point is exact: whole units of 10⁻³⁰. So the sum
//!    of 0.1, 0.2 and 0.7 is 1. A double's text nearly always fits.
//! 2. One with more (`1e-40`, a softmax's tail) is a double, and so is what it is added to.
//! 3. What is below zero or above the bound is refused whatever its size: `1e400` is above.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A number of at least 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Exact(Decimal),
    /// It has more than 30 digits behind the point.
    Approximate(f64),
}

/// A number of at least 0 in units of 10⁻³⁰.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(u128);

/// Why a number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberError {
    Negative,
    AboveBound,
}

const PLACES: u32 = 30;
const ONE: u128 = 10_u128.pow(PLACES);

/// The largest bound of a number: sums of ten thousand such numbers fit 128 bits.
pub(super) const BOUND_MAX: u32 = 1000;

impl Decimal {
    pub const ZERO: Self = Self(0);

    /// `whole`, at most [`BOUND_MAX`].
    pub(super) const fn whole(whole: u32) -> Self {
        assert!(whole <= BOUND_MAX, "a sum of larger numbers need not fit");
        Self(whole as u128 * ONE)
    }

    pub const fn abs_diff(self, other: Self) -> Self {
        Self(self.0.abs_diff(other.0))
    }

    #[expect(clippy::cast_precision_loss, reason = "a double has no more precision to offer")]
    pub(super) fn to_f64(self) -> f64 {
        // Parsing rounds once; dividing by 10³⁰ would round twice.
        self.to_string().parse().unwrap_or(self.0 as f64 / 1e30)
    }
}

impl fmt::Display for Decimal {
    /// As JSON writes it, without zeros at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / ONE, self.0 % ONE);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{fraction:030}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl Number {
    pub const ZERO: Self = Self::Exact(Decimal::ZERO);

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => Self::Exact(Decimal(a.0.saturating_add(b.0))),
            (a, b) => Self::Approximate(a.to_f64() + b.to_f64()),
        }
    }

    /// Whether it is within `tolerance` of `whole`.
    pub fn is_near(self, whole: Decimal, tolerance: Decimal) -> bool {
        match self {
            Self::Exact(sum) => sum.abs_diff(whole) <= tolerance,
            Self::Approximate(sum) => (sum - whole.to_f64()).abs() <= tolerance.to_f64(),
        }
    }

    pub fn to_f64(self) -> f64 {
        match self {
            Self::Exact(decimal) => decimal.to_f64(),
            Self::Approximate(number) => number,
        }
    }

    /// The number as a JSON value whose text is exactly that of `Display`.
    pub fn to_json(self) -> Box<RawValue> {
        RawValue::from_string(self.to_string()).expect("a number of at least 0 is JSON")
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(decimal) => decimal.fmt(f),
            // The shortest text that reads as the same double.
            Self::Approximate(number) => {
                f.write_str(&serde_json::to_string(number).map_err(|_| fmt::Error)?)
            }
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

/// Reads `text`, which is a JSON number, as one between 0 and `bound`.
pub(super) fn read(text: &str, bound: Decimal) -> Result<Number, NumberError> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let Digits { significant, count, whole_count, inexact } = digits(text);
    if significant == 0 {
        // Minus zero is zero.
        return Ok(Number::ZERO);
    }
    if negative {
        return Err(NumberError::Negative);
    }
    // The value is 0.d₁d₂…dₙ × 10^whole_count, where n is `count` and d₁ is not 0.
    if whole_count > 4 {
        return Err(NumberError::AboveBound);
    }
    let places = i64::from(count) - whole_count;
    let units = in_units(significant, places).map(Decimal).ok_or(NumberError::AboveBound)?;
    if !inexact && places <= i64::from(PLACES) {
        return if units <= bound {
            Ok(Number::Exact(units))
        } else {
            Err(NumberError::AboveBound)
        };
    }
    // There is a digit behind the last place that `units` has, so that reaching the bound is
    // going above it.
    if units >= bound {
        return Err(NumberError::AboveBound);
    }
    Ok(Number::Approximate(text.parse().expect("a JSON number is one for Rust, too")))
}

/// `significant` × 10^-`places` in units of 10⁻³⁰, rounded down. `None` where it does not fit.
fn in_units(significant: u128, places: i64) -> Option<u128> {
    let shift = i64::from(PLACES) - places;
    let power = |shift: i64| u32::try_from(shift).ok().and_then(|shift| 10_u128.checked_pow(shift));
    if shift >= 0 {
        return power(shift).and_then(|power| significant.checked_mul(power));
    }
    Some(power(-shift).map_or(0, |power| significant / power))
}

/// The digits of a number from its first to its last that is not 0.
struct Digits {
    significant: u128,
    count: u32,
    /// How many of them are before the point, once the exponent has moved it.
    whole_count: i64,
    /// There are more digits than were read.
    inexact: bool,
}

/// More would not fit `significant`; bounds that matter have at most 34.
const DIGITS_MAX: u32 = 37;

fn digits(text: &str) -> Digits {
    let mut read = Digits { significant: 0, count: 0, whole_count: 0, inexact: false };
    let (mut zeros, mut behind_point) = (0_u32, false);
    let mut bytes = text.bytes();
    for byte in bytes.by_ref() {
        match byte {
            b'.' => behind_point = true,
            b'e' | b'E' => break,
            b'0' if read.count == 0 => read.whole_count -= i64::from(behind_point),
            digit => {
                read.whole_count += i64::from(!behind_point);
                if digit == b'0' {
                    zeros = zeros.saturating_add(1);
                } else if read.count.saturating_add(zeros) >= DIGITS_MAX {
                    read.inexact = true;
                } else {
                    let factor = 10_u128.pow(zeros + 1);
                    read.significant = read.significant * factor + u128::from(digit - b'0');
                    read.count += zeros + 1;
                    zeros = 0;
                }
            }
        }
    }
    let exponent: String = bytes.map(char::from).collect();
    if !exponent.is_empty() {
        // Beyond eighteen digits only the sign matters.
        let far = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
        read.whole_count = read.whole_count.saturating_add(exponent.parse().unwrap_or(far));
    }
    read
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(text: &str, bound: u32) -> String {
        match read(text, Decimal::whole(bound)) {
            Ok(Number::Exact(number)) => number.to_string(),
            Ok(Number::Approximate(number)) => format!("about {number:e}"),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for (text, bound, want) in [
            ("0", 1, "0"),
            ("-0", 1, "0"),
            ("-0.000e7", 1, "0"),
            ("0e999999999999999999999", 1, "0"),
            ("1", 1, "1"),
            ("1.000", 1, "1"),
            ("10e-1", 1, "1"),
            ("0.01E2", 1, "1"),
            ("0.6", 1, "0.6"),
            ("6e-1", 1, "0.6"),
            ("60.50", 100, "60.5"),
            ("1e2", 100, "100"),
            ("100.0000", 100, "100"),
            ("0.30000000000000004", 1, "0.30000000000000004"),
            ("1e-30", 1, "0.000000000000000000000000000001"),
            ("1e-31", 1, "about 1e-31"),
            ("5e-324", 1, "about 5e-324"),
            ("1e-400", 1, "about 0e0"),
            ("1e-99999999999999999999", 1, "about 0e0"),
            ("0.33333333333333333333333333333333333333333333", 1, "about 3.333333333333333e-1"),
            ("0.99999999999999999999999999999999999999999999", 1, "about 1e0"),
            ("1.00000000000000000000000000000000000000000001", 1, "AboveBound"),
            ("1.000000000000000000000000000001", 1, "AboveBound"),
            ("100.00000000000000000000000000000000000001", 100, "AboveBound"),
            ("1.1", 1, "AboveBound"),
            ("101", 100, "AboveBound"),
            ("99999", 100, "AboveBound"),
            ("1e400", 100, "AboveBound"),
            ("1e99999999999999999999", 100, "AboveBound"),
            ("123456789012345678901234567890123456789012345678901234567890", 1, "AboveBound"),
            ("-0.1", 1, "Negative"),
            ("-1e400", 1, "Negative"),
            ("-1e-400", 1, "Negative"),
        ] {
            assert_eq!(said(text, bound), want, "{text}");
        }
    }

    #[test]
    fn a_million_digits_are_read_in_one_pass() {
        let zeros = format!("0.{}1", "0".repeat(1_000_000));
        assert_eq!(said(&zeros, 1), "about 0e0");
        let nines = format!("0.{}", "9".repeat(1_000_000));
        assert_eq!(said(&nines, 1), "about 1e0");
        assert_eq!(said(&"9".repeat(1_000_000), 1), "AboveBound");
    }

    #[test]
    fn sums_are_decimal() {
        for (numbers, want, near) in [
            (&["0.1", "0.2", "0.7"][..], "1", true),
            (&["0.1", "0.2"], "0.3", false),
            (&["0.333", "0.333", "0.333"], "0.999", true),
            (&["0.33", "0.33", "0.33"], "0.99", false),
            (&["1", "0.001"], "1.001", true),
            (&["1", "0.0010000001"], "1.0010000001", false),
            (&["0.5", "0.5", "1e-40"], "1.0", true),
            (&["0.25", "1e-40"], "0.25", false),
            (&[], "0", false),
        ] {
            let one = Decimal::whole(1);
            let sum = numbers.iter().fold(Number::ZERO, |sum, text| {
                sum.plus(read(text, one).expect("it is between 0 and 1"))
            });
            assert_eq!(sum.to_string(), want, "{numbers:?}");
            let Ok(Number::Exact(tolerance)) = read("0.001", one) else { panic!() };
            assert_eq!(sum.is_near(one, tolerance), near, "{numbers:?}");
            assert_eq!(sum.to_json().get(), want);
        }
    }

    proptest! {
        #[test]
        fn a_double_reads_as_itself(number in 0.0..=100.0_f64) {
            let text = serde_json::to_string(&number).unwrap();
            let read = read(&text, Decimal::whole(100)).unwrap();
            prop_assert_eq!(read.to_f64(), number);
            prop_assert_eq!(read.to_string().parse::<f64>().unwrap(), number);
        }

        #[test]
        fn hundredths_add_up(hundredths in prop::collection::vec(0_u32..=100, 0..50)) {
            let sum = hundredths.iter().fold(Number::ZERO, |sum, n| {
                sum.plus(read(&format!("{}e-2", n), Decimal::whole(1)).unwrap())
            });
            let total: u32 = hundredths.iter().sum();
            let want = format!("{}.{:02}", total / 100, total % 100);
            let want = want.trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!(sum.to_string(), want);
        }
    }
}
