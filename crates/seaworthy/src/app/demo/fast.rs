//! `seaworthy demo --fast-rollout`: a rollout in which minutes are seconds.
//!
//! It waits for three things and tells each as it happens: a rule that harms nobody climbs to all
//! clients, a rule that would break a tenant is held with that tenant named, and an alert takes a
//! rule back to `warn`. At the end it verifies the audit log, and decides every receipt again from
//! its text alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderName, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use seaworthy_console::control::{RuleStanding, VersionStanding};
use seaworthy_policy::alert::{ALERTMANAGER_SIGNATURE, ALERTMANAGER_TIMESTAMP, Signer};
use seaworthy_policy::gates::{Gate, Verdict};
use seaworthy_policy::mode::{Mode, ModeSetting, Share};
use seaworthy_policy::rollout::Receipt;
use seaworthy_policy::source::{Source, Sources};
use seaworthy_store::ledger::{self, LedgerReader, VerifyOptions};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::{Running, outbound};

/// What a fast rollout adds to the demo's config.
pub(super) const CONFIG: &str = include_str!("fast-rollout.toml");

/// What the demo's alerts are signed with: a demo has no secrets.
pub(super) const ALERTS_SECRET: &str = "the secret of the demo's alerts, which anybody may know";

/// The variable that has it.
pub(super) const ALERTS_VARIABLE: &str = "HELPDESK_ALERTS_SECRET";

/// Bytes of the console's answer to an alert.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Receipts that are decided again.
const RECEIPTS_MAX: u32 = 1000;

/// What has happened to the rules.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Story {
    /// A rule that harms nobody, at the top.
    pub(super) climbed: Option<Climbed>,
    /// A rule that would break somebody.
    pub(super) held: Option<Held>,
    pub(super) demoted: Option<Demoted>,
    /// Every change of a mode, in its order.
    pub(super) moves: Vec<Move>,
    pub(super) audit: Option<Audit>,
    /// The receipts as they are stored, newest first: each can be verified by itself.
    pub(super) receipts: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Climbed {
    rule: String,
    modes: Vec<Mode>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Held {
    rule: String,
    mode: Mode,
    /// The gate's sentence, which names who would break.
    sentence: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Demoted {
    rule: String,
    from: Mode,
    to: Mode,
    why: String,
    /// From the alert's first byte to the mode in force.
    took_ms: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Move {
    after_ms: u64,
    rule: String,
    version: u32,
    from: Mode,
    to: Mode,
    why: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Audit {
    entries: u64,
    /// The log is what it was when it was written.
    sound: bool,
    receipts: usize,
    /// Receipts that were decided again to the same end.
    receipts_right: usize,
    fault: Option<String>,
}

impl std::fmt::Display for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sound = if self.sound { "sound" } else { "NOT SOUND" };
        write!(
            f,
            "audit log: {} entries, {sound}; receipts: {} of {} decided again to the same end",
            self.entries, self.receipts_right, self.receipts
        )?;
        match &self.fault {
            Some(fault) => write!(f, "\n  {fault}"),
            None => Ok(()),
        }
    }
}

impl Story {
    /// Whether everything has been seen.
    pub(super) fn is_whole(&self) -> bool {
        let sound = |audit: &Audit| {
            audit.sound && audit.receipts > 0 && audit.receipts == audit.receipts_right
        };
        self.is_told() && self.audit.as_ref().is_some_and(sound)
    }

    fn is_told(&self) -> bool {
        self.climbed.is_some() && self.held.is_some() && self.demoted.is_some()
    }

    /// What has not been seen, in words.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        [
            (self.climbed.is_none(), "no rule has climbed to all clients"),
            (self.held.is_none(), "no rule is held for somebody whom it would break"),
            (self.demoted.is_none(), "no alert has demoted a rule"),
            (!self.is_whole() && self.is_told(), "the audit log or a receipt is not right"),
        ]
        .into_iter()
        .filter_map(|(is_missing, what)| is_missing.then_some(what))
        .collect()
    }
}

