//! The service's own errors: a status and `{"error": "…"}`.
//!
//! Not RFC 9457, on purpose: whoever reads an answer can tell by its shape who wrote it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use crate::store::StoreError;

#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    text: String,
}

#[derive(Serialize)]
struct Body {
    error: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// There is no such `thing`, or it is another tenant's.
    pub(crate) fn missing(thing: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {thing}"))
    }

    pub(crate) fn out_of_bounds(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "the service is stopping")
            }
            StoreError::Sqlite(error) => {
                tracing::error!(%error, "the help desk's database failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the database failed")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(Body { error: self.text })).into_response()
    }
}
