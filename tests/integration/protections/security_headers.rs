use super::{Evidence, evidence};
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Upstream, call};

/// The peer is a trusted proxy, so a test says by which scheme a client has come.
fn config(lines: &str) -> String {
    format!("[client]\ntrusted_proxies = [\"127.0.0.0/8\"]\n[protect.security_headers]\n{lines}")
}

const DEFAULTS: &[(&str, Option<&str>)] = &[
    ("x-content-type-options", Some("nosniff")),
    ("x-frame-options", Some("SAMEORIGIN")),
    ("referrer-policy", Some("strict-origin-when-cross-origin")),
    ("permissions-policy", Some("hid=(self), midi=(self), serial=(self), usb=(self)")),
    ("cross-origin-opener-policy", Some("same-origin-allow-popups")),
    ("cross-origin-resource-policy", None),
];

const HSTS: &str = "strict-transport-security";

#[tokio::test]
async fn every_answer_has_the_headers_the_gateways_own_too() {
    let upstream = Upstream::start(|request, _| match request.split(' ').nth(1) {
        Some("/fails") => Answer::Bytes(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Some("/breaks") => Answer::Close(Vec::new()),
        _ => Answer::ok("ok"),
    })
    .await;
    let toml = config("mode = \"enforce\"") + "\n[protect.csrf]\nmode = \"enforce\"";
    let gateway = Gateway::start(upstream.addr, &toml).await;
    for (line, status) in [
        ("GET /", 200),
        ("GET /fails", 500),
        ("GET /breaks", 502),
        ("POST /", 403),
        ("GET /.seaworthy/csrf", 200),
        ("GET /.seaworthy/none", 404),
        ("GET /.seaworthy/problems/not-found", 200),
    ] {
        let fields = ["Cookie: session=s", "Sec-Fetch-Site: cross-site"];
        let reply = call(gateway.addr(), line, &fields, "").await;
        assert_eq!(reply.status(), status, "{line}: {}", reply.text);
        for (name, value) in DEFAULTS {
            assert_eq!(reply.field(name), *value, "{line}: {name}: {}", reply.text);
        }
        assert_eq!(reply.field(HSTS), None, "{line}: not over plain HTTP");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn browsers_are_held_to_tls_over_tls_alone() {
    let upstream = Upstream::ok().await;
    let year = "max-age=31536000";
    for (lines, value) in [
        ("", Some(year)),
        ("hsts_max_age = \"0s\"", Some("max-age=0")),
        ("hsts_max_age = \"off\"", None),
        (
            "hsts_include_subdomains = true\nhsts_preload = true\nhsts_max_age = \"730d\"",
            Some("max-age=63072000; includeSubDomains; preload"),
        ),
    ] {
        let gateway = Gateway::start(upstream.addr, &config(lines)).await;
        for (host, scheme, value) in [
            ("shop.example", "https", value),
            ("shop.example:8443", "https", value),
            ("shop.example", "http", None),
            ("localhost", "https", None),
            ("localhost:3000", "https", None),
            ("app.localhost", "https", None),
            ("127.0.0.1:3000", "https", None),
            ("[::1]:3000", "https", None),
        ] {
            let fields = [&*format!("Host: {host}"), &*format!("X-Forwarded-Proto: {scheme}")];
            let reply = call(gateway.addr(), "GET /", &fields, "").await;
            assert_eq!(reply.field(HSTS), value, "{scheme}://{host}, {lines}: {}", reply.text);
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_nobody_trusts_does_not_choose_its_scheme() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let reply = call(gateway.addr(), "GET /", &["X-Forwarded-Proto: https"], "").await;
    assert_eq!(reply.field(HSTS), None, "{}", reply.text);
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_service_sets_itself_is_kept_unless_the_config_says_otherwise() {
    let upstream = Upstream::start(|_, _| {
        let head = "HTTP/1.1 200 OK\r\nX-Frame-Options: DENY\r\nReferrer-Policy: origin\r\n\
                    Referrer-Policy: no-referrer\r\nStrict-Transport-Security: max-age=1\r\n\
                    Content-Length: 2\r\n\r\nok";
        Answer::Bytes(head.as_bytes().to_vec())
    })
    .await;
    for (lines, frame, referrer, hsts) in [
        ("", "DENY", &["origin", "no-referrer"][..], "max-age=1"),
        (
            "override_service = true",
            "SAMEORIGIN",
            &["strict-origin-when-cross-origin"],
            "max-age=31536000",
        ),
        // What is off is not ours to replace.
        (
            "override_service = true\nframe_options = \"off\"",
            "DENY",
            &["strict-origin-when-cross-origin"],
            "max-age=31536000",
        ),
    ] {
        let gateway = Gateway::start(upstream.addr, &config(lines)).await;
        let reply = call(gateway.addr(), "GET /", &["X-Forwarded-Proto: https"], "").await;
        assert_eq!(reply.field("x-frame-options"), Some(frame), "{lines}: {}", reply.text);
        assert_eq!(reply.fields("referrer-policy"), referrer, "{lines}");
        assert_eq!(reply.field(HSTS), Some(hsts), "{lines}");
        assert_eq!(reply.field("x-content-type-options"), Some("nosniff"), "{lines}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn each_header_has_a_setting() {
    let upstream = Upstream::ok().await;
    let all = "content_type_options = \"off\"\nframe_options = \"deny\"\n\
               referrer_policy = \"no-referrer\"\npermissions_policy = \"camera=()\"\n\
               opener_policy = \"same-origin\"\nresource_policy = \"same-site\"";
    let gateway = Gateway::start(upstream.addr, &config(all)).await;
    let reply = call(gateway.addr(), "GET /", &[], "").await;
    for (name, value) in [
        ("x-content-type-options", None),
        ("x-frame-options", Some("DENY")),
        ("referrer-policy", Some("no-referrer")),
        ("permissions-policy", Some("camera=()")),
        ("cross-origin-opener-policy", Some("same-origin")),
        ("cross-origin-resource-policy", Some("same-site")),
    ] {
        assert_eq!(reply.field(name), value, "{name}: {}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn in_warn_and_off_nothing_is_added() {
    let upstream = Upstream::ok().await;
    for (mode, evaluated) in [("warn", 1), ("off", 0)] {
        let gateway = Gateway::start(upstream.addr, &config(&format!("mode = \"{mode}\""))).await;
        let reply = call(gateway.addr(), "GET /", &["X-Forwarded-Proto: https"], "").await;
        for (name, _) in DEFAULTS {
            assert_eq!(reply.field(name), None, "{mode}: {name}: {}", reply.text);
        }
        assert_eq!(reply.field(HSTS), None, "{mode}");
        let found = evidence(&gateway, "security_headers").await;
        assert_eq!(found, Evidence { evaluated, would_deny: 0, denied: 0 }, "{mode}");
        gateway.stop().await;
    }
}
