//! Whole windows: what the gates make of minutes as they come.

use super::*;
use crate::gates::minute::{ClientMinute, Name};
use crate::gates::tests::{NOON, counts, look};
use crate::gates::{Gate, GatesConfig, Look, Reading, Verdict, all_pass, judge};
use crate::statistics::draws::Draws;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn start(basis_points: u16) -> Start {
    Start {
        tick: TickLength::MINUTE,
        first: NOON,
        step: Share::from_basis_points(basis_points).unwrap(),
        attempt: 1,
        waivers: Vec::new(),
        predicted: counts(0, 100_000),
        control_before: Proportion::NONE,
    }
}

const QUIET: RuleMinute<'static> = RuleMinute {
    minute: NOON,
    clients: &[],
    other: Proportion::NONE,
    checks: Proportion::NONE,
    enforced_5xx: Proportion::NONE,
    control_5xx: Proportion::NONE,
    denied: Proportion::NONE,
    dropped: 0,
    is_red: false,
};

fn shadow(client: &str, hits: u64, total: u64) -> ClientMinute {
    ClientMinute { client: name(client), standing: Standing::Control, judged: counts(hits, total) }
}

fn at(minute: i64) -> Minute {
    Minute(NOON.0 + minute)
}

fn covered() -> coverage::Input {
    coverage::Input { week: counts(1000, 1000), days: 8, unseen: Vec::new() }
}

fn readings(window: &mut Window, now: i64) -> Vec<Reading> {
    judge(&GatesConfig::default(), window.inputs(at(now), covered()))
}

fn verdict(readings: &[Reading], gate: Gate) -> Verdict {
    readings.iter().find(|reading| reading.gate == gate).expect("the gate applies").verdict
}

#[test]
fn a_harmless_rule_climbs_when_everything_is_shown() {
    let mut window = Window::begin(start(0)).unwrap();
    let mut first_pass = None;
    for minute in 0..120 {
        let clients: Vec<_> =
            (0..20).map(|client| shadow(&format!("client-{client}"), 0, 5)).collect();
        window
            .observe(&RuleMinute {
                minute: at(minute),
                clients: &clients,
                checks: counts(0, 100),
                ..QUIET
            })
            .unwrap();
        let readings = readings(&mut window, minute + 1);
        if first_pass.is_none() && all_pass(&readings) {
            first_pass = Some((minute, readings));
        }
    }
    let (minute, readings) = first_pass.expect("it passes within two hours");
    let gates: Vec<_> = readings.iter().map(|reading| reading.gate).collect();
    assert_eq!(gates, [Gate::HarmRate, Gate::Clients, Gate::Coverage, Gate::Latency, Gate::Soak]);
    // 2,000 client-minutes at 20 a minute are more than the least of either.
    assert!((29..100).contains(&minute), "{minute}");
}

#[test]
fn one_large_client_does_not_drown_a_small_one() {
    let mut window = Window::begin(start(0)).unwrap();
    for minute in 0..60 {
        let mut clients = vec![shadow("web", 0, 66)];
        if minute % 5 == 0 {
            clients.push(shadow("acme-batch", 1, 1));
        }
        window.observe(&RuleMinute { minute: at(minute), clients: &clients, ..QUIET }).unwrap();
    }
    let readings = readings(&mut window, 60);
    assert_eq!(verdict(&readings, Gate::HarmRate), Verdict::Inconclusive, "12 of 3,972 is 0.3 %");
    let clients = readings.iter().find(|reading| reading.gate == Gate::Clients).unwrap();
    assert_eq!(clients.verdict, Verdict::Fail);
    assert_eq!(clients.sentence, "promoting breaks acme-batch (12 of 12), 0.3 % of traffic");
    assert!(clients.numbers.get("ln_capital").unwrap() < 0.0, "and the capital says no as well");

    // Ten times the traffic of the large client: the average passes, the client does not.
    let mut window = Window::begin(start(0)).unwrap();
    for minute in 0..60 {
        let mut clients = vec![shadow("web", 0, 1000)];
        if minute % 5 == 0 {
            clients.push(shadow("acme-batch", 1, 1));
        }
        window.observe(&RuleMinute { minute: at(minute), clients: &clients, ..QUIET }).unwrap();
    }
    let readings = self::readings(&mut window, 60);
    assert_eq!(verdict(&readings, Gate::HarmRate), Verdict::Pass);
    assert_eq!(verdict(&readings, Gate::Clients), Verdict::Fail);
}

