use seaworthy_policy::gates::alarm::Evidence;
use seaworthy_policy::record::{RuleId, Tenant};

use super::*;

const SCALE: Scale = Scale { tick: TickLength::MINUTE, flush_every: Period::secs(1) };

const CLIENT: ClientKey = ClientKey::Bearer(7);

fn counts(hits: u64, total: u64) -> Proportion {
    Proportion::new(hits, total).unwrap()
}

fn share(basis_points: u16) -> Share {
    Share::from_basis_points(basis_points).unwrap()
}

/// A rule on a step, 0 for `warn`, that goes on with what is kept.
fn track(basis_points: u16, waived: &[Name], kept: Kept) -> Track {
    let mut state = RuleState::new(PolicyHash::new([7; 32]), 0);
    if basis_points > 0 {
        state.mode = Mode::Enforce(share(basis_points));
    }
    let waiver = |client: &Name| Waiver { client: *client, until: Minute(i64::MAX) };
    let waivers = waived.iter().map(waiver).collect();
    let (config, gates) = (RolloutConfig::default(), GatesConfig::default());
    Track::begin((&state, None), &config, &gates, &SCALE, waivers, kept)
}

fn name() -> Name {
    Clients::default().name(CLIENT, &Tenant::default())
}

/// What `warn` has seen of a client that is known.
fn known() -> Kept {
    let by_client = BTreeMap::from([(name(), counts(0, 100))]);
    let before = Before { by_client, flushed_every: Some(SCALE.flush_every), ..Before::default() };
    Kept { before, ..Kept::default() }
}

fn fresh(start_unix_ms: i64, client: ClientKey, counts: ClientCounts) -> FreshEvidence {
    let clients = vec![ClientEvidence { client, tenant: Tenant::default(), counts }];
    let counts = Counts::default();
    FreshEvidence { start_unix_ms, rule: RuleId(0), lane: Lane::Current, counts, clients }
}

fn judged(would_deny: u64, evaluated: u64) -> ClientCounts {
    ClientCounts { evaluated, would_deny, ..ClientCounts::default() }
}

fn enforced(denied: u64, enforced: u64) -> ClientCounts {
    ClientCounts { evaluated: enforced, enforced, denied, ..ClientCounts::default() }
}

/// A flush says of a client all that there is of a tick.
#[test]
fn a_client_is_counted_in_a_flush_that_brings_something_of_it() {
    let mut track = track(0, &[], known());
    let mut names = Clients::default();
    for (what, flushed, units) in [
        ("it came", vec![fresh(0, CLIENT, judged(0, 3))], (0, 1)),
        ("another came", vec![fresh(0, CLIENT, judged(0, 3))], (0, 1)),
        ("it came, and would be denied", vec![fresh(0, CLIENT, judged(2, 9))], (1, 2)),
        ("it came, and would not be denied again", vec![fresh(0, CLIENT, judged(2, 10))], (1, 3)),
        (
            "in two ticks at once",
            vec![fresh(0, CLIENT, judged(3, 11)), fresh(60_000, CLIENT, judged(1, 1))],
            (2, 4),
        ),
        ("late, and in the next", vec![fresh(60_000, CLIENT, judged(1, 2))], (2, 5)),
        ("somebody unknown", vec![fresh(0, ClientKey::Bearer(8), judged(5, 5))], (2, 5)),
        (
            "nobody in particular",
            vec![fresh(0, ClientKey::Ip([127, 0, 0, 1].into()), judged(5, 5))],
            (2, 5),
        ),
    ] {
        track.flushed(&flushed.iter().collect::<Vec<_>>(), &mut names);
        assert_eq!(track.before.units, counts(units.0, units.1), "{what}");
    }
    assert!(track.last.len() <= OPEN_TICKS);
}

#[test]
fn whoever_is_waived_says_nothing() {
    let mut in_warn = track(0, &[name()], known());
    let mut names = Clients::default();
    in_warn.flushed(&[&fresh(0, CLIENT, judged(1, 1))], &mut names);
    assert_eq!(in_warn.before.units, Proportion::NONE);
    let mut track = track(10_000, &[name()], known());
    track.flushed(&[&fresh(0, CLIENT, enforced(60, 60))], &mut names);
    assert_eq!(track.alarm, None);
}

#[test]
fn whoever_is_waived_is_predicted_nothing_and_denied_nothing() {
    let mut kept = known();
    kept.before.judged = counts(100, 300);
    kept.before.by_client = BTreeMap::from([(name(), counts(100, 120))]);
    let (mut names, mut track) = (Clients::default(), track(1000, &[name()], kept));
    let counts_of = enforced(20, 20);
    let theirs = ClientEvidence { client: CLIENT, tenant: Tenant::default(), counts: counts_of };
    let evidence = RuleEvidence {
        counts: Counts { evaluated: 50, enforced: 50, denied: 21, ..Counts::default() },
        clients: vec![theirs],
        ..RuleEvidence::default()
    };
    let first = SCALE.first_whole(0);
    track.tick(first, Some(&evidence), 0, (&SCALE, &mut names));
    let inputs = track.inputs(Minute(first.0 + 1), coverage::Input::default());
    assert_eq!(inputs.calibration.predicted, counts(0, 180));
    assert_eq!(inputs.calibration.denied, counts(1, 30));
}

