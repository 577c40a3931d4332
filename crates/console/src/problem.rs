//! What the console answers when it cannot do what was asked: RFC 9457, or a small page for a
//! browser that navigates.
//!
//! The gateway's own catalogue is not used here: its codes are for clients of the service, and
//! these are for operators.

use axum::Json;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{DOCTYPE, html};
use seaworthy_policy::problem::{FieldError, Rendering};
use serde::Serialize;

/// One refusal or failure of the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    r#type: &'static str,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    detail: String,
    /// The parts of the request that are at fault: `query:<name>`, `header:<name>`, or a JSON
    /// Pointer into the body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            r#type: "about:blank",
            // With `about:blank`, the title is the status's own (RFC 9457, 4.2.1).
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// A request whose query says what cannot be done.
    pub(crate) fn bad_query(errors: Vec<FieldError>) -> Self {
        let names: Vec<_> = errors.iter().map(|error| error.detail.as_str()).collect();
        let detail = names.join("; ");
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }

    /// A refusal with its reasons one by one.
    pub(crate) fn faulty(
        status: StatusCode,
        detail: impl Into<String>,
        errors: Vec<FieldError>,
    ) -> Self {
        Self { errors, ..Self::new(status, detail) }
    }

    /// Words the problem for whoever sent the request with these headers.
    pub(crate) fn render(&self, headers: &HeaderMap) -> Response {
        match Rendering::for_request(headers) {
            Rendering::Json => self.clone().into_response(),
            Rendering::Html => {
                let page = html! {
                    (DOCTYPE)
                    html lang="en" {
                        head {
                            meta charset="utf-8";
                            meta name="viewport" content="width=device-width, initial-scale=1";
                            title { (self.title) " · Seaworthy" }
                            link rel="stylesheet" href="/assets/console.css";
                        }
                        body.problem {
                            main {
                                h1 { (self.title) }
                                p { (self.detail) }
                                p { a href="/" { "To the console" } }
                            }
                        }
                    }
                };
                (self.status, Html(page.into_string())).into_response()
            }
        }
    }
}

impl IntoResponse for Problem {
    /// The JSON form; the guard turns it into a page where a browser navigates.
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self)).into_response();
        let content_type = HeaderValue::from_static(Rendering::Json.content_type());
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response.extensions_mut().insert(self);
        response
    }
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
