//! The page's own files, compiled in.
//!
//! They are revalidated on each use: an operator who upgrades sees the new ones at once.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;

const CSS: &str = include_str!("../page/console.css");
const JS: &str = include_str!("../page/console.js");
const ICON: &str = include_str!("../page/icon.svg");

pub(super) fn router() -> Router {
    Router::new()
        .route("/assets/console.css", get(|| file("text/css; charset=utf-8", CSS)))
        .route("/assets/console.js", get(|| file("text/javascript; charset=utf-8", JS)))
        .route("/assets/icon.svg", get(|| file("image/svg+xml", ICON)))
}

async fn file(content_type: &'static str, bytes: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")], bytes)
}
