//! A rule whose settings are edited while it is enforced: the version that has earned its mode goes
//! on, and the new one is judged beside it until it has earned as much.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use seaworthy_console::control::{Command, RuleStanding, VersionStanding};
use seaworthy_policy::mode::Mode;
use seaworthy_store::ledger::LedgerReader;
use serde_json::{Value, json};

use super::{HOSTS, configure, fast, fast_for};
use crate::audit::{audit, leaves, said};
use crate::harness::ask::{get, until};
use crate::harness::tls::Authority;
use crate::harness::{Gateway, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{ask, harm, set, standing, standings, until_stands, visit};

fn mode(text: &str) -> Mode {
    text.parse().expect("it is a mode")
}

/// What the hosts `a` and `b` get, by somebody who is in no share below all.
async fn statuses(traffic: SocketAddr) -> [u16; 2] {
    [visit(traffic, "a", None).await, visit(traffic, "b", None).await]
}

const OLD: [u16; 2] = [200, 421];
const NEW: [u16; 2] = [421, 200];

/// What stays as it is where nothing has happened to a version.
fn place(version: &VersionStanding) -> (u32, &str, Mode, u64, i64, u32) {
    let VersionStanding { version, policy, mode, epoch, window_unix_ms, attempt, .. } = version;
    (*version, policy, *mode, *epoch, *window_unix_ms, *attempt)
}

fn has_next(standing: &RuleStanding) -> bool {
    standing.next.is_some()
}

/// A gateway that enforces host a for all, and whose config says b since.
async fn edited(dir: &Path) -> (Gateway, RuleStanding) {
    configure(dir, &fast_for("a"));
    let gateway = Gateway::start(serve(dir, service().await)).await;
    let enforced = set(gateway.console, HOSTS, "enforce").await;
    assert!(enforced.durable, "{enforced:?}");
    configure(dir, &fast_for("b"));
    let beside =
        until_stands(gateway.console, HOSTS, "the edit is judged beside it", has_next).await;
    assert_eq!(place(&beside.current), place(&enforced.standing.current));
    (gateway, beside)
}

#[tokio::test]
async fn an_edit_is_judged_beside_what_is_enforced_until_it_has_earned_its_place() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let (traffic, console) = (gateway.traffic, gateway.console);
    set(console, HOSTS, "enforce").await;
    assert_eq!(statuses(traffic).await, OLD);
    let (old, other) = (standing(console, HOSTS).await, standing(console, "csrf").await);
    assert_eq!((old.current.version, old.current.mode), (1, mode("enforce")));

    // What the edit would break is seen, and nothing of it is denied.
    configure(dir.path(), &fast_for("b"));
    let judged = until("the new version has evidence of its own", async || {
        assert_eq!(statuses(traffic).await, OLD);
        visit(traffic, "a", Some("somebody")).await;
        let now = standing(console, HOSTS).await;
        now.next.as_ref().is_some_and(|next| harm(next).0 > 0).then_some(now)
    })
    .await;
    let next = judged.next.expect("it was there");
    assert_eq!((next.version, next.mode), (2, Mode::Warn));
    assert_ne!(next.policy, old.current.policy);
    assert_eq!(harm(&judged.current).0, 0, "what is enforced has harmed nobody");
    assert_eq!(place(&judged.current), place(&old.current));
    let other_now = standing(console, "csrf").await;
    assert_eq!((place(&other_now.current), other_now.next), (place(&other.current), None));

    // Taken back, there is nothing to be judged any more.
    configure(dir.path(), &fast_for("a"));
    let back = until_stands(console, HOSTS, "the edit is gone", |now| !has_next(now)).await;
    assert_eq!(place(&back.current), place(&old.current));
    assert_eq!(statuses(traffic).await, OLD);

    // Step by step to the share of the present one, whose place it takes then. It is another try, and
    // another number.
    configure(dir.path(), &fast_for("b"));
    until_stands(console, HOSTS, "the edit is judged again", has_next).await;
    for step in ["enforce 10%", "enforce 50%"] {
        let done = ask(console, HOSTS, Command::Promote { epoch: None })
            .await
            .expect("there is a step above");
        let (current, next) = (done.standing.current, done.standing.next.expect("it is beside"));
        assert_eq!((current.version, current.mode), (1, mode("enforce")));
        assert_eq!((next.version, next.mode), (3, mode(step)));
        assert_eq!(statuses(traffic).await, OLD, "nobody is in no share");
    }
    let done =
        ask(console, HOSTS, Command::Promote { epoch: None }).await.expect("there is a step above");
    let current = done.standing.current;
    assert_eq!((current.version, current.mode), (3, mode("enforce")), "{current:?}");
    assert_eq!((current.policy, done.standing.next), (next.policy, None));
    assert_eq!(statuses(traffic).await, NEW);

    gateway.stop().await;
    let (code, text) = said(&audit(dir.path(), &["verify"]));
    assert_eq!(code, Some(0), "{text}");
    let moves: Vec<_> = leaves(dir.path())
        .into_iter()
        .filter(|leaf| leaf["target"] == HOSTS && leaf["actor"] == "operator:ada")
        .map(|leaf| {
            (
                leaf["action"].clone(),
                leaf["after"]["version"].clone(),
                leaf["after"]["mode"].clone(),
            )
        })
        .collect();
    let expected = [
        ("mode.set", 1, "enforce"),
        ("mode.promote", 3, "enforce 10%"),
        ("mode.promote", 3, "enforce 50%"),
        ("mode.promote", 3, "enforce"),
    ];
    let expected = expected.map(|(action, version, mode)| {
        (Value::from(action), Value::from(version), Value::from(mode))
    });
    assert_eq!(moves, expected);
}

