//! What operators do to rules from the command line: through a gateway that runs, and without one.

mod alerted;
mod approval;
mod explained;
mod printed;
mod secrets;
mod waivers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use seaworthy_demo::{Service, ServiceConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::ask::{get, until};
use crate::harness::client::exchange;
use crate::harness::{Gateway, seaworthy, serve};

/// A folder with a config, the help desk behind it, and the gateway while it runs.
struct Desk {
    dir: TempDir,
    service: Service,
    gateway: Option<Gateway>,
}

impl Desk {
    async fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("seaworthy.toml"), config).expect("it is writable");
        let service = Service::start(ServiceConfig::default()).await.expect("the help desk starts");
        let mut desk = Self { dir, service, gateway: None };
        desk.open().await;
        desk
    }

    async fn open(&mut self) {
        let command = serve(self.dir.path(), self.service.addr());
        self.gateway = Some(Gateway::start(command).await);
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it runs")
    }

    async fn close(&mut self) {
        let mut gateway = self.gateway.take().expect("it runs");
        gateway.process.signal("TERM");
        assert_eq!(gateway.process.ended().await.0, Some(0));
    }

    async fn kill(&mut self) {
        let mut gateway = self.gateway.take().expect("it runs");
        gateway.process.signal("KILL");
        gateway.process.ended().await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that asks the rules: by the gateway's console while it runs.
    fn rules(&self, args: &[&str]) -> Ran {
        let console = match &self.gateway {
            Some(gateway) => gateway.console.to_string(),
            None => NOBODY.to_owned(),
        };
        self.ran(&[args, &["--console", &console]].concat())
    }

    /// One that moves a rule.
    fn operator(&self, args: &[&str], reason: &str) -> Ran {
        self.rules(&[args, &["--actor", "ada", "--reason", reason]].concat())
    }

    fn ran(&self, args: &[&str]) -> Ran {
        ran(self.dir.path(), args)
    }

    /// Where a rule stands, by `rollout status`.
    fn status(&self, rule: &str) -> Value {
        let shown = self.rules(&["rollout", "status", rule, "--json"]).json(0);
        shown["rules"][0].clone()
    }

    fn mode(&self, rule: &str) -> Value {
        self.status(rule)["current"]["mode"].clone()
    }

    /// The leaves of the audit log, oldest first.
    fn leaves(&self) -> Vec<Value> {
        let rows = self.ran(&["audit", "tail", "-n", "1000", "--json"]).json(0);
        rows.as_array().expect("a list").iter().map(|row| row["leaf"].clone()).collect()
    }

    /// The actions of an actor, in order.
    fn actions(&self, actor: &str) -> Vec<String> {
        let leaves = self.leaves();
        let own = leaves.iter().filter(|leaf| leaf["actor"] == actor);
        own.map(|leaf| leaf["action"].as_str().expect("text").to_owned()).collect()
    }

    async fn end(mut self) {
        if self.gateway.is_some() {
            self.close().await;
        }
        self.ran(&["audit", "verify"]).said(0);
        self.service.shutdown().await;
    }
}

/// Where nobody listens.
const NOBODY: &str = "127.0.0.1:1";

/// How a command ended.
struct Ran {
    args: String,
    output: Output,
}

fn ran(dir: &Path, args: &[&str]) -> Ran {
    let output = seaworthy(dir, args).output().expect("the binary runs");
    Ran { args: args.join(" "), output }
}

impl Ran {
    /// Both streams, where it ended with `code`.
    fn said(&self, code: i32) -> String {
        let Output { stdout, stderr, status } = &self.output;
        let said = String::from_utf8([&stdout[..], stderr].concat()).expect("it is text");
        assert_eq!(status.code(), Some(code), "{}: {said}", self.args);
        said
    }

    fn json(&self, code: i32) -> Value {
        let said = self.said(code);
        serde_json::from_slice(&self.output.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}: {said}", self.args))
    }
}

