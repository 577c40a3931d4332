//! Recomputes a log from its first leaf and says whether it is what its checkpoints signed.
//!
//! 1. Of each leaf: that it follows the one before, that its bytes have its hash and the chain
//!    leads to it, that it says the log, the number and a time that does not step back.
//! 2. Of the tree: that each stored subtree, and the root at each checkpoint, is what the leaves
//!    make of it.
//! 3. Of each checkpoint: that the key of leaf 0 signed it, and that it follows the one before.
//! 4. The table and the file of checkpoints must be one: what only one of them has is a fault,
//!    apart from the newest ones of the table, which a crash may have kept out of the file until
//!    the next start. A file that was kept elsewhere is asked in place of the gateway's own, so
//!    that a log whose end was cut off, or which was written anew from some leaf on, is noticed.
//! 5. The first fault ends it. Where only a root is wrong, the bad leaf is one of those behind
//!    the checkpoint before.
//!
//! One thread reads and hashes the leaves (`source.rs`), another one follows the chain and builds
//! the tree: a million leaves a second on two cores. Nothing of the log is kept, so its length does
//! not matter.

mod kept;
mod source;

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use self::kept::{Kept, KeptFile};
use self::source::{Batch, Leaf, Stored};
use super::SCHEMA;
use super::audit_log::identity;
use super::checkpoint_file::{FILE as CHECKPOINTS, NotesError};
use super::entry::LEAF_VERSION;
use super::merkle::{self, Frontier, Hash};
use super::note::{LogId, PublicKey, SignedCheckpoint};
use crate::error::{Doing, StoreError};
use crate::sqlite::open_reader;

/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 8;

/// What the log is held against.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Checkpoints that were kept elsewhere; else the gateway's own file.
    pub checkpoints: Option<PathBuf>,
    /// The key that must have signed them; else the one that the log names.
    pub public_key: Option<PublicKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Sound(Sound),
    Broken(Fault),
}

/// What a sound log has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sound {
    pub log: String,
    pub public_key: String,
    pub leaves: u64,
    pub root: Hash,
    /// Checkpoints that were held against it.
    pub checkpoints: u64,
    /// Leaves that the newest of them counts; those behind are not signed yet.
    pub signed: u64,
    /// Checkpoints that the file lacks until the gateway starts again.
    pub file_lacks: u64,
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The first leaf that is bad; `None` where it is no leaf.
    pub leaf: Option<u64>,
    /// Where only a root is wrong: the last leaf among which the first bad one is.
    pub leaf_last: Option<u64>,
    /// Lowercase, without a full stop.
    pub what: String,
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("{} is not a ledger ({reason})", path.display())]
    NotALedger { path: PathBuf, reason: String },
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{0}")]
    Store(StoreError),
}

impl Fault {
    fn of_leaf(leaf: u64, what: impl Into<String>) -> Self {
        Self { leaf: Some(leaf), leaf_last: None, what: what.into() }
    }

    fn of_file(what: impl Into<String>) -> Self {
        Self { leaf: None, leaf_last: None, what: what.into() }
    }
}

/// What ends a verification early.
enum Ended {
    Broken(Fault),
    Error(VerifyError),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Broken(fault)
    }
}

impl From<VerifyError> for Ended {
    fn from(error: VerifyError) -> Self {
        Self::Error(error)
    }
}

