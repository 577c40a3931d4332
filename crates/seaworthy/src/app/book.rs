//! Where each rule stands, and the one door through which a mode is put in force.
//!
//! The lock is held to compute the next state of a rule and to publish it, never during I/O. So two
//! changes of one rule follow each other, whoever makes them, and no reload undoes a change that was
//! made while it was compiled.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seaworthy_policy::evidence::Lane;
use seaworthy_policy::mode::{Mode, ModeSetting};
use seaworthy_policy::rollout::{Event, RolloutConfig, RuleState, Standing};
use seaworthy_proxy::{Clock, Modes, Publisher, Snapshot};

use super::compile::{Built, Rule};

/// Where the rules stand, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standings(BTreeMap<String, Standing>);

impl Standings {
    pub(crate) fn new(standings: impl IntoIterator<Item = (String, Standing)>) -> Self {
        Self(standings.into_iter().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Standing)> {
        self.0.iter().map(|(rule, standing)| (rule.as_str(), standing))
    }

    pub(crate) fn get(&self, rule: &str) -> Option<&Standing> {
        self.0.get(rule)
    }

    /// What is in force for `rule`.
    pub(crate) fn modes(&self, rule: &Rule) -> Modes {
        let standing = self.get(&rule.name.to_string());
        // A policy that nobody knows here has earned nothing.
        let of = |built: &Built| match standing.and_then(|known| known.of(built.policy)) {
            Some(state) => state.in_force(rule.setting),
            None => match (rule.setting, standing) {
                (ModeSetting::Pinned(_), Some(known)) => known.current.in_force(rule.setting),
                (setting, _) => setting.initial(),
            },
        };
        Modes { current: of(&rule.current), next: rule.next.as_ref().map_or(Mode::Off, of) }
    }

    /// Brings back what was written by a clock that was ahead of this one.
    pub(crate) fn bring_back(&mut self, config: &RolloutConfig, now_unix_ms: i64) -> Vec<Changed> {
        let mut all = Vec::new();
        for (rule, standing) in &mut self.0 {
            let Some(mut after) = standing.brought_back(config, now_unix_ms) else { continue };
            after.revision = standing.revision + 1;
            let before = Some(std::mem::replace(standing, after.clone()));
            all.push(Changed { rule: rule.clone(), before, after, now_unix_ms });
        }
        all
    }

    /// Brings the standing of each rule up to date with what the config says of it.
    fn follow(&mut self, rules: &[Rule], config: &RolloutConfig, now_unix_ms: i64) -> Vec<Changed> {
        let mut all = Vec::new();
        for rule in rules {
            let (name, latest) = (rule.name.to_string(), rule.latest());
            let before = self.0.get(&name);
            let after = match before {
                None => Standing::new(latest.policy, latest.settings.clone(), now_unix_ms)
                    .with_setting(rule.setting, config, now_unix_ms),
                Some(known) => {
                    let kept = rule.next.is_some();
                    let (policy, settings) = (latest.policy, &latest.settings);
                    let mut after = known
                        .with_policy(policy, settings, kept, config, now_unix_ms)
                        .with_setting(rule.setting, config, now_unix_ms);
                    if let (ModeSetting::Pinned(pin), Mode::Enforce(_)) =
                        (rule.setting, after.current.mode)
                    {
                        let reason = format!("the file pins it to {pin}");
                        let pinned = Event::Set { mode: Mode::Warn, reason };
                        after.current = after.current.after(&pinned, config, now_unix_ms);
                    }
                    after
                }
            };
            if before == Some(&after) {
                continue;
            }
            let mut after = after;
            after.revision = before.map_or(0, |known| known.revision + 1);
            let before = self.0.insert(name.clone(), after.clone());
            all.push(Changed { rule: name, before, after, now_unix_ms });
        }
        all
    }
}

/// The standings, with the rules that they are about.
#[derive(Clone)]
pub(crate) struct Book {
    shared: Arc<Shared>,
}

struct Shared {
    publisher: Publisher,
    clock: Clock,
    pages: Mutex<Pages>,
}

struct Pages {
    rules: Vec<Rule>,
    standings: Standings,
    rollout: RolloutConfig,
    /// Changes of each rule that were made beside the engine, and that it has not heard of.
    unheard: BTreeMap<String, u32>,
}

/// What changed, to be written down.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    pub(crate) rule: String,
    /// `None` where the rule is new.
    pub(crate) before: Option<Standing>,
    pub(crate) after: Standing,
    pub(crate) now_unix_ms: i64,
}

impl Changed {
    /// The mode that a version has now; that of the present one where the next has taken its place.
    pub(crate) fn mode(&self, lane: Lane) -> Mode {
        self.after.lane(lane).unwrap_or(&self.after.current).mode
    }

    /// Whether the next version has taken the present one's place.
    pub(crate) fn took_over(&self) -> bool {
        let had = self.before.as_ref().and_then(|before| before.next.as_ref());
        had.is_some_and(|next| {
            self.after.next.is_none() && self.after.current.policy == next.policy
        })
    }
}

