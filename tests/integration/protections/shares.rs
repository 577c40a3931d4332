//! A rule that enforces for a share of the clients, from docs/gateway.md: which clients are in a
//! share is a keyed hash of rule and identity.

use std::collections::BTreeSet;

use super::{Evidence, evidence};
use crate::harness::request::request;
use crate::harness::{Gateway, Upstream, exchange};

/// So many that each share is within its bounds below but for a few runs in a million.
const CLIENTS: usize = 400;

/// A rule that denies every request that it may.
fn config(rule: &str, mode: &str) -> String {
    let lines = match rule {
        "host_allowlist" => "hosts = [\"another.example\"]",
        "ip_filter" => "allow = [\"192.0.2.0/24\"]",
        other => panic!("{other} is no rule of these tests"),
    };
    format!(
        "[client]\ntrusted_proxies = [\"127.0.0.0/8\"]\n[protect.{rule}]\nmode = \"{mode}\"\n{lines}"
    )
}

/// The numbers of the clients that are denied, where each sends one request that it signs.
async fn denied(gateway: &Gateway, sign: impl Fn(usize) -> String) -> BTreeSet<usize> {
    let mut denied = BTreeSet::new();
    let numbers: Vec<usize> = (0..CLIENTS).collect();
    for batch in numbers.chunks(50) {
        let sent: String = batch.iter().map(|n| request("GET /", &[&sign(*n)], "")).collect();
        let reply = exchange(gateway.addr(), sent.as_bytes(), batch.len()).await;
        let statuses = reply.statuses();
        assert_eq!(statuses.len(), batch.len(), "{}", reply.text);
        for (n, status) in batch.iter().zip(statuses) {
            assert!(matches!(status, 200 | 403 | 421), "{status}");
            if status != 200 {
                denied.insert(*n);
            }
        }
    }
    denied
}

fn key(n: usize) -> String {
    format!("X-Api-Key: key-{n}")
}

async fn reload(gateway: &Gateway, toml: &str) {
    std::fs::write(gateway.dir().join("seaworthy.toml"), toml).unwrap();
    gateway.reload().await.expect("it is right");
}

#[tokio::test]
async fn about_a_fifth_of_the_clients_is_denied_and_always_the_same() {
    let upstream = Upstream::ok().await;
    let toml = config("host_allowlist", "enforce 20%");
    let gateway = Gateway::start(upstream.addr, &toml).await;
    let first = denied(&gateway, key).await;
    let part = first.len() * 100 / CLIENTS;
    assert!((10..=30).contains(&part), "{part} % of the clients are denied");
    assert_eq!(upstream.received().len(), CLIENTS - first.len(), "the others are served");
    assert_eq!(denied(&gateway, key).await, first, "nobody is denied now and then");

    // Whoever is not in the share is judged all the same.
    let clients = CLIENTS as u64;
    let in_share = 2 * first.len() as u64;
    let found = evidence(&gateway, "host_allowlist").await;
    let want =
        Evidence { evaluated: 2 * clients, would_deny: 2 * clients - in_share, denied: in_share };
    assert_eq!(found, want);

    // By what a client is known makes no difference, and its address neither.
    let moved = |n: usize| format!("{}\r\nX-Forwarded-For: 198.51.100.{}", key(n), n % 250);
    assert_eq!(denied(&gateway, moved).await, first, "a client takes its share along");
    gateway.stop().await;
}

#[tokio::test]
async fn the_clients_of_a_share_are_among_those_of_a_larger_one() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("host_allowlist", "enforce 0%")).await;
    let mut before = denied(&gateway, key).await;
    assert!(before.is_empty(), "0 % is nobody");
    for (share, bounds) in
        [("5%", 1..=12), ("20%", 10..=30), ("50.5%", 38..=63), ("100%", 100..=100)]
    {
        reload(&gateway, &config("host_allowlist", &format!("enforce {share}"))).await;
        let now = denied(&gateway, key).await;
        let part = now.len() * 100 / CLIENTS;
        assert!(bounds.contains(&part), "{share} has become {part} %");
        assert!(now.is_superset(&before), "{share} leaves out {:?}", before.difference(&now));
        before = now;
    }
    // On the way down the same ones are let go.
    reload(&gateway, &config("host_allowlist", "enforce 50.5%")).await;
    let again = denied(&gateway, key).await;
    reload(&gateway, &config("host_allowlist", "enforce 5%")).await;
    assert!(denied(&gateway, key).await.is_subset(&again));
    gateway.stop().await;
}

/// Else a client that is unlucky with one rule would be so with all of them.
#[tokio::test]
async fn each_rule_draws_its_own_share() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("host_allowlist", "enforce 50%")).await;
    let hosts = denied(&gateway, key).await;
    reload(&gateway, &config("ip_filter", "enforce 50%")).await;
    let addresses = denied(&gateway, key).await;
    let both = hosts.intersection(&addresses).count() * 100 / CLIENTS;
    assert!((13..=37).contains(&both), "{both} % are in both halves");
    gateway.stop().await;
}

#[tokio::test]
async fn who_is_only_an_address_is_denied_by_the_whole_rule_alone() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("host_allowlist", "enforce 99.99%")).await;
    let address = |n: usize| format!("X-Forwarded-For: 198.51.{}.{}", n / 200, n % 200);
    assert!(denied(&gateway, address).await.is_empty());
    let found = evidence(&gateway, "host_allowlist").await;
    let clients = CLIENTS as u64;
    assert_eq!(found, Evidence { evaluated: clients, would_deny: clients, denied: 0 });
    reload(&gateway, &config("host_allowlist", "enforce")).await;
    assert_eq!(denied(&gateway, address).await.len(), CLIENTS);
    gateway.stop().await;
}

#[tokio::test]
async fn tokens_and_sessions_are_identities_too() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, &config("host_allowlist", "enforce 50%")).await;
    for name in ["Authorization: Bearer ", "Cookie: session="] {
        let found = denied(&gateway, |n| format!("{name}s-{n}")).await.len() * 100 / CLIENTS;
        assert!((38..=62).contains(&found), "{name}: {found} %");
    }
    gateway.stop().await;
}
