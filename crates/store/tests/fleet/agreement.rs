//! Gateways that see the same Redis, or did before, agree: whoever writes, and however late.

use seaworthy_policy::mode::Mode;
use seaworthy_policy::modes::ModeBoard;
use seaworthy_store::fleet::{Fleet, FleetError, Published};
use tempfile::tempdir;

use crate::relay::Relay;
use crate::server::{Server, url};
use crate::{
    ENFORCE, OTHER_RULE, RULE, board, entry, options, text, until_fresh, until_health,
    until_it_knows, until_synced, without_refresh,
};

/// Two that have read Redis and hear of everything else.
async fn pair(server: &Server) -> (Fleet, Fleet, [tempfile::TempDir; 2]) {
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let [one, two] = [&folders[0], &folders[1]].map(|folder| {
        let options = without_refresh(options(server.url(), folder.path()));
        Fleet::start(options, ModeBoard::default())
    });
    until_fresh(&one).await;
    until_fresh(&two).await;
    (one, two, folders)
}

#[tokio::test]
async fn what_one_publishes_the_other_hears() {
    let server = Server::start().await;
    let (one, two, _folders) = pair(&server).await;
    for (epoch, mode) in [(1, ENFORCE), (2, Mode::Warn), (3, Mode::Off)] {
        for (from, to) in [(&one, &two), (&two, &one)] {
            let entry = entry(mode, 2 * epoch + u64::from(std::ptr::eq(from, &raw const two)));
            assert_eq!(from.publish(OTHER_RULE, entry.clone()).await, Ok(Published::Taken));
            until_it_knows(to, OTHER_RULE, &entry).await;
            assert_eq!(server.mode_of(OTHER_RULE).await, Some(text(&entry)));
        }
    }
}

#[tokio::test]
async fn a_change_that_nobody_was_told_of_is_read_at_the_next_refresh() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let fleet = Fleet::start(options(server.url(), folder.path()), ModeBoard::default());
    until_fresh(&fleet).await;
    let entry = entry(ENFORCE, 5);
    server.ask(&[b"HSET", crate::MODES.as_bytes(), RULE.as_bytes(), text(&entry).as_bytes()]).await;
    until_it_knows(&fleet, RULE, &entry).await;
}

#[tokio::test]
async fn what_a_gateway_knows_when_it_joins_is_the_fleets_unless_that_knows_better() {
    let server = Server::start().await;
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let knows = board(&[(RULE, entry(ENFORCE, 4)), (OTHER_RULE, entry(Mode::Warn, 1))]);
    let one = Fleet::start(options(server.url(), folders[0].path()), knows);
    until_synced(&one).await;
    let knows = board(&[(RULE, entry(Mode::Warn, 3)), (OTHER_RULE, entry(ENFORCE, 2))]);
    let two = Fleet::start(options(server.url(), folders[1].path()), knows);
    for fleet in [&one, &two] {
        until_it_knows(fleet, RULE, &entry(ENFORCE, 4)).await;
        until_it_knows(fleet, OTHER_RULE, &entry(ENFORCE, 2)).await;
    }
    until_synced(&two).await;
    assert_eq!(server.mode_of(RULE).await, Some(text(&entry(ENFORCE, 4))));
    assert_eq!(server.mode_of(OTHER_RULE).await, Some(text(&entry(ENFORCE, 2))));
}

#[tokio::test]
async fn a_late_writer_loses_and_learns_to_whom() {
    let server = Server::start().await;
    let (one, two, _folders) = pair(&server).await;
    let (late, demoted) = (entry(ENFORCE, 6), entry(Mode::Warn, 7));
    assert_eq!(one.publish(RULE, demoted.clone()).await, Ok(Published::Taken));
    until_it_knows(&two, RULE, &demoted).await;
    let superseded = Ok(Published::Superseded { by: demoted.clone() });
    assert_eq!(two.publish(RULE, late.clone()).await, superseded);
    // So does one that has not heard of it: nobody was told of this.
    let last = entry(Mode::Off, 9);
    server.ask(&[b"HSET", crate::MODES.as_bytes(), RULE.as_bytes(), text(&last).as_bytes()]).await;
    let superseded = Ok(Published::Superseded { by: last.clone() });
    assert_eq!(two.publish(RULE, entry(ENFORCE, 8)).await, superseded);
    until_it_knows(&two, RULE, &last).await;
    assert_eq!(server.mode_of(RULE).await, Some(text(&last)));
}

