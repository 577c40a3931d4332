use proptest::prelude::*;

use super::*;
use crate::evidence::Lane;

const NOW: i64 = 1_800_000_000_000;

fn share(basis_points: u16) -> Share {
    Share::from_basis_points(basis_points).unwrap()
}

fn enforce(basis_points: u16) -> Mode {
    Mode::Enforce(share(basis_points))
}

fn policy(n: u8) -> PolicyHash {
    PolicyHash::new([n; 32])
}

fn state(mode: Mode) -> RuleState {
    let new = RuleState::new(policy(1), NOW - 3_600_000);
    let set = Event::Set { mode, reason: "a test".to_owned() };
    new.after(&set, &RolloutConfig::default(), NOW - 3_600_000)
}

const PASS: Weighed<'static> = Weighed { passed: 8, of: 8, alarm: None };

#[test]
fn a_rule_climbs_step_by_step() {
    let config = RolloutConfig::default();
    for (mode, above) in [
        (Mode::Off, None),
        (Mode::Warn, Some(1000)),
        (enforce(1), Some(1000)),
        (enforce(1000), Some(5000)),
        (enforce(2500), Some(5000)),
        (enforce(5000), Some(10_000)),
        (enforce(10_000), None),
    ] {
        assert_eq!(config.above(mode), above.map(share), "{mode}");
    }
    let mut state = RuleState::new(policy(1), 0);
    let mut at = 0;
    let mut modes = vec![state.mode];
    while let Proposal::Promote { to } = propose(&config, ModeSetting::Auto, &state, PASS, at) {
        state = state.after(&Event::Promoted { to }, &config, at);
        modes.push(state.mode);
        assert_eq!(
            propose(&config, ModeSetting::Auto, &state, PASS, at),
            match config.above(state.mode) {
                None => Proposal::Stay(Stay::Done),
                Some(_) => Proposal::Stay(Stay::Settling { until_unix_ms: at + 10_000 }),
            }
        );
        at += 10_000;
    }
    assert_eq!(modes, [Mode::Warn, enforce(1000), enforce(5000), enforce(10_000)]);
    assert_eq!(state.epoch, 4);
}

#[test]
fn what_keeps_a_rule_where_it_is() {
    let config = RolloutConfig::default();
    let always = Freeze { first: Some("1970-01-01".parse().unwrap()), ..Freeze::default() };
    let frozen = RolloutConfig { freeze: vec![always], ..config.clone() };
    let manual = RolloutConfig { approval: Approval::Manual, ..config.clone() };
    let warn = state(Mode::Warn);
    let held = |until_unix_ms| {
        let reason = "an audit".to_owned();
        warn.after(&Event::Held { until_unix_ms, reason }, &config, NOW)
    };
    let approved = |to| warn.after(&Event::Approved { to, reason: String::new() }, &manual, NOW);
    let up = Proposal::Promote { to: share(1000) };
    let auto = ModeSetting::Auto;
    let stay_held =
        |until_unix_ms| Proposal::Stay(Stay::Held { until_unix_ms, why: "an audit".to_owned() });
    let not_all = Weighed { passed: 7, ..PASS };
    let none = Weighed { passed: 0, of: 0, alarm: None };
    let gates = |passed, of| Proposal::Stay(Stay::Gates { passed, of });
    let alarmed = Weighed { alarm: Some("too many denials"), ..PASS };
    let fall = Proposal::Fall { cause: "too many denials".to_owned() };
    let pinned = ModeSetting::ENFORCE;
    let frozen_stay = Stay::Frozen { window: "every day since 1970-01-01".to_owned() };
    let asked = Proposal::Stay(Stay::Approval { to: share(1000) });
    for (name, config, setting, state, weighed, want) in [
        ("passed", &config, auto, &warn, PASS, up.clone()),
        ("not all gates", &config, auto, &warn, not_all, gates(7, 8)),
        ("no gates", &config, auto, &warn, none, gates(0, 0)),
        ("pinned", &config, pinned, &warn, PASS, Proposal::Stay(Stay::Pinned)),
        ("off", &config, auto, &state(Mode::Off), PASS, Proposal::Stay(Stay::Off)),
        ("done", &config, auto, &state(enforce(10_000)), PASS, Proposal::Stay(Stay::Done)),
        ("held for ever", &config, auto, &held(None), PASS, stay_held(None)),
        ("held", &config, auto, &held(Some(NOW + 1)), PASS, stay_held(Some(NOW + 1))),
        ("the hold is over", &config, auto, &held(Some(NOW)), PASS, up.clone()),
        ("frozen", &frozen, auto, &warn, PASS, Proposal::Stay(frozen_stay)),
        ("to be approved", &manual, auto, &warn, PASS, asked.clone()),
        ("approved", &manual, auto, &approved(share(1000)), PASS, up),
        ("another step approved", &manual, auto, &approved(share(5000)), PASS, asked),
        ("an alarm", &config, auto, &state(enforce(1000)), alarmed, fall.clone()),
        ("an alarm in a freeze", &frozen, auto, &state(enforce(1000)), alarmed, fall.clone()),
        ("an alarm at the top", &config, auto, &state(enforce(10_000)), alarmed, fall),
        ("an alarm in warn", &config, auto, &warn, not_all, gates(7, 8)),
    ] {
        assert_eq!(propose(config, setting, state, weighed, NOW), want, "{name}");
    }
}

