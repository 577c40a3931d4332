//! The pages.

use axum::extract::State;
use axum::response::{Html, IntoResponse};
use http::{StatusCode, Uri};

use super::{Sources, api};
use crate::page;
use crate::page::{consumers, requests};
use crate::query::{CONSUMER_FILTERS, Query, REQUEST_FILTERS};

pub(super) async fn overview(State(sources): State<Sources>) -> Html<String> {
    let live = sources.live();
    Html(sources.overview(&live, page::overview::render).await)
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
