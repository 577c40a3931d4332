//! Two gateways that share their modes through a redis-server, and what they do without it.

use std::net::SocketAddr;
use std::path::Path;

use seaworthy_console::control::{Command, RuleStanding};
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::Stay;
use tempfile::TempDir;

use super::{HOSTS, configure, fast_for};
use crate::harness::ask::{get, metric, until};
use crate::harness::{Gateway, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{ask, fire, set, standing, until_stands, visit};
use crate::redis::Redis;

/// The config of a gateway that shares its modes through `redis`, and by which `host` is right.
fn configure_member(dir: &Path, redis: &Redis, refresh: &str, host: &str) {
    let url = redis.url();
    let modes = format!(
        "\n[modes]\nredis = \"{url}\"\nfleet = \"helpdesk\"\nredis_refresh = \"{refresh}\"\n"
    );
    configure(dir, &format!("{}{modes}", fast_for(host)));
}

fn serve_member(dir: &Path, upstream: SocketAddr) -> std::process::Command {
    let mut command = serve(dir, upstream);
    // The members of a fleet put the same clients in a share.
    command.env("SEAWORTHY_KEY", "5".repeat(64));
    command
}

/// A gateway of the fleet that agrees with the others.
async fn member(dir: &Path, redis: &Redis, refresh: &str, upstream: SocketAddr) -> Gateway {
    configure_member(dir, redis, refresh, "a");
    let gateway = Gateway::start(serve_member(dir, upstream)).await;
    until_ready(gateway.console, "agrees with the fleet").await;
    gateway
}

/// Waits until `/readyz` says this of the modes.
async fn until_ready(console: SocketAddr, words: &str) {
    until(&format!("/readyz says {words:?}"), async || {
        let ready = get(console, "/readyz", &[]).await;
        assert_eq!(ready.statuses(), [200], "nothing of a fleet stops the traffic: {}", ready.text);
        ready.text.contains(words).then_some(())
    })
    .await;
}

struct Pair {
    redis: Redis,
    one: Gateway,
    two: Gateway,
    dirs: [TempDir; 2],
}

impl Pair {
    async fn start(refresh: &str) -> Self {
        let (redis, upstream, dirs) = (Redis::start().await, service().await, [folder(), folder()]);
        let one = member(dirs[0].path(), &redis, refresh, upstream).await;
        let two = member(dirs[1].path(), &redis, refresh, upstream).await;
        Self { redis, one, two, dirs }
    }

    async fn stop(self) {
        self.one.stop().await;
        self.two.stop().await;
    }
}

fn is_at(mode: &str) -> impl Fn(&RuleStanding) -> bool {
    let mode: Mode = mode.parse().expect("it is a mode");
    move |standing| standing.current.mode == mode
}

fn is_held_by_an_alert(standing: &RuleStanding) -> bool {
    matches!(&standing.current.stay, Some(Stay::Held { until_unix_ms: None, .. }))
}

/// What somebody gets whose host is wrong.
async fn stranger(gateway: &Gateway) -> u16 {
    visit(gateway.traffic, "b", None).await
}

#[tokio::test]
async fn what_one_does_the_other_does_without_waiting_for_a_refresh() {
    let pair = Pair::start("1h").await;
    let (one, two) = (&pair.one, &pair.two);
    for (mode, status) in [("enforce", 421), ("warn", 200), ("enforce", 421)] {
        set(one.console, HOSTS, mode).await;
        assert_eq!(stranger(one).await, status);
        let there = until_stands(two.console, HOSTS, "the other has it too", is_at(mode)).await;
        assert!(there.current.why.starts_with("in the fleet: "), "{}", there.current.why);
        assert_eq!(stranger(two).await, status);
    }

    // An alert that reaches one demotes both, and both wait for an operator.
    fire(two.console, HOSTS).await;
    assert_eq!(stranger(two).await, 200);
    until_stands(one.console, HOSTS, "the other falls too", is_at("warn")).await;
    assert_eq!(stranger(one).await, 200);
    for gateway in [one, two] {
        until_stands(gateway.console, HOSTS, "it is held", is_held_by_an_alert).await;
    }
    ask(one.console, HOSTS, Command::Release {}).await.expect("it is held");
    let is_free = |standing: &RuleStanding| !is_held_by_an_alert(standing);
    until_stands(two.console, HOSTS, "the other is released too", is_free).await;
    assert_eq!(stranger(two).await, 200, "who lets go of a rule does not enforce it");
    pair.stop().await;
}

#[tokio::test]
async fn modes_stand_without_redis_and_meet_again_with_it() {
    let mut pair = Pair::start("1s").await;
    for rule in [HOSTS, "csrf"] {
        set(pair.one.console, rule, "enforce").await;
        until_stands(pair.two.console, rule, "both enforce it", is_at("enforce")).await;
    }

    pair.redis.kill();
    let (one, two) = (&pair.one, &pair.two);
    for gateway in [one, two] {
        until_ready(gateway.console, "the modes are those of last_known").await;
        assert_eq!(stranger(gateway).await, 421);
    }

    // Here at once, there as soon as it can be said.
    fire(one.console, HOSTS).await;
    assert_eq!((stranger(one).await, stranger(two).await), (200, 421));
    pair.redis.restart().await;
    until_stands(pair.two.console, HOSTS, "the other falls too", is_held_by_an_alert).await;
    assert_eq!(stranger(&pair.two).await, 200);

    // Flushed, it is told what it lacks, and nobody moves.
    assert_eq!(pair.redis.ask("FLUSHALL").await, "+OK");
    until("what was flushed is there again", async || {
        (pair.redis.ask("HLEN seaworthy:helpdesk:modes.v1").await == ":2").then_some(())
    })
    .await;
    for gateway in [&pair.one, &pair.two] {
        until_ready(gateway.console, "agrees with the fleet").await;
        assert_eq!(stranger(gateway).await, 200);
        assert!(is_held_by_an_alert(&standing(gateway.console, HOSTS).await));
        assert!(is_at("enforce")(&standing(gateway.console, "csrf").await));
    }
    pair.stop().await;
}

#[tokio::test]
async fn exactly_one_leads_and_the_other_does_once_it_is_gone() {
    let pair = Pair::start("1s").await;
    let leaders = async || {
        let mut leads = Vec::new();
        for gateway in [&pair.one, &pair.two] {
            leads.push(metric(gateway.console, "seaworthy_modes_leader").await);
        }
        leads
    };
    let leads = until("somebody leads", async || {
        let leads = leaders().await;
        assert_ne!(leads, [Some(1.0); 2], "both lead");
        leads.contains(&Some(1.0)).then_some(leads)
    })
    .await;
    let (leader, other) =
        if leads[0] == Some(1.0) { (pair.one, pair.two) } else { (pair.two, pair.one) };
    leader.stop().await;
    until("the other leads", async || {
        metric(other.console, "seaworthy_modes_leader").await.filter(|leads| *leads == 1.0)
    })
    .await;
    other.stop().await;
}

#[tokio::test]
async fn who_joins_later_and_who_comes_back_take_up_what_the_fleet_has_done() {
    let (redis, upstream, dirs) = (Redis::start().await, service().await, [folder(), folder()]);
    let one = member(dirs[0].path(), &redis, "1s", upstream).await;
    set(one.console, HOSTS, "enforce").await;
    let two = member(dirs[1].path(), &redis, "1s", upstream).await;
    until_stands(two.console, HOSTS, "it enforces what they do", is_at("enforce")).await;
    assert_eq!(stranger(&two).await, 421);
    two.stop().await;

    // While it is away an alert takes the rule back.
    fire(one.console, HOSTS).await;
    let two = member(dirs[1].path(), &redis, "1s", upstream).await;
    until_stands(two.console, HOSTS, "it falls too", is_held_by_an_alert).await;
    assert_eq!((stranger(&one).await, stranger(&two).await), (200, 200));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_gateway_that_starts_without_redis_goes_on_with_what_it_knew() {
    let (mut redis, upstream, dir) = (Redis::start().await, service().await, folder());
    let one = member(dir.path(), &redis, "1s", upstream).await;
    set(one.console, HOSTS, "enforce").await;
    one.stop().await;

    redis.kill();
    let one = Gateway::start(serve_member(dir.path(), upstream)).await;
    until_ready(one.console, "the modes are those of ").await;
    assert_eq!(stranger(&one).await, 421);
    ask(one.console, HOSTS, Command::Demote {}).await.expect("a rule can always fall");
    assert_eq!(stranger(&one).await, 200);

    // What it did alone is what the fleet hears.
    redis.restart().await;
    until_ready(one.console, "agrees with the fleet").await;
    until("the fleet has it", async || {
        let entry = redis.ask("HVALS seaworthy:helpdesk:modes.v1").await;
        (entry == "*1").then_some(())
    })
    .await;
    assert_eq!(stranger(&one).await, 200);
    assert!(is_at("warn")(&standing(one.console, HOSTS).await));
    one.stop().await;
}

#[tokio::test]
async fn a_version_that_took_over_at_one_takes_over_at_the_other() {
    let pair = Pair::start("1s").await;
    set(pair.one.console, HOSTS, "enforce").await;
    until_stands(pair.two.console, HOSTS, "both enforce it", is_at("enforce")).await;
    for (gateway, dir) in [(&pair.one, &pair.dirs[0]), (&pair.two, &pair.dirs[1])] {
        configure_member(dir.path(), &pair.redis, "1s", "b");
        let is_beside = |standing: &RuleStanding| standing.next.is_some();
        until_stands(gateway.console, HOSTS, "the edit is judged", is_beside).await;
    }
    for _ in 0..3 {
        ask(pair.one.console, HOSTS, Command::Promote { epoch: None })
            .await
            .expect("there is a step above");
    }
    for gateway in [&pair.one, &pair.two] {
        let took_over = |standing: &RuleStanding| {
            standing.current.version == 2 && standing.next.is_none() && is_at("enforce")(standing)
        };
        until_stands(gateway.console, HOSTS, "the new version is in force", took_over).await;
        assert_eq!(visit(gateway.traffic, "a", None).await, 421);
        assert_eq!(visit(gateway.traffic, "b", None).await, 200);
    }
    pair.stop().await;
}
