//! The beta function and the regularised incomplete beta function, in logarithms.
//!
//! The kernel `x^a (1−x)^b / B(a, b)` is computed from deviances (Loader, "Fast and Accurate
//! Computation of Binomial Probabilities", 2000), which loses no digits where the counts are
//! large. The tail on the near side of the mean is its continued fraction (DLMF 8.17.22, by
//! Lentz's method), the other its complement. Close to the mean of more than some hundred
//! thousand hits the fraction converges slowly; there the uniform expansion of Temme (DLMF
//! 8.18.9) is good to 1e-9 or better.

use std::f64::consts::PI;

/// `ln B(a, b)` for positive `a` and `b`.
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let n = a + b;
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    small * libm::log(small / n)
        + large * libm::log1p(-small / n)
        + 0.5 * libm::log(2.0 * PI / small * (n / large))
        + stirling_error(a)
        + stirling_error(b)
        - stirling_error(n)
}

/// Both tails of the beta distribution at one point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tails {
    /// `ln I_x(a, b)`
    pub ln_lower: f64,
    /// `ln (1 − I_x(a, b))`
    pub ln_upper: f64,
    /// `ln (x^a (1−x)^b / B(a, b))`
    pub ln_kernel: f64,
}

/// The tails of Beta(`a`, `b`) at `x`, for `0 < x < 1` and positive `a` and `b`.
pub fn tails(x: f64, a: f64, b: f64) -> Tails {
    let ln_kernel = ln_kernel(x, a, b);
    let is_below = x < (a + 1.0) / (a + b + 2.0);
    let near = if is_below {
        fraction(x, a, b).map(|fraction| ln_kernel + libm::log(fraction / a))
    } else {
        fraction(1.0 - x, b, a).map(|fraction| ln_kernel + libm::log(fraction / b))
    };
    // Rounding must not make a probability of more than 1.
    let near = near.unwrap_or_else(|| ln_lower_uniform(x, a, b, is_below)).min(0.0);
    let far = libm::log1p(-libm::exp(near));
    let (ln_lower, ln_upper) = if is_below { (near, far) } else { (far, near) };
    Tails { ln_lower, ln_upper, ln_kernel }
}

/// `ln (x^a (1−x)^b / B(a, b))`
fn ln_kernel(x: f64, a: f64, b: f64) -> f64 {
    let n = a + b;
    0.5 * libm::log(a / (2.0 * PI) * (b / n))
        - deviance(a, n * x)
        - deviance(b, n * (1.0 - x))
        - (stirling_error(a) + stirling_error(b) - stirling_error(n))
}

