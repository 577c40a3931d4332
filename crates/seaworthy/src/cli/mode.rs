//! `seaworthy mode`

use clap::{Args, Subcommand};
use seaworthy_console::control::{Command, RuleStanding, VersionStanding};
use seaworthy_policy::mode::Mode as RuleMode;
use seaworthy_policy::rollout::Stay;

use super::operator::{Gateway, Who, name};
use super::standing::{time, waits, why};
use super::table::{Cell, Paint, Paper, Table};
use super::{Answer, Surroundings};
use crate::exit::{Exit, Failure};

/// List the rules: their modes, why, and what each waits for
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  seaworthy mode
  seaworthy mode --json
  seaworthy mode set csrf enforce=10% --reason 'the desk sends its tokens now'

It asks the running gateway, and where none runs it reads the ledger. Below a rule stands what it
waits for; `seaworthy rollout status RULE` has every gate. Times are UTC."
)]
pub(super) struct Mode {
    #[command(subcommand)]
    set: Option<Move>,
    #[command(flatten)]
    gateway: Gateway,
    /// Print the rules as JSON, with every gate
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Move {
    Set(Set),
}

/// Choose the mode of a rule, and clear what holds it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy mode set csrf enforce=10% --reason 'the desk sends its tokens now'
  seaworthy mode set 'rate_limit@POST /api/traces' warn --reason 'the batch job fails'
  seaworthy mode set cors off --reason 'no browser calls this'

It is in the audit log with who asked and why. Evidence moves the rule on from there; to keep it
there, `seaworthy rollout hold`. A rule that the file pins can be set to warn, in an emergency, and
to nothing else. Where no gateway runs it is written to the ledger and in force with the next
start.")]
struct Set {
    /// The rule, as `seaworthy mode` lists it
    #[arg(value_parser = name)]
    rule: String,
    /// off, warn, enforce, or a share of the clients such as enforce=10%
    #[arg(value_parser = mode)]
    mode: RuleMode,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    gateway: Gateway,
    /// Print what became of it as JSON
    #[arg(long)]
    json: bool,
}

/// `enforce=10%` needs no quotes in a shell; `enforce 10%` is how it is shown.
fn mode(text: &str) -> Result<RuleMode, String> {
    let spaced = text.replacen('=', " ", 1);
    spaced.parse().map_err(|_| match text {
        "auto" => "evidence moves every rule that the file does not pin: choose where it begins, \
                   such as warn"
            .to_owned(),
        _ => "expected off, warn, enforce, or a share such as enforce=10%".to_owned(),
    })
}

impl Mode {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        if let Some(Move::Set(set)) = self.set {
            let Set { rule, mode, who, gateway, json } = set;
            return gateway.ask(rule, Command::Set { mode }, &who, json, surroundings);
        }
        let paper = surroundings.paper;
        let shown = self.gateway.standings(surroundings)?;
        if self.json {
            return Ok(Answer::json(&shown, Exit::Ok));
        }
        Ok(Answer::ok(render(&shown.rules, paper)).aside(shown.aside()))
    }
}

fn render(rules: &[RuleStanding], paper: Paper) -> String {
    let mut table = Table::new(["rule", "mode", "next", "since (UTC)", "why"]);
    for rule in rules {
        table.row(cells(rule.rule.clone(), rule, &rule.current));
        if let Some(waits) = waits(rule, &rule.current) {
            table.note(Cell::new(waits).paint(paint_of(&rule.current)));
        }
        if let Some(next) = &rule.next {
            table.row(cells(format!("  version {}", next.version), rule, next));
            if let Some(waits) = waits(rule, next) {
                table.note(Cell::new(waits).paint(paint_of(next)));
            }
        }
    }
    table.render(paper)
}

fn paint_of(version: &VersionStanding) -> Paint {
    match version.stay {
        Some(Stay::Held { .. } | Stay::Pinned) => Paint::Yellow,
        _ => Paint::Dim,
    }
}

