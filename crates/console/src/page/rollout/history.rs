//! How a rule came where it is: its receipts.

use maud::{Markup, html};
use seaworthy_policy::gates::Verdict;
use seaworthy_policy::rollout::Event;

use super::super::day_and_time;
use crate::query::link;
use crate::receipts::{MoveRow, Moved, MovesPage, ReceiptsError};

pub(super) fn render(
    rule: &str,
    moves: &Result<MovesPage, ReceiptsError>,
    is_first_page: bool,
) -> Markup {
    html! {
        table.cards.moves role="table" aria-labelledby="history-title" {
            thead role="rowgroup" {
                tr role="row" {
                    th scope="col" role="columnheader" { "When" }
                    th scope="col" role="columnheader" { "Move" }
                    th scope="col" role="columnheader" { "What happened" }
                    th scope="col" role="columnheader" { "By" }
                    th scope="col" role="columnheader" { "Receipt" }
                }
            }
            tbody role="rowgroup" {
                @match moves {
                    Ok(page) if page.rows.is_empty() => {
                        (remark(if is_first_page { "It has not moved yet." } else { "There are no more." }))
                    }
                    Ok(page) => { @for row in &page.rows { (self::row(row)) } }
                    Err(error) => { (remark(&format!("No moves to show: {error}."))) }
                }
            }
        }
        nav.pager aria-label="Pages of the history" {
            @let page = link("/rules", "rule", rule);
            @if !is_first_page { a href=(page) { "Newest" } }
            @if let Ok(MovesPage { next: Some(next), .. }) = moves {
                a href=(format!("{page}&before={next}")) { "Older" }
            }
        }
    }
}

fn row(row: &MoveRow) -> Markup {
    html! {
        tr role="row" {
            td.when role="cell" data-label="When" { (day_and_time(row.ts_us / 1000)) }
            @match &row.moved {
                Some(moved) => { (self::moved(moved)) }
                None => {
                    td role="cell" data-label="Move" { "–" }
                    td role="cell" data-label="What happened" {
                        "This receipt cannot be read: " (row.fault.as_deref().unwrap_or("it is empty"))
                    }
                    td role="cell" data-label="By" { "–" }
                }
            }
            td role="cell" data-label="Receipt" {
                a href=(format!("/api/v1/receipts/{}", row.seq)) { "#" (row.seq) }
            }
        }
    }
}

fn moved(moved: &Moved) -> Markup {
    let (before, after) = (&moved.before, &moved.after);
    html! {
        td role="cell" data-label="Move" {
            @if before.mode != after.mode {
                (before.mode) " → " strong { (after.mode) }
            } @else {
                "stays " (after.mode)
            }
            small {
                @if before.version == after.version { "version " (after.version) }
                @else { "version " (before.version) " → " (after.version) }
            }
        }
        td role="cell" data-label="What happened" {
            (sentence(&moved.event))
            @if !moved.gates.is_empty() {
                @let passed = moved.gates.iter().filter(|gate| gate.verdict == Verdict::Pass).count();
                small { (passed) " of " (moved.gates.len()) " gates passed" }
            }
        }
        td role="cell" data-label="By" { (moved.actor) }
    }
}

fn sentence(event: &Event) -> Markup {
    html! {
        @match event {
            Event::Promoted { to } => { "Promoted to " (to) ": every gate passed" }
            Event::Fell { cause } => { span.harm { "Fell" } ": " (cause) }
            Event::Alerted { alert } => { span.harm { "Demoted by an alert" } ": " (alert) }
            Event::Set { mode, reason } => { "Set to " (mode) ": " (reason) }
            Event::Adopted { mode, why } => { "Taken up at " (mode) ", " (why) }
            Event::Held { until_unix_ms, reason } => {
                "Held "
                @match until_unix_ms {
                    Some(unix_ms) => { "until " (day_and_time(*unix_ms)) }
                    None => { "until it is released" }
                }
                ": " (reason)
            }
            Event::Released { reason } => { "Released: " (reason) }
            Event::Approved { to, reason } => { "Approved for " (to) ": " (reason) }
            Event::PolicyChanged { .. } => { "Its settings changed" }
            Event::WindowRestarted { reason } => { "Its evidence began anew: " (reason) }
        }
    }
}

fn remark(text: &str) -> Markup {
    html! { tr.empty role="row" { td role="cell" colspan="5" { (text) } } }
}