#[test]
fn a_fall_goes_to_warn_holds_and_costs_an_attempt() {
    let config = RolloutConfig::default();
    let before = state(enforce(5000));
    let fell = before.after(&Event::Fell { cause: "too many denials".to_owned() }, &config, NOW);
    assert_eq!((fell.mode, fell.why.as_str()), (Mode::Warn, "too many denials"));
    assert_eq!(fell.held(NOW).unwrap().until_unix_ms, Some(NOW + 6 * 3_600_000));
    assert_eq!(fell.held(NOW + 6 * 3_600_000), None);
    for (step, attempt) in [(1000, 2), (5000, 2), (10_000, 2)] {
        assert_eq!(fell.attempt(share(step)), attempt, "{step}");
    }
    // Falling from nowhere costs nothing.
    let again = fell.after(&Event::Fell { cause: "again".to_owned() }, &config, NOW);
    assert_eq!(again.attempts, fell.attempts);
}

#[test]
fn an_emergency_overrides_what_the_file_pins_until_it_is_cleared() {
    let config = RolloutConfig::default();
    let pinned = ModeSetting::ENFORCE;
    let new = RuleState::new(policy(1), NOW);
    assert_eq!(new.in_force(pinned), Mode::Enforce(Share::ALL));
    let alerted = new.after(&Event::Alerted { alert: "alert x".to_owned() }, &config, NOW);
    assert_eq!(alerted.in_force(pinned), Mode::Warn);
    assert_eq!(alerted.in_force(ModeSetting::OFF), Mode::Off, "it lifts nothing");
    // A fall by evidence does not turn it into a hold that ends.
    let fell = alerted.after(&Event::Fell { cause: "more".to_owned() }, &config, NOW);
    assert!(fell.held(i64::MAX).unwrap().emergency);
    let held = fell.after(
        &Event::Held { until_unix_ms: None, reason: "looking".to_owned() },
        &config,
        NOW,
    );
    assert_eq!(held.in_force(pinned), Mode::Warn);
    let cleared = held.after(&Event::Released { reason: "fixed".to_owned() }, &config, NOW);
    assert_eq!(cleared.in_force(pinned), Mode::Enforce(Share::ALL));
}

#[test]
fn another_policy_starts_anew_and_keeps_its_mode() {
    let config = RolloutConfig::default();
    let before = state(Mode::Warn);
    let changed = before.after(&Event::PolicyChanged { policy: policy(2) }, &config, NOW);
    assert_eq!((changed.version, changed.policy, changed.mode), (2, policy(2), Mode::Warn));
    assert_eq!(changed.window_unix_ms, NOW + 10_000);
    assert_eq!((before.attempt(share(1000)), changed.attempt(share(1000))), (1, 2));
}

