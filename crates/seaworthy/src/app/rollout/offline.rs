//! The rules while no gateway runs: what the ledger says of them, and what operators have written
//! into it, to be in force with the next start.
//!
//! 1. What is asked for is decided as the engine decides it, and is in the audit log by the same
//!    entries and receipts. Gates are not asked: there is no evidence of a gateway that is down.
//! 2. The ledger is written under its lock. A gateway that holds it is running, whether it can be
//!    reached or not, and nothing is written beside it.

use std::path::Path;

use seaworthy_console::control::{self, Command, Done, Refused, RuleStanding, VersionStanding};
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::gates::GatesConfig;
use seaworthy_policy::mode::{Mode, ModeSetting};
use seaworthy_policy::rollout::receipt::RECEIPT_VERSION;
use seaworthy_policy::rollout::{
    Event, Receipt, RolloutConfig, RuleState, Standing, Weighed, propose,
};
use seaworthy_store::StoreError;
use seaworthy_store::ledger::{
    Change, CommitError, Ledger, LedgerOptions, LedgerReader, WaiverRow, put_standing,
};

use super::commands::{Decided, check, decide, waiver};
use super::{Changed, Note, view};

/// What the config says that matters without a gateway.
pub(in crate::app) struct Offline<'a> {
    pub(in crate::app) dir: &'a Path,
    pub(in crate::app) rollout: &'a RolloutConfig,
    pub(in crate::app) gates: &'a GatesConfig,
    /// How the config sets the mode of a rule; `None` where it has no such rule.
    pub(in crate::app) setting: &'a dyn Fn(&str) -> Option<ModeSetting>,
    pub(in crate::app) now_unix_ms: i64,
}

