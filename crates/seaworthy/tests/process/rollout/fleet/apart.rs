//! Gateways of a fleet that were away, or have another config, while the others went on.

use seaworthy_console::control::{Command, RuleStanding};
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::mode::ModeSetting;
use seaworthy_store::ledger::LedgerReader;
use serde_json::Value;

use super::{
    HOSTS, Pair, config_of, configure, configure_member, eager, is_at, is_free,
    is_held_by_an_alert, joined, stranger, until_judged, until_ready,
};
use crate::harness::ask::until;
use crate::lifecycle::service;
use crate::operator::{ask, fire, harm, set, standing, until_stands, visit};

/// Whatever has been done since a rule was released, one that was away comes back to it.
#[tokio::test]
async fn a_release_that_a_gateway_has_missed_is_one() {
    for alerted_away in [false, true] {
        let Pair { redis: _redis, one, two, dirs } = Pair::start("1s").await;
        set(one.console, HOSTS, "enforce").await;
        until_stands(two.console, HOSTS, "both enforce it", is_at("enforce")).await;
        let (alerted, other) = if alerted_away { (&two, &one) } else { (&one, &two) };
        fire(alerted.console, HOSTS).await;
        until_stands(other.console, HOSTS, "both hold it", is_held_by_an_alert).await;
        two.stop().await;
        set(one.console, HOSTS, "enforce 10%").await;
        ask(one.console, HOSTS, Command::Promote { epoch: None })
            .await
            .expect("there is a step above");

        let two = joined(dirs[1].path(), service().await).await;
        let there = until_stands(two.console, HOSTS, "it has climbed", is_at("enforce 50%")).await;
        assert!(is_free(&there), "{:?}", there.current);
        assert!(is_at("enforce 50%")(&standing(one.console, HOSTS).await), "and nobody falls");
        one.stop().await;
        two.stop().await;
    }
}

/// Nobody can have released what nobody else has heard of. It is remembered over a restart.
#[tokio::test]
async fn an_alert_that_the_fleet_has_never_had_holds_after_all() {
    let mut pair = Pair::start("1s").await;
    set(pair.one.console, HOSTS, "enforce").await;
    until_stands(pair.two.console, HOSTS, "both enforce it", is_at("enforce")).await;
    pair.redis.kill();
    fire(pair.two.console, HOSTS).await;
    let Pair { mut redis, one, two, dirs } = pair;
    two.stop().await;
    redis.restart().await;
    until_ready(one.console, "agrees with the fleet").await;
    // The others have the larger epoch by far.
    for mode in ["warn", "enforce 10%", "enforce 50%"] {
        set(one.console, HOSTS, mode).await;
    }

    let two = joined(dirs[1].path(), service().await).await;
    for gateway in [&one, &two] {
        until_stands(gateway.console, HOSTS, "the alert is heard", is_held_by_an_alert).await;
        assert_eq!(stranger(gateway).await, 200);
    }
    one.stop().await;
    two.stop().await;
}

/// The demo's rollout, where a fall holds for a moment.
fn forgiving(config: &str) -> String {
    let eager = eager(config);
    let config = eager.replace("hold_after_fall = \"1h\"", "hold_after_fall = \"1s\"");
    assert_ne!(config, eager, "the demo holds otherwise");
    config
}

#[tokio::test]
async fn a_rule_that_has_fallen_climbs_again_everywhere() {
    let pair = Pair::start_with("1s", forgiving).await;
    let (_redis, [(leader, _), (other, _)]) = pair.leader_first().await;
    set(leader.console, HOSTS, "enforce").await;
    until_stands(other.console, HOSTS, "both enforce it", is_at("enforce")).await;
    ask(leader.console, HOSTS, Command::Demote {}).await.expect("a rule can always fall");
    until_stands(other.console, HOSTS, "both fall", is_at("warn")).await;

    until_judged(&leader, "it has earned its step again", is_at("enforce")).await;
    let there = until_stands(other.console, HOSTS, "there, too", is_at("enforce")).await;
    let why = there.current.why;
    assert!(why.starts_with("in the fleet: every gate passed"), "it is told as no fall: {why}");
    for gateway in [&leader, &other] {
        assert_eq!(stranger(gateway).await, 421);
    }
    leader.stop().await;
    other.stop().await;
}

impl Pair {
    /// Gives the second another config: by which `host` is right, and with which mode.
    fn configure_two(&self, host: &str, mode: &str) {
        let config = config_of(&self.redis, "1s", host);
        let pinned = config.replace(
            "[protect.host_allowlist]\n",
            &format!("[protect.host_allowlist]\nmode = \"{mode}\"\n"),
        );
        assert_ne!(pinned, config, "the rule has its table");
        configure(self.dirs[1].path(), &pinned);
    }

    /// Waits until the second judges by another policy than `before`.
    async fn until_two_judges_anew(&self, before: &str) -> String {
        let is_other = |standing: &RuleStanding| standing.current.policy != before;
        let now = until_stands(self.two.console, HOSTS, "it has the config", is_other).await;
        now.current.policy
    }
}