#[test]
fn a_waiver_is_of_a_client_by_whatever_tenant_either_is_called() {
    let (bare, named) = ("bearer:0123456789abcdef", "acme (bearer:0123456789abcdef)");
    let other = "acme (bearer:0123456789abcdee)";
    for (waived, client, is_waived) in [
        (bare, bare, true),
        (bare, named, true),
        (named, bare, true),
        ("demo (bearer:0123456789abcdef)", named, true),
        (bare, other, false),
        (named, other, false),
        (named, "acme", false),
    ] {
        let waiver = Waiver { client: name(waived), until: at(30) };
        let mut window = Window::begin(Start { waivers: vec![waiver], ..start(0) }).unwrap();
        let clients = [shadow(client, 8, 8)];
        window.observe(&RuleMinute { minute: at(0), clients: &clients, ..QUIET }).unwrap();
        let verdict = verdict(&readings(&mut window, 1), Gate::Clients);
        let want = if is_waived { Verdict::NoData } else { Verdict::Fail };
        assert_eq!(verdict, want, "{client}, and a waiver of {waived}");
    }
}

#[test]
fn a_waived_client_counts_nowhere() {
    let waiver = Waiver { client: name("acme-batch"), until: at(30) };
    let mut window = Window::begin(Start { waivers: vec![waiver], ..start(0) }).unwrap();
    for minute in 0..40 {
        let clients = [shadow("acme-batch", 1, 1), shadow("web", 0, 10)];
        window.observe(&RuleMinute { minute: at(minute), clients: &clients, ..QUIET }).unwrap();
        let inputs = window.inputs(at(minute), covered());
        let hits = u64::try_from(minute - 29).unwrap_or(0);
        assert_eq!(inputs.harm_rate.judged.hits(), hits, "minute {minute}");
    }
    // Six of six since the waiver has ended, and more than half of all that was counted.
    assert_eq!(verdict(&readings(&mut window, 40), Gate::Clients), Verdict::Fail);
    let too_many = vec![waiver; clients::WAIVERS_MAX + 1];
    assert!(Window::begin(Start { waivers: too_many, ..start(0) }).is_err());
}

#[test]
fn nothing_passes_on_an_incomplete_window() {
    let clean = [shadow("web", 0, 2000)];
    let feed = |window: &mut Window, minute: i64, dropped: u64| {
        let minute = RuleMinute {
            minute: at(minute),
            clients: &clean,
            checks: counts(0, 2000),
            dropped,
            ..QUIET
        };
        window.observe(&minute).unwrap();
    };
    let complete = |window: &mut Window| {
        for minute in 0..3 {
            feed(window, minute, 0);
        }
    };
    let mut window = Window::begin(start(0)).unwrap();
    complete(&mut window);
    assert_eq!(verdict(&readings(&mut window, 3), Gate::HarmRate), Verdict::Pass);

    assert_eq!(window.lost(), None);
    feed(&mut window, 3, 7);
    assert_eq!(window.lost(), Some(at(3)));
    feed(&mut window, 6, 0);
    assert_eq!(window.lost(), Some(at(6)), "the gap before it");
    let found = readings(&mut window, 7);
    for gate in [Gate::HarmRate, Gate::Clients, Gate::Coverage, Gate::Latency] {
        assert_eq!(verdict(&found, gate), Verdict::Inconclusive, "{gate:?}");
    }
    assert_eq!(
        found[0].sentence,
        "the window is incomplete: 7 records were dropped and 2 minutes are missing since \
         2026-11-21 12:03 UTC"
    );
    let inputs = window.inputs(at(7), covered());
    assert_eq!(inputs.soak.green_minutes, 1);
    let lost = &inputs.completeness;
    assert_eq!((lost.since, lost.last), (Some(at(3)), Some(at(6))));
    assert!(!all_pass(&found));

    // The soak counts on, and does not pass either.
    for minute in 7..60 {
        feed(&mut window, minute, 0);
    }
    let found = readings(&mut window, 60);
    assert!(window.inputs(at(60), covered()).soak.green_minutes > 30);
    assert!(found.iter().all(|reading| reading.verdict != Verdict::Pass), "{found:#?}");
    assert!(found.iter().all(|reading| reading.waits_for.is_some()), "{found:#?}");

    // The minutes before the first are missing as well.
    let mut window = Window::begin(start(0)).unwrap();
    feed(&mut window, 1, 0);
    assert_eq!(window.inputs(at(2), covered()).completeness.missing_minutes, 1);
}

#[test]
fn harm_that_was_seen_stands_however_much_was_lost() {
    let mut window = Window::begin(start(0)).unwrap();
    let clients = [shadow("acme-batch", 12, 12)];
    let minute = RuleMinute { clients: &clients, dropped: 1000, ..QUIET };
    window.observe(&minute).unwrap();
    assert_eq!(verdict(&readings(&mut window, 1), Gate::Clients), Verdict::Fail);
}