fn cells(name: String, rule: &RuleStanding, version: &VersionStanding) -> [Cell; 5] {
    let paint = match version.mode {
        RuleMode::Off => Paint::Dim,
        RuleMode::Warn => Paint::Plain,
        RuleMode::Enforce(_) => Paint::Bold,
    };
    let next = match (&version.stay, version.next_step) {
        (Some(Stay::Pinned), _) | (_, None) => "-".to_owned(),
        (_, Some(step)) => step.to_string(),
    };
    [
        Cell::new(name),
        Cell::new(version.mode.to_string()).paint(paint),
        Cell::right(next),
        Cell::new(time(version.since_unix_ms, "%m-%d %H:%M")),
        Cell::new(why(rule.setting, version)),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use seaworthy_policy::evidence::Lane;
    use seaworthy_policy::mode::{ModeSetting, Share};

    use super::*;

    pub(in crate::cli) fn version(mode: &str) -> VersionStanding {
        VersionStanding {
            lane: Lane::Current,
            version: 1,
            policy: "ab".repeat(32),
            mode: mode.parse().unwrap(),
            epoch: 1,
            since_unix_ms: 1_785_585_600_000,
            window_unix_ms: 1_785_585_610_000,
            why: "new: it collects evidence".to_owned(),
            next_step: Share::from_basis_points(1000),
            attempt: 1,
            approved: None,
            stay: Some(Stay::Gates { passed: 5, of: 6 }),
            waits_for: Some("harm_rate: needs 412 more requests".to_owned()),
            gates: Vec::new(),
        }
    }

    pub(in crate::cli) fn rule(name: &str, current: VersionStanding) -> RuleStanding {
        RuleStanding {
            rule: name.to_owned(),
            setting: ModeSetting::Auto,
            current,
            next: None,
            waivers: Vec::new(),
        }
    }

    #[test]
    fn a_rule_is_a_line_with_what_it_waits_for_below() {
        let mut tried =
            rule("csrf", VersionStanding { next_step: Some(Share::ALL), ..version("enforce 50%") });
        tried.current.why = "every gate passed for 50%".to_owned();
        tried.current.stay =
            Some(Stay::Held { until_unix_ms: None, why: "ada: the sale".to_owned() });
        tried.next = Some(VersionStanding {
            version: 2,
            lane: Lane::Next,
            approved: Share::from_basis_points(1000),
            ..version("warn")
        });
        let mut pinned = rule("header_limit", version("enforce"));
        pinned.setting = ModeSetting::ENFORCE;
        pinned.current.stay = Some(Stay::Pinned);
        let mut fallen = pinned.clone();
        fallen.rule = "injection".to_owned();
        fallen.current.mode = RuleMode::Warn;
        fallen.current.why = "ada: it hurts".to_owned();
        assert_eq!(
            render(&[rule("cors", version("warn")), tried, pinned, fallen], Paper::Pipe),
            "\
rule          mode         next  since (UTC)  why
cors          warn          10%  08-01 12:00  new: it collects evidence
  for 10%, 5 of 6 gates pass; harm_rate: needs 412 more requests
csrf          enforce 50%  100%  08-01 12:00  every gate passed for 50%
  held until `rollout release`: ada: the sale
  version 2   warn          10%  08-01 12:00  new: it collects evidence
  10% is approved; for 10%, 5 of 6 gates pass; harm_rate: needs 412 more requests
header_limit  enforce         -  08-01 12:00  the file pins it
injection     warn            -  08-01 12:00  ada: it hurts
  it overrides the enforce of the file until `rollout release`
"
        );
    }

    #[test]
    fn modes_are_written_without_quotes() {
        for (text, want) in [
            ("off", Some("off")),
            ("warn", Some("warn")),
            ("enforce", Some("enforce")),
            ("enforce=10%", Some("enforce 10%")),
            ("enforce 0.5%", Some("enforce 0.5%")),
            ("enforce=100%", Some("enforce")),
            ("enforce=101%", None),
            ("enforce=", None),
            ("auto", None),
            ("Enforce", None),
        ] {
            let read = mode(text).ok().map(|mode| mode.to_string());
            assert_eq!(read.as_deref(), want, "{text}");
        }
    }
}
