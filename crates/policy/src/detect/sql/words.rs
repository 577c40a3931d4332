//! What libinjection knows of SQL: the kind of each word, and the fingerprints of attacks.

use std::sync::LazyLock;

use libinjectionrs::sqli::sqli_data::SQL_KEYWORDS;

use super::token::{Kind, TEXT_MAX};

/// `word`, in upper or lower case, where SQL has one like it.
pub(super) fn find(word: &[u8]) -> Option<&'static Entry> {
    TABLES.find(word)
}

/// What `first` and `second` are together.
pub(super) fn find_pair(first: &[u8], second: &[u8]) -> Option<&'static Entry> {
    let len = first.len() + 1 + second.len();
    let mut pair = [b' '; TEXT_MAX];
    pair.get_mut(..first.len())?.copy_from_slice(first);
    pair.get_mut(first.len() + 1..len)?.copy_from_slice(second);
    TABLES.find(&pair[..len])
}

/// Whether values that fold to `fingerprint` are taken for attacks.
pub(super) fn is_known(fingerprint: &[Kind]) -> bool {
    TABLES.fingerprints.binary_search(&packed(fingerprint.iter().map(|kind| kind.letter()))).is_ok()
}

/// Whether a value of words, numbers and the bytes `-.:/,` alone can be an attack once `word` is in
/// it.
pub(in crate::detect) fn telling(word: &[u8]) -> Telling {
    let Some(first) = word.first() else { return Telling::No };
    // Most words are let go by their first letter and length.
    let lengths = TABLES.telling_lengths[usize::from(first.to_ascii_uppercase() & 127)];
    if word.len() > TEXT_MAX || lengths >> word.len() & 1 == 0 {
        return Telling::No;
    }
    TABLES.find(word).map_or(Telling::No, |entry| entry.telling)
}

/// What a word says of a value of plain bytes. Each fingerprint that such a value can fold to has a
/// token whose kind no other word has; the tests hold the tables to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::detect) enum Telling {
    No,
    /// `GROUP` and `BY` are names apart and a clause together.
    InPairs,
    Alone,
}

struct Tables {
    /// Words by their first byte and length, so that a word of no dialect costs one look.
    words: Vec<Entry>,
    buckets: Vec<(u16, u16)>,
    /// By first letter: a bit for each length of a word that tells.
    telling_lengths: [u32; 128],
    /// Packed letters, sorted.
    fingerprints: Vec<u64>,
}

pub(super) struct Entry {
    /// In upper case.
    pub(super) word: &'static [u8],
    /// [`head_of`] it.
    head: u64,
    /// `None`: a part of words that belong together, with no meaning alone.
    pub(super) kind: Option<Kind>,
    telling: Telling,
}

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::read);

impl Tables {
    fn read() -> Self {
        let mut words: Vec<Entry> = Vec::new();
        let mut fingerprints = Vec::new();
        for keyword in SQL_KEYWORDS {
            let word = keyword.word.as_bytes();
            if keyword.token_type == b'F' {
                let letters = word.get(1..).unwrap_or_default();
                fingerprints.push(packed(letters.iter().copied()));
            } else if let Some(kind) = Kind::of_letter(keyword.token_type) {
                let telling = if kind.is_telling() { Telling::Alone } else { Telling::No };
                let head = head_of(word);
                words.push(Entry { word, head, kind: Some(kind), telling });
            }
        }
        let parts = words.iter().map(|entry| entry.word).filter(|word| word.contains(&b' '));
        let mut parts: Vec<&[u8]> = parts.flat_map(|word| word.split(|&b| b == b' ')).collect();
        parts.sort_unstable();
        parts.dedup();
        for part in parts {
            match words.iter_mut().find(|entry| entry.word == part) {
                Some(entry) => entry.telling = entry.telling.max(Telling::InPairs),
                None => {
                    let (head, telling) = (head_of(part), Telling::InPairs);
                    words.push(Entry { word: part, head, kind: None, telling });
                }
            }
        }
        words.sort_by_key(|entry| (bucket_of(entry.word), entry.word));
        let mut buckets = vec![(0, 0); BUCKETS];
        for (at, entry) in words.iter().enumerate() {
            let at = u16::try_from(at).expect("about a thousand words");
            let Some(bucket) = bucket_of(entry.word) else { continue };
            let range: &mut (u16, u16) = &mut buckets[bucket];
            if range.1 == 0 {
                range.0 = at;
            }
            range.1 = at + 1;
        }
        let mut telling_lengths = [0; 128];
        for entry in words.iter().filter(|entry| entry.telling != Telling::No) {
            telling_lengths[usize::from(entry.word[0] & 127)] |= 1 << entry.word.len();
        }
        fingerprints.sort_unstable();
        Self { words, buckets, telling_lengths, fingerprints }
    }

    fn find(&self, word: &[u8]) -> Option<&Entry> {
        let (from, to) = self.buckets[bucket_of(word)?];
        if from == to {
            return None;
        }
        let bucket = &self.words[usize::from(from)..usize::from(to)];
        let head = head_of(word);
        let rest = word.get(HEAD_BYTES..).unwrap_or_default();
        // Words of one bucket are of one length.
        let is_it = |entry: &&Entry| {
            entry.head == head
                && (rest.is_empty() || entry.word[HEAD_BYTES..].eq_ignore_ascii_case(rest))
        };
        bucket.iter().find(is_it)
    }
}

const HEAD_BYTES: usize = 8;

/// The first bytes of a word in upper case, to compare it by: byte by byte took a quarter of all
/// the time that a body of a few hundred bytes was looked at.
fn head_of(word: &[u8]) -> u64 {
    let bytes = word.iter().take(HEAD_BYTES);
    bytes.fold(0, |head, byte| head << 8 | u64::from(byte.to_ascii_uppercase()))
}

const BUCKETS: usize = 128 * (TEXT_MAX + 1);

fn bucket_of(word: &[u8]) -> Option<usize> {
    let first = usize::from(word.first()?.to_ascii_uppercase());
    (first < 128 && word.len() <= TEXT_MAX).then(|| first * (TEXT_MAX + 1) + word.len())
}

/// The table writes fingerprints in upper case, and so treats `t` and `T` alike.
fn packed(letters: impl Iterator<Item = u8>) -> u64 {
    letters.fold(0, |packed, letter| packed << 8 | u64::from(letter.to_ascii_uppercase()))
}
