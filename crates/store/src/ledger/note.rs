//! Checkpoints as C2SP writes them: a `tlog-checkpoint` in a `signed-note`, signed with Ed25519.
//!
//! ```text
//! seaworthy/audit/5f0c…            the origin: which log, and the name of its key
//! 1000                             the size
//! 7h3q…=                           the root of that many leaves, in base64
//! previous 960                     the size of the checkpoint before; 0 for the first
//! time 1785585600000000            the newest leaf's time, in Unix microseconds
//!
//! — seaworthy/audit/5f0c… kq7N…=   four bytes that name the key, then the signature, in base64
//! ```
//!
//! What is signed is the text up to the empty line, its last line break included. The last two
//! lines of it are extensions, which the format leaves to each log: `previous` makes a checkpoint
//! that was taken out of a file of them noticed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::merkle::{Hash, sha256};

/// What every origin begins with, before the log's id.
const ORIGIN: &str = "seaworthy/audit/";

/// The algorithm in front of an Ed25519 key, as signed-note numbers them.
const ED25519_TAG: u8 = 1;

/// The random name of a log: 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogId(String);

impl LogId {
    pub(super) fn new(bytes: [u8; 16]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 32 && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What checkpoints and keys are called by.
    pub(super) fn origin(&self) -> String {
        format!("{ORIGIN}{}", self.0)
    }
}

/// The public key that checkpoints are verified with, and the log that it is for. As text it is
/// a signed-note verifier key: `<origin>+<key id>+<base64>`.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    log: LogId,
    bytes: [u8; 32],
}

/// Fits after "failed to read the public key: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `seaworthy/audit/<log>+<8 hex digits>+<base64>`, as `audit.pub` has it")]
pub struct PublicKeyError;

impl PublicKey {
    pub(super) const fn new(log: LogId, bytes: [u8; 32]) -> Self {
        Self { log, bytes }
    }

    pub const fn log(&self) -> &LogId {
        &self.log
    }

    /// The first four bytes of SHA-256 of the name, a line break, the algorithm and the key.
    fn id(&self) -> [u8; 4] {
        let Hash(hash) =
            sha256(&[self.log.origin().as_bytes(), b"\n", &[ED25519_TAG], &self.bytes]);
        [hash[0], hash[1], hash[2], hash[3]]
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.id();
        let tagged: Vec<u8> = [&[ED25519_TAG][..], &self.bytes].concat();
        let key = STANDARD.encode(tagged);
        write!(f, "{}+{a:02x}{b:02x}{c:02x}{d:02x}+{key}", self.log.origin())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        // Base64 has plus signs too, so the last part is what is left.
        let mut parts = text.trim().splitn(3, '+');
        let mut next = || parts.next().ok_or(PublicKeyError);
        let (origin, _, key) = (next()?, next()?, next()?);
        let log = origin.strip_prefix(ORIGIN).and_then(LogId::parse).ok_or(PublicKeyError)?;
        let tagged = STANDARD.decode(key).map_err(|_| PublicKeyError)?;
        let [ED25519_TAG, bytes @ ..] = &tagged[..] else { return Err(PublicKeyError) };
        let bytes = bytes.try_into().map_err(|_| PublicKeyError)?;
        let key = Self { log, bytes };
        // The id in the middle guards against a key that was copied in part.
        if key.to_string() == text.trim() { Ok(key) } else { Err(PublicKeyError) }
    }
}

/// What a log says of itself at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub log: LogId,
    /// Leaves; more than none.
    pub size: u64,
    pub root: Hash,
    /// The size of the checkpoint before; 0 for the first.
    pub previous: u64,
    /// The newest leaf's.
    pub ts_us: i64,
}

/// A checkpoint as it was read; whether its signature is right is still to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    pub checkpoint: Checkpoint,
    /// The whole note, with the line break at its end.
    pub note: String,
    signature: Vec<u8>,
}

/// Fits after "the checkpoint ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("is not a signed note of an audit log")]
    Malformed,
    #[error("is signed with another key than {0}")]
    OtherKey(String),
    #[error("has a signature that is not of this text")]
    BadSignature,
}

impl Checkpoint {
    /// What is signed.
    fn text(&self) -> String {
        let Self { log, size, root, previous, ts_us } = self;
        let root = STANDARD.encode(root.0);
        format!("{}\n{size}\n{root}\nprevious {previous}\ntime {ts_us}\n", log.origin())
    }

    /// The note, signed.
    pub(super) fn sign(&self, key: &Ed25519KeyPair) -> String {
        let text = self.text();
        let bytes = key.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
        let public = PublicKey::new(self.log.clone(), bytes);
        let signature = [&public.id()[..], key.sign(text.as_bytes()).as_ref()].concat();
        format!("{text}\n— {} {}\n", self.log.origin(), STANDARD.encode(signature))
    }
}

