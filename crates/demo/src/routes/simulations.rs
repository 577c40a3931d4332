//! `/api/simulations`: how long customers would wait with so many agents. A slow job: 50 ms for
//! each step of `size`, so 50 to 500 ms.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::{Method, StatusCode};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Route;
use super::error::ApiError;
use super::field::{Text, Whole};
use super::request::{Body, Id, Tenant};
use crate::random::Random;
use crate::store::Store;

/// What one step of `size` takes.
const STEP: Duration = Duration::from_millis(50);

/// How many customers one step of `size` simulates.
const STEP_CUSTOMERS: i64 = 500;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/api/simulations", create),
        Route::new(Method::GET, "/api/simulations/{id}", show),
    ]
}

#[derive(Debug, Serialize)]
struct Simulation {
    id: i64,
    name: String,
    agents: i64,
    size: i64,
    wait_minutes_mean: f64,
    created_at: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSimulation {
    name: Text<100>,
    agents: Whole<1, 50>,
    size: Whole<1, 10>,
}

async fn create(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Body(new): Body<NewSimulation>,
) -> Result<(StatusCode, Json<Simulation>), ApiError> {
    let (agents, size) = (new.agents.get(), new.size.get());
    let wait_minutes_mean = wait_minutes_mean(agents, size * STEP_CUSTOMERS);
    // The arithmetic is quick; what makes a slow job slow elsewhere is stood in for by waiting,
    // so that the service stays light beside whatever is measured in front of it.
    tokio::time::sleep(STEP * size as u32).await;
    let insert = move |connection: &mut Connection| {
        connection
            .prepare_cached(
                "INSERT INTO simulations (tenant, name, agents, size, wait_minutes_mean)
                 VALUES (?1, ?2, ?3, ?4, ?5) RETURNING *",
            )?
            .query_row(
                params![tenant, new.name.as_str(), agents, size, wait_minutes_mean],
                simulation,
            )
    };
    Ok((StatusCode::CREATED, Json(store.run(insert).await?)))
}

async fn show(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Id(id): Id,
) -> Result<Json<Simulation>, ApiError> {
    let select = move |connection: &mut Connection| {
        connection
            .prepare_cached("SELECT * FROM simulations WHERE tenant = ?1 AND id = ?2")?
            .query_row(params![tenant, id], simulation)
            .optional()
    };
    store.run(select).await?.map(Json).ok_or_else(|| ApiError::missing("simulation"))
}

/// Customers come every 0 to 6 minutes and keep an agent for 0 to 10.
fn wait_minutes_mean(agents: i64, customers: i64) -> f64 {
    let mut random = Random::new(agents as u64, customers as u64);
    let mut free_at = vec![0.0_f64; agents as usize];
    let (mut now, mut waited) = (0.0_f64, 0.0_f64);
    for _ in 0..customers {
        now += random.below(6000) as f64 / 1000.0;
        let first = free_at.iter_mut().min_by(|a, b| a.total_cmp(b));
        let free_at = first.expect("there is at least one agent");
        waited += (*free_at - now).max(0.0);
        *free_at = free_at.max(now) + random.below(10_000) as f64 / 1000.0;
    }
    waited / customers as f64
}

fn simulation(row: &Row<'_>) -> rusqlite::Result<Simulation> {
    Ok(Simulation {
        id: row.get("id")?,
        name: row.get("name")?,
        agents: row.get("agents")?,
        size: row.get("size")?,
        wait_minutes_mean: row.get("wait_minutes_mean")?,
        created_at: row.get("created_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_agents_mean_shorter_waits_and_the_same_question_has_one_answer() {
        let waits = [1, 2, 4, 50].map(|agents| wait_minutes_mean(agents, 1000));
        assert!(waits.is_sorted_by(|more, less| more >= less), "{waits:?}");
        assert!(waits[0] > 100.0 && waits[3] < 0.001, "{waits:?}");
        assert_eq!(waits[1].to_bits(), wait_minutes_mean(2, 1000).to_bits());
    }
}
