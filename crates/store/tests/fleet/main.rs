//! Fleets on a real Redis: what they agree on, and what becomes of them when it is killed, stopped,
//! emptied, or filled with what are no modes.
//!
//! They are here and not with the gateway's tests since what is tested is the store's: a gateway
//! would only be in the way of seeing it. Everything is awaited as an event, with a bound that is
//! no part of what is tested.

mod agreement;
mod belief;
mod garbage;
mod leading;
mod relay;
mod server;
mod transport;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use seaworthy_policy::mode::{Mode, Share};
use seaworthy_policy::modes::{Cause, ModeBoard, ModeEntry};
use seaworthy_store::fleet::{Belief, Fleet, FleetHealth, FleetOptions, FleetView, RedisUrl};
use tokio::sync::watch;

/// A machine that has ten builds to do takes this long to get to a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// The keys of [`options`].
const MODES: &str = "seaworthy:desk:modes.v1";
const CHANNEL: &str = "seaworthy:desk:modes.v1:changed";
const LEADER: &str = "seaworthy:desk:leader";

const RULE: &str = "csrf";
const OTHER_RULE: &str = "rate_limit@POST /api/traces";
const ENFORCE: Mode = Mode::Enforce(Share::ALL);

/// A fleet that refreshes often, and is patient with a busy machine.
fn options(url: RedisUrl, folder: &Path) -> FleetOptions {
    FleetOptions {
        refresh: Duration::from_millis(100),
        timeout: Duration::from_secs(2),
        lease: Duration::from_secs(2),
        ..FleetOptions::new(url, "seaworthy:desk", folder.join("modes.snapshot"))
    }
}

/// The same, where everything that arrives has arrived as a message.
fn without_refresh(options: FleetOptions) -> FleetOptions {
    FleetOptions { refresh: Duration::from_secs(3600), ..options }
}

fn entry(mode: Mode, epoch: u64) -> ModeEntry {
    let cause = Cause::new("a test says so");
    ModeEntry { mode, epoch, policy_hash: [1; 32], version: 1, since_us: 1_700_000_000, cause }
}

fn text(entry: &ModeEntry) -> String {
    serde_json::to_string(entry).unwrap()
}

fn board(entries: &[(&str, ModeEntry)]) -> ModeBoard {
    let mut board = ModeBoard::default();
    for (rule, entry) in entries {
        board.take(rule, entry.clone()).unwrap();
    }
    board
}

/// Waits for a value that will do.
async fn until<T: Clone + Debug>(
    mut watched: watch::Receiver<T>,
    what: &str,
    will_do: impl FnMut(&T) -> bool,
) -> T {
    if let Ok(found) = tokio::time::timeout(PATIENCE, watched.wait_for(will_do)).await {
        return found.expect("the fleet runs").clone();
    }
    panic!("{what} did not come; the last was {:?}", *watched.borrow())
}

async fn until_it_knows(fleet: &Fleet, rule: &str, entry: &ModeEntry) -> FleetView {
    until(fleet.board(), "the entry", |view| view.board.get(rule) == Some(entry)).await
}

async fn until_fresh(fleet: &Fleet) -> FleetView {
    until(fleet.board(), "a fresh view", |view| view.belief == Belief::Fresh).await
}

async fn until_health(
    fleet: &Fleet,
    what: &str,
    will_do: impl FnMut(&FleetHealth) -> bool,
) -> FleetHealth {
    until(fleet.health(), what, will_do).await
}

/// Waits until Redis has been read after this was called, and written to where it had to be.
async fn until_synced(fleet: &Fleet) -> FleetHealth {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now_us = i64::try_from(now.as_micros()).unwrap();
    until_health(fleet, "a refresh", |health| {
        health.state.is_connected() && health.synced_us > Some(now_us) && health.held == 0
    })
    .await
}
