//! The gates one by one: which counts give which verdict, and in which words.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::statistics::{COUNT_MAX, Proportion};

pub(super) fn counts(hits: u64, total: u64) -> Proportion {
    Proportion::new(hits, total).unwrap()
}

/// Noon of 21 November 2026.
pub(super) const NOON: Minute = Minute(20_778 * 1440 + 720);

const PACE: Pace = Pace {
    minutes: 60,
    requests_per_minute: 10.0,
    units_per_minute: 5.0,
    checks_per_minute: 10.0,
    enforced_per_minute: 2.0,
};

fn share(basis_points: u16) -> Share {
    Share::from_basis_points(basis_points).unwrap()
}

pub(super) fn look(basis_points: u16) -> Look<'static> {
    Look {
        now: NOON,
        tick: TickLength::MINUTE,
        step: share(basis_points),
        level: 0.01,
        pace: &PACE,
    }
}

fn assert_reading(reading: &Reading, verdict: Verdict, sentence: &str, waits_for: Option<&str>) {
    assert_eq!(reading.sentence, sentence);
    assert_eq!(reading.verdict, verdict, "{sentence}");
    assert_eq!(reading.waits_for.as_deref(), waits_for, "{sentence}");
    assert!(reading.numbers.iter().all(|(_, value)| value.is_finite()), "{:?}", reading.numbers);
}

#[test]
fn harm_rate() {
    for (hits, total, verdict, sentence, waits_for) in [
        (
            0,
            0,
            Verdict::NoData,
            "no request has been judged yet",
            Some("1,115 more requests, about 112 minutes at this traffic"),
        ),
        (
            1,
            1000,
            Verdict::Inconclusive,
            "1 of 1,000 requests would have been broken \
             (E = 5.81 of 100 needed, at most 0.66 % with 99 % confidence)",
            Some("728 more requests, about 73 minutes at this traffic"),
        ),
        (
            1,
            1728,
            Verdict::Pass,
            "fewer than 0.5 % of requests would be broken: 1 of 1,728 \
             (E = 100 of 100 needed, at most 0.38 % with 99 % confidence)",
            None,
        ),
        (
            40,
            1000,
            Verdict::Fail,
            "more than 0.5 % of requests would be broken: 40 of 1,000 \
             (E = 0.01 of 100 needed, at most 5.68 % with 99 % confidence)",
            Some("12,445 more requests, about 21 hours at this traffic"),
        ),
    ] {
        let input = harm_rate::Input { judged: counts(hits, total) };
        let reading = harm_rate::judge(&harm_rate::Config::default(), &look(0), &input);
        assert_reading(&reading, verdict, sentence, waits_for);
    }
}

#[test]
fn a_dead_end_is_called_one() {
    let pace = Pace { requests_per_minute: 0.05, ..PACE };
    let look = Look { pace: &pace, ..look(0) };
    let input = harm_rate::Input { judged: counts(10, 500) };
    let reading = harm_rate::judge(&harm_rate::Config::default(), &look, &input);
    assert_eq!(
        reading.waits_for.as_deref(),
        Some("unprovable at 3 requests an hour before 2027; raise p0, waive, or pin")
    );
}

#[test]
fn latency() {
    for (hits, total, verdict, sentence, waits_for) in [
        (
            0,
            0,
            Verdict::NoData,
            "no check has been timed yet",
            "556 more checks, about 56 minutes at this traffic",
        ),
        (
            0,
            600,
            Verdict::Pass,
            "fewer than 1 % of checks take over 1ms: 0 of 600 \
             (E = 150 of 100 needed, at most 0.76 % with 99 % confidence)",
            "",
        ),
        (
            60,
            600,
            Verdict::Fail,
            "more than 1 % of checks take over 1ms: 60 of 600 \
             (E = less than 0.01 of 100 needed, at most 13.2 % with 99 % confidence)",
            "",
        ),
    ] {
        let input = latency::Input { checks: counts(hits, total) };
        let reading = latency::judge(&latency::Config::default(), &look(0), &input);
        assert_eq!((reading.verdict, reading.sentence.as_str()), (verdict, sentence));
        if !waits_for.is_empty() {
            assert_eq!(reading.waits_for.unwrap(), waits_for);
        }
    }
}

