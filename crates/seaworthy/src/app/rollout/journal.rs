//! What happened to the modes, on its way to the ledger.
//!
//! 1. What is in force already is kept until it is written, in order; of what is kept of one rule
//!    only the newest standing counts, but every entry of the audit log is written.
//! 2. What must not be in force before it is durable is committed at once, or not at all. It waits
//!    for what is kept, so that the log has everything in the order in which it happened.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use seaworthy_policy::evidence::Lane;
use seaworthy_policy::gates::clients::Waiver;
use seaworthy_policy::gates::minute::Name;
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::{PolicyHash, Receipt, RuleState, Standing};
use seaworthy_store::ledger::{
    Action, Change, CommitError, Entry, EntryError, Ledger, Operation, WaiverRow, put_before,
    put_delivery, put_receipt, put_standing,
};
use serde_json::json;
use tokio::time::Instant;

use super::track::{Before, Scale, Track};
use crate::app::audit::Auditor;
use crate::app::book::Changed;

/// Notes that are kept while the ledger cannot be written; the oldest go first, and it is said.
const KEPT_MAX: usize = 10_000;

const RETRY_EVERY: Duration = Duration::from_secs(1);

/// One thing that happened, with all that is written of it.
pub(super) struct Note {
    entry: Option<Entry>,
    operations: Vec<Write>,
}

/// What is written beside the entry.
enum Write {
    Standing(String, Box<Standing>),
    Receipt(Box<Receipt>),
    Before(String, Lane, Before),
    Delivery([u8; 32]),
}

impl Write {
    fn operation(&self) -> Operation {
        match self {
            Self::Standing(rule, standing) => put_standing(rule, standing),
            Self::Receipt(receipt) => put_receipt(receipt),
            Self::Before(rule, lane, before) => put_before(rule, *lane, before),
            Self::Delivery(key) => put_delivery(*key),
        }
    }
}

impl Note {
    /// A config has changed what a rule judges by, or made a new one.
    pub(super) fn of_config(changed: Changed) -> Self {
        // That the config was read is in the log already: this is of what it has moved.
        let entry = changed.before.as_ref().and_then(|before| of_config(before, &changed));
        Self { entry, operations: vec![Write::standing(changed)] }
    }

    /// A rule stood in the future, by a clock that was ahead.
    pub(super) fn brought_back(changed: Changed) -> Self {
        let mut entry = Entry::new("gateway", Action::ModeSet, changed.rule.as_str());
        entry.before = changed.before.as_ref().map(|before| state(&before.current));
        entry.after = Some(state_among(&changed.after.current, &changed));
        let reason = "the clock was ahead when this was written: its window begins anew, and a \
                      hold after a fall lasts no longer than after one now";
        entry.reason = Some(reason.to_owned());
        Self { entry: Some(entry), operations: vec![Write::standing(changed)] }
    }

    /// A window began anew: no mode changed.
    pub(super) fn state(changed: Changed) -> Self {
        Self { entry: None, operations: vec![Write::standing(changed)] }
    }

    /// What a version was like before its step.
    pub(super) fn before(rule: &str, lane: Lane, before: &Before) -> Self {
        let write = Write::Before(rule.to_owned(), lane, before.clone());
        Self { entry: None, operations: vec![write] }
    }

    pub(super) fn promoted(
        changed: Changed,
        receipt: Option<Receipt>,
        actor: &str,
        track: Option<&Track>,
    ) -> Self {
        let mut note = Self::moved(
            Action::ModePromote,
            changed,
            lane_of(receipt.as_ref()),
            receipt.as_ref(),
            actor,
        );
        if let (Some(receipt), Some(track)) = (receipt, track) {
            let (rule, lane) = (receipt.rule.clone(), receipt.lane);
            note.operations.push(Write::Before(rule, lane, track.before.clone()));
            note.operations.push(Write::Receipt(Box::new(receipt)));
        }
        note
    }

    pub(super) fn demoted(changed: Changed, receipt: Option<Receipt>, actor: &str) -> Self {
        let mut note = Self::moved(
            Action::ModeDemote,
            changed,
            lane_of(receipt.as_ref()),
            receipt.as_ref(),
            actor,
        );
        note.operations.extend(receipt.map(|receipt| Write::Receipt(Box::new(receipt))));
        note
    }

