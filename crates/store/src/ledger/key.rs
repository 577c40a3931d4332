//! The key that signs checkpoints: made at the first start, read by its owner alone.
//!
//! `audit.key` holds the seed of an Ed25519 key as 64 hex digits; `audit.pub` beside it is what
//! others verify with, as a signed-note verifier key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::note::PublicKey;
use crate::error::StoreError;

/// The secret's file in the data folder.
pub(super) const FILE: &str = "audit.key";

/// The public key's file beside it.
pub(super) const PUBLIC_FILE: &str = "audit.pub";

/// Reads the key; `None` where there is no file.
pub(super) fn load(dir: &Path) -> Result<Option<Ed25519KeyPair>, StoreError> {
    let path = dir.join(FILE);
    let unusable =
        |reason: &str| StoreError::KeyUnusable { path: path.clone(), reason: reason.to_owned() };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&format!("cannot be read: {error}"))),
    };
    let seed = parse(text.trim()).ok_or_else(|| unusable("does not hold 64 hex digits"))?;
    let key = Ed25519KeyPair::from_seed_unchecked(&seed);
    key.map(Some).map_err(|_| unusable("is not a key"))
}

/// Makes a key, and its file, which must not be there.
pub(super) fn make(dir: &Path) -> Result<Ed25519KeyPair, StoreError> {
    let seed: [u8; 32] = random()?;
    let path = dir.join(FILE);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = || -> io::Result<()> {
        let mut file = options.open(&path)?;
        let digits: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(file, "{digits}")?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| StoreError::of_io(&path, &error))?;
    Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| StoreError::NoRandom)
}

/// Writes `audit.pub` where it is not there, for whoever is to verify.
pub(super) fn publish(dir: &Path, key: &PublicKey) -> Result<(), StoreError> {
    let path = dir.join(PUBLIC_FILE);
    let text = format!("{key}\n");
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(&path, text).map_err(|error| StoreError::of_io(&path, &error))
}

pub(super) fn public_bytes(key: &Ed25519KeyPair) -> [u8; 32] {
    key.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes")
}

pub(super) fn random<const BYTES: usize>() -> Result<[u8; BYTES], StoreError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::NoRandom)?;
    Ok(bytes)
}

fn parse(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().is_none());
        let made = public_bytes(&make(dir.path()).unwrap());
        assert_eq!(public_bytes(&load(dir.path()).unwrap().unwrap()), made);
        assert!(make(dir.path()).is_err(), "a key is never written over");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "abc", &"x".repeat(64), &"ab".repeat(33)] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = load(dir.path()).err().unwrap().to_string();
            assert!(error.contains("64 hex digits") && !error.contains("abab"), "{error}");
        }
    }
}
