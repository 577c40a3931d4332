//! The installation's key: made once, kept in the data folder, read by its owner alone.
//!
//! From it come the keys that hash client secrets, choose shares and sign CSRF tokens. Several
//! gateways that are to agree on those are given the same one through `SEAWORTHY_KEY`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use seaworthy_policy::registry::InstallKey;

/// The file in the data folder.
const FILE: &str = "install.key";

/// The environment variable that wins over the file: 64 hex digits.
pub(crate) const VARIABLE: &str = "SEAWORTHY_KEY";

/// Fits after "failed to get the installation's key: ".
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("{VARIABLE} is not 64 hex digits (make one with `openssl rand -hex 32`)")]
    Variable,
    #[error("{0} does not hold 64 hex digits; restore it, or remove it to start with a new key")]
    Malformed(String),
    #[error("{0} cannot be read or written: {1}")]
    Io(String, io::Error),
    #[error("the operating system gives no random bytes")]
    Random,
}

/// Reads the key, or makes one at the first start.
pub(crate) fn load(dir: &Path, variable: Option<&str>) -> Result<InstallKey, KeyError> {
    if let Some(key) = read(dir, variable)? {
        return Ok(key);
    }
    let path = dir.join(FILE);
    make(dir, &path).map_err(|fault| match fault {
        Some(error) => KeyError::Io(path.display().to_string(), error),
        None => KeyError::Random,
    })
}

/// Reads the key that a gateway has; `None` where none has made one yet. Changes nothing.
pub(crate) fn read(dir: &Path, variable: Option<&str>) -> Result<Option<InstallKey>, KeyError> {
    if let Some(text) = variable {
        return parse(text).map(Some).ok_or(KeyError::Variable);
    }
    let path = dir.join(FILE);
    let shown = path.display().to_string();
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).map(Some).ok_or(KeyError::Malformed(shown)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KeyError::Io(shown, error)),
    }
}

fn random() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
}

fn make(dir: &Path, path: &Path) -> Result<InstallKey, Option<io::Error>> {
    let bytes = random().ok_or(None)?;
    fs::create_dir_all(dir)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{digits}")?;
    file.sync_all()?;
    Ok(InstallKey::new(bytes))
}

fn parse(text: &str) -> Option<InstallKey> {
    let digits = text.trim().as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(pair[0])? << 4 | digit(pair[1])?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(InstallKey::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path(), None).unwrap().is_none(), "reading makes none");
        let first = load(dir.path(), None).unwrap();
        assert!(load(dir.path(), None).unwrap() == first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let given = "ab".repeat(32);
        assert!(load(dir.path(), Some(&given)).unwrap() == InstallKey::new([0xab; 32]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "ab", &"x".repeat(64), &"ab".repeat(33)] {
            assert!(matches!(load(dir.path(), Some(text)), Err(KeyError::Variable)));
            fs::write(dir.path().join(FILE), text).unwrap();
            assert!(matches!(load(dir.path(), None), Err(KeyError::Malformed(_))));
        }
    }
}
