//! Evidence that was lost: a ring that overflows while nobody can empty it.

use std::path::Path;

use seaworthy_console::control::RuleStanding;
use seaworthy_policy::gates::Verdict;
use seaworthy_policy::mode::Mode;
use seaworthy_store::telemetry::TelemetryReader;

use super::{HOSTS, assert_sound, configure, faster_for, flood, log_of, until_climbs};
use crate::harness::ask::{get, metric, until};
use crate::harness::client::exchange;
use crate::harness::{Gateway, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{now_unix_ms, standing};

/// Records that the ring of a worker holds.
const RING: usize = 8192;

const CONNECTIONS: usize = 4;

/// One worker, and so one ring.
fn config() -> String {
    format!("{}\n[listen]\nworkers = 1\n", faster_for("a"))
}

/// A config whose fault is more than the log's pipe can hold.
fn nonsense() -> String {
    format!("[rollout]\napproval = \"{}\"\n", "x".repeat(200_000))
}

/// Has a ring overflow: nobody reads the log, and so the pump, which writes to it, waits. Returns
/// how many records were lost.
async fn overflow(gateway: &Gateway, dir: &Path) -> u64 {
    let (traffic, console) = (gateway.traffic, gateway.console);
    let failed = async |value| {
        let failed = metric(console, "seaworthy_config_reload_failed").await;
        (failed == Some(value)).then_some(())
    };
    until("a ring overflows", async || {
        let unread = gateway.process.unread().await;
        configure(dir, &nonsense());
        until("what is wrong is said", async || failed(1.0).await).await;
        // Each is a note for the log.
        for _ in 0..4 {
            let reply = exchange(traffic, b"GET / HTTP/1.1\r\nno field\r\n\r\n", 0).await;
            assert_eq!(reply.statuses(), [400]);
        }
        let part = 3 * RING / 2 / CONNECTIONS;
        let start = |n| tokio::spawn(flood(traffic, "a", n * part..(n + 1) * part));
        for flood in (0..CONNECTIONS).map(start).collect::<Vec<_>>() {
            assert_eq!(flood.await.expect("it ends").expect("all are answered"), part);
        }
        drop(unread);
        configure(dir, &config());
        until("the config is right again", async || failed(0.0).await).await;
        let lost = metric(console, "seaworthy_records_dropped_total").await;
        lost.filter(|lost| *lost > 0.0).map(|lost| lost as u64)
    })
    .await
}

/// Whether the loss, and nothing else, keeps the rule where it is.
fn waits_for_a_whole_window(standing: &RuleStanding) -> bool {
    let gates = &standing.current.gates;
    !gates.is_empty()
        && gates.iter().all(|reading| {
            reading.verdict == Verdict::Inconclusive
                && reading.sentence.starts_with("the window is incomplete: ")
                && reading.sentence.contains(" records were dropped since ")
        })
}

fn is_where_it_was(standing: &RuleStanding) -> bool {
    (standing.current.mode, standing.current.attempt) == (Mode::Warn, 1)
}

#[tokio::test]
async fn a_window_with_drops_promotes_nothing_and_thirty_ticks_later_another_begins() {
    let dir = folder();
    configure(dir.path(), &config());
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let console = gateway.console;
    // All the time since the start is in the window in which something is lost.
    assert!(overflow(&gateway, dir.path()).await > 0);
    let lost_at = now_unix_ms();
    let before = until_climbs(&gateway, "only the loss holds it", waits_for_a_whole_window).await;
    assert!(is_where_it_was(&before), "{before:?}");
    let ready = get(console, "/readyz", &[]).await;
    assert_eq!(ready.statuses(), [200], "{}", ready.text);
    for later_ms in [10_000, 20_000] {
        let held = until_climbs(&gateway, "time passes", |now| {
            assert!(is_where_it_was(now) || now.current.attempt == 2, "{now:?}");
            now_unix_ms() > lost_at + later_ms
        });
        assert!(is_where_it_was(&held.await));
    }
    let healed = until_climbs(&gateway, "another window", |now| !is_where_it_was(now)).await;
    assert_eq!((healed.current.mode, healed.current.attempt), (Mode::Warn, 2), "{healed:?}");
    assert!(healed.current.window_unix_ms > before.current.window_unix_ms + 30_000);
    assert!(healed.current.epoch > before.current.epoch);
    assert_sound(dir.path());

    // Nothing is lost in that one, and nothing else was in the way.
    let climbed = until_climbs(&gateway, "it climbs", |now| now.current.mode != Mode::Warn).await;
    assert_eq!(climbed.current.mode.to_string(), "enforce 10%");
    gateway.stop().await;
    assert_sound(dir.path());
    let (action, mode, epoch) = log_of(dir.path(), HOSTS).into_iter().next().expect("it moved");
    assert_eq!((action.as_str(), mode.as_str()), ("mode.promote", "enforce 10%"));
    assert!(epoch > healed.current.epoch);
}

#[tokio::test]
async fn a_restart_does_not_forget_that_something_was_lost() {
    let dir = folder();
    configure(dir.path(), &config());
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    overflow(&gateway, dir.path()).await;
    let before = until_climbs(&gateway, "only the loss holds it", waits_for_a_whole_window).await;
    gateway.stop().await;
    let data = dir.path().join("seaworthy-data");
    let reader = TelemetryReader::open_read_only(&data).expect("there is telemetry");
    let gaps = reader.evidence_gaps(before.current.window_unix_ms).expect("it can be read");
    assert!(!gaps.is_empty() && gaps.iter().all(|(_, records)| *records > 0), "{gaps:?}");

    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let after = standing(gateway.console, HOSTS).await;
    assert!(is_where_it_was(&after), "{after:?}");
    assert_eq!(after.current.window_unix_ms, before.current.window_unix_ms);
    let after = until_climbs(&gateway, "only the loss holds it", waits_for_a_whole_window).await;
    assert!(is_where_it_was(&after), "{after:?}");
    gateway.stop().await;
    assert_sound(dir.path());
    assert_eq!(log_of(dir.path(), HOSTS), []);
}
