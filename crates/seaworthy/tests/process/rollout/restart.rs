//! What a restart leaves as it was, and what a kill does not.

use std::collections::BTreeMap;

use seaworthy_console::control::{Command, RuleStanding, WaiverView};
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::Stay;

use super::{HOSTS, configure, fast_for};
use crate::harness::ask::until;
use crate::harness::client::exchange;
use crate::harness::{Gateway, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{
    ask, fire, harm, now_unix_ms, set, standing, standings, until_stands, visit,
};

/// Waits until a whole tick has passed since `unix_ms`, so that what comes now is counted.
pub(super) async fn until_counted_from(unix_ms: i64) {
    let from = u64::try_from(unix_ms).expect("it is after 1970") + 1000;
    until("evidence counts", async || (now_unix_ms() > from).then_some(())).await;
}

/// What a restart has to leave as it is: by rule its mode, epoch, window, try, why, hold and
/// waivers.
type Kept = (Mode, u64, i64, u32, String, Option<Stay>, Vec<WaiverView>);

fn kept(all: &[RuleStanding]) -> BTreeMap<String, Kept> {
    let one = |standing: &RuleStanding| {
        let of = standing.current.clone();
        // What is waited for is told by the gates, which begin to count again.
        let stay =
            of.stay.filter(|stay| !matches!(stay, Stay::Gates { .. } | Stay::Settling { .. }));
        let kept = (of.mode, of.epoch, of.window_unix_ms, of.attempt, of.why, stay);
        let (mode, epoch, window, attempt, why, stay) = kept;
        let kept = (mode, epoch, window, attempt, why, stay, standing.waivers.clone());
        (standing.rule.clone(), kept)
    };
    all.iter().map(one).collect()
}

/// Sends `count` requests whose host is wrong, by clients that say who they are.
async fn strangers(gateway: &Gateway, count: u64) {
    for number in 0..count {
        let status = visit(gateway.traffic, "b", Some(&format!("token {}", number % 3))).await;
        assert_eq!(status, 200);
    }
}

#[tokio::test]
async fn modes_holds_waivers_and_evidence_are_there_after_a_restart() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let console = gateway.console;
    set(console, "csrf", "enforce 50%").await;
    set(console, "cors", "enforce").await;
    fire(console, "cors").await;
    let until_unix_ms = i64::try_from(now_unix_ms()).unwrap() + 24 * 3_600_000;
    let hold = Command::Hold { until_unix_ms: Some(until_unix_ms) };
    ask(console, "injection", hold).await.expect("it can be held");
    ask(console, HOSTS, Command::Hold { until_unix_ms: None }).await.expect("it can be held");
    let client = "bearer:0123456789abcdef".to_owned();
    let waive = Command::Waive { client, until_unix_ms };
    let waived = ask(console, "csrf", waive).await.expect("it can be waived");
    assert_eq!(waived.standing.waivers.len(), 1);

    until_counted_from(standing(console, HOSTS).await.current.window_unix_ms).await;
    strangers(&gateway, 7).await;
    let counted = |count| move |standing: &RuleStanding| harm(&standing.current) == (count, count);
    let before = until_stands(console, HOSTS, "seven are counted", counted(7)).await;
    let all = kept(&standings(console).await);
    assert!(matches!(before.current.stay, Some(Stay::Held { until_unix_ms: None, .. })));
    assert!(matches!(all["cors"].5, Some(Stay::Held { until_unix_ms: None, .. })), "{all:?}");
    gateway.stop().await;

    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let console = gateway.console;
    let started = i64::try_from(now_unix_ms()).unwrap();
    assert_eq!(kept(&standings(console).await), all);
    until_stands(console, HOSTS, "the seven are there", counted(7)).await;
    until_counted_from(started).await;
    strangers(&gateway, 5).await;
    let after = until_stands(console, HOSTS, "twelve are counted", counted(12)).await;
    assert_eq!(after.current.attempt, 1, "its window goes on");
    gateway.stop().await;
}

#[tokio::test]
async fn after_a_kill_windows_begin_anew_and_that_is_another_try() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let first = standing(gateway.console, HOSTS).await.current;
    assert_eq!(first.attempt, 1);
    until_counted_from(first.window_unix_ms).await;
    strangers(&gateway, 3).await;
    until_stands(gateway.console, HOSTS, "they are counted", |now| harm(&now.current).1 == 3).await;
    gateway.kill().await;

    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let second = standing(gateway.console, HOSTS).await.current;
    assert_eq!((second.attempt, harm(&second)), (2, (0, 0)), "{second:?}");
    assert!(second.window_unix_ms > first.window_unix_ms);
    assert_eq!((second.mode, second.version, &second.policy), (Mode::Warn, 1, &first.policy));
    gateway.stop().await;

    // One that ends in order is no further try.
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let third = standing(gateway.console, HOSTS).await.current;
    assert_eq!((third.attempt, third.window_unix_ms), (2, second.window_unix_ms));
    gateway.stop().await;
}

#[tokio::test]
async fn after_a_kill_the_alarms_know_the_clients_whatever_they_are_called() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let console = gateway.console;
    let call = async |traffic, host: &str| {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}.example\r\nConnection: close\r\n\
             Authorization: Bearer known\r\nX-Tenant-Id: acme\r\n\r\n"
        );
        exchange(traffic, request.as_bytes(), 0).await.statuses()[0]
    };
    until_counted_from(standing(console, HOSTS).await.current.window_unix_ms).await;
    for _ in 0..100 {
        assert_eq!(call(gateway.traffic, "a").await, 200);
    }
    until_stands(console, HOSTS, "it is known", |now| harm(&now.current).1 >= 100).await;
    set(console, HOSTS, "enforce").await;
    gateway.kill().await;

    // What is left of before names the client without its tenant.
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let enforced = standing(gateway.console, HOSTS).await.current;
    assert_eq!(enforced.mode.to_string(), "enforce", "{enforced:?}");
    let fell = until("it is seen that the client broke", async || {
        call(gateway.traffic, "b").await;
        let now = standing(gateway.console, HOSTS).await.current;
        (now.mode == Mode::Warn).then_some(now)
    })
    .await;
    assert!(fell.why.starts_with("enforcing broke "), "{fell:?}");
    gateway.stop().await;
}