/// Verifies the ledger in `dir`, beside a gateway that writes it or without one.
pub fn verify(dir: &Path, options: &VerifyOptions) -> Result<Verdict, VerifyError> {
    let path = SCHEMA.path(dir);
    let not_a_ledger = |reason: String| VerifyError::NotALedger { path: path.clone(), reason };
    // The length first: the table has every checkpoint before the file does.
    let own = dir.join(CHECKPOINTS);
    let kept = KeptFile::open(options.checkpoints.as_deref(), &own)?;
    let connection = open_reader(&path, &SCHEMA).map_err(|error| match error {
        StoreError::Corrupt { reason, .. } => not_a_ledger(reason),
        StoreError::SchemaOlder { found: 0, .. } => not_a_ledger("it has no tables".to_owned()),
        error => VerifyError::Store(error),
    })?;
    let reading = |error: rusqlite::Error| {
        VerifyError::Store(StoreError::of_sqlite(&path, Doing::Reading, &error))
    };
    let Some((log, bytes)) = identity(&connection).map_err(reading)? else {
        return Err(not_a_ledger("it has no log".to_owned()));
    };
    let log = LogId::parse(&log).ok_or_else(|| not_a_ledger("its log has no id".to_owned()))?;
    let key = PublicKey::new(log, bytes);
    if let Some(pinned) = options.public_key.as_ref().filter(|pinned| **pinned != key) {
        let what = format!("the log's key is {key}, and not {pinned}");
        return Ok(Verdict::Broken(Fault::of_leaf(0, what)));
    }
    if kept.is_none() {
        let what = format!("{} is gone", own.display());
        return Ok(Verdict::Broken(Fault::of_file(what)));
    }
    let path = path.clone();
    run(Origin::Database, Some(key), kept, move |batches| {
        source::read_database(connection, &path, &batches)
    })
}

/// Verifies the leaves that were exported to `file`, one a line, against checkpoints that were
/// kept.
pub fn verify_export(
    file: &Path,
    checkpoints: &Path,
    public_key: Option<PublicKey>,
) -> Result<Verdict, VerifyError> {
    let kept = KeptFile::open(Some(checkpoints), checkpoints)?;
    let unreadable = |error: io::Error| VerifyError::Unreadable {
        path: file.to_owned(),
        reason: error.to_string(),
    };
    let lines = BufReader::with_capacity(1 << 16, File::open(file).map_err(unreadable)?);
    let path = file.to_owned();
    run(Origin::Export, public_key, kept, move |batches| source::read_lines(lines, &path, &batches))
}

type Batches = SyncSender<Result<Batch, VerifyError>>;

/// Where leaves come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Database,
    Export,
}

fn run(
    from: Origin,
    key: Option<PublicKey>,
    kept: Option<KeptFile>,
    read: impl FnOnce(Batches) + Send,
) -> Result<Verdict, VerifyError> {
    let (send, batches) = sync_channel(BATCHES_AHEAD);
    let ended = std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().name("verify".to_owned());
        if let Err(error) = reading.spawn_scoped(scope, || read(send)) {
            let reason = error.to_string();
            return Err(VerifyError::Store(StoreError::NoThread { reason }).into());
        }
        // The reader ends when nobody takes its batches any more.
        Checker::new(key, from, kept).check(batches)
    });
    match ended {
        Ok(sound) => Ok(Verdict::Sound(sound)),
        Err(Ended::Broken(fault)) => Ok(Verdict::Broken(fault)),
        Err(Ended::Error(error)) => Err(error),
    }
}

/// What has been recomputed so far.
struct Checker {
    /// Known from the start, or from leaf 0.
    key: Option<PublicKey>,
    frontier: Frontier,
    chain: Hash,
    ts_us: i64,
    /// Whether there is a table of checkpoints, which an exported file has not.
    table: bool,
    file: Option<KeptFile>,
    /// The next note of the file.
    next: Option<Kept>,
    /// The size of the file's note before it; `None` before the first.
    before: Option<u64>,
    /// How the file ends within a note.
    torn: Option<Vec<u8>>,
    /// The size of the table's checkpoint before.
    stored_before: u64,
    /// The newest size whose root was right.
    signed: u64,
    checkpoints: u64,
    file_lacks: u64,
    nodes: u64,
    /// The subtrees to be stored that the last leaf completed.
    completed: Vec<(u32, Hash)>,
}

