//! All rules and where they stand; those that need somebody first.

use maud::{Markup, html};
use seaworthy_policy::gates::Verdict;
use seaworthy_policy::mode::{Mode, ModeSetting, Share};
use seaworthy_policy::rollout::Stay;

use super::{Here, Part, as_of, day_and_time, document, parts_json, rules, updates};
use crate::control::{RuleStanding, VersionStanding};
use crate::live::LiveView;
use crate::query::link;
use crate::situation::{Situation, tally};

/// What one rendering shows.
pub(crate) struct Shown<'a> {
    pub(crate) live: &'a LiveView,
    pub(crate) rules: &'a [RuleStanding],
}

fn parts(shown: &Shown<'_>) -> [Part; 3] {
    [
        Part { id: "tally", html: sentence(shown.rules) },
        Part { id: "standings", html: rows(shown.rules) },
        as_of(shown.live),
    ]
}

/// The parts that change as a JSON object from id to HTML.
pub(crate) fn render_parts(shown: &Shown<'_>) -> String {
    parts_json(parts(shown))
}

/// The whole page.
pub(crate) fn render(shown: &Shown<'_>) -> String {
    let [tally, rows, as_of] = parts(shown);
    let main = html! {
        section aria-labelledby="rules-title" {
            div.heading {
                h2 #rules-title { "Rules" }
                p.lead id=(tally.id) { (tally.html) }
            }
            table.cards.standings role="table" aria-labelledby="rules-title" {
                thead role="rowgroup" {
                    tr role="row" {
                        th scope="col" role="columnheader" { "Rule" }
                        th scope="col" role="columnheader" { "Mode" }
                        th scope="col" role="columnheader" { "Why" }
                        th scope="col" role="columnheader" { "Waits for" }
                    }
                }
                tbody role="rowgroup" id=(rows.id) { (rows.html) }
            }
            p.note {
                "A rule whose mode is " code { "auto" }
                " climbs from " code { "warn" }
                " step by step, each time that every gate passes on the traffic it saw, and falls \
                 back by itself. This page changes nothing; each rule's own page has the commands \
                 that do."
            }
        }
    };
    let beside = updates(&as_of, "/events/rules");
    document(&shown.live.gateway.service, Here::Rules, None, beside, main)
}

/// How many rules fell, are held, wait.
pub(super) fn sentence(rules: &[RuleStanding]) -> Markup {
    let parts = tally(rules);
    html! {
        @if parts.is_empty() { "There are no rules yet." }
        @for (index, (situation, words)) in parts.iter().enumerate() {
            @if index > 0 { ", " }
            @match situation {
                Situation::Fell | Situation::Blocked => { strong.harm { (words) } }
                Situation::Held | Situation::Approval => { strong.would { (words) } }
                _ => { (words) }
            }
            @if index + 1 == parts.len() { "." }
        }
    }
}

fn rows(rules: &[RuleStanding]) -> Markup {
    let mut rules: Vec<_> = rules.iter().map(|rule| (Situation::of(rule), rule)).collect();
    rules.sort_by(|(one, left), (other, right)| one.cmp(other).then(left.rule.cmp(&right.rule)));
    html! {
        @for (situation, rule) in &rules { (row(*situation, rule)) }
        @if rules.is_empty() {
            tr.empty role="row" { td role="cell" colspan="4" { "No rules are configured." } }
        }
    }
}

fn row(situation: Situation, rule: &RuleStanding) -> Markup {
    // What is to come is what there is to say, where two versions are judged.
    let told = rule.next.as_ref().unwrap_or(&rule.current);
    html! {
        tr role="row" {
            th scope="row" role="rowheader" {
                a href=(link("/rules", "rule", &rule.rule)) { code { (rule.rule) } }
                " " (self::situation(situation))
            }
            td role="cell" data-label="Mode" {
                (standing(&rule.current, rule))
                @if let Some(next) = &rule.next {
                    div.beside { small { "version " (next.version) " beside it" } (standing(next, rule)) }
                }
            }
            td role="cell" data-label="Why" {
                p { (why(rule, &rule.current)) }
                p.when { "since " (day_and_time(rule.current.since_unix_ms)) }
            }
            td role="cell" data-label="Waits for" { (waits_for(told)) }
        }
    }
}

/// Why a version has its mode. What the file pins has never been moved.
pub(super) fn why<'a>(rule: &RuleStanding, version: &'a VersionStanding) -> &'a str {
    match rule.setting {
        ModeSetting::Pinned(mode) if mode == version.mode => "the file pins it",
        _ => &version.why,
    }
}

/// The word for how the rule does, with its mark.
pub(super) fn situation(situation: Situation) -> Markup {
    let (class, mark, word) = situation.shown();
    html! { span.state.{(class)} { span aria-hidden="true" { (mark) " " } (word) } }
}

/// The mode of a version and its step as a bar.
pub(super) fn standing(version: &VersionStanding, rule: &RuleStanding) -> Markup {
    html! {
        div.standing {
            (rules::mode(version.mode, rule.setting))
            @if version.mode != Mode::Off { (bar(version)) }
        }
    }
}

/// How far it has climbed: the enforced share of the clients, and a mark at the next step. No
/// style attribute: the content policy forbids them.
fn bar(version: &VersionStanding) -> Markup {
    let share = match version.mode {
        Mode::Enforce(share) => share,
        Mode::Off | Mode::Warn => Share::NONE,
    };
    let at = |share: Share| f64::from(share.basis_points()) / 100.0;
    let words = match version.next_step {
        Some(next) => format!("enforced for {share} of the clients, {next} next"),
        None => format!("enforced for {share} of the clients"),
    };
    html! {
        svg.bar viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(words) {
            title { (words) }
            rect.whole width="100" height="8" {}
            rect.share width=(at(share)) height="8" {}
            @if let Some(next) = version.next_step.filter(|next| *next != Share::ALL) {
                line.next x1=(at(next)) x2=(at(next)) y1="0" y2="8" {}
            }
        }
    }
}

