//! What operators and alerts do to the rules of a running gateway, and where the rules stand then.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use seaworthy_console::control::{Command, Done, Request, RuleStanding, VersionStanding};
use seaworthy_policy::alert::{ALERTMANAGER_SIGNATURE, ALERTMANAGER_TIMESTAMP, Signer};
use seaworthy_policy::gates::Gate;
use seaworthy_policy::source::{Source, Sources};
use serde_json::{Value, json as object};

use crate::harness::ask::{body, json, until};
use crate::harness::client::{Reply, exchange};

/// What the alerts of the tests are signed with.
pub(crate) const SECRET: &str = "the secret of the alerts, 32 bytes+";

/// Where all rules stand.
pub(crate) async fn standings(console: SocketAddr) -> Vec<RuleStanding> {
    let all = json(console, "/api/v1/rules").await;
    serde_json::from_value(all["rules"].clone()).expect("it is what the console says it is")
}

/// Where `rule` stands.
pub(crate) async fn standing(console: SocketAddr, rule: &str) -> RuleStanding {
    let all = standings(console).await;
    all.into_iter().find(|one| one.rule == rule).unwrap_or_else(|| panic!("there is no {rule}"))
}

/// Waits until `rule` stands as it should.
pub(crate) async fn until_stands(
    console: SocketAddr,
    rule: &str,
    what: &str,
    is_so: impl Fn(&RuleStanding) -> bool,
) -> RuleStanding {
    until(what, async || Some(standing(console, rule).await).filter(&is_so)).await
}

/// What the console answers to `command`: what was done, or the status of the refusal and why.
pub(crate) async fn ask(
    console: SocketAddr,
    rule: &str,
    command: Command,
) -> Result<Done, (u16, String)> {
    let (actor, reason) = ("ada".to_owned(), "a test".to_owned());
    let request = Request { rule: rule.to_owned(), actor, reason, command };
    let request = serde_json::to_string(&request).expect("it is plain data");
    let reply = post(console, "/api/v1/rules", &[], &request).await;
    match reply.statuses()[..] {
        [200] => Ok(serde_json::from_str(&body(&reply)).expect("it says what was done")),
        [status] => Err((status, reply.text)),
        _ => panic!("{reply:?}"),
    }
}

/// Sets `rule` to `mode`, which has to work.
pub(crate) async fn set(console: SocketAddr, rule: &str, mode: &str) -> Done {
    let mode = mode.parse().expect("it is a mode");
    ask(console, rule, Command::Set { mode }).await.unwrap_or_else(|why| panic!("{why:?}"))
}

pub(crate) async fn post(
    console: SocketAddr,
    path: &str,
    fields: &[(&str, &str)],
    text: &str,
) -> Reply {
    exchange(console, posted(console, path, fields, text).as_bytes(), 0).await
}

/// The bytes of that request.
pub(crate) fn posted(
    console: SocketAddr,
    path: &str,
    fields: &[(&str, &str)],
    text: &str,
) -> String {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {console}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n",
        text.len()
    );
    for (name, value) in fields {
        request.extend([name, ": ", value, "\r\n"]);
    }
    format!("{request}\r\n{text}")
}

/// What Alertmanager sends of an alert that fires and names `rule`.
pub(crate) fn alert(rule: &str, fingerprint: &str) -> String {
    let alert = object!({
        "status": "firing",
        "labels": { "alertname": "CheckoutErrors", "seaworthy_rule": rule },
        "annotations": {}, "startsAt": "2026-03-01T12:00:00Z", "fingerprint": fingerprint,
    });
    object!({ "version": "4", "groupKey": "g", "alerts": [alert] }).to_string()
}

/// The fields that prove `text` with [`SECRET`] at a time.
pub(crate) fn proof(text: &str, at_unix_s: u64) -> [(&'static str, String); 2] {
    let (source, mut sources) = (Source::Env("SECRET".to_owned()), Sources::default());
    sources.insert(source.clone(), Ok(SECRET.as_bytes().to_vec()));
    let signer = Signer::build(&source, &sources).expect("it is a secret");
    let (timestamp, signature) = signer.sign(at_unix_s, text.as_bytes());
    [(ALERTMANAGER_TIMESTAMP, timestamp), (ALERTMANAGER_SIGNATURE, signature)]
}

/// Sends `text` with the proof of another text, or of the same.
pub(crate) async fn deliver(
    console: SocketAddr,
    proof: &[(&'static str, String); 2],
    text: &str,
) -> (u16, Value) {
    let fields = proof.each_ref().map(|(name, value)| (*name, value.as_str()));
    let reply = post(console, "/api/v1/hooks/alerts", &fields, text).await;
    let said = serde_json::from_str(&body(&reply)).expect("it answers in JSON");
    (reply.statuses()[0], said)
}

/// An alert on `rule` fires now, for the first time.
pub(crate) async fn fire(console: SocketAddr, rule: &str) {
    let text = alert(rule, "1");
    let (status, said) = deliver(console, &proof(&text, now_unix_ms() / 1000), &text).await;
    assert_eq!((status, &said["demoted"]), (200, &Value::from(1)), "{said}");
}

pub(crate) fn now_unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(now.as_millis()).expect("it is before the year 584554051")
}

/// Harmed and judged requests of the window, as the gate of the harm rate counts them.
pub(crate) fn harm(version: &VersionStanding) -> (u64, u64) {
    let reading = version.gates.iter().find(|reading| reading.gate == Gate::HarmRate);
    let number = |name| reading.and_then(|one| one.numbers.get(name)).unwrap_or(0.0) as u64;
    (number("hits"), number("total"))
}

/// What the gateway answers to a request for `host`, by a client of that token, or by nobody.
pub(crate) async fn visit(traffic: SocketAddr, host: &str, token: Option<&str>) -> u16 {
    let who = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request =
        format!("GET / HTTP/1.1\r\nHost: {host}.example\r\nConnection: close\r\n{who}\r\n");
    let reply = exchange(traffic, request.as_bytes(), 0).await;
    let [status] = reply.statuses()[..] else { panic!("{reply:?}") };
    status
}
