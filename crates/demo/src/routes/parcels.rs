//! `/api/hooks/parcels`: what the carrier's webhook says of parcels. Each event becomes a message
//! to everyone at the help desk. Whether it is the carrier who says so is not asked here.

use axum::extract::State;
use http::{Method, StatusCode};
use rusqlite::{Connection, params};
use serde::Deserialize;

use super::Route;
use super::error::ApiError;
use super::field::{Text, words};
use super::request::{Body, Tenant};
use crate::store::Store;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new(Method::POST, "/api/hooks/parcels", take)]
}

words!(Progress { Sent = "sent", Delivered = "delivered", Lost = "lost" });

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    parcel: Text<40>,
    state: Progress,
}

async fn take(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Body(event): Body<Event>,
) -> Result<StatusCode, ApiError> {
    let state = match event.state {
        Progress::Sent => "is on its way",
        Progress::Delivered => "has arrived",
        Progress::Lost => "is lost",
    };
    let text = format!("Parcel {} {state}.", event.parcel.as_str());
    let insert = move |connection: &mut Connection| {
        connection
            .prepare_cached(
                "INSERT INTO messages (tenant, sender, recipient, text)
                 VALUES (?1, 'carrier', 'everyone', ?2)",
            )?
            .execute(params![tenant, text])
    };
    store.run(insert).await?;
    Ok(StatusCode::NO_CONTENT)
}
