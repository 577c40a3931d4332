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

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub rule: String,
    /// Who asks: it is in the audit log.
    pub actor: String,
    pub reason: String,
    #[serde(flatten)]
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Chooses a mode, and clears what holds the rule.
    Set {
        mode: Mode,
    },
    /// One step up, whatever the gates say; where steps need approval and the gates do not pass
    /// yet, the approval.
    Promote,
    /// Down to `warn`, at once, and held.
    Demote,
    /// Keeps it where it is, for a time or until it is released.
    Hold {
        until_unix_ms: Option<i64>,
    },
    /// Lets go of a hold and of an emergency.
    Release,
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
}
