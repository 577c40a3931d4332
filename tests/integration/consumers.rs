//! Who calls, and who breaks if a rule is enforced today: from the socket to the API.

use serde_json::{Value, json};

use crate::harness::ask::{body, get, json as answer, until};
use crate::harness::{Gateway, Upstream, call};

/// The harness is a proxy that is believed, so that a test chooses where a client is.
const CONFIG: &str = r#"
[store.telemetry]
flush_every = "100ms"

[client]
trusted_proxies = ["127.0.0.0/8"]

[consumers]
internal = { networks = ["10.0.0.0/8"], agents = ["desk-worker/*"] }
external = { agents = ["Mozilla/*"] }

[protect.host_allowlist]
mode = "warn"
hosts = ["shop.example"]
"#;

/// Requests of one client: who it is, the host that it asks for, and how often.
async fn send(gateway: &Gateway, who: &[&str], host: &str, times: usize) {
    let host = format!("Host: {host}");
    let fields: Vec<&str> = who.iter().copied().chain([host.as_str()]).collect();
    for _ in 0..times {
        assert_eq!(call(gateway.addr(), "GET /orders", &fields, "").await.status(), 200);
    }
}

/// The clients by their User-Agent.
fn row<'a>(page: &'a Value, agent: &str) -> &'a Value {
    let rows = page["rows"].as_array().expect("a list of rows");
    let of_agent = |row: &&Value| row["agents"]["names"][0]["name"] == agent;
    rows.iter().find(of_agent).unwrap_or_else(|| panic!("no {agent} in {page}"))
}

#[tokio::test]
async fn the_client_that_a_rule_would_break_is_named() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    let console = gateway.console();
    let worker = ["Authorization: Bearer one", "User-Agent: desk-worker/1.2", "X-Tenant-Id: acme"];
    let page = ["Authorization: Bearer two", "User-Agent: Mozilla/5.0", "X-Tenant-Id: globex"];
    let inside = ["X-Forwarded-For: 10.1.2.3", "User-Agent: curl/8.5.0"];
    send(&gateway, &worker, "shop.example", 3).await;
    send(&gateway, &worker, "shop.internal.example", 2).await;
    send(&gateway, &page, "shop.example", 4).await;
    send(&gateway, &inside, "shop.example", 1).await;

    let all = until("all requests are counted", async || {
        let page = answer(console, "/api/v1/consumers").await;
        let rows = page["rows"].as_array()?;
        let counted: u64 = rows.iter().filter_map(|row| row["requests"].as_u64()).sum();
        (counted == 10).then_some(page)
    })
    .await;
    assert_eq!((&all["consumers"], &all["others"]), (&json!(3), &Value::Null));
    for (agent, kind, requests, tenant) in [
        ("desk-worker/1.2", "internal", 5, "acme"),
        ("Mozilla/5.0", "external", 4, "globex"),
        ("curl/8.5.0", "internal", 1, ""),
    ] {
        let row = row(&all, agent);
        assert_eq!((&row["kind"], &row["requests"]), (&json!(kind), &json!(requests)), "{agent}");
        assert_eq!(row["tenants"]["names"][0]["name"], tenant, "{agent}");
    }
    let broken = row(&all, "desk-worker/1.2");
    let objection = json!([{ "rule": "host_allowlist", "would_deny": 2, "denied": 0, "harm": 2 }]);
    assert_eq!(broken["objections"], objection);
    assert_eq!(row(&all, "Mozilla/5.0")["objections"], json!([]));

    let rule = answer(console, "/api/v1/consumers?rule=host_allowlist").await;
    let client = broken["client"].as_str().expect("a client has a name");
    assert_eq!(
        rule["sentence"],
        format!("enforcing host_allowlist today breaks 1 of 3 clients: {client} (2 requests)")
    );
    assert_eq!(rule["rows"], json!([broken]));
    let external = answer(console, "/api/v1/consumers?rule=host_allowlist&kind=external").await;
    assert_eq!((&external["rows"], &external["impact"]["harmed"]), (&json!([]), &json!(0)));
    assert!(body(&get(console, "/consumers", &[]).await).contains(client));
    gateway.stop().await;
}
