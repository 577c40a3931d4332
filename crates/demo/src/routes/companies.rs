//! `/api/companies`: the tenant's customers that are companies, by the stage they are in.

use axum::Json;
use axum::extract::{Path, State};
use http::{Method, StatusCode};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::Route;
use super::error::ApiError;
use super::field::{Limit, PAGE_LEN, Page, Text, Whole, words};
use super::request::{Body, Filter, Tenant, is_slug};
use crate::store::Store;

const ID_LEN_MAX: usize = 50;

words!(Stage {
    PreSeed = "pre-seed",
    Seed = "seed",
    SeriesA = "series-a",
    SeriesB = "series-b",
    SeriesC = "series-c",
    Public = "public",
});

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/api/companies", list),
        Route::new(Method::PUT, "/api/companies/{id}", put),
    ]
}

#[derive(Debug, Serialize)]
struct Company {
    id: String,
    name: String,
    stage: Stage,
    employees: i64,
    updated_at: String,
}

/// By id; `after` is the `next` of the page before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompanyFilter {
    stage: Option<Stage>,
    after: Option<Text<ID_LEN_MAX>>,
    limit: Option<Limit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompanyState {
    name: Text<200>,
    stage: Stage,
    employees: Whole<1, 10_000_000>,
}

async fn list(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Filter(filter): Filter<CompanyFilter>,
) -> Result<Json<Page<Company, String>>, ApiError> {
    let limit = filter.limit.map_or(PAGE_LEN, Limit::get);
    let select = move |connection: &mut Connection| {
        let after = filter.after.as_ref().map_or("", Text::as_str);
        connection
            .prepare_cached(
                "SELECT * FROM companies
                 WHERE tenant = ?1 AND id > ?2 AND (?3 IS NULL OR stage = ?3)
                 ORDER BY id LIMIT ?4",
            )?
            .query_map(params![tenant, after, filter.stage, limit + 1], company)?
            .collect()
    };
    let companies: Vec<Company> = store.run(select).await?;
    Ok(Json(Page::new(companies, limit, |company| company.id.clone())))
}

/// 201 where the company is new, 200 where it was there.
async fn put(
    State(store): State<Store>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
    Body(new): Body<CompanyState>,
) -> Result<(StatusCode, Json<Company>), ApiError> {
    if !is_slug(&id, ID_LEN_MAX) {
        return Err(ApiError::out_of_bounds(
            "id: expected 1 to 50 lower-case letters, digits and hyphens",
        ));
    }
    let upsert = move |connection: &mut Connection| {
        let values = params![tenant, id, new.name.as_str(), new.stage, new.employees.get()];
        let there = connection
            .prepare_cached("SELECT 1 FROM companies WHERE tenant = ?1 AND id = ?2")?
            .exists(params![tenant, id])?;
        let company = connection
            .prepare_cached(
                "INSERT INTO companies (tenant, id, name, stage, employees)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (tenant, id) DO UPDATE SET
                     name = excluded.name,
                     stage = excluded.stage,
                     employees = excluded.employees,
                     updated_at = excluded.updated_at
                 RETURNING *",
            )?
            .query_row(values, company)?;
        Ok((if there { StatusCode::OK } else { StatusCode::CREATED }, Json(company)))
    };
    Ok(store.run(upsert).await?)
}

fn company(row: &Row<'_>) -> rusqlite::Result<Company> {
    Ok(Company {
        id: row.get("id")?,
        name: row.get("name")?,
        stage: row.get("stage")?,
        employees: row.get("employees")?,
        updated_at: row.get("updated_at")?,
    })
}
