//! What the processes before this one have left: where the rules stood, and the evidence that was
//! written down.
//!
//! 1. Where the rules stood is of the ledger. Without it nobody knows, and every rule is in `warn`.
//! 2. Evidence is of the telemetry, tick by tick, with the gaps that were written beside it. What
//!    comes from the future is not taken, and nobody saw the time in between green.

use std::collections::BTreeMap;

use seaworthy_policy::evidence::{Lane, RuleEvidence};
use seaworthy_policy::gates::minute::Minute;
use seaworthy_policy::record::RouteId;
use seaworthy_store::ledger::LeafRow;
use seaworthy_store::telemetry::TelemetryReader;

use super::{Engine, Visits};
use crate::app::audit::Auditor;
use crate::app::book::Standings;

/// What is known of the processes before this one.
pub(in crate::app) struct Known {
    pub(in crate::app) standings: Standings,
    /// Whether the last one closed its files.
    pub(in crate::app) was_closed: bool,
    /// Whether this is all there is: without a ledger nobody knows.
    pub(in crate::app) is_known: bool,
}

/// Entries of the audit log among which the end of the process before this one is looked for.
const LEAVES_LOOKED_AT: u32 = 1000;

/// Reads where the rules stood.
pub(in crate::app) async fn known(audit: &Auditor) -> Known {
    let nothing = Known { standings: Standings::default(), was_closed: true, is_known: false };
    let Some(ledger) = audit.ledger() else {
        tracing::error!("without a ledger every rule with mode \"auto\" is in warn");
        return nothing;
    };
    let reader = ledger.reader().clone();
    let read = tokio::task::spawn_blocking(move || {
        let standings = Standings::new(reader.standings()?);
        // What operators have had written since, while there was no gateway, is behind its end.
        let last = reader.tail(LEAVES_LOOKED_AT)?;
        let own = last.iter().rev().find(|row| row.leaf.contains(r#""action":"gateway."#));
        let ended = |row: &LeafRow| row.leaf.contains(r#""action":"gateway.stop""#);
        // A log with nothing but its key is a new one.
        let was_closed = reader.summary()?.leaves <= 1 || own.is_some_and(ended);
        Ok::<_, seaworthy_store::StoreError>(Known { standings, was_closed, is_known: true })
    });
    match read.await {
        Ok(Ok(known)) => known,
        Ok(Err(error)) => {
            tracing::error!(%error, "where the rules stood cannot be read: they are in warn");
            nothing
        }
        Err(error) => {
            tracing::error!(%error, "where the rules stood was not read: they are in warn");
            nothing
        }
    }
}

/// What is read of the evidence of before, at most.
const REPLAYED_MS: i64 = 90 * 24 * 3600 * 1000;

/// Ticks of which all evidence is in memory at once: a day, where a tick is a minute.
const TICKS_AT_ONCE: i64 = 1440;

impl Engine {
    /// Takes up the evidence that the processes before this one have written down.
    pub(super) fn replay(
        &mut self,
        reader: &TelemetryReader,
    ) -> Result<(), seaworthy_store::StoreError> {
        let Some(since) = self.tracks.values().map(|track| track.of.window_unix_ms).min() else {
            return Ok(());
        };
        const DAY_MS: i64 = 24 * 3600 * 1000;
        const WEEK_MS: i64 = 7 * DAY_MS;
        let now = self.book.now_unix_ms();
        let since = since.max(now - REPLAYED_MS);
        let gaps: BTreeMap<i64, u64> = reader.evidence_gaps(since)?.into_iter().collect();
        // The tick in which this process began is not whole, and those before in which there was
        // nothing are: what was not there to be asked was not asked.
        let present = self.scale.minute(now);
        let mut next = self.scale.minute(since).0;
        while next <= present.0 {
            let some = next..next.saturating_add(TICKS_AT_ONCE).min(present.0 + 1);
            next = some.end;
            // The clock may have been set back since: what comes from the future is not taken.
            let [from, to] = [some.start, some.end.min(present.0)]
                .map(|tick| self.scale.tick.unix_ms(Minute(tick)));
            let mut ticks = BTreeMap::<Minute, BTreeMap<(String, Lane), RuleEvidence>>::new();
            for stored in reader.evidence(from..to)? {
                let tick = ticks.entry(self.scale.minute(stored.start_unix_ms)).or_default();
                tick.insert((stored.rule, stored.lane), stored.evidence);
            }
            for minute in some.map(Minute) {
                let stored = ticks.remove(&minute).unwrap_or_default();
                let dropped = gaps.get(&self.scale.tick.unix_ms(minute)).copied().unwrap_or(0);
                for (key, track) in &mut self.tracks {
                    let evidence = stored.get(key);
                    track.tick(minute, evidence, dropped, (&self.scale, &mut self.clients));
                }
            }
        }
        for pair in reader.pairs(now - WEEK_MS)? {
            let route =
                pair.route.as_deref().map_or(RouteId(0), |name| self.names.intern_route(name));
            if let Some(client) = pair.client {
                self.clients.name(client, "");
            }
            let day = pair.day_unix_ms.div_euclid(DAY_MS);
            let requests = u32::try_from(pair.requests).unwrap_or(u32::MAX);
            let when = Visits::Day { last_unix_ms: pair.last_unix_ms };
            self.visit(when, day, pair.client, route, requests);
        }
        self.newest = Some(present);
        // Nobody saw the time until now green.
        for track in self.tracks.values_mut() {
            track.interrupted();
        }
        Ok(())
    }
}
