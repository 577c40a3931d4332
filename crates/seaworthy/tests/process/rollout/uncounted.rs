//! What a change leaves out: what was judged under another mode, and what was not written at the end.

use std::net::SocketAddr;

use rusqlite::Connection;
use seaworthy_console::control::VersionStanding;
use seaworthy_policy::gates::Gate;
use seaworthy_policy::mode::{Mode, ModeSetting};

use super::{HOSTS, configure, fast_for};
use crate::audit::leaves;
use crate::harness::ask::until;
use crate::harness::{Gateway, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{harm, now_unix_ms, standing, until_stands, visit};

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
