//! What each gate says: its verdict, its sentence, what it waits for, its numbers.

use maud::{Markup, html};
use seaworthy_policy::gates::{Reading, Verdict};

use crate::figures::number;

/// The readings of the version whose part of the page is called `of`.
pub(super) fn render(of: &str, readings: &[Reading]) -> Markup {
    html! {
        @if readings.is_empty() {
            p.none { "None has judged this version: it collects no evidence." }
        }
        ol.gates { @for reading in readings { (gate(of, reading)) } }
    }
}

fn gate(of: &str, reading: &Reading) -> Markup {
    let (class, mark, word) = shown(reading.verdict);
    let name = reading.gate.word();
    html! {
        li.{(class)} {
            h4 { (name.replace('_', " ")) }
            span.verdict { span aria-hidden="true" { (mark) " " } (word) }
            p { (reading.sentence) }
            @if let Some(waits_for) = &reading.waits_for { p.needs { "Needs " (waits_for) } }
            details id=(format!("{of}-{name}")) {
                summary { "Numbers" }
                dl.numbers {
                    @for (name, value) in reading.numbers.iter() {
                        div { dt { (name) } dd { (number(value)) } }
                    }
                }
            }
        }
    }
}

/// The class, a mark and a word, so that colour is never alone.
const fn shown(verdict: Verdict) -> (&'static str, &'static str, &'static str) {
    match verdict {
        Verdict::Pass => ("pass", "●", "passes"),
        Verdict::Fail => ("fail", "▲", "fails"),
        Verdict::Inconclusive => ("open", "○", "not shown yet"),
        Verdict::NoData => ("open", "–", "no data"),
        Verdict::Stale => ("open", "◷", "stale"),
    }
}
