//! The file of checkpoints that a log is held against: the gateway's own, or one kept elsewhere.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Take};
use std::path::Path;

use super::super::checkpoint_file::Notes;
use super::super::note::SignedCheckpoint;
use super::VerifyError;

/// The file of checkpoints, up to the length that it had at first.
pub(super) struct KeptFile {
    pub(super) name: String,
    /// Whether it is the gateway's own, which has them all.
    pub(super) whole: bool,
    pub(super) notes: Notes<BufReader<Take<File>>>,
}

impl KeptFile {
    /// `None` where the gateway's own is not there.
    pub(super) fn open(named: Option<&Path>, own: &Path) -> Result<Option<Self>, VerifyError> {
        let path = named.unwrap_or(own);
        let unreadable = |error: io::Error| VerifyError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(None);
            }
            opened => opened.map_err(unreadable)?,
        };
        let bytes = file.metadata().map_err(unreadable)?.len();
        let notes = Notes::new(BufReader::new(file.take(bytes)));
        Ok(Some(Self { name: path.display().to_string(), whole: named.is_none(), notes }))
    }
}

/// A note of the file, and the line that it begins at.
pub(super) struct Kept {
    pub(super) line: u64,
    pub(super) signed: SignedCheckpoint,
}
