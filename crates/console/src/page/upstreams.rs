//! The service's addresses and how they fare.

use maud::{Markup, html};

use crate::figures::{count, percent_of};
use crate::live::UpstreamView;

pub(super) fn rows(upstreams: &[UpstreamView]) -> Markup {
    html! {
        @for upstream in upstreams {
            tr role="row" {
                th scope="row" role="rowheader" { code { (upstream.name) } }
                td role="cell" data-label="State" {
                    @let (class, mark, word) = state(upstream);
                    span.state.{(class)} { span aria-hidden="true" { (mark) " " } (word) }
                }
                td.number role="cell" data-label="Requests" { (count(upstream.requests)) }
                td.number.none[upstream.failures == 0] role="cell" data-label="Failures" {
                    (count(upstream.failures))
                    @if upstream.failures > 0 {
                        small { (percent_of(upstream.failures, upstream.requests)) }
                    }
                }
                td.number.none[upstream.ejections == 0] role="cell" data-label="Ejections" {
                    (count(upstream.ejections))
                }
            }
        }
        @if upstreams.is_empty() {
            tr.empty role="row" { td role="cell" colspan="5" { "No upstreams are configured." } }
        }
    }
}

/// The class, a mark and a word, so that colour is never alone.
const fn state(upstream: &UpstreamView) -> (&'static str, &'static str, &'static str) {
    match (upstream.healthy, upstream.ejected) {
        (true, false) => ("good", "●", "healthy"),
        (true, true) => ("bad", "▲", "ejected"),
        (false, _) => ("bad", "▲", "unhealthy"),
    }
}