impl SignedCheckpoint {
    /// Reads a whole note, which ends with one line break. Nothing that [`Checkpoint::sign`]
    /// would not have written is taken.
    pub(super) fn parse(note: &str) -> Result<Self, NoteError> {
        let parse = || {
            let (body, signed) = note.split_once("\n\n")?;
            let mut lines = body.split('\n');
            let log = LogId::parse(lines.next()?.strip_prefix(ORIGIN)?)?;
            let size = lines.next()?.parse().ok().filter(|size| *size > 0)?;
            let root = STANDARD.decode(lines.next()?).ok()?;
            let root = Hash(root.try_into().ok()?);
            let previous = lines.next()?.strip_prefix("previous ")?.parse().ok()?;
            let ts_us = lines.next()?.strip_prefix("time ")?.parse().ok()?;
            let checkpoint = Checkpoint { log, size, root, previous, ts_us };
            let signature = signed.strip_suffix('\n')?.strip_prefix("— ")?;
            let (name, signature) = signature.split_once(' ')?;
            let signature = STANDARD.decode(signature).ok()?;
            // Numbers with a plus sign or zeros in front would be other bytes for the same.
            let same = checkpoint.text().strip_suffix('\n')? == body
                && name == checkpoint.log.origin()
                && signature.len() == 4 + 64
                && previous < size;
            same.then(|| Self { checkpoint, note: note.to_owned(), signature })
        };
        parse().ok_or(NoteError::Malformed)
    }

    pub(super) fn verify(&self, key: &PublicKey) -> Result<(), NoteError> {
        let (id, signature) = self.signature.split_at(4);
        if self.checkpoint.log != key.log || id != key.id() {
            return Err(NoteError::OtherKey(key.to_string()));
        }
        let signed = key.verifies(&self.checkpoint.text(), signature);
        if signed { Ok(()) } else { Err(NoteError::BadSignature) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn public(seed: u8) -> PublicKey {
        let bytes = key(seed).public_key().as_ref().try_into().unwrap();
        PublicKey::new(LogId::new([0xab; 16]), bytes)
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            log: LogId::new([0xab; 16]),
            size: 1000,
            root: Hash([7; 32]),
            previous: 960,
            ts_us: 1_785_585_600_000_000,
        }
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let note = checkpoint().sign(&key(1));
        let id = "ab".repeat(16);
        let root = STANDARD.encode([7; 32]);
        let text = format!(
            "seaworthy/audit/{id}\n1000\n{root}\nprevious 960\ntime 1785585600000000\n\n— \
             seaworthy/audit/{id} "
        );
        assert!(note.starts_with(&text), "{note}");
        let signed = SignedCheckpoint::parse(&note).unwrap();
        assert_eq!((&signed.checkpoint, &signed.note), (&checkpoint(), &note));
        assert_eq!(signed.verify(&public(1)), Ok(()));
        let other = public(2);
        assert_eq!(signed.verify(&other), Err(NoteError::OtherKey(other.to_string())));
    }

    #[test]
    fn no_byte_of_a_note_can_be_another() {
        let note = checkpoint().sign(&key(1));
        for at in 0..note.len() {
            for flip in [1, 0x20] {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= flip;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                let sound = SignedCheckpoint::parse(&text)
                    .is_ok_and(|signed| signed.verify(&public(1)).is_ok());
                assert!(!sound, "byte {at}: {text}");
            }
        }
        for (wrong, right) in [("1000\n", "01000\n"), ("1000\n", "+1000\n"), ("960", "1000")] {
            let text = note.replacen(wrong, right, 1);
            assert_eq!(SignedCheckpoint::parse(&text), Err(NoteError::Malformed), "{text}");
        }
        for line in 0..note.lines().count() {
            let lines = note.lines().enumerate().filter(|(at, _)| *at != line);
            let text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
            assert_eq!(SignedCheckpoint::parse(&text), Err(NoteError::Malformed), "{text}");
        }
    }

    #[test]
    fn a_public_key_is_text_that_guards_itself() {
        let text = public(1).to_string();
        assert_eq!(format!("{text}\n").parse(), Ok(public(1)));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(other) = String::from_utf8(bytes) else { continue };
            assert_eq!(other.parse::<PublicKey>(), Err(PublicKeyError), "{other}");
        }
        let mut short = text.clone();
        short.pop();
        for wrong in ["", "+", "a+b+c", &short, text.trim_start_matches('s')] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(PublicKeyError), "{wrong}");
        }
    }

    #[test]
    fn the_key_id_is_that_of_the_format() {
        // The example of the signed-note specification's reference implementation has other
        // names; what is hashed is checked by its parts instead.
        let public = public(3);
        let hashed = [public.log().origin().as_bytes(), b"\n\x01", &public.bytes].concat();
        assert_eq!(public.id(), sha256(&[&hashed]).0[..4]);
    }
}
