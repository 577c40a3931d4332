//! The JSON API, version 1: the figures of the pages, for programs.
//!
//! Times are Unix time, in seconds or milliseconds as the name says; latencies are in
//! microseconds; shares are from 0 to 1.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use seaworthy_policy::quantity::Period;
use seaworthy_policy::registry::REGISTRY;
use seaworthy_store::telemetry::{
    ConsumersPage, RuleSummary, RulesSummary, StoreHealth, TimeRange,
};
use serde::Serialize;

use super::Sources;
use crate::evidence::EvidenceError;
use crate::live::{LiveView, RuleView};
use crate::problem::Problem;
use crate::query::{CONSUMER_FILTERS, Query, REQUEST_FILTERS, before};
use crate::readiness::Readiness;

#[derive(Serialize)]
struct Overview<'a> {
    ready: bool,
    readiness: &'a Readiness,
    #[serde(flatten)]
    live: &'a LiveView,
    /// Absent where the store is not open.
    store: Option<StoreHealth>,
}

/// Everything that the first page shows but the requests.
pub(super) async fn overview(State(sources): State<Sources>) -> Response {
    let live = sources.live();
    let readiness = (sources.ready)();
    let store = sources.evidence.health();
    Json(Overview { ready: readiness.is_ready(), readiness: &readiness, live: &live, store })
        .into_response()
}

#[derive(Serialize)]
struct Protections<'a> {
    /// Where the counts of the rules begin.
    since_unix_ms: i64,
    /// Records that are missing since then; above 0 the counts are no evidence of all traffic.
    records_dropped: u64,
    protections: Vec<ProtectionView<'a>>,
}

/// A protection as the registry knows it, with what its rules have said.
#[derive(Serialize)]
struct ProtectionView<'a> {
    name: &'static str,
    summary: &'static str,
    default_mode: String,
    default_mode_reason: &'static str,
    /// The codes that it can deny with.
    codes: Vec<&'static str>,
    rules: Vec<JudgedRule<'a>>,
}

#[derive(Serialize)]
struct JudgedRule<'a> {
    #[serde(flatten)]
    rule: &'a RuleView,
    sentence: String,
}

/// The registry in chain order, each protection with its rules; counted since the process
/// began, or, with `since=24h`, over that span as the store remembers it.
pub(super) async fn protections(
    State(sources): State<Sources>,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri, &["since"]);
    let since: Option<Period> = query.read("since");
    let since = query.checked(since).map_err(Problem::bad_query)?;
    let live = sources.live();
    let (since_unix_ms, records_dropped, rules) = match since {
        None => {
            (live.gateway.started_unix_s * 1000, live.gateway.records_dropped, live.rules.clone())
        }
        Some(since) => {
            let now_unix_ms = now_unix_ms();
            let since_unix_ms = before(now_unix_ms, since);
            let range = TimeRange { since_unix_ms, until_unix_ms: now_unix_ms };
            let RulesSummary { records_dropped, rules } = sources.evidence.rules(range).await?;
            let rules = live.rules.iter().map(|rule| remembered(rule, &rules)).collect();
            (since_unix_ms, records_dropped, rules)
        }
    };
    let protections = REGISTRY
        .iter()
        .map(|entry| ProtectionView {
            name: entry.name,
            summary: entry.summary,
            default_mode: entry.default_mode.to_string(),
            default_mode_reason: entry.default_mode_reason,
            codes: entry.codes.iter().map(|code| code.name()).collect(),
            rules: rules
                .iter()
                .filter(|rule| rule.protection == entry.name)
                .map(|rule| JudgedRule { rule, sentence: rule.sentence() })
                .collect(),
        })
        .collect();
    Ok(Json(Protections { since_unix_ms, records_dropped, protections }).into_response())
}

/// `rule` with the counts that the store has of it.
fn remembered(rule: &RuleView, summaries: &[RuleSummary]) -> RuleView {
    let summary = summaries.iter().find(|summary| summary.rule == rule.rule);
    let count = |count: fn(&RuleSummary) -> u64| summary.map_or(0, count);
    RuleView {
        evaluated: count(|summary| summary.evaluated),
        would_deny: count(|summary| summary.would_deny),
        denied: count(|summary| summary.denied),
        harm: count(|summary| summary.harm),
        ..rule.clone()
    }
}

/// One page of requests, newest first: `rows`, and `next` for the parameter `before` of the
/// next page.
pub(super) async fn requests(
    State(sources): State<Sources>,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query::of(&uri, REQUEST_FILTERS);
    let filter = query.request_filter(now_unix_ms()).map_err(Problem::bad_query)?;
    let page = sources.evidence.requests(filter).await?;
    Ok(Json(page).into_response())
}

#[derive(Serialize)]
struct Consumers {
    /// What the rule that was asked for means for them; absent where none was.
    sentence: Option<String>,
    #[serde(flatten)]
    page: ConsumersPage,
}

/// One page of clients, the busiest first or, with a rule, the most harmed: `rows`, and
/// `next` for the parameter `before` of the next page.
pub(super) async fn consumers(
    State(sources): State<Sources>,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query::of(&uri, CONSUMER_FILTERS);
    let filter = query.consumer_filter(now_unix_ms()).map_err(Problem::bad_query)?;
    let page = sources.evidence.consumers(filter).await?;
    Ok(Json(Consumers { sentence: page.sentence(), page }).into_response())
}

impl From<EvidenceError> for Problem {
    fn from(error: EvidenceError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

pub(super) fn now_unix_ms() -> i64 {
    let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
