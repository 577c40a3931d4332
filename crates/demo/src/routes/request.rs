//! What a handler takes from a request, with this service's own errors where it is not there.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Whose data is asked for: `x-tenant-id`, or `public`.
#[derive(Debug)]
pub(crate) struct Tenant(pub(crate) String);

const TENANT_LEN_MAX: usize = 48;

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("x-tenant-id") else {
            return Ok(Self("public".to_owned()));
        };
        let name = value.to_str().unwrap_or_default();
        if is_slug(name, TENANT_LEN_MAX) {
            Ok(Self(name.to_owned()))
        } else {
            Err(ApiError::out_of_bounds(
                "x-tenant-id: expected 1 to 48 lower-case letters, digits and hyphens",
            ))
        }
    }
}

/// Lower-case letters, digits and hyphens, 1 to `len_max` of them.
pub(crate) fn is_slug(text: &str, len_max: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=len_max).contains(&text.len()) && text.bytes().all(plain)
}

/// The number in the path. Where it is no number, there can be no such thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub(crate) i64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<i64>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(ApiError::missing("number")),
        }
    }
}

/// The query, read into a `T`.
#[derive(Debug)]
pub(crate) struct Filter<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Filter<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(filter)) => Ok(Self(filter)),
            Err(rejection) => Err(ApiError::out_of_bounds(rejection.body_text())),
        }
    }
}

/// The JSON body, read into a `T`.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(ApiError::new(rejection.status(), rejection.body_text())),
        }
    }
}
