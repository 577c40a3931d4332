//! A Redis that is full of what are no modes: the last known ones stand.

use seaworthy_policy::mode::Mode;
use seaworthy_policy::modes::{EPOCH_MAX, ModeBoard, RULES_MAX};
use seaworthy_store::fleet::{Fleet, FleetError, FleetState, Published};
use tempfile::tempdir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::server::{Server, url};
use crate::{
    CHANNEL, ENFORCE, LEADER, MODES, OTHER_RULE, RULE, board, entry, options, text, until,
    until_fresh, until_health, until_it_knows, until_synced, without_refresh,
};

#[tokio::test]
async fn values_that_are_no_modes_are_passed_over_and_mended() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let known = board(&[(RULE, entry(ENFORCE, 3)), (OTHER_RULE, entry(Mode::Warn, 2))]);
    let fleet = Fleet::start(options(server.url(), folder.path()), known.clone());
    until_synced(&fleet).await;
    let right = text(&entry(ENFORCE, 4));
    let epoch = |epoch: u64| right.replace("\"epoch\":4", &format!("\"epoch\":{epoch}"));
    let garbage: [(&str, Vec<u8>); 14] = [
        ("nothing", Vec::new()),
        ("not UTF-8", vec![0xff, 0xfe, 0]),
        ("not JSON", b"enforce".to_vec()),
        ("torn", right.as_bytes()[..right.len() - 1].to_vec()),
        ("of another type", b"[1, 2]".to_vec()),
        ("deep", b"[".repeat(1000)),
        ("a mode that there is not", right.replace("enforce", "block").into_bytes()),
        ("a mode that is a setting", right.replace("enforce", "auto").into_bytes()),
        ("an epoch of nobody", epoch(0).into_bytes()),
        ("the last epoch of all", epoch(u64::MAX).into_bytes()),
        ("a time for an epoch", epoch(EPOCH_MAX + 1).into_bytes()),
        ("a long cause", right.replace("a test", &"x".repeat(201)).into_bytes()),
        ("a little too long", format!("{right}{}", " ".repeat(1024)).into_bytes()),
        ("huge", vec![b'x'; 32 << 20]),
    ];
    for (name, value) in garbage {
        server.ask(&[b"HSET", MODES.as_bytes(), RULE.as_bytes(), &value]).await;
        until_synced(&fleet).await;
        assert_eq!(*fleet.board().borrow().board, known, "{name}");
        assert_eq!(server.mode_of(RULE).await, Some(text(&entry(ENFORCE, 3))), "{name}");
    }
    assert_eq!(until_synced(&fleet).await.invalid, 0);
}

#[tokio::test]
async fn names_that_are_no_rules_are_passed_over_and_left() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let known = board(&[(RULE, entry(ENFORCE, 3))]);
    let fleet = Fleet::start(options(server.url(), folder.path()), known.clone());
    until_synced(&fleet).await;
    let (right, long) = (text(&entry(ENFORCE, 4)), format!("csrf@{}", "x".repeat(300)));
    for name in [&b""[..], b"made_up", b"CSRF", b"csrf@", b"\xff", b"csrf@a\nb", long.as_bytes()] {
        server.ask(&[b"HSET", MODES.as_bytes(), name, right.as_bytes()]).await;
    }
    assert_eq!(until_synced(&fleet).await.invalid, 7);
    assert_eq!(*fleet.board().borrow().board, known);
    let count = server.ask(&[b"HLEN", MODES.as_bytes()]).await;
    assert_eq!(count, redis::Value::Int(8), "what nobody here wrote is nobody's here to delete");
}

#[tokio::test]
async fn more_fields_than_there_can_be_rules_do_not_hide_those_that_are_known() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let fleet =
        Fleet::start(options(server.url(), folder.path()), board(&[(RULE, entry(ENFORCE, 3))]));
    until_synced(&fleet).await;
    let fill = "for i = 1, 5000 do redis.call('HSET', KEYS[1], 'junk' .. i, 'x') end";
    server.ask(&[b"EVAL", fill.as_bytes(), b"1", MODES.as_bytes()]).await;
    let changed = entry(Mode::Warn, 4);
    server.ask(&[b"HSET", MODES.as_bytes(), RULE.as_bytes(), text(&changed).as_bytes()]).await;
    until_it_knows(&fleet, RULE, &changed).await;
    assert_eq!(until_synced(&fleet).await.invalid, 5000);
    assert_eq!(fleet.publish(OTHER_RULE, entry(ENFORCE, 1)).await, Ok(Published::Taken));
}

#[tokio::test]
async fn modes_of_more_rules_than_there_can_be_leave_room_for_those_known_first() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let fleet = Fleet::start(
        options(server.url(), folder.path()),
        board(&[("signature", entry(ENFORCE, 3))]),
    );
    until_synced(&fleet).await;
    let fill = "for i = 1, 1100 do redis.call('HSET', KEYS[1], 'csrf@/' .. i, ARGV[1]) end";
    let value = text(&entry(Mode::Warn, 1));
    server.ask(&[b"EVAL", fill.as_bytes(), b"1", MODES.as_bytes(), value.as_bytes()]).await;
    until_health(&fleet, "a crowd", |health| health.crowded > 0).await;
    let full = until(fleet.board(), "all", |view| view.board.len() == RULES_MAX).await;
    assert_eq!(full.board.get("signature"), Some(&entry(ENFORCE, 3)));
    assert_eq!(fleet.publish("signature", entry(Mode::Warn, 4)).await, Ok(Published::Taken));
    let refused = fleet.publish("cors", entry(Mode::Warn, 1)).await;
    assert!(matches!(refused, Err(FleetError::Board(_))), "{refused:?}");
}

