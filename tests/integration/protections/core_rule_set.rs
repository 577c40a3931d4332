use super::{Evidence, evidence};
use crate::harness::ask::{body, get, value};
use crate::harness::{Gateway, Upstream, call};

const JSON: &[&str] = &["Content-Type: application/json"];

/// Requests, and whether the rules deny them.
const REQUESTS: &[(&str, &str, &[&str], &str, bool)] = &[
    ("nothing", "GET /", &[], "", false),
    ("one word", "GET /?q=drop", &[], "", false),
    ("two words", "GET /?q=drop%20table", &[], "", true),
    (
        "a form",
        "POST /",
        &["Content-Type: application/x-www-form-urlencoded"],
        "a=drop+Table",
        true,
    ),
    ("JSON", "POST /", JSON, r#"{"a": ["union", {"b": "table"}]}"#, true),
    ("one word of JSON", "POST /", JSON, r#"{"a": "table"}"#, false),
    ("bytes of another kind", "POST /", &["Content-Type: image/png"], "drop table", false),
];

fn settings(mode: &str, more: &str) -> String {
    format!("[protect.core_rule_set]\nmode = \"{mode}\"\ncrs = [\"env:CRS\"]\n{more}\n")
}

#[tokio::test]
async fn enforced_rules_deny_what_they_find_and_name_themselves_alone() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &settings("enforce", "")).await;
    let mut passed = 0;
    for (name, line, fields, body, denied) in REQUESTS {
        let reply = call(gateway.addr(), line, fields, body).await;
        let want = if *denied { (403, Some("core-rule-matched")) } else { (200, None) };
        assert_eq!((reply.status(), reply.code()), want, "{name}: {}", reply.text);
        if *denied {
            for words in ["rule:100", "A word of SQL", "rule:101"] {
                assert!(reply.text.contains(words), "{name}: {}", reply.text);
            }
            assert!(!reply.text.to_lowercase().contains("table"), "{name}: {}", reply.text);
        }
        passed += usize::from(!denied);
    }
    assert_eq!(upstream.received().len(), passed);
    gateway.stop().await;
}

#[tokio::test]
async fn judged_requests_are_answered_first_and_their_evidence_comes_after() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &settings("warn", "sample = 1")).await;
    for (name, line, fields, body, _) in REQUESTS {
        let reply = call(gateway.addr(), line, fields, body).await;
        assert_eq!(reply.status(), 200, "{name}: {}", reply.text);
    }
    assert_eq!(upstream.received().len(), REQUESTS.len());
    let would_deny = REQUESTS.iter().filter(|request| request.4).count() as u64;
    let evaluated = REQUESTS.len() as u64;
    let want = Evidence { evaluated, would_deny, denied: 0 };
    assert_eq!(evidence(&gateway, "core_rule_set").await, want);
    let metrics = body(&get(gateway.console(), "/metrics", &[]).await);
    let count = |series: &str| value(&metrics, series);
    assert_eq!(count("seaworthy_samples_judged_total"), Some(evaluated as f64));
    assert_eq!(count("seaworthy_samples_dropped_total"), Some(0.0));
    for (id, matches) in [(100, 4.0), (101, 4.0)] {
        let series = format!(
            "seaworthy_findings_total{{protection=\"core_rule_set\",rule=\"core_rule_set\",finding=\"{id}\"}}"
        );
        assert_eq!(count(&series), Some(matches), "{series}");
    }
    let harm = "seaworthy_harm_total{protection=\"core_rule_set\",rule=\"core_rule_set\"}";
    assert_eq!(count(harm), Some(would_deny as f64), "the service said yes to all of them");
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_too_large_for_later_is_dropped_once() {
    let upstream = Upstream::ok().await;
    let config = settings("warn", "sample = 1\nbody_max = \"1MiB\"")
        + "[protect.vocabulary]\nmode = \"enforce\"\n\
           fields = [{ route = \"POST /\", at = \"/a\", vocabulary = \"stages\", shape = \"scalar\", on_alias = \"rewrite\" }]\n";
    let gateway = Gateway::start(upstream.addr, &config).await;
    let body_sent = format!("{{\"a\": \"Series A\", \"b\": \"{}\"}}", "c".repeat(200 << 10));
    let reply = call(gateway.addr(), "POST /", JSON, &body_sent).await;
    assert_eq!(reply.status(), 200, "{}", reply.text);
    assert!(
        upstream.received()[0].contains("series-a"),
        "the chain went on after it was rewritten"
    );
    let want = Evidence { evaluated: 0, would_deny: 0, denied: 0 };
    assert_eq!(evidence(&gateway, "core_rule_set").await, want);
    let metrics = body(&get(gateway.console(), "/metrics", &[]).await);
    assert_eq!(value(&metrics, "seaworthy_samples_dropped_total"), Some(1.0));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_not_drawn_is_not_judged() {
    let upstream = Upstream::ok().await;
    let config = settings("warn", "sample = 4294967295");
    let gateway = Gateway::start(upstream.addr, &config).await;
    for _ in 0..5 {
        assert_eq!(call(gateway.addr(), "GET /?q=drop%20table", &[], "").await.status(), 200);
    }
    let want = Evidence { evaluated: 0, would_deny: 0, denied: 0 };
    assert_eq!(evidence(&gateway, "core_rule_set").await, want);
    gateway.stop().await;
}

#[tokio::test]
async fn a_rule_of_its_own_mode_is_counted_or_not_there() {
    for (mode, counted) in [("off", None), ("warn", Some(1.0))] {
        let upstream = Upstream::ok().await;
        let config = settings("enforce", &format!("rules = {{ 100 = \"{mode}\" }}"));
        let gateway = Gateway::start(upstream.addr, &config).await;
        let reply = call(gateway.addr(), "GET /?q=drop%20table", &[], "").await;
        assert_eq!(reply.status(), 200, "{mode}: {}", reply.text);
        let metrics = body(&get(gateway.console(), "/metrics", &[]).await);
        let series = "seaworthy_findings_total{protection=\"core_rule_set\",rule=\"core_rule_set\",finding=\"100\"}";
        assert_eq!(value(&metrics, series), counted, "{mode}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn rules_come_from_files_and_change_with_them() {
    let rules = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(rules.path().join(name), text).unwrap();
    write("words.data", "drop table\n");
    write("a.conf", "SecRule ARGS \"@pmFromFile words.data\" \"id:7,phase:2,deny,msg:'Words'\"\n");
    let upstream = Upstream::ok().await;
    let config = format!(
        "[protect.core_rule_set]\nmode = \"enforce\"\ncrs = [{:?}]",
        rules.path().to_str().expect("a path of text")
    );
    let gateway = Gateway::start(upstream.addr, &config).await;
    let status = async |line: &str| call(gateway.addr(), line, &[], "").await.status();
    assert_eq!(status("GET /?q=drop%20table").await, 403);
    assert_eq!(status("GET /?q=create%20table").await, 200);
    write("words.data", "create table\n");
    gateway.reload().await.expect("the rules are right");
    assert_eq!(status("GET /?q=create%20table").await, 403);
    write("a.conf", "Include /etc/passwd\n");
    let fault = gateway.reload().await.expect_err("it would be followed");
    assert!(fault.contains("a.conf: line 1: Include is not followed"), "{fault}");
    assert_eq!(status("GET /?q=create%20table").await, 403, "the rules before are in force");
    gateway.stop().await;
}
