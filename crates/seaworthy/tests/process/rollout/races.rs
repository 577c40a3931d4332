//! What happens between the entry of a promotion and its mode: a kill, an alert, another operator, a
//! disk that takes nothing.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::time::Instant;

use seaworthy_console::control::Command;
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::Stay;
use seaworthy_store::ledger::LedgerReader;

use super::{
    BYSTANDERS, HOSTS, assert_sound, configure, fast_for, faster_for, flood, log_of, until_climbs,
};
use crate::harness::client::PATIENCE;
use crate::harness::{Gateway, serve};
use crate::lifecycle::{bound_files, folder, outlives_full_disks, service};
use crate::operator::{
    alert, ask, deliver, now_unix_ms, proof, set, standing, until_stands, visit,
};

fn data(dir: &Path) -> PathBuf {
    dir.join("seaworthy-data")
}

fn mode(text: &str) -> Mode {
    text.parse().expect("it is a mode")
}

#[tokio::test]
async fn a_kill_as_soon_as_the_entry_is_there_leaves_what_it_says() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let upstream = service().await;
    let mut gateway = Gateway::start(serve(dir.path(), upstream)).await;
    for round in 1..=6 {
        let ledger = LedgerReader::open_read_only(&data(dir.path())).expect("there is a ledger");
        let moved = move |ledger: &LedgerReader| {
            let rows = ledger.tail(round * 4).expect("it can be read");
            rows.iter().filter(|row| row.leaf.contains(r#""action":"mode."#)).count()
        };
        let before = moved(&ledger);
        let watching = tokio::task::spawn_blocking(move || {
            let end = Instant::now() + PATIENCE;
            while moved(&ledger) == before {
                assert!(Instant::now() < end, "the entry is written");
            }
        });
        let set = Command::Set { mode: mode(&format!("enforce {}%", 10 * round)) };
        let console = gateway.console;
        let asked = tokio::spawn(async move { ask(console, HOSTS, set).await });
        watching.await.expect("there is an entry");
        // At once, and by no shell.
        drop(gateway);
        // It has an answer, or not.
        drop(asked.await);
        assert_sound(dir.path());
        let (_, said, epoch) = log_of(dir.path(), HOSTS).pop().expect("it was written");
        assert_eq!(said, format!("enforce {}%", 10 * round));

        gateway = Gateway::start(serve(dir.path(), upstream)).await;
        let now = standing(gateway.console, HOSTS).await.current;
        assert_eq!((now.mode.to_string(), now.epoch > epoch), (said, true), "round {round}");
    }
    gateway.stop().await;
    assert_sound(dir.path());
    let epochs: Vec<_> = log_of(dir.path(), HOSTS).into_iter().map(|(.., epoch)| epoch).collect();
    assert!(epochs.is_sorted_by(|one, next| one < next), "{epochs:?}");
}

#[tokio::test]
async fn of_two_promotions_of_one_step_one_is_heard() {
    for (approval, after_one) in [("auto", "enforce 10%"), ("manual", "warn")] {
        let dir = folder();
        let config =
            fast_for("a").replace("[rollout]", &format!("[rollout]\napproval = \"{approval}\""));
        configure(dir.path(), &config);
        let gateway = Gateway::start(serve(dir.path(), service().await)).await;
        let console = gateway.console;
        let seen = standing(console, HOSTS).await.current.epoch;
        let promote = || ask(console, HOSTS, Command::Promote { epoch: Some(seen) });
        let (one, two) = tokio::join!(promote(), promote());
        let (done, refused) = match (one, two) {
            (Ok(done), Err(refused)) | (Err(refused), Ok(done)) => (done, refused),
            both => panic!("{approval}: {both:?}"),
        };
        assert_eq!(done.standing.current.mode, mode(after_one), "{approval}");
        assert_eq!(refused.0, 409, "{approval}: {}", refused.1);
        assert!(refused.1.contains("has been changed since you looked"), "{}", refused.1);
        let now = standing(console, HOSTS).await.current;
        assert_eq!((now.mode, now.epoch), (mode(after_one), seen + 1), "{approval}");
        // Whoever has looked again may go on, where what was approved does not wait for the gates.
        let again = ask(console, HOSTS, Command::Promote { epoch: Some(now.epoch) }).await;
        gateway.stop().await;
        let moves = log_of(dir.path(), HOSTS).len();
        match again {
            Ok(done) => {
                assert_eq!((approval, done.standing.current.mode), ("auto", mode("enforce 50%")));
                assert_eq!(moves, 2);
            }
            Err((status, said)) => {
                assert_eq!((approval, status, moves), ("manual", 409, 1), "{said}");
                assert!(said.contains("is approved already"), "{said}");
            }
        }
        assert_sound(dir.path());
    }
}

/// Somebody else who writes to the ledger, as `sqlite3` does: what the gateway writes waits.
struct Writer(Child);

impl Writer {
    fn begin(dir: &Path) -> Self {
        let script = "import sqlite3, sys\n\
                      ledger = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                      ledger.execute('BEGIN IMMEDIATE')\n\
                      print('begun', flush=True)\n\
                      sys.stdin.read()\n\
                      ledger.execute('ROLLBACK')\n";
        let mut child = Program::new("python3")
            .args(["-c", script])
            .arg(data(dir).join("ledger.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is Python");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        said.read_line(&mut line).expect("it is text");
        assert_eq!(line, "begun\n");
        Self(child)
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("it was started here").success());
    }
}

#[tokio::test]
async fn an_alert_while_a_promotion_is_written_has_the_later_epoch_and_the_last_word() {
    const ROUNDS: usize = 20;
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let (console, traffic) = (gateway.console, gateway.traffic);
    let mut overtaken = 0;
    for round in 0..ROUNDS {
        set(console, HOSTS, "enforce 50%").await;
        let writer = Writer::begin(dir.path());
        let promotion =
            tokio::spawn(
                async move { ask(console, HOSTS, Command::Promote { epoch: None }).await },
            );
        // Time for the promotion to come to where it waits.
        for _ in 0..10 {
            visit(traffic, "a", None).await;
        }
        let fires = alert(HOSTS, &round.to_string());
        let alerted = tokio::spawn(async move {
            deliver(console, &proof(&fires, now_unix_ms() / 1000), &fires).await
        });
        for _ in 0..10 {
            visit(traffic, "a", None).await;
        }
        writer.end();
        let (status, said) = alerted.await.expect("it is answered");
        assert_eq!((status, said["demoted"].as_u64()), (200, Some(1)), "{said}");
        match promotion.await.expect("it is answered") {
            Err((409, text)) if text.contains("the rule has been changed since") => overtaken += 1,
            // It was there first, or the disk did not take it in time.
            Ok(_) | Err((503, _)) => {}
            Err(other) => panic!("{other:?}"),
        }
        let now = until_stands(console, HOSTS, "the alert has the last word", |now| {
            matches!(now.current.stay, Some(Stay::Held { until_unix_ms: None, .. }))
        })
        .await;
        assert_eq!((now.current.mode, visit(traffic, "b", None).await), (Mode::Warn, 200));
        if overtaken == 2 {
            break;
        }
    }
    assert_eq!(overtaken, 2, "no alert came in between");
    gateway.stop().await;
    let log = log_of(dir.path(), HOSTS);
    assert!(log.is_sorted_by(|(.., one), (.., next)| one < next), "{log:?}");
    // The entry of the promotion is there, and the alert's comes after it.
    let [.., (climb, up, _), (fall, down, _)] = &log[..] else { panic!("{log:?}") };
    assert_eq!([climb, up], ["mode.promote", "enforce"]);
    assert_eq!([fall, down], ["alert.demote", "warn"]);
    assert_sound(dir.path());
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    assert_eq!(standing(gateway.console, HOSTS).await.current.mode, Mode::Warn);
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_disk_the_gates_promote_nothing_and_afterwards_once() {
    let dir = folder();
    configure(dir.path(), &faster_for("a"));
    let command = serve(dir.path(), service().await);
    let gateway = Gateway::start(outlives_full_disks(&command)).await;
    let (console, traffic) = (gateway.console, gateway.traffic);
    let before = standing(console, HOSTS).await.current;
    bound_files(gateway.process.id(), "0");
    let bystanders = async {
        loop {
            flood(traffic, "a", 0..BYSTANDERS).await.expect("all are answered");
        }
    };
    tokio::select! {
        _ = gateway.process.says("a promotion waits for the ledger") => {}
        () = bystanders => {}
    }
    let waits = standing(console, HOSTS).await.current;
    assert_eq!((waits.mode, waits.epoch), (Mode::Warn, before.epoch), "{waits:?}");
    assert_eq!(visit(traffic, "b", None).await, 200);
    assert_eq!(log_of(dir.path(), HOSTS), []);

    bound_files(gateway.process.id(), "unlimited");
    let climbed = until_climbs(&gateway, "it climbs", |now| now.current.mode != Mode::Warn).await;
    assert_eq!(climbed.current.mode, mode("enforce 10%"));
    gateway.stop().await;
    assert_sound(dir.path());
    let log = log_of(dir.path(), HOSTS);
    let tenth = ("mode.promote".to_owned(), "enforce 10%".to_owned(), before.epoch + 1);
    assert_eq!(log.first(), Some(&tenth));
    assert!(log.is_sorted_by(|(.., one), (.., next)| one < next), "{log:?}");
    let last = log.last().map(|(_, mode, _)| mode.clone());
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let now = standing(gateway.console, HOSTS).await.current;
    assert_eq!(Some(now.mode.to_string()), last);
    gateway.stop().await;
}
