//! Counts by name that stay exact and bounded in whatever order they meet.
//!
//! 1. A tally keeps the `N` smallest keys that it was ever given, each with all that was counted
//!    for it; everything else is one sum.
//! 2. So merging is exact: a key that is among the `N` smallest of all was among the `N` smallest
//!    of every part, and was never let go. Which part comes first does not matter.

use std::ops::AddAssign;

/// Counts `V` by at most `N` keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally<K, V, const N: usize> {
    /// In the order of the keys.
    counts: Vec<(K, V)>,
    /// What was counted for keys that found no room.
    other: V,
}

impl<K, V: Default, const N: usize> Default for Tally<K, V, N> {
    fn default() -> Self {
        Self { counts: Vec::new(), other: V::default() }
    }
}

impl<K: Ord + Copy, V: AddAssign + Copy, const N: usize> Tally<K, V, N> {
    pub(super) fn add(&mut self, key: K, value: V) {
        match self.counts.binary_search_by(|(known, _)| known.cmp(&key)) {
            Ok(index) => self.counts[index].1 += value,
            Err(index) if index >= N => self.other += value,
            Err(index) => {
                if self.counts.len() >= N
                    && let Some((_, largest)) = self.counts.pop()
                {
                    self.other += largest;
                }
                self.counts.insert(index, (key, value));
            }
        }
    }

    pub(super) fn absorb(&mut self, other: &Self) {
        for (key, value) in &other.counts {
            self.add(*key, *value);
        }
        self.other += other.other;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.counts.iter()
    }

    pub(super) const fn other(&self) -> &V {
        &self.other
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn tally(events: &[u8]) -> Tally<u8, u64, 4> {
        let mut tally = Tally::default();
        events.iter().for_each(|key| tally.add(*key, 1));
        tally
    }

    #[test]
    fn the_smallest_are_told_apart_and_the_rest_is_one_sum() {
        for (events, kept, other) in [
            (&[][..], &[][..], 0),
            (&[3, 1, 3], &[(1, 1), (3, 2)], 0),
            (&[9, 8, 7, 6, 5, 9], &[(5, 1), (6, 1), (7, 1), (8, 1)], 2),
            (&[1, 2, 3, 4, 9, 9], &[(1, 1), (2, 1), (3, 1), (4, 1)], 2),
        ] {
            let tally = tally(events);
            assert_eq!(tally.iter().copied().collect::<Vec<_>>(), kept, "{events:?}");
            assert_eq!(*tally.other(), other, "{events:?}");
        }
    }

    proptest! {
        /// However the events are cut into parts, and in whatever order and nesting the parts
        /// meet, the tally is that of all events, and says of each kept key all there was.
        #[test]
        fn parts_meet_in_any_order(
            mut parts in proptest::collection::vec(
                proptest::collection::vec(0_u8..12, 0..20), 0..6),
            swap in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let events: Vec<u8> = parts.concat();
            let mut exact = BTreeMap::new();
            for key in &events {
                *exact.entry(*key).or_insert(0_u64) += 1;
            }
            let whole = tally(&events);
            prop_assert!(whole.iter().copied().eq(exact.into_iter().take(4)));
            prop_assert_eq!(
                whole.iter().map(|(_, n)| n).sum::<u64>() + whole.other(), events.len() as u64
            );

            if !parts.is_empty() {
                let (a, b) = (swap.0.index(parts.len()), swap.1.index(parts.len()));
                parts.swap(a, b);
            }
            let tallies: Vec<_> = parts.iter().map(|part| tally(part)).collect();
            let mut from_left = Tally::default();
            tallies.iter().for_each(|part| from_left.absorb(part));
            let from_right = tallies.iter().rev().fold(Tally::default(), |right, part| {
                let mut part = part.clone();
                part.absorb(&right);
                part
            });
            prop_assert_eq!(&from_left, &whole);
            prop_assert_eq!(&from_right, &whole);
        }
    }
}
