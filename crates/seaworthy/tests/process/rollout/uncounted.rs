//! What a change leaves out: what was judged under another mode, what was told before it, and what
//! was not written at the end.

use std::net::SocketAddr;

use rusqlite::Connection;
use seaworthy_console::control::{Command, VersionStanding};
use seaworthy_policy::gates::Gate;
use seaworthy_policy::mode::{Mode, ModeSetting};
use seaworthy_store::telemetry::TelemetryReader;

use super::{HOSTS, configure, fast_for};
use crate::audit::leaves;
use crate::harness::ask::until;
use crate::harness::{Gateway, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{ask, harm, now_unix_ms, set, standing, until_stands, visit};

fn now() -> i64 {
    i64::try_from(now_unix_ms()).expect("it is before the year 292277026")
}

/// Waits until a whole tick has begun since `unix_ms`, so that what comes now is counted.
async fn until_counted_from(unix_ms: i64, tick_ms: i64) {
    until("evidence counts", async || (now() > unix_ms + tick_ms).then_some(())).await;
}

/// Checks of the window, whoever was judged.
fn checks(version: &VersionStanding) -> u64 {
    let reading = version.gates.iter().find(|reading| reading.gate == Gate::Latency);
    reading.and_then(|one| one.numbers.get("total")).unwrap_or(0.0) as u64
}

/// Requests with the wrong host, by clients that say who they are and by nobody.
async fn denied(traffic: SocketAddr, count: u64) {
    for number in 0..count / 2 {
        let token = format!("token {}", number % 3);
        assert_eq!(visit(traffic, "b", Some(&token)).await, 421);
        assert_eq!(visit(traffic, "b", None).await, 421);
    }
}

#[tokio::test]
async fn what_a_pinned_rule_has_denied_is_no_evidence_for_it() {
    let dir = folder();
    let (auto, pinned) = (fast_for("a"), format!("{}mode = \"enforce\"\n", fast_for("a")));
    configure(dir.path(), &pinned);
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let console = gateway.console;
    let first = standing(console, HOSTS).await.current;
    until_counted_from(first.window_unix_ms, 1000).await;
    denied(gateway.traffic, 20).await;
    let counted = |now: &VersionStanding| checks(now) == 20;
    let judged =
        until_stands(console, HOSTS, "they are counted", |now| counted(&now.current)).await;
    assert_eq!(harm(&judged.current), (0, 0), "nobody's harm could be seen");

    configure(dir.path(), &auto);
    let anew = until_stands(console, HOSTS, "the pin is gone and a window begins", |now| {
        now.setting == ModeSetting::Auto && now.current.window_unix_ms > first.window_unix_ms
    });
    let anew = anew.await.current;
    assert_eq!((anew.mode, anew.attempt), (Mode::Warn, 1), "it has tried nothing before");
    let cleared = until_stands(console, HOSTS, "it begins anew", |now| checks(&now.current) == 0);
    cleared.await;

    // It is the same where nobody ran when the pin was taken out.
    configure(dir.path(), &pinned);
    let again = until_stands(console, HOSTS, "it is pinned again", |now| {
        now.setting == ModeSetting::ENFORCE && now.current.attempt == 2
    });
    let again = again.await.current;
    until_counted_from(again.window_unix_ms, 1000).await;
    denied(gateway.traffic, 20).await;
    until_stands(console, HOSTS, "they are counted", |now| counted(&now.current)).await;
    gateway.stop().await;
    configure(dir.path(), &auto);
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let last = standing(gateway.console, HOSTS).await.current;
    assert!(last.window_unix_ms > again.window_unix_ms, "{last:?}");
    assert_eq!((last.mode, last.attempt, checks(&last)), (Mode::Warn, 2, 0), "{last:?}");
    gateway.stop().await;
}

/// Denials of [`HOSTS`] that are on the disk.
fn denials(reader: &TelemetryReader) -> u64 {
    let ticks = reader.evidence(0..i64::MAX).expect("it is readable").into_iter();
    ticks.filter(|tick| tick.rule == HOSTS).map(|tick| tick.evidence.counts.denied).sum()
}

#[tokio::test]
async fn what_a_tick_has_told_before_a_change_is_not_told_again_after_it() {
    const TICK_S: i64 = 5;
    const TICK_MS: i64 = 1000 * TICK_S;
    let dir = folder();
    let fast = fast_for("a");
    let slower = fast.replace("tick = \"1s\"", &format!("tick = \"{TICK_S}s\""));
    assert_ne!(slower, fast);
    configure(dir.path(), &slower);
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let (traffic, console) = (gateway.traffic, gateway.console);
    let begun = standing(console, HOSTS).await.current.window_unix_ms;
    until_counted_from(begun, TICK_MS).await;
    for _ in 0..100 {
        assert_eq!(visit(traffic, "a", Some("known")).await, 200);
    }
    until_stands(console, HOSTS, "it is known", |now| harm(&now.current).1 >= 100).await;
    set(console, HOSTS, "enforce").await;

    // One less than may mean that somebody broke. All of it within one tick.
    until("a tick has just begun", async || (now() % TICK_MS < 500).then_some(())).await;
    let reader = TelemetryReader::open_read_only(&dir.path().join("seaworthy-data")).unwrap();
    let until_written =
        async |count| until("it is told", async || (denials(&reader) == count).then_some(())).await;
    for _ in 0..5 {
        assert_eq!(visit(traffic, "b", Some("known")).await, 421);
    }
    until_written(5).await;
    let until_unix_ms = now() + 3_600_000;
    let waive = Command::Waive { client: "bearer:0123456789abcdef".to_owned(), until_unix_ms };
    ask(console, HOSTS, waive).await.expect("it can be waived");
    assert_eq!(visit(traffic, "b", Some("known")).await, 421);
    until_written(6).await;
    // Answered once all that was told before is taken up.
    let release = ask(console, HOSTS, Command::Release {}).await.expect("there is nothing to it");
    let current = release.standing.current;
    assert_eq!(current.mode, "enforce".parse().unwrap(), "{current:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_whose_last_evidence_is_not_written_has_not_ended_in_order() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let first = standing(gateway.console, HOSTS).await.current;
    let other = Connection::open(dir.path().join("seaworthy-data/telemetry.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").expect("it waits for the gateway's own writes");
    assert_eq!(visit(gateway.traffic, "b", Some("somebody")).await, 200);
    gateway.stop().await;
    drop(other);
    let stops =
        leaves(dir.path()).into_iter().filter(|leaf| leaf["action"] == "gateway.stop").count();
    assert_eq!(stops, 0);

    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let second = standing(gateway.console, HOSTS).await.current;
    assert_eq!((first.attempt, second.attempt), (1, 2), "{second:?}");
    assert!(second.window_unix_ms > first.window_unix_ms);
    gateway.stop().await;

    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let third = standing(gateway.console, HOSTS).await.current;
    assert_eq!((third.attempt, third.window_unix_ms), (2, second.window_unix_ms));
    gateway.stop().await;
}
