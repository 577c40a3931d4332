//! Where the rules stand, and what operators ask of them.
//!
//! Whoever reaches the console may ask: it listens on loopback, and has no login yet. A page of
//! another site cannot: its request names its origin, and JSON it may not send without being asked
//! first, to which nothing here says yes.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use seaworthy_policy::problem::FieldError;
use serde::Serialize;

use super::Sources;
use crate::control::{self, Refused, RuleStanding};
use crate::problem::Problem;
use crate::query::Query;

/// Bytes of what is asked for: a reason and two names.
const BODY_BYTES_MAX: usize = 16 * 1024;

#[derive(Serialize)]
struct Rules<'a> {
    /// The audit log of the gateway.
    log: Option<&'a str>,
    rules: Vec<RuleStanding>,
}

/// All rules, or one by `rule=csrf`.
pub(super) async fn list(State(sources): State<Sources>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::of(&uri, &["rule"]);
    let rule: Option<String> = query.read("rule");
    let rule = query.checked(rule).map_err(Problem::bad_query)?;
    let mut rules = sources.control.standings();
    if let Some(rule) = rule {
        rules.retain(|standing| standing.rule == rule);
        if rules.is_empty() {
            return Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no rule {rule:?}")));
        }
    }
    Ok(Json(Rules { log: sources.control.log(), rules }).into_response())
}

/// Does what an operator asks for.
pub(super) async fn ask(
    State(sources): State<Sources>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    from_here(&head.headers)?;
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body was not read: {error}"))
    })?;
    let asked: control::Request = serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        let detail = format!("the body is no request of an operator: {error}");
        let errors = vec![FieldError::new("/", error.to_string())];
        Problem::faulty(StatusCode::UNPROCESSABLE_ENTITY, detail, errors)
    })?;
    match sources.control.ask(asked).await {
        Ok(done) => Ok(Json(done).into_response()),
        Err(refused) => Err(problem(&refused)),
    }
}

fn problem(refused: &Refused) -> Problem {
    let status = match refused {
        Refused::NoSuchRule(_) => StatusCode::NOT_FOUND,
        Refused::NotNow(_) => StatusCode::CONFLICT,
        Refused::BadRequest(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::NotKept(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Problem::new(status, refused.to_string())
}

/// Refuses what a page of another site can send.
fn from_here(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = text(header::CONTENT_TYPE.as_str())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        let detail = "expected a body of application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let host = text(header::HOST.as_str());
    let is_own = |origin: &str| {
        origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host)
    };
    let is_foreign =
        headers.contains_key(header::ORIGIN) && !text(header::ORIGIN.as_str()).is_some_and(is_own);
    let is_cross_site =
        text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    if is_foreign || is_cross_site {
        let detail = "a page of another site asks for this, and may not";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(())
}