#[tokio::test]
async fn each_move_is_in_force_and_in_the_log_by_its_name() {
    let desk = Desk::start("").await;
    let client = "bearer:0123456789abcdef";
    let moves: [(&[&str], &str, &str, &str); 10] = [
        (
            &["mode", "set", "csrf", "enforce=10%"],
            "enforce 10%",
            "mode.set",
            "csrf is at enforce 10%",
        ),
        (
            &["rollout", "hold", "csrf", "--until", "2h"],
            "enforce 10%",
            "rollout.hold",
            "held until 20",
        ),
        (&["rollout", "promote", "csrf"], "enforce 50%", "mode.promote", "csrf is at enforce 50%"),
        (
            &["rollout", "hold", "csrf"],
            "enforce 50%",
            "rollout.hold",
            "held until `rollout release`",
        ),
        (&["rollout", "release", "csrf"], "enforce 50%", "rollout.hold", "csrf is at enforce 50%"),
        (&["rollout", "demote", "csrf"], "warn", "mode.demote", "csrf is at warn; held until 20"),
        (
            &["rollout", "waive", "csrf", client, "--until", "1d"],
            "warn",
            "rollout.waive",
            "may break bearer:",
        ),
        (
            &["rollout", "unwaive", "csrf", client],
            "warn",
            "rollout.unwaive",
            "may not break bearer:",
        ),
        (&["mode", "set", "csrf", "off"], "off", "mode.set", "it judges nothing until"),
        (&["mode", "set", "csrf", "warn"], "warn", "mode.set", "csrf is at warn"),
    ];
    let mut actions = Vec::new();
    for (number, (args, mode, action, sentence)) in moves.into_iter().enumerate() {
        let reason = format!("reason {number}");
        let said = desk.operator(args, &reason).said(0);
        assert!(said.contains(sentence), "{args:?}: {said}");
        assert_eq!(desk.mode("csrf"), mode, "{args:?}");
        actions.push(action);
        assert_eq!(desk.actions("operator:ada"), actions, "{args:?}");
        let leaf = desk.leaves().pop().expect("there is one");
        assert!(leaf["reason"].as_str().is_some_and(|said| said.ends_with(&reason)), "{leaf}");
        assert_eq!(leaf["target"], "csrf");
    }
    // All but the waivers moved the rule: each has a receipt, and all are right.
    let page = desk.ran(&["rollout", "history", "csrf", "--json"]).json(0);
    let receipts = page["receipts"].as_array().expect("a list");
    assert_eq!((receipts.len(), &page["next"]), (8, &Value::Null));
    for row in receipts {
        assert_eq!(row["receipt"]["actor"], "operator:ada");
        let seq = row["seq"].to_string();
        let receipt = desk.ran(&["rollout", "receipt", &seq]);
        fs::write(desk.path(&format!("{seq}.json")), receipt.said(0)).unwrap();
        let leaf = desk.ran(&["audit", "show", &seq, "--json"]).json(0);
        assert_eq!(leaf["leaf"]["after"]["receipt"], row["receipt"]["digest"]);
    }
    let files: Vec<String> = receipts.iter().map(|row| format!("{}.json", row["seq"])).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let verify = [&["rollout", "verify"], &files[..]].concat();
    let said = ran(desk.dir.path(), &verify).said(0);
    assert_eq!(said.matches(" right ").count(), 8, "{said}");
    // The table has them, newest first, with the key of the page after it.
    let said = desk.ran(&["rollout", "history", "--limit", "2"]).said(0);
    assert!(said.contains("off → warn") && said.contains("older ones: --before "), "{said}");
    desk.end().await;
}

