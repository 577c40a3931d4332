use super::*;
use crate::gates::tests::counts;
use crate::statistics::draws::Draws;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

const QUIET: Ask<'static> =
    Ask { denied: &[], enforced_5xx: Proportion::NONE, control_5xx: Proportion::NONE };

/// Fifty known clients of which one in a hundred is denied something in a tick.
fn baseline() -> Baseline {
    let by_client = (0..50).map(|n| (name(&format!("client-{n}")), counts(1, 1000))).collect();
    Baseline { clients: counts(1000, 100_000), by_client, control_before: None }
}

const SECOND: Period = Period::secs(1);

/// Whether a receipt of it could be decided again.
fn again(alarm: &Alarm) -> bool {
    judge(&Config::default(), alarm.evidence.clone()).as_ref() == Some(alarm)
}

fn asks_to_alarm(chance: f64, most: u64, seed: u64) -> Option<(u64, Alarm)> {
    let mut watch = Watch::new(Config::default(), SECOND, &baseline());
    let mut draws = Draws(seed);
    let names: Vec<_> = (0..50).map(|n| name(&format!("client-{n}"))).collect();
    (1..=most).find_map(|tick| {
        let denied: Vec<_> =
            names.iter().map(|name| (*name, counts(u64::from(draws.happens(chance)), 4))).collect();
        watch.observe(&Ask { denied: &denied, ..QUIET }).map(|alarm| (tick, alarm))
    })
}

#[test]
fn a_rise_of_denials_is_told_within_seconds() {
    for seed in 0..20 {
        let (tick, alarm) = asks_to_alarm(0.3, 60, seed).expect("an alarm");
        let Evidence::Denials { asks, .. } = &alarm.evidence else { panic!("{alarm:?}") };
        assert!(asks.len() as u64 <= tick && tick <= 10, "seed {seed}: after {tick} asks");
        assert!(again(&alarm));
        assert!(alarm.sentence.starts_with("known clients are denied more often than warn"));
    }
}

#[test]
fn false_alarms_are_as_rare_as_is_stated() {
    // A mean of at least 500 asks, where the clients are denied as often as warn said at most.
    let config = Config { false_alarm_every: Period::secs(500), ..Config::default() };
    let (runs, most) = (200, 3000);
    let ticks: u64 = (0..runs)
        .map(|seed| {
            let mut draws = Draws(seed);
            let baseline = Baseline { by_client: Vec::new(), ..baseline() };
            let mut denials = Watch::new(config.clone(), SECOND, &baseline).denials;
            let before = denials.rise.before;
            let alarm = (1..=most).find(|_| {
                denials.observe(counts(draws.binomial(20, before), 20));
                denials.alarm(&config, SECOND).is_some()
            });
            alarm.unwrap_or(most)
        })
        .sum();
    assert!(ticks / runs >= 500, "a mean of {} asks", ticks / runs);
}

#[test]
fn a_client_is_known_by_its_key_whatever_tenant_it_is_called_by() {
    let (bare, named) = ("bearer:0123456789abcdef", "acme (bearer:0123456789abcdef)");
    for (before, now) in [(bare, named), (named, bare), (named, named)] {
        let by_client = vec![(name(before), counts(0, 1000))];
        let baseline = Baseline { by_client, ..baseline() };
        let mut watch = Watch::new(Config::default(), SECOND, &baseline);
        let denied = [(name(now), counts(12, 12))];
        let alarm = watch.observe(&Ask { denied: &denied, ..QUIET }).expect("it broke");
        assert!(alarm.sentence.starts_with(&format!("enforcing broke {now}: ")), "{alarm:?}");
    }
}

#[test]
fn a_known_client_that_breaks_is_named() {
    let mut watch = Watch::new(Config::default(), SECOND, &baseline());
    let broken = [(name("client-7"), counts(1, 1))];
    let tick = Ask { denied: &broken, ..QUIET };
    let alarms: Vec<_> = (0..6).map(|_| watch.observe(&tick)).collect();
    assert_eq!(alarms[..5], [const { None }; 5], "five requests mean nothing yet");
    let alarm = alarms[5].as_ref().expect("six of six");
    assert!(matches!(alarm.evidence, Evidence::Client { block: 1, .. }) && again(alarm));
    assert_eq!(
        alarm.sentence,
        "enforcing broke client-7: 6 of 6 requests denied, 1 of 1,000 would have been in warn"
    );
}

