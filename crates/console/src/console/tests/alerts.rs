//! Alerts over real sockets: who is believed, what takes effect, and what the sender is told.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::SystemTime;

use seaworthy_policy::alert::{AlertId, AlertsConfig, Demotion, Intake, Signer};
use seaworthy_policy::source::{Source, Sources};
use serde_json::json;

use super::*;
use crate::alerts::{AlertMetrics, AlertSink, NotKept, Outcome, Taken, Taking};

const SECRET: &str = "the secret of the alerts, 32 bytes+";
const TOKEN: &str = "a-token-of-at-least-thirty-two-characters";
const PATH: &str = "/api/v1/hooks/alerts";

/// Keeps what it is told in memory, and fails as long as it is told to.
#[derive(Default)]
struct Memory {
    known: Mutex<HashSet<AlertId>>,
    /// The sentences of the demotions that took effect, in order.
    demoted: Mutex<Vec<(String, String)>>,
    fails: AtomicBool,
    /// Says less than it was asked.
    is_curt: AtomicBool,
}

impl AlertSink for Memory {
    fn take(&self, demotions: Vec<Demotion>) -> Taking<'_> {
        Box::pin(async move {
            if self.fails.load(Relaxed) {
                return Err(NotKept("the disk is full".to_owned()));
            }
            let outcome = |demotion: Demotion| {
                let target = demotion.target.to_string();
                if target == "cors" {
                    return Outcome::NoSuchRule;
                }
                if !self.known.lock().unwrap().insert(demotion.alert.id) {
                    return Outcome::Known;
                }
                self.demoted.lock().unwrap().push((target.clone(), demotion.sentence));
                if target == "vocabulary" { Outcome::Held } else { Outcome::Demoted }
            };
            let mut outcomes: Vec<_> = demotions.into_iter().map(outcome).collect();
            if self.is_curt.load(Relaxed) {
                outcomes.pop();
            }
            Ok(Taken(outcomes))
        })
    }
}

struct Hooked {
    running: Running,
    memory: Arc<Memory>,
    intake: watch::Sender<Option<Arc<Intake>>>,
    metrics: AlertMetrics,
}

fn sources() -> Sources {
    let mut sources = Sources::default();
    for (name, text) in [("SECRET", SECRET), ("TOKEN", TOKEN)] {
        sources.insert(Source::Env(name.to_owned()), Ok(text.as_bytes().to_vec()));
    }
    sources
}

impl Hooked {
    async fn start() -> Self {
        let env = |name: &str| vec![Source::Env(name.to_owned())];
        let (secrets, tokens) = (env("SECRET"), env("TOKEN"));
        let config = AlertsConfig { secrets, tokens, ..AlertsConfig::default() };
        let intake = Intake::build(&config, &sources()).unwrap().map(Arc::new);
        let (intake, taken) = watch::channel(intake);
        let (memory, metrics) = (Arc::new(Memory::default()), AlertMetrics::default());
        let sink = Arc::clone(&memory) as Arc<dyn AlertSink>;
        let alerts = AlertInputs { intake: taken, sink, metrics: metrics.clone() };
        let running = Running::start_with(None, alerts).await;
        Self { running, memory, intake, metrics }
    }

