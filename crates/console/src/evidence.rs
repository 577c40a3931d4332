//! What the store remembers, asked with care: a disk in trouble must not take the console along.
//!
//! Each question has a time limit, and only a few are under way at once: one that the disk
//! holds up keeps its place until it ends, so threads never pile up behind it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use seaworthy_store::StoreError;
use seaworthy_store::telemetry::{
    ConsumerFilter, ConsumersPage, Page, PageLimit, RequestFilter, RequestRow, RulesSummary,
    StoreHealth, Telemetry, TelemetryReader, TimeRange, VerdictFilter,
};
use tokio::sync::Semaphore;
use tokio::time;

/// Questions under way at once.
const QUESTIONS_MAX: usize = 4;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The store, where it is open. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    telemetry: Option<Telemetry>,
    places: Arc<Semaphore>,
}

/// Why there is no answer. Fits after "no requests to show: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EvidenceError {
    #[error("the telemetry store is not open; the gateway's log says why")]
    NotOpen,
    #[error("the telemetry store is busy; try again")]
    Busy,
    #[error("the telemetry store did not answer in time; try again, or ask for less")]
    TooSlow,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Evidence {
    pub(crate) fn new(telemetry: Option<Telemetry>) -> Self {
        Self { telemetry, places: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }

    /// How the store does; `None` where it is not open. Never waits.
    pub(crate) fn health(&self) -> Option<StoreHealth> {
        self.telemetry.as_ref().map(Telemetry::health)
    }

    /// One page of the list of requests.
    pub(crate) async fn requests(
        &self,
        filter: RequestFilter,
    ) -> Result<Page<RequestRow>, EvidenceError> {
        self.ask(move |reader| reader.requests(&filter)).await
    }

    /// One page of the list of clients.
    pub(crate) async fn consumers(
        &self,
        filter: ConsumerFilter,
    ) -> Result<ConsumersPage, EvidenceError> {
        self.ask(move |reader| reader.consumers(&filter)).await
    }

    /// The newest requests that a rule denied, or would have denied.
    pub(crate) async fn objections(
        &self,
        limit: PageLimit,
    ) -> Result<Vec<RequestRow>, EvidenceError> {
        self.ask(move |reader| {
            let newest = |verdict| {
                let filter =
                    RequestFilter { verdict: Some(verdict), limit, ..RequestFilter::default() };
                reader.requests(&filter).map(|page| page.rows)
            };
            Ok(merge(
                newest(VerdictFilter::Denied)?,
                newest(VerdictFilter::WouldDeny)?,
                usize::from(limit.get()),
            ))
        })
        .await
    }

    /// What the rules said in `range`.
    pub(crate) async fn rules(&self, range: TimeRange) -> Result<RulesSummary, EvidenceError> {
        self.ask(move |reader| reader.rules_summary(range)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&TelemetryReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, EvidenceError> {
        let telemetry = self.telemetry.as_ref().ok_or(EvidenceError::NotOpen)?;
        let place =
            Arc::clone(&self.places).try_acquire_owned().map_err(|_| EvidenceError::Busy)?;
        let answer = telemetry.reader().query(move |reader| {
            let _place = place;
            question(reader)
        });
        match time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(EvidenceError::TooSlow),
        }
    }
}

/// Two lists, each newest first, as one. A request that is in both is there once.
fn merge(left: Vec<RequestRow>, right: Vec<RequestRow>, limit: usize) -> Vec<RequestRow> {
    let mut rows = left;
    for row in right {
        if row.denied.is_empty() || !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows.sort_by_key(|row| Reverse(row.time_unix_ms));
    rows.truncate(limit);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(time_unix_ms: i64, denied: &[&str], would_deny: &[&str]) -> RequestRow {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        RequestRow {
            time_unix_ms,
            id: format!("r{time_unix_ms}"),
            duration_us: 0,
            upstream_us: 0,
            route: String::new(),
            method: "GET".to_owned(),
            status: 200,
            ending: "served".to_owned(),
            client: String::new(),
            tenant: None,
            path: "/".to_owned(),
            request_bytes: 0,
            response_bytes: 0,
            reason: None,
            would_deny: names(would_deny),
            denied: names(denied),
            upstream: None,
            weight: 1.0,
        }
    }

    #[test]
    fn objections_are_the_newest_of_both_kinds_once() {
        let both = row(30, &["a"], &["b"]);
        let denied = vec![both.clone(), row(10, &["a"], &[])];
        let would = vec![row(40, &[], &["b"]), both, row(20, &[], &["b"])];
        let times = |limit| -> Vec<i64> {
            merge(denied.clone(), would.clone(), limit).iter().map(|row| row.time_unix_ms).collect()
        };
        assert_eq!(times(10), [40, 30, 20, 10]);
        assert_eq!(times(2), [40, 30]);
        assert!(merge(Vec::new(), Vec::new(), 2).is_empty());
    }

    #[tokio::test]
    async fn a_store_that_is_not_open_says_so() {
        let evidence = Evidence::new(None);
        assert_eq!(evidence.health(), None);
        let requests = evidence.requests(RequestFilter::default()).await;
        assert_eq!(requests, Err(EvidenceError::NotOpen));
    }
}