#[test]
fn whoever_comes_with_new_names_switches_nothing_off() {
    let mut watch = Watch::new(Config::default(), SECOND, &baseline());
    for n in 0..10_000 {
        let denied =
            [(name(&format!("made-up-{n}")), counts(9, 9)), (name("curl"), counts(50, 50))];
        assert_eq!(watch.observe(&Ask { denied: &denied, ..QUIET }), None);
    }
}

#[test]
fn clients_that_warn_saw_denied_are_not_broken_anew() {
    let mut baseline = baseline();
    baseline.by_client = vec![
        (name("scanner"), counts(900, 1000)),
        (name("stranger"), counts(0, 19)),
        (name("half"), counts(500, 1000)),
    ];
    let mut watch = Watch::new(Config::default(), SECOND, &baseline);
    for _ in 0..1000 {
        let denied = ["scanner", "stranger", "half"].map(|client| (name(client), counts(1, 1)));
        assert_eq!(watch.observe(&Ask { denied: &denied, ..QUIET }), None);
    }
}

#[test]
fn failures_above_the_control_are_told() {
    let mut watch = Watch::new(Config::default(), SECOND, &baseline());
    let same = Ask { enforced_5xx: counts(1, 100), control_5xx: counts(9, 900), ..QUIET };
    for _ in 0..200 {
        assert_eq!(watch.observe(&same), None);
    }
    let mut watch = Watch::new(Config::default(), SECOND, &baseline());
    let worse = Ask { enforced_5xx: counts(20, 100), ..same };
    let alarm = (0..10).find_map(|_| watch.observe(&worse)).expect("an alarm");
    assert!(matches!(alarm.evidence, Evidence::Errors { against: Against::Control, .. }));
    assert!(again(&alarm) && alarm.numbers.iter().all(|(_, value)| value.is_finite()));

    // Where all are enforced the steps before are what is compared with.
    let stored = Baseline { control_before: Some(counts(9, 900)), ..baseline() };
    let mut watch = Watch::new(Config::default(), SECOND, &stored);
    let all = Ask { enforced_5xx: counts(1, 100), ..QUIET };
    for _ in 0..200 {
        assert_eq!(watch.observe(&all), None);
    }
    let worse = Ask { enforced_5xx: counts(20, 100), ..QUIET };
    let alarm = (0..60).find_map(|_| watch.observe(&worse)).expect("an alarm");
    let Evidence::Errors { against, control, block, .. } = alarm.evidence else { panic!() };
    assert_eq!((against, control), (Against::ControlBefore, counts(9, 900)));
    assert!(block > 1 && again(&alarm));
    assert!(alarm.sentence.ends_with("in the control of the step before 1 % of 900 requests"));

    // With nobody to compare with there is no being above.
    let mut watch = Watch::new(Config::default(), SECOND, &baseline());
    let alone = Ask { enforced_5xx: counts(100, 100), ..QUIET };
    assert_eq!(watch.observe(&alone), None);
}

#[test]
fn without_a_baseline_nothing_is_out_of_the_ordinary() {
    let mut watch = Watch::new(Config::default(), SECOND, &Baseline::default());
    let denied = [(name("anyone"), counts(1, 1))];
    for _ in 0..10_000 {
        assert_eq!(watch.observe(&Ask { denied: &denied, ..QUIET }), None);
    }
}

