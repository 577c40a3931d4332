//! The ledger as its callers see it, and as somebody finds it who has changed its files.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::inbox::Pending;
use super::*;
use crate::error::StoreError;

const NOON_US: i64 = 1_785_585_600_000_000;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn entry(name: &str) -> Entry {
    Entry { after: Some(json!({ "name": name })), ..Entry::new("test", Action::AdminCall, name) }
}

fn change(name: &str) -> Change {
    Change::new().audit(&entry(name)).unwrap()
}

/// Writes a row to a table of the test's own.
fn note_down(name: &'static str) -> Operation {
    Operation::new("noting", move |connection, place| {
        connection
            .execute("CREATE TABLE IF NOT EXISTS note (name TEXT UNIQUE, seq INTEGER)", [])?;
        let seq = i64::try_from(place.first_seq).unwrap();
        connection.execute("INSERT INTO note VALUES (?1, ?2)", (name, seq))?;
        Ok(())
    })
}

fn refuse() -> Operation {
    Operation::new("moving", |_, _| Err(OperationError::Refused("an older epoch".to_owned())))
}

/// A writer whose clock the test moves.
struct Bench {
    writer: Writer,
    start: std::time::Instant,
}

impl Bench {
    fn open(dir: &Path) -> Self {
        Self::open_at(dir, 0).unwrap()
    }

    fn open_at(dir: &Path, at: i64) -> Result<Self, StoreError> {
        let start = std::time::Instant::now();
        let now = Now { instant: start, unix_us: NOON_US + at * 1_000_000 };
        let (writer, _) = Writer::open(dir, LedgerOptions::default(), now)?;
        Ok(Self { writer, start })
    }

    /// Commits `changes` together at second `at` and returns what became of them.
    fn commit(&mut self, at: u64, changes: Vec<Change>) -> Vec<Result<Committed, CommitError>> {
        let room = Arc::new(Semaphore::new(changes.len() + 1));
        let (pending, mut answered): (Vec<Pending>, Vec<_>) = changes
            .into_iter()
            .map(|change| {
                let (answer, answered) = oneshot::channel();
                let room = Arc::clone(&room).try_acquire_owned().unwrap();
                (Pending { change, answer, room }, answered)
            })
            .unzip();
        self.turn(at, pending);
        answered.iter_mut().map(|answered| answered.try_recv().unwrap()).collect()
    }

    fn turn(&mut self, at: u64, pending: Vec<Pending>) {
        let instant = self.start + Duration::from_secs(at);
        let unix_us = NOON_US + i64::try_from(at).unwrap() * 1_000_000;
        self.writer.turn(pending, Now { instant, unix_us });
    }

    /// One change with `count` entries.
    fn append(&mut self, at: u64, count: usize) {
        for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
            let change = chunk.iter().fold(Change::new(), |change, index| {
                change.audit(&entry(&format!("{at}/{index}"))).unwrap()
            });
            self.commit(at, vec![change])[0].as_ref().unwrap();
        }
    }

    fn health(&self) -> LedgerHealth {
        self.writer.health()
    }
}

/// 301 leaves with checkpoints of 1, 51, 101 … of them.
fn six_checkpoints(dir: &Path) {
    let mut bench = Bench::open(dir);
    for at in 1..=6 {
        bench.append(2 * at, 50);
        bench.turn(2 * at + 1, Vec::new());
    }
    assert_eq!((bench.health().leaves, bench.health().checkpoint_size), (301, 301));
}

fn database(dir: &Path) -> Connection {
    Connection::open(SCHEMA.path(dir)).unwrap()
}

fn verdict(dir: &Path) -> Verdict {
    verify(dir, &VerifyOptions::default()).unwrap()
}

fn sound(dir: &Path) -> Sound {
    match verdict(dir) {
        Verdict::Sound(sound) => sound,
        Verdict::Broken(fault) => panic!("{fault:?}"),
    }
}

