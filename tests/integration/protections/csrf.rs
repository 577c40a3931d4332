use super::{Evidence, evidence};
use crate::harness::{Gateway, Reply, Upstream, call};

/// The own origin is `http://shop.example`, or with `https` where a proxy has taken TLS off.
const ORIGIN: &str = r#"
[client]
trusted_proxies = ["127.0.0.0/8"]

[protect.csrf]
mode = "enforce"
trusted_origins = ["https://partner.example"]
"#;

/// What a browser says of where a request comes from, and whether it may come from there.
const SITES: &[(&str, &[&str], bool)] = &[
    ("the own page", &["Sec-Fetch-Site: same-origin"], true),
    ("typed by the user", &["Sec-Fetch-Site: none"], true),
    ("a neighbouring subdomain", &["Sec-Fetch-Site: same-site"], false),
    ("another site", &["Sec-Fetch-Site: cross-site"], false),
    ("a word that no browser says", &["Sec-Fetch-Site: nowhere"], false),
    (
        "the own page, whatever name it has behind a proxy",
        &["Sec-Fetch-Site: same-origin", "Origin: https://public.example"],
        true,
    ),
    (
        "another site that names our origin",
        &["Sec-Fetch-Site: cross-site", "Origin: http://shop.example"],
        false,
    ),
    ("a listed partner", &["Sec-Fetch-Site: cross-site", "Origin: https://partner.example"], true),
    ("a listed partner in an old browser", &["Origin: https://partner.example"], true),
    ("the partner without TLS", &["Origin: http://partner.example"], false),
    ("the partner on another port", &["Origin: https://partner.example:8443"], false),
    ("a subdomain of the partner", &["Origin: https://a.partner.example"], false),
    ("the own origin in an old browser", &["Origin: http://shop.example"], true),
    (
        "the own origin, its port spelt out in Host",
        &["Host: shop.example:80", "Origin: http://shop.example"],
        true,
    ),
    ("the own origin on another port", &["Origin: http://shop.example:8080"], false),
    ("the own origin by another scheme", &["Origin: https://shop.example"], false),
    (
        "the own origin behind a proxy that takes off TLS",
        &["X-Forwarded-Proto: https", "Origin: https://shop.example"],
        true,
    ),
    ("another origin in an old browser", &["Origin: https://evil.example"], false),
    ("a name that starts like ours", &["Origin: http://shop.example.evil.example"], false),
    ("a sandboxed page", &["Origin: null"], false),
    ("an empty origin", &["Origin: "], false),
    ("a program with a cookie jar", &[], true),
];

fn with<'a>(fields: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [fields, more].concat()
}

#[tokio::test]
async fn a_change_with_the_users_session_comes_from_the_own_pages_or_a_partners() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, ORIGIN).await;
    let mut passed = 0;
    for (name, fields, passes) in SITES {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let line = format!("{method} /orders");
            let fields = with(fields, &["Cookie: theme=dark; session=s1"]);
            let reply = call(gateway.addr(), &line, &fields, "").await;
            let want = if *passes { (200, None) } else { (403, Some("csrf-cross-site")) };
            assert_eq!((reply.status(), reply.code()), want, "{name}, {method}: {}", reply.text);
            passed += usize::from(*passes);
        }
    }
    assert_eq!(upstream.received().len(), passed);
    gateway.stop().await;
}

#[tokio::test]
async fn what_changes_nothing_or_carries_no_session_is_not_judged() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, ORIGIN).await;
    let evil = ["Sec-Fetch-Site: cross-site", "Origin: https://evil.example"];
    for (line, cookie) in [
        ("GET /", "Cookie: session=s1"),
        ("HEAD /", "Cookie: session=s1"),
        ("OPTIONS /", "Cookie: session=s1"),
        ("POST /", "Cookie: theme=dark"),
        ("POST /", "Cookie: session="),
        ("POST /", "X-Api-Key: k1"),
        ("DELETE /", "Authorization: Bearer t1"),
    ] {
        let sent = upstream.received().len();
        // The script's answer to HEAD has a body, which would be taken for the next answer.
        let fields = with(&evil, &[cookie, "Connection: close"]);
        let reply = call(gateway.addr(), line, &fields, "").await;
        assert_eq!(reply.statuses(), [200], "{line} with {cookie}: {}", reply.text);
        assert_eq!(upstream.received().len(), sent + 1, "{line} with {cookie}");
    }
    let found = evidence(&gateway, "csrf").await;
    assert_eq!(found, Evidence { evaluated: 0, would_deny: 0, denied: 0 });
    gateway.stop().await;
}

#[tokio::test]
async fn in_warn_a_forged_request_passes_and_is_counted() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "[protect.csrf]\nmode = \"warn\"").await;
    for (site, _) in [("cross-site", true), ("same-origin", false)] {
        let fields = [&format!("Sec-Fetch-Site: {site}"), "Cookie: session=s1"];
        assert_eq!(call(gateway.addr(), "POST /", &fields, "").await.status(), 200, "{site}");
    }
    let found = evidence(&gateway, "csrf").await;
    assert_eq!(found, Evidence { evaluated: 2, would_deny: 1, denied: 0 });
    gateway.stop().await;
}

const TOKEN: &str = r#"
[client]
trusted_proxies = ["127.0.0.0/8"]

[protect.csrf]
mode = "enforce"
strategy = "token"
"#;

