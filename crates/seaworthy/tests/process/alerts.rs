//! Alerts on their whole way: Alertmanager, the relay, the console, and who keeps them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};

use seaworthy_console::live::LiveView;
use seaworthy_console::{
    AlertInputs, AlertMetrics, AlertSink, Console, ConsoleInputs, NotKept, Outcome, Readiness,
    Taken, Taking,
};
use seaworthy_policy::alert::{AlertId, AlertsConfig, Demotion, Intake, ProofKind};
use seaworthy_policy::source::{Source, Sources};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::alertmanager::Alertmanager;
use crate::harness::client::{PATIENCE, Reply, exchange, read_replies};
use crate::harness::tls::Authority;
use crate::harness::{Process, seaworthy};

const SECRET: &str = "the secret of the alerts, 32 bytes+";
const TOKEN: &str = "a-token-of-at-least-thirty-two-characters";

/// Keeps demotions in memory, and fails the first time.
struct Keeper {
    failures_left: Mutex<u32>,
    known: Mutex<HashSet<AlertId>>,
    /// Every demotion that it was asked for, with what it answered.
    asked: watch::Sender<Vec<(Demotion, Option<Outcome>)>>,
}

impl Keeper {
    fn outcome(&self, demotion: &Demotion) -> Option<Outcome> {
        let mut left = self.failures_left.lock().expect("no test panics while it holds this");
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let mut known = self.known.lock().expect("no test panics while it holds this");
        Some(if known.insert(demotion.alert.id) { Outcome::Demoted } else { Outcome::Known })
    }
}

impl AlertSink for Keeper {
    fn take(&self, demotions: Vec<Demotion>) -> Taking<'_> {
        Box::pin(async move {
            let mut outcomes = Some(Vec::new());
            for demotion in demotions {
                let outcome = self.outcome(&demotion);
                outcomes = outcomes.zip(outcome).map(|(list, one)| [list, vec![one]].concat());
                self.asked.send_modify(|asked| asked.push((demotion, outcome)));
            }
            outcomes.map(Taken).ok_or_else(|| NotKept("the disk is full".to_owned()))
        })
    }
}

/// A console that takes alerts in, and what keeps them.
struct Kept {
    console: Console,
    asked: watch::Receiver<Vec<(Demotion, Option<Outcome>)>>,
    _intake: watch::Sender<Option<Arc<Intake>>>,
}

impl Kept {
    async fn start(failures: u32) -> Self {
        let mut sources = Sources::default();
        let [secrets, tokens] = [("SECRET", SECRET), ("TOKEN", TOKEN)].map(|(name, text)| {
            let source = Source::Env(name.to_owned());
            sources.insert(source.clone(), Ok(text.as_bytes().to_vec()));
            vec![source]
        });
        let config = AlertsConfig { secrets, tokens, ..AlertsConfig::default() };
        let intake = Intake::build(&config, &sources).expect("the secret is one").map(Arc::new);
        let (intake, taken_in) = watch::channel(intake);
        let (say, asked) = watch::channel(Vec::new());
        let keeper =
            Keeper { failures_left: Mutex::new(failures), known: Mutex::default(), asked: say };
        let inputs = ConsoleInputs {
            live: watch::channel(Arc::new(LiveView::default())).1,
            telemetry: None,
            registry: Arc::default(),
            ready: Arc::new(Readiness::default),
            alerts: AlertInputs {
                intake: taken_in,
                sink: Arc::new(keeper),
                metrics: AlertMetrics::default(),
            },
            control: Arc::new(seaworthy_console::control::NoRules),
            ledger: Arc::new(|| None),
        };
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let console = Console::start(addr, inputs).await.expect("a free port");
        Self { console, asked, _intake: intake }
    }

    fn url(&self) -> String {
        format!("http://{}/api/v1/hooks/alerts", self.console.addr())
    }

