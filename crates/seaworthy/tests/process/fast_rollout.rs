//! The demo's rollout, from the first request to the last receipt.

use std::fs;
use std::path::Path;
use std::process::Output;

use seaworthy_policy::rollout::Receipt;
use serde_json::Value;

use crate::audit::{audit, said};
use crate::harness::seaworthy;
use crate::lifecycle::folder;

/// What a slow machine may take. The demo ends by itself when everything has been seen.
const TIME: &str = "300s";

/// A fast rollout on ports that the system chooses, since several may look for the usual ones at once.
fn fast_rollout(dir: &Path, args: &[&str]) -> Output {
    let ports = ["--listen", "127.0.0.1:0", "--console", "127.0.0.1:0"];
    let all = [&["demo", "--fast-rollout", "--duration", TIME], &ports[..], args].concat();
    seaworthy(dir, &all).output().unwrap()
}

#[test]
fn evidence_moves_the_modes_and_leaves_receipts() {
    let dir = folder();
    let out = fast_rollout(dir.path(), &["--json"]);
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

/// What was moved, from where and to where, as the line of a move says it.
fn moved(line: &str) -> Option<(&str, &str, &str)> {
    let (rule, rest) = line.strip_prefix("  » ")?.split_once(": ")?;
    let (from, rest) = rest.split_once(" → ")?;
    let (to, _why) = rest.split_once(", ")?;
    Some((rule, from, to))
}

#[test]
fn a_pipe_is_told_the_same_and_the_data_can_be_kept() {
    let dir = folder();
    let out = fast_rollout(dir.path(), &["--data", "kept"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(!text.contains('\x1b'), "a pipe is no screen: {text}");
    let header = "seaworthy demo: a help desk behind Seaworthy, with clients of five tenants\n";
    assert!(text.starts_with(header), "{text}");
    assert!(text.contains("\n  console   http://127.0.0.1:"), "{text}");

    // A rule climbs step by step.
    let moves: Vec<_> = text.lines().filter_map(moved).collect();
    let climbed = moves.iter().filter(|(_, _, to)| *to == "enforce").any(|(rule, ..)| {
        let steps = [("warn", "enforce 10%"), ("enforce 10%", "enforce 50%")];
        steps.iter().all(|(from, to)| moves.contains(&(rule, from, to)))
    });
    assert!(climbed, "{text}");
    // One is held, for a tenant that has a name.
    let is_held = |line: &str| {
        let (_, sentence) = line.split_once(": held at warn, promoting breaks ")?;
        Some(sentence.starts_with("wonka (") || sentence.starts_with("umbrella ("))
    };
    let held: Vec<_> = text.lines().filter_map(is_held).collect();
    assert_eq!(held, [true], "{text}");
    // An alert takes one back.
    let alerts: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("  » an alert took ")).collect();
    let [alert] = alerts[..] else { panic!("there is one alert: {text}") };
    let (rule, rest) = alert.split_once(" from ").expect("a rule");
    let (from, rest) = rest.split_once(" to warn in ").expect("two modes");
    let took_ms: u64 = rest.strip_suffix(" ms").and_then(|ms| ms.parse().ok()).expect("a time");
    assert!(took_ms < 1000, "{alert}");
    assert!(
        from.starts_with("enforce") && moves.iter().any(|(moved, ..)| *moved == rule),
        "{text}"
    );

    // What the last line says of the log and the receipts holds for whoever looks.
    let last = text.lines().last().expect("there are lines");
    let (entries, receipts) = last
        .strip_prefix("audit log: ")
        .and_then(|rest| rest.strip_suffix(" decided again to the same end"))
        .and_then(|rest| rest.split_once(" entries, sound; receipts: "))
        .unwrap_or_else(|| panic!("it ends with the log: {last}"));
    let (code, verified) = said(&audit(dir.path(), &["verify", "--data", "kept"]));
    assert_eq!(code, Some(0), "{verified}");
    assert!(verified.contains(&format!("is sound: {entries} leaves")), "{verified}, not {last}");
    let history = ["rollout", "history", "--limit", "1000", "--data", "kept", "--json"];
    let history = seaworthy(dir.path(), &history).output().unwrap();
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    let rows = history["receipts"].as_array().unwrap();
    assert_eq!(receipts, format!("{0} of {0}", rows.len()), "{last}");
    let elsewhere = folder();
    let files: Vec<_> = rows.iter().map(|row| format!("{}.json", row["seq"])).collect();
    for (row, file) in rows.iter().zip(&files) {
        let args = ["rollout", "receipt", &row["seq"].to_string(), "--data", "kept"];
        let receipt = seaworthy(dir.path(), &args).output().unwrap();
        fs::write(elsewhere.path().join(file), receipt.stdout).unwrap();
    }
    let args = ["rollout", "verify"].into_iter().chain(files.iter().map(String::as_str));
    let (code, text) =
        said(&seaworthy(elsewhere.path(), &args.collect::<Vec<_>>()).output().unwrap());
    assert_eq!(code, Some(0), "{text}");

    // What one has left would be the past of another.
    let (code, text) = said(&seaworthy(dir.path(), &["demo", "--data", "kept"]).output().unwrap());
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("kept is not empty: the demo begins with nothing"), "{text}");
}