/// The token that a session is handed.
async fn token(gateway: &Gateway, session: &str) -> String {
    let cookie = format!("Cookie: session={session}");
    let reply = call(gateway.addr(), "GET /.seaworthy/csrf", &[&cookie], "").await;
    page(&reply)["token"].as_str().expect("a session gets a token").to_owned()
}

fn page(reply: &Reply) -> serde_json::Value {
    assert_eq!(reply.status(), 200, "{}", reply.text);
    serde_json::from_str(reply.body()).unwrap_or_else(|error| panic!("{error}: {}", reply.text))
}

/// What became of a POST in `session` with `token`.
async fn post(gateway: &Gateway, session: &str, token: &str) -> (u16, Option<String>) {
    let fields = [&format!("Cookie: session={session}"), &format!("X-Csrf-Token: {token}")];
    let fields = fields.map(String::as_str);
    let reply = call(gateway.addr(), "POST /orders", &fields, "a=1").await;
    (reply.status(), reply.code().map(str::to_owned))
}

#[tokio::test]
async fn a_token_is_handed_out_in_json_and_in_a_cookie() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, TOKEN).await;
    for (scheme, secure) in [("http", ""), ("https", "; Secure")] {
        let fields = ["Cookie: session=s1", &format!("X-Forwarded-Proto: {scheme}")];
        let reply = call(gateway.addr(), "GET /.seaworthy/csrf", &fields, "").await;
        let page = page(&reply);
        assert_eq!(page["header"], "x-csrf-token");
        assert_eq!(page["expires_in_s"], 43_200);
        let token = page["token"].as_str().unwrap();
        let cookie = format!("csrf={token}; Path=/; Max-Age=43200; SameSite=Strict{secure}");
        assert_eq!(reply.field("set-cookie"), Some(&*cookie), "scripts can read it: no HttpOnly");
        assert_eq!(reply.field("cache-control"), Some("no-store"));
        assert_eq!(reply.field("content-type"), Some("application/json"));
    }
    let reply = call(gateway.addr(), "GET /.seaworthy/csrf", &[], "").await;
    assert!(page(&reply)["token"].is_null(), "nobody is logged in yet: {}", reply.text);
    assert_eq!(reply.field("set-cookie"), None);
    assert_eq!(upstream.received(), Vec::<String>::new(), "the page is the gateway's own");
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_is_worth_something_in_its_own_session_alone() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, TOKEN).await;
    let own = token(&gateway, "s1").await;
    let refreshed = token(&gateway, "s1").await;
    assert_ne!(own, refreshed, "each token is another one");
    let foreign = token(&gateway, "s2").await;

    let passes = (200, None);
    let invalid = || (403, Some("csrf-token-invalid".to_owned()));
    assert_eq!(post(&gateway, "s1", &own).await, passes);
    assert_eq!(post(&gateway, "s1", &refreshed).await, passes);
    assert_eq!(post(&gateway, "s1", &own).await, passes, "the first tab's is as good as ever");
    assert_eq!(post(&gateway, "s2", &foreign).await, passes);
    assert_eq!(upstream.received().len(), 4);

    let (first, tail) = own.split_at(1);
    let (head, last) = own.split_at(own.len() - 1);
    let other = |digit: &str| if digit == "0" { "1" } else { "0" };
    for (name, garbled) in [
        ("of another session", foreign),
        ("in capitals", own.to_ascii_uppercase()),
        ("with its last digit changed", format!("{head}{}", other(last))),
        ("with its first digit changed", format!("{}{tail}", other(first))),
        ("cut short by a digit", head.to_owned()),
        ("made longer", format!("{own}00")),
        ("twice", format!("{own},{own}")),
        ("empty", String::new()),
        ("not hex", "let me in".to_owned()),
    ] {
        assert_eq!(post(&gateway, "s1", &garbled).await, invalid(), "a token {name}");
    }
    // The cookie alone proves nothing: the browser sends it with a forged request, too.
    let fields = [&*format!("Cookie: session=s1; csrf={own}"), "Sec-Fetch-Site: same-origin"];
    let reply = call(gateway.addr(), "POST /orders", &fields, "a=1").await;
    assert_eq!((reply.status(), reply.code()), (403, Some("csrf-token-missing")), "{}", reply.text);
    assert!(reply.text.contains("header:x-csrf-token"), "it says where: {}", reply.text);
    assert_eq!(upstream.received().len(), 4, "none of them reaches the service");
    gateway.stop().await;
}

#[tokio::test]
async fn what_needs_no_token_passes_without_one() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, TOKEN).await;
    for (line, fields) in [
        ("GET /orders", &["Cookie: session=s1"][..]),
        ("POST /orders", &[]),
        ("POST /orders", &["X-Api-Key: k1"]),
    ] {
        let reply = call(gateway.addr(), line, fields, "").await;
        assert_eq!(reply.status(), 200, "{line} {fields:?}: {}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn where_the_strategy_is_origin_there_is_no_use_for_a_token() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, ORIGIN).await;
    let token = token(&gateway, "s1").await;
    let fields =
        ["Cookie: session=s1", "Sec-Fetch-Site: cross-site", &format!("X-Csrf-Token: {token}")];
    let reply = call(gateway.addr(), "POST /orders", &fields, "").await;
    assert_eq!(reply.code(), Some("csrf-cross-site"), "{}", reply.text);
    gateway.stop().await;
}
