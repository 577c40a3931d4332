//! `/api/messages`: what agents write to each other.

use axum::Json;
use axum::extract::State;
use http::{Method, StatusCode};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::Route;
use super::error::ApiError;
use super::field::{Limit, PAGE_LEN, Page, Text};
use super::request::{Body, Filter, Tenant};
use crate::store::Store;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/api/messages", list),
        Route::new(Method::POST, "/api/messages", create),
    ]
}

#[derive(Debug, Serialize)]
struct Message {
    id: i64,
    from: String,
    to: String,
    text: String,
    created_at: String,
}

/// Newest first; `before` is the `next` of the page before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageFilter {
    to: Option<Text<100>>,
    before: Option<i64>,
    limit: Option<Limit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    from: Text<100>,
    to: Text<100>,
    text: Text<4000>,
}

async fn list(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Filter(filter): Filter<MessageFilter>,
) -> Result<Json<Page<Message, i64>>, ApiError> {
    let limit = filter.limit.map_or(PAGE_LEN, Limit::get);
    let select = move |connection: &mut Connection| {
        let to = filter.to.as_ref().map(Text::as_str);
        connection
            .prepare_cached(
                "SELECT * FROM messages
                 WHERE tenant = ?1 AND id < ?2 AND (?3 IS NULL OR recipient = ?3)
                 ORDER BY id DESC LIMIT ?4",
            )?
            .query_map(params![tenant, filter.before.unwrap_or(i64::MAX), to, limit + 1], message)?
            .collect()
    };
    let messages: Vec<Message> = store.run(select).await?;
    Ok(Json(Page::new(messages, limit, |message| message.id)))
}

async fn create(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Body(new): Body<NewMessage>,
) -> Result<(StatusCode, Json<Message>), ApiError> {
    let insert = move |connection: &mut Connection| {
        connection
            .prepare_cached(
                "INSERT INTO messages (tenant, sender, recipient, text)
                 VALUES (?1, ?2, ?3, ?4) RETURNING *",
            )?
            .query_row(
                params![tenant, new.from.as_str(), new.to.as_str(), new.text.as_str()],
                message,
            )
    };
    Ok((StatusCode::CREATED, Json(store.run(insert).await?)))
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        id: row.get("id")?,
        from: row.get("sender")?,
        to: row.get("recipient")?,
        text: row.get("text")?,
        created_at: row.get("created_at")?,
    })
}