#[tokio::test]
async fn a_version_in_force_elsewhere_is_taken_up_by_an_edit_that_comes_later() {
    for mode in ["warn", "enforce"] {
        let pair = Pair::start("1s").await;
        let (one, two) = (&pair.one, &pair.two);
        set(one.console, HOSTS, mode).await;
        until_stands(two.console, HOSTS, "the same mode", is_at(mode)).await;
        let before = standing(one.console, HOSTS).await.current.policy;
        configure_member(pair.dirs[0].path(), &pair.redis, "1s", "b");
        until_stands(one.console, HOSTS, "it has the edit", |now| {
            now.next.is_some() || now.current.policy != before
        })
        .await;
        let took_over = |now: &RuleStanding| {
            now.current.policy != before && now.next.is_none() && is_at("enforce")(now)
        };
        for _ in 0..3 {
            ask(one.console, HOSTS, Command::Promote { epoch: None })
                .await
                .expect("there is a step above");
        }
        until_stands(one.console, HOSTS, "the edit is in force", took_over).await;

        configure_member(pair.dirs[1].path(), &pair.redis, "1s", "b");
        until_stands(two.console, HOSTS, "it is in force there, too", took_over).await;
        let there = standing(one.console, HOSTS).await;
        assert!(took_over(&there), "who comes later moves nobody: {:?}", there.current);
        for gateway in [one, two] {
            assert_eq!(visit(gateway.traffic, "a", None).await, 421);
        }
        pair.stop().await;
    }
}

#[tokio::test]
async fn an_edit_that_is_taken_back_moves_nobody() {
    let pair = Pair::start("1s").await;
    let (one, two) = (&pair.one, &pair.two);
    let first = standing(two.console, HOSTS).await.current.policy;
    pair.configure_two("b", "auto");
    let second = pair.until_two_judges_anew(&first).await;
    set(one.console, HOSTS, "enforce").await;
    // Whatever it tries, the others have what they have.
    pair.configure_two("c", "auto");
    pair.until_two_judges_anew(&second).await;
    pair.configure_two("a", "auto");
    until_stands(two.console, HOSTS, "it enforces what they do", is_at("enforce")).await;
    assert_eq!((stranger(one).await, stranger(two).await), (421, 421));
    pair.stop().await;
}

#[tokio::test]
async fn a_rule_that_a_file_pins_is_where_the_others_are_once_it_does_not() {
    let pair = Pair::start("1s").await;
    let (one, two) = (&pair.one, &pair.two);
    let is_pinned = |standing: &RuleStanding| standing.setting != ModeSetting::Auto;
    pair.configure_two("a", "warn");
    until_stands(two.console, HOSTS, "it is pinned", is_pinned).await;
    set(one.console, HOSTS, "enforce").await;
    set(one.console, "csrf", "enforce").await;
    until_stands(two.console, "csrf", "it has heard of both", is_at("enforce")).await;
    assert_eq!((stranger(one).await, stranger(two).await), (421, 200), "the file is the truth");
    pair.configure_two("a", "auto");
    until_stands(two.console, HOSTS, "it enforces it, too", is_at("enforce")).await;
    assert_eq!((stranger(one).await, stranger(two).await), (421, 421));

    pair.configure_two("a", "warn");
    until_stands(one.console, HOSTS, "the pin takes it off its step", is_at("warn")).await;
    assert_eq!((stranger(one).await, stranger(two).await), (200, 200));
    pair.stop().await;
}

/// What the alarms and the calibration compare with is of each gateway's own traffic.
#[tokio::test]
async fn what_a_rule_was_like_is_kept_where_the_fleet_enforces_it() {
    let pair = Pair::start("1s").await;
    let (one, two) = (&pair.one, &pair.two);
    until("its traffic is counted", async || {
        visit(two.traffic, "b", Some("somebody")).await;
        Some(harm(&standing(two.console, HOSTS).await.current)).filter(|harm| harm.1 >= 3)
    })
    .await;
    set(one.console, HOSTS, "enforce 10%").await;
    let there = until_stands(two.console, HOSTS, "both enforce it", is_at("enforce 10%")).await;
    let Pair { one, two, dirs, redis: _redis } = pair;
    two.kill().await;
    one.stop().await;
    let ledger = LedgerReader::open_read_only(&dirs[1].path().join("seaworthy-data")).unwrap();
    let befores: Vec<(String, Lane, Value)> = ledger.befores().unwrap();
    let known = befores.iter().find(|(rule, _, _)| rule == HOSTS);
    let (_, lane, before) = known.expect("what it was like is written down");
    assert_eq!((*lane, &before["policy"]), (Lane::Current, &there.current.policy.into()));
    assert_eq!(before["by_client"].as_object().expect("clients").len(), 1, "{before}");
}
