//! The pages.

use axum::extract::State;
use axum::response::{Html, IntoResponse};
use http::{StatusCode, Uri};

use super::{Sources, api};
use crate::page;
use crate::page::requests::Found;
use crate::query::{Query, REQUEST_FILTERS};

pub(super) async fn overview(State(sources): State<Sources>) -> Html<String> {
    let live = sources.live();
    Html(sources.overview(&live, page::overview::render).await)
}

pub(super) async fn requests(State(sources): State<Sources>, uri: Uri) -> impl IntoResponse {
    let query = Query::of(&uri, REQUEST_FILTERS);
    let (status, found) = match query.clone().request_filter(api::now_unix_ms()) {
        Err(faults) => (StatusCode::BAD_REQUEST, Found::Faults(faults)),
        Ok(filter) => match sources.evidence.requests(filter).await {
            Ok(page) => (StatusCode::OK, Found::Page(page)),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Found::Failed(error)),
        },
    };
    let service = &sources.live().gateway.service;
    (status, Html(page::requests::render(service, &query, &found)))
}