/// `x ln(x/m) + m − x` without cancellation where the two are near each other.
fn deviance(x: f64, m: f64) -> f64 {
    if (x - m).abs() >= 0.1 * (x + m) {
        return x * libm::log(x / m) + m - x;
    }
    let v = (x - m) / (x + m);
    let mut sum = (x - m) * v;
    let mut term = 2.0 * x * v;
    // |v| < 0.1, so each term is less than a hundredth of the one before: ten are enough.
    for k in 1..=16 {
        term *= v * v;
        let next = sum + term / f64::from(2 * k + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// `ln Γ(z)` less Stirling's `(z − ½) ln z − z + ½ ln 2π`.
fn stirling_error(z: f64) -> f64 {
    if z < 15.0 {
        return libm::lgamma(z) - ((z - 0.5) * libm::log(z) - z + 0.5 * libm::log(2.0 * PI));
    }
    let w = 1.0 / (z * z);
    (1.0 / 12.0 - w * (1.0 / 360.0 - w * (1.0 / 1260.0 - w * (1.0 / 1680.0 - w / 1188.0)))) / z
}

/// Steps after which the fraction is given up. Away from the mean a few dozen are enough.
const FRACTION_STEPS_MAX: u32 = 4000;

/// `I_x(a, b) · a · B(a, b) / (x^a (1−x)^b)`, or `None` where it converges too slowly.
fn fraction(x: f64, a: f64, b: f64) -> Option<f64> {
    const TINY: f64 = 1e-300;
    let lift = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / lift(1.0 - (a + b) * x / (a + 1.0));
    let mut product = d;
    for m in 1..=FRACTION_STEPS_MAX {
        let m = f64::from(m);
        let at = a + 2.0 * m;
        let even = m * (b - m) * x / ((at - 1.0) * at);
        d = 1.0 / lift(1.0 + even * d);
        c = lift(1.0 + even / c);
        product *= c * d;
        let odd = -(a + m) * (a + b + m) * x / (at * (at + 1.0));
        d = 1.0 / lift(1.0 + odd * d);
        c = lift(1.0 + odd / c);
        product *= c * d;
        if (c * d - 1.0).abs() < 4.0 * f64::EPSILON {
            return Some(product);
        }
    }
    None
}

/// The tail on the side of `is_below` by the first two terms of the uniform expansion.
fn ln_lower_uniform(x: f64, a: f64, b: f64, is_below: bool) -> f64 {
    let n = a + b;
    let mean = a / n;
    let half_square = (deviance(a, n * x) + deviance(b, n * (1.0 - x))) / n;
    let eta = libm::sqrt(2.0 * half_square).copysign(x - mean);
    let sd = libm::sqrt(mean * (1.0 - mean));
    let correction = if eta.abs() < 1e-9 {
        (1.0 - 2.0 * mean) / (3.0 * sd)
    } else {
        1.0 / eta - sd / (x - mean)
    };
    let term = libm::exp(-n * half_square) / libm::sqrt(2.0 * PI * n) * correction;
    let (side, term) = if is_below { (-eta, term) } else { (eta, -term) };
    libm::log((0.5 * libm::erfc(side * libm::sqrt(0.5 * n)) + term).max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: f64, expected: f64, tolerance: f64, of: &str) {
        let scale = expected.abs().max(1e-3);
        assert!((found - expected).abs() <= tolerance * scale, "{of}: {found} not {expected}");
    }

    /// Reference values by quadrature with 30 digits.
    #[test]
    fn ln_beta_has_the_known_values() {
        for (a, b, value) in [
            (0.5, 0.5, 1.144_729_885_849_400_2),
            (0.5, 1000.5, -2.881_637_696_561_160_1),
            (3.0, 4.0, -4.094_344_562_222_1),
            (50.5, 9950.5, -318.477_736_959_280_2),
            (4000.5, 996_000.5, -26_083.821_810_685_26),
            (0.5, 1e9, -9.789_267_975_423_506),
            (5e8, 5e8, -693_147_189.309_492_5),
        ] {
            assert_near(ln_beta(a, b), value, 1e-14, &format!("ln_beta({a}, {b})"));
            assert_near(ln_beta(b, a), value, 1e-14, &format!("ln_beta({b}, {a})"));
        }
    }

    #[test]
    fn stirlings_error_has_the_known_values() {
        for (z, value) in [
            (0.5, 0.153_426_409_720_027_35),
            (1.0, 0.081_061_466_795_327_26),
            (2.5, 0.033_162_873_519_936_29),
            (9.5, 0.008_768_700_134_139_385),
            (14.5, 0.005_746_216_513_010_115_7),
            (15.0, 0.005_554_733_551_962_801),
            (100.0, 0.000_833_330_555_634_914_7),
            (1e6, 8.333_333_333_333_056e-8),
        ] {
            // Below 15 it is a difference of numbers of up to 25.
            assert!((stirling_error(z) - value).abs() < 1e-14, "{z}: {}", stirling_error(z));
        }
    }

    #[test]
    fn both_tails_have_the_known_values() {
        for (x, a, b, lower, upper) in [
            (0.005, 0.5, 1115.5, -0.000_826_967_531_431_131_8, -7.098_158_579_645_9),
            (0.005, 5.5, 3367.5, -0.000_392_675_501_594_163_1, -7.842_723_314_184_658),
            (0.005, 50.5, 9950.5, -0.712_031_927_121_790_5, -0.674_612_467_565_413_4),
            (0.5, 10.0, 20.0, -0.031_195_739_348_361_62, -3.483_031_073_919_117_6),
            (0.1, 2.0, 3.0, -2.950_758_907_911_26, -0.053_717_282_505_987_85),
            (0.9, 2.0, 3.0, -0.003_706_861_931_326_475, -5.599_422_459_331_958),
            (0.005, 4000.5, 996_000.5, 0.0, -111.503_160_999_971_28),
            (0.005, 5200.5, 994_800.5, -6.029_759_874_717_973, -0.002_408_970_909_787_362),
            (0.3, 0.5, 0.5, -0.996_931_211_020_778, -0.460_465_453_915_871_2),
            (0.999, 1000.0, 2.0, -0.307_353_153_023_588_2, -1.329_501_445_669_180_7),
        ] {
            let found = tails(x, a, b);
            let of = format!("tails({x}, {a}, {b})");
            assert_near(found.ln_lower, lower, 1e-11, &of);
            assert_near(found.ln_upper, upper, 1e-11, &of);
        }
    }

    /// Where one variable is uniform the answer has a closed form.
    #[test]
    fn closed_forms_agree() {
        for x in [1e-12, 1e-6, 0.005, 0.25, 0.5, 0.99] {
            for power in [1.0, 2.0, 17.0, 1e4] {
                let expected = power * libm::log(x);
                assert_near(tails(x, power, 1.0).ln_lower, expected, 1e-12, "x^a");
                let expected = power * libm::log1p(-x);
                assert_near(tails(x, 1.0, power).ln_upper, expected, 1e-12, "(1-x)^b");
            }
        }
    }

    #[test]
    fn the_uniform_expansion_agrees_with_the_fraction() {
        for (a, b) in [(50_000.0, 9_950_000.0), (300_000.0, 700_000.0)] {
            let mean = a / (a + b);
            let sd = libm::sqrt(mean * (1.0 - mean) / (a + b));
            for distance in [-4.0, -1.0, -0.01, 0.0, 0.5, 3.0] {
                let x = mean + distance * sd;
                let exact = tails(x, a, b);
                let lower = ln_lower_uniform(x, a, b, true);
                assert!((lower - exact.ln_lower).abs() < 2e-8, "{a} {distance}: {lower}");
                let upper = ln_lower_uniform(x, a, b, false);
                assert!((upper - exact.ln_upper).abs() < 2e-8, "{a} {distance}: {upper}");
            }
        }
    }

    #[test]
    fn the_largest_counts_give_numbers() {
        let most = (1u64 << 53) as f64;
        for x in [1e-6, 0.005, 0.5, 0.999_999] {
            for (a, b) in [(0.5, most), (most, 0.5), (most / 2.0, most / 2.0), (x * most, most)] {
                let found = tails(x, a, b);
                assert!(!found.ln_lower.is_nan() && found.ln_lower <= 0.0, "{x} {a} {b}");
                assert!(!found.ln_upper.is_nan() && found.ln_upper <= 0.0, "{x} {a} {b}");
                assert!(found.ln_kernel.is_finite(), "{x} {a} {b}");
            }
        }
    }
}
