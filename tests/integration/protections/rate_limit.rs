//! A rate of one request a day gives nothing back while a test runs: only the burst counts.

use super::{Evidence, evidence};
use crate::harness::{Gateway, Reply, Upstream, call};

/// `limits` for the whole service, where every peer is a trusted proxy: so a test says with
/// `X-Forwarded-For` from which address a request comes.
fn config(mode: &str, limits: &str) -> String {
    format!(
        "[client]\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
         [protect.rate_limit]\nmode = \"{mode}\"\nlimits = [{limits}]\n"
    )
}

const ONE_PER_CLIENT: &str = r#"{ per = "client", rate = "1/day", burst = 1 }"#;

/// The parameter `name` of a `RateLimit` or `RateLimit-Policy` field.
fn parameter(field: &str, name: &str) -> u64 {
    let value = field.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {field}"))
}

fn rate_limit(reply: &Reply) -> &str {
    reply.field("ratelimit").unwrap_or_else(|| panic!("no RateLimit: {}", reply.text))
}

#[tokio::test]
async fn a_burst_passes_whole_and_the_next_request_is_told_when_to_come_back() {
    let upstream = Upstream::ok().await;
    let limits = r#"{ per = "client", rate = "2/day", burst = 3 }"#;
    let gateway = Gateway::start(upstream.addr, &config("enforce", limits)).await;
    for left in [2, 1, 0] {
        let reply = call(gateway.addr(), "GET /", &[], "").await;
        assert_eq!(reply.status(), 200, "{}", reply.text);
        assert!(rate_limit(&reply).starts_with("\"client\";"), "{}", reply.text);
        assert_eq!(parameter(rate_limit(&reply), "r"), left);
        assert_eq!(reply.field("ratelimit-policy"), Some("\"client\";q=2;w=86400"));
        assert_eq!(reply.field("retry-after"), None);
    }
    let reply = call(gateway.addr(), "GET /", &[], "").await;
    assert_eq!((reply.status(), reply.code()), (429, Some("rate-limited")), "{}", reply.text);
    assert_eq!(parameter(rate_limit(&reply), "r"), 0);
    assert_eq!(reply.field("ratelimit-policy"), Some("\"client\";q=2;w=86400"));
    let wait_s: u64 = reply.field("retry-after").expect("it says when").parse().unwrap();
    assert!((1..=43_200).contains(&wait_s), "one request costs half a day: {wait_s}");
    assert_eq!(parameter(rate_limit(&reply), "t"), wait_s, "both fields say the same");
    assert!(!reply.closed, "the client may go on on its connection");
    assert_eq!(upstream.received().len(), 3, "the service hears nothing of a denied request");
    gateway.stop().await;
}

/// Whether two requests, one after the other, are counted together.
struct Pair {
    name: &'static str,
    first: &'static [&'static str],
    second: &'static [&'static str],
    together: bool,
}

const fn pair(
    name: &'static str,
    first: &'static [&'static str],
    second: &'static [&'static str],
    together: bool,
) -> Pair {
    Pair { name, first, second, together }
}

