//! The Merkle tree of RFC 6962 and RFC 9162, section 2.1, over SHA-256.
//!
//! 1. A leaf's hash is `SHA-256(0x00 ‖ leaf)`, a node's is `SHA-256(0x01 ‖ left ‖ right)`; the
//!    root of no leaves is `SHA-256("")`.
//! 2. A tree of `n` leaves splits at the largest power of two below `n`.
//! 3. The [`Frontier`] holds the roots of the perfect subtrees that `n` is made of, largest
//!    first: as many as `n` has bits set. With it a leaf costs two hashes on average, and a root
//!    at most 63.
//! 4. Of the perfect subtrees those of [`is_kept`] levels (16, 256, 4096 … leaves) are stored: a
//!    fifteenth of the leaves. What a proof needs is between two such levels, so it is made from
//!    at most eight stored hashes, and a proof reads a few hundred rows of a log of any length.

use std::fmt;

use ring::digest;

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What the chain of hashes starts from.
    pub const ZERO: Self = Self([0; 32]);
}

impl fmt::Display for Hash {
    /// 64 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// SHA-256 of `parts`, one behind the other.
pub(super) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    Hash(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf])
}

pub(super) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    sha256(&[&bytes])
}

/// What the chain says after a leaf: `SHA-256(previous ‖ leaf hash)`.
pub(super) fn chain_hash(previous: &Hash, leaf: &Hash) -> Hash {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&previous.0);
    bytes[32..].copy_from_slice(&leaf.0);
    sha256(&[&bytes])
}

/// Between two levels that are stored.
pub(super) const LEVELS_APART: u32 = 4;

/// Whether the perfect subtrees of this level are stored.
pub(super) const fn is_kept(level: u32) -> bool {
    level > 0 && level.is_multiple_of(LEVELS_APART)
}

/// What a growing tree has to remember.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// The frontier of the first `size` leaves. `perfect` gives the root of a perfect subtree:
    /// of the leaves from `position << level`, `1 << level` of them.
    pub(super) fn load<E>(
        size: u64,
        mut perfect: impl FnMut(u32, u64) -> Result<Hash, E>,
    ) -> Result<Self, E> {
        let mut roots = Vec::new();
        for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
            roots.push(perfect(level, (size >> level) - 1)?);
        }
        Ok(Self { size, roots })
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. Each perfect subtree that it completes is told of, smallest first.
    pub(super) fn push<E>(
        &mut self,
        leaf: Hash,
        mut completed: impl FnMut(u32, u64, Hash) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut hash = leaf;
        let mut level = 0;
        while self.size >> level & 1 == 1 {
            let left = self.roots.pop().expect("a root for each bit of the size");
            hash = node_hash(&left, &hash);
            level += 1;
            completed(level, self.size >> level, hash)?;
        }
        self.roots.push(hash);
        self.size += 1;
        Ok(())
    }

    pub(super) fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(first) = roots.next() else { return sha256(&[]) };
        roots.fold(*first, |right, left| node_hash(left, &right))
    }
}