fn broken(verdict: Verdict) -> Fault {
    match verdict {
        Verdict::Broken(fault) => fault,
        Verdict::Sound(sound) => panic!("{sound:?}"),
    }
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_change_is_whole_or_not_at_all() {
    let dir = folder();
    let ledger = Ledger::open(dir.path(), LedgerOptions::default()).unwrap();
    let with = |name: &'static str| change(name).and(note_down(name));
    let first = ledger.commit(with("a")).await.unwrap();
    assert_eq!(first.seqs, 1..2);
    let refused = ledger.commit(with("b").and(refuse())).await.unwrap_err();
    assert_eq!(refused.to_string(), "moving was refused: an older epoch");
    let twice = ledger.commit(with("c").and(note_down("a"))).await.unwrap_err();
    assert!(twice.to_string().starts_with("noting was refused: UNIQUE"), "{twice}");
    let second = ledger.commit(with("d").audit(&entry("e")).unwrap()).await.unwrap();
    assert_eq!(second.seqs, 2..4);
    assert!(second.ts_us >= first.ts_us);
    ledger.close().await;
    assert_eq!(ledger.commit(change("f")).await, Err(CommitError::Closed));

    let rows: Vec<(String, i64)> = database(dir.path())
        .prepare("SELECT name, seq FROM note ORDER BY seq")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows, [("a".to_owned(), 1), ("d".to_owned(), 2)]);
    let targets: Vec<String> = ledger
        .reader()
        .leaves_from(1)
        .unwrap()
        .iter()
        .map(|row| {
            serde_json::from_str::<serde_json::Value>(&row.leaf).unwrap()["target"].to_string()
        })
        .collect();
    assert_eq!(targets, [r#""a""#, r#""d""#, r#""e""#]);
    assert_eq!(sound(dir.path()).signed, 4, "closing makes the last checkpoint");
}

#[test]
fn one_refusal_in_a_group_is_its_own() {
    let dir = folder();
    let mut bench = Bench::open(dir.path());
    let group = vec![change("a"), change("b").and(refuse()), change("c").and(note_down("c"))];
    let outcomes = bench.commit(0, group);
    assert_eq!(outcomes[0].as_ref().unwrap().seqs, 1..2);
    assert!(matches!(outcomes[1], Err(CommitError::Refused { .. })), "{outcomes:?}");
    assert_eq!(outcomes[2].as_ref().unwrap().seqs, 2..3);
    drop(bench);
    assert_eq!(sound(dir.path()).leaves, 3);
}

#[tokio::test]
async fn many_at_once_have_a_place_each() {
    let dir = folder();
    let ledger = Ledger::open(dir.path(), LedgerOptions::default()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..2500 {
        let ledger = ledger.clone();
        tasks.spawn(
            async move { ledger.commit(change(&index.to_string())).await.unwrap().seqs.start },
        );
    }
    let mut seqs = tasks.join_all().await;
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=2500).collect::<Vec<u64>>());
    ledger.close().await;
    let sound = sound(dir.path());
    assert_eq!((sound.leaves, sound.signed), (2501, 2501));
    assert!(sound.checkpoints >= 3, "{sound:?}");
}

#[tokio::test]
async fn a_change_beyond_its_bounds_is_refused() {
    let dir = folder();
    let ledger = Ledger::open(dir.path(), LedgerOptions::default()).unwrap();
    let large = json!("x".repeat(VALUE_BYTES_MAX - 2));
    let large = Entry { after: Some(large), ..entry("large") };
    let change = (0..9).fold(Change::new(), |change, _| change.audit(&large).unwrap());
    let error = ledger.commit(change).await.unwrap_err();
    assert!(matches!(error, CommitError::TooLarge { parts: 9, .. }), "{error}");
    let many = (0..1001).fold(Change::new(), |change, _| change.audit(&entry("a")).unwrap());
    let error = ledger.commit(many).await.unwrap_err();
    assert!(matches!(error, CommitError::TooLarge { parts: 1001, .. }), "{error}");
    ledger.close().await;
}

#[test]
fn a_full_disk_refuses_and_the_log_goes_on_where_it_was() {
    let dir = folder();
    let mut bench = Bench::open(dir.path());
    bench.append(1, 1);
    bench.writer.bound_pages(Some(0));
    let large = || {
        Change::new().audit(&Entry { after: Some(json!("x".repeat(100_000))), ..entry("large") })
    };
    let outcome = bench.commit(1, vec![large().unwrap(), change("small")]);
    let full = StoreError::DiskFull { path: SCHEMA.path(dir.path()) };
    assert_eq!(outcome, vec![Err(CommitError::Disk(full.clone())); 2]);
    let health = bench.health();
    assert_eq!((health.writable, health.leaves), (false, 2));
    assert_eq!(health.last_error, Some(full.to_string()));

    bench.writer.bound_pages(None);
    bench.turn(2, Vec::new());
    bench.turn(3, Vec::new());
    assert_eq!((bench.health().writable, bench.health().last_error), (true, None));
    let outcome = bench.commit(4, vec![large().unwrap()]);
    assert_eq!(outcome[0].as_ref().unwrap().seqs, 2..3);
    drop(bench);
    assert_eq!(sound(dir.path()).leaves, 3);
}

#[test]
fn time_does_not_step_back_with_the_clock() {
    let dir = folder();
    let mut bench = Bench::open_at(dir.path(), 3600).unwrap();
    let mut times = vec![bench.commit(3700, vec![change("a")])[0].as_ref().unwrap().ts_us];
    times.push(bench.commit(10, vec![change("b")])[0].as_ref().unwrap().ts_us);
    drop(bench);
    let mut bench = Bench::open_at(dir.path(), -86_400).unwrap();
    times.push(bench.commit(20, vec![change("c")])[0].as_ref().unwrap().ts_us);
    times.push(bench.commit(3800, vec![change("d")])[0].as_ref().unwrap().ts_us);
    let second = |second: i64| NOON_US + second * 1_000_000;
    assert_eq!(times, [second(3700), second(3700), second(3700), second(3800)]);
    drop(bench);
    sound(dir.path());
}

#[test]
fn checkpoints_come_within_a_second_or_after_a_thousand_leaves() {
    let dir = folder();
    let mut bench = Bench::open(dir.path());
    let mut at = |at, count| {
        if count > 0 {
            bench.append(at, count);
        } else {
            bench.turn(at, Vec::new());
        }
        bench.health().checkpoint_size
    };
    assert_eq!(at(10, 0), 1, "the first leaf has one");
    assert_eq!(at(20, 5), 1);
    assert_eq!(at(20, 5), 1);
    assert_eq!(at(21, 0), 11);
    assert_eq!(at(30, 0), 11, "there is nothing new to say");
    assert_eq!(at(40, 999), 11);
    assert_eq!(at(40, 1), 1011);
    assert_eq!(at(40, 2500), 3011);
    assert_eq!(at(41, 0), 3511);
    drop(bench);
    let kept = fs::read_to_string(dir.path().join("audit.checkpoints")).unwrap();
    let sizes: Vec<&str> = kept.lines().skip(1).step_by(8).collect();
    assert_eq!(sizes, ["1", "11", "1011", "2011", "3011", "3511"]);
    assert_eq!(sound(dir.path()).checkpoints, 6);
}

#[test]
fn a_crash_between_table_and_file_is_mended_wherever_it_came() {
    let dir = folder();
    six_checkpoints(dir.path());
    let path = dir.path().join("audit.checkpoints");
    let whole = fs::read(&path).unwrap();
    let two = whole.len() - 2 * whole.len() / 7 - 20;
    for cut in (two..whole.len()).step_by(7).chain([0, 1, 100]) {
        fs::write(&path, &whole[..cut]).unwrap();
        let lacking = sound(dir.path()).file_lacks;
        assert!(lacking > 0, "{cut}");
        drop(Bench::open(dir.path()));
        assert!(fs::read(&path).unwrap() == whole, "cut at {cut}");
        assert_eq!(sound(dir.path()).file_lacks, 0);
    }
}

#[test]
fn leaves_that_a_crash_left_without_a_checkpoint_get_one_at_the_start() {
    let dir = folder();
    let mut bench = Bench::open(dir.path());
    bench.append(1, 20);
    drop(bench);
    assert_eq!((sound(dir.path()).leaves, sound(dir.path()).signed), (21, 1));
    drop(Bench::open(dir.path()));
    assert_eq!(sound(dir.path()).signed, 21);
}

#[test]
fn every_leaf_and_every_older_log_is_proved() {
    let dir = folder();
    six_checkpoints(dir.path());
    let reader = LedgerReader::open_read_only(dir.path()).unwrap();
    let summary = reader.summary().unwrap();
    for seq in 0..301 {
        let proof = reader.prove(seq).unwrap().unwrap();
        let InclusionProof { leaf, size, root, path, checkpoint, .. } = proof;
        assert!(is_included(leaf_hash(leaf.as_bytes()), seq, size, &path, root), "{seq}");
        let signed = SignedCheckpoint::parse(&checkpoint).unwrap();
        assert_eq!((signed.checkpoint.size, signed.checkpoint.root), (size, root));
        assert_eq!(signed.verify(&summary.public_key), Ok(()));
    }
    assert_eq!(reader.prove(301).unwrap(), None);
    for older in [1, 2, 15, 16, 17, 255, 256, 300, 301] {
        for newer in [1, 16, 256, 300, 301].into_iter().filter(|newer| *newer >= older) {
            let proof = reader.prove_consistency(older, newer).unwrap().unwrap();
            let (old, new) = ((older, proof.older_root), (newer, proof.newer_root));
            assert!(is_consistent(old, new, &proof.path), "{older} of {newer}");
        }
    }
    for (older, newer) in [(0, 1), (2, 1), (1, 302)] {
        assert_eq!(reader.prove_consistency(older, newer).unwrap(), None);
    }
    assert_eq!(
        reader.tail(3).unwrap().iter().map(|row| row.seq).collect::<Vec<_>>(),
        [298, 299, 300]
    );
    assert_eq!((reader.leaf(301).unwrap(), reader.leaf(u64::MAX).unwrap()), (None, None));
}

/// What somebody does to the files: what the verdict then says.
struct Tampering {
    name: &'static str,
    sql: &'static str,
    leaf: Option<u64>,
    what: &'static str,
}

const fn tampering(
    name: &'static str,
    sql: &'static str,
    leaf: Option<u64>,
    what: &'static str,
) -> Tampering {
    Tampering { name, sql, leaf, what }
}

const TAMPERINGS: [Tampering; 15] = [
    tampering(
        "an edited byte",
        "UPDATE audit_leaf SET leaf = CAST(replace(leaf, 'test', 'tess') AS BLOB) WHERE seq = 77",
        Some(77),
        "has other bytes than its hash says",
    ),
    tampering(
        "an edited hash",
        "UPDATE audit_leaf SET leaf_hash = zeroblob(32) WHERE seq = 0",
        Some(0),
        "has other bytes than its hash says",
    ),
    tampering(
        "an edited chain",
        "UPDATE audit_leaf SET chain_hash = zeroblob(32) WHERE seq = 300",
        Some(300),
        "is not what the chain of hashes leads to",
    ),
    tampering(
        "a deleted suffix",
        "DELETE FROM audit_leaf WHERE seq >= 290",
        Some(290),
        "is missing: a checkpoint counts 301 leaves",
    ),
    tampering(
        "a deleted suffix with the table's checkpoints and subtrees of it",
        "DELETE FROM audit_leaf WHERE seq >= 290; DELETE FROM audit_checkpoint WHERE size > 290; \
         DELETE FROM audit_node WHERE (position + 1) << level > 290",
        Some(290),
        "is missing: a checkpoint counts 301 leaves",
    ),
    tampering(
        "a deleted prefix",
        "DELETE FROM audit_leaf WHERE seq < 20",
        Some(0),
        "is missing: 20 is in its place",
    ),
    tampering(
        "a deleted prefix, the rest moved up",
        "DELETE FROM audit_leaf WHERE seq < 20; UPDATE audit_leaf SET seq = seq - 20",
        Some(0),
        "is not what the chain of hashes leads to",
    ),
    tampering("all deleted", "DELETE FROM audit_leaf", Some(0), "is missing"),
    tampering(
        "a hole",
        "DELETE FROM audit_leaf WHERE seq = 5",
        Some(5),
        "is missing: 6 is in its place",
    ),
    tampering(
        "swapped rows",
        "UPDATE audit_leaf SET seq = 1000 WHERE seq = 40; UPDATE audit_leaf SET seq = 40 WHERE \
         seq = 41; UPDATE audit_leaf SET seq = 41 WHERE seq = 1000",
        Some(40),
        "is not what the chain of hashes leads to",
    ),
    tampering(
        "an edited subtree",
        "UPDATE audit_node SET hash = zeroblob(32) WHERE level = 4 AND position = 2",
        Some(32),
        "the stored root of leaves 32 to 47 is not theirs",
    ),
    tampering(
        "a deleted checkpoint",
        "DELETE FROM audit_checkpoint WHERE size = 101",
        None,
        "the checkpoint of 101 leaves is not the one that the ledger has",
    ),
    tampering(
        "a checkpoint under another size",
        "UPDATE audit_checkpoint SET size = 102 WHERE size = 101",
        None,
        "the checkpoint of 101 leaves is not the one that the ledger has",
    ),
    tampering(
        "an edited checkpoint",
        "UPDATE audit_checkpoint SET note = replace(note, 'time 1', 'time 2') WHERE size = 51",
        None,
        "the checkpoint of 51 leaves has a signature that is not of this text",
    ),
    tampering(
        "a replaced public key",
        "UPDATE audit_log SET public_key = zeroblob(32)",
        Some(0),
        "names the key",
    ),
];

#[test]
fn every_tampering_with_the_database_is_noticed() {
    let dir = folder();
    six_checkpoints(dir.path());
    sound(dir.path());
    for Tampering { name, sql, leaf, what } in TAMPERINGS {
        let other = folder();
        copy(dir.path(), other.path());
        database(other.path()).execute_batch(sql).unwrap();
        let fault = broken(verdict(other.path()));
        assert_eq!(fault.leaf, leaf, "{name}: {fault:?}");
        assert!(fault.what.contains(what), "{name}: {fault:?}");
    }
}

#[test]
fn any_line_of_the_file_is_missed_and_so_is_a_whole_checkpoint() {
    let dir = folder();
    six_checkpoints(dir.path());
    let path = dir.path().join("audit.checkpoints");
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 7 * 8);
    // The last line is an empty one: without it the file is as a crash would leave it.
    for gone in 0..lines.len() - 1 {
        let text: String = [&lines[..gone], &lines[gone + 1..]].concat().concat();
        fs::write(&path, text).unwrap();
        let fault = broken(verdict(dir.path()));
        assert!(fault.what.contains("audit.checkpoints"), "{gone}: {fault:?}");
    }
    for gone in 0..6 {
        let text: String = [&lines[..8 * gone], &lines[8 * gone + 8..]].concat().concat();
        fs::write(&path, text).unwrap();
        let fault = broken(verdict(dir.path()));
        assert!(fault.what.contains("gone"), "{gone}: {fault:?}");
    }
    let swapped = [&lines[..8], &lines[16..24], &lines[8..16], &lines[24..]].concat().concat();
    fs::write(&path, swapped).unwrap();
    assert!(broken(verdict(dir.path())).what.contains("is gone"));
    fs::remove_file(&path).unwrap();
    assert!(broken(verdict(dir.path())).what.ends_with("audit.checkpoints is gone"));
    fs::write(&path, whole).unwrap();
    sound(dir.path());
}

