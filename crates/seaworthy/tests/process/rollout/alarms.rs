//! Alarms: what has just broken takes a rule to `warn` at once, and leaves a receipt that anyone can
//! decide again.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use seaworthy_policy::gates::alarm::{Against, Evidence};
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::{Receipt, Stay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::restart::until_counted_from;
use super::{HOSTS, configure, fast_for, serving};
use crate::audit::{audit, leaves, said};
use crate::harness::client::exchange;
use crate::harness::{Gateway, seaworthy, serve};
use crate::lifecycle::{folder, service};
use crate::operator::{harm, now_unix_ms, set, standing, until_stands};

/// Requests that make a client known; the default asks for 20.
const KNOWN: usize = 25;

/// A rollout in which nothing climbs by itself, and host `a` is the right one.
fn manual() -> String {
    let fast = fast_for("a");
    let ours = fast.replace("[rollout]", "[rollout]\napproval = \"manual\"");
    assert_ne!(ours, fast, "the demo has no section of the rollout");
    ours
}

/// What a client gets for `path` of a host.
async fn call(gateway: &Gateway, client: usize, host: &str, path: &str) -> u16 {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}.example\r\nConnection: close\r\n\
         Authorization: Bearer client {client}\r\n\r\n"
    );
    let reply = exchange(gateway.traffic, request.as_bytes(), 0).await;
    let [status] = reply.statuses()[..] else { panic!("{reply:?}") };
    status
}

/// A service that fails at `/fail`, and answers all else.
async fn failing() -> SocketAddr {
    serving(answer).await
}

