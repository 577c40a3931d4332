//! What operators are shown of the rules.

use seaworthy_console::control::{RuleStanding, VersionStanding, WaiverView};
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::gates::Verdict;
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::{Proposal, RolloutConfig, RuleState, Stay, propose};
use seaworthy_store::ledger::WaiverRow;

use super::moves::weigh;
use super::{Engine, LANES, state_of};
use crate::app::compile::Rule;

impl Engine {
    /// Where every rule stands now.
    pub(super) fn standings_now(&mut self) -> Vec<RuleStanding> {
        let standings = self.book.standings();
        let mut all = Vec::new();
        for rule in self.book.rules() {
            let name = rule.name.to_string();
            let Some(standing) = standings.get(&name) else { continue };
            let modes = standings.modes(&rule);
            let mut versions = LANES.into_iter().map(|lane| {
                let mode = match lane {
                    Lane::Current => modes.current,
                    Lane::Next => modes.next,
                };
                // Until the config is compiled anew, what has taken the present one's place is still
                // judged in the lane of the next.
                let is_there = standing.lane(lane).is_some();
                let (state, mode) = match state_of(&rule, standing, lane).filter(|_| is_there) {
                    Some(state) => (state, mode),
                    // What is off has a state as well.
                    None if lane == Lane::Current => {
                        (&standing.current, standing.current.in_force(rule.setting))
                    }
                    None => return None,
                };
                Some(self.version(&rule, lane, state, mode))
            });
            let (current, next) = (versions.next().flatten(), versions.next().flatten());
            drop(versions);
            let Some(current) = current else { continue };
            let waivers = self.journal.waiver_rows(&name).map(waiver);
            let (setting, waivers) = (rule.setting, waivers.collect());
            all.push(RuleStanding { rule: name, setting, current, next, waivers });
        }
        all.sort_by(|one, other| one.rule.cmp(&other.rule));
        all
    }

    fn version(
        &mut self,
        rule: &Rule,
        lane: Lane,
        state: &RuleState,
        mode: Mode,
    ) -> VersionStanding {
        let now_unix_ms = self.book.now_unix_ms();
        let key = (rule.name.to_string(), lane);
        let gates = self.read(&key).map(|(_, readings)| readings).unwrap_or_default();
        let proposal = propose(&self.rollout, rule.setting, state, weigh(&gates), now_unix_ms);
        let stay = stay(proposal);
        let waits_for = match &stay {
            None if !self.shared.leads() => Some("the gateway that leads the fleet".to_owned()),
            Some(Stay::Gates { .. }) => gates
                .iter()
                .filter(|reading| reading.verdict != Verdict::Pass)
                // What is broken before what is only not shown yet.
                .min_by_key(|reading| reading.verdict != Verdict::Fail)
                .map(|reading| match &reading.waits_for {
                    Some(waits_for) => format!("{}: needs {waits_for}", reading.gate.word()),
                    None => format!("{}: {}", reading.gate.word(), reading.sentence),
                }),
            _ => None,
        };
        let version = shown(&self.rollout, (lane, state), mode, stay);
        VersionStanding { waits_for, gates, ..version }
    }
}

/// What is known of a version without its evidence.
pub(super) fn shown(
    config: &RolloutConfig,
    (lane, state): (Lane, &RuleState),
    mode: Mode,
    stay: Option<Stay>,
) -> VersionStanding {
    VersionStanding {
        lane,
        version: state.version,
        policy: state.policy.to_string(),
        mode,
        epoch: state.epoch,
        since_unix_ms: state.since_unix_ms,
        window_unix_ms: state.window_unix_ms,
        why: state.why.clone(),
        next_step: config.above(state.mode),
        attempt: state.next_attempt(config),
        approved: state.approved,
        stay,
        waits_for: None,
        gates: Vec::new(),
    }
}

/// What keeps a rule where it is, where something does.
pub(super) fn stay(proposal: Proposal) -> Option<Stay> {
    match proposal {
        Proposal::Stay(stay) => Some(stay),
        Proposal::Promote { .. } | Proposal::Fall { .. } => None,
    }
}

pub(super) fn waiver(row: &WaiverRow) -> WaiverView {
    WaiverView {
        client: row.client.clone(),
        until_unix_ms: row.until_unix_ms,
        reason: row.reason.clone(),
        actor: row.actor.clone(),
    }
}