/// What keeps a version where it is, as a sentence.
pub(super) fn waits_for(version: &VersionStanding) -> Markup {
    let until = |until_unix_ms: i64| html! { "until " (day_and_time(until_unix_ms)) };
    let failed = version.gates.iter().find(|reading| reading.verdict == Verdict::Fail);
    html! {
        @match &version.stay {
            Some(Stay::Pinned) => { "Nothing: the config pins its mode." }
            Some(Stay::Off) => { "Nothing: it is off." }
            Some(Stay::Done) => { "Nothing: it is enforced for everyone." }
            Some(Stay::Held { until_unix_ms, why }) => {
                @match until_unix_ms {
                    Some(unix_ms) => { "Held " (until(*unix_ms)) }
                    None => { "Held until somebody releases it" }
                }
                @if *why != version.why { ": " (why) } @else { "." }
            }
            Some(Stay::Settling { until_unix_ms }) => {
                "Its last change settles " (until(*until_unix_ms)) "."
            }
            Some(Stay::Frozen { window }) => { "Every gate passes; a freeze covers now: " (window) }
            Some(Stay::Approval { to }) => { "Every gate passes; somebody has to approve " (to) "." }
            Some(Stay::Gates { passed, of }) => {
                @match (failed, &version.waits_for) {
                    (Some(reading), _) => { strong.harm { (reading.sentence) } }
                    (None, Some(words)) => { (words) }
                    (None, None) => {}
                }
                @if *of == 0 { p.when { "No gate has judged it yet." } }
                @else { p.when { (passed) " of " (of) " gates pass" } }
            }
            None => {
                @match &version.waits_for {
                    Some(words) => { "Every gate passes here; it waits for " (words) "." }
                    None => { "Nothing: it moves at the next look." }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::situation::tests::{rule, version};

    #[test]
    fn the_bar_says_how_far_and_what_is_next() {
        let cases = [
            ("warn", "width=\"0\"", "enforced for 0% of the clients, 10% next"),
            ("enforce 0.5%", "width=\"0.5\"", "enforced for 0.5% of the clients, 10% next"),
            ("enforce", "width=\"100\" height=\"8\"", "enforced for 100% of the clients, 10% next"),
        ];
        for (mode, width, words) in cases {
            let bar = bar(&version(mode, "", None)).into_string();
            assert!(bar.contains(width) && bar.contains(words), "{mode}: {bar}");
        }
    }

    #[test]
    fn what_the_file_pins_says_so() {
        for (setting, mode, words) in [
            ("auto", "warn", "new: it collects evidence"),
            ("off", "off", "the file pins it"),
            // An alert has taken it back.
            ("enforce", "warn", "new: it collects evidence"),
        ] {
            let rule = rule("csrf", setting, version(mode, "new: it collects evidence", None));
            assert_eq!(why(&rule, &rule.current), words, "{setting}");
        }
    }

    #[test]
    fn who_waits_for_the_leader_of_a_fleet_says_so() {
        let mut waiting = version("warn", "new", None);
        waiting.waits_for = Some("the gateway that leads the fleet".to_owned());
        let sentence = waits_for(&waiting).into_string();
        assert!(sentence.contains("waits for the gateway that leads the fleet."), "{sentence}");
    }

    #[test]
    fn each_stay_is_a_sentence() {
        let cases = [
            (Some(Stay::Pinned), "the config pins its mode"),
            (Some(Stay::Off), "it is off"),
            (Some(Stay::Done), "enforced for everyone"),
            (
                Some(Stay::Held { until_unix_ms: None, why: "<b>".to_owned() }),
                "until somebody releases it: &lt;b&gt;",
            ),
            (
                Some(Stay::Held { until_unix_ms: Some(1_767_268_800_000), why: "new".to_owned() }),
                "01-01 12:00</time>.",
            ),
            (Some(Stay::Settling { until_unix_ms: 1_767_268_800_000 }), "settles until <time"),
            (Some(Stay::Frozen { window: "Fridays".to_owned() }), "a freeze covers now: Fridays"),
            (Some(Stay::Approval { to: Share::ALL }), "has to approve 100%"),
            (Some(Stay::Gates { passed: 0, of: 0 }), "No gate has judged it yet"),
            (Some(Stay::Gates { passed: 6, of: 8 }), "6 of 8 gates pass"),
            (None, "at the next look"),
        ];
        for (stay, words) in cases {
            let sentence = waits_for(&version("warn", "new", stay)).into_string();
            let bare = sentence.replace(" UTC", "");
            assert!(bare.contains(words), "{words:?} is not in {sentence}");
        }
    }

    #[test]
    fn what_needs_somebody_comes_first() {
        let held = |why: &str| Some(Stay::Held { until_unix_ms: None, why: why.to_owned() });
        let rules = [
            rule("a_pinned", "enforce", version("enforce", "", Some(Stay::Pinned))),
            rule("b_waits", "auto", version("warn", "new", None)),
            rule("c_held", "auto", version("warn", "new", held("a release is out"))),
            rule("d_fell", "auto", version("warn", "denials rose", held("denials rose"))),
        ];
        let rows = rows(&rules).into_string();
        let at = |name: &str| rows.find(name).unwrap();
        assert!(at("d_fell") < at("c_held") && at("c_held") < at("b_waits"), "{rows}");
        assert!(at("b_waits") < at("a_pinned"), "{rows}");
    }
}