    /// An alert has demoted a version of a rule, or holds it where it is.
    pub(super) fn alerted(
        changed: Changed,
        lane: Lane,
        receipt: Option<Receipt>,
        actor: &str,
        delivery: Option<[u8; 32]>,
    ) -> Self {
        let mut note = Self::moved(Action::AlertDemote, changed, lane, receipt.as_ref(), actor);
        note.operations.extend(receipt.map(|receipt| Write::Receipt(Box::new(receipt))));
        note.operations.extend(delivery.map(Write::Delivery));
        note
    }

    /// The fleet has moved a rule. What it was like in `warn` is of this gateway's own traffic, so
    /// it is kept here as well, where the rule is enforced now.
    pub(super) fn adopted(changed: Changed, lane: Lane, track: Option<&Track>) -> Self {
        let rule = changed.rule.clone();
        let is_enforced = matches!(changed.mode(lane), Mode::Enforce(_));
        let before = changed.before.as_ref().and_then(|before| before.lane(lane));
        let policy = before.map(|before| before.policy);
        let mut note = Self::moved(Action::ModeSet, changed, lane, None, "fleet");
        // A reload may have brought a version here that has no track yet.
        let track = track.filter(|track| is_enforced && Some(track.of.policy) == policy);
        if let Some(track) = track {
            note.operations.push(Write::Before(rule, lane, track.before.clone()));
        }
        note
    }

    pub(super) fn asked(
        action: Action,
        changed: Changed,
        receipt: Option<Receipt>,
        actor: &str,
        track: Option<&Track>,
    ) -> Self {
        let mut note =
            Self::moved(action, changed, lane_of(receipt.as_ref()), receipt.as_ref(), actor);
        let of = receipt.as_ref().map(|receipt| (receipt.rule.clone(), receipt.lane));
        if let (Some((rule, lane)), Some(track)) = (of, track) {
            note.operations.push(Write::Before(rule, lane, track.before.clone()));
        }
        note.operations.extend(receipt.map(|receipt| Write::Receipt(Box::new(receipt))));
        note
    }

    fn moved(
        action: Action,
        changed: Changed,
        lane: Lane,
        receipt: Option<&Receipt>,
        actor: &str,
    ) -> Self {
        let mut entry = Entry::new(actor, action, changed.rule.as_str());
        let before = changed.before.as_ref().and_then(|before| before.before(lane));
        entry.before = before.as_ref().map(state);
        let standing = changed.after.lane(lane).unwrap_or(&changed.after.current);
        let after = receipt.map_or(standing, |receipt| &receipt.after);
        let mut after_json = state_among(after, &changed);
        if let Some(receipt) = receipt {
            // So that a receipt that was written anew is not taken for this one.
            after_json["receipt"] = json!(receipt.digest);
        }
        entry.after = Some(after_json);
        // A hold and an approval leave the state's own reason as it was.
        let said = receipt.and_then(|receipt| receipt.event.reason());
        entry.reason = Some(said.unwrap_or(&after.why).to_owned());
        Self { entry: Some(entry), operations: vec![Write::standing(changed)] }
    }

    pub(super) fn change(&self) -> Result<Change, EntryError> {
        let mut change = Change::new();
        if let Some(entry) = &self.entry {
            change = change.audit(entry)?;
        }
        Ok(self.operations.iter().fold(change, |change, write| change.and(write.operation())))
    }
}

impl Write {
    fn standing(changed: Changed) -> Self {
        Self::Standing(changed.rule, Box::new(changed.after))
    }
}

