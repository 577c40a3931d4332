//! Alerts on their whole way to a gateway that is a process: from a real Alertmanager, and in any
//! order.

use std::path::Path;

use seaworthy_console::control::{Command, RuleStanding, VersionStanding};
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::Stay;
use serde_json::json;
use tempfile::TempDir;

use super::{HOSTS, configure, fast_for};
use crate::alertmanager::Alertmanager;
use crate::alerts::Relay;
use crate::audit::{audit, leaves, said};
use crate::harness::ask::{metric, until};
use crate::harness::{Gateway, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{ask, deliver, now_unix_ms, proof, set, standing, until_stands, visit};

/// A gateway that enforces, and takes alerts.
async fn enforcing() -> (Gateway, TempDir) {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    set(gateway.console, HOSTS, "enforce").await;
    (gateway, dir)
}

/// What somebody gets whose host is wrong.
async fn stranger(gateway: &Gateway) -> u16 {
    visit(gateway.traffic, "b", None).await
}

/// What nothing but a move changes.
fn place(version: &VersionStanding) -> (Mode, u64, i64, &str) {
    (version.mode, version.epoch, version.since_unix_ms, &version.why)
}

fn is_held(standing: &RuleStanding) -> bool {
    matches!(&standing.current.stay, Some(Stay::Held { until_unix_ms: None, .. }))
}

/// How often the log says that an alert has moved a rule, after the gateway has ended in order.
async fn demotions(gateway: Gateway, dir: &Path) -> usize {
    gateway.stop().await;
    let (code, text) = said(&audit(dir, &["verify"]));
    assert_eq!(code, Some(0), "{text}");
    leaves(dir).iter().filter(|leaf| leaf["action"] == "alert.demote").count()
}

#[tokio::test]
async fn an_alertmanager_demotes_a_rule_of_a_gateway_and_its_end_changes_nothing() {
    let (gateway, dir) = enforcing().await;
    let relay = Relay::start(&format!("http://{}/api/v1/hooks/alerts", gateway.console)).await;
    let alertmanager = Alertmanager::start(&relay.url(), None).await;
    let alert = json!({
        "labels": { "alertname": "ErrorsHigh", "seaworthy_rule": HOSTS },
        "annotations": { "summary": "5 % fail" },
    });
    assert_eq!(stranger(&gateway).await, 421);
    alertmanager.fire(&json!([alert])).await;
    let held = until_stands(gateway.console, HOSTS, "the alert demotes it", is_held).await;
    assert_eq!(stranger(&gateway).await, 200);
    let why = &held.current.why;
    assert!(why.starts_with("Alertmanager says that ErrorsHigh fires since "), "{why}");
    assert!(why.ends_with(": 5 % fail"), "{why}");

    let mut over = alert.clone();
    over["endsAt"] = json!("2026-03-01T12:00:00Z");
    alertmanager.fire(&json!([over])).await;
    until("the end is delivered", async || {
        let taken = "seaworthy_alert_deliveries_total{result=\"taken\"}";
        metric(gateway.console, taken).await.filter(|taken| *taken >= 2.0)
    })
    .await;
    let after = standing(gateway.console, HOSTS).await;
    assert_eq!((place(&after.current), is_held(&after)), (place(&held.current), true));
    assert_eq!(stranger(&gateway).await, 200);
    assert_eq!(demotions(gateway, dir.path()).await, 1);
}

/// What Alertmanager sends of an alert in `status` that began at `hour`.
fn delivery(status: &str, hour: u32) -> String {
    let alert = json!({
        "status": status,
        "labels": { "alertname": "CheckoutErrors", "seaworthy_rule": HOSTS },
        "annotations": {}, "startsAt": format!("2026-03-01T{hour:02}:00:00Z"), "fingerprint": "1",
    });
    json!({ "version": "4", "groupKey": "g", "alerts": [alert] }).to_string()
}

/// Sends a delivery, which is taken; the name of what it did.
async fn sent(gateway: &Gateway, status: &str, hour: u32) -> String {
    let text = delivery(status, hour);
    let (code, effects) =
        deliver(gateway.console, &proof(&text, now_unix_ms() / 1000), &text).await;
    assert_eq!(code, 200, "{effects}");
    let counts = ["demoted", "held", "known", "resolved"]
        .map(|name| (name, effects[name].as_u64().expect("a count")));
    let did: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
    let [(name, 1)] = did[..] else { panic!("it did more than one thing: {effects}") };
    (*name).to_owned()
}

#[tokio::test]
async fn alerts_and_their_ends_in_any_order_demote_once_and_never_promote() {
    let (gateway, dir) = enforcing().await;
    let is_at = |mode: &str| {
        let mode: Mode = mode.parse().expect("it is a mode");
        move |standing: &RuleStanding| standing.current.mode == mode
    };
    // The end overtakes the alert; the alert comes all the same; then both once more.
    for (status, did, mode, answer) in [
        ("resolved", "resolved", "enforce", 421),
        ("firing", "demoted", "warn", 200),
        ("resolved", "resolved", "warn", 200),
        ("firing", "known", "warn", 200),
    ] {
        let before = standing(gateway.console, HOSTS).await;
        assert_eq!(sent(&gateway, status, 12).await, did);
        assert_eq!(stranger(&gateway).await, answer, "after {status}");
        let after = until_stands(gateway.console, HOSTS, did, is_at(mode)).await;
        if did != "demoted" {
            assert_eq!(place(&after.current), place(&before.current), "{status} moved it");
        }
    }
    assert!(is_held(&standing(gateway.console, HOSTS).await), "an end releases nothing");

    // Brought forward by an operator, it is not taken back by what is past, but by what is new.
    ask(gateway.console, HOSTS, Command::Release {}).await.expect("it is held");
    let enforced = set(gateway.console, HOSTS, "enforce").await.standing;
    for (status, did) in [("firing", "known"), ("resolved", "resolved")] {
        assert_eq!(sent(&gateway, status, 12).await, did);
        let after = standing(gateway.console, HOSTS).await;
        assert_eq!(place(&after.current), place(&enforced.current), "{status} moved it");
    }
    assert_eq!(sent(&gateway, "firing", 13).await, "demoted");
    assert_eq!(stranger(&gateway).await, 200);
    assert_eq!(demotions(gateway, dir.path()).await, 2);
}
