//! What is believed when Redis is killed, stopped, emptied, or was never there.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock};

use seaworthy_policy::mode::Mode;
use seaworthy_policy::modes::ModeBoard;
use seaworthy_store::fleet::{Belief, Fleet, FleetError, FleetState, Published};
use tempfile::tempdir;
use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::server::Server;
use crate::{
    ENFORCE, OTHER_RULE, RULE, board, entry, options, text, until, until_fresh, until_health,
    until_it_knows, until_synced, without_refresh,
};

#[tokio::test]
async fn a_kill_and_a_restart_lose_nothing_and_a_demotion_meanwhile_reaches_the_others() {
    let mut server = Server::start().await;
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let known = board(&[(RULE, entry(ENFORCE, 1)), (OTHER_RULE, entry(ENFORCE, 1))]);
    let one = Fleet::start(options(server.url(), folders[0].path()), known);
    let two = Fleet::start(options(server.url(), folders[1].path()), ModeBoard::default());
    until_synced(&one).await;
    until_synced(&two).await;

    server.kill();
    for fleet in [&one, &two] {
        let view = until(fleet.board(), "a loss", |view| view.belief != Belief::Fresh).await;
        assert!(matches!(view.belief, Belief::LastKnown { .. }), "{:?}", view.belief);
        assert_eq!(view.board.get(RULE), Some(&entry(ENFORCE, 1)));
        let health = fleet.health().borrow().clone();
        assert!(matches!(health.state, FleetState::Unreachable { .. }), "{health:?}");
    }
    let demoted = entry(Mode::Warn, 2);
    let held = one.publish(RULE, demoted.clone()).await;
    assert!(matches!(held, Err(FleetError::Held { .. })), "{held:?}");
    assert_eq!(one.board().borrow().board.get(RULE), Some(&demoted), "it holds here at once");

    server.restart().await;
    until_it_knows(&two, RULE, &demoted).await;
    until_synced(&one).await;
    until_synced(&two).await;
    assert_eq!(server.mode_of(RULE).await, Some(text(&demoted)));
    assert_eq!(server.mode_of(OTHER_RULE).await, Some(text(&entry(ENFORCE, 1))));
}

#[tokio::test]
async fn what_no_redis_has_had_is_known_over_a_restart() {
    let mut server = Server::start().await;
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let is_untold = |fleet: &Fleet| fleet.board().borrow().untold.contains(RULE);
    let one = Fleet::start(options(server.url(), folders[0].path()), ModeBoard::default());
    until_synced(&one).await;
    assert_eq!(one.publish(RULE, entry(Mode::Warn, 2)).await, Ok(Published::Taken));
    assert!(!is_untold(&one), "Redis has it");
    server.kill();
    until(one.board(), "a loss", |view| view.belief != Belief::Fresh).await;
    let held = one.publish(RULE, entry(Mode::Off, 3)).await;
    assert!(matches!(held, Err(FleetError::Held { .. })), "{held:?}");
    assert!(is_untold(&one));
    one.close().await;

    // Another goes on meanwhile, and the larger epoch wins.
    server.restart().await;
    let two = Fleet::start(options(server.url(), folders[1].path()), ModeBoard::default());
    until_synced(&two).await;
    assert_eq!(two.publish(RULE, entry(ENFORCE, 5)).await, Ok(Published::Taken));
    let known = board(&[(RULE, entry(Mode::Off, 1))]);
    let one = Fleet::start(options(server.url(), folders[0].path()), known.clone());
    until_it_knows(&one, RULE, &entry(ENFORCE, 5)).await;
    until_synced(&one).await;
    assert!(is_untold(&one), "what has superseded it says nothing of it");
    let late = one.publish(RULE, entry(Mode::Off, 4)).await;
    assert!(matches!(late, Ok(Published::Superseded { .. })), "{late:?}");
    assert!(is_untold(&one));
    assert_eq!(one.publish(RULE, entry(Mode::Off, 6)).await, Ok(Published::Taken));
    assert!(!is_untold(&one));
    one.close().await;

    // Of what a gateway knows by itself, that has been told of which the snapshot says the same.
    let warn = board(&[(RULE, entry(Mode::Warn, 1))]);
    for (known, folder, expected) in [
        (&known, &folders[0], false),
        (&warn, &folders[0], true),
        (&known, &tempdir().unwrap(), true),
    ] {
        let one = Fleet::start(options(server.url(), folder.path()), known.clone());
        assert_eq!(is_untold(&one), expected, "{known:?}");
        until_it_knows(&one, RULE, &entry(Mode::Off, 6)).await;
        assert_eq!(is_untold(&one), expected, "{known:?}");
        one.close().await;
    }
}

