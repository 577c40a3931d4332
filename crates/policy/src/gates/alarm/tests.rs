use super::*;
use crate::gates::tests::counts;
use crate::statistics::draws::Draws;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

const QUIET: Tick<'static> =
    Tick { denied: &[], enforced_5xx: Proportion::NONE, control_5xx: Proportion::NONE };

/// Fifty known clients of which one in a hundred is denied something in a tick.
fn baseline() -> Baseline {
    let by_client = (0..50).map(|n| (name(&format!("client-{n}")), counts(1, 1000))).collect();
    Baseline { clients: counts(1000, 100_000), by_client }
}

fn ticks_to_alarm(chance: f64, most: u64, seed: u64) -> Option<(u64, Alarm)> {
    let mut watch = Watch::new(Config::default(), &baseline());
    let mut draws = Draws(seed);
    let names: Vec<_> = (0..50).map(|n| name(&format!("client-{n}"))).collect();
    (1..=most).find_map(|tick| {
        let denied: Vec<_> =
            names.iter().map(|name| (*name, counts(u64::from(draws.happens(chance)), 4))).collect();
        watch.observe(&Tick { denied: &denied, ..QUIET }).map(|alarm| (tick, alarm))
    })
}

#[test]
fn a_rise_of_denials_is_told_within_seconds() {
    for seed in 0..20 {
        let (tick, alarm) = ticks_to_alarm(0.3, 60, seed).expect("an alarm");
        assert_eq!(alarm.cause, Cause::Denials);
        assert!(tick <= 10, "seed {seed}: after {tick} ticks");
        assert!(alarm.sentence.starts_with("known clients are denied more often than warn"));
    }
}

#[test]
fn false_alarms_are_as_rare_as_is_stated() {
    // A mean of at least 500 ticks, where the clients are denied as often as warn said at most.
    let config = Config { false_alarm_every: Period::secs(500), ..Config::default() };
    let (runs, most) = (200, 3000);
    let ticks: u64 = (0..runs)
        .map(|seed| {
            let mut draws = Draws(seed);
            let mut denials = Denials::new(&config, counts(1000, 100_000));
            let before = denials.before;
            let alarm = (1..=most).find(|_| {
                denials.observe(counts(draws.binomial(20, before), 20));
                denials.alarm().is_some()
            });
            alarm.unwrap_or(most)
        })
        .sum();
    assert!(ticks / runs >= 500, "a mean of {} ticks", ticks / runs);
}

#[test]
fn a_client_is_known_by_its_key_whatever_tenant_it_is_called_by() {
    let (bare, named) = ("bearer:0123456789abcdef", "acme (bearer:0123456789abcdef)");
    for (before, now) in [(bare, named), (named, bare), (named, named)] {
        let by_client = vec![(name(before), counts(0, 1000))];
        let mut watch = Watch::new(Config::default(), &Baseline { by_client, ..baseline() });
        let denied = [(name(now), counts(12, 12))];
        let alarm = watch.observe(&Tick { denied: &denied, ..QUIET }).expect("it broke");
        assert!(alarm.sentence.starts_with(&format!("enforcing broke {now}: ")), "{alarm:?}");
    }
}

#[test]
fn a_known_client_that_breaks_is_named() {
    let mut watch = Watch::new(Config::default(), &baseline());
    let broken = [(name("client-7"), counts(1, 1))];
    let tick = Tick { denied: &broken, ..QUIET };
    let alarms: Vec<_> = (0..6).map(|_| watch.observe(&tick)).collect();
    assert_eq!(alarms[..5], [const { None }; 5], "five requests mean nothing yet");
    let alarm = alarms[5].as_ref().expect("six of six");
    assert_eq!(alarm.cause, Cause::Client);
    assert_eq!(
        alarm.sentence,
        "enforcing broke client-7: 6 of 6 requests denied, 1 of 1,000 would have been in warn"
    );
}

#[test]
fn whoever_comes_with_new_names_switches_nothing_off() {
    let mut watch = Watch::new(Config::default(), &baseline());
    for n in 0..10_000 {
        let denied =
            [(name(&format!("made-up-{n}")), counts(9, 9)), (name("curl"), counts(50, 50))];
        assert_eq!(watch.observe(&Tick { denied: &denied, ..QUIET }), None);
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
    let mut watch = Watch::new(Config::default(), &baseline);
    for _ in 0..1000 {
        let denied = ["scanner", "stranger", "half"].map(|client| (name(client), counts(1, 1)));
        assert_eq!(watch.observe(&Tick { denied: &denied, ..QUIET }), None);
    }
}

#[test]
fn failures_above_the_control_are_told() {
    let mut watch = Watch::new(Config::default(), &baseline());
    let same = Tick { enforced_5xx: counts(1, 100), control_5xx: counts(9, 900), ..QUIET };
    for _ in 0..200 {
        assert_eq!(watch.observe(&same), None);
    }
    let mut watch = Watch::new(Config::default(), &baseline());
    let worse = Tick { enforced_5xx: counts(20, 100), ..same };
    let alarm = (0..10).find_map(|_| watch.observe(&worse)).expect("an alarm");
    assert_eq!(alarm.cause, Cause::Errors);
    assert!(alarm.numbers.iter().all(|(_, value)| value.is_finite()));

    // With nobody to compare with there is no being above.
    let mut watch = Watch::new(Config::default(), &baseline());
    let alone = Tick { enforced_5xx: counts(100, 100), ..QUIET };
    assert_eq!(watch.observe(&alone), None);
}

#[test]
fn without_a_baseline_nothing_is_out_of_the_ordinary() {
    let mut watch = Watch::new(Config::default(), &Baseline::default());
    let denied = [(name("anyone"), counts(1, 1))];
    for _ in 0..10_000 {
        assert_eq!(watch.observe(&Tick { denied: &denied, ..QUIET }), None);
    }
}
