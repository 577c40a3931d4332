//! Two gateways that share their modes through a redis-server, and what they do without it.

mod apart;

use std::net::SocketAddr;
use std::path::Path;

use seaworthy_console::control::{Command, RuleStanding};
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::Stay;
use serde_json::Value;
use tempfile::TempDir;

use super::{HOSTS, configure, fast_for};
use crate::audit::leaves;
use crate::harness::ask::{get, metric, until};
use crate::harness::{Gateway, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{ask, fire, now_unix_ms, set, standing, until_stands, visit};
use crate::redis::Redis;

/// Within which the gateways of a fleet agree, as the manual promises it. It takes a few
/// milliseconds.
const AGREED_WITHIN_MS: i64 = 1000;

/// The config of a gateway that shares its modes through `redis`, and by which `host` is right.
fn config_of(redis: &Redis, refresh: &str, host: &str) -> String {
    let (url, rest) = (redis.url(), fast_for(host));
    format!(
        "{rest}\n[modes]\nredis = \"{url}\"\nfleet = \"helpdesk\"\nredis_refresh = \"{refresh}\"\n"
    )
}

fn configure_member(dir: &Path, redis: &Redis, refresh: &str, host: &str) {
    configure(dir, &config_of(redis, refresh, host));
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
    joined(dir, upstream).await
}

/// The same, with the config that is there.
async fn joined(dir: &Path, upstream: SocketAddr) -> Gateway {
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
        Self::start_with(refresh, str::to_owned).await
    }

    /// Two with a config that is made of the usual one.
    async fn start_with(refresh: &str, config: impl Fn(&str) -> String) -> Self {
        let (redis, upstream, dirs) = (Redis::start().await, service().await, [folder(), folder()]);
        let mut gateways = Vec::new();
        for dir in &dirs {
            configure(dir.path(), &config(&config_of(&redis, refresh, "a")));
            gateways.push(joined(dir.path(), upstream).await);
        }
        let (two, one) = (gateways.pop().expect("a second"), gateways.pop().expect("a first"));
        Self { redis, one, two, dirs }
    }

    /// What they share, and both with their folders, the one that leads first.
    async fn leader_first(self) -> (Redis, [(Gateway, TempDir); 2]) {
        let leads = until("somebody leads", async || {
            let mut leads = Vec::new();
            for gateway in [&self.one, &self.two] {
                leads.push(metric(gateway.console, "seaworthy_modes_leader").await);
            }
            assert_ne!(leads, [Some(1.0); 2], "both lead");
            leads.contains(&Some(1.0)).then_some(leads)
        })
        .await;
        let [first, second] = self.dirs;
        let mut both = [(self.one, first), (self.two, second)];
        if leads[1] == Some(1.0) {
            both.reverse();
        }
        (self.redis, both)
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

/// What the next version has, where there is one.
fn next_is_at(mode: &str) -> impl Fn(&RuleStanding) -> bool {
    let mode: Mode = mode.parse().expect("it is a mode");
    move |standing| standing.next.as_ref().is_some_and(|next| next.mode == mode)
}

fn is_held_by_an_alert(standing: &RuleStanding) -> bool {
    matches!(&standing.current.stay, Some(Stay::Held { until_unix_ms: None, .. }))
}

/// What somebody gets whose host is wrong.
async fn stranger(gateway: &Gateway) -> u16 {
    visit(gateway.traffic, "b", None).await
}

/// Waits until a stranger gets `status` from `there`, which has to be within a second of
/// `since_unix_ms`, when the mode changed elsewhere.
async fn until_agreed(there: &Gateway, status: u16, since_unix_ms: i64) {
    let now_unix_ms = until("the other does it, too", async || {
        let now_unix_ms = now_unix_ms();
        (stranger(there).await == status).then_some(now_unix_ms)
    });
    let took_ms = i64::try_from(now_unix_ms.await).expect("a time") - since_unix_ms;
    assert!(took_ms < AGREED_WITHIN_MS, "the other did it {took_ms} ms later");
}

#[tokio::test]
async fn what_one_does_the_other_does_within_a_second_and_without_a_refresh() {
    let pair = Pair::start("1h").await;
    let (one, two) = (&pair.one, &pair.two);
    for (mode, status) in [("enforce", 421), ("warn", 200), ("enforce", 421)] {
        let done = set(one.console, HOSTS, mode).await;
        until_agreed(two, status, done.standing.current.since_unix_ms).await;
        assert_eq!(stranger(one).await, status);
        let there = until_stands(two.console, HOSTS, "the other has it too", is_at(mode)).await;
        assert!(there.current.why.starts_with("in the fleet: "), "{}", there.current.why);
        assert_eq!(stranger(two).await, status);
    }

    // An alert that reaches one demotes both, and both wait for an operator.
    fire(two.console, HOSTS).await;
    let fell = standing(two.console, HOSTS).await;
    until_agreed(one, 200, fell.current.since_unix_ms).await;
    assert_eq!(stranger(two).await, 200);
    for gateway in [one, two] {
        until_stands(gateway.console, HOSTS, "it is held", is_held_by_an_alert).await;
    }
    ask(one.console, HOSTS, Command::Release {}).await.expect("it is held");
    until_stands(two.console, HOSTS, "the other is released too", is_free).await;
    assert_eq!(stranger(two).await, 200, "who lets go of a rule does not enforce it");
    pair.stop().await;
}

/// What the metrics say of the modes: which belief, and how old it is in seconds.
async fn believed(gateway: &Gateway) -> (&'static str, f64) {
    let mut believed = Vec::new();
    for word in ["fresh", "last_known", "snapshot", "config_default"] {
        let series = format!("seaworthy_modes_belief{{belief=\"{word}\"}}");
        match metric(gateway.console, &series).await {
            Some(1.0) => believed.push(word),
            other => assert_eq!(other, Some(0.0), "{series}"),
        }
    }
    let [belief] = believed[..] else { panic!("it believes {believed:?}") };
    let age_s = metric(gateway.console, "seaworthy_modes_age_seconds").await;
    (belief, age_s.expect("a gateway of a fleet says how old its belief is"))
}

#[tokio::test]
async fn modes_stand_without_redis_and_meet_again_with_it() {
    let mut pair = Pair::start("1s").await;
    for gateway in [&pair.one, &pair.two] {
        let (belief, age_s) = believed(gateway).await;
        assert_eq!((belief, age_s >= 0.0), ("fresh", true), "{age_s}");
    }
    for rule in [HOSTS, "csrf"] {
        set(pair.one.console, rule, "enforce").await;
        until_stands(pair.two.console, rule, "both enforce it", is_at("enforce")).await;
    }

    pair.redis.kill();
    let (one, two) = (&pair.one, &pair.two);
    for gateway in [one, two] {
        until_ready(gateway.console, "the modes are those of last_known").await;
        assert_eq!(stranger(gateway).await, 421);
        let (belief, age_s) = believed(gateway).await;
        assert_eq!(belief, "last_known");
        // Nothing makes what was last known younger but Redis.
        let (_, later_s) = believed(gateway).await;
        assert!(later_s > age_s, "{age_s}, then {later_s}");
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
        assert_eq!(believed(gateway).await.0, "fresh");
        assert_eq!(stranger(gateway).await, 200);
        assert!(is_held_by_an_alert(&standing(gateway.console, HOSTS).await));
        assert!(is_at("enforce")(&standing(gateway.console, "csrf").await));
    }
    pair.stop().await;
}

#[tokio::test]
async fn exactly_one_leads_and_the_other_does_once_it_is_gone() {
    let pair = Pair::start("1s").await;
    let (_redis, [(leader, _), (other, _)]) = pair.leader_first().await;
    leader.stop().await;
    until("the other leads", async || {
        metric(other.console, "seaworthy_modes_leader").await.filter(|leads| *leads == 1.0)
    })
    .await;
    other.stop().await;
}

/// Gates that a second of traffic passes, and one step.
fn eager(config: &str) -> String {
    let mut config = config.to_owned();
    for (patient, eager) in [
        ("p0 = \"2%\"", "p0 = \"20%\""),
        ("green_minutes = 10", "green_minutes = 1"),
        ("[rollout]\n", "[rollout]\nsteps = [\"100%\"]\n"),
    ] {
        assert!(config.contains(patient), "the demo's config has no {patient:?} any more");
        config = config.replace(patient, eager);
    }
    config
}

/// Sends requests of several clients that the rule allows to `gateway` until it stands as it
/// should.
async fn until_judged(
    gateway: &Gateway,
    what: &str,
    is_so: impl Fn(&RuleStanding) -> bool,
) -> RuleStanding {
    until(what, async || {
        for client in 0..16 {
            let status = visit(gateway.traffic, "a", Some(&format!("client-{client}"))).await;
            assert_eq!(status, 200);
        }
        Some(standing(gateway.console, HOSTS).await).filter(&is_so)
    })
    .await
}

fn promotions(dir: &Path) -> Vec<(Value, Value)> {
    let promoted = leaves(dir).into_iter().filter(|leaf| leaf["action"] == "mode.promote");
    promoted.map(|leaf| (leaf["actor"].clone(), leaf["target"].clone())).collect()
}

#[tokio::test]
async fn only_the_leader_promotes_on_evidence_and_all_have_the_mode() {
    let pair = Pair::start_with("1s", eager).await;
    let (_redis, [(leader, leaders), (other, others)]) = pair.leader_first().await;

    // What does not lead has all the evidence that a promotion needs, and leaves it at that.
    let passed = until_judged(&other, "every gate passes where nobody leads", |standing| {
        standing.current.stay.is_none() || !is_at("warn")(standing)
    })
    .await;
    assert!(is_at("warn")(&passed), "it promoted a rule without leading: {:?}", passed.current);
    let words = passed.current.waits_for.unwrap_or_default();
    assert!(words.contains("leads the fleet"), "{words:?}");

    until_judged(&leader, "the leader promotes", is_at("enforce")).await;
    until_stands(other.console, HOSTS, "the other has it, too", is_at("enforce")).await;
    for gateway in [&leader, &other] {
        assert_eq!(stranger(gateway).await, 421);
    }
    leader.stop().await;
    other.stop().await;
    let by_the_gateway = (Value::from("gateway"), Value::from(HOSTS));
    assert!(promotions(leaders.path()).contains(&by_the_gateway));
    assert_eq!(promotions(others.path()), [], "who does not lead promotes nothing");
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
    until_ready(one.console, "the modes are those of snapshot").await;
    assert_eq!(believed(&one).await.0, "snapshot");
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

impl Pair {
    /// Two that enforce host a for all, and whose configs say b since.
    async fn edited() -> Self {
        let pair = Self::start("1s").await;
        set(pair.one.console, HOSTS, "enforce").await;
        until_stands(pair.two.console, HOSTS, "both enforce it", is_at("enforce")).await;
        for (gateway, dir) in [(&pair.one, &pair.dirs[0]), (&pair.two, &pair.dirs[1])] {
            configure_member(dir.path(), &pair.redis, "1s", "b");
            let beside = next_is_at("warn");
            until_stands(gateway.console, HOSTS, "the edit is judged", beside).await;
        }
        pair
    }
}

#[tokio::test]
async fn the_steps_of_the_next_version_are_those_of_all() {
    let pair = Pair::edited().await;
    let (one, two) = (&pair.one, &pair.two);
    for step in ["enforce 10%", "enforce 50%"] {
        ask(one.console, HOSTS, Command::Promote { epoch: None })
            .await
            .expect("there is a step above");
        let there = until_stands(two.console, HOSTS, "the same step", next_is_at(step)).await;
        assert!(is_at("enforce")(&there), "the present one stays: {:?}", there.current);
    }

    // Whoever demotes the rule at one means both of its versions, everywhere.
    ask(two.console, HOSTS, Command::Demote {}).await.expect("a rule can always fall");
    for gateway in [one, two] {
        until_stands(gateway.console, HOSTS, "nobody is denied by either", is_at("warn")).await;
        assert_eq!(visit(gateway.traffic, "a", None).await, 200);
        assert_eq!(visit(gateway.traffic, "b", None).await, 200);
    }
    pair.stop().await;
}

#[tokio::test]
async fn an_edit_that_comes_later_takes_up_the_steps_that_its_version_has_made() {
    let pair = Pair::start("1s").await;
    let (one, two) = (&pair.one, &pair.two);
    set(one.console, HOSTS, "enforce").await;
    until_stands(two.console, HOSTS, "both enforce it", is_at("enforce")).await;
    configure_member(pair.dirs[0].path(), &pair.redis, "1s", "b");
    until_stands(one.console, HOSTS, "the edit is judged", next_is_at("warn")).await;
    ask(one.console, HOSTS, Command::Promote { epoch: None }).await.expect("there is a step above");
    configure_member(pair.dirs[1].path(), &pair.redis, "1s", "b");
    until_stands(two.console, HOSTS, "it has the step, too", next_is_at("enforce 10%")).await;
    pair.stop().await;
}

/// An alert means the rule and both of its versions, whichever gateway it reaches. What the other
/// has in force is the present version, and what the fleet is told of is the next one, which has
/// taken its place.
#[tokio::test]
async fn an_alert_demotes_both_versions_everywhere() {
    let pair = Pair::edited().await;
    fire(pair.one.console, HOSTS).await;
    for gateway in [&pair.one, &pair.two] {
        until_stands(gateway.console, HOSTS, "it is held", is_held_by_an_alert).await;
        for host in ["a", "b"] {
            assert_eq!(visit(gateway.traffic, host, None).await, 200, "{host}");
        }
    }
    pair.stop().await;
}

/// The same where one gateway has not read the new config yet.
#[tokio::test]
async fn an_alert_demotes_whatever_version_a_gateway_has() {
    let pair = Pair::start("1s").await;
    let (one, two) = (&pair.one, &pair.two);
    set(one.console, HOSTS, "enforce").await;
    until_stands(two.console, HOSTS, "both enforce it", is_at("enforce")).await;
    configure_member(pair.dirs[0].path(), &pair.redis, "1s", "b");
    until_stands(one.console, HOSTS, "the edit is judged", next_is_at("warn")).await;
    fire(one.console, HOSTS).await;
    until_stands(two.console, HOSTS, "the other falls, too", is_held_by_an_alert).await;
    assert_eq!((stranger(one).await, stranger(two).await), (200, 200));
    pair.stop().await;
}

fn is_free(standing: &RuleStanding) -> bool {
    !matches!(&standing.current.stay, Some(Stay::Held { .. }))
}

#[tokio::test]
async fn what_an_operator_holds_at_one_is_held_at_all() {
    let pair = Pair::start("1h").await;
    let (one, two) = (&pair.one, &pair.two);
    let until_unix_ms = i64::try_from(now_unix_ms()).expect("a time") + 3_600_000;
    for (until_unix_ms, mode) in [(None, "warn"), (Some(until_unix_ms), "enforce 10%")] {
        set(one.console, HOSTS, mode).await;
        until_stands(two.console, HOSTS, "the same mode", is_at(mode)).await;
        let done = ask(one.console, HOSTS, Command::Hold { until_unix_ms }).await;
        done.expect("a rule can always be held");
        let held = until_stands(two.console, HOSTS, "it is held there, too", |standing| {
            let Some(Stay::Held { until_unix_ms: until, why }) = &standing.current.stay else {
                return false;
            };
            *until == until_unix_ms && why.starts_with("in the fleet: ")
        })
        .await;
        assert!(is_at(mode)(&held), "a hold moves nothing: {:?}", held.current);
        ask(two.console, HOSTS, Command::Release {}).await.expect("it is held");
        let freed = until_stands(one.console, HOSTS, "released at one, it is at all", is_free);
        assert!(is_at(mode)(&freed.await), "nor does its end");
    }
    pair.stop().await;
}

/// Who sets a mode has looked: it clears what an alert has held, wherever that is.
#[tokio::test]
async fn a_mode_that_is_set_after_an_alert_is_that_of_all() {
    let pair = Pair::start("1h").await;
    let (one, two) = (&pair.one, &pair.two);
    set(one.console, HOSTS, "enforce").await;
    until_stands(two.console, HOSTS, "both enforce it", is_at("enforce")).await;
    fire(two.console, HOSTS).await;
    until_stands(one.console, HOSTS, "both hold it", is_held_by_an_alert).await;
    set(one.console, HOSTS, "enforce").await;
    let there = until_stands(two.console, HOSTS, "the other enforces it", is_at("enforce")).await;
    assert!(is_free(&there), "{:?}", there.current);
    assert_eq!((stranger(one).await, stranger(two).await), (421, 421));
    pair.stop().await;
}