/// Watches the rules until the story is told, and sends the alert. `tell` hears of each thing.
pub(super) async fn watch(
    running: &Running,
    story: &watch::Sender<Story>,
    tell: impl Fn(&str),
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut rules = running.rules();
    let mut modes: BTreeMap<String, (Mode, Vec<Mode>)> = BTreeMap::new();
    while !story.borrow().is_told() && rules.changed().await.is_ok() {
        let standings = Arc::clone(&rules.borrow_and_update());
        for standing in standings.iter() {
            let VersionStanding { mode, why, version, .. } = &standing.current;
            let (before, all) =
                modes.entry(standing.rule.clone()).or_insert_with(|| (*mode, vec![*mode]));
            if before != mode {
                let from = std::mem::replace(before, *mode);
                all.push(*mode);
                let after_ms = millis(began.elapsed());
                let (rule, why) = (standing.rule.clone(), why.clone());
                tell(&format!("{rule}: {from} → {mode}, {why}"));
                let moved = Move { after_ms, rule, version: *version, from, to: *mode, why };
                story.send_modify(|story| story.moves.push(moved));
            }
        }
        look(&standings, &modes, story, &tell);
        // Copies: a borrow that lasts would keep the story from being told.
        let (climbed, is_demoted) = {
            let story = story.borrow();
            (story.climbed.clone(), story.demoted.is_some())
        };
        if let Some(climbed) = climbed
            && !is_demoted
            && let Some(rule) = to_demote(&standings, &climbed.rule)
        {
            let demoted = alert(running, &rule).await?;
            tell(&format!(
                "an alert took {} from {} to {} in {} ms",
                demoted.rule, demoted.from, demoted.to, demoted.took_ms
            ));
            story.send_modify(|story| story.demoted = Some(demoted));
        }
    }
    Ok(())
}

/// Notes a rule at the top, and one that is held for somebody.
fn look(
    standings: &[RuleStanding],
    modes: &BTreeMap<String, (Mode, Vec<Mode>)>,
    story: &watch::Sender<Story>,
    tell: impl Fn(&str),
) {
    for standing in standings.iter().filter(|standing| standing.setting == ModeSetting::Auto) {
        let rule = standing.rule.clone();
        let is_top = standing.current.mode == Mode::Enforce(Share::ALL);
        let (has_climbed, is_held) = {
            let story = story.borrow();
            (story.climbed.is_some(), story.held.is_some())
        };
        if is_top && !has_climbed {
            let modes = modes.get(&rule).map(|(_, all)| all.clone()).unwrap_or_default();
            story.send_modify(|story| story.climbed = Some(Climbed { rule, modes }));
            continue;
        }
        let broken = standing
            .current
            .gates
            .iter()
            .find(|reading| reading.gate == Gate::Clients && reading.verdict == Verdict::Fail);
        if let Some(broken) = broken
            && !is_held
        {
            tell(&format!("{rule}: held at {}, {}", standing.current.mode, broken.sentence));
            let (mode, sentence) = (standing.current.mode, broken.sentence.clone());
            story.send_modify(|story| story.held = Some(Held { rule, mode, sentence }));
        }
    }
}

/// A rule that is enforced and is not the one that has climbed; that one, where there is no other.
fn to_demote(standings: &[RuleStanding], climbed: &str) -> Option<String> {
    let is_enforced = |standing: &&RuleStanding| {
        standing.setting == ModeSetting::Auto && matches!(standing.current.mode, Mode::Enforce(_))
    };
    let mut enforced = standings.iter().filter(is_enforced);
    let other = enforced.clone().find(|standing| standing.rule != climbed);
    other.or_else(|| enforced.next()).map(|standing| standing.rule.clone())
}

