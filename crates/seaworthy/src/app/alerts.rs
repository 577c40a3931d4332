//! Alerts from outside: who may send them, as the config says it, and where they go.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seaworthy_console::{AlertSink, NotKept, Outcome, Taken, Taking};
use seaworthy_policy::alert::{Demotion, Intake};
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::{Event, Standing};

use super::audit::Auditor;
use super::book::Book;
use super::compile::Rule;
use super::rollout::{Happening, Rollout};
use crate::config::Config;

/// Who may send alerts; `None` where the config names nobody.
pub(super) fn intake(config: &Config) -> anyhow::Result<Option<Arc<Intake>>> {
    let intake = Intake::build(&config.alerts, &config.sources)
        .map_err(|error| anyhow::anyhow!("alerts.{}: {}", error.key, error.message))?;
    Ok(intake.map(Arc::new))
}

/// Takes rules back to `warn`: at once in the book, then in the ledger.
pub(super) struct Demoter {
    book: Book,
    rollout: Rollout,
    audit: Auditor,
    /// Alerts that have had their effect, and that the ledger may not have yet. Their senders come
    /// again, and the effect does not. The lock is held to look one up.
    waiting: Mutex<HashSet<[u8; 32]>>,
}

/// Alerts that wait for the ledger, each with its entry; further ones take effect each time that
/// they come.
const WAITING_MAX: usize = 10_000;

impl AlertSink for Demoter {
    fn take(&self, demotions: Vec<Demotion>) -> Taking<'_> {
        Box::pin(self.demote(demotions))
    }
}

impl Demoter {
    pub(super) fn new(book: Book, rollout: Rollout, audit: Auditor) -> Self {
        Self { book, rollout, audit, waiting: Mutex::default() }
    }

    async fn demote(&self, demotions: Vec<Demotion>) -> Result<Taken, NotKept> {
        let ids: Vec<[u8; 32]> = demotions.iter().map(|demotion| demotion.alert.id.0).collect();
        let known = self.known(ids.clone()).await;
        let mut outcomes = Vec::with_capacity(demotions.len());
        let mut happenings = Vec::new();
        let mut waits = false;
        // What has had its effect does not happen again, and nothing waits for the disk.
        for (demotion, is_known) in demotions.iter().zip(known) {
            let is_waiting = !is_known && self.waiting().contains(&demotion.alert.id.0);
            waits |= is_waiting;
            outcomes.push(if is_known || is_waiting {
                Outcome::Known
            } else {
                self.take_one(demotion, &mut happenings)
            });
        }
        if waits || !happenings.is_empty() {
            let rollout = self.rollout.clone();
            // Its own task: the sender may give up, and what has happened is still written down.
            let written = tokio::spawn(async move { rollout.happened(happenings).await });
            if !written.await.unwrap_or(false) {
                let why = "the rules are in warn, and the ledger cannot write that down".to_owned();
                return Err(NotKept(why));
            }
        }
        let mut waiting = self.waiting();
        for id in &ids {
            waiting.remove(id);
        }
        Ok(Taken(outcomes))
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_one(&self, demotion: &Demotion, happenings: &mut Vec<Happening>) -> Outcome {
        let covered: Vec<Rule> = self
            .book
            .rules()
            .into_iter()
            .filter(|rule| demotion.target.covers(&rule.name))
            .collect();
        if covered.is_empty() {
            return Outcome::NoSuchRule;
        }
        let before = happenings.len();
        let event = Event::Alerted { alert: demotion.sentence.clone() };
        let actor = demotion.actor();
        let mut outcome = Outcome::Held;
        for rule in covered {
            let name = rule.name.to_string();
            for lane in [Lane::Next, Lane::Current] {
                // There is no next version, as a rule.
                let Ok(changed) = self.book.change_beside(&name, lane, &event) else { continue };
                let was = |standing: &Standing| {
                    standing.lane(lane).is_some_and(|state| {
                        matches!(state.in_force(rule.setting), Mode::Enforce(_))
                    })
                };
                if changed.before.as_ref().is_some_and(was) {
                    outcome = Outcome::Demoted;
                }
                happenings.push(Happening {
                    changed,
                    lane,
                    event: event.clone(),
                    actor: actor.clone(),
                    delivery: None,
                });
            }
        }
        if let Some(last) = happenings.get_mut(before..).and_then(<[_]>::last_mut) {
            last.delivery = Some(demotion.alert.id.0);
        }
        let mut waiting = self.waiting();
        if waiting.len() < WAITING_MAX {
            waiting.insert(demotion.alert.id.0);
        }
        outcome
    }

    /// Which of these alerts have had their effect. What cannot be read has not.
    async fn known(&self, ids: Vec<[u8; 32]>) -> Vec<bool> {
        let none = vec![false; ids.len()];
        let Some(ledger) = self.audit.ledger() else { return none };
        let reader = ledger.reader().clone();
        let read = tokio::task::spawn_blocking(move || {
            let known = |id: &[u8; 32]| reader.has_delivery(id).unwrap_or(false);
            ids.iter().map(known).collect()
        });
        read.await.unwrap_or(none)
    }
}