#[tokio::test]
async fn of_a_redis_that_accepts_and_never_answers_the_last_known_modes_stand() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let options = seaworthy_store::fleet::FleetOptions {
        timeout: std::time::Duration::from_millis(100),
        ..options(server.url(), folder.path())
    };
    let fleet = Fleet::start(options, board(&[(RULE, entry(ENFORCE, 1))]));
    until_fresh(&fleet).await;
    server.stop();
    let health = until_health(&fleet, "a time-out", |health| !health.state.is_connected()).await;
    let FleetState::Unreachable { reason } = health.state else { panic!("{health:?}") };
    assert_eq!(reason.as_str(), "no answer within 100ms");
    assert_eq!(fleet.board().borrow().board.get(RULE), Some(&entry(ENFORCE, 1)));
    let held = fleet.publish(RULE, entry(Mode::Warn, 2)).await;
    assert!(matches!(held, Err(FleetError::Held { .. })), "{held:?}");
    server.go_on();
    until_synced(&fleet).await;
    assert_eq!(server.mode_of(RULE).await, Some(text(&entry(Mode::Warn, 2))));
}

#[tokio::test]
async fn what_a_flush_takes_is_written_back() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let known = board(&[(RULE, entry(ENFORCE, 3)), (OTHER_RULE, entry(Mode::Warn, 4))]);
    let fleet = Fleet::start(options(server.url(), folder.path()), known.clone());
    until_synced(&fleet).await;
    for _ in 0..3 {
        server.ask(&[b"FLUSHALL"]).await;
        until_synced(&fleet).await;
        for (rule, entry) in known.iter() {
            assert_eq!(server.mode_of(rule).await, Some(text(entry)));
        }
        assert_eq!(*fleet.board().borrow().board, known);
    }
}

#[tokio::test]
async fn a_redis_without_memory_takes_nothing_and_tells_the_others_all_the_same() {
    let server = Server::start().await;
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let [one, two] = [&folders[0], &folders[1]].map(|folder| {
        Fleet::start(options(server.url(), folder.path()), board(&[(RULE, entry(ENFORCE, 1))]))
    });
    until_synced(&one).await;
    until_synced(&two).await;
    server.ask(&[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;
    let demoted = entry(Mode::Warn, 2);
    let held = one.publish(RULE, demoted.clone()).await;
    let Err(FleetError::Held { reason }) = held else { panic!("{held:?}") };
    assert!(reason.as_str().contains("OOM"), "{reason}");
    until_it_knows(&two, RULE, &demoted).await;
    server.ask(&[b"CONFIG", b"SET", b"maxmemory", b"0"]).await;
    until_synced(&one).await;
    assert_eq!(server.mode_of(RULE).await, Some(text(&demoted)));
}

#[tokio::test]
async fn an_older_redis_is_brought_up_to_date() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let fleet =
        Fleet::start(options(server.url(), folder.path()), board(&[(RULE, entry(Mode::Warn, 3))]));
    until_synced(&fleet).await;
    let older = text(&entry(ENFORCE, 2));
    server.ask(&[b"HSET", crate::MODES.as_bytes(), RULE.as_bytes(), older.as_bytes()]).await;
    until_synced(&fleet).await;
    assert_eq!(server.mode_of(RULE).await, Some(text(&entry(Mode::Warn, 3))));
}

#[tokio::test]
async fn without_redis_a_gateway_starts_with_the_snapshot_and_without_that_with_the_config() {
    let mut server = Server::start().await;
    let folder = tempdir().unwrap();
    let path = folder.path().join("modes.snapshot");
    let options = options(server.url(), folder.path());
    let fleet = Fleet::start(options.clone(), ModeBoard::default());
    until_fresh(&fleet).await;
    assert_eq!(fleet.publish(RULE, entry(ENFORCE, 2)).await, Ok(Published::Taken));
    // The snapshot is as old as the last refresh, and not as the last change.
    let synced_us = until_synced(&fleet).await.synced_us.unwrap();
    fleet.close().await;
    server.kill();

    // At once, before anything has been tried.
    let fleet = Fleet::start(options.clone(), board(&[(OTHER_RULE, entry(Mode::Off, 1))]));
    let view = fleet.board().borrow().clone();
    let knows = board(&[(RULE, entry(ENFORCE, 2)), (OTHER_RULE, entry(Mode::Off, 1))]);
    assert_eq!(*view.board, knows);
    let Belief::Snapshot { since_us } = view.belief else { panic!("{:?}", view.belief) };
    assert!(since_us >= synced_us);
    // A demotion that could not be sent survives the next start, too.
    let held = fleet.publish(RULE, entry(Mode::Warn, 3)).await;
    assert!(matches!(held, Err(FleetError::Held { .. })), "{held:?}");
    fleet.close().await;
    let fleet = Fleet::start(options.clone(), ModeBoard::default());
    assert_eq!(fleet.board().borrow().board.get(RULE), Some(&entry(Mode::Warn, 3)));
    fleet.close().await;

    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, written.replace("warn", "off ")).unwrap();
    let fleet = Fleet::start(options, ModeBoard::default());
    let view = fleet.board().borrow().clone();
    assert!(view.board.is_empty(), "an edited file is not believed: {view:?}");
    assert_eq!(view.belief, Belief::ConfigDefault);
    let fault = fleet.health().borrow().snapshot_fault.clone().expect("it is said");
    assert!(fault.as_str().ends_with("it was torn or edited"), "{fault}");

    server.restart().await;
    until_fresh(&fleet).await;
    assert_eq!(fleet.publish(RULE, entry(Mode::Warn, 4)).await, Ok(Published::Taken));
    until_health(&fleet, "a new snapshot", |health| health.snapshot_fault.is_none()).await;
}