/// Sends an alert that names `rule`, as an Alertmanager behind the relay would.
async fn alert(running: &Running, rule: &str) -> anyhow::Result<Demoted> {
    let mode_of = |standings: &[RuleStanding]| {
        let found = standings.iter().find(|standing| standing.rule == rule);
        found.map(|standing| (standing.current.mode, standing.current.why.clone()))
    };
    let mut rules = running.rules();
    let before = mode_of(&rules.borrow_and_update());
    let (from, _) = before.ok_or_else(|| anyhow::anyhow!("there is no rule {rule}"))?;
    let now = jiff::Timestamp::now();
    let body = json!({
        "version": "4",
        "groupKey": format!("{{}}:{{seaworthy_rule={rule:?}}}"),
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "seaworthy",
        "groupLabels": { "seaworthy_rule": rule },
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "alerts": [{
            "status": "firing",
            "labels": { "alertname": "CheckoutErrors", "seaworthy_rule": rule },
            "annotations": { "summary": "customers cannot check out" },
            "startsAt": now.to_string(),
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example",
            "fingerprint": "0123456789abcdef",
        }],
    })
    .to_string();
    let mut sources = Sources::default();
    let source = Source::Env(ALERTS_VARIABLE.to_owned());
    sources.insert(source.clone(), Ok(ALERTS_SECRET.into()));
    let signer = Signer::build(&source, &sources).map_err(anyhow::Error::msg)?;
    let unix_s = u64::try_from(now.as_second())?;
    let (timestamp, signature) = signer.sign(unix_s, body.as_bytes());
    let url: http::Uri = format!("http://{}/api/v1/hooks/alerts", running.console()).parse()?;
    let request = Request::post(url.clone())
        .header(CONTENT_TYPE, "application/json")
        .header(HeaderName::from_static(ALERTMANAGER_TIMESTAMP), timestamp)
        .header(HeaderName::from_static(ALERTMANAGER_SIGNATURE), signature)
        .body(Full::new(Bytes::from(body)))?;
    let began = Instant::now();
    let answer = outbound::ask(&url, request, None, ANSWER_BYTES_MAX).await?;
    let took_ms = millis(began.elapsed());
    if answer.status() != StatusCode::OK {
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        anyhow::bail!("the console answered {} to the alert: {body}", answer.status());
    }
    // The answer says that it is in force and durable; the view follows.
    let mut now = mode_of(&rules.borrow_and_update());
    while now.as_ref().is_some_and(|(mode, _)| *mode == from) && rules.changed().await.is_ok() {
        now = mode_of(&rules.borrow_and_update());
    }
    let (to, why) = now.ok_or_else(|| anyhow::anyhow!("there is no rule {rule} any more"))?;
    Ok(Demoted { rule: rule.to_owned(), from, to, why, took_ms })
}

/// Verifies the log in `dir`, and every receipt from its text alone. Returns the receipts as well.
pub(super) fn audit(dir: &Path) -> anyhow::Result<(Audit, Vec<String>)> {
    let reader = LedgerReader::open_read_only(dir)?;
    let entries = reader.summary()?.leaves;
    let mut fault = match ledger::verify(dir, &VerifyOptions::default())? {
        ledger::Verdict::Sound(_) => None,
        ledger::Verdict::Broken(fault) => Some(fault.what),
    };
    let sound = fault.is_none();
    let rows = reader.receipts(None, None, RECEIPTS_MAX)?;
    let mut receipts_right = 0;
    for row in &rows {
        let verified = Receipt::read(row.receipt.as_bytes())
            .map_err(|error| vec![error])
            .and_then(|receipt| receipt.verify());
        match verified {
            Ok(()) => receipts_right += 1,
            Err(faults) => {
                let first = faults.first().map(ToString::to_string).unwrap_or_default();
                fault.get_or_insert(format!("receipt {}: {first}", row.seq));
            }
        }
    }
    let audit = Audit { entries, sound, receipts: rows.len(), receipts_right, fault };
    Ok((audit, rows.into_iter().map(|row| row.receipt).collect()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
