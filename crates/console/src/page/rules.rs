//! The protections: what each rule would have done, and what it did.

use maud::{Markup, html};
use seaworthy_policy::mode::{Mode, ModeSetting};
use seaworthy_policy::registry::REGISTRY;

use crate::figures::{count, percent_of};
use crate::live::{LiveView, RuleView};
use crate::query::link;

/// The page's first sentence: what would change if everything were enforced now.
pub(super) fn lead(live: &LiveView) -> Markup {
    let judging = live.rules.iter().filter(|rule| rule.evaluated > 0).count();
    let would: Vec<_> = live.rules.iter().filter(|rule| rule.would_deny > 0).collect();
    let denied: u64 = live.rules.iter().map(|rule| rule.denied).sum();
    let would_deny: u64 = would.iter().map(|rule| rule.would_deny).sum();
    let harm: u64 = would.iter().map(|rule| rule.harm).sum();
    html! {
        @if judging == 0 {
            "No request has been judged yet. Send some through " code { (live.gateway.listen) } "."
        } @else if would.is_empty() {
            "No rule would have denied anything that it let through."
        } @else {
            strong.would { (count(would_deny)) " would-denials" }
            " by " (would.len()) " of " (judging) " rules. "
            @match harm {
                0 => { "The service served none of those requests either." }
                _ => {
                    strong.harm { (count(harm)) " of them harmful" }
                    ": the service answered those requests with success."
                }
            }
        }
        " "
        @match denied {
            0 => { "Nothing was denied." }
            _ => { (count(denied)) " denied." }
        }
    }
}

/// The rows of the table, in the order in which a request meets the protections.
pub(super) fn rows(rules: &[RuleView]) -> Markup {
    html! {
        @for rule in rules { (row(rule)) }
        @if rules.is_empty() {
            tr.empty role="row" { td role="cell" colspan="6" { "No rules are configured." } }
        }
    }
}

fn row(rule: &RuleView) -> Markup {
    let summary = REGISTRY.iter().find(|entry| entry.name == rule.protection);
    html! {
        tr role="row" {
            th scope="row" role="rowheader" {
                a href=(link("/rules", "rule", &rule.rule)) { code { (rule.rule) } }
                @if let Some(entry) = summary { p.summary { (entry.summary) } }
                p.sentence { (rule.sentence()) }
            }
            td role="cell" data-label="Mode" { (mode(rule.mode, rule.setting)) }
            td.number role="cell" data-label="Evaluated" { (count(rule.evaluated)) }
            td.number.would.none[rule.would_deny == 0] role="cell" data-label="Would deny" {
                strong { (count(rule.would_deny)) }
                (share(rule.would_deny, rule.evaluated))
            }
            td.number.harm.none[rule.harm == 0] role="cell" data-label="Harm" {
                (count(rule.harm))
                (share(rule.harm, rule.evaluated))
            }
            td.number.none[rule.denied == 0] role="cell" data-label="Denied" {
                (count(rule.denied))
                (share(rule.denied, rule.evaluated))
            }
        }
    }
}

/// Left out where there is nothing to compare: a column of `0%` says less than none.
fn share(part: u64, whole: u64) -> Markup {
    html! { @if part > 0 { small { (percent_of(part, whole)) } } }
}

/// The mode in force, and where it comes from.
pub(super) fn mode(mode: Mode, setting: ModeSetting) -> Markup {
    html! {
        span.mode.{(mode.word())} { (mode) }
        @match setting {
            ModeSetting::Auto => { small { "auto" } }
            ModeSetting::Pinned(pinned) if pinned == mode => { small { "pinned" } }
            ModeSetting::Pinned(pinned) => { small { "config: " (pinned) } }
        }
        @if mode == Mode::Off { span.hidden { " (judges nothing)" } }
    }
}
