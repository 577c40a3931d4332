//! The gateway itself: whether it is ready, and what it admits of its own state.

use maud::{Markup, html};
use seaworthy_store::telemetry::StoreHealth;

use crate::figures::{bytes, count, span};
use crate::live::{GatewayView, LiveView};
use crate::readiness::Readiness;

/// The state as a word with a mark, and what is missing.
pub(super) fn ready(readiness: &Readiness) -> Markup {
    html! {
        @if readiness.is_ready() {
            span.state.good { span aria-hidden="true" { "● " } "Ready" }
        } @else {
            span.state.bad { span aria-hidden="true" { "▲ " } "Not ready" }
            @for check in readiness.checks.iter().filter(|check| !check.ok) {
                span.why { (check.name) ": " (check.detail) }
            }
        }
    }
}

pub(super) fn facts(gateway: &GatewayView) -> Markup {
    html! {
        div { dt { "Up" } dd { (span(gateway.uptime_s)) } }
        div { dt { "Listening" } dd { (gateway.listen) } }
        div { dt { "Version" } dd { (gateway.version) } }
    }
}

pub(super) fn health(live: &LiveView, store: Option<&StoreHealth>) -> Markup {
    let gateway = &live.gateway;
    html! {
        (fact("Requests", html! { (count(live.traffic.totals.requests)) " since start" }))
        (fact("Configuration", html! {
            @match &gateway.config_fault {
                None => { "generation " (gateway.config_generation) " in force" }
                Some(fault) => {
                    span.state.bad { span aria-hidden="true" { "▲ " } "last reload refused" }
                    ": " (fault) " (generation " (gateway.config_generation) " stays in force)"
                }
            }
        }))
        (fact("Evidence", html! {
            @match gateway.records_dropped {
                0 => { "complete: no record was dropped" }
                dropped => {
                    span.state.bad { span aria-hidden="true" { "▲ " } "incomplete" }
                    ": " (count(dropped)) " records were dropped by full rings"
                }
            }
        }))
        (fact("Store", self::store(store)))
    }
}

fn store(health: Option<&StoreHealth>) -> Markup {
    html! {
        @match health {
            None => {
                span.state.bad { span aria-hidden="true" { "▲ " } "not open" }
                ": nothing is kept; the log says why"
            }
            Some(health) => {
                @match &health.last_error {
                    Some(error) => {
                        span.state.bad { span aria-hidden="true" { "▲ " } "in trouble" }
                        ": " (error) ". "
                    }
                    None => { "takes writes. " }
                }
                (count(health.rows_written)) " requests written, "
                (bytes(health.db_bytes + health.wal_bytes)) " on disk"
                @if health.rows_dropped > 0 { ", " (count(health.rows_dropped)) " let go" }
            }
        }
    }
}

fn fact(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}