#[test]
fn a_fork_is_noticed_by_who_kept_a_checkpoint_of_the_other() {
    let (one, other) = (folder(), folder());
    six_checkpoints(one.path());
    copy(one.path(), other.path());
    for (dir, count) in [(one.path(), 30), (other.path(), 31)] {
        let mut bench = Bench::open(dir);
        bench.append(count, usize::try_from(count).unwrap());
        bench.turn(count + 1, Vec::new());
        drop(bench);
        sound(dir);
    }
    let kept = Some(other.path().join("audit.checkpoints"));
    let options = VerifyOptions { checkpoints: kept, public_key: None };
    let fault = broken(verify(one.path(), &options).unwrap());
    assert!(fault.what.contains("a checkpoint counts 332 leaves"), "{fault:?}");
    let kept = Some(one.path().join("audit.checkpoints"));
    let options = VerifyOptions { checkpoints: kept, public_key: None };
    let fault = broken(verify(other.path(), &options).unwrap());
    assert_eq!((fault.leaf, fault.leaf_last), (Some(301), Some(330)), "{fault:?}");
    assert!(fault.what.contains("written anew, or forked"), "{fault:?}");

    // One file would have two roots for a size: the gateway does not go on either.
    fs::copy(one.path().join("audit.checkpoints"), other.path().join("audit.checkpoints")).unwrap();
    let refused = Bench::open_at(other.path(), 0).err().unwrap();
    assert!(matches!(refused, StoreError::Diverged { .. }), "{refused}");

    // Who has no key can put other leaves there, but no checkpoint for them.
    let forged = folder();
    copy(one.path(), forged.path());
    let attach = format!(
        "ATTACH '{}' AS other; DELETE FROM audit_leaf; DELETE FROM audit_node; \
         INSERT INTO audit_leaf SELECT * FROM other.audit_leaf WHERE seq < 331; \
         INSERT INTO audit_node SELECT * FROM other.audit_node",
        SCHEMA.path(other.path()).display()
    );
    database(forged.path()).execute_batch(&attach).unwrap();
    let fault = broken(verdict(forged.path()));
    assert_eq!((fault.leaf, fault.leaf_last), (Some(301), Some(330)), "{fault:?}");
}