#[test]
fn errors() {
    let none = counts(0, 0);
    for (basis_points, enforced, control, before, verdict, sentence, waits_for) in [
        (
            1000,
            none,
            counts(0, 90),
            none,
            Verdict::NoData,
            "no request of the share has reached the service yet",
            Some("the first request of the share that reaches the service"),
        ),
        (
            1000,
            counts(0, 10),
            none,
            none,
            Verdict::NoData,
            "no identified client is outside of the share to compare with",
            Some("the first request of an identified client outside of the share"),
        ),
        (
            10_000,
            counts(0, 10),
            none,
            none,
            Verdict::NoData,
            "at 100 % there is no control, and no step before it had one",
            Some("a control: a step below 100 %, where there are clients outside of the share"),
        ),
        (
            1000,
            counts(0, 9000),
            counts(0, 81_000),
            none,
            Verdict::Pass,
            "enforcing does not add 0.1 % of errors: 5xx 0 % (0 of 9,000) enforced, \
             0 % (0 of 81,000) in the control (E = 310 of 100 needed)",
            None,
        ),
        (
            10_000,
            counts(0, 90_000),
            none,
            counts(0, 81_000),
            Verdict::Pass,
            "enforcing does not add 0.1 % of errors: 5xx 0 % (0 of 90,000) enforced, 0 % (0 of \
             81,000) in the control of the step before (E = 10^38 of 100 needed)",
            None,
        ),
        (
            1000,
            counts(1, 4000),
            counts(9, 36_000),
            none,
            Verdict::Inconclusive,
            "whether enforcing adds 0.1 % of errors is open: 5xx 0.025 % (1 of 4,000) enforced, \
             0.025 % (9 of 36,000) in the control (E = 0.75 of 100 needed)",
            Some("8,746 more enforced requests, about 3 days at this traffic"),
        ),
        (
            1000,
            counts(40, 1000),
            counts(90, 9000),
            none,
            Verdict::Fail,
            "enforcing adds more than 0.1 % of errors: 5xx 4 % (40 of 1,000) enforced, \
             1 % (90 of 9,000) in the control",
            Some("a look at what fails, and a new attempt"),
        ),
    ] {
        let input = errors::Input { enforced, control, control_before: before };
        let reading = errors::judge(&errors::Config::default(), &look(basis_points), &input);
        assert_reading(&reading, verdict, sentence, waits_for);
    }
}

#[test]
fn assignment() {
    for (basis_points, hits, total, verdict, sentence) in [
        (1000, 0, 0, Verdict::NoData, "no identified client has been seen yet"),
        (
            1000,
            0,
            3,
            Verdict::Pass,
            "none of 3 clients falls in the share of 10 %: this step denies nobody",
        ),
        (1000, 1, 3, Verdict::Pass, "1 of 3 clients enforced against agrees with a share of 10 %"),
        (
            1000,
            14,
            100,
            Verdict::Pass,
            "14 of 100 clients enforced against agrees with a share of 10 %",
        ),
        (1000, 50, 100, Verdict::Fail, "50 of 100 clients enforced against is not a share of 10 %"),
        (1000, 0, 100, Verdict::Fail, "0 of 100 clients enforced against is not a share of 10 %"),
        (1000, 3, 3, Verdict::Fail, "3 of 3 clients enforced against is not a share of 10 %"),
        (
            10_000,
            3,
            3,
            Verdict::Pass,
            "3 of 3 clients enforced against agrees with a share of 100 %",
        ),
        (10_000, 2, 3, Verdict::Fail, "2 of 3 clients enforced against is not a share of 100 %"),
    ] {
        let input = assignment::Input { clients: counts(hits, total) };
        let reading = assignment::judge(&look(basis_points), &input);
        let waits_for = reading.waits_for.clone();
        assert_reading(&reading, verdict, sentence, waits_for.as_deref());
        assert_eq!(waits_for.is_none(), verdict == Verdict::Pass);
    }
}