    /// Waits until it was asked for so many demotions.
    async fn asked(&self, count: usize) -> Vec<(Demotion, Option<Outcome>)> {
        let mut asked = self.asked.clone();
        let waited = asked.wait_for(|asked| asked.len() >= count);
        let asked = timeout(PATIENCE, waited).await.expect("it is asked in time");
        asked.expect("the keeper is there").clone()
    }
}

/// A running relay.
pub(crate) struct Relay {
    process: Process,
    addr: SocketAddr,
    _dir: TempDir,
}

impl Relay {
    pub(crate) async fn start(to: &str) -> Self {
        Self::start_with(to, &[]).await
    }

    /// Where Alertmanager posts to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Starts one with further arguments.
    async fn start_with(to: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("secret"), format!("{SECRET}\n")).expect("it is writable");
        let all = ["alert-relay", "--listen", "127.0.0.1:0", "--to", to, "--secret-file", "secret"];
        let process = Process::spawn(seaworthy(dir.path(), &[&all[..], args].concat()));
        let relaying = process.says("relaying alerts").await;
        let addr = relaying["listen"].as_str().expect("an address").parse().expect("an address");
        Self { process, addr, _dir: dir }
    }

    async fn post(&self, fields: &str, body: &str) -> Reply {
        let length = body.len();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n{fields}\r\n{body}",
            self.addr
        );
        exchange(self.addr, request.as_bytes(), 1).await
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

fn delivery(status: &str) -> String {
    let alert = json!({
        "status": status, "labels": { "alertname": "A", "seaworthy_rule": "csrf" },
        "annotations": {}, "startsAt": "2026-03-01T12:00:00Z", "fingerprint": "1",
    });
    json!({ "version": "4", "groupKey": "g", "alerts": [alert] }).to_string()
}

#[tokio::test]
async fn alertmanager_demotes_once_and_tries_again_until_it_is_kept() {
    let kept = Kept::start(1).await;
    let relay = Relay::start(&kept.url()).await;
    let alertmanager = Alertmanager::start(&relay.url(), None).await;
    alertmanager
        .fire(&json!([{
            "labels": { "alertname": "ErrorsHigh", "seaworthy_rule": "rate_limit@POST /api/traces" },
            "annotations": { "summary": "5 % fail" },
        }]))
        .await;
    let asked = kept.asked(2).await;
    let outcomes: Vec<_> = asked.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(outcomes, [None, Some(Outcome::Demoted)]);
    let (first, second) = (&asked[0].0, &asked[1].0);
    assert_eq!(first.alert.id, second.alert.id, "it is the same alert");
    assert_eq!(second.target.to_string(), "rate_limit@POST /api/traces");
    assert_eq!(second.proof.kind, ProofKind::Alertmanager);
    let (start, end) = ("Alertmanager says that ErrorsHigh fires since ", ": 5 % fail");
    assert!(second.sentence.starts_with(start) && second.sentence.ends_with(end), "{second:?}");
    let refused = relay.process.says("passed a delivery on, which was not taken").await;
    assert_eq!(refused["status"], 503);

    // A second alert is a group of its own here: the first is not sent again with it.
    let labels = json!({ "alertname": "ErrorsHigh", "seaworthy_rule": "csrf" });
    alertmanager.fire(&json!([{ "labels": labels }])).await;
    let (demotion, outcome) = kept.asked(3).await.pop().expect("there are three");
    assert_eq!((demotion.target.to_string().as_str(), outcome), ("csrf", Some(Outcome::Demoted)));
}

#[tokio::test]
async fn alertmanager_needs_no_relay_with_a_token() {
    let kept = Kept::start(0).await;
    let alertmanager = Alertmanager::start(&kept.url(), Some(TOKEN)).await;
    let labels = json!({ "alertname": "ErrorsHigh", "seaworthy_protection": "rate_limit" });
    alertmanager.fire(&json!([{ "labels": labels }])).await;
    let (demotion, outcome) = kept.asked(1).await.pop().expect("there is one");
    assert_eq!(demotion.target.to_string(), "every rule of rate_limit");
    assert_eq!((demotion.proof.kind, outcome), (ProofKind::Token, Some(Outcome::Demoted)));
}