#[test]
fn an_older_database_put_back_is_not_continued() {
    let (dir, older) = (folder(), folder());
    six_checkpoints(dir.path());
    copy(dir.path(), older.path());
    let mut bench = Bench::open(dir.path());
    bench.append(1, 10);
    bench.turn(2, Vec::new());
    drop(bench);
    fs::copy(SCHEMA.path(older.path()), SCHEMA.path(dir.path())).unwrap();
    let refused = Bench::open_at(dir.path(), 0).err().unwrap();
    assert!(refused.to_string().contains("of 311 leaves, is not in the ledger"), "{refused}");
    let fault = broken(verdict(dir.path()));
    assert_eq!(
        (fault.leaf, fault.what.as_str()),
        (Some(301), "is missing: a checkpoint counts 311 leaves")
    );
}

#[test]
fn a_key_that_is_gone_or_another_stops_the_ledger_and_not_the_reader() {
    let (dir, other) = (folder(), folder());
    six_checkpoints(dir.path());
    six_checkpoints(other.path());
    let key = dir.path().join("audit.key");
    let right = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let refused = |words: &str| {
        let error = Bench::open_at(dir.path(), 0).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused("audit.key is gone");
    fs::copy(other.path().join("audit.key"), &key).unwrap();
    refused("is not the key that this log was begun with");
    fs::write(&key, "secret").unwrap();
    refused("does not hold 64 hex digits");
    sound(dir.path());
    fs::write(&key, right).unwrap();
    drop(Bench::open(dir.path()));

    // The whole of another log in its place is one with another key.
    let pinned = LedgerReader::open_read_only(dir.path()).unwrap().summary().unwrap().public_key;
    assert_eq!(read_public_key(&dir.path().join("audit.pub")), Ok(pinned.clone()));
    let options = VerifyOptions { checkpoints: None, public_key: Some(pinned) };
    assert!(matches!(verify(dir.path(), &options), Ok(Verdict::Sound(_))));
    let fault = broken(verify(other.path(), &options).unwrap());
    assert!(fault.leaf == Some(0) && fault.what.contains("the log's key is"), "{fault:?}");
    let kept = Some(dir.path().join("audit.checkpoints"));
    let options = VerifyOptions { checkpoints: kept, public_key: None };
    let fault = broken(verify(other.path(), &options).unwrap());
    assert!(fault.what.contains("is signed with another key"), "{fault:?}");
}

#[test]
fn a_second_process_is_refused_the_file() {
    let dir = folder();
    let first = Bench::open(dir.path());
    let refused = Bench::open_at(dir.path(), 0).err().unwrap();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    // Reading and verifying are for everybody.
    assert_eq!(sound(dir.path()).leaves, 1);
    drop(first);
    drop(Bench::open(dir.path()));
}

#[test]
fn an_export_is_verified_without_the_database() {
    let (dir, out) = (folder(), folder());
    six_checkpoints(dir.path());
    let reader = LedgerReader::open_read_only(dir.path()).unwrap();
    let leaves: Vec<String> =
        reader.leaves_from(0).unwrap().into_iter().map(|row| row.leaf + "\n").collect();
    let kept = dir.path().join("audit.checkpoints");
    let file = out.path().join("audit.jsonl");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        verify_export(&file, &kept, None)
    };
    let Ok(Verdict::Sound(whole)) = check(&leaves.concat()) else { panic!("it is sound") };
    assert_eq!(whole.root, sound(dir.path()).root);
    let edited = leaves.concat().replacen("\"target\":\"4/7\"", "\"target\":\"4/8\"", 1);
    let without = |gone: usize| [&leaves[..gone], &leaves[gone + 1..]].concat().concat();
    for (text, leaf, last, words) in [
        (edited, 51, Some(100), "written anew"),
        (leaves[..290].concat(), 290, None, "is missing: a checkpoint counts 301"),
        (leaves[5..].concat(), 0, None, "is missing: 5 is in its place"),
        (without(40), 40, None, "is missing: 41 is in its place"),
        (leaves.concat().replacen("\"v\":1}", "\"v\":2}", 1), 0, None, "version 2"),
    ] {
        let fault = broken(check(&text).unwrap());
        assert_eq!((fault.leaf, fault.leaf_last), (Some(leaf), last), "{fault:?}");
        assert!(fault.what.contains(words), "{fault:?}");
    }
    for text in ["", "{}\n", "hello\n", &"x".repeat(2 << 20)] {
        let error = check(text).unwrap_err();
        assert!(matches!(error, VerifyError::NotALedger { .. }), "{error}");
    }
}

#[test]
fn what_is_no_ledger_is_said_to_be_none() {
    let dir = folder();
    assert!(matches!(
        verify(dir.path(), &VerifyOptions::default()),
        Err(VerifyError::Store(StoreError::Missing { .. }))
    ));
    for bytes in [&b""[..], &[b'x'; 5000]] {
        fs::write(SCHEMA.path(dir.path()), bytes).unwrap();
        let error = verify(dir.path(), &VerifyOptions::default()).unwrap_err();
        assert!(matches!(error, VerifyError::NotALedger { .. }), "{error}");
    }
}
