//! The receipts of the rules' moves.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use seaworthy_policy::problem::FieldError;

use super::Sources;
use crate::problem::Problem;
use crate::query::{MOVE_FILTERS, Query};
use crate::receipts::{ReceiptsError, Seq};

/// One page of moves, the newest first: `rows`, and `next` for the parameter `before` of the next
/// page. Each row names its receipt by `seq`, and says what of it lists show.
pub(super) async fn list(State(sources): State<Sources>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::of(&uri, MOVE_FILTERS);
    let filter = query.move_filter().map_err(Problem::bad_query)?;
    let page = sources.receipts.moves(filter).await?;
    Ok(Json(page).into_response())
}

/// One receipt, byte for byte as it was stored: its digest is of these bytes.
pub(super) async fn one(
    State(sources): State<Sources>,
    Path(seq): Path<String>,
) -> Result<Response, Problem> {
    let seq: Seq = seq.parse().map_err(|error| {
        let errors = vec![FieldError::new("path:seq", format!("{error}"))];
        Problem::faulty(StatusCode::BAD_REQUEST, format!("{error}"), errors)
    })?;
    let Some(row) = sources.receipts.stored(seq).await? else {
        let detail = format!("no move has the number {seq}; /api/v1/receipts lists them");
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let fields = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CONTENT_DISPOSITION, format!("inline; filename=\"receipt-{seq}.json\"")),
    ];
    Ok((fields, row.receipt).into_response())
}

impl From<ReceiptsError> for Problem {
    fn from(error: ReceiptsError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}
