//! `seaworthy rollout status`

use std::fmt::Write as _;

use clap::Args;
use seaworthy_console::control::{RuleStanding, VersionStanding};
use seaworthy_policy::gates::{Reading, Verdict};

use super::super::operator::{Gateway, name};
use super::super::standing::{exact, waits, why};
use super::super::table::{Cell, Paint, Paper, Table};
use super::super::{Answer, Surroundings};
use crate::exit::{Exit, Failure};

/// Show what each gate says of a rule, with its numbers and what it waits for
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy rollout status csrf
  seaworthy rollout status 'rate_limit@POST /api/traces' --json

Only `pass` advances. docs/gates.md has what each gate computes and each number means.")]
pub(in crate::cli) struct Status {
    /// The rule, as `seaworthy mode` lists it
    #[arg(value_parser = name)]
    rule: String,
    #[command(flatten)]
    gateway: Gateway,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let paper = surroundings.paper;
        let shown = self.gateway.standing(&self.rule, surroundings)?;
        if self.json {
            return Ok(Answer::json(&shown, Exit::Ok));
        }
        let text: String = shown.rules.iter().map(|rule| render(rule, paper)).collect();
        Ok(Answer::ok(text).aside(shown.aside()))
    }
}

fn render(rule: &RuleStanding, paper: Paper) -> String {
    let mut text = version(rule, &rule.current, paper);
    if let Some(next) = &rule.next {
        write!(
            text,
            "\nits settings were changed: version {} is judged beside it, to take its place\n\n",
            next.version
        )
        .expect("a string takes everything");
        text.push_str(&version(rule, next, paper));
    }
    if !rule.waivers.is_empty() {
        let mut table = Table::new(["waived client", "until", "by", "why"]);
        for waiver in &rule.waivers {
            table.row([
                Cell::new(waiver.client.as_str()),
                Cell::new(exact(waiver.until_unix_ms)),
                Cell::new(waiver.actor.as_str()),
                Cell::new(waiver.reason.as_str()),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render(paper));
    }
    text
}

fn version(rule: &RuleStanding, version: &VersionStanding, paper: Paper) -> String {
    let mut about = Table::new(["", ""]);
    let mut field = |name: &'static str, value: String| {
        about.row([Cell::new(name).paint(Paint::Dim), Cell::new(value)]);
    };
    field("mode", format!("{} since {}", version.mode, exact(version.since_unix_ms)));
    field("why", why(rule.setting, version));
    if let Some(waits) = waits(rule, version) {
        field("waits", waits);
    }
    if let Some(step) = version.next_step {
        field("next", format!("{step}, attempt {}", version.attempt));
    }
    field("version", format!("{}, policy {}", version.version, version.policy));
    // In place of headings stands the rule's name.
    let body = about.render(paper);
    let body = body.split_once('\n').map_or("", |(_, body)| body);
    let mut text = format!("{}\n{body}", rule.rule);
    if !version.gates.is_empty() {
        let mut gates = Table::new(["gate", "verdict", "what it says"]);
        for reading in &version.gates {
            gates.row(cells(reading));
        }
        text.push('\n');
        text.push_str(&gates.render(paper));
    }
    text
}

fn cells(reading: &Reading) -> [Cell; 3] {
    let paint = match reading.verdict {
        Verdict::Pass => Paint::Plain,
        Verdict::Fail => Paint::Red,
        Verdict::Inconclusive | Verdict::NoData | Verdict::Stale => Paint::Yellow,
    };
    let mut says = reading.sentence.clone();
    if let Some(waits_for) = &reading.waits_for {
        says.push_str("\nneeds ");
        says.push_str(waits_for);
    }
    let numbers: Vec<String> =
        reading.numbers.iter().map(|(name, value)| format!("{name} {}", number(value))).collect();
    if !numbers.is_empty() {
        says.push('\n');
        says.push_str(&numbers.join(", "));
    }
    [
        Cell::new(reading.gate.word()),
        Cell::new(reading.verdict.word()).paint(paint),
        Cell::new(says),
    ]
}

/// Enough digits to compare by; the JSON has all.
fn number(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e9 {
        format!("{value}")
    } else if (1e-4..1e9).contains(&size) {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use seaworthy_console::control::WaiverView;

    use super::super::super::mode::tests::{rule, version};
    use super::*;

    #[test]
    fn numbers_have_what_one_compares_by() {
        for (value, want) in [
            (0.0, "0"),
            (412.0, "412"),
            (0.005, "0.005"),
            (0.012_345, "0.0123"),
            (1.5e-9, "1.50e-9"),
            (3.2e40, "3.20e40"),
            (-2.25, "-2.25"),
        ] {
            assert_eq!(number(value), want);
        }
    }

    #[test]
    fn a_rule_is_shown_with_its_gates_and_waivers() {
        let reading = serde_json::json!({
            "gate": "harm_rate", "verdict": "inconclusive",
            "sentence": "none of 703 requests was harmed",
            "waits_for": "412 more requests", "numbers": { "requests": 703.0, "e_value": 12.25 },
        });
        let mut shown = rule("csrf", version("warn"));
        shown.current.gates = vec![serde_json::from_value(reading).unwrap()];
        shown.waivers = vec![WaiverView {
            client: "bearer:0123456789abcdef".to_owned(),
            until_unix_ms: 1_785_585_600_000,
            reason: "they are told".to_owned(),
            actor: "operator:ada".to_owned(),
        }];
        let policy = "ab".repeat(32);
        assert_eq!(
            render(&shown, Paper::Pipe),
            format!(
                "\
csrf
mode     warn since 2026-08-01 12:00:00 UTC
why      new: it collects evidence
waits    for 10%, 5 of 6 gates pass; harm_rate: needs 412 more requests
next     10%, attempt 1
version  1, policy {policy}

gate       verdict       what it says
harm_rate  inconclusive  none of 703 requests was harmed
                         needs 412 more requests
                         e_value 12.25, requests 703

waived client            until                    by            why
bearer:0123456789abcdef  2026-08-01 12:00:00 UTC  operator:ada  they are told
"
            )
        );
    }
}