/// What a config has moved; `None` where every version is where it was.
fn of_config(before: &Standing, changed: &Changed) -> Option<Entry> {
    let mut entry = Entry::new("gateway", Action::ModeSet, changed.rule.as_str());
    let after = &changed.after;
    if before.current.mode != after.current.mode {
        entry.before = Some(state(&before.current));
        entry.after = Some(state_among(&after.current, changed));
        entry.reason = Some(after.current.why.clone());
        return Some(entry);
    }
    let version = |standing: &Standing| standing.next.as_ref().map(|next| next.version);
    let (was, now, present) = (version(before), version(after), after.current.version);
    entry.reason = Some(match (was, now) {
        (Some(was), None) => format!("version {was} was taken back: version {present} stays"),
        (was, Some(now)) if was != Some(now) => {
            format!("version {now} is judged beside version {present}, which stays in force")
        }
        _ => return None,
    });
    // Both sides are of one version: of the one that came, or of the one that stays as it was.
    (entry.before, entry.after) = match &after.next {
        Some(next) => (before.next.as_ref().map(state), Some(state_among(next, changed))),
        None => (Some(state(&before.current)), Some(state_among(&after.current, changed))),
    };
    Some(entry)
}

fn lane_of(receipt: Option<&Receipt>) -> Lane {
    receipt.map_or(Lane::Current, |receipt| receipt.lane)
}

/// What a leaf says of a state.
fn state(state: &RuleState) -> serde_json::Value {
    json!({
        "mode": state.mode,
        "version": state.version,
        "policy": state.policy,
        "epoch": state.epoch,
    })
}

/// What a leaf says of the state that came of a change, and with it of all versions of the rule and
/// of when: whoever explains a request later has to know which of them judged it, and an entry may
/// have had to wait for the disk.
fn state_among(after: &RuleState, changed: &Changed) -> serde_json::Value {
    let version = |state: &RuleState| json!({ "version": state.version, "mode": state.mode });
    let mut said = state(after);
    said["current"] = version(&changed.after.current);
    said["next"] = changed.after.next.as_ref().map(version).into();
    said["at_unix_ms"] = changed.now_unix_ms.into();
    said
}

/// Fits after "failed to write it down: ".
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("there is no ledger at present")]
    NoLedger,
    #[error("what happened before is not written down yet")]
    Behind,
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

pub(crate) struct Journal {
    auditor: Auditor,
    kept: VecDeque<Note>,
    waivers: Vec<WaiverRow>,
    befores: BTreeMap<(String, Lane), Before>,
    retry_at: Option<Instant>,
    /// Notes that were lost: what happened is in force and written nowhere.
    losses: u64,
    /// Whether where the rules stood was read at the start. If not, what is written there is better
    /// than what this process would write.
    is_known: bool,
}

impl Journal {
    pub(crate) fn open(auditor: Auditor, is_known: bool) -> Self {
        let mut journal = Self {
            auditor,
            kept: VecDeque::new(),
            waivers: Vec::new(),
            befores: BTreeMap::new(),
            retry_at: None,
            losses: 0,
            is_known,
        };
        if let Some(ledger) = journal.auditor.ledger() {
            let read = journal.load(&ledger);
            if let Err(error) = read {
                tracing::error!(%error, "waivers and what rules were like cannot be read");
            }
        }
        journal
    }

    fn load(&mut self, ledger: &Ledger) -> Result<(), seaworthy_store::StoreError> {
        self.waivers = ledger.reader().waivers()?;
        let befores = ledger.reader().befores()?;
        self.befores =
            befores.into_iter().map(|(rule, lane, before)| ((rule, lane), before)).collect();
        Ok(())
    }

    /// Which audit log this is.
    pub(super) fn log(&self) -> Option<Arc<str>> {
        let summary = self.auditor.ledger()?.reader().summary().ok()?;
        Some(summary.public_key.log().as_str().into())
    }

    /// Whether this gateway promotes.
    pub(super) fn leads(&self) -> bool {
        self.is_known && self.auditor.ledger().is_some()
    }

    /// What the version with `policy` was like in `warn`, as it was written down last.
    pub(super) fn before(&self, rule: &str, policy: PolicyHash) -> Before {
        let lanes = [Lane::Current, Lane::Next].map(|lane| (rule.to_owned(), lane));
        let known = lanes.iter().filter_map(|key| self.befores.get(key));
        let mut known = known.filter(|before| before.policy == Some(policy));
        known.next().cloned().unwrap_or_default()
    }

