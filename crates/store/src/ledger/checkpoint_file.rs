//! `audit.checkpoints`: every checkpoint again, in a file of its own that only grows.
//!
//! 1. Each note is followed by an empty line, so that the file is read as notes without any
//!    other knowledge, and can be copied elsewhere by whoever is to notice a rewritten log.
//! 2. The table is first, the file follows: what a crash kept out of the file is added to it at
//!    the next start, the end of a note that was half-written included. Nothing of it is ever
//!    written over.
//! 3. A file that counts more leaves than the table has, or has another note for a size, is of
//!    another continuation of this log: the ledger is then not written, since a second root for
//!    one size is what a log must never sign.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};

use super::audit_log::{number, size_of};
use super::note::{PublicKey, SignedCheckpoint};
use crate::error::{Doing, StoreError};

pub(super) const FILE: &str = "audit.checkpoints";

/// A note has some 250 bytes; what is longer than this is none.
pub(super) const NOTE_BYTES_MAX: usize = 1024;

/// How much of the file's end is read at start.
const TAIL_BYTES: usize = 8 * NOTE_BYTES_MAX;

/// Notes that are taken out of the table at a time.
const NOTES_AT_ONCE: u32 = 256;

/// The file, open to be added to.
#[derive(Debug)]
pub(super) struct CheckpointFile {
    path: PathBuf,
    file: File,
    /// The size of the newest checkpoint that is in the file whole.
    newest: u64,
    /// Bytes of the next one that are there already.
    begun: usize,
    synced: bool,
}