/// What of a leaf must be in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp<'a> {
    v: u32,
    log: &'a str,
    seq: u64,
    ts_us: i64,
    #[serde(rename = "actor")]
    _actor: IgnoredAny,
    #[serde(rename = "tenant")]
    _tenant: IgnoredAny,
    #[serde(rename = "action")]
    _action: IgnoredAny,
    #[serde(rename = "target")]
    _target: IgnoredAny,
    #[serde(rename = "request_id")]
    _request_id: IgnoredAny,
    #[serde(rename = "before")]
    _before: IgnoredAny,
    #[serde(rename = "after")]
    _after: IgnoredAny,
    #[serde(rename = "reason")]
    _reason: IgnoredAny,
}

/// Whether `bytes` are a leaf of any log.
fn is_leaf(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Stamp<'_>>(bytes).is_ok()
}

/// Leaf 0.
#[derive(Deserialize)]
struct First {
    after: FirstAfter,
}

#[derive(Deserialize)]
struct FirstAfter {
    public_key: String,
}

impl Checker {
    fn new(key: Option<PublicKey>, from: Origin, file: Option<KeptFile>) -> Self {
        Self {
            key,
            frontier: Frontier::default(),
            chain: Hash::ZERO,
            ts_us: i64::MIN,
            table: from == Origin::Database,
            file,
            next: None,
            before: None,
            torn: None,
            stored_before: 0,
            signed: 0,
            checkpoints: 0,
            file_lacks: 0,
            nodes: 0,
            completed: Vec::new(),
        }
    }

    fn check(mut self, batches: Receiver<Result<Batch, VerifyError>>) -> Result<Sound, Ended> {
        self.read_note()?;
        for batch in batches {
            let batch = batch.map_err(|error| self.unreadable(error))?;
            let mut nodes = batch.nodes.iter();
            let mut stored = batch.checkpoints.iter().peekable();
            let mut begin = 0;
            for leaf in &batch.leaves {
                let bytes = &batch.bytes[begin..leaf.end];
                begin = leaf.end;
                self.leaf(leaf, bytes)?;
                self.subtrees(leaf.row.is_some(), &mut nodes)?;
                let size = self.frontier.size();
                self.checkpoint(stored.next_if(|stored| stored.size == size))?;
            }
            if let Some(stored) = stored.next() {
                return Err(self.beyond(stored.size).into());
            }
            if let Some(count) = batch.nodes_count.filter(|count| *count != self.nodes) {
                let what = format!("{count} subtrees are stored, and there are {}", self.nodes);
                return Err(Fault::of_file(what).into());
            }
        }
        self.end()
    }

    /// What is damaged so that SQLite cannot read on is a fault of the leaf there.
    fn unreadable(&self, error: VerifyError) -> Ended {
        match error {
            VerifyError::Store(StoreError::Corrupt { reason, .. }) => {
                Fault::of_leaf(self.frontier.size(), format!("cannot be read: {reason}")).into()
            }
            error => error.into(),
        }
    }