#[tokio::test]
async fn a_redis_that_comes_later_is_found() {
    let mut server = Server::start().await;
    server.kill();
    let folder = tempdir().unwrap();
    let known = board(&[(RULE, entry(ENFORCE, 1))]);
    let fleet = Fleet::start(options(server.url(), folder.path()), known);
    let health = until_health(&fleet, "a refusal", |health| health.state != FleetState::Starting);
    assert!(matches!(health.await.state, FleetState::Unreachable { .. }));
    assert_eq!(fleet.board().borrow().belief, Belief::LastKnown { since_us: 1_700_000_000 });
    server.restart().await;
    until_fresh(&fleet).await;
    assert_eq!(server.mode_of(RULE).await, Some(text(&entry(ENFORCE, 1))));
}

#[tokio::test]
async fn a_closed_fleet_says_so() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let fleet =
        Fleet::start(without_refresh(options(server.url(), folder.path())), ModeBoard::default());
    let view = fleet.board();
    until_fresh(&fleet).await;
    fleet.close().await;
    assert!(view.has_changed().is_err(), "nobody publishes views any more");
}

/// What is logged as a warning, by all tests of this binary: whether a line is logged at all is
/// decided once for the process, so that a subscriber of one thread would miss some.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn collected() -> &'static Self {
        static ALL: OnceLock<Warnings> = OnceLock::new();
        ALL.get_or_init(|| {
            let warnings = Self::default();
            let subscriber = tracing_subscriber::registry().with(warnings.clone());
            tracing::subscriber::set_global_default(subscriber).expect("it is the only one");
            warnings
        })
    }

    fn count(&self, about: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(about)).count()
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::WARN {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").expect("text takes everything");
    }
}

#[tokio::test]
async fn a_connection_that_ends_is_opened_again_without_a_word() {
    let warnings = Warnings::collected();
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let fleet =
        Fleet::start(options(server.url(), folder.path()), board(&[(RULE, entry(ENFORCE, 1))]));
    until_synced(&fleet).await;
    for epoch in 2..6 {
        // All that listen: that of the fleet.
        server.ask(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]).await;
        assert_eq!(fleet.publish(RULE, entry(ENFORCE, epoch)).await, Ok(Published::Taken));
        until_health(&fleet, "another", |health| health.connections == epoch).await;
    }
    server.ask(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]).await;
    until_health(&fleet, "another", |health| health.connections == 6).await;
    until_synced(&fleet).await;
    assert_eq!(fleet.board().borrow().belief, Belief::Fresh);
    assert_eq!(warnings.count(&server.url().to_string()), 0);
}

#[tokio::test]
async fn each_change_of_state_is_one_warning() {
    let warnings = Warnings::collected();
    let mut server = Server::start().await;
    let about = server.url().to_string();
    let count = || warnings.count(&about);
    let folder = tempdir().unwrap();
    let fleet =
        Fleet::start(options(server.url(), folder.path()), board(&[(RULE, entry(ENFORCE, 1))]));
    until_synced(&fleet).await;
    assert_eq!(count(), 0);
    for round in 1..=2 {
        server.kill();
        until_health(&fleet, "a loss", |health| !health.state.is_connected()).await;
        // Each is an attempt or the refusal to make one; none is a change.
        for epoch in 1..5 {
            let epoch = round * 10 + epoch;
            let held = fleet.publish(RULE, entry(ENFORCE, u64::try_from(epoch).unwrap())).await;
            assert!(matches!(held, Err(FleetError::Held { .. })), "{held:?}");
        }
        assert_eq!(count(), 2 * round - 1, "it is lost");
        server.restart().await;
        until_synced(&fleet).await;
        assert_eq!(count(), 2 * round, "it has come back without the modes");
    }
    server.ask(&[b"HSET", crate::MODES.as_bytes(), b"junk", b"1"]).await;
    for _ in 0..3 {
        until_synced(&fleet).await;
    }
    assert_eq!(count(), 5);
}
