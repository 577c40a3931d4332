//! How quickly the ledger appends, and how quickly a log is verified.
//!
//! ```text
//! ledger_speed DIR [LEAVES]
//! ```
//!
//! `DIR` is made on the disk to be measured and removed at the end. It appends `LEAVES` entries
//! (100,000 where nothing is said), each a change of its own that is awaited until it is durable,
//! from 1 task, then from 256; then verifies all of them, from the database and from an export.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use seaworthy_store::ledger::{
    Action, Change, Entry, Ledger, LedgerOptions, LedgerReader, Verdict, VerifyOptions, verify,
    verify_export,
};
use serde_json::json;

const TASKS: u64 = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: ledger_speed DIR [LEAVES]")?;
    let leaves: u64 = args.next().map_or(Ok(100_000), |leaves| leaves.parse())?;
    let dir = Path::new(&dir);
    std::fs::create_dir(dir)?;
    println!("fdatasync of 4 KiB: {:.0} µs", fsync_us(dir)?);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    runtime.block_on(async {
        let ledger = Ledger::open(dir, LedgerOptions::default())?;
        let alone = 2000.min(leaves);
        let began = Instant::now();
        append(&ledger, alone, 1).await;
        report("appends, awaited one by one", alone, began);
        let began = Instant::now();
        append(&ledger, leaves, TASKS).await;
        report(&format!("appends by {TASKS} tasks"), leaves, began);
        ledger.close().await;
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;

    let began = Instant::now();
    let verdict = verify(dir, &VerifyOptions::default())?;
    let Verdict::Sound(sound) = verdict else { return Err(format!("{verdict:?}").into()) };
    report("verified from the database", sound.leaves, began);

    let export = dir.join("audit.jsonl");
    let mut out = BufWriter::new(File::create(&export)?);
    let reader = LedgerReader::open_read_only(dir)?;
    let (mut from, mut bytes) = (0, 0);
    loop {
        let rows = reader.leaves_from(from)?;
        let Some(last) = rows.last() else { break };
        from = last.seq + 1;
        for row in &rows {
            bytes += row.leaf.len();
            writeln!(out, "{}", row.leaf)?;
        }
    }
    out.flush()?;
    let began = Instant::now();
    let verdict = verify_export(&export, &dir.join("audit.checkpoints"), None)?;
    let Verdict::Sound(sound) = verdict else { return Err(format!("{verdict:?}").into()) };
    report("verified from an export", sound.leaves, began);
    println!("bytes of a leaf: {}", bytes as u64 / sound.leaves);
    println!("checkpoints: {}", sound.checkpoints);
    let began = Instant::now();
    for seq in 0..1000 {
        reader.prove(seq * sound.leaves / 1000)?.ok_or("every leaf is counted")?;
    }
    report("inclusion proofs", 1000, began);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

async fn append(ledger: &Ledger, leaves: u64, tasks: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (ledger, next) = (ledger.clone(), Arc::clone(&next));
        running.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= leaves {
                    break;
                }
                let change = Change::new().audit(&entry(index)).expect("it is within bounds");
                ledger.commit(change).await.expect("the disk takes it");
            }
        });
    }
    running.join_all().await;
}

/// As large as setting a mode makes it.
fn entry(index: u64) -> Entry {
    Entry {
        tenant: Some("acme".to_owned()),
        request_id: Some(format!("{index:032x}")),
        before: Some(json!({ "mode": "warn", "epoch": index })),
        after: Some(json!({ "mode": "enforce", "basis_points": 1000, "epoch": index + 1 })),
        reason: Some("every gate passed".to_owned()),
        ..Entry::new("gateway", Action::ModePromote, "rate_limit@POST /api/orders")
    }
}

fn fsync_us(dir: &Path) -> std::io::Result<f64> {
    let mut file = File::create(dir.join("probe"))?;
    let began = Instant::now();
    for _ in 0..100 {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e4)
}

fn report(what: &str, count: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what}: {:.0}/s ({count} in {seconds:.2} s)", count as f64 / seconds);
}
