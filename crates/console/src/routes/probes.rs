//! What machines ask: is it alive, should it be sent traffic, what are its numbers.
//!
//! None of these waits for the store, the service or a worker.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use prometheus_client::encoding::text::encode;

use super::Sources;
use crate::exposition::{Exposition, to_prometheus};
use crate::problem::Problem;

/// Alive: the process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 where every check passes, else 503; the checks as JSON where the client accepts it, as
/// text for a terminal.
pub(super) async fn readyz(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    let readiness = (sources.ready)();
    let status =
        if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("application/json")) {
        let body = serde_json::json!({
            "ready": readiness.is_ready(),
            "checks": readiness.checks,
        });
        (status, Json(body)).into_response()
    } else {
        (status, readiness.to_text()).into_response()
    }
}

/// Every metric, in the form that the scraper asks for.
pub(super) async fn metrics(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    let exposition = Exposition::for_accept(headers.get_all(header::ACCEPT));
    let mut text = String::new();
    if encode(&mut text, &sources.registry).is_err() {
        let detail = "a metric could not be encoded; the log may say which";
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response();
    }
    let text = match exposition {
        Exposition::OpenMetrics => text,
        Exposition::Prometheus => to_prometheus(&text),
    };
    ([(header::CONTENT_TYPE, exposition.content_type())], text).into_response()
}
