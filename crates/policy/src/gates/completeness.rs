//! Whether the window holds all that happened.

use serde::{Deserialize, Serialize};

use super::minute::{Minute, TickLength};
use super::{Gate, Reading, Verdict, wording};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Records that were lost because a ring was full.
    pub dropped: u64,
    /// Minutes between the first and the last of the window of which nothing is known.
    pub missing_minutes: u64,
    /// The first minute in which either was so.
    pub since: Option<Minute>,
    /// The last one.
    pub last: Option<Minute>,
}

impl Input {
    pub fn is_complete(&self) -> bool {
        self.dropped == 0 && self.missing_minutes == 0
    }

    pub(super) fn observe(&mut self, minute: Minute, dropped: u64, missing_minutes: u64) {
        if dropped > 0 || missing_minutes > 0 {
            self.dropped = self.dropped.saturating_add(dropped);
            self.missing_minutes = self.missing_minutes.saturating_add(missing_minutes);
            self.since.get_or_insert(minute);
            self.last = Some(minute);
        }
    }

    /// Takes back what cannot be said of an incomplete window. The soak counts complete minutes by
    /// itself, so that only its pass is taken back.
    pub(super) fn temper(&self, reading: &mut Reading, tick: TickLength) {
        let can_stand = match reading.gate {
            Gate::Soak => reading.verdict != Verdict::Pass,
            _ => matches!(reading.verdict, Verdict::Fail | Verdict::NoData),
        };
        if self.is_complete() || can_stand {
            return;
        }
        let mut parts = Vec::with_capacity(2);
        if self.dropped > 0 {
            let are = if self.dropped == 1 { "was" } else { "were" };
            parts.push(format!("{} {are} dropped", wording::counted(self.dropped, "record")));
        }
        if self.missing_minutes > 0 {
            let are = if self.missing_minutes == 1 { "is" } else { "are" };
            parts.push(format!(
                "{} {are} missing",
                wording::counted(self.missing_minutes, wording::tick(tick))
            ));
        }
        let since = self
            .since
            .map_or_else(String::new, |minute| format!(" since {}", wording::time(minute, tick)));
        reading.verdict = Verdict::Inconclusive;
        reading.sentence = format!("the window is incomplete: {}{since}", parts.join(" and "));
        reading.waits_for = Some("a new window, in which nothing is lost".to_owned());
    }
}