#[test]
fn what_is_enforced_outlasts_other_settings_until_they_have_earned_its_place() {
    let config = RolloutConfig::default();
    let settings = |n: u8| serde_json::json!({ "n": n });
    let standing =
        |mode| Standing { current: state(mode), ..Standing::new(policy(1), settings(1), NOW) };
    let changed = |standing: &Standing, n, kept| {
        standing.with_policy(policy(n), &settings(n), kept, &config, NOW)
    };

    // In `warn` there is nothing to keep.
    let warn = changed(&standing(Mode::Warn), 2, true);
    assert_eq!((warn.current.policy, warn.current.version, warn.next), (policy(2), 2, None));
    assert_eq!(warn.settings, settings(2));

    let half = changed(&standing(enforce(5000)), 2, true);
    assert_eq!((half.current.policy, half.current.mode), (policy(1), enforce(5000)));
    let next = half.next.as_ref().unwrap();
    assert_eq!((next.policy, next.version, next.mode), (policy(2), 2, Mode::Warn));
    assert_eq!((half.settings.clone(), next.attempt(share(1000))), (settings(1), 2));
    assert_eq!(changed(&half, 2, true), half, "the same again changes nothing");
    assert_eq!(changed(&half, 3, true).next.unwrap().version, 3, "the newest is tried");
    let back = changed(&half, 1, true);
    assert_eq!(back.next, None, "it was taken back");
    // Who edits it to and fro does not get the same try again and again.
    for (from, to) in [(&back, 2), (&back, 3), (&half, 3)] {
        assert_eq!(changed(from, to, true).next.unwrap().attempt(share(1000)), 3, "{to}");
    }
    // Nor does the number of one that was taken back become that of another.
    for (from, number) in [(&back, 3), (&changed(&changed(&back, 2, true), 1, true), 4)] {
        let again = changed(from, 3, true);
        assert_eq!((again.next.unwrap().version, again.versions), (number, number));
    }
    let let_go = back.after(Lane::Current, &Event::Fell { cause: String::new() }, &config, NOW);
    assert_eq!(changed(&let_go.unwrap(), 3, true).current.version, 3);

    // It takes the place when it is enforced for as many.
    let up = |standing: &Standing, to| {
        standing.after(Lane::Next, &Event::Promoted { to: share(to) }, &config, NOW).unwrap()
    };
    let tenth = up(&half, 1000);
    assert_eq!(tenth.next.as_ref().unwrap().mode, enforce(1000));
    let there = up(&tenth, 5000);
    assert_eq!((there.current.policy, there.current.mode), (policy(2), enforce(5000)));
    assert_eq!(there.next, None);
    assert!(there.current.epoch > half.current.epoch);

    // Without what had earned it nothing is enforced.
    let gone = changed(&standing(enforce(5000)), 2, false);
    assert_eq!((gone.current.policy, gone.current.mode), (policy(2), Mode::Warn));
    let gone = changed(&half, 2, false).current;
    assert_eq!((gone.policy, gone.version), (policy(2), 2), "it is the version that it was");
}

#[test]
fn whichever_version_a_change_is_of_its_epoch_is_the_newest() {
    let config = RolloutConfig::default();
    let first =
        Standing { current: state(enforce(5000)), ..Standing::new(policy(1), json(1), NOW) };
    let mut standing = first.with_policy(policy(2), &json(2), true, &config, NOW);
    let held = || Event::Held { until_unix_ms: None, reason: String::new() };
    let fell = || Event::Fell { cause: String::new() };
    for (lane, event) in [
        (Lane::Current, held()),
        (Lane::Current, held()),
        (Lane::Next, held()),
        (Lane::Current, held()),
        (Lane::Next, Event::Promoted { to: share(1000) }),
        // The next version takes the place of the one that falls.
        (Lane::Current, fell()),
        (Lane::Current, fell()),
    ] {
        let before = standing.before(lane).unwrap();
        assert_eq!(before.epoch, standing.epoch(), "{event:?}");
        let after = standing.after(lane, &event, &config, NOW).unwrap();
        // As the receipt of the change has it.
        assert_eq!(before.after(&event, &config, NOW).epoch, after.epoch(), "{event:?}");
        assert_eq!(after.epoch(), standing.epoch() + 1, "{event:?}");
        standing = after;
    }
    assert_eq!((standing.current.policy, standing.next), (policy(2), None));
}