/// The config of the manual, by Alertmanager's own tool: an alert on a rule goes to the gateway, and to
/// those whom it has always gone to.
#[test]
fn the_manuals_alertmanager_keeps_no_alert_from_the_team() {
    let manual = include_str!("../../../../docs/alerts.md");
    let config = manual.split("```").find_map(|block| block.strip_prefix("text\nroute:"));
    let config = format!("route:{}", config.expect("the manual shows a config"));
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("alertmanager.yml"), config).expect("it is writable");
    // It comes with Alertmanager.
    let amtool = |args: &[&str]| {
        let mut command = Command::new("/usr/bin/amtool");
        let output = command.current_dir(dir.path()).args(args).output().expect("it is there");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("it is text").trim().to_owned()
    };
    amtool(&["check-config", "alertmanager.yml"]);
    for (labels, receivers) in [
        (&["alertname=Errors", "seaworthy_rule=csrf"][..], "seaworthy,team"),
        (&["alertname=DiskFull"], "team"),
    ] {
        let test = ["config", "routes", "test", "--config.file=alertmanager.yml"];
        assert_eq!(amtool(&[&test, labels].concat()), receivers, "{labels:?}");
    }
}

/// The commands of the manual, with OpenSSL and curl.
#[tokio::test]
async fn signing_by_hand_works_as_the_manual_shows_it() {
    let kept = Kept::start(0).await;
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/alerts.md");
    let manual = std::fs::read_to_string(manual).expect("there is a manual");
    let blocks = |language: &str| -> Vec<String> {
        let blocks = manual.split("```").skip(1).step_by(2);
        blocks.filter_map(|block| block.strip_prefix(language)).map(str::to_owned).collect()
    };
    let delivery = blocks("text\n").into_iter().find(|block| block.starts_with('{'));
    let commands: String =
        blocks("sh\n").into_iter().filter(|block| !block.starts_with("seaworthy ")).collect();
    let shown = "http://127.0.0.1:9900/api/v1/hooks/alerts";
    assert_eq!(commands.matches(shown).count(), 2, "{commands}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("delivery.json"), delivery.expect("it is shown")).unwrap();
    std::fs::write(dir.path().join("alerts.secret"), format!("{SECRET}\n")).unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.current_dir(&dir).args(["-ec", &commands.replace(shown, &kept.url())]);
    // The console answers on this thread.
    let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 2, "{said}");
    let proofs: Vec<_> = kept.asked(2).await.iter().map(|(asked, _)| asked.proof.kind).collect();
    assert_eq!(proofs, [ProofKind::Alertmanager, ProofKind::Grafana]);
}

#[tokio::test]
async fn the_relay_speaks_tls_to_whom_it_trusts() {
    let kept = Kept::start(0).await;
    let (authority, console) = (Authority::new(), kept.console.addr());
    let acceptor =
        TlsAcceptor::from(Authority::server(&authority.issue("localhost"), &["http/1.1"]));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let to = listener.local_addr().expect("it is bound").port();
    let to = format!("https://localhost:{to}/api/v1/hooks/alerts");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate breaks off.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut console = TcpStream::connect(console).await.expect("it listens");
                drop(tokio::io::copy_bidirectional(&mut stream, &mut console).await);
            });
        }
    });
    let ca = authority.ca();
    let ca = ca.to_str().expect("a plain path");
    for (args, status, words) in
        [(&["--ca", ca][..], 200, "\"demoted\":1"), (&[], 502, "invalid peer certificate")]
    {
        let relay = Relay::start_with(&to, args).await;
        let reply = relay.post(JSON, &delivery("firing")).await;
        assert_eq!(reply.statuses(), [status], "{}", reply.text);
        assert!(reply.text.contains(words), "{}", reply.text);
    }
}

