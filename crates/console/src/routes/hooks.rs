//! What other programs tell the gateway: alerts that take a rule back to `warn`.
//!
//! 1. The sender proves itself before anything of the body is believed: 401. Where nobody may send
//!    alerts, the path is not there: 404, and the problem says which settings are missing.
//! 2. A body of more than a mebibyte is refused: 413. One that is no JSON, or ends early: 400. One
//!    that is no payload of a sender that is known: 422, and none of it has an effect.
//! 3. 2xx is said only once each firing alert has taken effect and is on the disk. Where that fails
//!    it is 503, and the sender comes again; what had taken effect does not do so twice.
//! 4. An alert that fires and names no rule, or one that is not there, would else have no effect
//!    and nobody would know: 422, and the others of its delivery take effect first. Senders do not
//!    repeat that at once, and count it as failed.
//! 5. Resolved alerts do nothing. Nothing that comes here promotes a rule.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use seaworthy_policy::alert::{BODY_BYTES_MAX, Delivery, Demotion, PayloadError, Proof};
use seaworthy_policy::problem::FieldError;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::alerts::{AlertInputs, NotKept, Outcome, Taken};
use crate::problem::Problem;

/// Where alerts are sent.
pub(crate) const ALERTS: &str = "/api/v1/hooks/alerts";

/// Deliveries that are held at once; further ones wait, as long as an answer may take. A sender has
/// one under way for each group, and forms groups of them by the ten seconds.
const DELIVERIES_MAX: usize = 8;

/// What a sender is asked to wait that does not know better.
const RETRY_AFTER_S: &str = "5";

/// Faults of one delivery that are listed; the detail has the number of all.
const FAULTS_SHOWN_MAX: usize = 20;

/// What a delivery did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Effects {
    /// Alerts that took a rule back now.
    demoted: usize,
    /// Alerts on rules that denied nobody as they were.
    held: usize,
    /// Alerts that had their effect before.
    known: usize,
    /// Alerts that are over, and do nothing.
    resolved: usize,
}

/// Why a delivery is refused.
#[derive(Debug)]
enum Refused {
    NotConfigured,
    Unproven(String),
    TooLarge,
    Torn(String),
    NotJson(PayloadError),
    NoPayload(PayloadError),
    /// Some alerts had no effect, and so many did.
    Partly(Effects, Vec<FieldError>, u64),
    NotKept(NotKept),
}

/// What the handler needs. Clones share it.
#[derive(Clone)]
pub(super) struct Hooks {
    inputs: AlertInputs,
    room: Arc<Semaphore>,
}

impl Hooks {
    pub(super) fn new(inputs: AlertInputs) -> Self {
        Self { inputs, room: Arc::new(Semaphore::new(DELIVERIES_MAX)) }
    }
}

pub(super) async fn alerts(State(hooks): State<Hooks>, request: Request) -> Response {
    let answer = take(&hooks, request).await;
    hooks.inputs.metrics.count(match &answer {
        Ok(_) => "taken",
        Err(refused) => refused.result(),
    });
    match answer {
        Ok(effects) => Json(effects).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn take(hooks: &Hooks, request: Request) -> Result<Effects, Refused> {
    let inputs = &hooks.inputs;
    let intake = inputs.intake.borrow().clone().ok_or(Refused::NotConfigured)?;
    let (head, body) = request.into_parts();
    let unproven =
        |error: seaworthy_policy::alert::ProofError| Refused::Unproven(error.to_string());
    let claim = intake.proofs.claim(&head.headers, now_unix_s()).map_err(unproven)?;
    let _room = hooks.room.acquire().await.expect("it is never closed");
    let body = read(body).await?;
    let proof = intake.proofs.verify(claim, &body).map_err(unproven)?;
    let delivery = Delivery::parse(&body, &intake.label).map_err(|error| match error {
        PayloadError::NotJson(_) => Refused::NotJson(error),
        _ => Refused::NoPayload(error),
    })?;
    // The largest part of what is held, and not needed any more.
    drop(body);
    effect(inputs, delivery, &proof).await
}

async fn read(body: axum::body::Body) -> Result<Bytes, Refused> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refused::TooLarge),
        Err(error) => Err(Refused::Torn(error.to_string())),
    }
}

