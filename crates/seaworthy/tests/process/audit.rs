//! The audit log of a gateway that is a process: what it writes, and who can verify it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::ask::{get, metric, until};
use crate::harness::{Gateway, seaworthy, serve};
use crate::lifecycle::{folder, service};

pub(crate) fn audit(dir: &Path, args: &[&str]) -> Output {
    seaworthy(dir, &[&["audit"], args].concat()).output().expect("the binary runs")
}

/// The exit code and what was printed.
pub(crate) fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("it is text"))
}

pub(crate) fn leaves(dir: &Path) -> Vec<Value> {
    let export = audit(dir, &["export"]);
    let text = String::from_utf8(export.stdout).expect("it is text");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn actions(dir: &Path) -> Vec<String> {
    let action = |leaf: &Value| leaf["action"].as_str().expect("a text").to_owned();
    leaves(dir).iter().map(action).collect()
}

/// Follows the log from its newest entry to one with this action; the numbers that it shows.
/// Returns once it has shown the first.
async fn follow(dir: &Path, action: &str) -> JoinHandle<Vec<u64>> {
    let mut command = seaworthy(dir, &["audit", "tail", "-n", "1", "--follow", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
    let action = action.to_owned();
    let (show, mut shown) = watch::channel(0);
    let following = tokio::task::spawn_blocking(move || {
        let mut seqs = Vec::new();
        for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
            let row: Value = serde_json::from_str(&line.expect("it is text")).expect("it is JSON");
            seqs.push(row["seq"].as_u64().expect("a number"));
            show.send_replace(seqs.len());
            if row["leaf"]["action"] == *action {
                break;
            }
        }
        child.kill().expect("it was started here");
        child.wait().expect("it was started here");
        seqs
    });
    shown.changed().await.expect("it shows something");
    following
}

/// Waits until the log has so many leaves, all of them signed.
async fn signed(gateway: &Gateway, leaves: f64) {
    until("the log is signed", async || {
        let size = metric(gateway.console, "seaworthy_audit_checkpoint_size").await;
        (size == Some(leaves)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_the_gateway_does_is_audited_and_verified_while_it_runs_and_after_a_kill() {
    let dir = folder();
    let config = |host: &str| format!("[protect.host_allowlist]\nhosts = [\"{host}.example\"]\n");
    fs::write(dir.path().join("seaworthy.toml"), config("a")).unwrap();
    let mut gateway = Gateway::start(serve(dir.path(), service().await)).await;
    signed(&gateway, 2.0).await;
    fs::write(dir.path().join("seaworthy.toml"), config("b")).unwrap();
    signed(&gateway, 3.0).await;
    let (code, text) = said(&audit(dir.path(), &["verify"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("is sound: 3 leaves"), "{text}");
    let followed = follow(dir.path(), "gateway.stop").await;
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.ended().await.0, Some(0));
    let followed = followed.await.expect("it reads");
    assert_eq!(followed, [2, 3], "one that was there, and what came");
    let first = ["key.change", "gateway.start", "config.reload", "gateway.stop"];
    assert_eq!(actions(dir.path()), first);
    let diff = leaves(dir.path())[2]["after"]["diff"].as_str().expect("a diff").to_owned();
    assert!(diff.contains("\n-protect.host_allowlist.hosts = [\"a.example\"]\n"), "{diff}");
    assert!(diff.contains("\n+protect.host_allowlist.hosts = [\"b.example\"]\n"), "{diff}");

    // Killed, it says nothing; the next one goes on with the same log.
    let mut gateway = Gateway::start(serve(dir.path(), service().await)).await;
    signed(&gateway, 5.0).await;
    gateway.process.signal("KILL");
    assert_eq!(gateway.process.ended().await.0, None);
    let (code, text) = said(&audit(dir.path(), &["verify"]));
    assert_eq!(code, Some(0), "{text}");
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    signed(&gateway, 6.0).await;
    let again = [&first[..], &["gateway.start"; 2]].concat();
    assert_eq!(actions(dir.path()), again);
}

#[tokio::test]
async fn a_secret_that_is_rotated_is_a_reload_that_shows_it_was_and_not_what_it_is() {
    let dir = folder();
    let secret = |word: &str| word.repeat(10);
    fs::write(dir.path().join("alerts.secret"), secret("old1")).unwrap();
    let config = "[alerts]\nsecrets = [\"file:alerts.secret\"]\n";
    fs::write(dir.path().join("seaworthy.toml"), config).unwrap();
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    signed(&gateway, 2.0).await;
    fs::write(dir.path().join("alerts.secret"), secret("newer")).unwrap();
    signed(&gateway, 3.0).await;
    gateway.stop().await;
    let leaf = leaves(dir.path()).remove(2);
    assert_eq!(leaf["action"], "config.reload");
    let diff = leaf["after"]["diff"].as_str().expect("a diff");
    let changed: Vec<_> = diff.lines().filter(|line| line.starts_with(['+', '-'])).collect();
    let [old, new] = changed[..] else { panic!("{diff}") };
    let line = "source \"file:alerts.secret\" = hmac:";
    assert!(old.starts_with(&format!("-{line}")) && new.starts_with(&format!("+{line}")), "{diff}");
    let log = fs::read(dir.path().join("seaworthy-data/ledger.db")).unwrap();
    let has = |word: &str| log.windows(word.len()).any(|bytes| bytes == word.as_bytes());
    assert!(!has("old1") && !has("newer"), "no secret is in the log");
}

#[tokio::test]
async fn a_ledger_that_cannot_be_opened_does_not_stop_the_traffic() {
    let dir = folder();
    let data = dir.path().join("seaworthy-data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("ledger.db"), [b'x'; 4096]).unwrap();
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    assert_eq!(get(gateway.traffic, "/", &[]).await.statuses(), [200]);
    let ready = get(gateway.console, "/readyz", &[]).await;
    assert_eq!(ready.statuses(), [503], "{}", ready.text);
    assert!(ready.text.contains("FAIL  ledger: ") && ready.text.contains("ledger.db is damaged"));
    assert_eq!(metric(gateway.console, "seaworthy_ledger_writable").await, Some(0.0));
    let (code, text) = said(&audit(dir.path(), &["verify"]));
    assert_eq!(code, Some(65), "{text}");

    // Once it is moved away a new one is begun, and has what happened meanwhile.
    fs::remove_file(data.join("ledger.db")).unwrap();
    signed(&gateway, 2.0).await;
    assert_eq!(get(gateway.console, "/readyz", &[]).await.statuses(), [200]);
    assert_eq!(actions(dir.path()), ["key.change", "gateway.start"]);
}

/// The block of the manual's page that begins with this line, as it is shown.
fn shown(first_line: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/audit.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks = page.split("```").skip(1).step_by(2);
    let mut texts = blocks.filter_map(|block| Some(block.split_once('\n')?.1));
    texts.find(|text| text.starts_with(first_line)).expect("the manual shows it").to_owned()
}

#[tokio::test]
async fn the_manual_shows_how_to_verify_by_hand() {
    let dir = folder();
    let mut gateway = Gateway::start(serve(dir.path(), service().await)).await;
    signed(&gateway, 2.0).await;
    gateway.process.signal("TERM");
    gateway.process.ended().await;
    let data = dir.path().join("seaworthy-data");
    let shell = |script: &str| {
        // `seaworthy` is found as its user would find it.
        let bin =
            Path::new(env!("CARGO_BIN_EXE_seaworthy")).parent().unwrap().display().to_string();
        let path = format!("{bin}:/usr/local/bin:/usr/bin:/bin");
        let mut command = Command::new("/bin/sh");
        command.args(["-ec", script]).current_dir(&data).env_clear().env("PATH", path);
        command.env("SEAWORTHY__STORE__DIR", &data);
        said(&command.output().expect("there is a shell"))
    };
    let (code, text) = shell(&shown("(printf '\\0'"));
    assert_eq!(code, Some(0), "{text}");
    let row = audit(dir.path(), &["show", "0", "--json"]);
    let row: Value = serde_json::from_slice(&row.stdout).expect("it is JSON");
    let hash = row["leaf_hash"].as_str().expect("a hash");
    assert!(text.starts_with(hash), "{text} is not {hash}");

    let (code, text) = shell(&shown("head -n 5 audit.checkpoints"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Signature Verified Successfully"), "{text}");

    fs::write(data.join("roots.py"), shown("import base64")).unwrap();
    let (code, text) = shell("seaworthy audit export > audit.jsonl; python3 roots.py");
    assert_eq!(code, Some(0), "{text}");
    let kept = fs::read_to_string(data.join("audit.checkpoints")).unwrap();
    assert_eq!(text.lines().count(), kept.lines().count() / 8, "{text}");
    assert!(text.lines().all(|line| line.ends_with(": right")), "{text}");
    assert!(text.ends_with("3 leaves: right\n"), "{text}");
}
