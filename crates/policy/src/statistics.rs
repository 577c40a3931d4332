//! The few functions of probability that the gates stand on.
//!
//! 1. The same input gives the same bits on every machine: logarithms and their kin come from the
//!    `libm` crate and never from the system. So a receipt can be recomputed anywhere, offline.
//! 2. Whatever can underflow is kept as its natural logarithm. Names begin with `ln_` then.
//! 3. Every loop has a bound, and no count that a [`Proportion`] can hold makes a result that is
//!    not a number.
//!
//! What an e-value is and why it may be read at any time is told in `docs/gates.md`.

pub mod beta;
pub mod binomial;
pub mod difference;
pub mod e_value;
mod proportion;

pub use proportion::{COUNT_MAX, Proportion, ProportionError};

/// The logarithm of `exp(a) + exp(b)`.
pub fn ln_sum(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if large == f64::NEG_INFINITY { large } else { large + libm::log1p(libm::exp(small - large)) }
}

#[cfg(test)]
pub(crate) mod draws {
    //! Seeded random numbers for the simulations: SplitMix64.

    pub(crate) struct Draws(pub(crate) u64);

    impl Draws {
        pub(crate) fn next_u64(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        /// Above 0 and below 1.
        pub(crate) fn unit(&mut self) -> f64 {
            ((self.next_u64() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
        }

        pub(crate) fn happens(&mut self, chance: f64) -> bool {
            self.unit() < chance
        }

        /// Trials up to and with the first success: a geometric variable.
        pub(crate) fn trials_to_success(&mut self, chance: f64) -> u64 {
            1 + (libm::log(self.unit()) / libm::log1p(-chance)) as u64
        }

        /// How many of `n` happen; walks from success to success.
        pub(crate) fn binomial(&mut self, n: u64, chance: f64) -> u64 {
            let (mut at, mut hits) = (0, 0);
            loop {
                at += self.trials_to_success(chance);
                if at > n {
                    return hits;
                }
                hits += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The methods of `f64` call the system's library, whose last bit differs between machines.
    #[test]
    fn nothing_that_reaches_a_verdict_uses_the_systems_logarithm() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = vec![source.join("statistics.rs"), source.join("gates.rs")];
        for folder in ["statistics", "gates"] {
            for entry in std::fs::read_dir(source.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "rs") {
                    files.push(path);
                }
            }
        }
        assert!(files.len() > 10, "the folders were found");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for name in ["ln", "ln_1p", "exp", "exp_m1", "exp2", "powf", "powi", "log10", "log2"] {
                let call = format!(".{name}(");
                assert!(!text.contains(&call), "{} calls {call}", file.display());
            }
            assert!(!text.contains(concat!(" f", "32")), "{} has short floats", file.display());
        }
    }
}
