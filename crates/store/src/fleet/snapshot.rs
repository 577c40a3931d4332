//! The board on disk: what a gateway believes that starts while Redis cannot be reached.
//!
//! 1. It is written beside its place, synced, and renamed over it: there is always a whole one.
//! 2. Its second line is the SHA-256 of all that follows. A file that does not fit it, be it torn
//!    or edited, is refused whole; so is one of another fleet. What it said is never guessed at.
//! 3. A thread of its own writes it, and only the newest board: a slow disk holds up nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ring::digest;
use seaworthy_policy::modes::{ModeBoard, ModeEntry};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The first line. Another form would have another one.
const MAGIC: &str = "seaworthy modes 1";

/// More than all rules have, with the longest names and causes.
const BYTES_MAX: u64 = 4 << 20;

/// A board and its age.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshot {
    /// Of whose fleet.
    pub(super) fleet: String,
    /// Unix microseconds of when Redis last had it; where it never had, of the last change.
    pub(super) synced_us: i64,
    pub(super) modes: ModeBoard,
    /// What was made here and Redis has not had, by rule, whatever has superseded it since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) untold: BTreeMap<String, ModeEntry>,
}

/// Why there is nothing to believe. Fits after "failed to read <path>: ".
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it has more than {} MiB, which no snapshot of modes has", BYTES_MAX >> 20)]
    TooLong,
    #[error("it is no snapshot of modes that this version knows")]
    Unknown,
    #[error("its checksum does not fit: it was torn or edited")]
    Torn,
    #[error("it does not say what a snapshot says: {0}")]
    Form(#[from] serde_json::Error),
    #[error("it is of another fleet, {0:?}")]
    OtherFleet(String),
}

/// What is at `path`; `None` where there is nothing.
pub(super) fn read(path: &Path, fleet: &str) -> Result<Option<Snapshot>, SnapshotError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(SnapshotError::TooLong);
    }
    let rest = bytes
        .strip_prefix(MAGIC.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"\n"))
        .ok_or(SnapshotError::Unknown)?;
    let (sum, body) = rest.split_at_checked(SUM_DIGITS + 1).ok_or(SnapshotError::Torn)?;
    if sum != format!("{}\n", checksum(body)).as_bytes() {
        return Err(SnapshotError::Torn);
    }
    let snapshot: Snapshot = serde_json::from_slice(body)?;
    if snapshot.fleet != fleet {
        return Err(SnapshotError::OtherFleet(snapshot.fleet));
    }
    Ok(Some(snapshot))
}

pub(super) fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let mut body = serde_json::to_vec(snapshot)?;
    body.push(b'\n');
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_added_extension("new");
    let mut file = File::create(&beside)?;
    writeln!(file, "{MAGIC}\n{}", checksum(&body))?;
    file.write_all(&body)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name is on disk once its folder is.
    File::open(folder)?.sync_all()
}

const SUM_DIGITS: usize = 64;

fn checksum(body: &[u8]) -> String {
    let sum = digest::digest(&digest::SHA256, body);
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    sum.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Writes the newest snapshot it was given.
#[derive(Debug)]
pub(super) struct Writer {
    newest: watch::Sender<Option<Snapshot>>,
    /// Why the last one was not written.
    fault: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Writer {
    pub(super) fn start(path: PathBuf) -> Self {
        let (newest, mut given) = watch::channel(None);
        let (faults, fault) = watch::channel(None);
        let task = tokio::spawn(async move {
            while given.changed().await.is_ok() {
                let Some(snapshot) = given.borrow_and_update().clone() else { continue };
                let path = path.clone();
                let written = tokio::task::spawn_blocking(move || write(&path, &snapshot)).await;
                let fault = match written {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                faults.send_replace(fault);
            }
        });
        Self { newest, fault, task }
    }

    pub(super) fn give(&self, snapshot: Snapshot) {
        self.newest.send_replace(Some(snapshot));
    }

    /// Returns when one has been written, or has not: then with the reason.
    pub(super) async fn written(&mut self) -> Option<String> {
        if self.fault.changed().await.is_err() {
            // The task has ended, and with it what could be awaited.
            std::future::pending::<()>().await;
        }
        self.fault.borrow_and_update().clone()
    }

    /// Returns once the last one is on disk, or is not.
    pub(super) async fn close(self) -> Option<String> {
        let Self { newest, fault, task } = self;
        drop(newest);
        match task.await {
            Ok(()) => fault.borrow().clone(),
            Err(error) => Some(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use seaworthy_policy::mode::Mode;
    use seaworthy_policy::modes::Cause;

    use super::*;

    fn snapshot() -> Snapshot {
        let cause = Cause::new("the gate passed");
        let mode = Mode::Warn;
        let entry =
            ModeEntry { mode, epoch: 3, policy_hash: [7; 32], version: 1, since_us: 5, cause };
        let mut modes = ModeBoard::default();
        modes.take("csrf", entry.clone()).unwrap();
        let untold = [("csrf".to_owned(), entry)].into();
        Snapshot { fleet: "seaworthy:desk".to_owned(), synced_us: 11, modes, untold }
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/on/the/way/modes.snapshot");
        assert!(read(&path, "seaworthy:desk").unwrap().is_none(), "none yet");
        write(&path, &snapshot()).unwrap();
        write(&path, &Snapshot { synced_us: 12, ..snapshot() }).unwrap();
        let found = read(&path, "seaworthy:desk").unwrap().unwrap();
        assert_eq!(found, Snapshot { synced_us: 12, ..snapshot() });
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside it");
    }

    #[test]
    fn every_torn_or_edited_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("modes.snapshot");
        write(&path, &snapshot()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path, "seaworthy:desk").is_err(), "torn at {length}");
        }
        for at in 0..whole.len() {
            let mut edited = whole.clone();
            edited[at] ^= 1;
            fs::write(&path, edited).unwrap();
            assert!(read(&path, "seaworthy:desk").is_err(), "edited at {at}");
        }
        fs::write(&path, [&whole[..], b"\n"].concat()).unwrap();
        assert!(matches!(read(&path, "seaworthy:desk"), Err(SnapshotError::Torn)));
        fs::write(&path, vec![b'x'; BYTES_MAX as usize + 1]).unwrap();
        assert!(matches!(read(&path, "seaworthy:desk"), Err(SnapshotError::TooLong)));
        fs::write(&path, &whole).unwrap();
        assert!(matches!(read(&path, "other"), Err(SnapshotError::OtherFleet(_))));
        assert!(read(&path, "seaworthy:desk").unwrap().is_some());
    }

    #[tokio::test]
    async fn the_newest_is_on_disk_once_the_writer_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("modes.snapshot");
        let writer = Writer::start(path.clone());
        for synced_us in 0..50 {
            writer.give(Snapshot { synced_us, ..snapshot() });
        }
        assert_eq!(writer.close().await, None);
        assert_eq!(read(&path, "seaworthy:desk").unwrap().unwrap().synced_us, 49);
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "in the way").unwrap();
        let mut writer = Writer::start(file.join("modes.snapshot"));
        writer.give(snapshot());
        assert!(writer.written().await.is_some());
        assert!(writer.close().await.is_some());
    }
}
