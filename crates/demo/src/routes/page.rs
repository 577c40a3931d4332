//! The page at `/`, the health probe, and the service's own description.
//!
//! The page has inline style and script, and its session cookie neither `SameSite` nor
//! `HttpOnly`: it is what a gateway's content policy and CSRF defence meet in real life.

use std::hash::{BuildHasher, RandomState};

use axum::Json;
use axum::extract::State;
use axum::response::{AppendHeaders, Html, IntoResponse, Response};
use http::{HeaderMap, Method, header};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::Route;
use super::error::ApiError;
use crate::openapi::DOCUMENT;
use crate::store::Store;

const PAGE: &str = include_str!("page.html");

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/", page),
        Route::new(Method::GET, "/healthz", health),
        Route::new(Method::GET, "/openapi.json", document),
    ]
}

/// The page, with a new session for whoever brings none.
async fn page(headers: HeaderMap) -> Response {
    if has_session(&headers) {
        return Html(PAGE).into_response();
    }
    // Random enough to tell visitors apart, which is all it is for.
    let [high, low] = [0, 1].map(|half| RandomState::new().hash_one(half));
    let cookie = format!("session={high:016x}{low:016x}; Path=/");
    (AppendHeaders([(header::SET_COOKIE, cookie)]), Html(PAGE)).into_response()
}

fn has_session(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .any(|cookie| cookie.trim().starts_with("session="))
}

/// Healthy where the database answers.
async fn health(State(store): State<Store>) -> Result<Json<Value>, ApiError> {
    let probe = |connection: &mut Connection| {
        connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))
    };
    store.run(probe).await?;
    Ok(Json(json!({ "status": "ok" })))
}

async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}
