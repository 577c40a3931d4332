//! One rule: where its versions stand, what each gate says, whom it may break, how it came there.

use maud::{Markup, html};
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::mode::Mode;
use seaworthy_policy::registry::REGISTRY;

use super::rollouts::{situation, standing, waits_for, why};
use super::{Here, Part, as_of, day_and_time, document, parts_json, updates};
use crate::control::{RuleStanding, VersionStanding, WaiverView};
use crate::figures::count;
use crate::live::LiveView;
use crate::query::link;
use crate::receipts::{MovesPage, ReceiptsError};
use crate::situation::Situation;

mod commands;
mod gates;
mod history;

/// What one rendering shows.
pub(crate) struct Shown<'a> {
    pub(crate) live: &'a LiveView,
    /// `None` where a reload has taken the rule away.
    pub(crate) rule: Option<&'a RuleStanding>,
    pub(crate) now_unix_ms: i64,
}

fn parts(shown: &Shown<'_>) -> [Part; 5] {
    let gone = || html! { p.none { "–" } };
    [
        Part { id: "state", html: state(shown) },
        Part { id: "versions", html: versions(shown) },
        Part { id: "commands", html: shown.rule.map_or_else(gone, commands::render) },
        Part {
            id: "waivers",
            html: shown.rule.map_or_else(gone, |rule| waivers(&rule.waivers, shown.now_unix_ms)),
        },
        as_of(shown.live),
    ]
}

/// The parts that change as a JSON object from id to HTML.
pub(crate) fn render_parts(shown: &Shown<'_>) -> String {
    parts_json(parts(shown))
}

/// The whole page of `rule`.
pub(crate) fn render(
    shown: &Shown<'_>,
    rule: &str,
    moves: &Result<MovesPage, ReceiptsError>,
    is_first_page: bool,
) -> String {
    let protection = rule.split('@').next().unwrap_or(rule);
    let summary = REGISTRY.iter().find(|entry| entry.name == protection);
    let [state, versions, commands, waivers, as_of] = parts(shown);
    let main = html! {
        section.rule aria-labelledby="rule-title" {
            p.crumbs { a href="/rules" { "All rules" } }
            div.heading {
                h2 #rule-title { code { (rule) } }
                p { @if let Some(entry) = summary { (entry.summary) } }
            }
            div id=(state.id) { (state.html) }
            p.note {
                a href=(link("/consumers", "rule", rule)) { "To whom it objects" }
            }
        }
        div.versions id=(versions.id) { (versions.html) }
        div.pair {
            section aria-labelledby="commands-title" {
                div.heading {
                    h2 #commands-title { "What an operator can do" }
                    p { "On the gateway's host; each is audited with its reason." }
                }
                div id=(commands.id) { (commands.html) }
            }
            section aria-labelledby="waivers-title" {
                div.heading {
                    h2 #waivers-title { "Waivers" }
                    p { "Clients whose breaking is accepted for a time." }
                }
                div id=(waivers.id) { (waivers.html) }
            }
        }
        section aria-labelledby="history-title" {
            div.heading {
                h2 #history-title { "History" }
                p { "Every move with its receipt, the newest first, as of the loading of this page." }
            }
            (history::render(rule, moves, is_first_page))
        }
    };
    let beside = updates(&as_of, &link("/events/rules", "rule", rule));
    document(&shown.live.gateway.service, Here::Rules, Some(rule), beside, main)
}

fn state(shown: &Shown<'_>) -> Markup {
    html! {
        @if let Some(rule) = shown.rule {
            div.now {
                (situation(Situation::of(rule)))
                (standing(&rule.current, rule))
            }
        } @else {
            p.impact.harmed { "There is no such rule any more: the config that is in force has none." }
        }
    }
}

fn versions(shown: &Shown<'_>) -> Markup {
    let Some(rule) = shown.rule else { return html! {} };
    html! {
        (version(&rule.current, rule))
        @if let Some(next) = &rule.next { (version(next, rule)) }
    }
}

/// A version as a card: in short, then gate by gate.
fn version(version: &VersionStanding, rule: &RuleStanding) -> Markup {
    let is_next = version.lane == Lane::Next;
    let id = if is_next { "next" } else { "current" };
    html! {
        section aria-labelledby=(format!("{id}-title")) {
            div.heading {
                h2 id=(format!("{id}-title")) { "Version " (version.version) }
                p {
                    @if is_next { "judged beside it, to take its place" }
                    @else if rule.next.is_some() { "stays in force until the next one has earned its place" }
                    @else { "in force" }
                }
                @if rule.next.is_some() {
                    (situation(Situation::of_version(version, rule.setting)))
                }
            }
            dl.health {
                @if is_next { (fact("Mode", standing(version, rule))) }
                (fact("Since", html! {
                    (day_and_time(version.since_unix_ms)) ": " (why(rule, version))
                }))
                (fact("Next step", html! {
                    @match version.next_step {
                        None => { "none" }
                        Some(step) => {
                            (step) " of the clients"
                            @if version.attempt > 1 { ", attempt " (count(version.attempt.into())) }
                        }
                    }
                }))
                (fact("Waits for", waits_for(version)))
                (fact("Evidence", html! {
                    @if version.mode == Mode::Off { "none is collected" }
                    @else { "counts from " (day_and_time(version.window_unix_ms)) }
                }))
                (fact("Policy", html! {
                    code title=(format!("SHA-256 of its settings: {}", version.policy)) {
                        (version.policy.chars().take(16).collect::<String>())
                    }
                }))
            }
            h3 { "Gates" }
            (gates::render(id, &version.gates))
        }
    }
}

fn waivers(waivers: &[WaiverView], now_unix_ms: i64) -> Markup {
    html! {
        @if waivers.is_empty() { p.none { "No client is waived." } }
        ul.waivers {
            @for waiver in waivers {
                li {
                    code { (waiver.client) }
                    " " (waiver.reason)
                    small {
                        "by " (waiver.actor)
                        @if waiver.until_unix_ms <= now_unix_ms { ", over since " }
                        @else { ", until " }
                        (day_and_time(waiver.until_unix_ms))
                    }
                }
            }
        }
    }
}

fn fact(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}