/// In the tick of a change what was judged before it was not denied, and what was told is told.
#[test]
fn what_was_before_a_change_is_no_evidence_after_it() {
    let mut names = Clients::default();
    let mut in_warn = track(0, &[], known());
    in_warn.flushed(&[&fresh(0, CLIENT, judged(30, 40))], &mut names);
    let kept = Kept { before: in_warn.before, last: in_warn.last, ..Kept::default() };
    let mut at_half = track(5000, &[], kept);
    let mut now = judged(32, 43);
    at_half.flushed(&[&fresh(0, CLIENT, now)], &mut names);
    assert_eq!(at_half.alarm, None, "requests that were on their way when it changed");
    (now.evaluated, now.enforced, now.denied) = (48, 5, 5);
    at_half.flushed(&[&fresh(0, CLIENT, now)], &mut names);
    assert_eq!(at_half.alarm, None, "five mean nothing yet");

    let kept = Kept { before: at_half.before, last: at_half.last, ..Kept::default() };
    let mut at_all = track(10_000, &[], kept);
    at_all.flushed(&[&fresh(0, CLIENT, now)], &mut names);
    assert_eq!(at_all.alarm, None, "the five were told on the step before");
    for denied in 6..=30 {
        (now.evaluated, now.enforced, now.denied) = (43 + denied, denied, denied);
        at_all.flushed(&[&fresh(0, CLIENT, now)], &mut names);
    }
    let alarm = at_all.alarm.expect("it broke");
    let Evidence::Client { since, before, .. } = alarm.evidence else { panic!("{alarm:?}") };
    assert_eq!((since, before), (counts(25, 25), counts(0, 100)));
}

#[test]
fn units_of_flushes_of_another_length_are_forgotten() {
    for (every, units) in [(Period::secs(1), counts(3, 50)), (Period::secs(2), Proportion::NONE)] {
        let mut kept = known();
        (kept.before.units, kept.before.flushed_every) = (counts(3, 50), Some(every));
        assert_eq!(track(0, &[], kept).before.units, units, "{every}");
    }
}

/// What a control has had, tick by tick: step, failures, requests.
#[test]
fn errors_are_compared_with_the_latest_control_that_is_large_enough() {
    let evidence = |failed, total| RuleEvidence {
        counts: Counts { evaluated: total, control_errors: failed, ..Counts::default() },
        ..RuleEvidence::default()
    };
    for (what, ticks, control) in [
        ("none", &[][..], (0, 0)),
        ("warn alone", &[(0, 1, 50), (0, 2, 60)], (3, 110)),
        ("the step before", &[(0, 9, 5000), (1000, 2, 700), (1000, 3, 800)], (5, 1500)),
        ("cut short", &[(0, 9, 5000), (1000, 2, 999)], (11, 5999)),
        ("cut short twice", &[(0, 9, 900), (1000, 2, 50), (5000, 1, 10)], (12, 960)),
        ("nobody is outside", &[(0, 9, 5000), (1000, 0, 0)], (9, 5000)),
        ("all have no control", &[(0, 9, 5000), (10_000, 50, 5000)], (9, 5000)),
        ("in warn again", &[(0, 9, 5000), (1000, 2, 1500), (0, 4, 2000)], (4, 2000)),
    ] {
        let mut before = Before::default();
        for (minute, (step, failed, total)) in (0..).zip(ticks) {
            let kept = Kept { before, ..Kept::default() };
            let mut track = track(*step, &[], kept);
            let evidence = evidence(*failed, *total);
            // A tick that comes again is not taken up.
            for _ in 0..2 {
                let scale = (&SCALE, &mut Clients::default());
                track.tick(Minute(minute), Some(&evidence), 0, scale);
            }
            before = track.before;
        }
        assert_eq!(before.control(), counts(control.0, control.1), "{what}");
    }
}

/// What is written of a rule is read back with the ticks that it has in it, and those are replayed
/// for the window.
#[test]
fn a_tick_that_is_replayed_is_learnt_once() {
    let clients =
        vec![ClientEvidence { client: CLIENT, tenant: Tenant::default(), counts: judged(1, 10) }];
    let counted = Counts { evaluated: 10, would_deny: 1, control_errors: 2, ..Counts::default() };
    let evidence = RuleEvidence { counts: counted, clients, ..RuleEvidence::default() };
    let mut first = track(0, &[], Kept::default());
    let mut names = Clients::default();
    for minute in 0..3 {
        first.tick(Minute(minute), Some(&evidence), 0, (&SCALE, &mut names));
    }
    let written = serde_json::to_string(&first.before).unwrap();
    let before: Before = serde_json::from_str(&written).unwrap();
    assert_eq!((before.judged, before.errors_of_step), (counts(3, 30), counts(6, 30)));
    let mut second = track(0, &[], Kept { before, ..Kept::default() });
    for minute in 0..4 {
        second.tick(Minute(minute), Some(&evidence), 0, (&SCALE, &mut names));
    }
    assert_eq!(second.before.judged, counts(4, 40));
    assert_eq!(second.before.by_client[&name()], counts(4, 40));
    let inputs = second.inputs(Minute(4), coverage::Input::default());
    assert_eq!(inputs.harm_rate.judged.total(), 40, "the window has all of them");
}
