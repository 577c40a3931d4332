//! The commands that move a rule, as they are typed: the page itself changes nothing.

use maud::{Markup, html};
use seaworthy_policy::gates::{Gate, Verdict};
use seaworthy_policy::mode::ModeSetting;
use seaworthy_policy::rollout::Stay;

use crate::control::{RuleStanding, VersionStanding};

/// What is offered depends on where the rule stands: what would be refused is not.
pub(super) fn render(rule: &RuleStanding) -> Markup {
    html! {
        dl.commands {
            @for (what, command) in commands(rule) {
                div { dt { (what) } dd { code { (command) } } }
            }
        }
        @if let ModeSetting::Pinned(mode) = rule.setting {
            p.note {
                "The config pins it to " code { (mode) }
                ". To have evidence move it, set its mode to " code { "auto" } " there."
            }
        }
    }
}

fn commands(rule: &RuleStanding) -> Vec<(&'static str, String)> {
    let told = rule.next.as_ref().unwrap_or(&rule.current);
    let name = shell_word(&rule.rule);
    let rollout = |verb: &str, rest: &str| format!("seaworthy rollout {verb} {name}{rest}");
    let is_held = |version: &VersionStanding| matches!(version.stay, Some(Stay::Held { .. }));
    let is_pinned = matches!(rule.setting, ModeSetting::Pinned(_));
    let mut commands = vec![
        ("Every gate with its numbers, in the terminal", rollout("status", "")),
        ("Back to warn, at once, and held", rollout("demote", REASON)),
    ];
    if is_held(&rule.current) || is_held(told) || is_pinned {
        commands.push(("Let go of a hold, or of an alert's demotion", rollout("release", REASON)));
    }
    if !is_pinned {
        commands.push(("Keep it where it is for a while", rollout("hold", UNTIL)));
        match (&told.stay, told.next_step) {
            (Some(Stay::Approval { .. }), _) => {
                commands.push(("Approve the next step", rollout("promote", REASON)));
            }
            (_, Some(_)) => {
                commands.push(("One step up, whatever the gates say", rollout("promote", REASON)));
            }
            (_, None) => {}
        }
        let breaks = |version: &VersionStanding| {
            let is_broken = |gate: Gate| matches!(gate, Gate::Clients | Gate::HarmRate);
            version
                .gates
                .iter()
                .any(|reading| is_broken(reading.gate) && reading.verdict == Verdict::Fail)
        };
        if breaks(told) {
            let rest = format!(" CLIENT{UNTIL}");
            commands.push(("Accept that a client breaks", rollout("waive", &rest)));
        }
        commands.push((
            "A mode of your choice; it stays until evidence moves it",
            format!("seaworthy mode set {name} warn{REASON}"),
        ));
    }
    for waiver in &rule.waivers {
        let rest = format!(" {}{REASON}", shell_word(&waiver.client));
        commands.push(("Take a waiver back", rollout("unwaive", &rest)));
    }
    commands.push(("How it came here", rollout("history", "")));
    commands
}

const REASON: &str = " --reason 'why'";
const UNTIL: &str = " --until 2h --reason 'why'";

/// `text` as one word of a POSIX shell.
fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-@:./%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use seaworthy_policy::gates::Reading;
    use seaworthy_policy::mode::Share;

    use super::*;
    use crate::control::WaiverView;
    use crate::situation::tests::{reading, rule, version};

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (text, want) in [
            ("csrf", "csrf"),
            ("rate_limit@POST /api/traces", "'rate_limit@POST /api/traces'"),
            ("request_schema@GET /a/{id}", "'request_schema@GET /a/{id}'"),
            ("cookie:0123456789abcdef", "cookie:0123456789abcdef"),
            ("it's; $(reboot) `x`", r"'it'\''s; $(reboot) `x`'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), want);
        }
    }

    #[test]
    fn what_would_be_refused_is_not_offered() {
        let held = || Some(Stay::Held { until_unix_ms: None, why: "x".to_owned() });
        let fails: Vec<Reading> = vec![reading(Gate::Clients, Verdict::Fail, "breaks one")];
        let mut blocked = version("warn", "new", Some(Stay::Gates { passed: 7, of: 8 }));
        blocked.gates = fails;
        let mut done = version("enforce", "", Some(Stay::Done));
        done.next_step = None;
        let approval = Some(Stay::Approval { to: Share::ALL });
        let pinned = version("enforce", "", Some(Stay::Pinned));
        // Of each: what it offers but `status`, `demote`, `hold`, `mode set` and `history`.
        let cases = [
            ("auto", version("warn", "new", None), "promote"),
            ("auto", version("warn", "x", held()), "release promote"),
            ("auto", version("warn", "new", approval), "promote"),
            ("auto", blocked, "promote waive"),
            ("auto", done, ""),
        ];
        let verbs = |rule: &RuleStanding| -> Vec<String> {
            let verb = |command: &str| command.split(' ').nth(2).unwrap().to_owned();
            commands(rule).iter().map(|(_, command)| verb(command)).collect()
        };
        for (setting, version, want) in cases {
            let rule = rule("csrf", setting, version);
            let usual = ["status", "demote", "hold", "set", "history"];
            let found: Vec<_> =
                verbs(&rule).into_iter().filter(|verb| !usual.contains(&verb.as_str())).collect();
            assert_eq!(found.join(" "), want, "{rule:?}");
        }
        let pinned = rule("csrf", "enforce", pinned);
        assert_eq!(verbs(&pinned), ["status", "demote", "release", "history"]);
    }

    #[test]
    fn a_waiver_is_taken_back_by_name() {
        let mut rule = rule("csrf@GET /a b", "auto", version("warn", "new", None));
        rule.waivers = vec![WaiverView {
            client: "key:'x".to_owned(),
            until_unix_ms: 0,
            reason: String::new(),
            actor: String::new(),
        }];
        let command = r"seaworthy rollout unwaive 'csrf@GET /a b' 'key:'\''x' --reason 'why'";
        assert!(commands(&rule).iter().any(|(_, found)| found == command), "{:?}", commands(&rule));
    }
}