#[test]
fn soak() {
    let red = soak::Break { minute: Minute(NOON.0 - 12), cause: soak::BreakCause::Red };
    let lost = soak::Break { cause: soak::BreakCause::Incomplete, ..red };
    for (green_minutes, age, last_break, verdict, sentence, waits_for) in [
        (
            0,
            None,
            None,
            Verdict::NoData,
            "no minute is complete yet",
            Some("30 more green minutes"),
        ),
        (
            29,
            Some(1),
            None,
            Verdict::Inconclusive,
            "29 green minutes since the last change, 30 needed",
            Some("1 more green minute"),
        ),
        (
            30,
            Some(5),
            None,
            Verdict::Pass,
            "30 green minutes since the last change, 30 needed",
            None,
        ),
        (
            10,
            Some(1),
            Some(red),
            Verdict::Inconclusive,
            "10 green minutes since the red one at 2026-11-21 11:48 UTC, 30 needed",
            Some("20 more green minutes"),
        ),
        (
            10,
            Some(1),
            Some(lost),
            Verdict::Inconclusive,
            "10 green minutes since the incomplete one at 2026-11-21 11:48 UTC, 30 needed",
            Some("20 more green minutes"),
        ),
        (
            300,
            Some(6),
            None,
            Verdict::Stale,
            "the newest complete minute is 6 minutes old, 5 allowed",
            Some("evidence to arrive again"),
        ),
    ] {
        let newest_complete = age.map(|age| Minute(NOON.0 - age));
        let input = soak::Input { green_minutes, newest_complete, last_break };
        let reading = soak::judge(&soak::Config::default(), &look(0), &input);
        assert_reading(&reading, verdict, sentence, waits_for);
    }
}

#[test]
fn calibration() {
    for (predicted, denied, verdict, sentence) in [
        (counts(0, 0), counts(0, 9), Verdict::NoData, "warn has predicted nothing"),
        (
            counts(1, 9),
            counts(0, 0),
            Verdict::NoData,
            "no request of the share has been judged yet",
        ),
        (
            counts(10, 100),
            counts(10, 100),
            Verdict::Inconclusive,
            "whether enforcing denies what warn predicted is open: 10 % of 100 enforced requests \
             denied, 10 % predicted by warn (E = 0.12 of 100 needed)",
        ),
        (
            counts(1000, 10_000),
            counts(100, 1000),
            Verdict::Pass,
            "enforcing denies what warn predicted: 10 % of 1,000 enforced requests denied, \
             10 % predicted by warn (E = 10^8 of 100 needed)",
        ),
        (
            counts(1000, 10_000),
            counts(400, 1000),
            Verdict::Fail,
            "enforcing denies more than warn predicted: 40 % of 1,000 enforced requests denied, \
             10 % predicted by warn",
        ),
        (
            counts(1000, 10_000),
            counts(5, 1000),
            Verdict::Fail,
            "enforcing denies less than warn predicted: 0.5 % of 1,000 enforced requests denied, \
             10 % predicted by warn",
        ),
        (
            counts(0, 10_000),
            counts(0, 2000),
            Verdict::Pass,
            "enforcing denies what warn predicted: 0 % of 2,000 enforced requests denied, \
             0 % predicted by warn (E = 1,084 of 100 needed)",
        ),
    ] {
        let input = calibration::Input { predicted, denied };
        let config = calibration::Config::default();
        let reading = calibration::judge(&config, &look(1000), &input);
        let waits_for = reading.waits_for.clone();
        assert_reading(&reading, verdict, sentence, waits_for.as_deref());
        assert_eq!(waits_for.is_none(), verdict == Verdict::Pass);
    }
}

