//! The pages.

use axum::extract::State;
use axum::response::{Html, IntoResponse};
use http::{StatusCode, Uri};

use super::{Sources, api};
use crate::page;
use crate::page::{consumers, requests, rollout, rollouts};
use crate::problem::Problem;
use crate::query::{CONSUMER_FILTERS, Query, REQUEST_FILTERS, RULE_FILTERS};

pub(super) async fn overview(State(sources): State<Sources>) -> Html<String> {
    let live = sources.live();
    Html(sources.overview(&live, page::overview::render).await)
}

/// All rules, or one by `rule=csrf`, with a page of its history.
pub(super) async fn rules(
    State(sources): State<Sources>,
    uri: Uri,
) -> Result<Html<String>, Problem> {
    let query = Query::of(&uri, RULE_FILTERS);
    let filter = query.history_filter().map_err(Problem::bad_query)?;
    let (live, rules) = (sources.live(), sources.control.standings());
    let Some(name) = filter.rule.clone() else {
        return Ok(Html(rollouts::render(&rollouts::Shown { live: &live, rules: &rules })));
    };
    let Some(rule) = rules.iter().find(|rule| rule.rule == name) else {
        let detail = format!("there is no rule {name:?}; /rules lists all of them");
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let is_first_page = filter.before.is_none();
    let moves = sources.receipts.moves(filter).await;
    let now_unix_ms = api::now_unix_ms();
    let shown = rollout::Shown { live: &live, rule: Some(rule), now_unix_ms };
    Ok(Html(rollout::render(&shown, &name, &moves, is_first_page)))
}

pub(super) async fn requests(State(sources): State<Sources>, uri: Uri) -> impl IntoResponse {
    let query = Query::of(&uri, REQUEST_FILTERS);
    let (status, found) = match query.clone().request_filter(api::now_unix_ms()) {
        Err(faults) => (StatusCode::BAD_REQUEST, requests::Found::Faults(faults)),
        Ok(filter) => match sources.evidence.requests(filter).await {
            Ok(page) => (StatusCode::OK, requests::Found::Page(page)),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, requests::Found::Failed(error)),
        },
    };
    let service = &sources.live().gateway.service;
    (status, Html(requests::render(service, &query, &found)))
}

pub(super) async fn consumers(State(sources): State<Sources>, uri: Uri) -> impl IntoResponse {
    let query = Query::of(&uri, CONSUMER_FILTERS);
    let (status, found) = match query.clone().consumer_filter(api::now_unix_ms()) {
        Err(faults) => (StatusCode::BAD_REQUEST, consumers::Found::Faults(faults)),
        Ok(filter) => match sources.evidence.consumers(filter).await {
            Ok(page) => (StatusCode::OK, consumers::Found::Page(Box::new(page))),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, consumers::Found::Failed(error)),
        },
    };
    let service = &sources.live().gateway.service;
    (status, Html(consumers::render(service, &query, &found)))
}