/// Makes every firing alert take effect that can, then says which could not.
async fn effect(
    inputs: &AlertInputs,
    delivery: Delivery,
    proof: &Proof,
) -> Result<Effects, Refused> {
    let (count, left_off) = (delivery.alerts.len(), delivery.left_off);
    let (mut places, mut demotions, mut faults) = (Vec::new(), Vec::<Demotion>::new(), Vec::new());
    for (index, asked) in delivery.firing(proof) {
        match asked {
            Ok(demotion) => {
                places.push((index, demotion.target.to_string(), demotion.sentence.clone()));
                demotions.push(demotion);
            }
            Err(error) => faults.push(fault(index, error.to_string())),
        }
    }
    let mut effects =
        Effects { resolved: count - demotions.len() - faults.len(), ..Effects::default() };
    let Taken(outcomes) = match demotions.is_empty() {
        true => Taken::default(),
        false => inputs.sink.take(demotions).await.map_err(Refused::NotKept)?,
    };
    if outcomes.len() != places.len() {
        let (said, asked) = (outcomes.len(), places.len());
        let why = format!("of {asked} alerts only {said} are known to have been kept");
        return Err(Refused::NotKept(NotKept(why)));
    }
    for ((index, target, sentence), outcome) in places.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Demoted => {
                tracing::warn!(%target, "an alert took a rule back to warn: {sentence}");
                effects.demoted += 1;
            }
            Outcome::Held => {
                tracing::info!(%target, "an alert holds a rule: {sentence}");
                effects.held += 1;
            }
            Outcome::Known => effects.known += 1,
            Outcome::NoSuchRule => {
                faults.push(fault(index, format!("there is no rule {target} in the config")));
            }
        }
    }
    if faults.is_empty() && left_off == 0 {
        return Ok(effects);
    }
    Err(Refused::Partly(effects, faults, left_off))
}

fn fault(index: usize, detail: String) -> FieldError {
    FieldError::new(format!("/alerts/{index}/labels"), detail)
}

impl Refused {
    /// The label of the metric.
    const fn result(&self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::Unproven(_) => "unproven",
            Self::TooLarge => "too_large",
            Self::Torn(_) | Self::NotJson(_) | Self::NoPayload(_) => "malformed",
            Self::Partly(..) => "partly",
            Self::NotKept(_) => "not_kept",
        }
    }

    fn into_response(self) -> Response {
        let (status, detail, errors) = match self {
            Self::NotConfigured => (
                StatusCode::NOT_FOUND,
                "nobody may send alerts: name a secret in the config, such as [alerts] secrets = \
                 [\"env:ALERTS_SECRET\"], or a token, tokens = [\"env:ALERTS_TOKEN\"]"
                    .to_owned(),
                Vec::new(),
            ),
            Self::Unproven(why) => {
                (StatusCode::UNAUTHORIZED, format!("the sender is not proven: {why}"), Vec::new())
            }
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a delivery has at most {} KiB", BODY_BYTES_MAX >> 10),
                Vec::new(),
            ),
            Self::Torn(why) => {
                (StatusCode::BAD_REQUEST, format!("the body did not come whole: {why}"), Vec::new())
            }
            Self::NotJson(why) => {
                (StatusCode::BAD_REQUEST, format!("the body was not taken: {why}"), Vec::new())
            }
            Self::NoPayload(why) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("the body was not taken: {why}"),
                Vec::new(),
            ),
            Self::Partly(effects, mut faults, left_off) => {
                let detail = partly(&effects, &faults, left_off);
                faults.truncate(FAULTS_SHOWN_MAX);
                (StatusCode::UNPROCESSABLE_ENTITY, detail, faults)
            }
            Self::NotKept(why) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the alert was not kept: {why}; send it again"),
                Vec::new(),
            ),
        };
        tracing::warn!(status = status.as_u16(), "a delivery of alerts was refused: {detail}");
        let mut response = Problem::faulty(status, detail, errors).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
            }
            _ => {}
        }
        response
    }
}

/// What had no effect, and what had.
fn partly(effects: &Effects, faults: &[FieldError], left_off: u64) -> String {
    let mut clauses = Vec::new();
    if let Some(first) = faults.first() {
        let others = match faults.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        clauses.push(format!("an alert has no effect: {}{others}", first.detail));
    }
    if left_off > 0 {
        clauses.push(format!(
            "the sender left off {left_off} alerts: raise its max_alerts, or group them apart"
        ));
    }
    let Effects { demoted, held, known, resolved: _ } = effects;
    clauses.push(format!(
        "of the others, {demoted} took a rule back, {held} hold one, {known} had their effect before"
    ));
    clauses.join("; ")
}

fn now_unix_s() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}
