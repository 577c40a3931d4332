//! The list of requests: filters above, newest first, a page at a time.

use maud::{Markup, html};
use seaworthy_policy::problem::FieldError;
use seaworthy_store::telemetry::{Page, RequestRow};

use super::{Here, document, request_rows};
use crate::evidence::EvidenceError;
use crate::query::Query;

/// What the filters led to.
pub(crate) enum Found {
    Page(Page<RequestRow>),
    /// The filters make no sense.
    Faults(Vec<FieldError>),
    /// The store could not be asked.
    Failed(EvidenceError),
}

/// The filters that the form offers: name, label, example.
const FIELDS: [(&str, &str, &str); 5] = [
    ("status", "Status", "4xx"),
    ("route", "Route", "POST /api/traces"),
    ("client", "Client", "ip:203.0.113.7"),
    ("tenant", "Tenant", "acme"),
    ("since", "Since", "15m"),
];

pub(crate) fn render(service: &str, query: &Query, found: &Found) -> String {
    let main = html! {
        section aria-labelledby="requests-title" {
            div.heading {
                h2 #requests-title { "Requests" }
                p { "The newest first; a sample where there were too many to keep." }
            }
            (form(query))
            @if let Found::Faults(faults) = found {
                ul.faults role="alert" {
                    @for fault in faults { li { (fault.detail) } }
                }
            }
            table.cards.requests role="table" aria-labelledby="requests-title" {
                (request_rows::head())
                tbody role="rowgroup" {
                    @match found {
                        Found::Page(page) if page.rows.is_empty() => {
                            (request_rows::remark("No requests match these filters."))
                        }
                        Found::Page(page) => { (request_rows::rows(&page.rows)) }
                        Found::Faults(_) => {
                            (request_rows::remark("Correct the filters above."))
                        }
                        Found::Failed(error) => {
                            (request_rows::remark(&format!("No requests to show: {error}.")))
                        }
                    }
                }
            }
            (pager(query, found))
        }
    };
    document(service, Here::Requests, None, html! {}, main)
}

fn form(query: &Query) -> Markup {
    html! {
        form.filters method="get" action="/requests" {
            @for (name, label, example) in FIELDS {
                label {
                    (label)
                    input name=(name) value=(query.value(name)) placeholder=(example)
                        autocomplete="off" spellcheck="false";
                }
            }
            label {
                "Objection"
                select name="verdict" {
                    @for (value, words) in
                        [("", "any or none"), ("would_deny", "would deny"), ("denied", "denied")]
                    {
                        option value=(value) selected[query.value("verdict") == value] { (words) }
                    }
                }
            }
            @let limit = query.value("limit");
            @if !limit.is_empty() { input type="hidden" name="limit" value=(limit); }
            button { "Show" }
            a href="/requests" { "Clear" }
        }
    }
}

fn pager(query: &Query, found: &Found) -> Markup {
    let next = match found {
        Found::Page(page) => page.next,
        Found::Faults(_) | Found::Failed(_) => None,
    };
    html! {
        nav.pager aria-label="Pages of the list" {
            @if !query.value("before").is_empty() {
                a href=(format!("/requests{}", query.with_before(""))) { "Newest" }
            }
            @if let Some(next) = next {
                a href=(format!("/requests{}", query.with_before(&next.to_string()))) { "Older" }
            }
        }
    }
}
