//! Kills, disks that take no writes, two operators at once, floods of invented clients, and alerts
//! that come again, late or torn.

use seaworthy_console::control::{Command, RuleStanding};
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::Stay;
use seaworthy_store::telemetry::TelemetryReader;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{HOSTS, assert_sound, configure, fast_for, flood, log_of};
use crate::harness::ask::{get, metric, until};
use crate::harness::client::read_replies;
use crate::harness::{Gateway, serve};
use crate::lifecycle::{bound_files, folder, outlives_full_disks, service};
use crate::operator::{
    alert, ask, deliver, now_unix_ms, posted, proof, set, standing, standings, until_stands, visit,
};

fn enforce() -> Mode {
    "enforce".parse().expect("it is a mode")
}

/// What somebody gets whose host is wrong.
async fn stranger(gateway: &Gateway) -> u16 {
    visit(gateway.traffic, "b", None).await
}

#[tokio::test]
async fn what_was_acknowledged_is_in_force_after_a_kill() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    for round in 0..3 {
        let gateway = Gateway::start(serve(dir.path(), service().await)).await;
        let mode = if round % 2 == 0 { "enforce" } else { "warn" };
        let done = set(gateway.console, HOSTS, mode).await;
        gateway.kill().await;
        assert!(done.durable);
        assert_sound(dir.path());

        let gateway = Gateway::start(serve(dir.path(), service().await)).await;
        let now = standing(gateway.console, HOSTS).await.current;
        assert_eq!(now.mode, mode.parse().unwrap(), "{now:?}");
        assert_eq!(stranger(&gateway).await, if mode == "enforce" { 421 } else { 200 });
        gateway.stop().await;
        assert_sound(dir.path());
    }
    let modes: Vec<_> = log_of(dir.path(), HOSTS).into_iter().map(|(_, mode, _)| mode).collect();
    assert_eq!(modes, ["enforce", "warn", "enforce"]);
}

#[tokio::test]
async fn a_kill_in_the_middle_leaves_what_the_log_says() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let upstream = service().await;
    let mut gateway = Gateway::start(serve(dir.path(), upstream)).await;
    for round in 0..6 {
        let (console, traffic) = (gateway.console, gateway.traffic);
        let share = 10 * (round + 1);
        let request = format!(
            r#"{{"rule":"{HOSTS}","actor":"ada","reason":"r","command":"set","mode":"enforce {share}%"}}"#
        );
        let killed = async {
            for _ in 0..round {
                visit(traffic, "a", None).await;
            }
            gateway.kill().await;
        };
        // It is answered, or not; the connection is there before anything is killed.
        let mut stream = TcpStream::connect(console).await.expect("the console listens");
        let asked = async {
            let bytes = posted(console, "/api/v1/rules", &[], &request);
            if stream.write_all(bytes.as_bytes()).await.is_ok() {
                read_replies(&mut stream, 0).await;
            }
        };
        tokio::join!(asked, killed);
        assert_sound(dir.path());
        let said = log_of(dir.path(), HOSTS).pop().map_or("warn".to_owned(), |(_, mode, _)| mode);

        gateway = Gateway::start(serve(dir.path(), upstream)).await;
        let now = standing(gateway.console, HOSTS).await.current;
        assert_eq!(now.mode.to_string(), said, "round {round}");
    }
    gateway.stop().await;
    assert_sound(dir.path());
}