#[tokio::test]
async fn where_the_key_is_something_else_a_demotion_still_reaches_those_who_listen() {
    let server = Server::start().await;
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let known = board(&[(RULE, entry(ENFORCE, 3))]);
    let [one, two] = [&folders[0], &folders[1]]
        .map(|folder| Fleet::start(options(server.url(), folder.path()), known.clone()));
    until_synced(&one).await;
    until_synced(&two).await;
    server.ask(&[b"DEL", MODES.as_bytes()]).await;
    server.ask(&[b"SET", MODES.as_bytes(), b"mine"]).await;
    for fleet in [&one, &two] {
        let health = until_health(fleet, "a fault", |health| {
            matches!(health.state, FleetState::Unusable { .. })
        });
        let health = health.await;
        let FleetState::Unusable { reason } = health.state else { unreachable!() };
        assert!(reason.as_str().starts_with("seaworthy:desk:modes.v1 is a string"), "{reason}");
        assert_eq!(*fleet.board().borrow().board, known);
    }
    let held = one.publish(RULE, entry(Mode::Warn, 4)).await;
    assert!(matches!(held, Err(FleetError::Held { .. })), "{held:?}");
    until_it_knows(&two, RULE, &entry(Mode::Warn, 4)).await;
    let kept = server.ask(&[b"GET", MODES.as_bytes()]).await;
    assert_eq!(kept, redis::Value::BulkString(b"mine".to_vec()), "it is not ours to delete");
    server.ask(&[b"DEL", MODES.as_bytes()]).await;
    until_synced(&one).await;
    until_synced(&two).await;
    assert_eq!(server.mode_of(RULE).await, Some(text(&entry(Mode::Warn, 4))));
}

#[tokio::test]
async fn messages_that_are_no_modes_are_counted_and_let_go() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let known = board(&[(RULE, entry(ENFORCE, 3))]);
    let fleet = Fleet::start(without_refresh(options(server.url(), folder.path())), known.clone());
    until_synced_once(&fleet).await;
    let right = text(&entry(ENFORCE, 4));
    let messages = [
        Vec::new(),
        b"csrf".to_vec(),
        right.clone().into_bytes(),
        format!("made_up\n{right}").into_bytes(),
        format!("csrf\n{right}}}").into_bytes(),
        vec![0xff; 100],
        vec![b'x'; 1 << 20],
    ];
    for message in &messages {
        server.ask(&[b"PUBLISH", CHANNEL.as_bytes(), message]).await;
    }
    let heard = format!("csrf\n{}", text(&entry(Mode::Warn, 5)));
    server.ask(&[b"PUBLISH", CHANNEL.as_bytes(), heard.as_bytes()]).await;
    until_it_knows(&fleet, RULE, &entry(Mode::Warn, 5)).await;
    let health = fleet.health().borrow().clone();
    assert_eq!(health.messages_refused, 7);
    assert!(health.state.is_connected());
}

/// As [`until_synced`], where there is only one refresh.
async fn until_synced_once(fleet: &Fleet) {
    until_health(fleet, "a refresh", |health| health.state.is_connected() && health.held == 0)
        .await;
}

#[tokio::test]
async fn a_message_that_never_ends_ends_the_connection_alone() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    let known = board(&[(RULE, entry(ENFORCE, 3))]);
    let fleet = Fleet::start(without_refresh(options(server.url(), folder.path())), known.clone());
    until_fresh(&fleet).await;
    let before = fleet.health().borrow().connections;
    server.ask(&[b"PUBLISH", CHANNEL.as_bytes(), &vec![b'x'; 8 << 20]]).await;
    let again = until_health(&fleet, "another connection", |health| {
        health.connections > before && health.state.is_connected()
    });
    again.await;
    assert_eq!(*fleet.board().borrow().board, known);
}

#[tokio::test]
async fn what_is_no_redis_at_all_is_told_of() {
    let floods = [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[b'$'; 1 << 16], b"$99999999999\r\n"];
    for flood in floods {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                // The client ends this; how is not the matter here.
                drop(client.write_all(flood).await);
            }
        });
        let folder = tempdir().unwrap();
        let fleet = Fleet::start(options(url(port), folder.path()), ModeBoard::default());
        let health =
            until_health(&fleet, "a fault", |health| health.state != FleetState::Starting).await;
        assert!(!health.state.is_connected(), "{health:?}");
        let published = fleet.publish(RULE, entry(ENFORCE, 1)).await;
        assert!(matches!(published, Err(FleetError::Held { .. })), "{published:?}");
        fleet.close().await;
        answers.abort();
    }
}

#[tokio::test]
async fn a_lease_that_is_none_lets_nobody_lead_and_one_without_an_end_is_taken() {
    let server = Server::start().await;
    let folder = tempdir().unwrap();
    server.ask(&[b"HSET", LEADER.as_bytes(), b"a", b"b"]).await;
    let fleet = Fleet::start(options(server.url(), folder.path()), ModeBoard::default());
    until_health(&fleet, "the fault", |health| health.lease_fault.is_some()).await;
    assert!(!*fleet.leads().borrow());
    server.ask(&[b"DEL", LEADER.as_bytes()]).await;
    server.ask(&[b"SET", LEADER.as_bytes(), b"nobody"]).await;
    until(fleet.leads(), "the lease", |leads| *leads).await;
    until_health(&fleet, "no fault", |health| health.lease_fault.is_none() && health.leads).await;
}