#[tokio::test]
async fn of_two_that_publish_at_once_all_choose_the_same() {
    let server = Server::start().await;
    let (one, two, _folders) = pair(&server).await;
    for epoch in 1..20 {
        let (promoted, demoted) = (entry(ENFORCE, epoch), entry(Mode::Warn, epoch));
        let (of_one, of_two) =
            tokio::join!(one.publish(RULE, promoted.clone()), two.publish(RULE, demoted.clone()));
        assert_eq!(of_two, Ok(Published::Taken), "the one that denies less");
        assert!(matches!(of_one, Ok(Published::Taken | Published::Superseded { .. })));
        until_it_knows(&one, RULE, &demoted).await;
        until_it_knows(&two, RULE, &demoted).await;
        assert_eq!(server.mode_of(RULE).await, Some(text(&demoted)));
    }
}

#[tokio::test]
async fn a_partition_brings_nothing_back_and_turns_nothing_off() {
    let server = Server::start().await;
    let relay = Relay::to(server.port()).await;
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let known = board(&[(RULE, entry(ENFORCE, 1)), (OTHER_RULE, entry(ENFORCE, 1))]);
    let near = Fleet::start(options(server.url(), folders[0].path()), known.clone());
    let far = Fleet::start(options(url(relay.port), folders[1].path()), known);
    until_synced(&near).await;
    until_synced(&far).await;

    relay.cut();
    until_health(&far, "a cut", |health| !health.state.is_connected()).await;
    let cut = far.board().borrow().clone();
    assert_eq!(cut.board.get(RULE), Some(&entry(ENFORCE, 1)), "nothing is turned off");
    // Either side changes both rules; of one the cut-off side knows more, of the other less.
    for (fleet, rule, entry) in [
        (&near, RULE, entry(Mode::Warn, 3)),
        (&near, OTHER_RULE, entry(ENFORCE, 2)),
        (&far, RULE, entry(ENFORCE, 2)),
        (&far, OTHER_RULE, entry(Mode::Warn, 3)),
    ] {
        let published = fleet.publish(rule, entry).await;
        match std::ptr::eq(fleet, &raw const near) {
            true => assert_eq!(published, Ok(Published::Taken)),
            false => assert!(matches!(published, Err(FleetError::Held { .. })), "{published:?}"),
        }
    }
    let held = until_health(&far, "what is held", |health| health.held == 2).await;
    assert!(!held.state.is_connected());

    relay.mend();
    for fleet in [&near, &far] {
        until_it_knows(fleet, RULE, &entry(Mode::Warn, 3)).await;
        until_it_knows(fleet, OTHER_RULE, &entry(Mode::Warn, 3)).await;
    }
    until_synced(&far).await;
    for rule in [RULE, OTHER_RULE] {
        assert_eq!(server.mode_of(rule).await, Some(text(&entry(Mode::Warn, 3))));
    }
}

#[tokio::test]
async fn what_cannot_be_a_mode_is_refused_before_anybody_sees_it() {
    let server = Server::start().await;
    let (one, _two, _folders) = pair(&server).await;
    for (rule, epoch) in [("made_up", 1), ("csrf", u64::MAX), ("csrf@\n", 1)] {
        let refused = one.publish(rule, entry(ENFORCE, epoch)).await;
        assert!(matches!(refused, Err(FleetError::Board(_))), "{refused:?}");
    }
    assert!(one.board().borrow().board.is_empty());
}
