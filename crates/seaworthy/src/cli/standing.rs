//! Where a rule stands, in words.

use std::net::SocketAddr;

use jiff::Timestamp;
use seaworthy_console::control::{Command, RuleStanding, VersionStanding};
use seaworthy_policy::mode::ModeSetting;
use seaworthy_policy::rollout::Stay;
use serde::Serialize;

use crate::app::operator::Through;

/// What `--json` prints: the rules, and who has told of them.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) through: Through,
    #[serde(skip)]
    pub(super) console: SocketAddr,
    pub(super) rules: Vec<RuleStanding>,
}

impl Shown {
    /// What is said beside the answer of a ledger.
    pub(super) fn aside(&self) -> String {
        match self.through {
            Through::Gateway => String::new(),
            Through::Ledger => format!(
                "no gateway runs at {}: this is what the ledger has, and no gate is read\n",
                self.console
            ),
        }
    }
}

pub(super) fn time(unix_ms: i64, form: &str) -> String {
    Timestamp::from_millisecond(unix_ms)
        .map_or_else(|_| "?".to_owned(), |time| time.strftime(form).to_string())
}

/// A time where seconds matter.
pub(super) fn exact(unix_ms: i64) -> String {
    time(unix_ms, "%Y-%m-%d %H:%M:%S UTC")
}

/// Why it stands where it stands; what a pinned rule has learned is of no effect.
pub(super) fn why(setting: ModeSetting, version: &VersionStanding) -> String {
    match setting {
        ModeSetting::Pinned(mode) if mode == version.mode => "the file pins it".to_owned(),
        _ => version.why.clone(),
    }
}

/// What keeps it there, where something does that is not said by why it is there.
pub(super) fn waits(standing: &RuleStanding, version: &VersionStanding) -> Option<String> {
    let rule = &standing.rule;
    let step = version.next_step.map(|step| step.to_string()).unwrap_or_default();
    let approved = match version.approved {
        Some(to) if version.next_step == Some(to) => format!("{to} is approved; "),
        _ => String::new(),
    };
    let waits = match version.stay.as_ref() {
        None => match &version.waits_for {
            Some(waits_for) => format!("every gate passes for {step}; it waits for {waits_for}"),
            None => format!("every gate passes for {step}: it is promoted within a minute"),
        },
        Some(Stay::Pinned) if ModeSetting::Pinned(version.mode) != standing.setting => {
            format!("it overrides the {} of the file until `rollout release`", standing.setting)
        }
        Some(Stay::Pinned | Stay::Done) => return None,
        Some(Stay::Off) => "it judges nothing until `mode set` turns it on".to_owned(),
        Some(Stay::Held { until_unix_ms, why }) => {
            let until = until_unix_ms.map_or_else(
                || "until `rollout release`".to_owned(),
                |until| format!("until {}", exact(until)),
            );
            match why {
                why if *why == version.why => format!("held {until}"),
                why => format!("held {until}: {why}"),
            }
        }
        Some(Stay::Settling { until_unix_ms }) => {
            format!("what it judges counts from {} on", exact(*until_unix_ms))
        }
        Some(Stay::Gates { of: 0, .. }) => {
            format!("its gates for {step} are read after a whole minute of evidence")
        }
        Some(Stay::Gates { passed, of }) => {
            let gates = format!("for {step}, {passed} of {of} gates pass");
            match &version.waits_for {
                Some(waits_for) => format!("{gates}; {waits_for}"),
                None => gates,
            }
        }
        Some(Stay::Frozen { window }) => {
            format!("every gate passes for {step}; frozen: {window}")
        }
        Some(Stay::Approval { to }) => {
            format!("every gate passes; `rollout promote {rule}` approves {to}")
        }
    };
    Some(approved + &waits)
}

/// What a command has led to, in a sentence for the terminal.
pub(super) fn sentence(rule: &str, command: &Command, standing: &RuleStanding) -> String {
    let version = standing.next.as_ref().unwrap_or(&standing.current);
    let of = |version: &VersionStanding| match &standing.next {
        Some(_) => format!("version {} of {rule}", version.version),
        None => rule.to_owned(),
    };
    let mut text = match command {
        Command::Waive { client, until_unix_ms } => {
            format!("{rule} may break {client} until {}", exact(*until_unix_ms))
        }
        Command::Unwaive { client } => format!("{rule} may not break {client} any more"),
        Command::Set { .. } => format!("{rule} is at {}", standing.current.mode),
        _ => format!("{} is at {}", of(version), version.mode),
    };
    let shown = match command {
        Command::Set { .. } => &standing.current,
        _ => version,
    };
    if let Some(waits) = waits(standing, shown) {
        text.push_str("; ");
        text.push_str(&waits);
    }
    // A rule that has no step above, or a pin, stays for another reason than its hold.
    let is_shown = matches!(shown.stay, Some(Stay::Held { .. }));
    if let (Command::Hold { .. }, false) = (command, is_shown) {
        text.push_str("; it is held, which matters once it could climb");
    }
    text.push('\n');
    text
}