#[test]
fn what_a_clock_that_was_ahead_has_written_is_brought_back() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let config = RolloutConfig::default();
    let ahead = |standing: &Standing, lane, event: &Event| {
        standing.after(lane, event, &config, NOW + DAY_MS).unwrap()
    };
    let new = Standing::new(policy(1), json(1), NOW - DAY_MS);
    let set = Event::Set { mode: enforce(5000), reason: "a test".to_owned() };
    let set = ahead(&new, Lane::Current, &set);
    let edited = set.with_policy(policy(2), &json(2), true, &config, NOW + DAY_MS);
    let fell = ahead(&set, Lane::Current, &Event::Fell { cause: "a test".to_owned() });
    let until_unix_ms = Some(NOW + 2 * DAY_MS);
    let held = Event::Held { until_unix_ms, reason: "a test".to_owned() };
    let held = ahead(&set, Lane::Current, &held);
    for (name, standing, try_before, hold) in [
        ("a step", &set, 1, None),
        ("another version", &edited, 1, None),
        ("a fall", &fell, 2, Some(NOW + 6 * 3_600_000)),
        ("an operator's hold", &held, 1, until_unix_ms),
    ] {
        let back = standing.brought_back(&config, NOW).expect(name);
        let (was, now) = (&standing.current, &back.current);
        assert_eq!((now.mode, now.policy, &now.why), (was.mode, was.policy, &was.why), "{name}");
        assert_eq!((now.since_unix_ms, now.window_unix_ms), (NOW, NOW + 10_000), "{name}");
        assert_eq!(now.hold.as_ref().and_then(|hold| hold.until_unix_ms), hold, "{name}");
        let step = config.above(was.mode).unwrap();
        assert_eq!((was.attempt(step), now.attempt(step)), (try_before, try_before + 1), "{name}");
        assert!(back.epoch() > standing.epoch(), "{name}");
        assert_eq!(back.next.as_ref().map(|next| next.window_unix_ms > NOW + 10_000), {
            standing.next.as_ref().map(|_| false)
        });
        assert_eq!(back.brought_back(&config, NOW), None, "{name}: once is enough");
        let later = NOW + DAY_MS;
        assert_eq!(standing.brought_back(&config, later), None, "{name}: it is not ahead");
    }
}

fn json(n: u8) -> serde_json::Value {
    serde_json::json!({ "n": n })
}

#[test]
fn a_version_whose_turn_comes_because_the_old_one_fell_begins_a_window_of_its_own() {
    // Until then it was judged beside the old version, whose evidence is under the rule's own name.
    let config = RolloutConfig::default();
    let settings = serde_json::json!({});
    let old = Standing { current: state(enforce(5000)), ..Standing::new(policy(1), settings, NOW) };
    let beside = old.with_policy(policy(2), &serde_json::json!({}), true, &config, NOW - 1_800_000);
    let next = beside.next.as_ref().unwrap();
    let reason = || "a test".to_owned();
    for event in [
        Event::Fell { cause: reason() },
        Event::Alerted { alert: reason() },
        Event::Set { mode: Mode::Warn, reason: reason() },
        Event::Set { mode: Mode::Off, reason: reason() },
        Event::Adopted { mode: Mode::Warn, why: reason() },
    ] {
        let after = beside.after(Lane::Current, &event, &config, NOW).unwrap();
        assert_eq!((after.current.policy, after.next), (policy(2), None), "{event:?}");
        assert_eq!(after.current.window_unix_ms, NOW + 10_000, "{event:?}");
        let tries = [next, &after.current].map(|state| state.attempt(share(1000)));
        assert_eq!(tries, [2, 3], "{event:?}: another window is another try");
    }
    // What leaves it where it is begins nothing.
    let held = Event::Held { until_unix_ms: None, reason: reason() };
    assert_eq!(beside.after(Lane::Current, &held, &config, NOW).unwrap().next, beside.next);
}

