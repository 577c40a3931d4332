use super::{Evidence, evidence};
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Upstream, call};

fn config(mode: &str, lines: &str) -> String {
    format!("[protect.cors]\nmode = \"{mode}\"\norigins = [\"https://app.example\"]\n{lines}")
}

const APP: &str = "Origin: https://app.example";

#[tokio::test]
async fn a_preflight_is_answered_by_the_gateway() {
    let upstream = Upstream::ok().await;
    for (credentials, granted) in [("", None), ("credentials = true", Some("true"))] {
        let gateway = Gateway::start(upstream.addr, &config("enforce", credentials)).await;
        let asks = [
            APP,
            "Access-Control-Request-Method: PATCH",
            "Access-Control-Request-Headers: content-type,x-csrf-token, Range",
        ];
        let reply = call(gateway.addr(), "OPTIONS /orders/1", &asks, "").await;
        assert_eq!(reply.status(), 204, "{}", reply.text);
        for (name, value) in [
            ("access-control-allow-origin", Some("https://app.example")),
            ("access-control-allow-methods", Some("GET, HEAD, PUT, PATCH, POST, DELETE, OPTIONS")),
            (
                "access-control-allow-headers",
                Some(
                    "authorization, content-type, idempotency-key, traceparent, tracestate, \
                     x-api-key, x-csrf-token, x-request-id, x-requested-with, x-tenant-id",
                ),
            ),
            ("access-control-max-age", Some("86400")),
            ("access-control-allow-credentials", granted),
            ("vary", Some("Origin")),
        ] {
            assert_eq!(reply.field(name), value, "{name}: {}", reply.text);
        }
        gateway.stop().await;
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
}

#[tokio::test]
async fn a_preflight_for_what_is_not_listed_is_denied() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("enforce", "methods = [\"GET\"]")).await;
    for (origin, method, fields, code) in [
        ("https://evil.example", "GET", "content-type", "cors-origin-denied"),
        ("https://app.example.evil.example", "GET", "content-type", "cors-origin-denied"),
        ("https://app.example:8443", "GET", "content-type", "cors-origin-denied"),
        ("http://app.example", "GET", "content-type", "cors-origin-denied"),
        ("null", "GET", "content-type", "cors-origin-denied"),
        ("https://app.example", "POST", "content-type", "cors-method-denied"),
        ("https://app.example", "get", "content-type", "cors-method-denied"),
        ("https://app.example", "GET", "content-type, x-made-up", "cors-header-denied"),
    ] {
        let asks = [
            &*format!("Origin: {origin}"),
            &*format!("Access-Control-Request-Method: {method}"),
            &*format!("Access-Control-Request-Headers: {fields}"),
        ];
        let reply = call(gateway.addr(), "OPTIONS /", &asks, "").await;
        assert_eq!((reply.status(), reply.code()), (403, Some(code)), "{asks:?}: {}", reply.text);
        for name in ["access-control-allow-origin", "access-control-allow-methods"] {
            assert_eq!(reply.field(name), None, "{asks:?}: nothing is granted");
        }
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_no_preflight_goes_to_the_service() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("enforce", "")).await;
    let ask = "Access-Control-Request-Method: GET";
    for (index, (name, line, fields)) in [
        ("plain OPTIONS", "OPTIONS /", &[][..]),
        ("OPTIONS with an origin that asks for nothing", "OPTIONS /", &[APP]),
        ("a question without an origin", "OPTIONS /", &[ask]),
        ("another method", "GET /", &[APP, ask]),
        ("from the own origin", "OPTIONS /", &["Origin: http://shop.example", ask]),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = call(gateway.addr(), line, fields, "").await;
        assert_eq!((reply.status(), reply.body()), (200, "ok"), "{name}: {}", reply.text);
        assert_eq!(upstream.received().len(), index + 1, "{name}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_response_is_opened_to_a_listed_origin_alone() {
    let upstream = Upstream::ok().await;
    let lines = "[protect.rate_limit]\nmode = \"enforce\"";
    let gateway = Gateway::start(upstream.addr, &config("enforce", lines)).await;

    let reply = call(gateway.addr(), "GET /", &[APP], "").await;
    assert_eq!(reply.status(), 200, "{}", reply.text);
    assert_eq!(reply.field("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(reply.field("access-control-allow-credentials"), None);
    assert_eq!(reply.field("vary"), Some("Origin"));
    let exposed = reply.field("access-control-expose-headers").expect("scripts may read some");
    for name in exposed.split(", ").filter(|name| *name != "retry-after") {
        assert!(reply.field(name).is_some(), "{name} is exposed and there: {}", reply.text);
    }
    assert_eq!(exposed, "ratelimit, ratelimit-policy, retry-after, x-request-id");

    let reply = call(gateway.addr(), "GET /", &["Origin: https://evil.example"], "").await;
    assert_eq!((reply.status(), reply.code()), (403, Some("cors-origin-denied")), "{}", reply.text);
    assert_eq!(reply.field("access-control-allow-origin"), None);
    assert_eq!(reply.field("vary"), Some("Origin"), "a cache must not give it to the listed one");

    // What asks for no leave to read is served, and a cache is warned.
    for fields in [
        &[][..],
        &["Origin: http://shop.example"],
        &["Origin: https://evil.example", "Sec-Fetch-Mode: navigate"],
        &["Origin: https://public.example", "Sec-Fetch-Site: same-origin"],
    ] {
        let reply = call(gateway.addr(), "POST /", fields, "").await;
        assert_eq!(reply.status(), 200, "{fields:?}: {}", reply.text);
        assert_eq!(reply.field("access-control-allow-origin"), None, "{fields:?}");
        assert_eq!(reply.field("vary"), Some("Origin"), "{fields:?}");
    }
    assert_eq!(upstream.received().len(), 5, "what is denied is not asked of the service");
    gateway.stop().await;
}

#[tokio::test]
async fn two_origins_in_one_request_are_not_judged_by_the_better_one() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("enforce", "")).await;
    let evil = "Origin: https://evil.example";
    for fields in [[APP, evil], [evil, APP]] {
        let reply = call(gateway.addr(), "GET /", &fields, "").await;
        assert_eq!(reply.code(), Some("cors-origin-denied"), "{fields:?}: {}", reply.text);
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn localhost_and_127_0_0_1_are_two_origins() {
    let upstream = Upstream::ok().await;
    let (name, number) = ("http://localhost:3000", "http://127.0.0.1:3000");
    for (listed, other) in [(name, number), (number, name)] {
        let toml = format!("[protect.cors]\nmode = \"enforce\"\norigins = [\"{listed}\"]");
        let gateway = Gateway::start(upstream.addr, &toml).await;
        for line in ["GET /", "OPTIONS /"] {
            let ask = "Access-Control-Request-Method: GET";
            let reply = call(gateway.addr(), line, &[&format!("Origin: {listed}"), ask], "").await;
            assert_eq!(reply.field("access-control-allow-origin"), Some(listed), "{}", reply.text);
            let reply = call(gateway.addr(), line, &[&format!("Origin: {other}"), ask], "").await;
            assert_eq!(reply.code(), Some("cors-origin-denied"), "{}", reply.text);
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn everyone_is_let_in_where_the_list_says_so() {
    let upstream = Upstream::ok().await;
    let toml = "[protect.cors]\nmode = \"enforce\"\norigins = [\"*\"]";
    let gateway = Gateway::start(upstream.addr, toml).await;
    for origin in ["https://a.example", "null"] {
        for (line, status) in [("GET /", 200), ("OPTIONS /", 204)] {
            let ask = "Access-Control-Request-Method: GET";
            let reply = call(gateway.addr(), line, &[&format!("Origin: {origin}"), ask], "").await;
            assert_eq!(reply.status(), status, "{origin}: {}", reply.text);
            assert_eq!(reply.field("access-control-allow-origin"), Some("*"), "{origin}");
            assert_eq!(reply.field("vary"), None, "it depends on nothing: {}", reply.text);
        }
    }
    let reply = call(gateway.addr(), "GET /", &[], "").await;
    assert_eq!(reply.field("access-control-allow-origin"), Some("*"), "{}", reply.text);
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_service_says_of_cors_is_replaced() {
    let upstream = Upstream::start(|_, _| {
        let head = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n\
                    Access-Control-Allow-Credentials: true\r\n\
                    Access-Control-Expose-Headers: x-secret\r\n\
                    Vary: Accept-Encoding\r\nContent-Length: 2\r\n\r\nok";
        Answer::Bytes(head.as_bytes().to_vec())
    })
    .await;
    let gateway = Gateway::start(upstream.addr, &config("enforce", "")).await;
    let reply = call(gateway.addr(), "GET /", &[APP], "").await;
    assert_eq!(reply.field("access-control-allow-origin"), Some("https://app.example"));
    assert_ne!(reply.field("access-control-allow-credentials"), Some("true"), "{}", reply.text);
    let exposed = "ratelimit, ratelimit-policy, retry-after, x-request-id";
    assert_eq!(reply.field("access-control-expose-headers"), Some(exposed));
    assert_eq!(reply.fields("vary").join(", "), "Accept-Encoding, Origin", "both are true");
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_list_the_services_own_cors_is_left_alone() {
    let upstream = Upstream::start(|_, _| {
        let head = "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: *\r\n\r\n";
        Answer::Bytes(head.as_bytes().to_vec())
    })
    .await;
    let gateway = Gateway::start(upstream.addr, "[protect.cors]\nmode = \"enforce\"").await;
    let asks = ["Origin: https://evil.example", "Access-Control-Request-Method: GET"];
    for line in ["OPTIONS /", "GET /"] {
        let reply = call(gateway.addr(), line, &asks, "").await;
        assert_eq!(reply.status(), 204, "{}", reply.text);
        assert_eq!(reply.field("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.field("vary"), None);
    }
    assert_eq!(upstream.received().len(), 2);
    let found = evidence(&gateway, "cors").await;
    assert_eq!(found, Evidence { evaluated: 0, would_deny: 0, denied: 0 });
    gateway.stop().await;
}

/// A page that cannot read its 429 cannot wait either.
#[tokio::test]
async fn a_denial_behind_it_can_be_read_by_a_listed_origin() {
    let upstream = Upstream::ok().await;
    let lines = "[protect.rate_limit]\nmode = \"enforce\"\n\
                 limits = [{ per = \"client\", rate = \"1/day\", burst = 1 }]";
    let gateway = Gateway::start(upstream.addr, &config("enforce", lines)).await;
    call(gateway.addr(), "GET /", &[APP], "").await;
    let reply = call(gateway.addr(), "GET /", &[APP], "").await;
    assert_eq!(reply.status(), 429, "{}", reply.text);
    assert_eq!(reply.field("access-control-allow-origin"), Some("https://app.example"));
    assert!(reply.field("access-control-expose-headers").unwrap().contains("retry-after"));
    gateway.stop().await;
}

#[tokio::test]
async fn in_warn_the_service_answers_and_the_gateway_counts() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("warn", "")).await;
    for origin in ["https://app.example", "https://evil.example"] {
        for line in ["OPTIONS /", "GET /"] {
            let ask = "Access-Control-Request-Method: GET";
            let reply = call(gateway.addr(), line, &[&format!("Origin: {origin}"), ask], "").await;
            assert_eq!((reply.status(), reply.body()), (200, "ok"), "{origin}: {}", reply.text);
            assert_eq!(reply.field("access-control-allow-origin"), None, "{origin}");
        }
    }
    assert_eq!(upstream.received().len(), 4);
    let found = evidence(&gateway, "cors").await;
    assert_eq!(found, Evidence { evaluated: 4, would_deny: 2, denied: 0 });
    gateway.stop().await;
}
