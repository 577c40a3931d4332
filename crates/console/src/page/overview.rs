//! The first page: is it well, what would be denied, and who would be hurt.
//!
//! Its parts have ids; the script replaces them with newer ones as they arrive on `/events`, and
//! gives the keyboard its place back.

use maud::{Markup, html};
use seaworthy_store::telemetry::{RequestRow, StoreHealth};

use super::{
    Here, Part, as_of, document, gateway, parts_json, request_rows, rollouts, rules, traffic,
    updates, upstreams,
};
use crate::control::RuleStanding;
use crate::evidence::EvidenceError;
use crate::live::LiveView;
use crate::readiness::Readiness;

/// What one rendering shows.
pub(crate) struct Shown<'a> {
    pub(crate) live: &'a LiveView,
    /// Where the rules stand.
    pub(crate) standings: &'a [RuleStanding],
    pub(crate) readiness: &'a Readiness,
    /// Absent where the store is not open.
    pub(crate) store: Option<&'a StoreHealth>,
    /// The newest requests that a rule denied, or would have denied.
    pub(crate) objections: &'a Result<Vec<RequestRow>, EvidenceError>,
}

fn parts(shown: &Shown<'_>) -> [Part; 10] {
    let live = shown.live;
    [
        Part { id: "ready", html: gateway::ready(shown.readiness) },
        Part { id: "facts", html: gateway::facts(&live.gateway) },
        Part { id: "traffic", html: traffic::render(&live.traffic) },
        Part { id: "lead", html: rules::lead(live) },
        Part { id: "tally", html: rollouts::sentence(shown.standings) },
        Part { id: "rules", html: rules::rows(&live.rules) },
        Part { id: "objections", html: objections(shown) },
        Part { id: "upstreams", html: upstreams::rows(&live.upstreams) },
        Part { id: "health", html: gateway::health(live, shown.store) },
        as_of(live),
    ]
}

/// The parts that change as a JSON object from id to HTML, for `/events`.
pub(crate) fn render_parts(shown: &Shown<'_>) -> String {
    parts_json(parts(shown))
}

/// The whole page.
pub(crate) fn render(shown: &Shown<'_>) -> String {
    let [ready, facts, traffic, lead, tally, rules, objections, upstreams, health, as_of] =
        parts(shown);
    let beside = html! {
        div.ready id=(ready.id) role="status" { (ready.html) }
        dl.facts id=(facts.id) { (facts.html) }
        (updates(&as_of, "/events"))
    };
    let main = html! {
        section.charts aria-label="Traffic of the last five minutes" id=(traffic.id) {
            (traffic.html)
        }
        section aria-labelledby="protections-title" {
            div.heading {
                h2 #protections-title { "Protections" }
                p.lead id=(lead.id) { (lead.html) }
            }
            p.impact {
                span.lead id=(tally.id) { (tally.html) }
                " " a href="/rules" { "Where each rule stands" }
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
                tbody role="rowgroup" id=(rules.id) { (rules.html) }
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
                tbody role="rowgroup" id=(objections.id) { (objections.html) }
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
                    tbody role="rowgroup" id=(upstreams.id) { (upstreams.html) }
                }
            }
            section aria-labelledby="health-title" {
                div.heading { h2 #health-title { "Gateway" } }
                dl.health id=(health.id) { (health.html) }
            }
        }
    };
    document(&shown.live.gateway.service, Here::Overview, None, beside, main)
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
