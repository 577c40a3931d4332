use super::{Evidence, evidence};
use crate::harness::{Gateway, Reply, Upstream, call};

const CONFIG: &str = r#"
[protect.header_limit]
mode = "enforce"
count_max = 5
bytes_max = "1KiB"
"#;

/// Asks for `target` with these fields beside Host.
async fn ask(gateway: &Gateway, target: &str, fields: &[String]) -> Reply {
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    call(gateway.addr(), &format!("GET {target}"), &fields, "").await
}

fn assert_answer(reply: &Reply, passes: bool, name: &str) {
    let want = if passes { (200, None) } else { (431, Some("too-many-headers")) };
    assert_eq!((reply.status(), reply.code()), want, "{name}: {}", reply.text);
}

#[tokio::test]
async fn every_field_counts_that_does_not_end_at_the_gateway() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    let numbered = |count| (0..count).map(|n| format!("X-{n}: {n}")).collect::<Vec<_>>();
    let repeated = |count| (0..count).map(|n| format!("X-Same: {n}")).collect::<Vec<_>>();
    let hop_by_hop =
        ["Connection: keep-alive, x-0", "Keep-Alive: 5", "Proxy-Connection: x", "TE: gzip"]
            .map(str::to_owned);
    // Host is one of the five.
    for (name, fields, passes) in [
        ("five", numbered(4), true),
        ("six", numbered(5), false),
        ("one name, five in all", repeated(4), true),
        ("one name, six in all", repeated(5), false),
        ("those of this hop", [&numbered(4)[..], &hop_by_hop].concat(), true),
        (
            "those of this hop, and one that Connection names",
            [&numbered(5)[..], &hop_by_hop].concat(),
            true,
        ),
        ("those of this hop do not make room", [&numbered(6)[..], &hop_by_hop].concat(), false),
    ] {
        assert_answer(&ask(&gateway, "/", &fields).await, passes, name);
    }
    assert_eq!(upstream.received().len(), 4);
    gateway.stop().await;
}

#[tokio::test]
async fn the_bytes_of_target_and_fields_are_bounded_together() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    // `host` and `shop.example`, and four bytes around each field.
    let host = 4 + 12 + 4;
    let field = |bytes: usize| format!("X-A: {}", "a".repeat(bytes - 3 - 4));
    let target = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    for (name, target, fields, passes) in [
        ("1024, in a field", "/".to_owned(), vec![field(1024 - 1 - host)], true),
        ("1025, in a field", "/".to_owned(), vec![field(1025 - 1 - host)], false),
        ("1024, in the target", target(1024 - host), vec![], true),
        ("1025, in the target", target(1025 - host), vec![], false),
        ("1025, in the query", format!("/?{}", target(1025 - host - 2)), vec![], false),
        ("1024, in both", target(500), vec![field(524 - host)], true),
        ("1025, in both", target(500), vec![field(525 - host)], false),
    ] {
        assert_answer(&ask(&gateway, &target, &fields).await, passes, name);
    }
    let cookie = format!("Cookie: {}", "c".repeat(2000));
    let reply = ask(&gateway, "/", &["X-Small: 1".to_owned(), cookie]).await;
    assert!(reply.text.contains("\"header:cookie\""), "the largest is named: {}", reply.text);
    gateway.stop().await;
}

#[tokio::test]
async fn in_warn_a_large_head_passes_and_is_counted() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &CONFIG.replace("enforce", "warn")).await;
    for count in [1, 10] {
        let fields: Vec<String> = (0..count).map(|n| format!("X-{n}: {n}")).collect();
        assert_answer(&ask(&gateway, "/", &fields).await, true, "in warn");
    }
    let found = evidence(&gateway, "header_limit").await;
    assert_eq!(found, Evidence { evaluated: 2, would_deny: 1, denied: 0 });
    gateway.stop().await;
}