/// The root of a perfect subtree made from those of a level below it, in order.
pub(super) fn fold(mut hashes: Vec<Hash>) -> Option<Hash> {
    while hashes.len() > 1 {
        if hashes.len() % 2 == 1 {
            return None;
        }
        hashes = hashes.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    hashes.pop()
}

/// Where the hashes of perfect subtrees are kept: leaves are level 0.
pub(super) trait Perfect {
    type Error;
    fn perfect(&mut self, level: u32, position: u64) -> Result<Hash, Self::Error>;
}

/// The hashes from a leaf's neighbour up to the root's children (RFC 9162, section 2.1.3.1).
pub(super) fn inclusion<P: Perfect>(
    hashes: &mut P,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, P::Error> {
    let (mut begin, mut end) = (0, size);
    let mut path = Vec::new();
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            path.push(range(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(range(hashes, begin, middle)?);
            begin = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// What shows that the tree of `newer` leaves begins with that of `older`, which is not empty
/// (RFC 9162, section 2.1.4.1).
pub(super) fn consistency<P: Perfect>(
    hashes: &mut P,
    older: u64,
    newer: u64,
) -> Result<Vec<Hash>, P::Error> {
    let (mut begin, mut end) = (0, newer);
    let mut path = Vec::new();
    while end != older {
        let middle = begin + split(end - begin);
        if older <= middle {
            path.push(range(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(range(hashes, begin, middle)?);
            begin = middle;
        }
    }
    if begin > 0 {
        path.push(range(hashes, begin, end)?);
    }
    path.reverse();
    Ok(path)
}

/// The largest power of two below `leaves`, which are more than one.
const fn split(leaves: u64) -> u64 {
    1 << (u64::BITS - 1 - (leaves - 1).leading_zeros())
}

/// The root of the leaves from `begin` to `end`; a range as [`split`] makes them.
fn range<P: Perfect>(hashes: &mut P, begin: u64, end: u64) -> Result<Hash, P::Error> {
    let leaves = end - begin;
    if leaves.is_power_of_two() {
        let level = leaves.trailing_zeros();
        return hashes.perfect(level, begin >> level);
    }
    let middle = begin + split(leaves);
    let left = range(hashes, begin, middle)?;
    let right = range(hashes, middle, end)?;
    Ok(node_hash(&left, &right))
}

/// Whether `path` leads from the leaf `index` to the root of `size` leaves (RFC 9162, section
/// 2.1.3.2).
pub fn is_included(leaf: Hash, index: u64, size: u64, path: &[Hash], root: Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for step in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(step, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `path` shows that `newer` leaves with `newer_root` begin with `older` leaves with
/// `older_root` (RFC 9162, section 2.1.4.2).
pub fn is_consistent(
    (older, older_root): (u64, Hash),
    (newer, newer_root): (u64, Hash),
    path: &[Hash],
) -> bool {
    if older == 0 || older > newer {
        return false;
    }
    if older == newer {
        return path.is_empty() && older_root == newer_root;
    }
    let mut steps = path.iter();
    let (mut at, mut last) = (older - 1, newer - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    // A perfect older tree is a node of the newer one: its root is known and left out.
    let first = if older.is_power_of_two() { Some(&older_root) } else { steps.next() };
    let Some(&first) = first else { return false };
    let (mut old, mut new) = (first, first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = node_hash(step, &old);
            new = node_hash(step, &new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old == older_root && new == newer_root
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// RFC 9162, section 2.1.1, as it is written there.
    fn root_as_defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [leaf] => *leaf,
            many => {
                let (left, right) = many.split_at(split(many.len() as u64) as usize);
                node_hash(&root_as_defined(left), &root_as_defined(right))
            }
        }
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
    }

    /// All perfect subtrees from the leaves, without any that is stored.
    struct FromLeaves(Vec<Hash>);

    impl Perfect for FromLeaves {
        type Error = Infallible;
        fn perfect(&mut self, level: u32, position: u64) -> Result<Hash, Infallible> {
            let begin = (position << level) as usize;
            Ok(root_as_defined(&self.0[begin..begin + (1 << level)]))
        }
    }

    fn grown(leaves: &[Hash]) -> Frontier {
        let mut frontier = Frontier::default();
        for leaf in leaves {
            frontier.push(*leaf, |_, _, _| Ok::<_, Infallible>(())).unwrap();
        }
        frontier
    }

    #[test]
    fn the_roots_are_those_of_certificate_transparency() {
        // The test vectors of the reference implementation of RFC 6962.
        let inputs: [&[u8]; 8] = [
            &[],
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[
                0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
                0x6e, 0x6f,
            ],
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let hashes: Vec<Hash> = inputs.iter().map(|input| leaf_hash(input)).collect();
        for (size, root) in roots.iter().enumerate() {
            assert_eq!(grown(&hashes[..size]).root().to_string(), *root, "{size} leaves");
        }
    }

    #[test]
    fn every_proof_of_small_trees_holds_and_no_other_does() {
        let all = leaves(40);
        for size in 1..=40_u64 {
            let root = root_as_defined(&all[..size as usize]);
            let mut hashes = FromLeaves(all[..size as usize].to_vec());
            for index in 0..size {
                let leaf = all[index as usize];
                let path = inclusion(&mut hashes, index, size).unwrap();
                assert!(is_included(leaf, index, size, &path, root), "{index} of {size}");
                assert!(!is_included(leaf, index + 1, size, &path, root) || size == 1);
                assert!(!is_included(leaf_hash(b"other"), index, size, &path, root));
                assert!(!is_included(leaf, index, size, &[&path[..], &[leaf]].concat(), root));
            }
            for older in 1..=size {
                let old = (older, root_as_defined(&all[..older as usize]));
                let path = consistency(&mut hashes, older, size).unwrap();
                assert!(is_consistent(old, (size, root), &path), "{older} of {size}");
                assert!(!is_consistent((older, all[0]), (size, root), &path) || older == 1);
                assert!(!is_consistent(old, (size, leaf_hash(b"other")), &path));
                if let Some(short) = path.len().checked_sub(1) {
                    assert!(!is_consistent(old, (size, root), &path[..short]), "{older} of {size}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_frontier_grows_as_it_is_loaded(size in 0_u64..600, more in 0_u64..40) {
            let all = leaves(size + more);
            let mut below = FromLeaves(all.clone());
            let load = |level, position| below.perfect(level, position);
            let mut frontier = Frontier::load(size, load).unwrap();
            prop_assert_eq!(&frontier, &grown(&all[..size as usize]));
            let mut hashes = FromLeaves(all.clone());
            for leaf in &all[size as usize..] {
                frontier.push(*leaf, |level, position, hash| {
                    assert_eq!(hashes.perfect(level, position).unwrap(), hash);
                    Ok::<_, Infallible>(())
                }).unwrap();
            }
            prop_assert_eq!(frontier.root(), root_as_defined(&all));
        }

        #[test]
        fn a_level_folds_to_the_one_above(level in 0_u32..5) {
            let all = leaves(1 << level);
            prop_assert_eq!(fold(all.clone()), Some(root_as_defined(&all)));
        }
    }
}
