//! A clock that was ahead: what it has written lies in the future of the next process.

use seaworthy_console::control::{Command, RuleStanding};
use seaworthy_policy::rollout::{RuleState, Standing, Stay};
use seaworthy_store::ledger::{Change, Ledger, LedgerOptions, put_standing};

use super::{HOSTS, assert_sound, configure, fast_for};
use crate::audit::leaves;
use crate::harness::{Gateway, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{ask, harm, now_unix_ms, set, standing, until_stands, visit};

const DAY_MS: i64 = 24 * 3_600_000;

/// Writes where the rules stand as if the clock had been a day ahead.
async fn move_ahead(data: &std::path::Path) {
    let ledger = Ledger::open(data, LedgerOptions::default()).expect("nobody has it");
    let ahead = |state: RuleState| {
        let mut state = state;
        state.since_unix_ms += DAY_MS;
        state.window_unix_ms += DAY_MS;
        if let Some(until) = state.hold.as_mut().and_then(|hold| hold.until_unix_ms.as_mut()) {
            *until += DAY_MS;
        }
        state
    };
    let mut change = Change::new();
    for (rule, standing) in ledger.reader().standings().expect("it can be read") {
        let (current, next) = (ahead(standing.current), standing.next.map(ahead));
        let revision = standing.revision + 1;
        change = change.and(put_standing(&rule, &Standing { current, next, revision, ..standing }));
    }
    ledger.commit(change).await.expect("it is written");
    ledger.close().await;
}

fn held_until(standing: &RuleStanding) -> Option<i64> {
    match &standing.current.stay {
        Some(Stay::Held { until_unix_ms, .. }) => *until_unix_ms,
        _ => None,
    }
}

#[tokio::test]
async fn what_a_clock_that_was_ahead_has_written_keeps_no_rule_waiting() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    set(gateway.console, "csrf", "enforce 50%").await;
    ask(gateway.console, "csrf", Command::Demote {}).await.expect("a rule can always fall");
    let before = standing(gateway.console, HOSTS).await.current;
    let fell = standing(gateway.console, "csrf").await.current;
    gateway.stop().await;
    move_ahead(&dir.path().join("seaworthy-data")).await;

    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let (console, started) = (gateway.console, i64::try_from(now_unix_ms()).unwrap());
    gateway.process.says("its state is from the future: the clock was ahead").await;
    let after = standing(console, HOSTS).await.current;
    assert!(after.since_unix_ms <= started && after.window_unix_ms <= started + 2000, "{after:?}");
    // That clock may have looked at its window.
    assert_eq!((after.mode, after.attempt), (before.mode, before.attempt + 1));
    assert!(after.epoch > before.epoch);
    let held = standing(console, "csrf").await;
    assert_eq!((held.current.mode, held.current.attempt), (fell.mode, fell.attempt + 1));
    let until = held_until(&held).expect("it is held after its fall");
    assert!(until > started && until <= started + 3_600_000, "{held:?}");
    // Evidence counts, which it would not for a day.
    until_stands(console, HOSTS, "it has settled", |now| {
        !matches!(now.current.stay, Some(Stay::Settling { .. }))
    })
    .await;
    crate::harness::ask::until("what comes is evidence", async || {
        assert_eq!(visit(gateway.traffic, "b", Some("somebody")).await, 200);
        (harm(&standing(console, HOSTS).await.current).0 > 0).then_some(())
    })
    .await;
    gateway.stop().await;
    assert_sound(dir.path());
    let of_clock = leaves(dir.path()).into_iter().filter(|leaf| {
        leaf["target"] == HOSTS
            && leaf["reason"].as_str().is_some_and(|why| why.starts_with("the clock was ahead"))
    });
    assert_eq!(of_clock.count(), 1);

    // It is brought back once.
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let again = standing(gateway.console, HOSTS).await.current;
    assert_eq!((again.epoch, again.window_unix_ms), (after.epoch, after.window_unix_ms));
    gateway.stop().await;
}