/// A change that is written down before it is made. It has its numbers already, so that what
/// happens to the rule meanwhile has later ones in the log.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) changed: Changed,
    lane: Lane,
    event: Event,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotChanged {
    #[error("there is no rule {0:?}: `seaworthy mode` lists all")]
    NoSuchRule(String),
    /// It was changed since, so what was decided was decided on what is past.
    #[error("the rule has been changed since")]
    Overtaken,
}

impl Book {
    /// The book of a gateway that has just been started with `rules`.
    pub(crate) fn open(
        publisher: Publisher,
        rules: &[Rule],
        mut standings: Standings,
        rollout: &RolloutConfig,
        clock: Clock,
    ) -> (Self, Vec<Changed>) {
        let now_unix_ms = clock.unix_ms(clock.now());
        let changed = standings.follow(rules, rollout, now_unix_ms);
        let modes: Vec<_> = rules.iter().map(|rule| (rule.id, standings.modes(rule))).collect();
        publisher.put_modes(modes);
        let (rules, rollout) = (rules.to_vec(), rollout.clone());
        let pages = Pages { rules, standings, rollout, unheard: BTreeMap::new() };
        let pages = Mutex::new(pages);
        (Self { shared: Arc::new(Shared { publisher, clock, pages }) }, changed)
    }

    /// A copy, to compile a config by.
    pub(crate) fn standings(&self) -> Standings {
        self.pages().standings.clone()
    }

    pub(crate) fn rules(&self) -> Vec<Rule> {
        self.pages().rules.clone()
    }

    /// Puts a compiled config in force, with the modes as they are at this moment. Returns which
    /// config it is, and whose standing it changed.
    pub(crate) fn put_in_force(
        &self,
        mut snapshot: Snapshot,
        rules: &[Rule],
        rollout: &RolloutConfig,
    ) -> (u64, Vec<Changed>) {
        let now_unix_ms = self.now_unix_ms();
        let mut pages = self.pages();
        let changed = pages.standings.follow(rules, rollout, now_unix_ms);
        for rule in rules {
            snapshot.modes.set(rule.id, pages.standings.modes(rule));
        }
        pages.rules = rules.to_vec();
        pages.rollout = rollout.clone();
        (self.shared.publisher.publish(snapshot), changed)
    }

    /// Makes `event` happen to a version of `rule`, at once, on every path.
    pub(crate) fn change(
        &self,
        rule: &str,
        lane: Lane,
        event: &Event,
    ) -> Result<Changed, NotChanged> {
        self.change_at(rule, lane, event, self.now_unix_ms())
    }

    /// As [`Self::change`], from beside the engine. Until that has [`Self::heard`] of it nothing can
    /// be reserved for the rule: its entry would be before that of this in the log.
    pub(crate) fn change_beside(
        &self,
        rule: &str,
        lane: Lane,
        event: &Event,
    ) -> Result<Changed, NotChanged> {
        let now_unix_ms = self.now_unix_ms();
        let mut pages = self.pages();
        let before = pages.standing(rule, lane)?.clone();
        let changed = pages.make(rule, before, lane, event, now_unix_ms, &self.shared.publisher)?;
        *pages.unheard.entry(rule.to_owned()).or_default() += 1;
        Ok(changed)
    }

    /// The engine has what was changed beside it.
    pub(crate) fn heard(&self, rule: &str) {
        let mut pages = self.pages();
        if let Some(unheard) = pages.unheard.get_mut(rule) {
            *unheard -= 1;
            if *unheard == 0 {
                pages.unheard.remove(rule);
            }
        }
    }

    /// As [`Self::change`], at a time that was decided before.
    pub(crate) fn change_at(
        &self,
        rule: &str,
        lane: Lane,
        event: &Event,
        now_unix_ms: i64,
    ) -> Result<Changed, NotChanged> {
        let mut pages = self.pages();
        let before = pages.standing(rule, lane)?.clone();
        pages.make(rule, before, lane, event, now_unix_ms, &self.shared.publisher)
    }

    /// As [`Self::change_at`], where the version still has the epoch `expected`.
    pub(crate) fn change_seen(
        &self,
        rule: &str,
        lane: Lane,
        event: &Event,
        expected: u64,
        now_unix_ms: i64,
    ) -> Result<Changed, NotChanged> {
        let mut pages = self.pages();
        let before = pages.standing(rule, lane)?.clone();
        if before.lane(lane).is_none_or(|state| state.epoch != expected) {
            return Err(NotChanged::Overtaken);
        }
        pages.make(rule, before, lane, event, now_unix_ms, &self.shared.publisher)
    }

