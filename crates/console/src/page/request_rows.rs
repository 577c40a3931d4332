//! The table of requests, wherever there is one.

use maud::{Markup, html};
use seaworthy_policy::record::Ending;
use seaworthy_store::telemetry::RequestRow;

use super::time_of_day;
use crate::figures::{latency, rate};
use crate::query::link;

const COLUMNS: usize = 7;

pub(super) fn head() -> Markup {
    html! {
        thead role="rowgroup" {
            tr role="row" {
                th scope="col" role="columnheader" { "Time" }
                th scope="col" role="columnheader" { "Request" }
                th scope="col" role="columnheader" { "Objection" }
                th.number scope="col" role="columnheader" { "Status" }
                th scope="col" role="columnheader" { "Client" }
                th scope="col" role="columnheader" { "Tenant" }
                th.number scope="col" role="columnheader" { "Took" }
            }
        }
    }
}

pub(super) fn rows(rows: &[RequestRow]) -> Markup {
    html! { @for request in rows { (row(request)) } }
}

fn row(request: &RequestRow) -> Markup {
    html! {
        tr role="row" {
            td.when role="cell" data-label="Time" { (time_of_day(request.time_unix_ms)) }
            td.what role="cell" data-label="Request" {
                code { (request.method) " " (request.path) }
                @if request.weight > 1.05 {
                    small title="Requests of its kind that this row of the sample stands for" {
                        "one of " (rate(request.weight))
                    }
                }
            }
            td.why role="cell" data-label="Objection" { (objections(request)) }
            td.number role="cell" data-label="Status" { (request.status) }
            td.who role="cell" data-label="Client" {
                a href=(link("/consumers", "client", &request.client)) {
                    code { (request.client) }
                }
            }
            td role="cell" data-label="Tenant" { (request.tenant.as_deref().unwrap_or("–")) }
            td.number role="cell" data-label="Took" { (latency(request.duration_us)) }
        }
    }
}

/// What the rules said, else how it ended where that says more than the status.
fn objections(request: &RequestRow) -> Markup {
    html! {
        @for rule in &request.denied {
            span.objection.denied { "denied " code { (rule) } }
        }
        @for rule in &request.would_deny {
            span.objection.would {
                "would deny " code { (rule) }
                @if is_harm(request) { " " span.harm { "▲ harm" } }
            }
        }
        @if request.denied.is_empty() && request.would_deny.is_empty() {
            @match (request.ending.as_str(), &request.reason) {
                ("served" | "answered", None) => { "–" }
                (ending, None) => { (ending.replace('_', " ")) }
                (ending, Some(reason)) => { (ending.replace('_', " ")) ": " (reason) }
            }
        }
    }
}

/// Whether the service did what the rule would have kept it from doing.
fn is_harm(request: &RequestRow) -> bool {
    let ending = Ending::ALL.into_iter().find(|ending| ending.as_str() == request.ending);
    ending.is_some_and(|ending| ending.was_success(request.status))
}

/// One row that says why there are no others.
pub(super) fn remark(text: &str) -> Markup {
    html! { tr.empty role="row" { td role="cell" colspan=(COLUMNS) { (text) } } }
}
