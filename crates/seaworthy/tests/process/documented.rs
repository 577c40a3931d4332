//! The commands that the README and the manual show, run as they are shown.
//!
//! Each fenced block says what it is: `sh` is commands, `console` is commands behind `$ ` with
//! what they print, `toml` is a config, `text` is a drawing. A command that is in no table below
//! fails: it is to be run, or to be listed with the reason why not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use seaworthy_demo::{Service, ServiceConfig};

use crate::harness::ask::{body, until};
use crate::harness::client::{Reply, exchange};
use crate::harness::{Gateway, seaworthy};

/// What becomes of a command of the documents.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Run in the folder of its document; ends with this code and prints what is shown.
    Run(i32),
    /// The same, where this is `seaworthy.toml`.
    RunWith(&'static str, i32),
    /// Started, and asked by the commands behind it. The ports are chosen by the system.
    Serve,
    /// Sent to the gateway that was started before it.
    Curl,
    /// Run beside a gateway that its document has for itself; works, and what it prints is not
    /// shown.
    Beside,
    /// Run after a few hundred requests; the times vary.
    Requests,
    /// Run for six seconds; the figures vary.
    Demo,
    /// Only its subcommand and flags are checked.
    Parsed,
    /// Not run, for this reason.
    NotRun(&'static str),
}

/// The config of the README's fourth step, before and after its faults are mended.
const FAULTY: &str = "\
[service]
upstreams = [\"http://127.0.0.1:3000\"]

[protect.csrf]
mode = \"enforse\"

[protect.rate_limit]
limts = [{ per = \"client\", rate = \"100/min\", burst = 50 }]
";
const MENDED: &str = "\
[service]
upstreams = [\"http://127.0.0.1:3000\"]

[protect.csrf]
mode = \"enforce\"

[protect.rate_limit]
limits = [{ per = \"client\", rate = \"100/min\", burst = 50 }]
";

const README: &str = "README.md";
const CONFIGURATION: &str = "docs/configuration.md";
const VOCABULARY: &str = "docs/vocabulary.md";
const INJECTION: &str = "docs/injection.md";
const CONSUMERS: &str = "docs/consumers.md";
const LEARN: &str = "docs/request-schema.md";
const CORE_RULE_SET: &str = "docs/core-rule-set.md";
const ALERTS: &str = "docs/alerts.md";
const AUDIT: &str = "docs/audit.md";
const FLEET: &str = "docs/fleet.md";
const ROLLOUT: &str = "docs/rollout.md";

/// Why the commands that sign and verify by hand are not run here one by one.
const BY_HAND: &str = "it needs a shell; `alerts.rs` and `audit.rs` beside this run it";

const COMMANDS: [(&str, &str, Fate); 71] = [
    (README, "cargo run --release -- demo", Fate::Parsed),
    (README, "cargo run --release -- serve --upstream http://127.0.0.1:3000", Fate::Parsed),
    (README, "./scripts/test.sh", Fate::NotRun("it runs this test")),
    (README, "seaworthy demo --duration 20s", Fate::Demo),
    (
        README,
        "python3 -m http.server 3000 --bind 127.0.0.1 &",
        Fate::NotRun("a service of this test answers what this one is shown to answer"),
    ),
    (README, "seaworthy serve --upstream http://127.0.0.1:3000", Fate::Serve),
    (README, "curl -i http://127.0.0.1:8080/", Fate::Curl),
    (README, "seaworthy requests --verdict would_deny --limit 4", Fate::Requests),
    (README, "seaworthy config check", Fate::RunWith(FAULTY, 78)),
    (README, "seaworthy config show --changed", Fate::RunWith(MENDED, 0)),
    (README, "curl -s http://127.0.0.1:8080/a%00b", Fate::Curl),
    (CONSUMERS, "seaworthy consumers", Fate::Parsed),
    (CONSUMERS, "seaworthy consumers --rule request_schema", Fate::Parsed),
    (CONSUMERS, "seaworthy consumers --rule csrf --kind internal", Fate::Parsed),
    (CONSUMERS, "seaworthy consumers --client ip:203.0.113.7 --json", Fate::Parsed),
    (CONFIGURATION, "seaworthy init", Fate::Run(0)),
    (CONFIGURATION, "seaworthy config check", Fate::Run(0)),
    (CONFIGURATION, "seaworthy config show", Fate::Run(0)),
    (
        CONFIGURATION,
        "SEAWORTHY_KEY=$(openssl rand -hex 32)",
        Fate::NotRun("it needs a shell and OpenSSL; what a key may be is tested in `app/key.rs`"),
    ),
    (CONFIGURATION, "$ seaworthy config check", Fate::RunWith("[log]\nlevl = 1\n[lgo]\n", 78)),
    (VOCABULARY, "seaworthy vocabulary parse stages 'Series A'", Fate::Run(0)),
    (
        VOCABULARY,
        r#"seaworthy vocabulary parse stages '{"Series A": 0.6, "sead": 0.4}'"#,
        Fate::Run(1),
    ),
    (
        VOCABULARY,
        r#"seaworthy vocabulary parse stages '{"Series A": 0.6, "sead": 0.4}' --json"#,
        Fate::Run(1),
    ),
    (
        VOCABULARY,
        r#"seaworthy vocabulary parse stages '{"A": 0.1, "Series-A": 0.2, "Seed": 0.70}'"#,
        Fate::Run(0),
    ),
    (
        VOCABULARY,
        r#"seaworthy vocabulary parse stages '{"seed": NaN, "growth": -0.2, "late": 1e400}'"#,
        Fate::Run(1),
    ),
    (
        INJECTION,
        "bench/conformance/injection.sh DATA_DIR",
        Fate::NotRun("the corpora are another project's, and are measured in a release build"),
    ),
    (
        INJECTION,
        "bench/conformance/injection.sh --speed",
        Fate::NotRun("a time is no test: it is measured in a release build on a quiet machine"),
    ),
    (
        LEARN,
        "seaworthy schema learn --from requests --out openapi.json",
        Fate::NotRun("it needs a day of traffic; `tests/integration/learn.rs` learns and enforces"),
    ),
    (
        LEARN,
        "seaworthy schema check openapi.json",
        Fate::NotRun("the file is of the command before"),
    ),
    (
        FLEET,
        "apt-get install -y redis-server",
        Fate::NotRun("it changes the machine; `scripts/packages.sh` does it for the tests"),
    ),
    (
        FLEET,
        "redis-cli HGETALL seaworthy:helpdesk:modes.v1",
        Fate::NotRun("it needs a fleet; `crates/store/tests/fleet/` reads the same of its own"),
    ),
    (
        CORE_RULE_SET,
        "cargo run --release -p seaworthy-policy --example core_rule_set -- SETUP RULES",
        Fate::NotRun("the rules are another project's, and are measured in a release build"),
    ),
    (
        ALERTS,
        r#"seaworthy alert-relay --to http://127.0.0.1:9900/api/v1/hooks/alerts --secret-file alerts.secret"#,
        Fate::Parsed,
    ),
    (ALERTS, r#"at=$(date +%s)"#, Fate::NotRun(BY_HAND)),
    (
        ALERTS,
        r#"sign() { openssl dgst -sha256 -hmac "$(cat alerts.secret)" | sed 's/.*= //'; }"#,
        Fate::NotRun(BY_HAND),
    ),
    (
        ALERTS,
        r#"signature=$( (printf '%s.' "$at"; cat delivery.json) | sign)"#,
        Fate::NotRun(BY_HAND),
    ),
    (
        ALERTS,
        r#"curl -i --data-binary @delivery.json -H "X-Alertmanager-Timestamp: $at" -H "X-Alertmanager-Signature: $signature" http://127.0.0.1:9900/api/v1/hooks/alerts"#,
        Fate::NotRun(BY_HAND),
    ),
    (
        ALERTS,
        r#"signature=$( (printf '%s:' "$at"; cat delivery.json) | sign)"#,
        Fate::NotRun(BY_HAND),
    ),
    (
        ALERTS,
        r#"curl -i --data-binary @delivery.json -H "X-Grafana-Alerting-Timestamp: $at" -H "X-Grafana-Alerting-Signature: $signature" http://127.0.0.1:9900/api/v1/hooks/alerts"#,
        Fate::NotRun(BY_HAND),
    ),
    (AUDIT, "seaworthy audit tail", Fate::Beside),
    (AUDIT, "seaworthy audit show 0", Fate::Beside),
    (AUDIT, "seaworthy audit verify", Fate::Beside),
    (AUDIT, "seaworthy audit prove 0", Fate::Parsed),
    (AUDIT, "seaworthy audit export --json", Fate::Beside),
    (AUDIT, "seaworthy audit verify --checkpoints /mnt/elsewhere/audit.checkpoints", Fate::Parsed),
    (
        AUDIT,
        "seaworthy audit verify audit.jsonl --checkpoints audit.checkpoints --public-key audit.pub",
        Fate::Parsed,
    ),
    (
        AUDIT,
        r"(printf '\0'; seaworthy audit export | head -n 1 | tr -d '\n') | sha256sum",
        Fate::NotRun(BY_HAND),
    ),
    (AUDIT, "head -n 5 audit.checkpoints > text", Fate::NotRun(BY_HAND)),
    (
        AUDIT,
        "sed -n 7p audit.checkpoints | cut -d ' ' -f 3 | base64 -d | tail -c 64 > signature",
        Fate::NotRun(BY_HAND),
    ),
    (
        AUDIT,
        r"(printf '\060\052\060\005\006\003\053\145\160\003\041\000'; cut -d + -f 3- audit.pub | base64 -d | tail -c 32) > key.der",
        Fate::NotRun(BY_HAND),
    ),
    (
        AUDIT,
        "openssl pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin -in text -sigfile signature",
        Fate::NotRun(BY_HAND),
    ),
    (
        AUDIT,
        "cargo run --release -p seaworthy-store --example ledger_speed -- DIR",
        Fate::NotRun("a time is no test: it is measured in a release build on a quiet machine"),
    ),
    (README, "seaworthy demo --fast-rollout", Fate::Parsed),
    (README, "seaworthy mode", Fate::Parsed),
    (README, "seaworthy rollout status csrf", Fate::Parsed),
    (README, "seaworthy rollout demote csrf --reason 'checkouts fail'", Fate::Parsed),
    (README, "seaworthy rollout history csrf", Fate::Parsed),
    (ROLLOUT, "seaworthy mode", Fate::Beside),
    (ROLLOUT, "seaworthy rollout status csrf", Fate::Beside),
    (ROLLOUT, "seaworthy rollout demote csrf --reason 'checkouts fail'", Fate::Beside),
    (ROLLOUT, "seaworthy rollout history csrf", Fate::Beside),
    (
        ROLLOUT,
        "seaworthy rollout waive csrf bearer:0123456789abcdef --until 14d --reason 'they move in May'",
        Fate::Beside,
    ),
    (
        ROLLOUT,
        "seaworthy rollout unwaive csrf bearer:0123456789abcdef --reason 'they have moved'",
        Fate::Beside,
    ),
    (ROLLOUT, "seaworthy mode set csrf enforce=10% --reason 'every client was told'", Fate::Beside),
    (ROLLOUT, "seaworthy rollout promote csrf --reason 'the desk has tested it'", Fate::Beside),
    (
        ROLLOUT,
        "seaworthy rollout hold csrf --until 2026-12-01T12:00:00Z --reason 'the sale'",
        Fate::Parsed,
    ),
    (ROLLOUT, "seaworthy rollout release csrf --reason 'the sale is over'", Fate::Beside),
    (ROLLOUT, "seaworthy rollout history csrf --limit 5", Fate::Beside),
    (
        ROLLOUT,
        "seaworthy rollout receipt 17 > receipt.json",
        Fate::NotRun(
            "it needs a shell and a rule that has moved; `operators.rs` beside this does it",
        ),
    ),
    (ROLLOUT, "seaworthy rollout verify receipt.json", Fate::Parsed),
    (ROLLOUT, "seaworthy requests --explain 01a1fb325fb3094814ddfa730fad3cd5", Fate::Parsed),
];

/// A fenced block.
struct Block {
    document: String,
    line: usize,
    language: String,
    lines: Vec<String>,
}

/// A command of a block, with what it is shown to print.
struct Shown {
    command: String,
    prints: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The README and the manual: names and texts.
fn documents() -> Vec<(String, String)> {
    let mut names = vec![README.to_owned()];
    for entry in std::fs::read_dir(root().join("docs")).expect("there is a manual") {
        let name = entry.unwrap().file_name().into_string().expect("a plain name");
        names.push(format!("docs/{name}"));
    }
    let read = |name: String| {
        let text = std::fs::read_to_string(root().join(&name)).expect("it is readable");
        (name, text)
    };
    names.into_iter().map(read).collect()
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (document, text) in documents() {
        let mut open = false;
        for (index, line) in text.lines().enumerate() {
            match line.trim_start().strip_prefix("```") {
                Some(language) if !open => {
                    let (document, language) = (document.clone(), language.to_owned());
                    blocks.push(Block { document, line: index + 1, language, lines: Vec::new() });
                    open = true;
                }
                Some(_) => open = false,
                None if open => {
                    blocks.last_mut().expect("one is open").lines.push(line.to_owned());
                }
                None => {}
            }
        }
        assert!(!open, "{document} ends in a block");
    }
    blocks
}

impl Block {
    /// Its commands, without the remarks behind them.
    fn shown(&self) -> Vec<Shown> {
        let mut shown: Vec<Shown> = Vec::new();
        for line in &self.lines {
            let command = match &*self.language {
                "sh" => Some(line.split(" # ").next().unwrap_or_default().trim()),
                "console" => line.strip_prefix("$ "),
                _ => return shown,
            };
            match command {
                Some(command) if !command.is_empty() => {
                    shown.push(Shown { command: command.to_owned(), prints: String::new() });
                }
                Some(_) => {}
                None => {
                    let last = shown.last_mut().expect("a console block starts with a command");
                    last.prints.push_str(line);
                    last.prints.push('\n');
                }
            }
        }
        shown
    }

    fn fate(&self, command: &str) -> Fate {
        // The manual shows one command as a line of a list and again with what it prints.
        let prompted = format!("$ {command}");
        let find = |text: &str| {
            COMMANDS
                .iter()
                .find(|(document, known, _)| *document == self.document && *known == text)
        };
        let own = if self.language == "console" { find(&prompted) } else { None };
        let (_, _, fate) = own.or_else(|| find(command)).unwrap_or_else(|| {
            panic!("{}:{}: no test knows `{command}`", self.document, self.line)
        });
        *fate
    }
}

#[test]
fn every_block_says_what_it_is_and_every_command_is_known() {
    let (blocks, mut known) = (blocks(), BTreeSet::new());
    for block in &blocks {
        let at = format!("{}:{}", block.document, block.line);
        let languages = ["sh", "console", "toml", "text"];
        assert!(languages.contains(&&*block.language), "{at}: {:?} is none", block.language);
        for shown in block.shown() {
            let fate = block.fate(&shown.command);
            if let Fate::NotRun(reason) = fate {
                assert!(!reason.is_empty() && shown.prints.is_empty(), "{at}: {}", shown.command);
            }
            known.insert((block.document.clone(), shown.command.clone()));
        }
    }
    for (document, command, _) in COMMANDS {
        let command = command.trim_start_matches("$ ").to_owned();
        let gone = !known.contains(&(document.to_owned(), command.clone()));
        assert!(!gone, "{document} does not show `{command}` any more");
    }
}

/// Whether `command` names a subcommand and flags that there are: its own help is printed.
fn is_understood(command: &str) {
    let words: Vec<&str> = words(command).chain(["--help"]).collect();
    let output = seaworthy(&root(), &words).output().expect("the binary runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "seaworthy {command}: {words}");
}

#[test]
fn commands_in_prose_exist() {
    let mut found = 0;
    for (_, text) in documents() {
        let prose: String = text.split("```").step_by(2).collect();
        let spans = prose.split('`').skip(1).step_by(2);
        for command in spans.filter_map(|span| span.strip_prefix("seaworthy ")) {
            is_understood(command);
            found += 1;
        }
    }
    assert!(found >= 8, "{found}");
}

#[test]
fn configs_that_are_shown_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let mut found = 0;
    for block in blocks().iter().filter(|block| block.language == "toml") {
        let file = dir.path().join("shown.toml");
        std::fs::write(&file, block.lines.join("\n")).unwrap();
        let checked = seaworthy(dir.path(), &["config", "check", "shown.toml"]).output().unwrap();
        let words = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(0), "{}:{}: {words}", block.document, block.line);
        found += 1;
    }
    assert!(found > 0);
}

#[tokio::test]
async fn what_is_shown_is_what_happens() {
    let blocks = blocks();
    for (document, _) in documents() {
        let mut tour = Tour::new(&blocks).await;
        for block in blocks.iter().filter(|block| block.document == document) {
            for shown in block.shown() {
                let at = format!("{document}:{}: {}", block.line, shown.command);
                tour.take(&at, block.fate(&shown.command), &shown).await;
            }
        }
    }
}

/// A walk through one document, in a folder of its own.
struct Tour {
    dir: TempDir,
    service: SocketAddr,
    gateway: Option<Gateway>,
}

impl Tour {
    async fn new(blocks: &[Block]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self { dir, service: shown_service(blocks).await, gateway: None }
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("`seaworthy serve` is shown before it is asked")
    }

    async fn take(&mut self, at: &str, fate: Fate, shown: &Shown) {
        let command = &*shown.command;
        match fate {
            Fate::Run(code) => self.run(at, command, code, &shown.prints),
            Fate::RunWith(config, code) => {
                std::fs::write(self.dir.path().join("seaworthy.toml"), config).unwrap();
                self.run(at, command, code, &shown.prints);
            }
            Fate::Serve => {
                let shown = "http://127.0.0.1:3000";
                assert!(command.contains(shown), "{at}: the service is at {shown}");
                let command = command.replace(shown, &format!("http://{}", self.service));
                let words = command.split_whitespace().skip(1);
                let ports = ["--listen", "127.0.0.1:0", "--console", "127.0.0.1:0"];
                let words: Vec<&str> = words.chain(ports).collect();
                self.gateway = Some(Gateway::start(seaworthy(self.dir.path(), &words)).await);
            }
            Fate::Curl => {
                let said = curl(command, self.gateway().traffic).await;
                assert_eq!(without_ids(&said), without_ids(&shown.prints), "{at}");
            }
            Fate::Beside => {
                assert!(shown.prints.is_empty(), "{at}");
                self.run_beside(at, command).await;
            }
            Fate::Requests => self.list(at, command, &shown.prints).await,
            Fate::Demo => {
                let command = command.replace("--duration 20s", "--duration 6s");
                assert_ne!(command, shown.command, "{at}: it is shown for twenty seconds");
                let said = self.output(&command);
                let lines = |text: &str| text.lines().map(without_figures).collect::<BTreeSet<_>>();
                assert_eq!(lines(&said.1), lines(&shown.prints), "{at}");
                assert_eq!(said.0, Some(0), "{at}");
            }
            Fate::Parsed => {
                let words = ["cargo run --release -- ", "seaworthy "]
                    .into_iter()
                    .find_map(|program| command.strip_prefix(program));
                is_understood(words.expect("it starts the binary"));
            }
            Fate::NotRun(_) => {}
        }
    }

    /// The exit code, and both streams.
    fn output(&self, command: &str) -> (Option<i32>, String) {
        let words: Vec<&str> = words(command).skip(1).collect();
        let output = seaworthy(self.dir.path(), &words).output().expect("the binary runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).expect("it is text"))
    }

    fn run(&self, at: &str, command: &str, code: i32, prints: &str) {
        let (exit, said) = self.output(command);
        assert_eq!(exit, Some(code), "{at}: {said}");
        assert!(prints.is_empty() || said == prints, "{at} prints\n{said}instead of\n{prints}");
    }

    /// Runs a command of an operator, who is logged in, and whose config has the console's address.
    async fn run_beside(&mut self, at: &str, command: &str) {
        if self.gateway.is_none() {
            let gateway =
                Gateway::start(crate::harness::serve(self.dir.path(), self.service)).await;
            let config = format!("[console]\naddr = \"{}\"\n", gateway.console);
            std::fs::write(self.dir.path().join("seaworthy.toml"), config).unwrap();
            self.gateway = Some(gateway);
        }
        let words: Vec<&str> = words(command).skip(1).collect();
        let mut asked = seaworthy(self.dir.path(), &words);
        let output = asked.env("USER", "kim").output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{at}: {said}");
        assert!(!output.stdout.is_empty(), "{at} says nothing");
    }

    /// Sends a few hundred requests, then lists those that a rule objected to.
    async fn list(&self, at: &str, command: &str, prints: &str) {
        let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n".repeat(300);
        let reply = exchange(self.gateway().traffic, request.as_bytes(), 300).await;
        assert_eq!(reply.statuses(), [200; 300]);
        let lines = |text: &str| text.lines().map(without_times).collect::<Vec<_>>();
        let (said, shown) = until("the requests are written", async || {
            let (_, said) = self.output(command);
            let (said, shown) = (lines(&said), lines(prints));
            (said.len() == shown.len()).then_some((said, shown))
        })
        .await;
        assert_eq!(said, shown, "{at}");
    }
}

/// The words of a command; single quotes keep blanks together, as in a shell.
fn words(command: &str) -> impl Iterator<Item = &str> {
    command.split('\'').enumerate().flat_map(|(index, part)| {
        let is_quoted = index % 2 == 1;
        let whole = is_quoted.then_some(part);
        let apart = (!is_quoted).then(|| part.split_whitespace());
        whole.into_iter().chain(apart.into_iter().flatten())
    })
}

/// A service that answers what the one in the README is shown to answer: the fields of the
/// `curl -i` before those of the gateway, and the body.
async fn shown_service(blocks: &[Block]) -> SocketAddr {
    let shown = blocks.iter().flat_map(Block::shown);
    let tour = shown.into_iter().find(|shown| shown.command.starts_with("curl -i "));
    let prints = tour.expect("the tour asks the gateway").prints;
    let (head, body) = prints.split_once("\n\n").expect("a head and a body");
    let own = head.lines().take_while(|line| !line.starts_with("x-content-type-options"));
    let head: String = own.map(|line| format!("{line}\r\n")).collect();
    let answer = format!("{head}\r\n{body}");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut read = Vec::new();
                while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
                    if read.ends_with(b"\r\n\r\n") {
                        read.clear();
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    addr
}

/// Does at `addr` what curl would do at the address of `command`, and prints what it would.
async fn curl(command: &str, addr: SocketAddr) -> String {
    let (mut head, mut url) = (false, None);
    for word in command.split_whitespace().skip(1) {
        match word {
            "-i" => head = true,
            "-s" => {}
            word => {
                assert!(word.starts_with("http://") && url.is_none(), "{command}: {word}?");
                url = word.strip_prefix("http://");
            }
        }
    }
    let (host, path) = url.and_then(|url| url.split_once('/')).expect("an address with a path");
    let request = format!(
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n"
    );
    let reply: Reply = exchange(addr, request.as_bytes(), 1).await;
    let said = if head { reply.text.replace("\r\n", "\n") } else { body(&reply) };
    // A terminal shows the prompt on a line of its own.
    if said.ends_with('\n') { said } else { said + "\n" }
}

/// Puts `<id>` in place of the ids of requests, 32 hex digits.
fn without_ids(text: &str) -> String {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let mut out = String::new();
    for part in text.split_inclusive(|c| !is_hex(c)) {
        let digits = part.trim_end_matches(|c| !is_hex(c));
        if digits.len() == 32 {
            out.push_str("<id>");
            out.push_str(part.trim_start_matches(is_hex));
        } else {
            out.push_str(part);
        }
    }
    out
}

/// The words of a line, with `#` in place of each number.
fn without_figures(line: &str) -> String {
    let mut out = String::new();
    for word in line.split_whitespace() {
        for c in word.chars() {
            let c = if c.is_ascii_digit() { '#' } else { c };
            // A number may have more digits, and a fraction.
            if !(out.ends_with('#') && matches!(c, '#' | '.')) {
                out.push(c);
            }
        }
        out.push(' ');
    }
    out
}

/// The words of a line, with `#` in place of each date, time and duration.
fn without_times(line: &str) -> String {
    let is_time = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && (word.contains(['-', ':']) || word.ends_with('s'))
    };
    let words = line.split_whitespace().map(|word| if is_time(word) { "#" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_demos_hint_works_on_its_service() {
    let shown = blocks().iter().flat_map(Block::shown).collect::<Vec<_>>();
    let demo = shown.iter().find(|shown| shown.command.starts_with("seaworthy demo"));
    let (_, hint) = demo.unwrap().prints.split_once("try: ").expect("it gives a hint");
    let service = Service::start(ServiceConfig::default()).await.expect("the help desk starts");
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(crate::harness::serve(dir.path(), service.addr())).await;
    let said = curl(hint.lines().next().unwrap(), gateway.traffic).await;
    assert!(said.starts_with("HTTP/1.1 200 OK\n"), "{said}");
    let (head, list) = said.split_once("\n\n").expect("a head and a body");
    assert!(head.contains("\nx-content-type-options: nosniff\n"), "{head}");
    assert!(head.contains("\ncontent-type: application/json"), "{head}");
    let _list: serde_json::Value = serde_json::from_str(list).expect("the complaints, as JSON");
    service.shutdown().await;
}