    fn leaf(&mut self, leaf: &Leaf, bytes: &[u8]) -> Result<(), Fault> {
        let seq = self.frontier.size();
        let fault = |what: &str| Err(Fault::of_leaf(seq, what));
        let missing =
            |other: u64| Err(Fault::of_leaf(seq, format!("is missing: {other} is in its place")));
        if let Some(row) = &leaf.row {
            if row.seq != seq {
                return missing(row.seq);
            }
            if leaf.hash != row.leaf_hash {
                return fault("has other bytes than its hash says");
            }
            self.chain = merkle::chain_hash(&self.chain, &leaf.hash);
            if self.chain != row.chain_hash {
                return fault("is not what the chain of hashes leads to");
            }
        }
        let Ok(stamp) = serde_json::from_slice::<Stamp<'_>>(bytes) else {
            return fault("is not a leaf");
        };
        if stamp.v != LEAF_VERSION {
            return Err(Fault::of_leaf(seq, format!("says that it is of version {}", stamp.v)));
        }
        if stamp.seq != seq {
            return missing(stamp.seq);
        }
        if seq == 0 {
            self.first(bytes)?;
        }
        if self.key.as_ref().is_none_or(|key| key.log().as_str() != stamp.log) {
            return fault("says that it is of another log");
        }
        if stamp.ts_us < self.ts_us {
            return fault("is older than the one before");
        }
        self.ts_us = stamp.ts_us;
        self.completed.clear();
        let completed = &mut self.completed;
        self.frontier.push(leaf.hash, |level, _, hash| {
            if merkle::is_kept(level) {
                completed.push((level, hash));
            }
            Ok(())
        })
    }

    /// Leaf 0 names the key.
    fn first(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let first = serde_json::from_slice::<First>(bytes).ok();
        let named = first.and_then(|first| first.after.public_key.parse::<PublicKey>().ok());
        let Some(named) = named else {
            return Err(Fault::of_leaf(0, "does not name the key of the log"));
        };
        let key = self.key.get_or_insert_with(|| named.clone());
        if *key != named {
            return Err(Fault::of_leaf(0, format!("names the key {named}, and not {key}")));
        }
        Ok(())
    }

    /// The stored subtrees that the last leaf completed.
    fn subtrees<'a>(
        &mut self,
        stored: bool,
        nodes: &mut impl Iterator<Item = &'a Option<Hash>>,
    ) -> Result<(), Fault> {
        if !stored {
            return Ok(());
        }
        let size = self.frontier.size();
        for (level, hash) in &self.completed {
            self.nodes += 1;
            if nodes.next() != Some(&Some(*hash)) {
                let (first, last) = (size - (1 << level), size - 1);
                let what = format!("the stored root of leaves {first} to {last} is not theirs");
                return Err(Fault { leaf: Some(first), leaf_last: Some(last), what });
            }
        }
        Ok(())
    }

    /// What the table and the file say at the present size.
    fn checkpoint(&mut self, stored: Option<&Stored>) -> Result<(), Ended> {
        let size = self.frontier.size();
        let kept = match &self.next {
            Some(next) if next.signed.checkpoint.size == size => self.next.take(),
            _ => None,
        };
        if stored.is_none() && kept.is_none() {
            return Ok(());
        }
        if let Some(stored) = stored {
            self.stored(stored)?;
        }
        if let Some(kept) = kept {
            let ours = stored.is_some_and(|stored| stored.note == kept.signed.note);
            let same = self.table.then_some(ours);
            self.kept(&kept, same)?;
            self.before = Some(size);
            self.read_note()?;
        } else if self.file.as_ref().is_some_and(|file| file.whole) {
            // Behind the file's end: the gateway adds it at its next start.
            if let Some(next) = &self.next {
                let (line, name) = (next.line, self.file_name());
                let what = format!("{name}:{line}: the checkpoint of {size} leaves is gone");
                return Err(Fault::of_file(what).into());
            }
            if let (Some(torn), Some(stored)) = (self.torn.take(), stored)
                && !format!("{}\n", stored.note).as_bytes().starts_with(&torn)
            {
                let what = format!("{}: it ends with a part of something else", self.file_name());
                return Err(Fault::of_file(what).into());
            }
            self.file_lacks += 1;
        }
        self.checkpoints += 1;
        self.signed = size;
        Ok(())
    }

    fn stored(&mut self, stored: &Stored) -> Result<(), Fault> {
        let size = stored.size;
        let of = format!("the checkpoint of {size} leaves");
        let Ok(signed) = SignedCheckpoint::parse(&stored.note) else {
            return Err(Fault::of_file(format!("{of} is not a signed note")));
        };
        let checkpoint = &signed.checkpoint;
        if (checkpoint.size, checkpoint.root) != (size, stored.root) {
            return Err(Fault::of_file(format!("{of} is filed under another size or root")));
        }
        if checkpoint.previous != self.stored_before {
            let (said, is) = (checkpoint.previous, self.stored_before);
            return Err(Fault::of_file(format!(
                "{of} follows one of {said} leaves, and the one before counts {is}"
            )));
        }
        self.holds(&signed, &of)?;
        self.stored_before = size;
        Ok(())
    }

    /// `same` says whether the table has just this note, which then has been looked at; `None`
    /// where there is no table.
    fn kept(&self, kept: &Kept, same: Option<bool>) -> Result<(), Fault> {
        let Kept { line, signed } = kept;
        let size = signed.checkpoint.size;
        let at = format!("{}:{line}: the checkpoint of {size} leaves", self.file_name());
        let follows = signed.checkpoint.previous;
        let whole = self.file.as_ref().is_some_and(|file| file.whole);
        if self.before.or(whole.then_some(0)).is_some_and(|before| before != follows) {
            return Err(Fault::of_file(format!(
                "{at} follows one of {follows} leaves, which is gone"
            )));
        }
        if same == Some(true) {
            return Ok(());
        }
        self.holds(signed, &at)?;
        if same == Some(false) {
            return Err(Fault::of_file(format!("{at} is not the one that the ledger has")));
        }
        Ok(())
    }

    /// Whether the leaves up to here have the root that was signed.
    fn holds(&self, signed: &SignedCheckpoint, of: &str) -> Result<(), Fault> {
        let Some(key) = &self.key else { return Err(Fault::of_leaf(0, "is missing")) };
        signed.verify(key).map_err(|error| Fault::of_file(format!("{of} {error}")))?;
        let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
        if root != self.frontier.root() {
            return Err(Fault {
                leaf: Some(self.signed),
                leaf_last: Some(size - 1),
                what: format!("{of} is of other leaves: the log was written anew, or forked"),
            });
        }
        Ok(())
    }

    /// A checkpoint counts leaves that are not there.
    fn beyond(&self, size: u64) -> Fault {
        let leaves = self.frontier.size();
        Fault::of_leaf(leaves, format!("is missing: a checkpoint counts {size} leaves"))
    }

    fn end(mut self) -> Result<Sound, Ended> {
        if let Some(next) = &self.next {
            return Err(self.beyond(next.signed.checkpoint.size).into());
        }
        if self.torn.is_some() {
            // Nothing of the table goes on where the file ends.
            let what = format!("{}: it ends within a checkpoint", self.file_name());
            return Err(Fault::of_file(what).into());
        }
        let Some(key) = self.key.take().filter(|_| self.frontier.size() > 0) else {
            return Err(Fault::of_leaf(0, "is missing").into());
        };
        if self.checkpoints == 0 {
            return Err(Fault::of_file("there is no checkpoint to hold the log against").into());
        }
        Ok(Sound {
            log: key.log().as_str().to_owned(),
            public_key: key.to_string(),
            leaves: self.frontier.size(),
            root: self.frontier.root(),
            checkpoints: self.checkpoints,
            signed: self.signed,
            file_lacks: self.file_lacks,
        })
    }

    /// Takes the next note out of the file.
    fn read_note(&mut self) -> Result<(), Ended> {
        let Some(file) = &mut self.file else { return Ok(()) };
        match file.notes.next() {
            Ok(None) => self.next = None,
            Ok(Some((line, signed))) => {
                let before = self.before.unwrap_or(0);
                let size = signed.checkpoint.size;
                if size <= before {
                    let what = format!(
                        "{}:{line}: the checkpoint of {size} leaves comes after one of {before}",
                        file.name
                    );
                    return Err(Fault::of_file(what).into());
                }
                self.next = Some(Kept { line, signed });
            }
            Err(NotesError::Torn { begun }) if file.whole => self.torn = Some(begun),
            Err(NotesError::Io(error)) => {
                let (path, reason) = (PathBuf::from(&file.name), error.to_string());
                return Err(VerifyError::Unreadable { path, reason }.into());
            }
            Err(error) => {
                return Err(Fault::of_file(format!("{}: {error}", file.name)).into());
            }
        }
        Ok(())
    }

    fn file_name(&self) -> &str {
        self.file.as_ref().map_or("", |file| &file.name)
    }
}

/// Reads a public key from a file that holds one, such as `audit.pub`.
pub fn read_public_key(path: &Path) -> Result<PublicKey, VerifyError> {
    let fault = |reason: String| VerifyError::Unreadable { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    text.parse().map_err(|error: super::PublicKeyError| fault(error.to_string()))
}