#[test]
fn minutes_that_do_not_fit_change_nothing() {
    let mut window = Window::begin(start(0)).unwrap();
    let clients = [shadow("web", 0, 10)];
    let fitting = RuleMinute { minute: at(3), clients: &clients, ..QUIET };
    window.observe(&fitting).unwrap();
    let before = window.inputs(at(4), covered()).clone();
    let crowd: Vec<_> = (0..=CLIENTS_MAX).map(|n| shadow(&format!("c{n}"), 0, 1)).collect();
    for (minute, error) in [
        (fitting, MinuteError::NotNewer { minute: at(3), newest: at(3) }),
        (
            RuleMinute { minute: at(2), ..fitting },
            MinuteError::NotNewer { minute: at(2), newest: at(3) },
        ),
        (
            RuleMinute { minute: at(-1), ..fitting },
            MinuteError::BeforeWindow { minute: at(-1), first: at(0) },
        ),
        (
            RuleMinute { minute: at(4), clients: &crowd, ..fitting },
            MinuteError::TooManyClients(CLIENTS_MAX + 1),
        ),
    ] {
        assert_eq!(window.observe(&minute), Err(error));
        assert_eq!(*window.inputs(at(4), covered()), before, "{error}");
    }
}

#[test]
fn a_service_with_three_clients_can_leave_an_empty_step() {
    let mut window = Window::begin(start(1000)).unwrap();
    for minute in 0..900 {
        let clients = ["one", "two", "three"].map(|client| shadow(client, 0, 10));
        window
            .observe(&RuleMinute {
                minute: at(minute),
                clients: &clients,
                checks: counts(0, 30),
                control_5xx: counts(0, 30),
                ..QUIET
            })
            .unwrap();
    }
    let found = readings(&mut window, 900);
    let gates: Vec<_> = found.iter().map(|reading| reading.gate).collect();
    assert!(!gates.contains(&Gate::Errors) && !gates.contains(&Gate::Calibration), "{gates:?}");
    assert!(all_pass(&found), "{found:#?}");
}

#[test]
fn a_step_that_enforces_compares_both_sides() {
    let mut window = Window::begin(start(1000)).unwrap();
    let enforced = |client: u64| ClientMinute {
        client: name(&format!("in-{client}")),
        standing: Standing::Enforced,
        judged: counts(0, 60),
    };
    for minute in 0..240 {
        let mut clients: Vec<_> =
            (0..27).map(|client| shadow(&format!("out-{client}"), 0, 60)).collect();
        clients.extend((0..3).map(enforced));
        window
            .observe(&RuleMinute {
                minute: at(minute),
                clients: &clients,
                checks: counts(0, 1800),
                enforced_5xx: counts(0, 180),
                control_5xx: counts(0, 1620),
                denied: counts(0, 180),
                ..QUIET
            })
            .unwrap();
    }
    let found = readings(&mut window, 240);
    let gates: Vec<_> = found.iter().map(|reading| reading.gate).collect();
    assert!(gates.is_sorted() && gates.len() == 8, "{gates:?}");
    assert!(all_pass(&found), "{found:#?}");
    let inputs = window.inputs(at(240), covered());
    assert_eq!(inputs.assignment.clients, counts(3, 30));
    assert_eq!(inputs.harm_rate.judged.total(), 240 * 27 * 60, "harm is of the shadow alone");
}

/// What a receipt rests on: the verdicts come from the stored inputs alone.
#[test]
fn readings_are_the_same_from_what_was_stored() {
    let mut draws = Draws(5);
    let mut window = Window::begin(start(1000)).unwrap();
    for minute in 0..500 {
        let clients: Vec<_> = (0..1 + draws.next_u64() % 64)
            .map(|_| {
                let total = 1 + draws.next_u64() % 300;
                let hits = draws.binomial(total, 0.004);
                let standing =
                    if draws.happens(0.1) { Standing::Enforced } else { Standing::Control };
                let client = name(&format!("client-{}", draws.next_u64() % 400));
                ClientMinute { client, standing, judged: counts(hits, total) }
            })
            .collect();
        let enforced = draws.next_u64() % 500;
        window
            .observe(&RuleMinute {
                minute: at(minute),
                clients: &clients,
                other: counts(draws.binomial(90, 0.004), 90),
                checks: counts(draws.binomial(5000, 0.009), 5000),
                enforced_5xx: counts(draws.binomial(enforced, 0.001), enforced),
                control_5xx: counts(draws.binomial(4500, 0.001), 4500),
                denied: counts(draws.binomial(enforced, 0.002), enforced),
                dropped: 0,
                is_red: draws.happens(0.01),
            })
            .unwrap();
        if minute % 50 == 0 {
            let config = GatesConfig::default();
            let inputs = window.inputs(at(minute + 1), covered());
            let live = judge(&config, inputs);
            let stored = serde_json::to_string(inputs).unwrap();
            let read: Inputs = serde_json::from_str(&stored).unwrap();
            assert_eq!(read, *inputs);
            let again = judge(&config, &read);
            let bits = |readings: &[Reading]| serde_json::to_string(readings).unwrap();
            assert_eq!(bits(&again), bits(&live));
            let reread: Vec<Reading> = serde_json::from_str(&bits(&live)).unwrap();
            assert_eq!(reread, live);
            // Another order of the keys, as canonical JSON has it, is the same.
            let sorted: serde_json::Value = serde_json::from_str(&stored).unwrap();
            let sorted: Inputs = serde_json::from_value(sorted).unwrap();
            assert_eq!(judge(&config, &sorted), live);
        }
    }
    let stored = serde_json::to_string(window.inputs(at(500), covered())).unwrap();
    assert!(stored.len() < 40_000, "an input of {} bytes", stored.len());
}