#[tokio::test]
async fn a_receipt_with_a_flipped_digit_is_wrong() {
    let desk = Desk::start("").await;
    desk.operator(&["mode", "set", "csrf", "enforce=10%"], "to see").said(0);
    let page = desk.ran(&["rollout", "history", "csrf", "--json"]).json(0);
    let seq = page["receipts"][0]["seq"].to_string();
    let receipt = desk.ran(&["rollout", "receipt", &seq]).said(0);
    let time = page["receipts"][0]["receipt"]["at_unix_ms"].to_string();
    let flipped = |text: &str| {
        let last = text.chars().next_back().and_then(|digit| digit.to_digit(10)).expect("a digit");
        let rest = text.get(..text.len() - 1).expect("it is a number");
        format!("{rest}{}", (last + 1) % 10)
    };
    let write = |name: &str, text: &str| fs::write(desk.path(name), text).unwrap();
    write("right.json", &receipt);
    write("spaced.json", &format!(" {receipt}\n"));
    write("flipped.json", &receipt.replace(&time, &flipped(&time)));
    write("rounded.json", &receipt.replacen("\"v\":2,", "\"v\":2e0,", 1));
    write("cut.json", receipt.get(..receipt.len() / 2).unwrap());
    write("large.json", &" ".repeat((4 << 20) + 1));
    for (files, code, words) in [
        (&["right.json", "spaced.json"][..], 0, "csrf: warn → enforce 10%, by operator:ada, "),
        (&["flipped.json"], 1, "its digest is "),
        (&["rounded.json"], 65, "it is no receipt"),
        (&["cut.json"], 65, "it is no receipt"),
        (&["large.json"], 65, "it has more than 4194304 bytes"),
        (&["absent.json"], 65, "it cannot be read: "),
        (&["right.json", "absent.json", "flipped.json"], 1, "csrf: warn → enforce 10%"),
    ] {
        let said = ran(desk.dir.path(), &[&["rollout", "verify"], files].concat()).said(code);
        assert!(said.contains(words), "{files:?}: {said}");
        let found = ran(desk.dir.path(), &[&["rollout", "verify", "--json"], files].concat());
        assert_eq!(found.json(code).as_array().map(Vec::len), Some(files.len()));
    }
    desk.end().await;
}

#[tokio::test]
async fn without_a_gateway_the_ledger_is_written_and_in_force_with_the_next_start() {
    let mut desk = Desk::start("").await;
    // Without a gateway's console nothing is written beside the gateway that runs.
    let pid = desk.gateway().process.id();
    let beside = ["mode", "set", "csrf", "enforce", "--actor", "ada", "--reason", "r"];
    let said = desk.ran(&[&beside[..], &["--console", NOBODY]].concat()).said(69);
    let words =
        format!("no gateway answers at {NOBODY}, yet one runs on this data (process {pid})");
    assert!(said.contains(&words) && said.contains("--console"), "{said}");
    assert_eq!(desk.actions("operator:ada"), [""; 0]);
    desk.close().await;

    let shown = desk.rules(&["mode", "--json"]).json(0);
    assert_eq!(shown["through"], "ledger");
    let before = desk.status("cors")["current"].clone();
    let client = "key:0123456789abcdef";
    for (args, action) in [
        (&["mode", "set", "csrf", "enforce=10%"][..], "mode.set"),
        (&["rollout", "promote", "rate_limit"], "mode.promote"),
        (&["rollout", "hold", "rate_limit"], "rollout.hold"),
        (&["rollout", "release", "rate_limit"], "rollout.hold"),
        (&["rollout", "promote", "injection"], "mode.promote"),
        (&["rollout", "demote", "injection"], "mode.demote"),
        (&["rollout", "waive", "csrf", client, "--until", "1d"], "rollout.waive"),
    ] {
        let said = desk.operator(args, "while it is down").said(0);
        assert!(said.contains("it is in the ledger, and in force with the next start"), "{said}");
        assert_eq!(desk.actions("operator:ada").pop().as_deref(), Some(action));
    }
    // What is written for a gateway of a fleet would not outlast its start.
    let fleet = "[service]\nname = \"desk\"\n[modes]\nredis = \"redis://127.0.0.1:1\"\n";
    fs::write(desk.path("seaworthy.toml"), fleet).unwrap();
    let said = desk.operator(&["mode", "set", "csrf", "off"], "r").said(69);
    assert!(said.contains("the fleet's modes win over those of the ledger"), "{said}");
    fs::write(desk.path("seaworthy.toml"), "").unwrap();
    let said = desk.operator(&["rollout", "unwaive", "cors", client], "r").said(1);
    assert!(said.contains("has no waiver for cors"), "{said}");
    assert_eq!(desk.mode("csrf"), "enforce 10%");
    desk.ran(&["audit", "verify"]).said(0);

    desk.open().await;
    assert_eq!(desk.rules(&["mode", "--json"]).json(0)["through"], "gateway");
    assert_eq!(desk.mode("csrf"), "enforce 10%");
    assert_eq!(desk.mode("rate_limit"), "enforce 10%");
    assert_eq!(desk.mode("injection"), "warn");
    assert_eq!(desk.status("csrf")["waivers"][0]["client"], client);
    // The gateway was closed in order, whatever was written since: no window began anew.
    let after = desk.status("cors")["current"].clone();
    assert_eq!((&after["attempt"], &after["epoch"]), (&before["attempt"], &before["epoch"]));
    desk.end().await;
}