    /// What `event` will make of a version that has the epoch `expected`, to be written down before
    /// [`Self::make`] makes it. Ends with that, or with [`Self::release`].
    pub(crate) fn reserve(
        &self,
        rule: &str,
        lane: Lane,
        event: Event,
        expected: u64,
        now_unix_ms: i64,
    ) -> Result<Reserved, NotChanged> {
        let mut pages = self.pages();
        let before = pages.standing(rule, lane)?.clone();
        let is_as_seen = before.lane(lane).is_some_and(|state| state.epoch == expected);
        if !is_as_seen || pages.unheard.contains_key(rule) {
            return Err(NotChanged::Overtaken);
        }
        let after =
            before.after(lane, &event, &pages.rollout, now_unix_ms).ok_or(NotChanged::Overtaken)?;
        let reserved = before.reserved(lane);
        let after = Standing { revision: reserved.revision, ..after };
        pages.standings.0.insert(rule.to_owned(), reserved);
        let before = Some(before);
        let changed = Changed { rule: rule.to_owned(), before, after, now_unix_ms };
        Ok(Reserved { changed, lane, event })
    }

    /// Makes a change that was reserved, if nothing has happened to the version since.
    pub(crate) fn make(&self, reserved: &Reserved) -> Result<Changed, NotChanged> {
        let Reserved { changed, lane, event } = reserved;
        let mut pages = self.pages();
        let before = pages.unreserved(reserved).ok_or(NotChanged::Overtaken)?;
        let (rule, now_unix_ms) = (&changed.rule, changed.now_unix_ms);
        pages.make(rule, before, *lane, event, now_unix_ms, &self.shared.publisher)
    }

    /// Gives the numbers back of a change that could not be written down.
    pub(crate) fn release(&self, reserved: &Reserved) {
        let mut pages = self.pages();
        if let Some(before) = pages.unreserved(reserved) {
            pages.standings.0.insert(reserved.changed.rule.clone(), before);
        }
    }

    /// Whether `event` would make a version deny more.
    pub(crate) fn raises(
        &self,
        rule: &str,
        lane: Lane,
        event: &Event,
        now_unix_ms: i64,
    ) -> Result<bool, NotChanged> {
        let pages = self.pages();
        let missing = || NotChanged::NoSuchRule(rule.to_owned());
        let known = pages.rules.iter().find(|known| known.name.to_string() == rule);
        let (known, standing) = known.zip(pages.standings.get(rule)).ok_or_else(missing)?;
        let Some(state) = standing.lane(lane) else { return Ok(false) };
        let after = state.after(event, &pages.rollout, now_unix_ms);
        let denies = |state: &RuleState| match state.in_force(known.setting) {
            Mode::Off | Mode::Warn => 0,
            Mode::Enforce(share) => share.basis_points(),
        };
        Ok(denies(&after) > denies(state))
    }

    pub(crate) fn now_unix_ms(&self) -> i64 {
        let clock = self.shared.clock;
        clock.unix_ms(clock.now())
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.shared.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// Where a rule of the config stands that has such a version.
    fn standing(&self, rule: &str, lane: Lane) -> Result<&Standing, NotChanged> {
        let is_there = self.rules.iter().any(|known| known.name.to_string() == rule);
        let standing = self.standings.get(rule).filter(|_| is_there);
        let standing = standing.ok_or_else(|| NotChanged::NoSuchRule(rule.to_owned()))?;
        standing.lane(lane).map(|_| standing).ok_or(NotChanged::Overtaken)
    }

    /// Where the rule of a reserved change stands, without the numbers of that change; `None` where
    /// something has happened to the version since.
    fn unreserved(&self, reserved: &Reserved) -> Option<Standing> {
        let Reserved { changed, lane, .. } = reserved;
        let before = changed.before.as_ref()?;
        let state = before.lane(*lane)?;
        let expected = before.reserved(*lane);
        let mut standing = self.standings.get(&changed.rule)?.clone();
        if standing.lane(*lane)?.epoch != expected.lane(*lane)?.epoch {
            return None;
        }
        match (*lane, &mut standing.next) {
            (Lane::Next, Some(next)) => next.epoch = state.epoch,
            (Lane::Next, None) => return None,
            (Lane::Current, _) => standing.current.epoch = state.epoch,
        }
        // The other version may have changed meanwhile, and that has been counted.
        if standing.revision == expected.revision {
            standing.revision = before.revision;
        }
        Some(standing)
    }

    /// Makes `event` happen to a version of a rule that stands as `before` says.
    fn make(
        &mut self,
        rule: &str,
        before: Standing,
        lane: Lane,
        event: &Event,
        now_unix_ms: i64,
        publisher: &Publisher,
    ) -> Result<Changed, NotChanged> {
        let known = self.rules.iter().find(|known| known.name.to_string() == rule);
        let known = known.ok_or_else(|| NotChanged::NoSuchRule(rule.to_owned()))?;
        let after =
            before.after(lane, event, &self.rollout, now_unix_ms).ok_or(NotChanged::Overtaken)?;
        let after = Standing { revision: before.revision + 1, ..after };
        self.standings.0.insert(rule.to_owned(), after.clone());
        publisher.put_modes([(known.id, self.standings.modes(known))]);
        Ok(Changed { rule: rule.to_owned(), before: Some(before), after, now_unix_ms })
    }
}
