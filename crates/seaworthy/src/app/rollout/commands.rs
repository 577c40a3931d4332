//! What operators ask for.

use seaworthy_console::control::{self, Command, Done, Refused};
use seaworthy_policy::client::ClientKey;
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::gates::minute::{Name, key_of};
use seaworthy_policy::mode::{Mode, ModeSetting};
use seaworthy_policy::rollout::{Approval, Event, REASON_CHARS_MAX, RolloutConfig, Standing};
use seaworthy_store::ledger::{
    Action, Change, CommitError, Entry, WaiverRow, delete_waiver, put_waiver,
};

use super::Engine;
use super::journal::{JournalError, Note};
use crate::app::book::NotChanged;

/// Characters of an actor's name.
const ACTOR_CHARS_MAX: usize = 64;

/// A waiver for longer is a decision to look away for ever.
const WAIVER_MS_MAX: i64 = 366 * 24 * 3_600_000;

/// What is to happen to which versions of a rule, and under which name it is in the audit log.
pub(super) struct Decided {
    pub(super) events: Vec<(Lane, Event)>,
    pub(super) action: Action,
}

/// What a request makes happen to a rule. It is the same with a running gateway and without one.
///
/// What enforces less, and what keeps a rule where it is, is of both versions: an operator who
/// demotes a rule wants nobody denied by it.
pub(super) fn decide(
    request: &control::Request,
    setting: ModeSetting,
    standing: &Standing,
    config: &RolloutConfig,
    now_unix_ms: i64,
) -> Result<Decided, Refused> {
    // What is being tried is what there is to decide about.
    let tried = if standing.next.is_some() { Lane::Next } else { Lane::Current };
    let state = standing.lane(tried).unwrap_or(&standing.current);
    let is_pinned = setting != ModeSetting::Auto;
    let rule = &request.rule;
    let reason = format!("{}: {}", request.actor, request.reason);
    if let Command::Promote { epoch: Some(seen) } = request.command
        && seen != state.epoch
    {
        return Err(Refused::NotNow(format!(
            "{rule} has been changed since you looked: it is at {} now",
            state.mode
        )));
    }
    let one = |lane, event, action| Decided { events: vec![(lane, event)], action };
    let all = |event: Event, action| {
        let lanes = [Lane::Next, Lane::Current].into_iter();
        let there = lanes.filter(|lane| standing.lane(*lane).is_some());
        Decided { events: there.map(|lane| (lane, event.clone())).collect(), action }
    };
    Ok(match &request.command {
        Command::Set { mode: Mode::Warn } | Command::Demote {} if is_pinned => {
            all(Event::Alerted { alert: reason }, Action::ModeDemote)
        }
        Command::Set { .. } | Command::Promote { .. } if is_pinned => {
            return Err(Refused::NotNow(format!(
                "the file pins {rule} to {setting}: change it there, or set it to \"auto\""
            )));
        }
        Command::Set { mode: mode @ Mode::Enforce(_) } => {
            one(Lane::Current, Event::Set { mode: *mode, reason }, Action::ModeSet)
        }
        Command::Set { mode } => all(Event::Set { mode: *mode, reason }, Action::ModeSet),
        Command::Promote { .. } => {
            let to = config.above(state.mode).ok_or_else(|| {
                Refused::NotNow(format!("{rule} is at {} and has no step above", state.mode))
            })?;
            let waits = config.approval == Approval::Manual && state.held(now_unix_ms).is_none();
            // Whoever approves after somebody else does not ask to pass over the gates.
            if waits && state.approved == Some(to) {
                return Err(Refused::NotNow(format!(
                    "the step of {rule} to {to} is approved already, and is taken once every gate \
                     passes; `seaworthy mode set` takes it at once"
                )));
            }
            if waits {
                one(tried, Event::Approved { to, reason }, Action::AdminCall)
            } else {
                one(tried, Event::Set { mode: Mode::Enforce(to), reason }, Action::ModePromote)
            }
        }
        Command::Demote {} => all(Event::Fell { cause: reason }, Action::ModeDemote),
        Command::Hold { until_unix_ms } => {
            all(Event::Held { until_unix_ms: *until_unix_ms, reason }, Action::RolloutHold)
        }
        Command::Release {} => all(Event::Released { reason }, Action::RolloutHold),
        // A window that has counted the client, or has not, begins anew.
        Command::Waive { client, .. } => all(restarted(client), Action::RolloutWaive),
        Command::Unwaive { client } => all(restarted(client), Action::RolloutUnwaive),
    })
}

