use super::*;
use crate::gates::coverage;
use crate::gates::minute::{ClientMinute, Minute, Name, RuleMinute, Standing, TickLength};
use crate::gates::window::{Start, Window};
use crate::mode::{Mode, Share};
use crate::quantity::Period;
use crate::statistics::Proportion;

const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_800_000_000_000 / MINUTE_MS * MINUTE_MS;

fn clean(total: u64) -> Proportion {
    Proportion::new(0, total).unwrap()
}

/// A rule that has harmed nobody for two hours and is promoted to its first step.
fn receipt() -> Receipt {
    let (rollout, gates) = (RolloutConfig::default(), GatesConfig::default());
    let before = RuleState::new(PolicyHash::new([7; 32]), START_MS);
    let first = Minute(START_MS / MINUTE_MS);
    let mut window = Window::begin(Start {
        tick: TickLength::MINUTE,
        first,
        step: Share::NONE,
        attempt: 1,
        waivers: Vec::new(),
        predicted: Proportion::NONE,
        control_before: Proportion::NONE,
    })
    .unwrap();
    let clients: Vec<_> = (0..20)
        .map(|n| ClientMinute {
            client: Name::new(&format!("acme-{n}")).unwrap(),
            standing: Standing::Control,
            judged: clean(10),
        })
        .collect();
    for minute in 0..240 {
        window
            .observe(&RuleMinute {
                minute: Minute(first.0 + minute),
                clients: &clients,
                other: Proportion::NONE,
                checks: clean(200),
                enforced_5xx: Proportion::NONE,
                control_5xx: clean(200),
                denied: Proportion::NONE,
                dropped: 0,
                is_red: false,
            })
            .unwrap();
    }
    let coverage =
        coverage::Input { week: Proportion::new(100, 100).unwrap(), ..Default::default() };
    let inputs = window.inputs(Minute(first.0 + 240), coverage).clone();
    let readings = gates::judge(&gates, &inputs);
    let at_unix_ms = START_MS + 240 * MINUTE_MS;
    let event = Event::Promoted { to: Share::from_basis_points(1000).unwrap() };
    let after = before.after(&event, &rollout, at_unix_ms);
    Receipt {
        v: RECEIPT_VERSION,
        program: "seaworthy 0.0.0".to_owned(),
        rule: "csrf".to_owned(),
        lane: Lane::Current,
        actor: "gateway".to_owned(),
        at_unix_ms,
        event,
        before,
        after,
        setting: ModeSetting::Auto,
        rollout,
        gates,
        inputs: Some(inputs),
        readings,
        alarm: None,
        alpha_spent: None,
        clients_digest: None,
        digest: String::new(),
    }
    .seal()
}

/// The evidence of one alarm of each kind.
fn evidence() -> [alarm::Evidence; 3] {
    let part = |hits, total| Proportion::new(hits, total).unwrap();
    [
        alarm::Evidence::Denials {
            before: part(12, 3456),
            asks: vec![part(3, 14), part(5, 12), part(9, 13)],
            asked_every: Period::millis(1500),
        },
        alarm::Evidence::Client {
            client: Name::new("acme-7").unwrap(),
            before: part(1, 1234),
            since: part(17, 21),
            block: 3,
            known_clients: 12,
        },
        alarm::Evidence::Errors {
            enforced: part(37, 215),
            control: part(13, 2345),
            against: alarm::Against::ControlBefore,
            block: 2,
        },
    ]
}

/// The rule of [`receipt`] on its first step, where an alarm goes off.
fn fall(evidence: alarm::Evidence) -> Receipt {
    let promoted = receipt();
    let before = promoted.after.clone();
    let alarm = alarm::judge(&promoted.gates.alarm, evidence).expect("it is an alarm");
    let event = Event::Fell { cause: alarm.sentence.clone() };
    let at_unix_ms = promoted.at_unix_ms + MINUTE_MS;
    let after = before.after(&event, &promoted.rollout, at_unix_ms);
    let (inputs, readings) = (None, Vec::new());
    let alarm = Some(alarm);
    Receipt { event, before, after, at_unix_ms, inputs, readings, alarm, ..promoted }.seal()
}

fn all() -> Vec<Receipt> {
    [vec![receipt()], evidence().map(fall).to_vec()].concat()
}

#[test]
fn a_receipt_is_decided_again_from_its_text_alone() {
    for receipt in all() {
        assert_eq!(receipt.verify(), Ok(()), "{receipt:#?}");
        let text = serde_json::to_vec_pretty(&receipt).unwrap();
        let read = Receipt::read(&text).unwrap();
        assert_eq!(read, receipt);
        assert_eq!(read.verify(), Ok(()));
    }
}

/// What an alarm went off by is enough to say it again: whoever changes a number of it and writes
/// the digest anew is found out as well.
#[test]
fn every_flipped_digit_of_an_alarm_is_caught_whoever_seals_it() {
    for evidence in evidence() {
        let receipt = fall(evidence);
        let text = serde_json::to_string(&receipt.alarm).unwrap();
        let mut flipped = 0;
        for (index, byte) in text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
            let mut bytes = text.clone().into_bytes();
            bytes[index] = if byte == b'9' { b'8' } else { byte + 1 };
            flipped += 1;
            // Two texts can be one number, which its reader does not take for what was written.
            let Ok(alarm) = serde_json::from_slice::<Option<Alarm>>(&bytes) else { continue };
            if alarm == receipt.alarm {
                continue;
            }
            let cause = alarm.as_ref().map(|alarm| alarm.sentence.clone()).unwrap();
            let event = Event::Fell { cause };
            let after = receipt.before.after(&event, &receipt.rollout, receipt.at_unix_ms);
            let changed = Receipt { alarm, event, after, ..receipt.clone() }.seal();
            let faults = changed.verify().expect_err("it is another alarm");
            let is_it = |fault: &ReceiptFault| matches!(fault, ReceiptFault::Alarm(_));
            assert!(faults.iter().any(is_it), "at {index} of {text}: {faults:?}");
        }
        assert!(flipped > 60, "{flipped} digits");
    }
}

