//! Who is said to have moved a rule that an alert has moved.

use std::fs;

use super::{Desk, ran};
use crate::operator::{SECRET, fire};

#[tokio::test]
async fn an_alert_is_in_the_log_and_in_the_history_by_its_name() {
    let mut desk = Desk::start("").await;
    fs::write(desk.path("alerts.secret"), SECRET).unwrap();
    let config = "[alerts]\nsecrets = [\"file:alerts.secret\"]\n";
    fs::write(desk.path("seaworthy.toml"), config).unwrap();
    desk.close().await;
    desk.open().await;
    desk.operator(&["mode", "set", "csrf", "enforce"], "to see").said(0);
    fire(desk.gateway().console, "csrf").await;
    assert_eq!(desk.mode("csrf"), "warn");
    let leaf = desk.leaves().pop().expect("there is one");
    assert_eq!(
        (&leaf["actor"], &leaf["action"]),
        (&"alert:CheckoutErrors".into(), &"alert.demote".into())
    );
    let reason = leaf["reason"].as_str().expect("a text");
    assert!(reason.starts_with("Alertmanager says that CheckoutErrors fires since "), "{reason}");
    let said = desk.ran(&["rollout", "history", "csrf"]).said(0);
    assert!(said.contains("alert:CheckoutErrors"), "{said}");
    // Its receipt has the same, and is right.
    let seq = leaf["seq"].to_string();
    fs::write(desk.path("one.json"), desk.ran(&["rollout", "receipt", &seq]).said(0)).unwrap();
    let said = ran(desk.dir.path(), &["rollout", "verify", "one.json"]).said(0);
    assert!(said.contains("csrf: enforce → warn, by alert:CheckoutErrors, "), "{said}");
    desk.end().await;
}