#[tokio::test]
async fn without_a_disk_nothing_climbs_and_everything_falls() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let command = serve(dir.path(), service().await);
    let gateway = Gateway::start(outlives_full_disks(&command)).await;
    let (console, id) = (gateway.console, gateway.process.id());
    for rule in [HOSTS, "csrf", "cors"] {
        set(console, rule, "enforce").await;
    }
    set(console, HOSTS, "warn").await;

    bound_files(id, "0");
    let climb = Command::Set { mode: enforce() };
    let before = standing(console, HOSTS).await.current;
    let (status, text) = ask(console, HOSTS, climb.clone()).await.expect_err("nothing keeps it");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("the ledger cannot take it: "), "{text}");
    let now = standing(console, HOSTS).await.current;
    assert_eq!((now.mode, now.epoch), (Mode::Warn, before.epoch));
    assert_eq!(stranger(&gateway).await, 200);

    // What enforces less is in force at once, and says that it is not written yet.
    let warn = Command::Set { mode: Mode::Warn };
    for (rule, less) in [("csrf", warn), ("cors", Command::Demote {})] {
        let done = ask(console, rule, less).await.expect("a rule can always fall");
        assert_eq!((done.standing.current.mode, done.durable), (Mode::Warn, false), "{rule}");
    }
    let fires = alert("csrf", "9");
    for _ in 0..2 {
        let (status, _) = deliver(console, &proof(&fires, now_unix_ms() / 1000), &fires).await;
        assert_eq!(status, 503, "an alert that is not kept comes again");
    }
    let ready = get(console, "/readyz", &[]).await;
    assert!(ready.text.contains("FAIL  ledger: "), "{}", ready.text);
    // Nor does anything climb behind what is not written.
    let (status, text) = ask(console, HOSTS, climb.clone()).await.expect_err("nothing keeps it");
    assert_eq!(status, 503, "{text}");

    bound_files(id, "unlimited");
    until("what was held is written", async || {
        let size = |rule| log_of(dir.path(), rule).len();
        (size("csrf") == 3 && size("cors") == 2).then_some(())
    })
    .await;
    let (status, said) = deliver(console, &proof(&fires, now_unix_ms() / 1000), &fires).await;
    assert_eq!((status, said["known"].as_u64()), (200, Some(1)), "{said}");
    assert_eq!(stranger(&gateway).await, 200, "what was refused does not happen later");
    let done = ask(console, HOSTS, climb).await.expect("the ledger takes it again");
    assert!(done.durable);
    assert_eq!(stranger(&gateway).await, 421);
    gateway.stop().await;

    assert_sound(dir.path());
    let of = |rule| {
        let log = log_of(dir.path(), rule).into_iter();
        log.map(|(action, mode, _)| format!("{action} {mode}")).collect::<Vec<_>>()
    };
    assert_eq!(of(HOSTS), ["mode.set enforce", "mode.set warn", "mode.set enforce"]);
    assert_eq!(of("csrf"), ["mode.set enforce", "mode.set warn", "alert.demote warn"]);
    assert_eq!(of("cors"), ["mode.set enforce", "mode.demote warn"]);
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    for (rule, mode) in [(HOSTS, enforce()), ("csrf", Mode::Warn), ("cors", Mode::Warn)] {
        assert_eq!(standing(gateway.console, rule).await.current.mode, mode, "{rule}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_ledger_an_alert_demotes_and_nobody_is_told_that_it_is_kept() {
    let dir = folder();
    let data = dir.path().join("seaworthy-data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("ledger.db"), [b'x'; 4096]).unwrap();
    configure(dir.path(), &format!("{}mode = \"enforce\"\n", fast_for("a")));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let console = gateway.console;
    assert_eq!(stranger(&gateway).await, 421);
    let fires = alert(HOSTS, "1");
    for _ in 0..2 {
        let (status, _) = deliver(console, &proof(&fires, now_unix_ms() / 1000), &fires).await;
        assert_eq!((status, stranger(&gateway).await), (503, 200));
    }
    assert_eq!(standing(console, HOSTS).await.current.epoch, 2, "it had its effect once");
    let climb = Command::Set { mode: enforce() };
    let (status, text) = ask(console, "csrf", climb).await.expect_err("nothing keeps it");
    assert_eq!(status, 503, "{text}");
    let done = ask(console, "csrf", Command::Demote {}).await.expect("a rule can always fall");
    assert!(!done.durable);
    gateway.stop().await;
}

#[tokio::test]
async fn of_two_operators_at_once_each_is_heard_and_the_log_says_in_which_order() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let console = gateway.console;
    let mut last = Mode::Warn;
    for _ in 0..10 {
        let command = |mode: &str| Command::Set { mode: mode.parse().expect("it is a mode") };
        let (one, two) = tokio::join!(
            ask(console, HOSTS, command("enforce 10%")),
            ask(console, HOSTS, command("enforce")),
        );
        let [one, two] = [one, two].map(|done| done.expect("nothing stands in the way"));
        let [one, two] = [one.standing.current, two.standing.current];
        assert_ne!(one.epoch, two.epoch);
        let later = if one.epoch > two.epoch { one } else { two };
        let now = standing(console, HOSTS).await.current;
        assert_eq!((now.epoch, now.mode), (later.epoch, later.mode));
        last = now.mode;
    }
    gateway.stop().await;
    let log = log_of(dir.path(), HOSTS);
    assert_eq!(log.len(), 20, "{log:?}");
    assert!(log.is_sorted_by(|(_, _, one), (_, _, next)| one < next), "{log:?}");
    assert_eq!(log.last().map(|(_, mode, _)| mode.as_str()), Some(last.to_string().as_str()));
    assert_sound(dir.path());
}

/// What is compared of the rules before and after something that is to change nothing.
fn places(all: &[RuleStanding]) -> Vec<(String, Mode, u64)> {
    all.iter().map(|one| (one.rule.clone(), one.current.mode, one.current.epoch)).collect()
}

#[tokio::test]
async fn an_alert_has_its_effect_once_and_one_that_is_late_or_torn_has_none() {
    let dir = folder();
    configure(dir.path(), &fast_for("a"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let console = gateway.console;
    set(console, HOSTS, "enforce").await;

    let (text, now_s) = (alert(HOSTS, "1"), now_unix_ms() / 1000);
    let proven = proof(&text, now_s);
    let before = places(&standings(console).await);
    let torn = text.get(..text.len() / 2).expect("it is ASCII");
    let other = alert("csrf", "1");
    for (name, proof, text, status) in [
        ("a delivery of an hour ago", &proof(&text, now_s - 3600), text.as_str(), 401),
        ("one of the future", &proof(&text, now_s + 3600), &text, 401),
        ("the half of one", &proven, torn, 401),
        ("the half of one, proven", &proof(torn, now_s), torn, 400),
        ("nothing of one", &proven, "", 401),
        ("another with its proof", &proven, &other, 401),
    ] {
        let (answer, said) = deliver(console, proof, text).await;
        assert_eq!(answer, status, "{name}: {said}");
        assert_eq!(places(&standings(console).await), before, "{name}");
        assert_eq!(stranger(&gateway).await, 421, "{name}");
    }

    let (status, said) = deliver(console, &proven, &text).await;
    assert_eq!((status, said["demoted"].as_u64()), (200, Some(1)), "{said}");
    assert_eq!(stranger(&gateway).await, 200);
    let held = |now: &RuleStanding| {
        matches!(now.current.stay, Some(Stay::Held { until_unix_ms: None, .. }))
    };
    until_stands(console, HOSTS, "it is held", held).await;

    // An operator has looked into it; the same delivery, and the same alert proven again, are past.
    set(console, HOSTS, "enforce").await;
    let settled = places(&standings(console).await);
    let again = proof(&text, now_unix_ms() / 1000);
    for proof in [&proven, &again] {
        let (status, said) = deliver(console, proof, &text).await;
        assert_eq!((status, said["known"].as_u64()), (200, Some(1)), "{said}");
        assert_eq!(places(&standings(console).await), settled);
    }
    gateway.kill().await;
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let (status, said) = deliver(gateway.console, &proven, &text).await;
    assert_eq!((status, said["known"].as_u64()), (200, Some(1)), "{said}");
    assert_eq!(stranger(&gateway).await, 421);
    gateway.stop().await;
    let alerts =
        log_of(dir.path(), HOSTS).into_iter().filter(|(action, ..)| action == "alert.demote");
    assert_eq!(alerts.count(), 1);
}

/// Sums of one rule over all ticks: evaluated, would-deny and harm.
type Sums = [u64; 3];

/// What is on the disk of [`HOSTS`]: as a whole, and summed over the clients and the others.
fn evidence(reader: &TelemetryReader) -> (Sums, Sums) {
    let (mut whole, mut parts) = ([0; 3], [0; 3]);
    let add = |sums: &mut Sums, more: Sums| {
        for (sum, more) in sums.iter_mut().zip(more) {
            *sum += more;
        }
    };
    let ticks = reader.evidence(0..i64::MAX).expect("it is readable").into_iter();
    for tick in ticks.filter(|tick| tick.rule == HOSTS) {
        let (counts, clients) = (tick.evidence.counts, tick.evidence.clients);
        assert!(clients.len() <= 64, "{}", clients.len());
        add(&mut whole, [counts.evaluated, counts.would_deny, counts.harm]);
        for part in clients.iter().map(|one| one.counts).chain([tick.evidence.other]) {
            add(&mut parts, [part.evaluated, part.would_deny, part.harm]);
        }
    }
    (whole, parts)
}

#[tokio::test]
async fn a_hundred_thousand_invented_clients_are_counted_exactly_in_little_memory() {
    const CLIENTS: usize = 100_000;
    const CONNECTIONS: usize = 4;
    /// Fewer than a ring has room for, so that a slow machine loses none.
    const WAVE: usize = 5000;
    const MORE_BYTES_MAX: f64 = 100e6;
    let dir = folder();
    // Ticks are minutes here, as they are in production: that is where clients add up.
    let hosts = "[protect.host_allowlist]\nhosts = [\"a.example\"]\n";
    configure(dir.path(), &format!("{hosts}[store.telemetry]\nflush_every = \"200ms\"\n"));
    let gateway = Gateway::start(serve(dir.path(), service().await)).await;
    let (traffic, console) = (gateway.traffic, gateway.console);
    let reader = TelemetryReader::open_read_only(&dir.path().join("seaworthy-data")).unwrap();
    let resident = async || metric(console, "process_resident_memory_bytes").await.expect("Linux");

    let mut before = 0.0;
    for from in (0..=CLIENTS).step_by(WAVE) {
        let part = WAVE / CONNECTIONS;
        let start = |n| tokio::spawn(flood(traffic, "b", from + n * part..from + (n + 1) * part));
        for flood in (0..CONNECTIONS).map(start).collect::<Vec<_>>() {
            assert_eq!(flood.await.expect("it ends").expect("all are answered"), part);
        }
        let sent = (from + WAVE) as u64;
        until("every request is counted, once, and for somebody", async || {
            (evidence(&reader) == ([sent; 3], [sent; 3])).then_some(())
        })
        .await;
        // What it takes to serve at all is not what clients cost: the first wave is not counted.
        if from == 0 {
            before = resident().await;
        }
    }
    let more = resident().await - before;
    println!("{CLIENTS} clients: {:.1} MB more", more / 1e6);
    assert!(more < MORE_BYTES_MAX, "{more} bytes more");
    assert_eq!(standing(console, HOSTS).await.current.mode, Mode::Warn);
    gateway.stop().await;
    assert_eq!(reader.evidence_gaps(0).unwrap(), []);
    let sent = (CLIENTS + WAVE) as u64;
    assert_eq!(evidence(&reader), ([sent; 3], [sent; 3]));
}
