use serde::{Deserialize, Serialize};

/// The largest count that is kept: the largest whole number that a JSON number holds exactly,
/// which is how receipts are written (RFC 8785).
pub const COUNT_MAX: u64 = (1 << 53) - 1;

/// So many of so many: `hits` of `total`. Never more hits than there were trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Proportion {
    hits: u64,
    total: u64,
}

/// Fits after "failed to read the counts: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProportionError {
    #[error("expected at most as many hits as there were in total, not {hits} of {total}")]
    MoreHits { hits: u64, total: u64 },
    #[error("expected a count of at most {COUNT_MAX}, not {0}")]
    TooLarge(u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    hits: u64,
    total: u64,
}

impl TryFrom<Written> for Proportion {
    type Error = ProportionError;

    fn try_from(written: Written) -> Result<Self, ProportionError> {
        Self::new(written.hits, written.total)
    }
}

impl Proportion {
    pub const NONE: Self = Self { hits: 0, total: 0 };

    pub const fn new(hits: u64, total: u64) -> Result<Self, ProportionError> {
        if total > COUNT_MAX {
            Err(ProportionError::TooLarge(total))
        } else if hits > total {
            Err(ProportionError::MoreHits { hits, total })
        } else {
            Ok(Self { hits, total })
        }
    }

    pub const fn hits(self) -> u64 {
        self.hits
    }

    pub const fn total(self) -> u64 {
        self.total
    }

    pub const fn misses(self) -> u64 {
        self.total - self.hits
    }

    /// 0 where there were no trials.
    pub fn share(self) -> f64 {
        if self.total == 0 { 0.0 } else { self.hits as f64 / self.total as f64 }
    }

    /// The two together; stays at [`COUNT_MAX`] once it is reached.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        // Each is at most 2^53, so that the sums cannot wrap.
        let total = (self.total + other.total).min(COUNT_MAX);
        Self { hits: (self.hits + other.hits).min(total), total }
    }

    /// This and `more` trials without a hit.
    #[must_use]
    pub fn and_clean(self, more: u64) -> Self {
        Self { hits: self.hits, total: self.total.saturating_add(more).min(COUNT_MAX) }
    }

    /// What is left without `part`; nothing where `part` is the larger one.
    #[must_use]
    pub fn without(self, part: Self) -> Self {
        let hits = self.hits.saturating_sub(part.hits);
        Self { hits, total: self.total.saturating_sub(part.total).max(hits) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_cannot_be_are_refused() {
        assert!(Proportion::new(3, 3).is_ok());
        for (hits, total, error) in [
            (4, 3, ProportionError::MoreHits { hits: 4, total: 3 }),
            (0, 1 << 53, ProportionError::TooLarge(1 << 53)),
            (u64::MAX, u64::MAX, ProportionError::TooLarge(u64::MAX)),
        ] {
            assert_eq!(Proportion::new(hits, total), Err(error));
            let text = format!(r#"{{"hits":{hits},"total":{total}}}"#);
            let read = serde_json::from_str::<Proportion>(&text).unwrap_err().to_string();
            assert!(read.contains(&error.to_string()), "{read}");
        }
        assert!(serde_json::from_str::<Proportion>(r#"{"hits":0,"total":1,"x":1}"#).is_err());
    }

    #[test]
    fn sums_stay_within_the_bound() {
        let most = Proportion::new(COUNT_MAX, COUNT_MAX).unwrap();
        assert_eq!(most.and(most), most);
        assert_eq!(most.and_clean(u64::MAX), most);
        let some = Proportion::new(2, 5).unwrap();
        assert_eq!(some.and(some), Proportion::new(4, 10).unwrap());
        assert_eq!(some.without(Proportion::new(1, 3).unwrap()), Proportion::new(1, 2).unwrap());
        assert_eq!(some.without(Proportion::new(0, 5).unwrap()), Proportion::new(2, 2).unwrap());
    }
}
