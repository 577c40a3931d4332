//! `/api/complaints`: what customers complain of, and the notes that agents add.

use axum::Json;
use axum::extract::State;
use axum::response::{AppendHeaders, IntoResponse};
use http::{Method, StatusCode, header};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Route;
use super::error::ApiError;
use super::field::{Limit, PAGE_LEN, Page, Text, words};
use super::request::{Body, Filter, Id, Tenant};
use crate::store::Store;

/// The notes shown with a complaint: its latest ones.
const NOTES_SHOWN: i64 = 100;

words!(Status { Open = "open", Pending = "pending", Resolved = "resolved", Closed = "closed" });

words!(Category {
    Billing = "billing",
    Delivery = "delivery",
    Quality = "quality",
    Account = "account",
    Other = "other",
});

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/api/complaints", list),
        Route::new(Method::POST, "/api/complaints", create),
        Route::new(Method::GET, "/api/complaints/{id}", show),
        Route::new(Method::PATCH, "/api/complaints/{id}", update),
        Route::new(Method::DELETE, "/api/complaints/{id}", delete),
        Route::new(Method::POST, "/api/complaints/{id}/notes", add_note),
    ]
}

/// Times are RFC 3339 in UTC with milliseconds.
#[derive(Debug, Serialize)]
struct Complaint {
    id: i64,
    subject: String,
    body: String,
    category: Category,
    status: Status,
    created_at: String,
    updated_at: String,
}

#[derive(Debug, Serialize)]
struct Note {
    id: i64,
    author: String,
    text: String,
    created_at: String,
}

#[derive(Debug, Serialize)]
struct ComplaintWithNotes {
    #[serde(flatten)]
    complaint: Complaint,
    /// Oldest first.
    notes: Vec<Note>,
}

/// Newest first; `before` is the `next` of the page before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ComplaintFilter {
    status: Option<Status>,
    category: Option<Category>,
    /// Words as they stand in subject or body, whatever their case.
    q: Option<Text<100>>,
    before: Option<i64>,
    limit: Option<Limit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewComplaint {
    subject: Text<200>,
    body: Text<4000>,
    category: Category,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ComplaintChange {
    subject: Option<Text<200>>,
    category: Option<Category>,
    status: Option<Status>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNote {
    author: Text<100>,
    text: Text<2000>,
}

async fn list(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Filter(filter): Filter<ComplaintFilter>,
) -> Result<Json<Page<Complaint, i64>>, ApiError> {
    let limit = filter.limit.map_or(PAGE_LEN, Limit::get);
    let select = move |connection: &mut Connection| {
        connection
            .prepare_cached(
                "SELECT * FROM complaints
                 WHERE tenant = ?1 AND id < ?2
                   AND (?3 IS NULL OR status = ?3)
                   AND (?4 IS NULL OR category = ?4)
                   AND (?5 IS NULL OR instr(lower(subject || char(10) || body), lower(?5)) > 0)
                 ORDER BY id DESC LIMIT ?6",
            )?
            .query_map(
                params![
                    tenant,
                    filter.before.unwrap_or(i64::MAX),
                    filter.status,
                    filter.category,
                    filter.q.as_ref().map(Text::as_str),
                    limit + 1,
                ],
                complaint,
            )?
            .collect()
    };
    let complaints: Vec<Complaint> = store.run(select).await?;
    Ok(Json(Page::new(complaints, limit, |complaint| complaint.id)))
}

async fn create(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Body(new): Body<NewComplaint>,
) -> Result<impl IntoResponse, ApiError> {
    let insert = move |connection: &mut Connection| {
        connection
            .prepare_cached(
                "INSERT INTO complaints (tenant, subject, body, category)
                 VALUES (?1, ?2, ?3, ?4) RETURNING *",
            )?
            .query_row(
                params![tenant, new.subject.as_str(), new.body.as_str(), new.category],
                complaint,
            )
    };
    let complaint = store.run(insert).await?;
    let location = format!("/api/complaints/{}", complaint.id);
    Ok((StatusCode::CREATED, AppendHeaders([(header::LOCATION, location)]), Json(complaint)))
}

async fn show(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Id(id): Id,
) -> Result<Json<ComplaintWithNotes>, ApiError> {
    let select = move |connection: &mut Connection| {
        let found = connection
            .prepare_cached("SELECT * FROM complaints WHERE tenant = ?1 AND id = ?2")?
            .query_row(params![tenant, id], complaint)
            .optional()?;
        let Some(complaint) = found else { return Ok(None) };
        let mut notes: Vec<Note> = connection
            .prepare_cached("SELECT * FROM notes WHERE complaint = ?1 ORDER BY id DESC LIMIT ?2")?
            .query_map([id, NOTES_SHOWN], note)?
            .collect::<rusqlite::Result<_>>()?;
        notes.reverse();
        Ok(Some(ComplaintWithNotes { complaint, notes }))
    };
    store.run(select).await?.map(Json).ok_or_else(|| ApiError::missing("complaint"))
}

async fn update(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Id(id): Id,
    Body(change): Body<ComplaintChange>,
) -> Result<Json<Complaint>, ApiError> {
    if let ComplaintChange { subject: None, category: None, status: None } = change {
        return Err(ApiError::out_of_bounds("expected a subject, a category or a status"));
    }
    let update = move |connection: &mut Connection| {
        connection
            .prepare_cached(
                "UPDATE complaints SET
                     subject = coalesce(?3, subject),
                     category = coalesce(?4, category),
                     status = coalesce(?5, status),
                     updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
                 WHERE tenant = ?1 AND id = ?2 RETURNING *",
            )?
            .query_row(
                params![
                    tenant,
                    id,
                    change.subject.as_ref().map(Text::as_str),
                    change.category,
                    change.status,
                ],
                complaint,
            )
            .optional()
    };
    store.run(update).await?.map(Json).ok_or_else(|| ApiError::missing("complaint"))
}

async fn delete(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    let delete = move |connection: &mut Connection| {
        connection
            .prepare_cached("DELETE FROM complaints WHERE tenant = ?1 AND id = ?2")?
            .execute(params![tenant, id])
    };
    match store.run(delete).await? {
        0 => Err(ApiError::missing("complaint")),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

async fn add_note(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Id(id): Id,
    Body(new): Body<NewNote>,
) -> Result<impl IntoResponse, ApiError> {
    let insert = move |connection: &mut Connection| {
        connection
            .prepare_cached(
                "INSERT INTO notes (complaint, author, text)
                 SELECT id, ?3, ?4 FROM complaints WHERE tenant = ?1 AND id = ?2 RETURNING *",
            )?
            .query_row(params![tenant, id, new.author.as_str(), new.text.as_str()], note)
            .optional()
    };
    match store.run(insert).await? {
        Some(note) => Ok((StatusCode::CREATED, Json(note))),
        None => Err(ApiError::missing("complaint")),
    }
}

fn complaint(row: &Row<'_>) -> rusqlite::Result<Complaint> {
    Ok(Complaint {
        id: row.get("id")?,
        subject: row.get("subject")?,
        body: row.get("body")?,
        category: row.get("category")?,
        status: row.get("status")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn note(row: &Row<'_>) -> rusqlite::Result<Note> {
    Ok(Note {
        id: row.get("id")?,
        author: row.get("author")?,
        text: row.get("text")?,
        created_at: row.get("created_at")?,
    })
}
