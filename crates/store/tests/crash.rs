//! `kill -9` of a process that appends to a ledger.
//!
//! A program of its own: a process that is being started holds the files of the one that starts
//! it for a moment, and with them the lock of any ledger that another test has open.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use seaworthy_store::ledger::{
    Action, Change, Entry, Ledger, LedgerOptions, LedgerReader, Sound, Verdict, VerifyOptions,
    verify,
};

fn change(name: &str) -> Change {
    Change::new().audit(&Entry::new("test", Action::AdminCall, name)).expect("a short entry")
}

fn sound(dir: &Path) -> Sound {
    match verify(dir, &VerifyOptions::default()) {
        Ok(Verdict::Sound(sound)) => sound,
        other => panic!("{other:?}"),
    }
}

/// The child of the next test: appends and says what was acknowledged, until it is killed.
#[test]
#[ignore = "started by the test below"]
fn child_that_appends() {
    let Some(dir) = std::env::var_os("SEAWORTHY_LEDGER") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let every = Duration::from_millis(5);
    runtime.block_on(async {
        let options = LedgerOptions { checkpoint_every: every };
        let ledger = Ledger::open(Path::new(&dir), options).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8 {
            let ledger = ledger.clone();
            tasks.spawn(async move {
                for index in 0.. {
                    let name = format!("{task}/{index}");
                    let committed = ledger.commit(change(&name)).await.unwrap();
                    println!("acknowledged {} {name}", committed.seqs.start);
                }
            });
        }
        tasks.join_all().await;
    });
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_appends", "--exact", "--ignored", "--nocapture"])
            .env("SEAWORTHY_LEDGER", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || {
            let line = said.next()?.unwrap();
            // The harness may have said something before it on the same line.
            let (_, said) = line.split_once("acknowledged ")?;
            let (seq, name) = said.split_once(' ')?;
            Some((seq.parse::<u64>().ok()?, name.to_owned()))
        };
        let mut count = 0;
        while count < 100 * round {
            if let Some(committed) = line() {
                acknowledged.push(committed);
                count += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts as well.
        acknowledged.extend(std::iter::from_fn(line));

        let sound = sound(dir.path());
        assert!(sound.leaves > acknowledged.len() as u64);
    }
    let reader = LedgerReader::open_read_only(dir.path()).unwrap();
    for (seq, name) in acknowledged {
        let leaf = reader.leaf(seq).unwrap().expect("it was acknowledged").leaf;
        assert!(leaf.contains(&format!("\"target\":\"{name}\"")), "{seq}: {leaf}");
    }
    drop(Ledger::open(dir.path(), LedgerOptions::default()).unwrap());
    assert_eq!(sound(dir.path()).file_lacks, 0);
}