fn restarted(client: &str) -> Event {
    Event::WindowRestarted { reason: format!("the waiver of {client} was changed") }
}

/// The change that a waiver is, where the request is about one. `known` are the waivers that there
/// are.
pub(super) fn waiver<'a>(
    request: &control::Request,
    actor: &str,
    now_unix_ms: i64,
    known: impl IntoIterator<Item = &'a WaiverRow>,
) -> Result<Option<Change>, Refused> {
    let (client, until) = match &request.command {
        Command::Waive { client, until_unix_ms } => (client, Some(*until_unix_ms)),
        Command::Unwaive { client } => (client, None),
        _ => return Ok(None),
    };
    if Name::new(client).is_err() || key_of(client).parse::<ClientKey>().is_err() {
        let message = "expected a client as `rollout status` shows it, such as \
                       \"bearer:0123456789abcdef\" or \"acme (bearer:0123456789abcdef)\"";
        return Err(Refused::BadRequest(message.to_owned()));
    }
    let action = if until.is_some() { Action::RolloutWaive } else { Action::RolloutUnwaive };
    let mut entry = Entry::new(actor, action, request.rule.as_str());
    let said = |client: &str, until: Option<i64>| {
        Some(serde_json::json!({ "client": client, "until_unix_ms": until }))
    };
    let mut of_client = known
        .into_iter()
        .filter(|row| row.rule == request.rule && key_of(&row.client) == key_of(client));
    entry.before = of_client.next().and_then(|row| said(&row.client, Some(row.until_unix_ms)));
    entry.after = said(client, until);
    entry.reason = Some(request.reason.clone());
    let change =
        Change::new().audit(&entry).map_err(|error| Refused::BadRequest(error.to_string()))?;
    let Some(until_unix_ms) = until else {
        return Ok(Some(change.and(delete_waiver(&request.rule, client))));
    };
    if until_unix_ms <= now_unix_ms || until_unix_ms > now_unix_ms + WAIVER_MS_MAX {
        let message = "expected a time within the next 366 days";
        return Err(Refused::BadRequest(message.to_owned()));
    }
    Ok(Some(change.and(put_waiver(WaiverRow {
        rule: request.rule.clone(),
        client: client.clone(),
        until_unix_ms,
        reason: request.reason.clone(),
        actor: actor.to_owned(),
    }))))
}

impl Engine {
    pub(super) async fn command(&mut self, request: control::Request) -> Result<Done, Refused> {
        let actor = check(&request)?;
        let rules = self.book.rules();
        let rule = rules
            .iter()
            .find(|rule| rule.name.to_string() == request.rule)
            .ok_or_else(|| Refused::NoSuchRule(request.rule.clone()))?;
        let now_unix_ms = self.book.now_unix_ms();
        if let Some(change) =
            waiver(&request, &actor, now_unix_ms, self.journal.waiver_rows(&request.rule))?
        {
            return self.waive(&request, change).await;
        }
        let standings = self.book.standings();
        let standing = standings
            .get(&request.rule)
            .ok_or_else(|| Refused::NoSuchRule(request.rule.clone()))?;
        let losses = self.journal.losses();
        let decided = decide(&request, rule.setting, standing, &self.rollout, now_unix_ms)?;
        for (lane, event) in decided.events {
            // What denies more is decided on this; what denies less does not ask.
            let epoch = standing.lane(lane).map_or(0, |state| state.epoch);
            self.happen(&request.rule, (lane, epoch), event, decided.action, &actor).await?;
        }
        // All of it is in force before any of it waits for the disk.
        self.journal.write().await;
        self.done(&request.rule, losses)
    }

