//! What a waiver does to a gate that its client fails.

use serde_json::Value;

use super::Desk;
use crate::harness::ask::until;
use crate::harness::client::exchange;
use crate::rollout::fast_without_alerts;

/// Two rules that object to each visit but the first, and harm it: the service would have answered.
const RULES: [&str; 2] = ["host_allowlist", "rate_limit"];

fn config() -> String {
    let limits = "[{ per = \"client\", rate = \"1/min\", burst = 1 }]";
    format!(
        "{}\n[protect.host_allowlist]\nhosts = [\"a.example\"]\n\
         [protect.rate_limit]\nlimits = {limits}\n",
        fast_without_alerts()
    )
}

impl Desk {
    /// What a gate says of the present version of `rule`, if it was asked already.
    fn gate(&self, rule: &str, gate: &str) -> Value {
        let status = self.status(rule);
        let gates = status["current"]["gates"].as_array().expect("a list").clone();
        gates.into_iter().find(|reading| reading["gate"] == gate).unwrap_or_default()
    }

    /// The one client of the test comes, on behalf of its tenant.
    async fn come(&self) {
        let request = "GET /api/complaints HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\
                       Authorization: Bearer batch\r\nX-Tenant-Id: acme\r\n\r\n";
        let reply = exchange(self.gateway().traffic, request.as_bytes(), 1).await;
        assert_eq!(reply.statuses(), [200], "it is judged and not denied");
    }

    /// Has the client come until the gate of clients fails for `rule`; what it says.
    async fn fails(&self, rule: &str) -> String {
        until("the client is seen to be broken", async || {
            self.come().await;
            let reading = self.gate(rule, "clients");
            (reading["verdict"] == "fail").then(|| reading["sentence"].to_string())
        })
        .await
    }

    /// Has the client come until twice as many checks are counted as make it broken: the gate of
    /// clients does not fail on them.
    async fn stands(&self, rule: &str) {
        until("enough is counted", async || {
            self.come().await;
            let checks = self.gate(rule, "latency")["numbers"]["total"].as_f64();
            checks.is_some_and(|checks| checks >= 12.0).then_some(())
        })
        .await;
        let reading = self.gate(rule, "clients");
        assert_eq!(
            (&reading["verdict"], &reading["numbers"]["waived_clients"]),
            (&"no_data".into(), &1.0.into()),
            "{rule}: {reading}"
        );
        let harm = self.gate(rule, "harm_rate");
        assert_eq!(harm["numbers"]["hits"], 0.0, "{rule}: {harm}");
    }
}

#[tokio::test]
async fn a_waiver_turns_the_gate_whatever_tenant_the_client_is_named_by() {
    let mut desk = Desk::start(&config()).await;
    let mut named = String::new();
    for rule in RULES {
        let said = desk.fails(rule).await;
        let (_, client) = said.split_once("promoting breaks ").expect("it names the client");
        let (client, _) = client.split_once(')').expect("it names it with its key");
        named = format!("{client})");
        assert!(named.starts_with("acme (bearer:"), "{said}");
    }
    let (_, bare) = named.split_once('(').expect("it has a key");
    let bare = bare.trim_end_matches(')').to_owned();

    // One rule has it by its key, and the other with its tenant: neither is in the other's way.
    for (rule, client) in [(RULES[0], &bare), (RULES[1], &named)] {
        let waive = ["rollout", "waive", rule, client, "--until", "1d"];
        desk.operator(&waive, "they move in May").said(0);
        assert_eq!(desk.status(rule)["waivers"][0]["client"], **client);
    }
    for rule in RULES {
        desk.stands(rule).await;
    }
    // What is replayed after a restart may name the client without its tenant.
    desk.close().await;
    desk.open().await;
    for rule in RULES {
        desk.stands(rule).await;
    }

    // Taken back by its other name, it counts again, and for that rule alone.
    desk.operator(&["rollout", "unwaive", RULES[0], &named], "they have moved").said(0);
    desk.fails(RULES[0]).await;
    desk.stands(RULES[1]).await;
    let again = ["rollout", "waive", RULES[1], &bare, "--until", "2d"];
    desk.operator(&again, "they take longer").said(0);
    let waivers = desk.status(RULES[1])["waivers"].clone();
    assert_eq!(waivers.as_array().map(Vec::len), Some(1), "{waivers}");
    assert_eq!(waivers[0]["client"], *bare);
    // The log has each with what was in force before.
    let leaves = desk
        .leaves()
        .into_iter()
        .filter(|leaf| leaf["action"].as_str().is_some_and(|action| action.ends_with("waive")));
    let of = |value: &Value| value["client"].as_str().map(str::to_owned);
    let clients: Vec<_> = leaves.map(|leaf| (of(&leaf["before"]), of(&leaf["after"]))).collect();
    let (bare, named) = (Some(bare), Some(named));
    let expected =
        [(None, bare.clone()), (None, named.clone()), (bare.clone(), named.clone()), (named, bare)];
    assert_eq!(clients, expected);
    desk.end().await;
}
