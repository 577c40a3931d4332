//! The demo's rollout, from the first request to the last receipt.

use seaworthy_policy::rollout::Receipt;
use serde_json::Value;

use crate::harness::seaworthy;
use crate::lifecycle::folder;

/// What a slow machine may take. The demo ends by itself when everything has been seen.
const TIME: &str = "300s";

#[test]
fn evidence_moves_the_modes_and_leaves_receipts() {
    let dir = folder();
    let args = ["demo", "--fast-rollout", "--json", "--duration", TIME];
    let out = seaworthy(dir.path(), &args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{} {said}", String::from_utf8_lossy(&out.stderr));
    let summary: Value = serde_json::from_slice(&out.stdout).unwrap();
    let rollout = &summary["rollout"];

    // A rule that harms nobody takes every step.
    let modes: Vec<_> = rollout["climbed"]["modes"].as_array().unwrap().iter().collect();
    assert_eq!(modes, ["warn", "enforce 10%", "enforce 50%", "enforce"], "{rollout:#}");

    // One that would break a tenant stays, and says whom it would break.
    let held = &rollout["held"];
    assert_eq!(held["mode"], "warn", "{held}");
    let sentence = held["sentence"].as_str().unwrap();
    // Whoever of the two that do not behave is the first to be broken.
    let is_named = ["wonka", "umbrella"]
        .iter()
        .any(|tenant| sentence.starts_with(&format!("promoting breaks {tenant} (")));
    assert!(is_named, "{sentence}");
    let moved = rollout["moves"].as_array().unwrap();
    assert!(moved.iter().all(|one| one["rule"] != held["rule"]), "{rollout:#}");

    // An alert takes one back within a second, which is what is promised: it takes some 20 ms.
    let demoted = &rollout["demoted"];
    assert_eq!(demoted["to"], "warn", "{demoted}");
    assert!(demoted["from"].as_str().unwrap().starts_with("enforce"), "{demoted}");
    assert!(demoted["why"].as_str().unwrap().contains("CheckoutErrors fires"), "{demoted}");
    assert!(demoted["took_ms"].as_u64().unwrap() < 1000, "{demoted}");

    // The log is sound, and each move can be decided again from its text alone.
    let audit = &rollout["audit"];
    assert_eq!((&audit["sound"], &audit["fault"]), (&Value::Bool(true), &Value::Null), "{audit}");
    assert_eq!(audit["receipts"], audit["receipts_right"], "{audit}");
    let promotions = moved.iter().filter(|one| one["to"] != "warn").count();
    assert!(audit["receipts"].as_u64().unwrap() > promotions as u64, "{audit}");

    let texts = rollout["receipts"].as_array().unwrap();
    assert_eq!(texts.len() as u64, audit["receipts"].as_u64().unwrap());
    for text in texts {
        let receipt = Receipt::read(text.as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(receipt.verify(), Ok(()), "{}", receipt.rule);
    }
}