#[test]
fn what_was_judged_while_another_mode_was_in_force_is_no_evidence() {
    let config = RolloutConfig::default();
    let (auto, warn, enforce) =
        (ModeSetting::Auto, ModeSetting::Pinned(Mode::Warn), ModeSetting::ENFORCE);
    let long_ago = NOW - 3_600_000;
    for (name, before, after, attempt) in [
        ("never asked", None, enforce, None),
        ("the same", Some(enforce), enforce, None),
        ("pinned to what it was", Some(auto), warn, None),
        ("released from what it was", Some(warn), auto, None),
        ("released", Some(enforce), auto, Some(1)),
        ("released from off", Some(ModeSetting::OFF), auto, Some(1)),
        ("pinned", Some(auto), enforce, Some(2)),
        ("pinned otherwise", Some(warn), enforce, Some(1)),
    ] {
        let standing = Standing::new(policy(1), serde_json::json!({}), long_ago);
        let held = standing.current.after(
            &Event::Alerted { alert: "an alert".to_owned() },
            &config,
            long_ago,
        );
        let standing = Standing { setting: before, current: held, ..standing };
        let now = standing.with_setting(after, &config, NOW);
        assert_eq!(now.setting, Some(after), "{name}");
        let (was, is) = (&standing.current, &now.current);
        match attempt {
            None => assert_eq!(was, is, "{name}"),
            Some(attempt) => {
                assert_eq!(is.window_unix_ms, NOW + 10_000, "{name}");
                assert_eq!(is.attempt(share(1000)), attempt, "{name}");
                assert_eq!((is.mode, &is.hold, is.epoch), (was.mode, &was.hold, was.epoch + 1));
            }
        }
    }
}

#[test]
fn a_version_that_fell_is_no_freer_for_another_edit() {
    let config = RolloutConfig::default();
    let settings = serde_json::json!({});
    let old = Standing::new(policy(1), settings.clone(), NOW);
    let old = Standing { current: state(enforce(5000)), ..old };
    let up = Event::Promoted { to: share(1000) };
    let fell = Event::Fell { cause: "too many denials".to_owned() };
    let beside = old.with_policy(policy(2), &settings, true, &config, NOW);
    let tried = beside.after(Lane::Next, &up, &config, NOW).unwrap();
    let fell = tried.after(Lane::Next, &fell, &config, NOW).unwrap();
    let again = fell.with_policy(policy(3), &settings, true, &config, NOW + 1000);
    assert_eq!(again.next.unwrap().hold, fell.next.unwrap().hold);
    assert_eq!(again.current.hold, None);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    assert_eq!(RolloutConfig::default().faults(), []);
    for (toml, key) in [
        ("steps = []", "steps"),
        ("steps = [\"10%\"]", "steps"),
        ("steps = [\"50%\", \"10%\", \"100%\"]", "steps"),
        ("steps = [\"10%\", \"10%\", \"100%\"]", "steps"),
        ("steps = [\"0%\", \"100%\"]", "steps"),
        ("hold_after_fall = \"0s\"", "hold_after_fall"),
        ("settle = \"2h\"", "settle"),
        ("freeze = [{}]", "freeze"),
    ] {
        let config: RolloutConfig = toml::from_str(toml).unwrap();
        let keys: Vec<_> = config.faults().iter().map(|fault| fault.key).collect();
        assert_eq!(keys, [key], "{toml}");
    }
    let unknown = "stepps = []";
    assert!(toml::from_str::<RolloutConfig>(unknown).is_err());
}

#[test]
fn a_policy_hash_is_of_its_parts_and_not_of_their_sum() {
    assert_ne!(PolicyHash::of(&[b"ab", b"c"]), PolicyHash::of(&[b"a", b"bc"]));
    let hash = policy(0xab);
    assert_eq!(hash.to_string().parse(), Ok(hash));
    assert!("ab".parse::<PolicyHash>().is_err());
}

fn event() -> impl Strategy<Value = Event> {
    let reason = || "x".to_owned();
    prop_oneof![
        Just(Event::Fell { cause: reason() }),
        Just(Event::Alerted { alert: reason() }),
        (0..=10_000_u16).prop_map(move |bp| Event::Set { mode: enforce(bp), reason: reason() }),
        Just(Event::Held { until_unix_ms: Some(NOW + 5000), reason: reason() }),
        Just(Event::Released { reason: reason() }),
        any::<u8>().prop_map(|n| Event::PolicyChanged { policy: policy(n) }),
        Just(Event::WindowRestarted { reason: reason() }),
    ]
}

