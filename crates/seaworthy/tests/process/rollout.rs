//! Rollouts of gateways that are processes: what stays in force when settings, other gateways, disks
//! and processes change under them.

mod faults;
mod fleet;
mod restart;
mod versions;

use std::fs;
use std::path::Path;

use crate::operator::SECRET;

/// A rule that the requests of the tests fall under: its settings say which host is right.
const HOSTS: &str = "host_allowlist";

/// A rollout in which minutes are seconds, with the secret of its alerts in a file.
fn fast() -> String {
    let demo = include_str!("../../src/app/demo/fast-rollout.toml");
    let ours = demo.replace("env:HELPDESK_ALERTS_SECRET", "file:alerts.secret");
    assert_ne!(ours, demo, "the demo names its secret otherwise");
    ours
}

/// The same, where `host` is the right one.
fn fast_for(host: &str) -> String {
    format!("{}\n[protect.host_allowlist]\nhosts = [\"{host}.example\"]\n", fast())
}

fn configure(dir: &Path, text: &str) {
    fs::write(dir.join("alerts.secret"), SECRET).expect("it is writable");
    fs::write(dir.join("seaworthy.toml"), text).expect("it is writable");
}