    /// Makes an event happen that an operator asked for: what enforces more is durable first, what
    /// enforces less is in force first.
    async fn happen(
        &mut self,
        rule: &str,
        (lane, epoch): (Lane, u64),
        event: Event,
        action: Action,
        actor: &str,
    ) -> Result<(), Refused> {
        let key = (rule.to_owned(), lane);
        let now_unix_ms = self.book.now_unix_ms();
        let not_kept = |error: JournalError| match error {
            JournalError::Commit(CommitError::Refused { reason, .. }) => Refused::NotNow(reason),
            error => Refused::NotKept(format!("the ledger cannot take it: {error}")),
        };
        // Whatever denies more than before: a step, and an emergency that is over.
        let is_climb = self.book.raises(rule, lane, &event, now_unix_ms).map_err(refused)?;
        let (inputs, readings) = self.read(&key).unzip();
        if is_climb {
            let reserve = self.book.reserve(rule, lane, event.clone(), epoch, now_unix_ms);
            let reserved = reserve.map_err(refused)?;
            let changed = reserved.changed.clone();
            let receipt = self.receipt(&key, &changed, event, actor, inputs, readings, None);
            let track = self.tracks.get(&key);
            let note = Note::asked(action, changed, receipt, actor, track);
            if let Err(error) = self.journal.commit(note).await {
                self.book.release(&reserved);
                return Err(not_kept(error));
            }
            self.make(&reserved).map_err(refused)?;
        } else {
            let changed = match self.book.change_at(rule, lane, &event, now_unix_ms) {
                Ok(changed) => changed,
                // A config that was put in force meanwhile has taken the version away.
                Err(NotChanged::Overtaken) => return Ok(()),
                Err(error) => return Err(refused(error)),
            };
            self.made(&changed);
            let receipt =
                self.receipt(&key, &changed, event.clone(), actor, inputs, readings, None);
            self.journal.note(vec![Note::asked(action, changed, receipt, actor, None)]);
        }
        self.follow();
        Ok(())
    }

    async fn waive(&mut self, request: &control::Request, change: Change) -> Result<Done, Refused> {
        match self.journal.commit_change(change).await {
            Ok(()) => {}
            Err(JournalError::Commit(CommitError::Refused { reason, .. })) => {
                return Err(Refused::NotNow(reason));
            }
            Err(error) => {
                return Err(Refused::NotKept(format!("the ledger cannot take it: {error}")));
            }
        }
        let losses = self.journal.losses();
        // The window has counted the client, or has not; it begins anew.
        for lane in super::LANES {
            self.restart_window(&request.rule, lane, "a waiver was changed");
            // Also where it has not begun yet, and so does not begin at another time.
            if let Some(track) = self.tracks.get_mut(&(request.rule.clone(), lane)) {
                track.is_stale = true;
            }
        }
        self.journal.write().await;
        self.follow();
        self.done(&request.rule, losses)
    }

    fn done(&mut self, rule: &str, losses: u64) -> Result<Done, Refused> {
        let all = self.standings_now();
        let found = all.into_iter().find(|standing| standing.rule == rule);
        let standing = found.ok_or_else(|| Refused::NoSuchRule(rule.to_owned()))?;
        let version = standing.next.as_ref().unwrap_or(&standing.current);
        let sentence = format!("{rule} is at {}: {}", version.mode, version.why);
        Ok(Done { sentence, standing, durable: self.journal.is_written(losses) })
    }
}

/// The actor as the log has it.
pub(super) fn check(request: &control::Request) -> Result<String, Refused> {
    let fault = |message: String| Err(Refused::BadRequest(message));
    let count = |text: &str| text.chars().count();
    let plain = |text: &str| !text.trim().is_empty() && !text.chars().any(char::is_control);
    if !plain(&request.actor) || count(&request.actor) > ACTOR_CHARS_MAX {
        return fault(format!(
            "expected an actor of 1 to {ACTOR_CHARS_MAX} characters in one line"
        ));
    }
    if !plain(&request.reason) || count(&request.reason) > REASON_CHARS_MAX {
        return fault(format!(
            "expected a reason of 1 to {REASON_CHARS_MAX} characters in one line"
        ));
    }
    Ok(format!("operator:{}", request.actor))
}

fn refused(error: NotChanged) -> Refused {
    match error {
        NotChanged::NoSuchRule(rule) => Refused::NoSuchRule(rule),
        NotChanged::Overtaken => Refused::NotNow(error.to_string()),
    }
}
