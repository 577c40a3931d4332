//! The lease: one of a fleet leads, and another when that one is gone.

use seaworthy_policy::mode::Mode;
use seaworthy_policy::modes::ModeBoard;
use seaworthy_store::fleet::{Fleet, FleetError, FleetState};
use tempfile::tempdir;

use crate::relay::Relay;
use crate::server::{Server, url};
use crate::{
    ENFORCE, LEADER, RULE, board, entry, options, text, until, until_fresh, until_health,
    until_synced,
};

#[tokio::test]
async fn one_leads_and_hands_it_on_when_it_leaves() {
    let server = Server::start().await;
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let one = Fleet::start(options(server.url(), folders[0].path()), ModeBoard::default());
    until(one.leads(), "the lease", |leads| *leads).await;
    let two = Fleet::start(options(server.url(), folders[1].path()), ModeBoard::default());
    until_fresh(&two).await;
    assert!(!*two.leads().borrow() && *one.leads().borrow());
    let one_leads = one.leads();
    one.close().await;
    assert!(!*one_leads.borrow());
    until(two.leads(), "the lease", |leads| *leads).await;
    two.close().await;
    let there = server.ask(&[b"EXISTS", LEADER.as_bytes()]).await;
    assert_eq!(there, redis::Value::Int(0), "it is given back, not left to end");
}

#[tokio::test]
async fn of_a_copy_that_takes_no_writes_nobody_leads_and_the_modes_are_read() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let known = board(&[(RULE, entry(ENFORCE, 1))]);
    let fleet = Fleet::start(options(server.url(), folder.path()), known);
    until(fleet.leads(), "the lease", |leads| *leads).await;
    server.ask(&[b"REPLICAOF", b"127.0.0.1", b"1"]).await;
    until(fleet.leads(), "the loss", |leads| !*leads).await;
    let health = until_health(&fleet, "the fault", |health| health.lease_fault.is_some()).await;
    let fault = health.lease_fault.unwrap();
    assert!(fault.as_str().contains("ReadOnly"), "{fault}");
    until_synced(&fleet).await;
    let held = fleet.publish(RULE, entry(Mode::Warn, 2)).await;
    assert!(matches!(held, Err(FleetError::Held { .. })), "{held:?}");
    let health = until_health(&fleet, "the refusal", |health| !health.state.is_connected()).await;
    assert!(matches!(health.state, FleetState::Unusable { .. }), "{health:?}");
    server.ask(&[b"REPLICAOF", b"NO", b"ONE"]).await;
    until_synced(&fleet).await;
    until(fleet.leads(), "the lease", |leads| *leads).await;
    assert_eq!(server.mode_of(RULE).await, Some(text(&entry(Mode::Warn, 2))));
}

#[tokio::test]
async fn who_is_cut_off_stops_leading_before_another_begins() {
    let server = Server::start().await;
    let relay = Relay::to(server.port()).await;
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let one = Fleet::start(options(url(relay.port), folders[0].path()), ModeBoard::default());
    until(one.leads(), "the lease", |leads| *leads).await;
    let two = Fleet::start(options(server.url(), folders[1].path()), ModeBoard::default());
    until_fresh(&two).await;
    relay.cut();
    until(two.leads(), "the lease of the other", |leads| *leads).await;
    assert!(!*one.leads().borrow());
    relay.mend();
    until_fresh(&one).await;
    assert!(!*one.leads().borrow(), "it is not taken away from who has it");
    drop(two);
    until(one.leads(), "the lease again", |leads| *leads).await;
}

#[tokio::test]
async fn a_lease_that_was_flushed_or_taken_is_noticed() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let fleet = Fleet::start(options(server.url(), folder.path()), ModeBoard::default());
    until(fleet.leads(), "the lease", |leads| *leads).await;
    server.ask(&[b"SET", LEADER.as_bytes(), b"another", b"PX", b"3000"]).await;
    until(fleet.leads(), "the loss", |leads| !*leads).await;
    until(fleet.leads(), "the lease again", |leads| *leads).await;
    let token = server.ask(&[b"GET", LEADER.as_bytes()]).await;
    server.ask(&[b"FLUSHALL"]).await;
    while server.ask(&[b"GET", LEADER.as_bytes()]).await == redis::Value::Nil {
        until_synced(&fleet).await;
    }
    assert_eq!(server.ask(&[b"GET", LEADER.as_bytes()]).await, token);
    assert!(*fleet.leads().borrow(), "nobody else has taken it");
}