#[tokio::test]
async fn a_mode_outlasts_a_restart_and_a_kill() {
    let mut desk = Desk::start("").await;
    desk.operator(&["mode", "set", "csrf", "enforce=10%"], "to see").said(0);
    desk.close().await;
    desk.open().await;
    assert_eq!(desk.mode("csrf"), "enforce 10%");
    for mode in ["enforce=50%", "warn", "enforce", "off", "enforce=20%"] {
        desk.operator(&["mode", "set", "csrf", mode], "to see").said(0);
        desk.kill().await;
        desk.open().await;
        assert_eq!(desk.mode("csrf"), mode.replace('=', " "));
    }
    assert_eq!(desk.actions("operator:ada"), ["mode.set"; 6]);
    desk.end().await;
}

#[tokio::test]
async fn two_at_once_follow_each_other() {
    let mut desk = Desk::start("").await;
    let both = |desk: &Desk, console: String| {
        let spawn = |mode: &str| {
            let args = ["mode", "set", "csrf", mode, "--actor", "ada", "--reason", mode];
            let mut command =
                seaworthy(desk.dir.path(), &[&args[..], &["--console", &console]].concat());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
            command.spawn().expect("the binary runs")
        };
        let children = [spawn("enforce=10%"), spawn("enforce=50%")];
        let ended = children.map(|child| child.wait_with_output().expect("it was started here"));
        ended.map(|output| output.status.code().expect("it was not killed"))
    };
    let epoch = |desk: &Desk| desk.status("csrf")["current"]["epoch"].as_u64().expect("a number");
    let last = |desk: &Desk| desk.leaves().pop().expect("there is one")["after"]["mode"].clone();

    let before = epoch(&desk);
    let console = desk.gateway().console.to_string();
    assert_eq!(both(&desk, console), [0, 0]);
    assert_eq!(epoch(&desk), before + 2);
    assert_eq!(desk.mode("csrf"), last(&desk));
    desk.close().await;

    // Without a gateway the second may find the ledger locked, and then has written nothing.
    let (before, known) = (epoch(&desk), desk.actions("operator:ada").len());
    let codes = both(&desk, NOBODY.to_owned());
    let done = codes.iter().filter(|code| **code == 0).count();
    assert!(done >= 1 && codes.iter().all(|code| [0, 69].contains(code)), "{codes:?}");
    assert_eq!(desk.actions("operator:ada").len(), known + done);
    assert_eq!(epoch(&desk), before + done as u64);
    assert_eq!(desk.mode("csrf"), last(&desk));
    desk.end().await;
}