impl CheckpointFile {
    /// Opens the file, makes sure that it is of this log, and adds what it lacks.
    pub(super) fn open(
        dir: &Path,
        key: &PublicKey,
        connection: &Connection,
        database: &Path,
    ) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let io = |error: io::Error| StoreError::of_io(&path, &error);
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(io)?;
        let tail = read_tail(&mut file).map_err(io)?;
        let diverged = |reason: String| StoreError::Diverged { path: path.clone(), reason };
        let (newest, begun) = match split_tail(&tail) {
            Tail::Empty => (0, 0),
            Tail::Begun(begun) => (0, begun),
            Tail::Whole { note, begun } => {
                let signed = SignedCheckpoint::parse(&note)
                    .and_then(|signed| signed.verify(key).map(|()| signed))
                    .map_err(|error| diverged(format!("its newest {error}")))?;
                let size = signed.checkpoint.size;
                let find = "SELECT note FROM audit_checkpoint WHERE size = ?1";
                let ours: Option<String> = connection
                    .query_row(find, [number(size)], |row| row.get(0))
                    .optional()
                    .map_err(|error| StoreError::of_sqlite(database, Doing::Reading, &error))?;
                match ours {
                    Some(ours) if ours == note => (size, begun),
                    Some(_) => {
                        return Err(diverged(format!("two checkpoints count {size} leaves")));
                    }
                    None => {
                        return Err(diverged(format!(
                            "its newest checkpoint, of {size} leaves, is not in the ledger"
                        )));
                    }
                }
            }
            Tail::Garbage => return Err(diverged("it does not end with a checkpoint".to_owned())),
        };
        let begun_text = tail.get(tail.len() - begun..).unwrap_or_default().to_owned();
        let mut this = Self { path: path.clone(), file, newest, begun, synced: true };
        if begun > 0 {
            let next = this.lacking(connection, database)?;
            let goes_on = next.first().is_some_and(|(_, text)| {
                text.as_bytes().starts_with(&begun_text) && text.len() > begun
            });
            if !goes_on {
                return Err(diverged("it ends with a part of something else".to_owned()));
            }
        }
        this.catch_up(connection, database)?;
        this.sync()?;
        Ok(this)
    }

    /// Adds what the table has and the file has not.
    pub(super) fn catch_up(
        &mut self,
        connection: &Connection,
        database: &Path,
    ) -> Result<(), StoreError> {
        loop {
            let lacking = self.lacking(connection, database)?;
            if lacking.is_empty() {
                return Ok(());
            }
            for (size, text) in lacking {
                self.add(size, &text).map_err(|error| StoreError::of_io(&self.path, &error))?;
            }
        }
    }

    /// Waits until the disk has it all.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        if !self.synced {
            self.file.sync_data().map_err(|error| StoreError::of_io(&self.path, &error))?;
            self.synced = true;
        }
        Ok(())
    }

    pub(super) const fn is_synced(&self) -> bool {
        self.synced
    }

    fn lacking(
        &self,
        connection: &Connection,
        database: &Path,
    ) -> Result<Vec<(u64, String)>, StoreError> {
        let read = || {
            connection
                .prepare_cached(
                    "SELECT size, note FROM audit_checkpoint WHERE size > ?1 ORDER BY size LIMIT ?2",
                )?
                .query_map((number(self.newest), NOTES_AT_ONCE), |row| {
                    let note: String = row.get(1)?;
                    Ok((size_of(row, 0)?, note + "\n"))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|error| StoreError::of_sqlite(database, Doing::Reading, &error))
    }

    fn add(&mut self, size: u64, text: &str) -> io::Result<()> {
        while let Some(left) = text.as_bytes().get(self.begun..).filter(|left| !left.is_empty()) {
            self.synced = false;
            match self.file.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.begun += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.newest = size;
        self.begun = 0;
        Ok(())
    }
}

fn read_tail(file: &mut File) -> io::Result<Vec<u8>> {
    let bytes = file.metadata()?.len();
    let from = bytes.saturating_sub(TAIL_BYTES as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES as u64).read_to_end(&mut tail)?;
    Ok(tail)
}

/// How the file ends.
#[derive(Debug, PartialEq, Eq)]
enum Tail {
    Empty,
    /// With a note, and so many bytes of the next.
    Whole {
        note: String,
        begun: usize,
    },
    /// With the beginning of the very first note.
    Begun(usize),
    Garbage,
}

/// A note is text, an empty line, a signature; and another empty line is behind it.
fn split_tail(tail: &[u8]) -> Tail {
    const EMPTY_LINE: &[u8] = b"\n\n";
    if tail.is_empty() {
        return Tail::Empty;
    }
    // The note that is whole ends with the last empty line behind a signature. The text of one
    // that is begun may end with such a line, too.
    let ends: Vec<usize> = tail
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| *pair == EMPTY_LINE)
        .map(|(at, _)| at)
        .collect();
    for (index, end) in ends.iter().enumerate().rev() {
        let Some(middle) = index.checked_sub(1).map(|before| ends[before]) else { break };
        let is_signature = tail[middle + 2..*end].starts_with("— ".as_bytes());
        if !is_signature {
            continue;
        }
        let begin = match index.checked_sub(2) {
            Some(before) => ends[before] + 2,
            None if tail.len() < TAIL_BYTES => 0,
            None => break,
        };
        // With the line break that ends the signature, without the empty line.
        let Ok(note) = String::from_utf8(tail[begin..=*end].to_vec()) else { return Tail::Garbage };
        return Tail::Whole { note, begun: tail.len() - (end + 2) };
    }
    if tail.len() < NOTE_BYTES_MAX { Tail::Begun(tail.len()) } else { Tail::Garbage }
}

/// What [`Notes`] finds that is no note.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotesError {
    #[error("line {line} is not what a checkpoint has there")]
    Malformed { line: u64 },
    /// The file ends within a note, of which this is there.
    #[error("it ends within a checkpoint")]
    Torn { begun: Vec<u8> },
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// The notes of a file, one after the other.
#[derive(Debug)]
pub(super) struct Notes<R> {
    from: R,
    line: u64,
}

impl<R: BufRead> Notes<R> {
    pub(super) const fn new(from: R) -> Self {
        Self { from, line: 0 }
    }

    /// The next note and the number of its first line.
    pub(super) fn next(&mut self) -> Result<Option<(u64, SignedCheckpoint)>, NotesError> {
        let first = self.line + 1;
        let mut text = Vec::new();
        let mut empty_lines = 0;
        while empty_lines < 2 {
            let before = text.len();
            let room = (NOTE_BYTES_MAX + 1).saturating_sub(before) as u64;
            let read = self.from.by_ref().take(room).read_until(b'\n', &mut text)?;
            if !text.ends_with(b"\n") {
                if text.len() > NOTE_BYTES_MAX {
                    return Err(NotesError::Malformed { line: self.line + 1 });
                }
                if read == 0 && text.is_empty() {
                    return Ok(None);
                }
                return Err(NotesError::Torn { begun: text });
            }
            if read == 0 {
                return Err(NotesError::Torn { begun: text });
            }
            self.line += 1;
            empty_lines += u32::from(text[before..] == *b"\n");
        }
        text.pop();
        let note = std::str::from_utf8(&text).ok();
        // A copy made by hand may lack the empty line at its very end; that is for its reader.
        let signed = note.and_then(|note| SignedCheckpoint::parse(note).ok());
        signed.map(|signed| Some((first, signed))).ok_or(NotesError::Malformed { line: first })
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::Ed25519KeyPair;

    use super::super::merkle::Hash;
    use super::super::note::{Checkpoint, LogId};
    use super::*;

    fn note(size: u64) -> String {
        let key = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let root = Hash([u8::try_from(size).unwrap(); 32]);
        let checkpoint =
            Checkpoint { log: LogId::new([1; 16]), size, root, previous: size - 1, ts_us: 5 };
        checkpoint.sign(&key)
    }

    #[test]
    fn the_end_of_a_file_is_understood_wherever_it_was_torn() {
        let many: String = (1..=60).map(|size| note(size) + "\n").collect();
        let next = note(61) + "\n";
        for (whole, newest) in [(note(1) + "\n", note(1)), (many, note(60))] {
            for begun in 0..next.len() {
                let text = [whole.as_bytes(), &next.as_bytes()[..begun]].concat();
                let tail = &text[text.len().saturating_sub(TAIL_BYTES)..];
                assert_eq!(
                    split_tail(tail),
                    Tail::Whole { note: newest.clone(), begun },
                    "{begun}"
                );
            }
        }
        for begun in 1..next.len() {
            assert_eq!(split_tail(&next.as_bytes()[..begun]), Tail::Begun(begun));
        }
        assert_eq!(split_tail(b""), Tail::Empty);
        assert_eq!(split_tail(&[b'x'; TAIL_BYTES]), Tail::Garbage);
    }

    #[test]
    fn notes_are_read_one_by_one_and_a_line_that_is_gone_is_noticed() {
        let text: String = (1..=3).map(|size| note(size) + "\n").collect();
        let mut notes = Notes::new(text.as_bytes());
        for size in 1..=3 {
            let (line, signed) = notes.next().unwrap().unwrap();
            assert_eq!(
                (line, signed.checkpoint.size, signed.note),
                (8 * size - 7, size, note(size))
            );
        }
        assert!(notes.next().unwrap().is_none());

        for gone in 0..text.lines().count() {
            let lines = text.lines().enumerate().filter(|(at, _)| *at != gone);
            let text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
            let mut notes = Notes::new(text.as_bytes());
            let fault = loop {
                match notes.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            assert!(fault.is_some(), "line {gone}");
        }
        let mut endless = Notes::new(io::BufReader::new(io::repeat(b'x')));
        assert!(matches!(endless.next(), Err(NotesError::Malformed { line: 1 })));
    }
}
