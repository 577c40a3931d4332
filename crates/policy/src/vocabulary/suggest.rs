//! The nearest values to an input that means nothing.
//!
//! 1. The distance is Damerau's with adjacent swaps (insert, delete, replace, swap), between folded
//!    spellings; a value is as near as its nearest spelling.
//! 2. One edit is forgiven for each three characters of the input, three at most. So an input of two
//!    characters has no suggestion, and one that looks like no value has none either.
//! 3. At most three values are suggested, the nearest first.
//! 4. The work for all inputs of one field is bounded: spellings whose length or letters cannot be
//!    near are not compared, and beyond the bound nothing more is suggested.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::{INPUT_BYTES_MAX, ValueId, Vocabulary, fold};

/// Values that are suggested for one input.
pub const SUGGESTIONS_MAX: usize = 3;

/// Edits that are forgiven, however long the input is.
const EDITS_MAX: usize = 3;

/// Cells of the distance tables for one field: about a millisecond. The stages need three thousand
/// for an input, a thousand values of twelve letters about a hundred thousand.
const CELLS_MAX: usize = 300_000;

/// What is looked at of the spellings costs, too: a cell for each eight.
const SPELLINGS_A_CELL: usize = 8;

/// For each input, at most three values. An input for which nothing is near is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suggestions(pub Vec<(String, Vec<String>)>);

impl Suggestions {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is suggested for `input`, which is as [`super::InvalidInput`] shows it.
    pub fn of(&self, input: &str) -> &[String] {
        self.0.iter().find(|(known, _)| known == input).map_or(&[], |(_, values)| values)
    }
}

impl Serialize for Suggestions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (input, values) in &self.0 {
            map.serialize_entry(input, values)?;
        }
        map.end()
    }
}

/// What may still be spent on suggestions.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) const fn new() -> Self {
        Self(CELLS_MAX)
    }

    fn take(&mut self, cells: usize) -> bool {
        match self.0.checked_sub(cells) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => {
                self.0 = 0;
                false
            }
        }
    }
}

impl Vocabulary {
    /// The values nearest to `input`. Empty where none is near, or the budget is spent.
    pub(super) fn nearest(&self, input: &str, budget: &mut Budget) -> Vec<String> {
        if input.len() > INPUT_BYTES_MAX {
            return Vec::new();
        }
        let folded = fold(input);
        let input = folded.as_str();
        let length = input.chars().count();
        let allowed = (length / 3).min(EDITS_MAX);
        if allowed == 0 || !budget.take(self.spellings.len() / SPELLINGS_A_CELL) {
            return Vec::new();
        }
        let letters = Letters::of(input);
        let mut near: Vec<(usize, ValueId)> = Vec::new();
        for (spelling, id) in &self.spellings {
            let spelling = std::str::from_utf8(spelling).expect("folding text makes text");
            // A character has one to four bytes.
            if spelling.len() > 4 * (length + allowed) || spelling.len() + allowed < length {
                continue;
            }
            if letters.edits_to(Letters::of(spelling)) > allowed {
                continue;
            }
            let other = spelling.chars().count();
            if other.abs_diff(length) > allowed {
                continue;
            }
            if !budget.take(length * other) {
                return Vec::new();
            }
            let distance = strsim::osa_distance(input, spelling);
            if distance > allowed {
                continue;
            }
            match near.iter_mut().find(|(_, known)| known == id) {
                Some((nearest, _)) => *nearest = distance.min(*nearest),
                None => near.push((distance, *id)),
            }
        }
        // Values that are equally near stay in the order of the vocabulary.
        near.sort_unstable();
        near.truncate(SUGGESTIONS_MAX);
        near.into_iter().map(|(_, id)| self.value(id).text.to_string()).collect()
    }
}

/// The set of characters of a text, sixty-four kinds of them: what two sets differ in takes edits.
#[derive(Clone, Copy)]
struct Letters(u64);

impl Letters {
    fn of(text: &str) -> Self {
        Self(text.chars().fold(0, |set, c| set | 1 << (u32::from(c) % 64)))
    }

    /// The least number of edits between texts with these sets: one edit brings at most one
    /// character in and takes at most one out.
    fn edits_to(self, other: Self) -> usize {
        let missing = (self.0 & !other.0).count_ones().max((other.0 & !self.0).count_ones());
        missing as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{stages, words};
    use super::*;

    #[test]
    fn what_is_near_is_suggested_and_nothing_else() {
        let stages = stages();
        let cases: [(&str, &[&str]); 14] = [
            ("sead", &["seed"]),
            ("SEDE", &["seed"]),
            ("seeds", &["seed"]),
            ("pre-sed", &["pre-seed"]),
            ("serie b", &["series-b", "series-a", "series-c"]),
            ("Series D", &["series-a", "series-b", "series-c"]),
            ("growht", &["growth"]),
            ("latestag", &["late-stage"]),
            ("Series B rounds", &["series-b", "series-a", "series-c"]),
            ("zzzz", &[]),
            ("x", &[]),
            ("se", &[]),
            ("", &[]),
            ("quarterly report", &[]),
        ];
        for (input, want) in cases {
            assert_eq!(stages.nearest(input, &mut Budget::new()), want, "{input:?}");
        }
        assert!(stages.nearest(&"seed".repeat(10_000), &mut Budget::new()).is_empty());
    }

    #[test]
    fn never_more_than_three_and_never_beyond_the_budget() {
        let values: Vec<String> = (0..1000).map(|n| format!("category-{n:04}")).collect();
        let values: Vec<(&str, &[&str])> =
            values.iter().map(|value| (value.as_str(), &[][..])).collect();
        let many = Vocabulary::build(&words(&values)).unwrap();
        let mut budget = Budget::new();
        assert_eq!(many.nearest("categori-0042", &mut budget).len(), SUGGESTIONS_MAX);
        let mut answered = 1;
        while !many.nearest("categori-0042", &mut budget).is_empty() {
            answered += 1;
            assert!(answered < 100, "the budget has an end");
        }
        assert!(many.nearest("categori-0042", &mut budget).is_empty(), "it stays spent");
        assert_eq!(budget.0, 0);
    }

    #[test]
    fn sets_of_letters_never_overstate_the_distance() {
        use proptest::prelude::*;
        proptest!(|(a in "[a-g]{0,8}", b in "[a-g]{0,8}")| {
            let least = Letters::of(&a).edits_to(Letters::of(&b));
            prop_assert!(least <= strsim::osa_distance(&a, &b));
        });
    }
}