async fn assert_pairs(limits: &str, pairs: &[Pair]) {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("enforce", limits)).await;
    for pair in pairs {
        let first = call(gateway.addr(), "GET /", pair.first, "").await;
        assert_eq!(first.status(), 200, "{}: the first: {}", pair.name, first.text);
        let second = call(gateway.addr(), "GET /", pair.second, "").await;
        let status = if pair.together { 429 } else { 200 };
        assert_eq!(second.status(), status, "{}: the second: {}", pair.name, second.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn clients_are_told_apart_by_what_they_carry() {
    // No value is used by two pairs.
    let pairs = [
        pair("one token", &["Authorization: Bearer a1"], &["Authorization: Bearer a1"], true),
        pair("two tokens", &["Authorization: Bearer b1"], &["Authorization: Bearer b2"], false),
        pair(
            "bearer in any case",
            &["Authorization: Bearer c1"],
            &["authorization: bEARER c1"],
            true,
        ),
        pair("one key", &["X-Api-Key: d1"], &["X-Api-Key: d1"], true),
        pair("two keys", &["X-Api-Key: e1"], &["X-Api-Key: e2"], false),
        pair(
            "one session among other cookies",
            &["Cookie: session=f1"],
            &["Cookie: theme=dark; session=f1; last=3"],
            true,
        ),
        pair("two sessions", &["Cookie: session=g1"], &["Cookie: session=g2"], false),
        pair(
            "a cookie of another name says nothing",
            &["Cookie: theme=h1", "X-Forwarded-For: 192.0.2.1"],
            &["Cookie: theme=h2", "X-Forwarded-For: 192.0.2.1"],
            true,
        ),
        pair(
            "a token and a key of one spelling",
            &["Authorization: Bearer i1"],
            &["X-Api-Key: i1"],
            false,
        ),
        pair(
            "a token comes before a key",
            &["Authorization: Bearer j1", "X-Api-Key: j2"],
            &["Authorization: Bearer j1", "X-Api-Key: j3"],
            true,
        ),
        pair(
            "a key comes before a session",
            &["X-Api-Key: k1", "Cookie: session=k2"],
            &["X-Api-Key: k1", "Cookie: session=k3"],
            true,
        ),
        pair(
            "a token is the same client from everywhere",
            &["Authorization: Bearer l1", "X-Forwarded-For: 192.0.2.2"],
            &["Authorization: Bearer l1", "X-Forwarded-For: 192.0.2.3"],
            true,
        ),
        pair("one address", &["X-Forwarded-For: 192.0.2.4"], &["X-Forwarded-For: 192.0.2.4"], true),
        pair(
            "two addresses",
            &["X-Forwarded-For: 192.0.2.5"],
            &["X-Forwarded-For: 192.0.2.6"],
            false,
        ),
        pair(
            "what stands left of the nearest stranger is hearsay",
            &["X-Forwarded-For: 192.0.2.7"],
            &["X-Forwarded-For: 198.51.100.1, 192.0.2.7"],
            true,
        ),
        pair("an empty token is none", &["Authorization: Bearer "], &[], true),
    ];
    assert_pairs(ONE_PER_CLIENT, &pairs).await;
}

#[tokio::test]
async fn addresses_are_counted_whatever_identity_is_claimed() {
    let pairs = [
        pair(
            "invented tokens from one address",
            &["Authorization: Bearer a1", "X-Forwarded-For: 192.0.2.1"],
            &["Authorization: Bearer a2", "X-Forwarded-For: 192.0.2.1"],
            true,
        ),
        pair(
            "one token from two addresses",
            &["Authorization: Bearer b1", "X-Forwarded-For: 192.0.2.2"],
            &["Authorization: Bearer b1", "X-Forwarded-For: 192.0.2.3"],
            false,
        ),
        pair(
            "two hosts of one IPv6 network of 64 bits",
            &["X-Forwarded-For: 2001:db8:0:1::1"],
            &["X-Forwarded-For: 2001:db8:0:1:ffff::2"],
            true,
        ),
        pair(
            "two IPv6 networks",
            &["X-Forwarded-For: 2001:db8:0:2::1"],
            &["X-Forwarded-For: 2001:db8:0:3::1"],
            false,
        ),
        pair(
            "IPv4 in the clothes of IPv6",
            &["X-Forwarded-For: 192.0.2.4"],
            &["X-Forwarded-For: ::ffff:192.0.2.4"],
            true,
        ),
    ];
    assert_pairs(r#"{ per = "ip", rate = "1/day", burst = 1 }"#, &pairs).await;
}

#[tokio::test]
async fn tenants_are_counted_across_their_clients() {
    let pairs = [
        pair(
            "two clients of one tenant",
            &["X-Tenant-Id: acme", "X-Api-Key: a1"],
            &["X-Tenant-Id: acme", "X-Api-Key: a2"],
            true,
        ),
        pair(
            "one client of two tenants",
            &["X-Tenant-Id: b1", "X-Api-Key: b"],
            &["X-Tenant-Id: b2", "X-Api-Key: b"],
            false,
        ),
        pair("no tenant, and one that is no name", &["X-Api-Key: c1"], &["X-Tenant-Id: c 2"], true),
    ];
    assert_pairs(r#"{ per = "tenant", rate = "1/day", burst = 1 }"#, &pairs).await;
}

#[tokio::test]
async fn the_address_of_a_peer_that_nobody_trusts_is_its_own() {
    let upstream = Upstream::ok().await;
    let toml = format!("[protect.rate_limit]\nmode = \"enforce\"\nlimits = [{ONE_PER_CLIENT}]");
    let gateway = Gateway::start(upstream.addr, &toml).await;
    let statuses = [
        call(gateway.addr(), "GET /", &["X-Forwarded-For: 192.0.2.1"], "").await.status(),
        call(gateway.addr(), "GET /", &["X-Forwarded-For: 192.0.2.2"], "").await.status(),
    ];
    assert_eq!(statuses, [200, 429], "a made-up address is not a fresh start");
    gateway.stop().await;
}

#[tokio::test]
async fn a_route_has_limits_of_its_own_beside_the_services() {
    let upstream = Upstream::ok().await;
    let toml = config("enforce", r#"{ per = "client", rate = "1/day", burst = 2 }"#)
        + "[[route]]\nmatch = \"POST /api/traces\"\n[route.protect.rate_limit]\n"
        + "limits = [{ per = \"client\", rate = \"1/day\", burst = 1 }]\n"
        + "[[route]]\nmatch = \"/shared/{name}\"\n[route.protect.rate_limit]\n"
        + "limits = [{ per = \"route\", rate = \"1/day\", burst = 1 }]\n";
    let gateway = Gateway::start(upstream.addr, &toml).await;
    for (line, key, status) in [
        ("POST /api/traces", "a", 200),
        ("POST /api/traces", "a", 429),
        // The same in another spelling, and what is no other spelling.
        ("POST /api/%74races", "a", 429),
        ("POST /api/./x/../traces?again", "a", 429),
        ("POST /api/traces", "b", 200),
        // What falls under no route has the service's own bucket, which is still full.
        ("GET /api/traces", "a", 200),
        ("GET /", "a", 200),
        ("GET /api/traces", "a", 429),
        // Everyone together, whatever the segment is.
        ("GET /shared/1", "c", 200),
        ("POST /shared/2", "d", 429),
    ] {
        let reply = call(gateway.addr(), line, &[&format!("X-Api-Key: {key}")], "").await;
        assert_eq!(reply.status(), status, "{line} of {key}: {}", reply.text);
    }
    let traces = evidence(&gateway, "rate_limit@POST /api/traces").await;
    assert_eq!(traces, Evidence { evaluated: 5, would_deny: 0, denied: 3 });
    let others = evidence(&gateway, "rate_limit").await;
    assert_eq!(others, Evidence { evaluated: 3, would_deny: 0, denied: 1 });
    gateway.stop().await;
}

#[tokio::test]
async fn of_several_limits_the_tightest_speaks_and_the_first_exceeded_denies() {
    let upstream = Upstream::ok().await;
    let limits = r#"{ per = "client", rate = "1/day", burst = 2 }, { per = "ip", rate = "1/day", burst = 3 }"#;
    let gateway = Gateway::start(upstream.addr, &config("enforce", limits)).await;
    for (key, status, speaks) in [
        ("a", 200, "\"client\";r=1;"),
        ("a", 200, "\"client\";r=0;"),
        ("a", 429, "\"client\";r=0;"),
        // The denied request has cost its address nothing.
        ("b", 200, "\"ip\";r=0;"),
        ("c", 429, "\"ip\";r=0;"),
    ] {
        let reply = call(gateway.addr(), "GET /", &[&format!("X-Api-Key: {key}")], "").await;
        assert_eq!(reply.status(), status, "{key}: {}", reply.text);
        assert!(rate_limit(&reply).starts_with(speaks), "{key}, {speaks}: {}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn in_warn_nobody_is_denied_and_everything_is_counted() {
    let upstream = Upstream::ok().await;
    let limits = r#"{ per = "client", rate = "1/day", burst = 2 }"#;
    let gateway = Gateway::start(upstream.addr, &config("warn", limits)).await;
    for _ in 0..5 {
        let reply = call(gateway.addr(), "GET /", &[], "").await;
        assert_eq!(reply.status(), 200, "{}", reply.text);
        assert_eq!(reply.fields("ratelimit"), [""; 0], "a limit that is not in force is not told");
    }
    assert_eq!(upstream.received().len(), 5);
    let found = evidence(&gateway, "rate_limit").await;
    assert_eq!(found, Evidence { evaluated: 5, would_deny: 3, denied: 0 });
    gateway.stop().await;
}
