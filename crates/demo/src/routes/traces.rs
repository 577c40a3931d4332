//! `/api/traces`: uploaded records of steps, up to many megabytes each. Their texts are read and
//! measured, and not kept.

use axum::Json;
use axum::extract::State;
use http::{Method, StatusCode};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::Route;
use super::error::ApiError;
use super::field::{Items, Limit, PAGE_LEN, Page, Text, Whole};
use super::request::{Body, Filter, Tenant};
use crate::store::Store;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/api/traces", list),
        Route::new(Method::POST, "/api/traces", create),
    ]
}

#[derive(Debug, Serialize)]
struct Trace {
    id: i64,
    name: String,
    steps: i64,
    /// Of the steps' texts.
    bytes: i64,
    /// Of all steps.
    duration_ms: i64,
    created_at: String,
}

/// Newest first; `before` is the `next` of the page before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceFilter {
    before: Option<i64>,
    limit: Option<Limit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTrace {
    name: Text<200>,
    steps: Items<Step, 10_000>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    text: Text<100_000>,
    /// Up to a day.
    duration_ms: Whole<0, 86_400_000>,
}

async fn list(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Filter(filter): Filter<TraceFilter>,
) -> Result<Json<Page<Trace, i64>>, ApiError> {
    let limit = filter.limit.map_or(PAGE_LEN, Limit::get);
    let select = move |connection: &mut Connection| {
        connection
            .prepare_cached(
                "SELECT * FROM traces WHERE tenant = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
            )?
            .query_map(params![tenant, filter.before.unwrap_or(i64::MAX), limit + 1], trace)?
            .collect()
    };
    let traces: Vec<Trace> = store.run(select).await?;
    Ok(Json(Page::new(traces, limit, |trace| trace.id)))
}

async fn create(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Body(new): Body<NewTrace>,
) -> Result<(StatusCode, Json<Trace>), ApiError> {
    let steps = new.steps.as_slice();
    let bytes: usize = steps.iter().map(|step| step.text.as_str().len()).sum();
    let duration_ms: i64 = steps.iter().map(|step| step.duration_ms.get()).sum();
    let values = (steps.len() as i64, bytes as i64, duration_ms);
    let insert = move |connection: &mut Connection| {
        let (steps, bytes, duration_ms) = values;
        connection
            .prepare_cached(
                "INSERT INTO traces (tenant, name, steps, bytes, duration_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5) RETURNING *",
            )?
            .query_row(params![tenant, new.name.as_str(), steps, bytes, duration_ms], trace)
    };
    Ok((StatusCode::CREATED, Json(store.run(insert).await?)))
}

fn trace(row: &Row<'_>) -> rusqlite::Result<Trace> {
    Ok(Trace {
        id: row.get("id")?,
        name: row.get("name")?,
        steps: row.get("steps")?,
        bytes: row.get("bytes")?,
        duration_ms: row.get("duration_ms")?,
        created_at: row.get("created_at")?,
    })
}