    /// Posts `body`; the fields are whole lines.
    async fn post(&self, fields: &[String], body: &str) -> Reply {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let length = body.len();
        // As Alertmanager sends it, to the name by which it knows the gateway.
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: gateway.example:9900\r\nuser-agent: \
             Alertmanager/0.25.0\r\ncontent-type: application/json\r\ncontent-length: \
             {length}\r\n{fields}connection: close\r\n\r\n"
        );
        self.send(format!("{head}{body}").as_bytes()).await
    }

    async fn send(&self, bytes: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.running.console.addr()).await.unwrap();
        // One that is refused early may be closed before all of it is written.
        drop(stream.write_all(bytes).await);
        let mut read = Vec::new();
        drop(stream.read_to_end(&mut read).await);
        Reply::of(&String::from_utf8(read).unwrap())
    }

    async fn post_signed(&self, payload: &Value) -> Reply {
        let body = payload.to_string();
        self.post(&signed(SECRET, now(), &body), &body).await
    }

    /// The rules that were taken back, in order.
    fn demoted(&self) -> Vec<String> {
        let demoted = self.memory.demoted.lock().unwrap();
        demoted.iter().map(|(target, _)| target.clone()).collect()
    }

    fn counted(&self) -> String {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn signed(secret: &str, at: u64, body: &str) -> Vec<String> {
    let source = Source::Env("S".to_owned());
    let mut sources = Sources::default();
    sources.insert(source.clone(), Ok(secret.as_bytes().to_vec()));
    let (timestamp, tag) = Signer::build(&source, &sources).unwrap().sign(at, body.as_bytes());
    vec![
        format!("x-alertmanager-signature: {tag}"),
        format!("x-alertmanager-timestamp: {timestamp}"),
    ]
}

/// One alert on `rule`, the n-th of its group.
fn alert(rule: &str, n: usize, status: &str) -> Value {
    json!({
        "status": status,
        "labels": { "alertname": "ErrorsHigh", "seaworthy_rule": rule, "pod": format!("p{n}") },
        "annotations": { "summary": "5 % fail" },
        "startsAt": "2026-03-01T12:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": format!("{n:016x}"),
    })
}

fn payload(alerts: &[Value]) -> Value {
    json!({ "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "alerts": alerts })
}

fn effects(reply: &Reply) -> [u64; 4] {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let effects: Value = serde_json::from_str(&reply.body).unwrap();
    ["demoted", "held", "known", "resolved"].map(|name| effects[name].as_u64().unwrap())
}

fn detail(reply: &Reply) -> String {
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let problem: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(problem["status"], reply.status);
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_firing_alert_demotes_its_rule_once() {
    let hooked = Hooked::start().await;
    let firing = payload(&[alert("csrf", 1, "firing")]);
    assert_eq!(effects(&hooked.post_signed(&firing).await), [1, 0, 0, 0]);
    assert_eq!(effects(&hooked.post_signed(&firing).await), [0, 0, 1, 0], "it comes again");
    let (target, sentence) = hooked.memory.demoted.lock().unwrap()[0].clone();
    assert_eq!(target, "csrf");
    assert_eq!(
        sentence,
        "Alertmanager says that ErrorsHigh fires since 2026-03-01T12:00:00Z: 5 % fail"
    );
    assert_eq!(hooked.demoted(), ["csrf"]);
}

#[tokio::test]
async fn a_recorded_delivery_has_no_second_effect() {
    let hooked = Hooked::start().await;
    let body = payload(&[alert("csrf", 1, "firing")]).to_string();
    let recorded = signed(SECRET, now() - 60, &body);
    assert_eq!(effects(&hooked.post(&recorded, &body).await), [1, 0, 0, 0]);
    assert_eq!(effects(&hooked.post(&recorded, &body).await), [0, 0, 1, 0], "within its time");
    let old = signed(SECRET, now() - 400, &body);
    let late = hooked.post(&old, &body).await;
    assert_eq!(late.status, 401);
    assert!(detail(&late).contains("it was signed 40"), "{}", late.body);
    assert_eq!(hooked.demoted(), ["csrf"]);
}

#[tokio::test]
async fn the_order_does_not_matter_and_resolved_never_promotes() {
    let hooked = Hooked::start().await;
    let (firing, resolved) =
        (payload(&[alert("csrf", 1, "firing")]), payload(&[alert("csrf", 1, "resolved")]));
    assert_eq!(effects(&hooked.post_signed(&resolved).await), [0, 0, 0, 1]);
    assert_eq!(effects(&hooked.post_signed(&firing).await), [1, 0, 0, 0], "it comes late");
    assert_eq!(effects(&hooked.post_signed(&resolved).await), [0, 0, 0, 1]);
    assert_eq!(effects(&hooked.post_signed(&firing).await), [0, 0, 1, 0]);
    assert_eq!(hooked.demoted(), ["csrf"]);
    // One that is over asks for nothing, so it does not matter what it names.
    let mut other = alert("no_such_rule", 2, "resolved");
    assert_eq!(effects(&hooked.post_signed(&payload(&[other.clone()])).await), [0, 0, 0, 1]);
    other["labels"] = json!({});
    assert_eq!(effects(&hooked.post_signed(&payload(&[other])).await), [0, 0, 0, 1]);
}

#[tokio::test]
async fn who_is_not_proven_is_not_believed() {
    let hooked = Hooked::start().await;
    let body = payload(&[alert("csrf", 1, "firing")]).to_string();
    let half = body.get(..body.len() / 2).unwrap();
    let right = signed(SECRET, now(), &body);
    for (name, fields, body, words) in [
        ("nothing", vec![], body.as_str(), "the request has no proof"),
        (
            "another secret",
            signed("an unknown secret of thirty-two bytes", now(), &body),
            &body,
            "is not that of this body",
        ),
        ("another body", right.clone(), half, "is not that of this body"),
        ("without its time", right[..1].to_vec(), &body, "x-alertmanager-timestamp is missing"),
        ("too old", signed(SECRET, now() - 400, &body), &body, "s ago; 300 s are accepted"),
        ("too new", signed(SECRET, now() + 400, &body), &body, "s from now"),
        (
            "another token",
            vec![format!("authorization: Bearer {SECRET}")],
            &body,
            "the token is none of those",
        ),
    ] {
        let reply = hooked.post(&fields, body).await;
        assert_eq!(reply.status, 401, "{name}: {}", reply.body);
        assert_eq!(reply.header("www-authenticate"), "Bearer", "{name}");
        assert!(detail(&reply).contains(words), "{name}: {}", reply.body);
        assert!(!reply.body.contains(SECRET) && !reply.body.contains(TOKEN), "{name}");
    }
    assert_eq!(hooked.demoted(), Vec::<String>::new());
    let unproven = "seaworthy_alert_deliveries_total{result=\"unproven\"} 7\n";
    assert!(hooked.counted().contains(unproven), "{}", hooked.counted());
    let token = vec![format!("authorization: Bearer {TOKEN}")];
    assert_eq!(effects(&hooked.post(&token, &body).await), [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_body_that_is_torn_or_too_large_has_no_effect() {
    let hooked = Hooked::start().await;
    let whole = payload(&[alert("csrf", 1, "firing")]).to_string();
    let half = whole.get(..whole.len() / 2).unwrap();
    let token = format!("authorization: Bearer {TOKEN}");
    for (body, status, words) in [
        (half, 400, "it is not JSON: EOF"),
        ("", 400, "it is not JSON: EOF"),
        ("[1]", 422, "it is not the payload of"),
        ("{\"status\":\"firing\"}", 422, "it is not the payload of"),
        (&whole.replace("\"4\"", "\"3\""), 422, "its version is \"3\""),
        (&whole.replace("2026-03-01T12", "then"), 422, "alerts[0]: startsAt"),
        (&" ".repeat(BODY_MAX + 1), 413, "at most 1024 KiB"),
    ] {
        let reply = hooked.post(&signed(SECRET, now(), body), body).await;
        assert_eq!(reply.status, status, "{words}: {}", reply.body);
        assert!(detail(&reply).contains(words), "{words}: {}", reply.body);
    }
    // Chunks whose length nobody declared, and more of them than there may be.
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n{token}\r\n\r\n"
    );
    let reply = hooked.send(format!("{head}{}", chunk.repeat(17)).as_bytes()).await;
    assert_eq!(reply.status, 413, "{}", reply.body);
    // A sender that dies in the middle of its body: nobody is there for an answer.
    let mut stream = TcpStream::connect(hooked.running.console.addr()).await.unwrap();
    let length = whole.len();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{token}\r\n\r\n"
    );
    stream.write_all(format!("{head}{half}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut end = Vec::new();
    drop(stream.read_to_end(&mut end).await);
    assert!(!String::from_utf8_lossy(&end).starts_with("HTTP/1.1 2"), "{end:?}");
    assert_eq!(hooked.demoted(), Vec::<String>::new());
    // One that comes in chunks is taken as any other.
    let (size, end) = (format!("{length:x}"), "0\r\n\r\n");
    let chunked = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n{token}\r\n\
         connection: close\r\n\r\n{size}\r\n{whole}\r\n{end}"
    );
    assert_eq!(effects(&hooked.send(chunked.as_bytes()).await), [1, 0, 0, 0]);
}

const BODY_MAX: usize = 1 << 20;

#[tokio::test]
async fn what_is_not_kept_is_to_be_sent_again() {
    let hooked = Hooked::start().await;
    let firing = payload(&[alert("csrf", 1, "firing")]);
    hooked.memory.fails.store(true, Relaxed);
    let reply = hooked.post_signed(&firing).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "5"));
    assert!(detail(&reply).contains("the disk is full"), "{}", reply.body);
    hooked.memory.fails.store(false, Relaxed);
    hooked.memory.is_curt.store(true, Relaxed);
    let reply = hooked.post_signed(&firing).await;
    assert_eq!(reply.status, 503, "an outcome is missing: {}", reply.body);
    hooked.memory.is_curt.store(false, Relaxed);
    assert_eq!(effects(&hooked.post_signed(&firing).await), [0, 0, 1, 0], "it took effect");
    assert_eq!(hooked.demoted(), ["csrf"]);
}

#[tokio::test]
async fn an_alert_without_effect_is_told_of_and_the_others_take_effect_first() {
    let hooked = Hooked::start().await;
    let mut unlabelled = alert("", 1, "firing");
    unlabelled["labels"] = json!({ "alertname": "Test" });
    let delivery = payload(&[
        unlabelled,
        alert("csfr", 2, "firing"),
        alert("csrf", 3, "firing"),
        alert("cors", 4, "firing"),
        alert("vocabulary", 5, "firing"),
    ]);
    let reply = hooked.post_signed(&delivery).await;
    assert_eq!(reply.status, 422);
    assert_eq!(
        detail(&reply),
        "an alert has no effect: it has no label seaworthy_rule (and 2 more); of the others, 1 took \
         a rule back, 1 hold one, 0 had their effect before"
    );
    let problem: Value = serde_json::from_str(&reply.body).unwrap();
    let faults = problem["errors"].as_array().unwrap();
    let places: Vec<_> = faults.iter().map(|fault| fault["at"].as_str().unwrap()).collect();
    assert_eq!(places, ["/alerts/0/labels", "/alerts/1/labels", "/alerts/3/labels"]);
    assert_eq!(faults[2]["detail"], "there is no rule cors in the config");
    assert_eq!(hooked.demoted(), ["csrf", "vocabulary"]);

    let mut short = payload(&[alert("csrf", 3, "firing")]);
    short["truncatedAlerts"] = json!(7);
    let reply = hooked.post_signed(&short).await;
    assert_eq!(reply.status, 422);
    assert!(detail(&reply).starts_with("the sender left off 7 alerts: raise"), "{}", reply.body);
}

#[tokio::test]
async fn a_hundred_alerts_of_one_group_are_a_hundred() {
    let hooked = Hooked::start().await;
    let alerts: Vec<_> = (0..100).map(|n| alert("csrf", n, "firing")).collect();
    assert_eq!(effects(&hooked.post_signed(&payload(&alerts)).await), [100, 0, 0, 0]);
    assert_eq!(effects(&hooked.post_signed(&payload(&alerts)).await), [0, 0, 100, 0]);
    let faulty: Vec<_> = (0..100).map(|n| alert("csfr", n, "firing")).collect();
    let reply = hooked.post_signed(&payload(&faulty)).await;
    let problem: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(problem["errors"].as_array().unwrap().len(), 20, "a bound on what is listed");
    assert!(detail(&reply).contains("(and 99 more)"), "{}", reply.body);
}

#[tokio::test]
async fn many_deliveries_at_once_are_each_answered() {
    let hooked = Hooked::start().await;
    let hooked = Arc::new(hooked);
    let mut posts = JoinSet::new();
    for n in 0..32 {
        let hooked = Arc::clone(&hooked);
        let body = payload(&[alert("csrf", n % 4, "firing")]).to_string();
        posts.spawn(
            async move { effects(&hooked.post(&signed(SECRET, now(), &body), &body).await) },
        );
    }
    let mut sum = [0; 4];
    for effects in posts.join_all().await {
        for (sum, count) in sum.iter_mut().zip(effects) {
            *sum += count;
        }
    }
    assert_eq!(sum, [4, 0, 28, 0]);
}

#[tokio::test]
async fn where_nobody_may_send_alerts_the_way_to_change_that_is_told() {
    let hooked = Hooked::start().await;
    let firing = payload(&[alert("csrf", 1, "firing")]);
    let before = hooked.intake.send_replace(None);
    let reply = hooked.post_signed(&firing).await;
    assert_eq!(reply.status, 404);
    assert!(detail(&reply).contains("[alerts] secrets = [\"env:ALERTS_SECRET\"]"));
    hooked.intake.send_replace(before);
    assert_eq!(effects(&hooked.post_signed(&firing).await), [1, 0, 0, 0], "a reload is enough");

    let get = format!("GET {PATH} HTTP/1.1\r\nhost: localhost\r\n");
    let reply = hooked.running.ask(&get).await;
    assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
}