#[tokio::test]
async fn the_relay_finishes_what_is_under_way() {
    let gateway = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let to = format!("http://{}/hooks", gateway.local_addr().expect("it is bound"));
    let mut relay = Relay::start(&to).await;
    let mut client = TcpStream::connect(relay.addr).await.expect("it listens");
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{JSON}Content-Length: 2\r\n\r\n{{}}");
    client.write_all(head.as_bytes()).await.expect("it reads");
    let (mut asked, _) = timeout(PATIENCE, gateway.accept()).await.expect("in time").unwrap();
    relay.process.signal("TERM");
    let ending = relay.process.says("ending").await;
    assert_eq!(ending["under_way"], 1);
    asked.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("it reads");
    let reply = read_replies(&mut client, 1).await;
    assert_eq!(reply.statuses(), [200], "{}", reply.text);
    assert_eq!(relay.process.ended().await.0, Some(0));
}

#[tokio::test]
async fn the_relay_answers_what_the_gateway_does() {
    let kept = Kept::start(0).await;
    let relay = Relay::start(&kept.url()).await;
    for (body, status, words) in [
        (delivery("firing"), 200, "\"demoted\":1"),
        (delivery("firing"), 200, "\"known\":1"),
        (delivery("resolved"), 200, "\"resolved\":1"),
        (delivery("firing").replace("csrf", "csfr"), 422, "names no rule"),
        ("{".to_owned(), 400, "it is not JSON"),
    ] {
        let reply = relay.post(JSON, &body).await;
        assert_eq!(reply.statuses(), [status], "{}", reply.text);
        assert!(reply.text.contains(words), "{}", reply.text);
    }
    assert_eq!(kept.asked(2).await.len(), 2);
}

#[tokio::test]
async fn the_relay_signs_nothing_that_a_browser_could_send() {
    let kept = Kept::start(0).await;
    let relay = Relay::start(&kept.url()).await;
    let body = delivery("firing");
    for (fields, status) in [
        ("Content-Type: text/plain\r\n".to_owned(), 415),
        (format!("{JSON}Origin: https://evil.example\r\n"), 403),
    ] {
        let reply = relay.post(&fields, &body).await;
        assert_eq!(reply.statuses(), [status], "{}", reply.text);
    }
    let large = relay.post(JSON, &" ".repeat((1 << 20) + 1)).await;
    assert_eq!(large.statuses(), [413], "{}", large.text);
    let alive = exchange(relay.addr, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 1).await;
    assert_eq!(alive.statuses(), [200]);
    assert!(kept.asked(0).await.is_empty());
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_tried_again() {
    let kept = Kept::start(0).await;
    let url = kept.url();
    let relay = Relay::start(&url).await;
    kept.console.shutdown().await;
    let reply = relay.post(JSON, &delivery("firing")).await;
    assert_eq!(reply.statuses(), [502], "{}", reply.text);
    assert!(reply.text.contains(&format!("failed to ask {url}: ")), "{}", reply.text);
}

#[tokio::test]
async fn the_relay_ends_as_it_is_asked_to() {
    let kept = Kept::start(0).await;
    let mut relay = Relay::start(&kept.url()).await;
    relay.process.signal("TERM");
    let (code, said) = relay.process.ended().await;
    assert_eq!(code, Some(0), "{said:?}");
    assert!(!said.concat().contains(SECRET), "{said:?}");
}

#[test]
fn the_relay_needs_a_secret_that_is_one() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("short"), "hunter2").expect("it is writable");
    let to = "http://127.0.0.1:9/api/v1/hooks/alerts";
    for (args, code, words) in [
        (["--secret-file", "short"], 78, "file:short has 7 bytes; a secret needs at least 32"),
        (["--secret-file", "gone"], 78, "file:gone cannot be read: "),
        (["--secret-env", "GONE"], 78, "env:GONE is not set"),
        (["--listen", "127.0.0.1:0"], 64, "--secret-file"),
    ] {
        let args = [&["alert-relay", "--to", to], &args[..]].concat();
        let output = seaworthy(dir.path(), &args).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words) && !said.contains("hunter2"), "{said}");
    }
}
