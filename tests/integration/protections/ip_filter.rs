use super::{Evidence, evidence};
use crate::harness::{Gateway, Reply, Upstream, call};

/// The peer is a trusted proxy, and so are those of 10.0.0.0/8 before it.
fn config(mode: &str, lists: &str) -> String {
    format!(
        "[client]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n\
         [protect.ip_filter]\nmode = \"{mode}\"\n{lists}"
    )
}

const BOTH: &str = r#"
allow = ["198.51.100.0/24", "2001:db8::/32"]
deny = ["198.51.100.128/25", "2001:db8:bad::/48"]
"#;

fn assert_answer(reply: &Reply, passes: bool, name: &str) {
    let want = if passes { (200, None) } else { (403, Some("ip-denied")) };
    assert_eq!((reply.status(), reply.code()), want, "{name}: {}", reply.text);
}

#[tokio::test]
async fn deny_wins_and_a_list_of_allowed_networks_denies_all_others() {
    let upstream = Upstream::ok().await;
    let mut served = 0;
    for (lists, addresses) in [
        (
            BOTH,
            &[
                ("198.51.100.1", true),
                ("198.51.100.127", true),
                ("198.51.100.128", false),
                ("203.0.113.1", false),
                ("2001:db8::1", true),
                ("2001:db8:bad::1", false),
                ("2001:db9::1", false),
                ("::ffff:198.51.100.1", true),
                ("::ffff:198.51.100.200", false),
            ][..],
        ),
        (
            r#"deny = ["203.0.113.0/24", "192.0.2.7"]"#,
            &[
                ("203.0.113.0", false),
                ("203.0.113.255", false),
                ("203.0.114.0", true),
                ("192.0.2.7", false),
                ("192.0.2.8", true),
                ("2001:db8::1", true),
            ],
        ),
        (r#"allow = ["192.0.2.7"]"#, &[("192.0.2.7", true), ("192.0.2.8", false)]),
    ] {
        let gateway = Gateway::start(upstream.addr, &config("enforce", lists)).await;
        for (address, passes) in addresses {
            let field = format!("X-Forwarded-For: {address}");
            let reply = call(gateway.addr(), "GET /", &[&field], "").await;
            assert_answer(&reply, *passes, &format!("{address} under {lists}"));
            served += usize::from(*passes);
        }
        gateway.stop().await;
    }
    assert_eq!(upstream.received().len(), served);
}

#[tokio::test]
async fn the_client_is_the_first_stranger_before_the_trusted_proxies() {
    let upstream = Upstream::ok().await;
    let deny = r#"deny = ["203.0.113.0/24"]"#;
    let gateway = Gateway::start(upstream.addr, &config("enforce", deny)).await;
    for (name, fields, passes) in [
        ("the proxy itself", &[][..], true),
        ("one hop", &["X-Forwarded-For: 203.0.113.1"], false),
        ("one hop with its port", &["X-Forwarded-For: 203.0.113.1:4711"], false),
        ("two trusted hops", &["X-Forwarded-For: 203.0.113.1, 10.0.0.2, 10.0.0.1"], false),
        ("in two fields", &["X-Forwarded-For: 203.0.113.1", "X-Forwarded-For: 10.0.0.1"], false),
        ("forged in front of the client", &["X-Forwarded-For: 203.0.113.1, 192.0.2.1"], true),
        ("hidden behind a forged hop", &["X-Forwarded-For: 192.0.2.1, 203.0.113.1"], false),
        ("nonsense in front of the client", &["X-Forwarded-For: nobody, 203.0.113.1"], false),
        ("nonsense from the proxy", &["X-Forwarded-For: 203.0.113.1, nobody"], true),
        ("RFC 7239", &["Forwarded: for=203.0.113.1;proto=http"], false),
        ("RFC 7239, two hops", &["Forwarded: for=203.0.113.1, for=10.0.0.1"], false),
        (
            "X-Forwarded-For comes before RFC 7239",
            &["Forwarded: for=203.0.113.1", "X-Forwarded-For: 192.0.2.1"],
            true,
        ),
    ] {
        assert_answer(&call(gateway.addr(), "GET /", fields, "").await, passes, name);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_peer_that_nobody_trusts_cannot_say_who_it_is() {
    let upstream = Upstream::ok().await;
    for (list, passes) in [("deny = [\"127.0.0.1\"]", false), ("deny = [\"203.0.113.0/24\"]", true)]
    {
        let toml = format!("[protect.ip_filter]\nmode = \"enforce\"\n{list}");
        let gateway = Gateway::start(upstream.addr, &toml).await;
        for field in
            ["X-Forwarded-For: 203.0.113.1", "Forwarded: for=203.0.113.1", "X-Real-Ip: 203.0.113.1"]
        {
            let reply = call(gateway.addr(), "GET /", &[field], "").await;
            assert_answer(&reply, passes, &format!("{field} under {list}"));
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_denied_client_is_told_its_address_and_not_the_list() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("enforce", BOTH)).await;
    let reply = call(gateway.addr(), "GET /", &["X-Forwarded-For: 198.51.100.200"], "").await;
    assert!(reply.body().contains("198.51.100.200"), "{}", reply.text);
    assert!(!reply.body().contains("198.51.100.128"), "{}", reply.text);
    gateway.stop().await;
}

#[tokio::test]
async fn without_lists_nothing_is_judged_and_in_warn_nobody_is_denied() {
    let upstream = Upstream::ok().await;
    for (lists, mode, would_deny, evaluated) in [("", "enforce", 0, 0), (BOTH, "warn", 1, 2)] {
        let gateway = Gateway::start(upstream.addr, &config(mode, lists)).await;
        for address in ["198.51.100.1", "203.0.113.1"] {
            let field = format!("X-Forwarded-For: {address}");
            assert_answer(&call(gateway.addr(), "GET /", &[&field], "").await, true, address);
        }
        let found = evidence(&gateway, "ip_filter").await;
        assert_eq!(found, Evidence { evaluated, would_deny, denied: 0 });
        gateway.stop().await;
    }
}
