//! What `requests --explain` says where two versions of a rule are in force, and where what was done
//! last has moved nothing.

use std::fs;

use serde_json::Value;

use super::Desk;
use crate::harness::ask::until;
use crate::harness::client::exchange;

const RULE: &str = "host_allowlist";

fn hosts(host: &str) -> String {
    format!("[protect.{RULE}]\nhosts = [\"{host}.example\"]\n")
}

impl Desk {
    /// The status of an answer to `token` at `host`, and the id of the request.
    async fn visit(&self, host: &str, token: usize) -> (u16, String) {
        let request = format!(
            "GET /api/complaints HTTP/1.1\r\nHost: {host}.example\r\nConnection: close\r\n\
             Authorization: Bearer token-{token}\r\n\r\n"
        );
        let reply = exchange(self.gateway().traffic, request.as_bytes(), 1).await;
        let id = reply.text.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        (reply.statuses()[0], id.expect("every answer has one").to_owned())
    }

    /// What is said of the request `id` in words, and what the first rule said of it, in JSON.
    async fn explained(&self, id: &str) -> (String, Value) {
        let said = until("the request is written", async || {
            let ran = self.ran(&["requests", "--explain", id]);
            (ran.output.status.code() == Some(0)).then(|| ran.said(0))
        })
        .await;
        let json = self.ran(&["requests", "--explain", id, "--json"]).json(0);
        (said, json["rules"][0].clone())
    }

    /// The number of the newest entry on [`RULE`] with this action.
    fn newest(&self, action: &str) -> Value {
        let is_it = |leaf: &&Value| leaf["target"] == RULE && leaf["action"] == action;
        let leaves = self.leaves();
        leaves.iter().rev().find(is_it).expect("there is one")["seq"].clone()
    }
}

/// A rule whose version 1 is enforced for all, and version 2 for a tenth beside it, both held since
/// by somebody else.
async fn two_versions() -> (Desk, Value, Value) {
    let desk = Desk::start(&hosts("a")).await;
    desk.operator(&["mode", "set", RULE, "enforce"], "to see").said(0);
    let set = desk.newest("mode.set");
    fs::write(desk.path("seaworthy.toml"), hosts("b")).unwrap();
    until("the new version is judged beside the old one", async || {
        desk.status(RULE)["next"].is_object().then_some(())
    })
    .await;
    desk.operator(&["rollout", "promote", RULE], "a tenth").said(0);
    let promoted = desk.newest("mode.promote");
    let hold = ["rollout", "hold", RULE, "--actor", "bob", "--reason", "the sale"];
    desk.rules(&hold).said(0);
    (desk, set, promoted)
}

#[tokio::test]
async fn a_request_is_explained_by_the_version_that_judged_it_and_the_entry_that_moved_that() {
    let (desk, set, promoted) = two_versions().await;
    let (mut by_old, mut by_new) = (None, None);
    for token in 0..400 {
        // Version 1 is for host a and version 2 for host b.
        match desk.visit("b", token).await {
            (421, id) => by_old = by_old.or(Some(id)),
            (200, _) => {
                let (status, id) = desk.visit("a", token).await;
                assert_eq!(status, 421);
                by_new = Some(id);
            }
            other => panic!("{other:?}"),
        }
        if by_old.is_some() && by_new.is_some() {
            break;
        }
    }
    let by_old = by_old.expect("most clients are outside of a tenth");
    let by_new = by_new.expect("of 400 clients one is in a tenth");
    for (id, version, mode, entry, share) in [
        (&by_old, 1, "enforce", &set, "which is in the share of 100% (below 10000)"),
        (&by_new, 2, "enforce 10%", &promoted, "which is in the share of 10% (below 1000)"),
    ] {
        let (said, json) = desk.explained(id).await;
        let then = &json["then"];
        assert_eq!((&then["version"], &then["mode"]), (&version.into(), &mode.into()), "{said}");
        assert_eq!((&then["since"]["seq"], &then["or_next"]), (entry, &Value::Null), "{said}");
        assert_eq!(then["since"]["actor"], "operator:ada", "{said}");
        let words = format!("then: {mode}, version {version}, since ");
        assert!(said.contains(&words) && said.contains(share), "{said}");
        assert!(!said.contains("that does not fit"), "{said}");
    }

    // An edit of the version that is tried begins it anew: from then on all are judged by the first.
    fs::write(desk.path("seaworthy.toml"), hosts("c")).unwrap();
    until("the newest version is judged beside the old one", async || {
        (desk.status(RULE)["next"]["mode"] == "warn").then_some(())
    })
    .await;
    let (status, id) = desk.visit("c", 0).await;
    assert_eq!(status, 421);
    let (said, json) = desk.explained(&id).await;
    assert_eq!(
        (&json["then"]["version"], &json["then"]["since"]["seq"]),
        (&1.into(), &set),
        "{said}"
    );
    desk.end().await;
}

const DOCUMENT: &str = "\
openapi: 3.1.0
paths:
  /api/complaints:
    post:
      requestBody:
        content:
          application/json:
            schema: { properties: { title: { maxLength: 3 }, tags: { type: array } } }
";

/// A rule that reads bodies says where it objects: in the log, and to whoever asks of the request. So
/// does each of two that object to the same one; and nobody is shown what was sent.
#[tokio::test]
async fn each_rule_says_where_in_the_request_it_objects() {
    const RULE: &str = "request_schema@POST /api/complaints";
    let desk = Desk::start("").await;
    fs::write(desk.path("openapi.yaml"), DOCUMENT).unwrap();
    let config = "[protect.request_schema]\nopenapi = \"openapi.yaml\"\n";
    fs::write(desk.path("seaworthy.toml"), config).unwrap();
    until("the document has rules", async || {
        let status = desk.rules(&["rollout", "status", RULE, "--json"]).output.status;
        (status.code() == Some(0)).then_some(())
    })
    .await;
    let body = r#"{"title":"hunter2","tags":"hunter2"}"#;
    let request = format!(
        "POST /api/complaints HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nSec-Fetch-Site: cross-site\r\nCookie: session=abc\r\n\r\n{body}",
        body.len()
    );
    let reply = exchange(desk.gateway().traffic, request.as_bytes(), 1).await;
    let id = reply.text.lines().find_map(|line| line.strip_prefix("x-request-id: "));
    let id = id.expect("every answer has one");

    let line = desk.gateway().process.logs("rule", RULE).await;
    assert_eq!((&line["request"], &line["message"]), (&id.into(), &"would deny".into()), "{line}");
    assert_eq!(line["at"], "/tags type, /title maxLength", "{line}");
    assert!(!line.to_string().contains("hunter2"), "{line}");
    desk.gateway().process.logs("rule", "csrf").await;

    let (said, _) = desk.explained(id).await;
    let words = "what it objected to: 2 parts of the request are not as documented: /tags type, \
                 /title maxLength\n";
    assert!(said.contains(words) && !said.contains("hunter2"), "{said}");
    let json = desk.ran(&["requests", "--explain", id, "--json"]).json(0);
    let rules = json["rules"].as_array().expect("a list").iter();
    let codes = rules.map(|rule| (rule["rule"].as_str(), rule["objection"]["code"].as_str()));
    let codes: std::collections::BTreeMap<_, _> = codes.collect();
    assert_eq!(codes[&Some(RULE)], Some("schema-mismatch"), "{json}");
    assert_eq!(codes[&Some("csrf")], Some("csrf-cross-site"), "{json}");
    desk.end().await;
}