async fn answer(mut stream: TcpStream) {
    let mut read = Vec::new();
    while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
        if !read.ends_with(b"\r\n\r\n") {
            continue;
        }
        let status = if read.starts_with(b"GET /fail ") { "500 Broken" } else { "200 OK" };
        read.clear();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Has `clients` call what is right, each so often, and waits until `warn` has it in its evidence.
async fn get_known(gateway: &Gateway, clients: usize) {
    let before = standing(gateway.console, HOSTS).await.current;
    until_counted_from(before.window_unix_ms).await;
    for client in (0..KNOWN).flat_map(|_| 0..clients) {
        assert_eq!(call(gateway, client, "a", "/").await, 200);
    }
    let all = harm(&before).1 + (KNOWN * clients) as u64;
    until_stands(gateway.console, HOSTS, "all are counted", |now| harm(&now.current).1 == all)
        .await;
}

/// Waits until the rule has fallen, and looks at all that there is to be seen of it: what is in
/// force, why, the log, and the receipt, which is returned.
async fn fallen(dir: &Path, gateway: Gateway, sentence: &str) -> Receipt {
    let is_warn = |mode| mode == Mode::Warn;
    let now =
        until_stands(gateway.console, HOSTS, "it falls", |now| is_warn(now.current.mode)).await;
    assert!(now.current.why.starts_with(sentence), "{now:?}");
    assert!(
        matches!(&now.current.stay, Some(Stay::Held { until_unix_ms: Some(_), why })
            if *why == now.current.why),
        "{now:?}"
    );
    assert_eq!(call(&gateway, 0, "b", "/").await, 200, "nobody is denied any more");
    gateway.stop().await;

    let (code, text) = said(&audit(dir, &["verify"]));
    assert_eq!(code, Some(0), "{text}");
    let moves: Vec<_> = leaves(dir)
        .into_iter()
        .filter(|leaf| leaf["target"] == HOSTS && leaf["actor"] == "gateway")
        .collect();
    let [leaf] = &moves[..] else { panic!("it fell once: {moves:?}") };
    assert_eq!((&leaf["action"], &leaf["after"]["mode"]), (&"mode.demote".into(), &"warn".into()));
    assert_eq!(leaf["reason"], now.current.why.as_str());

    let seq = leaf["seq"].to_string();
    let (code, text) =
        said(&seaworthy(dir, &["rollout", "receipt", &seq]).output().expect("the binary runs"));
    assert_eq!(code, Some(0), "{text}");
    let receipt = Receipt::read(text.as_bytes()).expect("it is a receipt");
    assert_eq!(
        (leaf["after"]["receipt"].as_str(), receipt.verify()),
        (Some(&*receipt.digest), Ok(()))
    );
    let alarm = receipt.alarm.as_ref().expect("an alarm went off");
    assert_eq!(alarm.sentence, now.current.why);

    // By the command, which finds out who has written another number and sealed it anew.
    fs::write(dir.join("right.json"), &text).expect("it is writable");
    let alarm = serde_json::to_string(&receipt.alarm).expect("it is plain data");
    let changed = alarm.replace("_needed\":", "_needed\":1");
    assert_ne!(changed, alarm);
    let alarm = serde_json::from_str(&changed).expect("it is an alarm");
    let wrong = Receipt { alarm, ..receipt.clone() }.seal();
    let wrong = serde_json::to_vec(&wrong).expect("it is plain data");
    fs::write(dir.join("wrong.json"), wrong).expect("it is writable");
    for (file, exit, words) in
        [("right.json", 0, ""), ("wrong.json", 1, "its numbers are those of another alarm")]
    {
        let verify = ["rollout", "verify", file];
        let (code, text) = said(&seaworthy(dir, &verify).output().expect("the binary runs"));
        assert_eq!(code, Some(exit), "{text}");
        assert!(text.contains(words), "{text}");
    }
    receipt
}

#[tokio::test]
async fn a_known_client_that_begins_to_break_is_named_and_served_again() {
    let dir = folder();
    configure(dir.path(), &manual());
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    get_known(&gateway, 3).await;
    set(gateway.console, HOSTS, "enforce").await;
    // A stranger is no evidence that anybody broke, and five denials of a client mean nothing yet.
    for _ in 0..20 {
        assert_eq!(call(&gateway, 99, "b", "/").await, 421);
    }
    for _ in 0..5 {
        assert_eq!(call(&gateway, 1, "b", "/").await, 421);
    }
    // Two more minutes, each a second, so that the five have been told of again and again.
    for _ in 0..2 {
        let now = i64::try_from(now_unix_ms()).expect("it is before the year 292277026");
        until_counted_from(now).await;
        assert_eq!(call(&gateway, 0, "a", "/").await, 200);
    }
    let now = standing(gateway.console, HOSTS).await;
    assert_eq!(now.current.mode, "enforce".parse().expect("it is a mode"), "{now:?}");

    for _ in 0..15 {
        call(&gateway, 1, "b", "/").await;
    }
    let receipt = fallen(dir.path(), gateway, "enforcing broke bearer:").await;
    let alarm = receipt.alarm.expect("it went off");
    let Evidence::Client { since, before, known_clients, .. } = alarm.evidence else {
        panic!("{alarm:?}")
    };
    assert_eq!((before.hits(), before.total(), known_clients), (0, KNOWN as u64, 3));
    // Each denial is counted once, however often a flush says that there was one in this tick.
    assert_eq!(since.hits(), since.total());
    assert!((6..=20).contains(&since.hits()), "{since:?}");
}

#[tokio::test]
async fn many_that_are_denied_a_little_are_told_by_what_warn_had_seen_before_a_restart() {
    let dir = folder();
    configure(dir.path(), &manual());
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    get_known(&gateway, 20).await;
    // Seen once more by those who know them: how many of them are denied in a flush, as a rule.
    get_known(&gateway, 20).await;
    gateway.stop().await;

    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    set(gateway.console, HOSTS, "enforce").await;
    // None of them has enough requests to be called broken.
    for client in (0..20).chain(0..20) {
        call(&gateway, client, "b", "/").await;
    }
    let sentence = "known clients are denied more often than warn predicted";
    let receipt = fallen(dir.path(), gateway, sentence).await;
    let alarm = receipt.alarm.expect("it went off");
    let Evidence::Denials { before, asks, asked_every } = alarm.evidence else {
        panic!("{alarm:?}")
    };
    assert_eq!((before.hits(), asked_every.to_string().as_str()), (0, "200ms"));
    assert!(before.total() >= 20, "{before:?}");
    let denied: u64 = asks.iter().map(|ask| ask.hits()).sum();
    assert!((1..=40).contains(&denied), "{asks:?}");
}

#[tokio::test]
async fn failures_of_the_enforced_above_the_control_take_the_rule_to_warn() {
    let dir = folder();
    configure(dir.path(), &manual());
    let gateway = Gateway::start(serve(dir.path(), failing().await)).await;
    set(gateway.console, HOSTS, "enforce 50%").await;
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for client in 0..24 {
        match call(&gateway, client, "b", "/").await {
            421 => inside.push(client),
            200 => outside.push(client),
            status => panic!("{status}"),
        }
    }
    for _ in 0..5 {
        for client in &outside {
            assert_eq!(call(&gateway, *client, "a", "/").await, 200);
        }
        for client in &inside {
            assert_eq!(call(&gateway, *client, "a", "/fail").await, 500);
        }
    }
    let sentence = "the service fails more often where the rule is enforced";
    let receipt = fallen(dir.path(), gateway, sentence).await;
    let alarm = receipt.alarm.expect("it went off");
    let Evidence::Errors { enforced, control, against, .. } = alarm.evidence else {
        panic!("{alarm:?}")
    };
    assert_eq!((against, control.hits()), (Against::Control, 0));
    assert!(enforced.hits() > 0 && enforced.hits() <= 5 * inside.len() as u64, "{enforced:?}");
    assert!(control.total() > 0 && control.total() <= 6 * outside.len() as u64, "{control:?}");
}

#[tokio::test]
async fn where_all_are_enforced_failures_are_compared_with_the_step_before() {
    let dir = folder();
    configure(dir.path(), &manual());
    let upstream = failing().await;
    let gateway = Gateway::start(serve(dir.path(), upstream)).await;
    get_known(&gateway, 4).await;
    gateway.stop().await;

    let gateway = Gateway::start(serve(dir.path(), upstream)).await;
    set(gateway.console, HOSTS, "enforce").await;
    for client in (0..15).flat_map(|_| 0..4) {
        assert_eq!(call(&gateway, client, "a", "/fail").await, 500);
    }
    let sentence = "the service fails more often where the rule is enforced";
    let receipt = fallen(dir.path(), gateway, sentence).await;
    let alarm = receipt.alarm.expect("it went off");
    assert!(alarm.sentence.ends_with("in the control of the step before 0 % of 100 requests"));
    let Evidence::Errors { control, against, .. } = alarm.evidence else { panic!("{alarm:?}") };
    assert_eq!((against, control.hits()), (Against::ControlBefore, 0));
    assert_eq!(control.total(), 4 * KNOWN as u64);
}