#[tokio::test]
async fn a_pinned_rule_is_the_files_but_for_an_emergency() {
    let desk = Desk::start("[protect.csrf]\nmode = \"enforce\"\n").await;
    for args in [
        &["mode", "set", "csrf", "enforce=10%"][..],
        &["mode", "set", "csrf", "off"],
        &["rollout", "promote", "csrf"],
    ] {
        let said = desk.operator(args, "r").said(1);
        let words =
            "seaworthy: the file pins csrf to enforce: change it there, or set it to \"auto\"";
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert_eq!(desk.mode("csrf"), "enforce");
    let said = desk.operator(&["rollout", "hold", "csrf"], "the sale").said(0);
    assert!(said.contains("csrf is at enforce; it is held, which matters once"), "{said}");
    desk.operator(&["rollout", "release", "csrf"], "the sale is over").said(0);
    desk.operator(&["rollout", "demote", "csrf"], "checkouts fail").said(0);
    assert_eq!(desk.mode("csrf"), "warn");
    let listed = desk.rules(&["mode"]).said(0);
    assert!(listed.contains("it overrides the enforce of the file until"), "{listed}");
    desk.operator(&["rollout", "release", "csrf"], "mended").said(0);
    assert_eq!(desk.mode("csrf"), "enforce");
    desk.end().await;
}

#[tokio::test]
async fn what_denies_less_is_of_both_versions() {
    let mut desk = Desk::start("").await;
    desk.operator(&["mode", "set", "rate_limit", "enforce=50%"], "to see").said(0);
    let limits =
        "[protect.rate_limit]\nlimits = [{ per = \"client\", rate = \"9/min\", burst = 9 }]\n";
    fs::write(desk.path("seaworthy.toml"), limits).unwrap();
    until("the new version is judged beside the old one", async || {
        desk.status("rate_limit")["next"].is_object().then_some(())
    })
    .await;
    let modes = |desk: &Desk| {
        let status = desk.status("rate_limit");
        [status["current"]["mode"].clone(), status["next"]["mode"].clone()]
    };
    let stays = |desk: &Desk| {
        let status = desk.status("rate_limit");
        ["current", "next"].map(|lane| status[lane]["stay"]["reason"].clone())
    };
    assert_eq!(modes(&desk), ["enforce 50%", "warn"]);
    desk.operator(&["rollout", "hold", "rate_limit"], "the sale").said(0);
    assert_eq!(stays(&desk), ["held", "held"]);
    desk.operator(&["rollout", "release", "rate_limit"], "it is over").said(0);
    assert!(!stays(&desk).contains(&json!("held")), "{:?}", stays(&desk));
    // What is tried is what is promoted.
    let said = desk.operator(&["rollout", "promote", "rate_limit"], "tested").said(0);
    assert!(said.starts_with("version 2 of rate_limit is at enforce 10%"), "{said}");
    assert_eq!(modes(&desk), ["enforce 50%", "enforce 10%"]);
    let shown = desk.rules(&["rollout", "status", "rate_limit"]).said(0);
    assert!(shown.contains("version 2 is judged beside it, to take its place"), "{shown}");
    desk.operator(&["rollout", "demote", "rate_limit"], "it hurts").said(0);
    // Nothing keeps the new version waiting any more.
    assert_eq!(modes(&desk), [json!("warn"), Value::Null]);

    // Without a gateway it goes on from there, and each move has a receipt that is right.
    desk.close().await;
    desk.operator(&["rollout", "hold", "rate_limit"], "not yet").said(0);
    assert_eq!(stays(&desk), [json!("held"), Value::Null]);
    desk.operator(&["rollout", "promote", "rate_limit"], "again").said(0);
    assert_eq!(modes(&desk), [json!("enforce 10%"), Value::Null]);
    desk.open().await;
    assert_eq!(modes(&desk), [json!("enforce 10%"), Value::Null]);
    assert_eq!(desk.status("rate_limit")["current"]["version"], 2);
    let page = desk.ran(&["rollout", "history", "rate_limit", "--json"]).json(0);
    for row in page["receipts"].as_array().expect("a list") {
        let seq = row["seq"].to_string();
        fs::write(desk.path("one.json"), desk.ran(&["rollout", "receipt", &seq]).said(0)).unwrap();
        desk.ran(&["rollout", "verify", "one.json"]).said(0);
    }
    desk.end().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_a_sentence() {
    let mut desk = Desk::start("").await;
    let long = "x".repeat(100_000);
    let refused = |desk: &Desk| {
        for (args, reason, code, words) in [
            (
                &["mode", "set", "csfr", "warn"][..],
                "r",
                64,
                "there is no rule \"csfr\"; did you mean \"csrf\"?",
            ),
            (
                &["rollout", "hold", "nothing-like-it"],
                "r",
                64,
                "there is no rule \"nothing-like-it\"\n",
            ),
            (&["mode", "set", &long, "warn"], "r", 64, "it has 100000 bytes"),
            (&["mode", "set", "csrf", "enforce=0.001%"], "r", 64, "expected off, warn, enforce"),
            (&["mode", "set", "csrf", "warn"], &long, 64, "it has 100000 characters, and 500"),
            (&["mode", "set", "csrf", "warn"], "a\nb", 64, "in one line"),
            (
                &["rollout", "hold", "csrf", "--until", "2020-01-01T00:00:00Z"],
                "r",
                64,
                "is over already",
            ),
            (&["rollout", "waive", "csrf", &long, "--until", "1d"], "r", 64, "it has 100000 bytes"),
            (
                &["rollout", "waive", "csrf", "acme", "--until", "1d"],
                "r",
                64,
                "expected a client as",
            ),
            (
                &["rollout", "waive", "csrf", "ip:203.0.113.7", "--until", "400d"],
                "r",
                64,
                "366 days",
            ),
            (&["rollout", "unwaive", "csrf", "ip:203.0.113.7"], "r", 1, "has no waiver for csrf"),
        ] {
            let said = desk.operator(args, reason).said(code);
            let name = args.join(" ");
            assert!(said.contains(words), "{}: {said}", name.get(..60).unwrap_or(&name));
        }
        let unnamed = desk.rules(&["rollout", "demote", "csrf", "--reason", "r"]).said(64);
        assert!(unnamed.contains("name yourself with --actor"), "{unnamed}");
        assert_eq!(desk.actions("operator:ada"), [""; 0]);
        assert_eq!(desk.status("csrf")["current"]["epoch"], 1);
    };
    refused(&desk);

    // Who speaks to the console without the command line is bounded there.
    let console = desk.gateway().console;
    let megabyte = "x".repeat(1 << 20);
    for request in [
        json!({ "rule": "csrf", "actor": "ada", "reason": megabyte, "command": "demote" }),
        json!({ "rule": "csrf", "actor": "ada", "reason": "r", "command": "unwaive", "client": megabyte }),
    ] {
        let body = request.to_string();
        let head = format!(
            "POST /api/v1/rules HTTP/1.1\r\nHost: {console}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let reply = exchange(console, format!("{head}{body}").as_bytes(), 1).await;
        assert_eq!(reply.statuses(), [413]);
    }
    assert_eq!(get(console, "/readyz", &[]).await.statuses(), [200]);
    desk.close().await;
    refused(&desk);

    let elsewhere = tempfile::tempdir().unwrap();
    let args = ["mode", "--data", "nowhere", "--console", NOBODY];
    let said = ran(elsewhere.path(), &args).said(69);
    assert!(said.contains("there is no nowhere/ledger.db"), "{said}");
    let set = ["mode", "set", "csrf", "warn", "--actor", "ada", "--reason", "r"];
    ran(elsewhere.path(), &[&set[..], &args[1..]].concat()).said(69);
    assert!(!elsewhere.path().join("nowhere").exists(), "a question makes no folder");
    desk.end().await;
}

#[tokio::test]
async fn a_fault_in_the_file_does_not_stop_a_demotion() {
    let desk = Desk::start("").await;
    desk.operator(&["mode", "set", "csrf", "enforce"], "to see").said(0);
    fs::write(desk.path("seaworthy.toml"), "[lgo]\n").unwrap();
    desk.operator(&["rollout", "demote", "csrf"], "checkouts fail").said(0);
    assert_eq!(desk.mode("csrf"), "warn");
    let said = desk.ran(&["rollout", "demote", "csrf", "--actor", "a", "--reason", "r"]).said(78);
    assert!(said.contains("did you mean `log`?") && said.contains("with --console"), "{said}");
    fs::write(desk.path("seaworthy.toml"), "").unwrap();
    desk.end().await;
}

#[tokio::test]
async fn another_gateway_is_not_asked_unless_it_is_named() {
    let desk = Desk::start("").await;
    let mut beside = Desk::start("").await;
    beside.close().await;
    let console = desk.gateway().console;
    let config = format!("[console]\naddr = \"{console}\"\n");
    let set = ["mode", "set", "csrf", "enforce", "--actor", "ada", "--reason", "r"];
    for folder in [&desk, &beside] {
        fs::write(folder.path("seaworthy.toml"), &config).unwrap();
    }
    let words = format!("the gateway at {console} is another one than that of ");
    for args in [&set[..], &["mode"], &["rollout", "status", "csrf"]] {
        let said = beside.ran(args).said(69);
        assert!(said.contains(&words) && said.contains("--console"), "{said}");
    }
    assert_eq!(desk.mode("csrf"), "warn");
    desk.ran(&set).said(0);
    assert_eq!(desk.mode("csrf"), "enforce");
    let named = ["rollout", "demote", "csrf", "--actor", "ada", "--reason", "r", "--console"];
    beside.ran(&[&named[..], &[&console.to_string()]].concat()).said(0);
    assert_eq!(desk.mode("csrf"), "warn");
    desk.end().await;
    beside.end().await;
}

#[tokio::test]
async fn a_refused_request_is_explained() {
    let desk = Desk::start("").await;
    desk.operator(&["mode", "set", "csrf", "enforce"], "to see").said(0);
    let traffic = desk.gateway().traffic;
    let ask = async |fields: &str| {
        let request = format!(
            "POST /api/complaints HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\
             Sec-Fetch-Site: cross-site\r\n{fields}\r\n"
        );
        let reply = exchange(traffic, request.as_bytes(), 1).await;
        let id = reply.text.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        (reply.statuses(), id.expect("every answer has one").to_owned())
    };
    let explain = async |id: &str| {
        until("the request is written", async || {
            let ran = desk.ran(&["requests", "--explain", id]);
            (ran.output.status.code() == Some(0)).then(|| ran.said(0))
        })
        .await
    };
    // A session and a token: whoever sends no cookie cannot be forged for.
    let fields = "Cookie: session=abc\r\n";
    let (statuses, id) = ask(fields).await;
    assert_eq!(statuses, [403]);
    let said = explain(&id).await;
    for words in [
        "client   cookie:",
        "answer   403 (denied, ",
        "denied   csrf\n",
        "then: enforce, version 1, since ",
        " by operator:ada: ada: to see (entry ",
        ", which is in the share of 100% (below 10000)",
        "now: enforce, version 1\n",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    desk.operator(&["rollout", "demote", "csrf"], "it hurts").said(0);
    let (statuses, later) = ask(fields).await;
    assert_ne!(statuses, [403]);
    let said = explain(&later).await;
    for words in ["would deny  csrf\n", "then: warn, version 1", "it is in every share above "] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = explain(&id).await;
    assert!(said.contains("then: enforce,") && said.contains("now: warn,"), "{said}");
    let json = desk.ran(&["requests", "--explain", &id, "--json"]).json(0);
    assert_eq!(json["rules"][0]["then"]["mode"], "enforce");
    let said = desk.ran(&["requests", "--explain", "0123"]).said(1);
    assert!(said.contains("no request \"0123\" was kept") && said.contains("sample"), "{said}");
    desk.end().await;
}