    pub(super) fn waiver_rows(&self, rule: &str) -> impl Iterator<Item = &WaiverRow> {
        self.waivers.iter().filter(move |waiver| waiver.rule == rule)
    }

    /// The waivers of a rule, as the gates have them.
    pub(super) fn waivers(&self, rule: &str, scale: &Scale) -> Vec<Waiver> {
        let waiver = |row: &WaiverRow| {
            let client = Name::new(&row.client).ok()?;
            Some(Waiver { client, until: scale.minute(row.until_unix_ms) })
        };
        self.waiver_rows(rule).filter_map(waiver).collect()
    }

    pub(super) fn set_waivers(&mut self, waivers: Vec<WaiverRow>) {
        self.waivers = waivers;
    }

    /// Keeps what is in force already until it is written.
    pub(super) fn note(&mut self, notes: Vec<Note>) {
        if notes.is_empty() {
            return;
        }
        if !self.is_known {
            tracing::error!("a change of a mode is not written: restart when the ledger is back");
            self.losses += notes.len() as u64;
            return;
        }
        self.kept.extend(notes);
        let excess = self.kept.len().saturating_sub(KEPT_MAX);
        if excess > 0 {
            tracing::error!(excess, "changes of modes found no room and are in no audit log");
            self.kept.drain(..excess);
            self.losses += excess as u64;
        }
        self.retry_at.get_or_insert_with(Instant::now);
    }

    /// Ends when there is something to write.
    pub(super) async fn due(&self) {
        match self.retry_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Writes what is kept, in order, up to what cannot be.
    pub(super) async fn write(&mut self) {
        while let Some(note) = self.kept.front() {
            match write(&self.auditor, note).await {
                Ok(()) => remember(&mut self.befores, note),
                Err(JournalError::NoLedger | JournalError::Commit(CommitError::Disk(_))) => {
                    self.retry_at = Some(Instant::now() + RETRY_EVERY);
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "a change of a mode is in no audit log");
                    self.losses += 1;
                }
            }
            self.kept.pop_front();
        }
        self.retry_at = None;
    }

    /// Makes `note` durable, behind everything that is kept.
    pub(super) async fn commit(&mut self, note: Note) -> Result<(), JournalError> {
        self.write().await;
        if !self.kept.is_empty() || !self.is_known {
            return Err(JournalError::Behind);
        }
        write(&self.auditor, &note).await?;
        remember(&mut self.befores, &note);
        Ok(())
    }

    /// Makes a change durable that is of no rule's standing.
    pub(super) async fn commit_change(&mut self, change: Change) -> Result<(), JournalError> {
        self.write().await;
        if !self.kept.is_empty() {
            return Err(JournalError::Behind);
        }
        let ledger = self.auditor.ledger().ok_or(JournalError::NoLedger)?;
        ledger.commit(change).await?;
        let reader = ledger.reader().clone();
        let waivers = tokio::task::spawn_blocking(move || reader.waivers()).await;
        if let Ok(Ok(waivers)) = waivers {
            self.set_waivers(waivers);
        }
        Ok(())
    }

    /// Notes that were lost so far, for [`Self::is_written`].
    pub(super) const fn losses(&self) -> u64 {
        self.losses
    }

    /// Whether everything is durable that was noted since `losses` was read.
    pub(super) fn is_written(&self, losses: u64) -> bool {
        self.is_known && self.kept.is_empty() && self.losses == losses
    }

    /// Says what is lost with this process.
    pub(super) fn close(&self) {
        if !self.kept.is_empty() {
            let changes = self.kept.len();
            tracing::error!(changes, "ends with changes of modes that are not written down");
        }
    }
}

/// Takes up what a note has had written.
fn remember(befores: &mut BTreeMap<(String, Lane), Before>, note: &Note) {
    for write in &note.operations {
        if let Write::Before(rule, lane, before) = write {
            befores.insert((rule.clone(), *lane), before.clone());
        }
    }
}

async fn write(auditor: &Auditor, note: &Note) -> Result<(), JournalError> {
    let change = note.change()?;
    let ledger = auditor.ledger().ok_or(JournalError::NoLedger)?;
    ledger.commit(change).await?;
    Ok(())
}
