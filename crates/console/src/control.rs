//! What operators can ask of the running gateway, and what they are shown of its rules.
//!
//! The console defines the trait and serves it; the app implements it. The command line speaks the
//! same types over HTTP.

use std::future::Future;
use std::pin::Pin;

use seaworthy_policy::evidence::Lane;
use seaworthy_policy::gates::Reading;
use seaworthy_policy::mode::{Mode, ModeSetting, Share};
use seaworthy_policy::rollout::Stay;
use serde::{Deserialize, Serialize};

/// Where one rule stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleStanding {
    /// `rate_limit`, or `rate_limit@POST /api/traces`.
    pub rule: String,
    pub setting: ModeSetting,
    pub current: VersionStanding,
    /// What is to take the place of `current`, judged beside it.
    pub next: Option<VersionStanding>,
    pub waivers: Vec<WaiverView>,
}

/// Where one version of a rule stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionStanding {
    pub lane: Lane,
    pub version: u32,
    /// SHA-256 of what it judges by, in hexadecimal.
    pub policy: String,
    /// What is in force.
    pub mode: Mode,
    pub epoch: u64,
    /// Unix milliseconds.
    pub since_unix_ms: i64,
    /// From when on evidence counts, in Unix milliseconds.
    pub window_unix_ms: i64,
    /// Why it stands where it stands.
    pub why: String,
    /// The step that it would climb next, and which try that is.
    pub next_step: Option<Share>,
    pub attempt: u32,
    /// The step that somebody has approved.
    #[serde(default)]
    pub approved: Option<Share>,
    /// What keeps it where it is.
    pub stay: Option<Stay>,
    /// What it waits for, in words; the first gate that does not pass says it.
    pub waits_for: Option<String>,
    pub gates: Vec<Reading>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaiverView {
    pub client: String,
    pub until_unix_ms: i64,
    pub reason: String,
    pub actor: String,
}

/// What an operator asks for: `{"rule": …, "actor": …, "reason": …, "command": "hold", …}`.
///
/// Fields that a command does not have are refused by [`Command`], which is given all that are left:
/// denied here, they would be denied to it, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub rule: String,
    /// Who asks: it is in the audit log.
    pub actor: String,
    pub reason: String,
    #[serde(flatten)]
    pub command: Command,
}

/// Those without fields are structs, too: of a unit, fields that are too many are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Chooses a mode, and clears what holds the rule.
    Set {
        mode: Mode,
    },
    /// One step up, whatever the gates say; where steps need approval and the gates do not pass
    /// yet, the approval.
    Promote {
        /// The epoch of the version that is tried, as whoever asks has seen it: with another one it
        /// is refused, so that of two who want the same step only one is heard. `None` takes the
        /// step above wherever the rule is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
    },
    /// Down to `warn`, at once, and held.
    Demote {},
    /// Keeps it where it is, for a time or until it is released.
    Hold {
        until_unix_ms: Option<i64>,
    },
    /// Lets go of a hold and of an emergency.
    Release {},
    /// Accepts that this client breaks, for a time.
    Waive {
        client: String,
        until_unix_ms: i64,
    },
    Unwaive {
        client: String,
    },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// One sentence.
    pub sentence: String,
    pub standing: RuleStanding,
    /// Whether it is in the ledger; if not, it takes effect all the same and is written later.
    pub durable: bool,
}

/// Why it was not done. Fits after "refused: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no rule {0:?}")]
    NoSuchRule(String),
    /// The request makes no sense for the rule as it is.
    #[error("{0}")]
    NotNow(String),
    #[error("{0}")]
    BadRequest(String),
    /// It must be durable first, and cannot be.
    #[error("{0}")]
    NotKept(String),
}

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where there are no rules: nothing is shown, and everything is refused.
#[derive(Debug)]
pub struct NoRules;

impl Control for NoRules {
    fn standings(&self) -> Vec<RuleStanding> {
        Vec::new()
    }

    fn ask(&self, request: Request) -> Answer<'_, Result<Done, Refused>> {
        Box::pin(std::future::ready(Err(Refused::NoSuchRule(request.rule))))
    }
}

/// The door to the rules' modes.
pub trait Control: Send + Sync {
    /// All rules, in the order of their names.
    fn standings(&self) -> Vec<RuleStanding>;

    fn ask(&self, request: Request) -> Answer<'_, Result<Done, Refused>>;

    /// Which audit log the gateway writes, so that nobody takes it for another one; `None` where it
    /// could not write any when it was started.
    fn log(&self) -> Option<&str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_written_and_nothing_is_passed_over() {
        let request = |command| Request {
            rule: "csrf".to_owned(),
            actor: "ada".to_owned(),
            reason: "to see".to_owned(),
            command,
        };
        let client = "bearer:0123456789abcdef".to_owned();
        for (command, fields) in [
            (Command::Set { mode: Mode::Warn }, r#""command":"set","mode":"warn""#),
            (Command::Promote { epoch: None }, r#""command":"promote""#),
            (Command::Promote { epoch: Some(7) }, r#""command":"promote","epoch":7"#),
            (Command::Demote {}, r#""command":"demote""#),
            (Command::Hold { until_unix_ms: None }, r#""command":"hold","until_unix_ms":null"#),
            (Command::Release {}, r#""command":"release""#),
            (
                Command::Waive { client: client.clone(), until_unix_ms: 7 },
                r#""command":"waive","client":"bearer:0123456789abcdef","until_unix_ms":7"#,
            ),
            (
                Command::Unwaive { client },
                r#""command":"unwaive","client":"bearer:0123456789abcdef""#,
            ),
        ] {
            let text = format!(r#"{{"rule":"csrf","actor":"ada","reason":"to see",{fields}}}"#);
            let request = request(command);
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
            let more = text.replacen('{', r#"{"until":1,"#, 1);
            assert!(serde_json::from_str::<Request>(&more).is_err(), "{more}");
        }
        for wrong in [
            r#"{"rule":"csrf","actor":"ada","reason":"r"}"#,
            r#"{"rule":"csrf","actor":"ada","reason":"r","command":"set"}"#,
            r#"{"rule":"csrf","actor":"ada","reason":"r","command":"set","mode":"auto"}"#,
            r#"{"rule":"csrf","actor":"ada","command":"demote"}"#,
            r#"{"rule":"csrf","actor":"ada","reason":"r","command":"dance"}"#,
        ] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
    }
}
