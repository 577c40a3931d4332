use super::*;
use crate::gates::coverage;
use crate::gates::minute::{ClientMinute, Minute, Name, RuleMinute, Standing};
use crate::gates::window::{Start, Window};
use crate::mode::{Mode, Share};
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

#[test]
fn a_receipt_is_decided_again_from_its_text_alone() {
    let receipt = receipt();
    assert_eq!(receipt.verify(), Ok(()), "{:#?}", receipt.readings);
    let text = serde_json::to_vec_pretty(&receipt).unwrap();
    let read = Receipt::read(&text).unwrap();
    assert_eq!(read, receipt);
    assert_eq!(read.verify(), Ok(()));
}

#[test]
fn every_flipped_digit_is_caught() {
    let text = serde_json::to_string(&receipt()).unwrap();
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
    let faults = change(|receipt| receipt.v = 2);
    assert_eq!(faults, [Fault::Version { found: 2 }]);
}

#[test]
fn what_is_no_receipt_is_refused() {
    for text in [&b"{}"[..], b"", b"[1]", b"{\"v\":1}"] {
        assert!(matches!(Receipt::read(text), Err(ReceiptFault::Unreadable(_))));
    }
    let long = vec![b' '; RECEIPT_BYTES_MAX + 1];
    assert_eq!(Receipt::read(&long), Err(ReceiptFault::TooLarge));
}