#[tokio::test]
async fn the_log_says_of_an_edit_which_version_comes_and_goes_and_not_that_the_mode_falls() {
    let dir = folder();
    let (gateway, _) = edited(dir.path()).await;
    for host in ["a", "c"] {
        configure(dir.path(), &fast_for(host));
        let what = "the edit is taken up";
        until_stands(gateway.console, HOSTS, what, |now| has_next(now) == (host == "c")).await;
    }
    gateway.stop().await;
    let of_config = leaves(dir.path())
        .into_iter()
        .filter(|leaf| leaf["target"] == HOSTS && leaf["actor"] == "gateway");
    let place =
        |side: &Value| side.is_object().then(|| (side["version"].clone(), side["mode"].clone()));
    let said: Vec<_> = of_config
        .map(|leaf| (place(&leaf["before"]), place(&leaf["after"]), leaf["reason"].clone()))
        .collect();
    let warn = |version: u32| Some((json!(version), json!("warn")));
    let stays = Some((json!(1), json!("enforce")));
    assert_eq!(
        said,
        [
            (None, warn(2), json!("version 2 is judged beside version 1, which stays in force")),
            (stays.clone(), stays, json!("version 2 was taken back: version 1 stays")),
            (None, warn(3), json!("version 3 is judged beside version 1, which stays in force")),
        ]
    );
}

