use super::{Evidence, evidence};
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Reply, Upstream, call};

/// The peer is a trusted proxy, so a test says by which scheme a client has come.
fn config(mode: &str, lines: &str) -> String {
    format!(
        "[client]\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
         [protect.content_security_policy]\nmode = \"{mode}\"\n{lines}"
    )
}

const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; \
                      base-uri 'self'; form-action 'self'; frame-ancestors 'self'";

const ENFORCED: &str = "content-security-policy";
const REPORTED: &str = "content-security-policy-report-only";

/// A service that answers with these fields.
async fn service(fields: &'static str) -> Upstream {
    Upstream::start(move |_, _| {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
        Answer::Bytes(head.into_bytes())
    })
    .await
}

async fn page(gateway: &Gateway, scheme: &str) -> Reply {
    let fields = ["Accept: text/html,*/*;q=0.8", &format!("X-Forwarded-Proto: {scheme}")];
    let reply = call(gateway.addr(), "GET /", &fields, "").await;
    assert_eq!(reply.status(), 200, "{}", reply.text);
    reply
}

#[tokio::test]
async fn pages_have_the_policy_and_nothing_else_has() {
    for (fields, has) in [
        ("Content-Type: text/html; charset=utf-8\r\n", true),
        ("Content-Type: TEXT/HTML\r\n", true),
        ("Content-Type: application/xhtml+xml\r\n", true),
        ("Content-Type: application/json\r\n", false),
        ("Content-Type: text/html-not\r\n", false),
        ("", false),
    ] {
        let upstream = service(fields).await;
        let gateway = Gateway::start(upstream.addr, &config("enforce", "")).await;
        for scheme in ["http", "https"] {
            let reply = page(&gateway, scheme).await;
            assert_eq!(reply.field(ENFORCED), has.then_some(POLICY), "{fields}: {}", reply.text);
            assert_eq!(reply.field(REPORTED), None, "{fields}: one form at a time");
            assert_eq!(reply.field("reporting-endpoints"), None, "{fields}");
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn in_warn_a_page_breaks_nothing_and_asks_for_reports() {
    let upstream = service("Content-Type: text/html\r\n").await;
    let gateway = Gateway::start(upstream.addr, &config("warn", "")).await;
    let plain = format!("{POLICY}; report-uri /.seaworthy/csp-report");
    let secure = format!("{plain}; report-to seaworthy");
    for (scheme, policy, endpoints) in
        [("http", plain, None), ("https", secure, Some("seaworthy=\"/.seaworthy/csp-report\""))]
    {
        let reply = page(&gateway, scheme).await;
        assert_eq!(reply.field(ENFORCED), None, "{scheme}: {}", reply.text);
        assert_eq!(reply.field(REPORTED), Some(&*policy), "{scheme}");
        assert_eq!(reply.field("reporting-endpoints"), endpoints, "{scheme}");
    }
    let found = evidence(&gateway, "content_security_policy").await;
    assert_eq!(found, Evidence { evaluated: 2, would_deny: 0, denied: 0 });
    gateway.stop().await;
}

#[tokio::test]
async fn a_policy_of_the_service_is_left_alone_unless_the_config_says_otherwise() {
    let own = "Content-Type: text/html\r\nContent-Security-Policy: default-src *\r\n";
    let upstream = service(own).await;
    for (mode, lines, enforced, reported) in [
        ("enforce", "", "default-src *", false),
        ("warn", "", "default-src *", false),
        ("enforce", "override_service = true", POLICY, false),
        ("warn", "override_service = true", "default-src *", true),
    ] {
        let gateway = Gateway::start(upstream.addr, &config(mode, lines)).await;
        let reply = page(&gateway, "http").await;
        assert_eq!(reply.field(ENFORCED), Some(enforced), "{mode} {lines}: {}", reply.text);
        assert_eq!(reply.field(REPORTED).is_some(), reported, "{mode} {lines}: {}", reply.text);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_report_only_policy_of_the_service_stays_beside_ours() {
    let own = "Content-Type: text/html\r\nContent-Security-Policy-Report-Only: default-src *\r\n";
    let upstream = service(own).await;
    let gateway = Gateway::start(upstream.addr, &config("warn", "")).await;
    let reply = page(&gateway, "http").await;
    let policies = reply.fields(REPORTED);
    assert_eq!(policies.len(), 2, "{}", reply.text);
    assert_eq!(policies[0], "default-src *");
    assert!(policies[1].starts_with(POLICY), "{}", reply.text);
    gateway.stop().await;
}

/// What `report-uri` makes a browser post.
const OLD: &str = r#"{"csp-report":{"document-uri":"https://shop.example/","violated-directive":"script-src","blocked-uri":"https://cdn.example/a.js","disposition":"report"}}"#;

/// What `report-to` makes a browser post: reports of every kind in one list.
const NEW: &str = r#"[
  {"type":"csp-violation","url":"https://shop.example/","body":{"blockedURL":"inline","disposition":"report"}},
  {"type":"deprecation","url":"https://shop.example/","body":{"id":"old"}},
  {"type":"csp-violation","url":"https://shop.example/","body":{"blockedURL":"https://cdn.example/a.js","disposition":"report"}}
]"#;

async fn report(gateway: &Gateway, media_type: &str, body: &str) -> Reply {
    let field = format!("Content-Type: {media_type}");
    call(gateway.addr(), "POST /.seaworthy/csp-report", &[&field], body).await
}

#[tokio::test]
async fn a_browsers_report_becomes_evidence() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("warn", "")).await;
    let mut would_deny = 0;
    for (media_type, body, violations) in [
        ("application/csp-report", OLD, 1),
        ("application/csp-report; charset=utf-8", OLD, 1),
        ("application/reports+json", NEW, 2),
        // Nobody reads an answer to a report: what cannot be read is passed over.
        ("application/csp-report", "{\"csp-report\":", 0),
        ("application/csp-report", "", 0),
        ("application/csp-report", NEW, 0),
        ("application/reports+json", OLD, 0),
        ("application/json", OLD, 0),
        // What an extension has put into the page is not the page's.
        ("application/csp-report", r#"{"csp-report":{"blocked-uri":"moz-extension://a/b.js"}}"#, 0),
    ] {
        let reply = report(&gateway, media_type, body).await;
        assert_eq!(reply.status(), 204, "{media_type} {body}: {}", reply.text);
        would_deny += violations;
        let found = evidence(&gateway, "content_security_policy").await.would_deny;
        assert_eq!(found, would_deny, "{media_type} {body}");
    }
    assert_eq!(upstream.received(), Vec::<String>::new(), "the service hears of none of them");
    gateway.stop().await;
}

#[tokio::test]
async fn a_flood_in_one_report_counts_for_a_hundred() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("warn", "")).await;
    let one = r#"{"type":"csp-violation","body":{"blockedURL":"inline"}}"#;
    let body = format!("[{}]", [one; 500].join(","));
    assert_eq!(report(&gateway, "application/reports+json", &body).await.status(), 204);
    assert_eq!(evidence(&gateway, "content_security_policy").await.would_deny, 100);
    gateway.stop().await;
}

#[tokio::test]
async fn a_report_that_is_no_report_is_refused() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("warn", "")).await;
    let large = OLD.to_owned() + &" ".repeat(64 << 10);
    let reply = report(&gateway, "application/csp-report", &large).await;
    assert_eq!((reply.status(), reply.code()), (413, Some("body-too-large")), "{}", reply.text);
    let reply = call(gateway.addr(), "GET /.seaworthy/csp-report", &[], "").await;
    assert_eq!((reply.status(), reply.code()), (404, Some("not-found")), "{}", reply.text);
    assert_eq!(evidence(&gateway, "content_security_policy").await.would_deny, 0);
    assert_eq!(upstream.received(), Vec::<String>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_takes_reports_where_the_rule_is_off() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("off", "")).await;
    let reply = report(&gateway, "application/csp-report", OLD).await;
    assert_eq!(reply.status(), 404, "{}", reply.text);
    assert_eq!(upstream.received(), Vec::<String>::new());
    gateway.stop().await;
}
