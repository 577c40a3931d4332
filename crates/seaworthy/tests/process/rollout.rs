//! Rollouts of gateways that are processes: what stays in force when settings, other gateways, disks
//! and processes change under them.

mod alarms;
mod alerts;
mod clock;
mod faults;
mod fleet;
mod gaps;
mod latency;
mod races;
mod restart;
mod uncounted;
mod versions;

use std::fs;
use std::io::{Error, Result as IoResult};
use std::net::SocketAddr;
use std::path::Path;

use seaworthy_console::control::RuleStanding;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::audit::{audit, leaves, said};
use crate::harness::Gateway;
use crate::harness::ask::until;
use crate::harness::client::read_replies;
use crate::operator::{SECRET, standing};

/// A rule that the requests of the tests fall under: its settings say which host is right.
const HOSTS: &str = "host_allowlist";

/// A service that answers each connection by `answer`.
async fn serving<A: Future<Output = ()> + Send + 'static>(
    answer: impl Fn(TcpStream) -> A + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    addr
}

/// A rollout in which minutes are seconds, with the secret of its alerts in a file.
fn fast() -> String {
    let demo = include_str!("../../src/app/demo/fast-rollout.toml");
    let ours = demo.replace("env:HELPDESK_ALERTS_SECRET", "file:alerts.secret");
    assert_ne!(ours, demo, "the demo names its secret otherwise");
    ours
}

/// The same, where nobody sends alerts.
pub(crate) fn fast_without_alerts() -> String {
    let fast = fast();
    let (ours, _) = fast.split_once("\n[alerts]\n").expect("the demo takes alerts");
    ours.to_owned()
}

/// The same, where `host` is the right one.
fn fast_for(host: &str) -> String {
    format!("{}\n[protect.host_allowlist]\nhosts = [\"{host}.example\"]\n", fast())
}

fn configure(dir: &Path, text: &str) {
    fs::write(dir.join("alerts.secret"), SECRET).expect("it is writable");
    fs::write(dir.join("seaworthy.toml"), text).expect("it is writable");
}

/// The rollout of [`fast_for`] with a soak of two ticks: what is waited for is not patience.
fn faster_for(host: &str) -> String {
    let fast = fast_for(host);
    let faster = fast.replace("green_minutes = 10", "green_minutes = 2");
    assert_ne!(fast, faster, "the demo soaks otherwise");
    faster
}

/// Clients that do nothing wrong: more than a gate has to see of them within some ticks.
const BYSTANDERS: usize = 40;

/// Waits until [`HOSTS`] stands as it should, while clients that it does not harm come again and
/// again.
async fn until_climbs(
    gateway: &Gateway,
    what: &str,
    is_so: impl Fn(&RuleStanding) -> bool,
) -> RuleStanding {
    until(what, async || {
        flood(gateway.traffic, "a", 0..BYSTANDERS).await.expect("all are answered");
        Some(standing(gateway.console, HOSTS).await).filter(&is_so)
    })
    .await
}

/// Requests that are on their way on one connection.
const PIPELINED: usize = 50;

/// One request for `host` from each of the clients, on one connection.
async fn flood(
    traffic: SocketAddr,
    host: &'static str,
    clients: std::ops::Range<usize>,
) -> IoResult<usize> {
    let clients: Vec<_> = clients.collect();
    let mut stream = TcpStream::connect(traffic).await?;
    let mut answered = 0;
    for some in clients.chunks(PIPELINED) {
        let request = |number: &usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: {host}.example\r\nAuthorization: Bearer t{number}\r\n\r\n"
            )
        };
        let requests: String = some.iter().map(request).collect();
        stream.write_all(requests.as_bytes()).await?;
        let statuses = read_replies(&mut stream, some.len()).await.statuses();
        if statuses.len() != some.len() || statuses.iter().any(|status| *status != 200) {
            return Err(Error::other(format!("{statuses:?}")));
        }
        answered += statuses.len();
    }
    Ok(answered)
}

/// The log recomputes to what was signed.
fn assert_sound(dir: &Path) {
    let (code, text) = said(&audit(dir, &["verify"]));
    assert_eq!(code, Some(0), "{text}");
}

/// The actions on `rule` that are in the log, with the mode after each and its epoch.
fn log_of(dir: &Path, rule: &str) -> Vec<(String, String, u64)> {
    let text = |value: &serde_json::Value| value.as_str().expect("it is a text").to_owned();
    let on_rule = leaves(dir).into_iter().filter(|leaf| leaf["target"] == rule);
    let short = on_rule.map(|leaf| {
        let after = &leaf["after"];
        (text(&leaf["action"]), text(&after["mode"]), after["epoch"].as_u64().expect("a number"))
    });
    short.collect()
}