#[tokio::test]
async fn a_take_over_that_cannot_be_compiled_is_tried_again() {
    let dir = folder();
    let authority = Authority::new();
    let [ca, aside] = ["ca.pem", "aside.pem"].map(|name| dir.path().join(name));
    fs::copy(authority.ca(), &ca).unwrap();
    let config = |host| format!("{}\n[service]\nca = \"ca.pem\"\n", fast_for(host));
    configure(dir.path(), &config("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let console = gateway.console;
    set(console, HOSTS, "enforce").await;
    configure(dir.path(), &config("b"));
    until_stands(console, HOSTS, "the edit is judged beside it", has_next).await;
    fs::rename(&ca, &aside).unwrap();
    for _ in 0..3 {
        let promote = Command::Promote { epoch: None };
        ask(console, HOSTS, promote).await.expect("there is a step above");
    }
    gateway.process.says("a rule's next version is in force beside the old one: ").await;
    assert_eq!(statuses(gateway.traffic).await, NEW);
    // It is the same file as before: nothing of the config has changed.
    fs::rename(&aside, &ca).unwrap();
    let ledger = LedgerReader::open_read_only(&dir.path().join("seaworthy-data")).unwrap();
    until("what it judges by is written down", async || {
        let all = ledger.standings().unwrap();
        let (_, standing) = all.into_iter().find(|(rule, _)| rule == HOSTS)?;
        (standing.settings["hosts"] == json!(["b.example"])).then_some(())
    })
    .await;
    assert_eq!(statuses(gateway.traffic).await, NEW);
    gateway.stop().await;
    let reloads = leaves(dir.path()).into_iter().filter(|leaf| leaf["action"] == "config.reload");
    assert_eq!(reloads.count(), 1, "but for the edit the config was not read again");
}

#[tokio::test]
async fn a_version_that_took_over_is_in_force_after_a_kill() {
    let dir = folder();
    let (gateway, beside) = edited(dir.path()).await;
    for _ in 0..3 {
        ask(gateway.console, HOSTS, Command::Promote { epoch: None })
            .await
            .expect("there is a step above");
    }
    gateway.kill().await;
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let now = standing(gateway.console, HOSTS).await;
    let next = beside.next.expect("it was beside");
    assert_eq!((&now.current.policy, now.current.mode), (&next.policy, mode("enforce")));
    assert_eq!((now.current.version, now.next), (2, None));
    assert_eq!(statuses(gateway.traffic).await, NEW);
    gateway.stop().await;
}

#[tokio::test]
async fn a_restart_in_the_middle_leaves_the_old_version_enforced_and_the_new_one_beside_it() {
    let dir = folder();
    let (gateway, _) = edited(dir.path()).await;
    let done = ask(gateway.console, HOSTS, Command::Promote { epoch: None })
        .await
        .expect("there is a step above");
    let before = done.standing;
    let next = before.next.as_ref().expect("it is beside");
    assert_eq!((next.version, next.mode), (2, mode("enforce 10%")));
    gateway.stop().await;

    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let after = standing(gateway.console, HOSTS).await;
    assert_eq!(place(&after.current), place(&before.current));
    assert_eq!(after.next.as_ref().map(place), Some(place(next)));
    assert_eq!(statuses(gateway.traffic).await, OLD);
    gateway.stop().await;
}

#[tokio::test]
async fn an_edit_while_the_gateway_is_down_takes_nothing_from_what_is_enforced() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let before = set(gateway.console, HOSTS, "enforce").await.standing;
    gateway.stop().await;

    configure(dir.path(), &fast_for("b"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let after = standing(gateway.console, HOSTS).await;
    assert_eq!(place(&after.current), place(&before.current));
    let next = after.next.expect("what the config says is beside it");
    assert_eq!((next.version, next.mode), (2, Mode::Warn));
    assert_eq!(statuses(gateway.traffic).await, OLD);
    gateway.stop().await;
}

#[tokio::test]
async fn a_version_that_took_over_outlasts_the_next_edit() {
    let dir = folder();
    let (gateway, _) = edited(dir.path()).await;
    for _ in 0..3 {
        ask(gateway.console, HOSTS, Command::Promote { epoch: None })
            .await
            .expect("there is a step above");
    }
    let ledger = LedgerReader::open_read_only(&dir.path().join("seaworthy-data")).unwrap();
    until("what it judges by is written down", async || {
        let all = ledger.standings().unwrap();
        let (_, standing) = all.into_iter().find(|(rule, _)| rule == HOSTS)?;
        (standing.settings["hosts"] == json!(["b.example"])).then_some(())
    })
    .await;
    let before = standing(gateway.console, HOSTS).await;
    gateway.stop().await;

    configure(dir.path(), &fast_for("c"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let after = standing(gateway.console, HOSTS).await;
    assert_eq!(place(&after.current), place(&before.current));
    assert_eq!(after.next.map(|next| (next.version, next.mode)), Some((3, Mode::Warn)));
    assert_eq!(statuses(gateway.traffic).await, NEW);
    gateway.stop().await;
}

/// A document of two operations, with the type of a parameter of each.
fn document(types: [&str; 2]) -> String {
    let operation = |path, kind| {
        format!(
            "  {path}:\n    get:\n      parameters:\n        - {{ name: n, in: query, schema: \
             {{ type: {kind} }} }}\n      responses: {{ \"200\": {{ description: ok }} }}\n"
        )
    };
    let [a, b] = types;
    format!(
        "openapi: 3.1.0\ninfo: {{ title: t, version: \"1\" }}\npaths:\n{}{}",
        operation("/a", a),
        operation("/b", b)
    )
}

#[tokio::test]
async fn an_edit_of_one_operation_is_a_new_version_of_its_rule_alone() {
    const A: &str = "request_schema@GET /a";
    const B: &str = "request_schema@GET /b";
    let dir = folder();
    let write = |types| fs::write(dir.path().join("api.yaml"), document(types)).unwrap();
    write(["integer", "integer"]);
    let openapi = "[protect.request_schema]\nopenapi = \"file:api.yaml\"\n";
    configure(dir.path(), &format!("{}\n{openapi}", fast()));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let (traffic, console) = (gateway.traffic, gateway.console);
    let is_denied = async |path: &str| get(traffic, path, &[]).await.statuses() != [200];
    for rule in [A, B] {
        set(console, rule, "enforce").await;
    }
    let before = standings(console).await;
    assert!(is_denied("/a?n=x").await && is_denied("/b?n=x").await);

    write(["string", "integer"]);
    until_stands(console, A, "the edit is judged beside it", has_next).await;
    assert!(is_denied("/a?n=x").await && is_denied("/b?n=x").await);
    let after = standings(console).await;
    let changed: Vec<_> = before
        .iter()
        .zip(&after)
        // The service's own rule is of what the document does not mention, and made from all of it.
        .filter(|(was, _)| was.rule != "request_schema")
        .filter(|(was, now)| place(&was.current) != place(&now.current) || has_next(now))
        .map(|(_, now)| now.rule.as_str())
        .collect();
    assert_eq!(changed, [A]);
    assert_eq!(before.len(), after.len());
    gateway.stop().await;

    // What was enforced was made of a document that is not there any more: nothing else has earned
    // to be enforced in its place.
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let [a, b] = [standing(gateway.console, A).await, standing(gateway.console, B).await];
    assert_eq!((a.current.version, a.current.mode, a.next), (2, Mode::Warn, None));
    assert_eq!((b.current.version, b.current.mode, b.next), (1, mode("enforce"), None));
    gateway.stop().await;
}