#[test]
fn stored_inputs_that_cannot_be_are_refused() {
    let mut window = Window::begin(start(1000)).unwrap();
    let clients = [shadow("web", 3, 10), shadow("zoo", 1, 64)];
    window.observe(&RuleMinute { clients: &clients, ..QUIET }).unwrap();
    let stored = serde_json::to_string(window.inputs(at(1), covered())).unwrap();
    assert!(serde_json::from_str::<Inputs>(&stored).is_ok());
    for (text, instead) in [
        (r#"{"units":2,"harmed":[[1,1],[20,1]]}"#, r#"{"units":1,"harmed":[[1,1],[20,1]]}"#),
        (r#"{"units":2,"harmed":[[1,1],[20,1]]}"#, r#"{"units":2,"harmed":[[20,1],[1,1]]}"#),
        (r#"{"units":2,"harmed":[[1,1],[20,1]]}"#, r#"{"units":2,"harmed":[[1,1],[65,1]]}"#),
        (r#""step":1000"#, r#""step":10001"#),
        (r#""client":"web""#, r#""client":"zoo""#),
        (r#""now":"#, r#""then":1,"now":"#),
        (r#"{"hits":4,"total":74}"#, r#"{"hits":75,"total":74}"#),
    ] {
        assert!(stored.contains(text), "{text} in {stored}");
        let broken = stored.replacen(text, instead, 1);
        assert!(serde_json::from_str::<Inputs>(&broken).is_err(), "{instead}");
    }
}

#[test]
fn a_flood_of_clients_is_bounded_and_keeps_the_broken_one() {
    let mut window = Window::begin(start(0)).unwrap();
    let mut draws = Draws(9);
    for minute in 0..1000 {
        let mut clients: Vec<_> =
            (0..63).map(|_| shadow(&format!("x{}", draws.next_u64()), 0, 3)).collect();
        if minute % 100 == 0 {
            clients.push(shadow("acme-batch", 1, 1));
        }
        let minute =
            RuleMinute { minute: at(minute), clients: &clients, other: counts(0, 37), ..QUIET };
        window.observe(&minute).unwrap();
    }
    let inputs = window.inputs(at(1000), covered());
    assert_eq!(inputs.clients.clients().len(), clients::KEPT_MAX);
    assert!(serde_json::to_string(inputs).unwrap().len() < 40_000);
    let clients = &readings(&mut window, 1000)[1];
    assert_eq!(clients.verdict, Verdict::Fail);
    assert_eq!(
        clients.sentence,
        "promoting breaks acme-batch (10 of 10), less than 0.01 % of traffic"
            .replace("less than 0.01 %", "0.0044 %")
    );
}

/// Clients whose mean harm is p0, looked at after every minute.
#[test]
fn clients_that_are_harmed_as_much_as_p0_pass_at_most_alpha_of_the_time() {
    let (runs, minutes) = (300, 300);
    // A majority never fails it here: it is the capital that is tested.
    let config = clients::Config { p0: "5%".parse().unwrap(), requests_min: u64::MAX };
    let look = Look { level: 0.1, ..look(0) };
    let passed = |chance: f64| {
        let mut draws = Draws(21);
        let passed = (0..runs).filter(|_| {
            let mut input = clients::Input::default();
            (0..minutes).any(|_| {
                // Half of the clients are harmed wholly or not at all, half of them in part.
                let parts: Vec<_> = (0..8)
                    .map(|client| {
                        let total = if client % 2 == 0 { 1 } else { 7 };
                        let judged = counts(draws.binomial(total, chance), total);
                        (name(&format!("c{client}")), judged)
                    })
                    .collect();
                input.observe(parts.into_iter(), Proportion::NONE);
                clients::judge(&config, &look, &input).verdict == Verdict::Pass
            })
        });
        passed.count() as f64 / f64::from(runs)
    };
    let at_p0 = passed(0.05);
    assert!(at_p0 <= look.level, "{at_p0} passed");
    let at_a_tenth = passed(0.005);
    assert!(at_a_tenth > 0.95, "{at_a_tenth} passed at a tenth of p0");
}