/// What an edit of a held rule, and what comes of it, may be.
#[derive(Clone, Debug)]
enum Edit {
    /// The settings, and whether what was enforced before is still there.
    Settings(u8, bool),
    Happened(Lane, Event),
}

fn edit() -> impl Strategy<Value = Edit> {
    let lane = prop_oneof![Just(Lane::Current), Just(Lane::Next)];
    let reason = || "x".to_owned();
    let event = prop_oneof![
        Just(Event::Fell { cause: reason() }),
        Just(Event::Alerted { alert: reason() }),
        Just(Event::WindowRestarted { reason: reason() }),
    ];
    prop_oneof![
        (0..3_u8, any::<bool>()).prop_map(|(n, kept)| Edit::Settings(n, kept)),
        (lane, event).prop_map(|(lane, event)| Edit::Happened(lane, event)),
    ]
}

proptest! {
    /// What an operator has said of a rule is of all its versions, those that come later as well.
    #[test]
    fn a_hold_outlasts_every_edit(
        basis_points in 0..=10_000_u16,
        edits in proptest::collection::vec(edit(), 1..20),
    ) {
        let config = RolloutConfig::default();
        let settings = serde_json::json!({});
        let held = Event::Held { until_unix_ms: None, reason: "an audit".to_owned() };
        let mut standing = Standing::new(policy(0), settings.clone(), NOW);
        standing.current = state(enforce(basis_points)).after(&held, &config, NOW);
        for edit in edits {
            standing = match edit {
                Edit::Settings(n, kept) => {
                    standing.with_policy(policy(n), &settings, kept, &config, NOW)
                }
                Edit::Happened(lane, event) => {
                    standing.after(lane, &event, &config, NOW).unwrap_or(standing)
                }
            };
            for state in [Some(&standing.current), standing.next.as_ref()].into_iter().flatten() {
                prop_assert!(state.held(i64::MAX).is_some(), "{:?}", standing);
            }
        }
    }

    /// Whatever happens, and wherever the clock is set: the epoch grows, attempts are never
    /// forgotten, a promotion is one step up, and after a fall or an alert nothing is enforced. And
    /// whoever opens it then waits for nothing longer than after a change that is made now.
    #[test]
    fn laws_of_a_rollout(
        events in proptest::collection::vec((event(), -20_000..20_000_i64), 1..40),
    ) {
        let config = RolloutConfig::default();
        let (mut standing, mut now) = (Standing::new(policy(0), json(0), NOW), NOW);
        for (event, later) in events {
            now += later;
            // The clock of a process is never set back: what was ahead is from one before it.
            if later < 0 && let Some(back) = standing.brought_back(&config, now) {
                prop_assert!(back.epoch() > standing.epoch());
                for (step, attempts) in &standing.current.attempts {
                    prop_assert!(back.current.attempts[step] >= *attempts);
                }
                prop_assert_eq!(back.current.mode, standing.current.mode);
                standing = back;
            }
            let state = &standing.current;
            prop_assert!(state.since_unix_ms <= now && state.window_unix_ms <= now + 10_000);
            if let Some(hold) = state.held(now).filter(|hold| hold.after_fall) {
                prop_assert!(hold.until_unix_ms.is_some_and(|until| until <= now + 6 * 3_600_000));
            }
            let event = match propose(&config, ModeSetting::Auto, state, PASS, now) {
                Proposal::Promote { to } => {
                    prop_assert_eq!(config.above(state.mode), Some(to));
                    prop_assert!(now >= state.window_unix_ms && state.held(now).is_none());
                    Event::Promoted { to }
                }
                _ => event,
            };
            let after = standing.after(Lane::Current, &event, &config, now).unwrap();
            prop_assert!(after.epoch() > standing.epoch());
            let next = &after.current;
            for (step, attempts) in &state.attempts {
                prop_assert!(next.attempts[step] >= *attempts);
            }
            if matches!(event, Event::Fell { .. } | Event::Alerted { .. }) {
                prop_assert!(!matches!(next.mode, Mode::Enforce(_)));
                prop_assert!(next.held(now).is_some());
            }
            let json = serde_json::to_string(&after).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Standing>(&json).unwrap(), &after);
            standing = after;
        }
    }
}
