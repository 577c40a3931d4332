use super::{Evidence, evidence};
use crate::harness::{Gateway, Upstream, call, exchange};

const CONFIG: &str = r#"
[client]
trusted_proxies = ["127.0.0.0/8"]

[protect.host_allowlist]
mode = "enforce"
hosts = [
  "shop.example", "*.apps.example", "admin.example:8443", "plain.example:80", "secure.example:443",
  "192.0.2.1", "[2001:db8::1]",
]
"#;

const HOSTS: &[(&str, bool)] = &[
    ("shop.example", true),
    ("SHOP.Example", true),
    ("shop.example.", true),
    ("shop.example:8080", true),
    ("shop.example.:8080", true),
    ("shop.example..", false),
    ("www.shop.example", false),
    ("shop.example.evil.example", false),
    ("evilshop.example", false),
    ("shop", false),
    ("a.apps.example", true),
    ("a.b.apps.example", true),
    ("A.APPS.EXAMPLE:1234", true),
    ("apps.example", false),
    ("evilapps.example", false),
    (".apps.example", false),
    ("admin.example:8443", true),
    ("admin.example", false),
    ("admin.example:8444", false),
    ("admin.example:84430", false),
    ("plain.example", true),
    ("plain.example:80", true),
    ("plain.example:443", false),
    ("secure.example", false),
    ("secure.example:443", true),
    ("192.0.2.1", true),
    ("192.0.2.1:8080", true),
    ("192.0.2.10", false),
    ("[2001:db8::1]", true),
    ("[2001:DB8::1]:8080", true),
    ("[2001:db8::2]", false),
    ("localhost", false),
    ("127.0.0.1", false),
];

#[tokio::test]
async fn a_request_is_served_under_the_listed_names_alone() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    let mut served = 0;
    for (host, passes) in HOSTS {
        let reply = call(gateway.addr(), "GET /", &[&format!("Host: {host}")], "").await;
        let want = if *passes { (200, None) } else { (421, Some("host-not-allowed")) };
        assert_eq!((reply.status(), reply.code()), want, "{host}: {}", reply.text);
        served += usize::from(*passes);
    }
    assert_eq!(upstream.received().len(), served);
    gateway.stop().await;
}

#[tokio::test]
async fn a_port_that_is_not_named_is_the_schemes() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    for (host, scheme, status) in [
        ("plain.example", "http", 200),
        ("plain.example", "https", 421),
        ("secure.example", "http", 421),
        ("secure.example", "https", 200),
    ] {
        let fields = [&*format!("Host: {host}"), &*format!("X-Forwarded-Proto: {scheme}")];
        let reply = call(gateway.addr(), "GET /", &fields, "").await;
        assert_eq!(reply.status(), status, "{host} by {scheme}: {}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_absolute_form_counts_and_not_what_stands_beside_it() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    for (sent, status) in [
        ("GET http://shop.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", 421),
        ("GET http://SHOP.example:80/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", 200),
        ("GET http://evil.example/shop.example HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: shop.example\r\n\r\n", 421),
        ("GET / HTTP/1.0\r\n\r\n", 421),
    ] {
        let reply = exchange(gateway.addr(), sent.as_bytes(), 1).await;
        assert_eq!(reply.statuses(), [status], "{sent}: {}", reply.text);
    }
    for request in upstream.received() {
        assert!(!request.contains("evil.example"), "it is gone before the service: {request}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_empty_list_allows_every_host_and_leaves_no_evidence() {
    let upstream = Upstream::ok().await;
    let gateway =
        Gateway::start(upstream.addr, "[protect.host_allowlist]\nmode = \"enforce\"").await;
    for host in ["shop.example", "evil.example", "127.0.0.1:1"] {
        let reply = call(gateway.addr(), "GET /", &[&format!("Host: {host}")], "").await;
        assert_eq!(reply.status(), 200, "{host}: {}", reply.text);
    }
    let found = evidence(&gateway, "host_allowlist").await;
    assert_eq!(found, Evidence { evaluated: 0, would_deny: 0, denied: 0 });
    gateway.stop().await;
}

#[tokio::test]
async fn in_warn_a_foreign_host_passes_and_is_counted() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &CONFIG.replace("enforce", "warn")).await;
    for host in ["shop.example", "evil.example"] {
        let reply = call(gateway.addr(), "GET /", &[&format!("Host: {host}")], "").await;
        assert_eq!(reply.status(), 200, "{host}: {}", reply.text);
    }
    let found = evidence(&gateway, "host_allowlist").await;
    assert_eq!(found, Evidence { evaluated: 2, would_deny: 1, denied: 0 });
    gateway.stop().await;
}
