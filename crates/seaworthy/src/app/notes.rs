//! Writes the workers' notes to the log, as many as a person can read.
//!
//! 1. Up to 10 a minute of each rule are written, and of each code of the gateway's own.
//! 2. Above that every second one, then every fourth, and so on: the k-th note of a minute is
//!    written where k is 10 times a power of two.
//! 3. What is left out is counted, in the metric and in the first line of the next minute.

use std::collections::HashMap;

use prometheus_client::metrics::counter::Counter;
use seaworthy_policy::problem::Code;
use seaworthy_policy::record::RuleId;
use seaworthy_proxy::{Note, NoteSource};

/// Notes of one source that are all written, a minute.
const WHOLE_PER_MINUTE: u64 = 10;

/// Decides which notes are written.
#[derive(Debug, Default)]
pub(crate) struct NoteLog {
    minute: i64,
    sources: HashMap<Source, Tally>,
    /// Notes left out since start.
    pub(crate) suppressed: Counter,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Source {
    Rule(RuleId),
    Gateway(Code),
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    seen: u64,
    left_out: u64,
    left_out_before: u64,
}

impl NoteLog {
    /// Writes `note`, or counts it; returns whether it was written. `minute` is Unix time.
    pub(crate) fn write(&mut self, note: &Note, minute: i64) -> bool {
        let admitted = self.admit(source(note), minute);
        if let Some(left_out) = admitted {
            emit(note, left_out);
        }
        admitted.is_some()
    }

    /// Whether the next note of `source` is written, and how many were left out before it.
    fn admit(&mut self, source: Source, minute: i64) -> Option<u64> {
        if minute != self.minute {
            self.minute = minute;
            self.sources.retain(|_, tally| tally.seen > 0);
            for tally in self.sources.values_mut() {
                *tally = Tally { left_out_before: tally.left_out, ..Tally::default() };
            }
        }
        let tally = self.sources.entry(source).or_default();
        tally.seen += 1;
        let over = tally.seen / WHOLE_PER_MINUTE;
        let whole = tally.seen <= WHOLE_PER_MINUTE;
        if whole || (tally.seen.is_multiple_of(WHOLE_PER_MINUTE) && over.is_power_of_two()) {
            return Some(std::mem::take(&mut tally.left_out_before));
        }
        tally.left_out += 1;
        self.suppressed.inc();
        None
    }
}

fn source(note: &Note) -> Source {
    match &note.source {
        NoteSource::Rule { id, .. } => Source::Rule(*id),
        NoteSource::Gateway => Source::Gateway(note.code),
    }
}

fn emit(note: &Note, left_out: u64) {
    let (code, detail) = (note.code.name(), note.internal.as_str());
    let (request, client) = (note.request.as_str(), note.client);
    let (tenant, path) = (note.tenant.as_str(), note.path.as_str());
    let places = note.objection.places();
    let at = (!places.is_empty()).then_some(places.as_str());
    match &note.source {
        NoteSource::Rule { name, denied: true, .. } => tracing::info!(
            rule = %name, code, detail, at, request, %client, tenant, path, left_out, "denied"
        ),
        NoteSource::Rule { name, denied: false, .. } => tracing::info!(
            rule = %name, code, detail, at, request, %client, tenant, path, left_out, "would deny"
        ),
        NoteSource::Gateway => tracing::warn!(
            code, detail, request, %client, tenant, path, left_out, "request failed"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_minute_are_whole_then_fewer_and_fewer() {
        let mut log = NoteLog::default();
        let source = Source::Gateway(Code::MalformedRequest);
        let written: Vec<u64> = (1..=100).filter(|_| log.admit(source, 1).is_some()).collect();
        assert_eq!(written, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 40, 80]);
        assert_eq!(log.suppressed.get(), 87);
        assert_eq!(log.admit(source, 2), Some(87), "the next minute says what was left out");
        assert_eq!(log.admit(source, 2), Some(0));
        assert_eq!(log.admit(Source::Rule(RuleId(3)), 2), Some(0), "each source on its own");
    }
}
