//! Falls by an alarm: in force at once, and written down with a receipt that says what it was.
//!
//! 1. Whether an alarm moves a rule is decided by what its receipt is verified with: a rule that is in
//!    `warn` has nothing to fall from, and one that the file pins stays where it is.
//! 2. A version falls in whichever lane it is by the time that it is asked: the present one may have
//!    fallen just before, and the next one has its place.

use seaworthy_policy::evidence::Lane;
use seaworthy_policy::gates::alarm::Alarm;
use seaworthy_policy::rollout::{Event, PolicyHash, Proposal, Weighed, propose};

use super::Engine;
use super::journal::Note;
use super::track::LANES;
use crate::app::book::{Changed, NotChanged};

/// How often a fall is tried that others come between.
const FALL_TRIES: usize = 8;

impl Engine {
    /// Lets every rule fall whose alarm went off; whether there was one.
    pub(super) async fn fall(&mut self) -> bool {
        let alarmed: Vec<_> = self
            .tracks
            .iter_mut()
            .filter_map(|(key, track)| Some((key.clone(), track.of.policy, track.alarm.take()?)))
            .collect();
        // All of them are in force before any of it waits for the disk.
        let mut notes = Vec::with_capacity(alarmed.len());
        for (key, policy, alarm) in alarmed {
            let Some((lane, event, changed)) = self.let_fall(&key.0, policy, &alarm) else {
                continue;
            };
            tracing::warn!(rule = key.0, "{}", alarm.sentence);
            self.made(&changed);
            let (inputs, readings) = self.read(&key).unzip();
            let of = (key.0, lane);
            let receipt =
                self.receipt(&of, &changed, event, "gateway", inputs, readings, Some(alarm));
            notes.push(Note::demoted(changed, receipt, "gateway"));
        }
        let fell = !notes.is_empty();
        if fell {
            self.journal.note(notes);
            self.journal.write().await;
        }
        fell
    }

    /// Lets the version with `policy` fall, in whichever lane it is by now. `None` where there is
    /// nothing to fall from: it is in `warn` already, or the file pins it.
    fn let_fall(
        &self,
        rule: &str,
        policy: PolicyHash,
        alarm: &Alarm,
    ) -> Option<(Lane, Event, Changed)> {
        for _ in 0..FALL_TRIES {
            let rules = self.book.rules();
            let setting = rules.iter().find(|known| known.name.to_string() == rule)?.setting;
            let standings = self.book.standings();
            let standing = standings.get(rule)?;
            let of_policy =
                |lane: &Lane| standing.lane(*lane).is_some_and(|state| state.policy == policy);
            let lane = LANES.into_iter().find(of_policy)?;
            let state = standing.lane(lane)?;
            let now_unix_ms = self.book.now_unix_ms();
            let weighed = Weighed { passed: 0, of: 0, alarm: Some(&alarm.sentence) };
            let proposal = propose(&self.rollout, setting, state, weighed, now_unix_ms);
            let Proposal::Fall { cause } = proposal else { return None };
            let event = Event::Fell { cause };
            match self.book.change_seen(rule, lane, &event, state.epoch, now_unix_ms) {
                Ok(changed) => return Some((lane, event, changed)),
                // By an alert or an operator: is there still something to fall from?
                Err(NotChanged::Overtaken) => {}
                Err(NotChanged::NoSuchRule(_)) => return None,
            }
        }
        tracing::error!(rule, "it did not fall: it is changed again and again");
        None
    }
}
