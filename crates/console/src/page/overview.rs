//! The first page: is it well, what would be denied, and who would be hurt.
//!
//! Its parts have ids; the script replaces them with newer ones as they arrive on `/events`.
//! Nothing in a part can be focused, so a replacement never takes the keyboard's place away.

use maud::{Markup, html};
use seaworthy_store::telemetry::{RequestRow, StoreHealth};
use serde_json::{Map, Value};

use super::{document, gateway, request_rows, rules, time_of_day, traffic, upstreams};
use crate::evidence::EvidenceError;
use crate::live::LiveView;
use crate::readiness::Readiness;

/// What one rendering shows.
pub(crate) struct Shown<'a> {
    pub(crate) live: &'a LiveView,
    pub(crate) readiness: &'a Readiness,
    /// Absent where the store is not open.
    pub(crate) store: Option<&'a StoreHealth>,
    /// The newest requests that a rule denied, or would have denied.
    pub(crate) objections: &'a Result<Vec<RequestRow>, EvidenceError>,
}

/// A part of the page that changes, by the id of the element that holds it.
struct Part {
    id: &'static str,
    render: fn(&Shown<'_>) -> Markup,
}

const READY: Part = Part { id: "ready", render: |shown| gateway::ready(shown.readiness) };
const FACTS: Part = Part { id: "facts", render: |shown| gateway::facts(&shown.live.gateway) };
const TRAFFIC: Part = Part { id: "traffic", render: |shown| traffic::render(&shown.live.traffic) };
const LEAD: Part = Part { id: "lead", render: |shown| rules::lead(shown.live) };
const RULES: Part = Part { id: "rules", render: |shown| rules::rows(&shown.live.rules) };
const OBJECTIONS: Part = Part { id: "objections", render: objections };
const UPSTREAMS: Part =
    Part { id: "upstreams", render: |shown| upstreams::rows(&shown.live.upstreams) };
const HEALTH: Part =
    Part { id: "health", render: |shown| gateway::health(shown.live, shown.store) };
const AS_OF: Part =
    Part { id: "as-of", render: |shown| time_of_day(shown.live.traffic.at_unix_s * 1000) };

const PARTS: [&Part; 9] =
    [&READY, &FACTS, &TRAFFIC, &LEAD, &RULES, &OBJECTIONS, &UPSTREAMS, &HEALTH, &AS_OF];

/// All parts as a JSON object from id to HTML, for `/events`.
pub(crate) fn parts_json(shown: &Shown<'_>) -> String {
    let parts: Map<String, Value> = PARTS
        .iter()
        .map(|part| (part.id.to_owned(), Value::String((part.render)(shown).into_string())))
        .collect();
    Value::Object(parts).to_string()
}

/// The whole page.
pub(crate) fn render(shown: &Shown<'_>) -> String {
    let part = |part: &Part| (part.render)(shown);
    let beside = html! {
        div.ready id=(READY.id) role="status" { (part(&READY)) }
        dl.facts id=(FACTS.id) { (part(&FACTS)) }
        div.updates {
            p { "As of " span id=(AS_OF.id) { (part(&AS_OF)) } }
            p id="connection" role="status" {}
            noscript { p { "Reload for newer figures." } }
        }
    };
    let main = html! {
        section.charts aria-label="Traffic of the last five minutes" id=(TRAFFIC.id) {
            (part(&TRAFFIC))
        }
        section aria-labelledby="protections-title" {
            div.heading {
                h2 #protections-title { "Protections" }
                p.lead id=(LEAD.id) { (part(&LEAD)) }
            }
            table.cards.rules role="table" aria-labelledby="protections-title" {
                thead role="rowgroup" {
                    tr role="row" {
                        th scope="col" role="columnheader" { "Rule" }
                        th scope="col" role="columnheader" { "Mode" }
                        th.number scope="col" role="columnheader" { "Evaluated" }
                        th.number scope="col" role="columnheader" { "Would deny" }
                        th.number scope="col" role="columnheader" { "Harm" }
                        th.number scope="col" role="columnheader" { "Denied" }
                    }
                }
                tbody role="rowgroup" id=(RULES.id) { (part(&RULES)) }
            }
            p.note {
                "Since the start of this process. " strong { "Would deny" }
                ": what a rule in " code { "warn" } " would have denied. "
                strong { "Harm" }
                ": the part of it that the service then answered with 2xx or 3xx."
            }
        }
        section aria-labelledby="objections-title" {
            div.heading {
                h2 #objections-title { "Denied, or would have been" }
                p {
                    "The newest requests that a rule objected to. "
                    a href="/requests?verdict=would_deny" { "All that would have been denied" }
                }
            }
            table.cards.requests role="table" aria-labelledby="objections-title" {
                (request_rows::head())
                tbody role="rowgroup" id=(OBJECTIONS.id) { (part(&OBJECTIONS)) }
            }
        }
        div.pair {
            section aria-labelledby="upstreams-title" {
                div.heading { h2 #upstreams-title { "Upstreams" } }
                table.cards role="table" aria-labelledby="upstreams-title" {
                    thead role="rowgroup" {
                        tr role="row" {
                            th scope="col" role="columnheader" { "Address" }
                            th scope="col" role="columnheader" { "State" }
                            th.number scope="col" role="columnheader" { "Requests" }
                            th.number scope="col" role="columnheader" { "Failures" }
                            th.number scope="col" role="columnheader" { "Ejections" }
                        }
                    }
                    tbody role="rowgroup" id=(UPSTREAMS.id) { (part(&UPSTREAMS)) }
                }
            }
            section aria-labelledby="health-title" {
                div.heading { h2 #health-title { "Gateway" } }
                dl.health id=(HEALTH.id) { (part(&HEALTH)) }
            }
        }
    };
    document(&shown.live.gateway.service, None, beside, main)
}

fn objections(shown: &Shown<'_>) -> Markup {
    match shown.objections {
        Ok(rows) if rows.is_empty() => {
            request_rows::remark("No rule has objected to a request yet.")
        }
        Ok(rows) => request_rows::rows(rows),
        Err(error) => request_rows::remark(&format!("No requests to show: {error}.")),
    }
}
