//! Steps that somebody has to approve.

use std::fs;

use serde_json::{Value, json};

use super::Desk;
use crate::harness::ask::until;
use crate::harness::client::exchange;
use crate::rollout::fast_without_alerts;

const RULE: &str = "host_allowlist";

/// A rollout with approval whose gates ask for little: what is tested is who has the last word.
fn config() -> String {
    let fast = fast_without_alerts();
    let manual = fast.replace("[rollout]\n", "[rollout]\napproval = \"manual\"\n");
    assert_ne!(manual, fast);
    let eager = manual
        .replace("p0 = \"2%\"", "p0 = \"20%\"")
        .replace("green_minutes = 10", "green_minutes = 2");
    assert_ne!(eager, manual);
    format!("{eager}\n[protect.{RULE}]\nhosts = [\"a.example\"]\n")
}

/// Clients that come at once.
const CLIENTS: usize = 40;

impl Desk {
    /// Everybody comes, and nobody is harmed, until `is_so` of the rule's present version.
    async fn until_version(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            for client in 0..CLIENTS {
                let request = format!(
                    "GET /api/complaints HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\
                     Authorization: Bearer client-{client}\r\n\r\n"
                );
                let reply = exchange(self.gateway().traffic, request.as_bytes(), 1).await;
                assert_eq!(reply.statuses(), [200]);
            }
            let version = self.status(RULE)["current"].clone();
            is_so(&version).then_some(version)
        })
        .await
    }

    /// What is in the log of the rule: who, what, and the mode after it.
    fn moves(&self) -> Vec<[String; 3]> {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let leaves = self.leaves().into_iter().filter(|leaf| leaf["target"] == RULE);
        leaves
            .map(|leaf| [text(&leaf["actor"]), text(&leaf["action"]), text(&leaf["after"]["mode"])])
            .collect()
    }
}

fn row(actor: &str, action: &str, mode: &str) -> [String; 3] {
    [actor, action, mode].map(str::to_owned)
}

#[tokio::test]
async fn a_step_waits_for_its_approval_and_then_is_the_gates() {
    let desk = Desk::start(&config()).await;
    let waits = json!({ "reason": "approval", "to": "10%" });
    let version = desk
        .until_version("every gate passes, and nobody has approved", |version| {
            version["stay"] == waits
        })
        .await;
    assert_eq!(version["mode"], "warn");
    let listed = desk.rules(&["mode"]).said(0);
    let words = format!("every gate passes; `rollout promote {RULE}` approves 10%");
    assert!(listed.contains(&words), "{listed}");
    assert_eq!(desk.moves(), [[""; 3]; 0]);

    // The approval is one entry, and the step that the gates take another.
    let said = desk.operator(&["rollout", "promote", RULE], "the desk agrees").said(0);
    assert!(said.starts_with(&format!("{RULE} is at warn; 10% is approved; ")), "{said}");
    let version = desk
        .until_version("the gateway takes the step", |version| version["mode"] == "enforce 10%")
        .await;
    assert_eq!(version["why"], "every gate passed for 10%");
    let approved = row("operator:ada", "admin.call", "warn");
    let promoted = row("gateway", "mode.promote", "enforce 10%");
    assert_eq!(desk.moves(), [approved.clone(), promoted.clone()]);
    let leaf = desk.leaves().into_iter().find(|leaf| leaf["action"] == "admin.call");
    assert_eq!(leaf.expect("it was there")["reason"], "ada: the desk agrees");

    // It was for that step alone. One that is approved before its gates pass waits for them.
    let said = desk.operator(&["rollout", "promote", RULE], "the next one, too").said(0);
    assert!(said.starts_with(&format!("{RULE} is at enforce 10%; 50% is approved; ")), "{said}");
    assert_eq!(desk.mode(RULE), "enforce 10%");
    // Who approves what is approved already does not pass over the gates.
    let said = desk.operator(&["rollout", "promote", RULE], "so do I").said(1);
    let words = format!("the step of {RULE} to 50% is approved already, and is taken once every");
    assert!(said.contains(&words), "{said}");
    assert_eq!(desk.mode(RULE), "enforce 10%");
    // An approval is gone with a fall; on a rule that is held the step is taken as it is asked for.
    desk.operator(&["rollout", "demote", RULE], "it hurts").said(0);
    desk.operator(&["rollout", "promote", RULE], "it does not").said(0);
    assert_eq!(desk.mode(RULE), "enforce 10%");
    let next_approved = row("operator:ada", "admin.call", "enforce 10%");
    let demoted = row("operator:ada", "mode.demote", "warn");
    let taken = row("operator:ada", "mode.promote", "enforce 10%");
    assert_eq!(desk.moves(), [approved, promoted, next_approved, demoted, taken]);

    // Each has a receipt that is right, the approval among them.
    let page = desk.ran(&["rollout", "history", RULE, "--json"]).json(0);
    let receipts = page["receipts"].as_array().expect("a list");
    let events: Vec<_> =
        receipts.iter().rev().map(|row| &row["receipt"]["event"]["event"]).collect();
    assert_eq!(events, ["approved", "promoted", "approved", "fell", "set"]);
    for row in receipts {
        let seq = row["seq"].to_string();
        fs::write(desk.path("one.json"), desk.ran(&["rollout", "receipt", &seq]).said(0)).unwrap();
        desk.ran(&["rollout", "verify", "one.json"]).said(0);
    }
    desk.end().await;
}