#[derive(Debug, thiserror::Error)]
pub(in crate::app) enum OfflineError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Offline<'_> {
    /// Where the ledger says that the rules stand. Reads only.
    pub(in crate::app) fn standings(&self) -> Result<Vec<RuleStanding>, StoreError> {
        let reader = LedgerReader::open_read_only(self.dir)?;
        let waivers = reader.waivers()?;
        let rules = reader.standings()?.into_iter().filter_map(|(rule, standing)| {
            let setting = (self.setting)(&rule)?;
            Some(self.view(&rule, setting, &standing, &waivers))
        });
        Ok(rules.collect())
    }

    /// Does what an operator asks for, in the ledger.
    pub(in crate::app) async fn ask(
        &self,
        request: &control::Request,
    ) -> Result<Done, OfflineError> {
        let actor = check(request)?;
        // So that a folder in which no gateway has run is not made one.
        drop(LedgerReader::open_read_only(self.dir)?);
        let dir = self.dir.to_owned();
        let opened =
            tokio::task::spawn_blocking(move || Ledger::open(&dir, LedgerOptions::default()));
        let ledger = opened.await.unwrap_or(Err(StoreError::Closed))?;
        let done = self.ask_ledger(request, &actor, &ledger).await;
        ledger.close().await;
        done
    }

    async fn ask_ledger(
        &self,
        request: &control::Request,
        actor: &str,
        ledger: &Ledger,
    ) -> Result<Done, OfflineError> {
        let rule = &request.rule;
        let no_rule = || Refused::NoSuchRule(rule.clone());
        let setting = (self.setting)(rule).ok_or_else(no_rule)?;
        let known = ledger.reader().standings()?;
        let found = known.into_iter().find(|(name, _)| name == rule);
        let (_, mut standing) = found.ok_or_else(no_rule)?;
        let Decided { events, action } =
            decide(request, setting, &standing, self.rollout, self.now_unix_ms)?;
        let waivers = ledger.reader().waivers()?;
        let mut change = waiver(request, actor, self.now_unix_ms, &waivers)?;
        for (lane, event) in events {
            let Some(changed) = self.after(rule, &standing, lane, &event) else { continue };
            let mut changed = changed;
            changed.after.revision = standing.revision + 1;
            standing = changed.after.clone();
            // A waiver is in the log by its own entry, as with a gateway.
            change = if let Some(change) = change.take() {
                Some(change.and(put_standing(rule, &standing)))
            } else {
                let receipt = self.receipt(&changed, lane, event, actor, setting);
                let note = Note::asked(action, changed, receipt, actor, None);
                let change = note
                    .change()
                    .map_err(|error| Refused::BadRequest(format!("it cannot be kept: {error}")))?;
                commit(ledger, change).await?;
                None
            };
        }
        if let Some(change) = change {
            commit(ledger, change).await?;
        }
        let view = self.view(rule, setting, &standing, &ledger.reader().waivers()?);
        let sentence = match &request.command {
            Command::Waive { client, .. } => format!("{rule} may break {client}"),
            Command::Unwaive { client } => format!("{rule} may not break {client} any more"),
            _ => {
                let version = view.next.as_ref().unwrap_or(&view.current);
                format!("{rule} is at {}: {}", version.mode, version.why)
            }
        };
        Ok(Done { sentence, standing: view, durable: true })
    }

    fn after(&self, rule: &str, standing: &Standing, lane: Lane, event: &Event) -> Option<Changed> {
        let now_unix_ms = self.now_unix_ms;
        let after = standing.after(lane, event, self.rollout, now_unix_ms)?;
        Some(Changed { rule: rule.to_owned(), before: Some(standing.clone()), after, now_unix_ms })
    }

    fn receipt(
        &self,
        changed: &Changed,
        lane: Lane,
        event: Event,
        actor: &str,
        setting: ModeSetting,
    ) -> Option<Receipt> {
        let before = changed.before.as_ref()?.before(lane)?;
        let after = before.after(&event, self.rollout, self.now_unix_ms);
        let receipt = Receipt {
            v: RECEIPT_VERSION,
            program: format!("seaworthy {}", env!("CARGO_PKG_VERSION")),
            rule: changed.rule.clone(),
            lane,
            actor: actor.to_owned(),
            at_unix_ms: self.now_unix_ms,
            event,
            before,
            after,
            setting,
            rollout: self.rollout.clone(),
            gates: self.gates.clone(),
            readings: Vec::new(),
            inputs: None,
            alarm: None,
            alpha_spent: None,
            clients_digest: None,
            digest: String::new(),
        };
        Some(receipt.seal())
    }

    fn view(
        &self,
        rule: &str,
        setting: ModeSetting,
        standing: &Standing,
        waivers: &[WaiverRow],
    ) -> RuleStanding {
        let of_rule = waivers.iter().filter(|row| row.rule == rule);
        let waivers = of_rule.map(view::waiver);
        RuleStanding {
            rule: rule.to_owned(),
            setting,
            current: self.version(Lane::Current, setting, &standing.current),
            next: standing.next.as_ref().map(|next| self.version(Lane::Next, setting, next)),
            waivers: waivers.collect(),
        }
    }

    fn version(&self, lane: Lane, setting: ModeSetting, state: &RuleState) -> VersionStanding {
        let weighed = Weighed { passed: 0, of: 0, alarm: None };
        let proposal = propose(self.rollout, setting, state, weighed, self.now_unix_ms);
        let mode = match lane {
            Lane::Current => state.in_force(setting),
            Lane::Next if setting == ModeSetting::Auto => state.mode,
            Lane::Next => Mode::Off,
        };
        view::shown(self.rollout, (lane, state), mode, view::stay(proposal))
    }
}

async fn commit(ledger: &Ledger, change: Change) -> Result<(), Refused> {
    match ledger.commit(change).await {
        Ok(_) => Ok(()),
        Err(CommitError::Refused { reason, .. }) => Err(Refused::NotNow(reason)),
        Err(error) => Err(Refused::NotKept(format!("the ledger cannot take it: {error}"))),
    }
}