/// A client that was served well for long, and then is not.
#[test]
fn a_long_good_past_hides_nothing() {
    let mut watch = Watch::new(Config::default(), SECOND, &baseline());
    // Among fifty others, so that the denials of all do not tell it.
    let came = |hits: u64| -> Vec<_> {
        let hits = |n: u64| if n == 7 { hits } else { 0 };
        (0..50).map(|n| (name(&format!("client-{n}")), counts(hits(n), 1))).collect()
    };
    let (served, broken) = (came(0), came(1));
    for _ in 0..20_000 {
        assert_eq!(watch.observe(&Ask { denied: &served, ..QUIET }), None);
    }
    let (asks, alarm) = (1..)
        .find_map(|asks| Some((asks, watch.observe(&Ask { denied: &broken, ..QUIET })?)))
        .expect("an alarm");
    assert!(asks <= CLIENT_BLOCK_REQUESTS, "after {asks} denials");
    let Evidence::Client { block, .. } = alarm.evidence else { panic!("{alarm:?}") };
    assert!(block > 300 && again(&alarm), "{alarm:?}");

    let mut watch = Watch::new(Config::default(), SECOND, &baseline());
    let well = Ask { enforced_5xx: counts(1, 100), control_5xx: counts(1, 100), ..QUIET };
    for _ in 0..100_000 {
        assert_eq!(watch.observe(&well), None);
    }
    let worse = Ask { enforced_5xx: counts(50, 100), ..well };
    let asks = (1..).find(|_| watch.observe(&worse).is_some()).expect("an alarm");
    assert!(asks <= ERRORS_BLOCK_REQUESTS / 100, "after {asks} asks");
}

/// Whoever looks at block after block may be wrong no more often for that.
#[test]
fn a_client_that_is_denied_as_often_as_before_is_rarely_called_broken() {
    let config = Config { client_alpha: "20%".parse().unwrap(), ..Config::default() };
    let runs = 400;
    let called = (0..runs).filter(|seed| {
        let mut draws = Draws(*seed);
        let mut known = Known { before: counts(40, 100), since: Proportion::NONE, block: 1 };
        let chance = upper_bound(known.before, BASELINE_ALPHA);
        (0..2000).any(|_| {
            known.observe(counts(u64::from(draws.happens(chance)), 1));
            let Known { before, since, block } = known;
            let client = name("client-7");
            let evidence = Evidence::Client { client, before, since, block, known_clients: 1 };
            judge(&config, evidence).is_some()
        })
    });
    let share = called.count() as f64 / runs as f64;
    assert!(share <= 0.2, "{share} were called broken");
}

/// What nobody known takes part in says nothing, and is not kept.
#[test]
fn denials_are_told_by_a_bounded_number_of_asks() {
    let mut watch = Watch::new(Config::default(), SECOND, &baseline());
    let served = [(name("client-7"), counts(0, 1))];
    for _ in 0..3 * ASKS_MAX {
        watch.observe(&QUIET);
        watch.observe(&Ask { denied: &served, ..QUIET });
    }
    assert_eq!(watch.denials.asks.len(), ASKS_MAX);
    assert!(watch.denials.asks.iter().all(|ask| *ask == counts(0, 1)));
}

#[test]
fn evidence_of_nothing_is_no_alarm() {
    let config = Config::default();
    let client = name("client-7");
    let (known, broken) = (counts(1, 1000), counts(60, 60));
    let of_client =
        |before, since, block| Evidence::Client { client, before, since, block, known_clients: 50 };
    let of_errors = |enforced, control| Evidence::Errors {
        enforced,
        control,
        against: Against::Control,
        block: 1,
    };
    let of_denials = |asks: usize, ask| Evidence::Denials {
        before: counts(1000, 100_000),
        asks: vec![ask; asks],
        asked_every: SECOND,
    };
    assert!(judge(&config, of_client(known, broken, 1)).is_some());
    assert!(judge(&config, of_errors(counts(50, 100), counts(0, 100))).is_some());
    assert!(judge(&config, of_denials(3, counts(9, 9))).is_some());
    for (what, evidence) in [
        ("a stranger", of_client(counts(0, 19), broken, 1)),
        ("denied in warn already", of_client(counts(500, 1000), broken, 1)),
        ("no majority", of_client(known, counts(30, 60), 1)),
        ("too few", of_client(known, counts(5, 5), 1)),
        ("no more than before", of_client(counts(9, 20), counts(6, 10), 1)),
        ("nobody to compare with", of_errors(counts(50, 100), Proportion::NONE)),
        ("within the margin", of_errors(counts(10, 1000), counts(9, 1000))),
        ("nothing was asked", of_denials(0, counts(9, 9))),
        ("nobody was denied", of_denials(100, counts(0, 9))),
        ("more asks than are kept", of_denials(ASKS_MAX + 1, counts(9, 9))),
    ] {
        assert_eq!(judge(&config, evidence), None, "{what}");
    }
}
