//! `/api/grading`: how well an agent's answer covers a rubric. A slow job: 80 ms and 16 ms for
//! each point of the rubric, so 96 to 400 ms.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::{Method, StatusCode};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::Route;
use super::error::ApiError;
use super::field::{Items, Text};
use super::request::{Body, Tenant};
use crate::store::Store;

const BASE: Duration = Duration::from_millis(80);
const POINT: Duration = Duration::from_millis(16);

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new(Method::POST, "/api/grading", create)]
}

type Point = Text<100>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewGrading {
    answer: Text<8000>,
    /// What a good answer mentions.
    rubric: Items<Point, 20>,
}

#[derive(Debug, Serialize)]
struct Grading {
    id: i64,
    /// The share of the rubric that is mentioned, 0 to 100.
    score: i64,
    missing: Vec<Point>,
    created_at: String,
}

async fn create(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Body(new): Body<NewGrading>,
) -> Result<(StatusCode, Json<Grading>), ApiError> {
    let points = new.rubric.as_slice().len();
    let missing = missing(&new);
    let score = (100 * (points - missing.len()) / points) as i64;
    // As with simulations: the waiting stands in for the work.
    tokio::time::sleep(BASE + POINT * points as u32).await;
    let insert = move |connection: &mut Connection| {
        connection
            .prepare_cached(
                "INSERT INTO gradings (tenant, score) VALUES (?1, ?2) RETURNING id, created_at",
            )?
            .query_row(params![tenant, score], |row| Ok((row.get(0)?, row.get(1)?)))
    };
    let (id, created_at) = store.run(insert).await?;
    Ok((StatusCode::CREATED, Json(Grading { id, score, missing, created_at })))
}

/// The rubric's points that the answer does not mention, whatever their case.
fn missing(new: &NewGrading) -> Vec<Point> {
    let answer = new.answer.as_str().to_lowercase();
    let mentioned = |point: &Point| answer.contains(&point.as_str().to_lowercase());
    new.rubric.as_slice().iter().filter(|point| !mentioned(point)).cloned().collect()
}
