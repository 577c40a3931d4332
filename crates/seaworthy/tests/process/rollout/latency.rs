//! Checks that take longer than their budget: on the path of a request, and off it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use seaworthy_console::control::RuleStanding;
use seaworthy_policy::gates::{Gate, Reading, Verdict};
use seaworthy_store::telemetry::TelemetryReader;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::restart::until_counted_from;
use super::{configure, fast, serving};
use crate::harness::{Gateway, serve};
use crate::lifecycle::folder;
use crate::operator::{post, standing, until_stands};

/// Requests of each kind; the gate fails by fewer.
const REQUESTS: u64 = 12;

/// A service that answers each request once it has all of it.
async fn reader() -> SocketAddr {
    serving(answer).await
}

async fn answer(mut stream: TcpStream) {
    let mut read = Vec::new();
    while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
        let Some(head) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().expect("a number"));
        if read.len() < head + 4 + length {
            continue;
        }
        read.clear();
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.is_err() {
            return;
        }
    }
}

/// So many short strings, in which a check has to look for quotes and tags.
fn strings(count: usize) -> String {
    let one = "\"it's <b>bold</b>, isn't it? a &amp; b\"";
    format!("[{}]", vec![one; count].join(","))
}

/// Rules none of which is quick.
fn rules() -> String {
    let mut rules = String::new();
    for id in 1..=60 {
        writeln!(
            rules,
            "SecRule ARGS \"@rx (?i)(?:[a-z]+'[a-z] ?){{5}}z{{{id}}}\" \"id:{id},phase:2,deny,msg:'Never'\""
        )
        .expect("a text takes all that is written");
    }
    rules
}

fn latency(standing: &RuleStanding) -> Option<&Reading> {
    standing.current.gates.iter().find(|reading| reading.gate == Gate::Latency)
}

#[tokio::test]
async fn checks_above_their_budget_are_counted_and_fail_the_gate() {
    let dir = folder();
    fs::write(dir.path().join("slow.conf"), rules()).expect("it is writable");
    // The least that the config takes, which none of these checks keeps within.
    let fast = fast();
    let tight = fast.replace("budget = \"20ms\"", "budget = \"1ms\"");
    assert_ne!(tight, fast, "the demo has another budget");
    let crs = "[protect.core_rule_set]\ncrs = [\"file:slow.conf\"]\nsample = 1\n";
    configure(dir.path(), &format!("{tight}\n{crs}"));
    let gateway = Gateway::start(serve(dir.path(), reader().await)).await;
    let console = gateway.console;
    until_counted_from(standing(console, "injection").await.current.window_unix_ms).await;

    for (rule, where_from, body) in [
        ("core_rule_set", "off the path", strings(900)),
        ("injection", "on the path", strings(20_000)),
    ] {
        let before =
            latency(&standing(console, rule).await).and_then(|one| one.numbers.get("total"));
        for _ in 0..REQUESTS {
            let who = [("Authorization", "Bearer a client")];
            let reply = post(gateway.traffic, "/", &who, &body).await;
            assert_eq!(reply.statuses(), [200], "{rule}: {}", reply.text);
        }
        let all = before.unwrap_or(0.0) + REQUESTS as f64;
        let counted = |now: &RuleStanding| {
            latency(now).and_then(|one| one.numbers.get("total")).is_some_and(|total| total >= all)
        };
        let now = until_stands(console, rule, "they are counted", counted).await;
        let reading = latency(&now).expect("it was there");
        assert!(reading.numbers.get("hits") >= Some(REQUESTS as f64), "{where_from}: {reading:?}");
        assert_eq!(reading.verdict, Verdict::Fail, "{where_from}: {reading:?}");
        let sentence = "more than 1 % of checks take over 1ms";
        assert!(reading.sentence.starts_with(sentence), "{where_from}: {reading:?}");
    }
    gateway.stop().await;

    // The evidence has them of the rule, and of its client.
    let reader = TelemetryReader::open_read_only(&dir.path().join("seaworthy-data")).unwrap();
    for rule in ["core_rule_set", "injection"] {
        let all = reader.evidence(0..i64::MAX).unwrap();
        let of_rule = all.iter().filter(|one| one.rule == rule).map(|one| &one.evidence);
        let (mut slow, mut of_clients) = (0, 0);
        for evidence in of_rule {
            slow += evidence.counts.slow;
            of_clients += evidence.clients.iter().map(|one| one.counts.slow).sum::<u64>();
        }
        assert!(slow >= REQUESTS, "{rule}: {slow}");
        assert_eq!(slow, of_clients, "{rule}");
    }
}