#[test]
fn every_flipped_digit_is_caught() {
    for receipt in all() {
        flip_every_digit(&receipt);
    }
}

fn flip_every_digit(receipt: &Receipt) {
    let text = serde_json::to_string(receipt).unwrap();
    let digits: Vec<usize> = text
        .bytes()
        .enumerate()
        .filter(|(_, byte)| byte.is_ascii_digit())
        .map(|(index, _)| index)
        .collect();
    assert!(digits.len() > 300);
    for index in digits {
        let mut bytes = text.clone().into_bytes();
        bytes[index] = if bytes[index] == b'9' { b'8' } else { bytes[index] + 1 };
        let caught = match Receipt::read(&bytes) {
            Ok(changed) => changed.verify().is_err(),
            Err(_) => true,
        };
        let near = text.get(index.saturating_sub(30)..=index);
        assert!(caught, "at {index}: {near:?}");
    }
}

#[test]
fn a_receipt_that_is_written_anew_has_to_be_right_as_well() {
    use ReceiptFault as Fault;
    let change = |change: fn(&mut Receipt)| {
        let mut receipt = receipt();
        change(&mut receipt);
        receipt.digest = receipt.digest_of_content();
        receipt.verify().unwrap_err()
    };
    let faults = change(|receipt| receipt.inputs.as_mut().unwrap().attempt = 2);
    assert!(faults.iter().any(|fault| matches!(fault, Fault::Attempt { of: 2, at: 1 })));
    assert!(faults.iter().any(|fault| matches!(fault, Fault::Alpha { .. })));
    let faults = change(|receipt| {
        receipt.readings.pop();
    });
    assert!(faults.contains(&Fault::Gates));
    let faults = change(|receipt| receipt.after.mode = Mode::Enforce(Share::ALL));
    assert_eq!(faults, [Fault::State]);
    let faults = change(|receipt| receipt.at_unix_ms -= MINUTE_MS);
    assert!(faults.contains(&Fault::State));
    let faults = change(|receipt| receipt.readings[0].verdict = Verdict::Fail);
    assert!(faults.contains(&Fault::NotPassed));
    let faults = change(|receipt| receipt.inputs = None);
    assert!(faults.contains(&Fault::Gates));
    let faults = change(|receipt| receipt.v = 1);
    assert_eq!(faults, [Fault::Version { found: 1 }]);

    let [denials, client, errors] = evidence();
    let change = |evidence: &alarm::Evidence, change: fn(&mut Receipt)| {
        let mut receipt = fall(evidence.clone());
        change(&mut receipt);
        receipt.seal().verify().unwrap_err()
    };
    for evidence in [&denials, &client, &errors] {
        let faults = change(evidence, |receipt| receipt.alarm = None);
        assert!(matches!(faults[..], [Fault::NotProposed(_)]), "nothing went off: {faults:?}");
        let faults = change(evidence, |receipt| {
            receipt.before.mode = Mode::Warn;
            let (event, rollout) = (&receipt.event, &receipt.rollout);
            receipt.after = receipt.before.after(event, rollout, receipt.at_unix_ms);
        });
        assert!(matches!(faults[..], [Fault::NotProposed(_)]), "it was in warn: {faults:?}");
        let pinned = ModeSetting::Pinned(Mode::Enforce(Share::ALL));
        let mut receipt = fall(evidence.clone());
        receipt.setting = pinned;
        let faults = receipt.seal().verify().unwrap_err();
        assert!(matches!(faults[..], [Fault::NotProposed(_)]), "it was pinned: {faults:?}");
        // An operator's reason is no alarm's.
        let mut receipt = fall(evidence.clone());
        (receipt.actor, receipt.alarm) = ("operator:ada".to_owned(), None);
        assert_eq!(receipt.seal().verify(), Ok(()));
    }
}

#[test]
fn what_is_no_receipt_is_refused() {
    for text in [&b"{}"[..], b"", b"[1]", b"{\"v\":2}"] {
        assert!(matches!(Receipt::read(text), Err(ReceiptFault::Unreadable(_))));
    }
    // One of another form is told from what is none.
    for (text, found) in [(&b"{\"v\":1}"[..], 1), (b"{\"v\":3,\"rule\":\"csrf\",\"x\":[]}", 3)] {
        let fault = Receipt::read(text).unwrap_err();
        assert_eq!(fault, ReceiptFault::Version { found });
        assert_eq!(
            fault.to_string(),
            format!(
                "it has the form {found}, and this program knows 2: the program that is named in \
                 it can verify it"
            )
        );
    }
    let long = vec![b' '; RECEIPT_BYTES_MAX + 1];
    assert_eq!(Receipt::read(&long), Err(ReceiptFault::TooLarge));
}
