//! What a newcomer is promised: nothing breaks on the first day, and everything is seen.

use std::io::Write as _;
use std::process::{Command, Stdio};

use seaworthy_demo::{Clients, ClientsConfig, Service, ServiceConfig};
use serde_json::Value;

use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Reply, Upstream, exchange};

async fn get(addr: std::net::SocketAddr, path: &str) -> Reply {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    exchange(addr, request.as_bytes(), 1).await
}

/// The body of a response as JSON.
fn json(reply: &Reply) -> Value {
    let (_, body) = reply.text.split_once("\r\n\r\n").expect("a whole response");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {}", reply.text))
}

/// A config in which the demo's sloppy and hostile clients meet every protection.
const CONFIG: &str = r#"
[protect.host_allowlist]
hosts = ["127.0.0.1", "localhost"]

[protect.cors]
origins = ["https://desk.example"]

[protect.rate_limit]
limits = [{ per = "client", rate = "30/min", burst = 5 }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn auto_protections_judge_and_deny_nobody() {
    let service = Service::start(ServiceConfig::default()).await.expect("the help desk starts");
    let gateway = Gateway::start(service.addr(), CONFIG).await;
    let clients =
        Clients::start(ClientsConfig { gateway: gateway.addr(), seed: 7, rate: 200.0 }).unwrap();
    clients.sent(600).await;
    let report = clients.stop().await;
    assert_eq!(report.by_status_class.failed, 0, "{report:?}");

    let view = gateway.settled().await;
    for rule in view.rules.iter().filter(|rule| rule.mode.to_string() == "warn") {
        assert_eq!(rule.denied, 0, "{rule:?}");
    }
    let would_deny = |name: &str| {
        view.rules.iter().find(|rule| rule.rule == name).map_or(0, |rule| rule.would_deny)
    };
    for name in ["host_allowlist", "cors", "csrf", "rate_limit"] {
        assert!(would_deny(name) > 0, "{name}: {:?}", view.rules);
    }
    assert!(view.traffic.totals.requests >= 600);
    gateway.stop().await;
    service.shutdown().await;
}

#[tokio::test]
async fn answers_carry_the_headers_that_break_no_page() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let reply = get(gateway.addr(), "/").await;
    for header in
        ["x-content-type-options: nosniff", "x-frame-options: SAMEORIGIN", "x-request-id: "]
    {
        assert!(reply.text.contains(header), "{header} is missing: {}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn promtool_accepts_the_metrics() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "[protect.rate_limit]\nmode = \"enforce\"").await;
    for path in ["/", "/a%00", "/.seaworthy/none"] {
        get(gateway.addr(), path).await;
    }
    gateway.settled().await;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        gateway.console()
    );
    let reply = exchange(gateway.console(), request.as_bytes(), 0).await;
    let (head, body) = reply.text.split_once("\r\n\r\n").expect("a whole response");
    assert!(head.contains("200 OK"), "{head}");
    for family in [
        "http_server_request_duration_seconds_bucket",
        "seaworthy_decisions_total",
        "seaworthy_problems_total",
    ] {
        assert!(body.contains(family), "{family} is missing: {body}");
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by scripts/test.sh");
    promtool.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(
        checked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_fails_becomes_a_problem_and_a_record() {
    let upstream = Upstream::start(|request, _| match request.split(' ').nth(1) {
        Some("/reset") => Answer::Close(Vec::new()),
        Some("/garbage") => Answer::Close(b"HTTP/1.1 2xx what\r\n\r\n".to_vec()),
        Some("/silence") => Answer::Silence,
        _ => Answer::ok("ok"),
    })
    .await;
    let config = "[protect.request_timeout]\nmode = \"enforce\"\nmax = \"300ms\"";
    let gateway = Gateway::start(upstream.addr, config).await;
    for (path, status, code) in [
        ("/reset", 502, "upstream-reset"),
        ("/garbage", 502, "upstream-malformed"),
        ("/silence", 504, "request-timeout"),
    ] {
        let reply = get(gateway.addr(), path).await;
        assert_eq!((reply.statuses(), reply.code()), (vec![status], Some(code)), "{}", reply.text);
    }
    assert_eq!(get(gateway.addr(), "/").await.statuses(), [200], "the gateway goes on");

    // The rows are written within the second.
    let mut rows = Value::Null;
    for _ in 0..100 {
        let reply = get(gateway.console(), "/api/v1/requests?status=5xx").await;
        rows = json(&reply)["rows"].clone();
        if rows.as_array().is_some_and(|rows| rows.len() == 3) {
            break;
        }
        gateway.settled().await;
    }
    let mut reasons: Vec<&str> =
        rows.as_array().unwrap().iter().filter_map(|row| row["reason"].as_str()).collect();
    // Requests of one millisecond have no order.
    reasons.sort_unstable();
    assert_eq!(reasons, ["request-timeout", "upstream-malformed", "upstream-reset"], "{rows}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_changed_config_is_taken_up_and_a_bad_one_is_not() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let file = gateway.dir().join("seaworthy.toml");
    std::fs::write(
        &file,
        "[protect.host_allowlist]\nmode = \"enforce\"\nhosts = [\"shop.example\"]",
    )
    .unwrap();
    gateway.reload().await.expect("it is right");
    assert_eq!(get(gateway.addr(), "/").await.code(), Some("host-not-allowed"));
    std::fs::write(&file, "[protect.host_allowlist]\nmode = \"enforse\"").unwrap();
    let fault = gateway.reload().await.expect_err("it is wrong");
    assert!(fault.contains("protect.host_allowlist.mode"), "{fault}");
    assert_eq!(
        get(gateway.addr(), "/").await.code(),
        Some("host-not-allowed"),
        "the last one holds"
    );
    let metrics = get(gateway.console(), "/metrics").await.text;
    assert!(metrics.contains("seaworthy_config_reload_failed 1"), "{metrics}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let upstream = Upstream::ok().await;
    let started = Gateway::try_start(upstream.addr, addr).await;
    let fault = started.err().expect("the port is taken");
    assert!(fault.contains(&addr.to_string()) && fault.contains("in use"), "{fault}");
    assert!(!fault.contains('\n'), "one line: {fault}");
}