#[test]
fn attempts_spend_alpha_and_no_more() {
    assert!((level(0.01, 1) - 0.006_079_271_018_540_267).abs() < 1e-17);
    assert_eq!(level(0.01, 0), level(0.01, 1), "attempts count from 1");
    let spent: f64 = (1..=100_000).map(|attempt| level(0.01, attempt)).sum();
    assert!(spent < 0.01 && spent > 0.00999, "{spent}");
}

/// Counts as a receipt may hold them, whoever has written it: small ones, and the largest.
fn any_counts() -> impl Strategy<Value = serde_json::Value> {
    let total = prop_oneof![0u64..3, 0u64..100_000, Just(COUNT_MAX), 0..=COUNT_MAX];
    (total, prop_oneof![Just(0.0), Just(1.0), 0.0f64..0.02, 0.0f64..1.0]).prop_map(
        |(total, share)| json!({ "hits": ((total as f64 * share) as u64).min(total), "total": total }),
    )
}

proptest! {
    /// Inputs come from files that anyone may have edited.
    #[test]
    fn whatever_inputs_say_the_gates_answer_in_finite_numbers(
        counts in prop::collection::vec(any_counts(), 11),
        step in 0u16..=10_000,
        attempt: u32,
        tick_ms in prop_oneof![Just(60_000u32), 1..=u32::MAX],
        times in prop::collection::vec(any::<i64>(), 6),
        pace in prop::collection::vec(prop_oneof![Just(0.0), Just(f64::MAX), -1.0f64..1e6], 4),
        units in prop_oneof![0u64..1000, Just(COUNT_MAX)],
        lost in any::<[u64; 2]>(),
        green: u32,
        days: u32,
    ) {
        let inputs = json!({
            "tick_ms": tick_ms,
            "now": times[0],
            "first": times[1],
            "newest": times[2],
            "step": step,
            "attempt": attempt,
            "pace": {
                "minutes": green,
                "requests_per_minute": pace[0],
                "units_per_minute": pace[1],
                "checks_per_minute": pace[2],
                "enforced_per_minute": pace[3],
            },
            "completeness": {
                "dropped": lost[0],
                "missing_minutes": lost[1],
                "since": times[3],
                "last": times[0],
            },
            "harm_rate": { "judged": counts[0] },
            "clients": {
                "blocks": [
                    { "units": units, "harmed": [] },
                    { "units": units, "harmed": [[1, units / 4], [64, units / 2]] },
                ],
                "clients": [{ "client": "acme", "judged": counts[1] }],
                "judged": counts[2],
                "waivers": [{ "client": "zoo", "until": times[4] }],
            },
            "coverage": {
                "week": counts[3],
                "days": days,
                "unseen": [{ "client": null, "route": "GET /", "requests": lost[0] }],
            },
            "latency": { "checks": counts[4] },
            "errors": {
                "enforced": counts[5], "control": counts[6], "control_before": counts[7],
            },
            "assignment": { "clients": counts[8] },
            "soak": {
                "green_minutes": green,
                "newest_complete": times[5],
                "last_break": { "minute": times[3], "cause": "red" },
            },
            "calibration": { "predicted": counts[9], "denied": counts[10] },
        });
        let mut inputs: Inputs = serde_json::from_value(inputs).unwrap();
        for is_whole in [false, true] {
            if is_whole {
                inputs.completeness = completeness::Input::default();
            }
            let readings = judge(&GatesConfig::default(), &inputs);
            prop_assert!(readings.is_sorted_by(|one, next| one.gate < next.gate));
            for reading in readings {
                for (name, value) in reading.numbers.iter() {
                    prop_assert!(value.is_finite(), "{name} of {reading:?}");
                }
                prop_assert!(reading.sentence.len() < 400, "{}", reading.sentence);
                let waits = reading.waits_for.as_ref().is_some_and(|text| !text.is_empty());
                prop_assert_eq!(waits, reading.verdict != Verdict::Pass, "{:?}", reading);
            }
        }
    }
}
