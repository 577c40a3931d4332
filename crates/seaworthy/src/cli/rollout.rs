//! `seaworthy rollout`: what each gate says of a rule, and what operators do with it.

mod history;
mod status;
mod verify;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use seaworthy_console::control::Command;

use super::operator::{Gateway, Who, name};
use super::until::Until;
use super::{Answer, Surroundings};
use crate::exit::{Exit, Failure};

/// Show what a rule waits for, move it, hold it, and check its receipts
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  seaworthy rollout status csrf
  seaworthy rollout demote csrf --reason 'checkouts fail'
  seaworthy rollout history csrf
  seaworthy rollout verify receipt.json

What moves a rule needs a --reason and is in the audit log. Where no gateway runs it is written to
the ledger and in force with the next start.")]
pub(super) enum Rollout {
    Status(status::Status),
    /// Take a rule one step up, whatever its gates say; with manual approval, approve the step
    #[command(after_help = "\
Examples:
  seaworthy rollout promote csrf --reason 'every client was told'

It takes one step: from warn to 10 %, to 50 %, to everybody, as [rollout] steps says. A hold is
cleared. With approval = \"manual\" it approves the next step, which the rule takes once every gate
passes; on a rule that is held it takes the step.")]
    Promote(Plain),
    /// Take a rule back to warn at once, and hold it there for a while
    #[command(after_help = "\
Examples:
  seaworthy rollout demote csrf --reason 'checkouts fail'

Nobody is denied by the rule from then on, by neither of its versions. It stays in warn for
[rollout] hold_after_fall; one that the file pins stays there until `seaworthy rollout release`.")]
    Demote(Plain),
    Hold(Hold),
    /// Let go of a rule that is held, by an operator, a fall or an alert
    #[command(after_help = "\
Examples:
  seaworthy rollout release csrf --reason 'the sale is over'

The mode stays as it is: evidence moves it on. A rule that the file pins has the file's mode again.")]
    Release(Plain),
    Waive(Waive),
    Unwaive(Unwaive),
    History(history::History),
    Receipt(history::One),
    Verify(verify::Verify),
}

#[derive(Debug, Args)]
pub(super) struct Plain {
    /// The rule, as `seaworthy mode` lists it
    #[arg(value_parser = name)]
    rule: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    gateway: Gateway,
    /// Print what became of it as JSON
    #[arg(long)]
    json: bool,
}

/// Keep a rule where it is, for a time or until it is released
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy rollout hold csrf --reason 'the sale' --until 2h
  seaworthy rollout hold csrf --reason 'the sale' --until 2026-12-01T12:00:00Z
  seaworthy rollout hold csrf --reason 'until the desk is mended'

A rule that is held is not promoted. It falls all the same when an alarm goes off.")]
pub(super) struct Hold {
    /// Until then: a time ahead such as 2h, or a date; else until it is released
    #[arg(long, value_name = "TIME")]
    until: Option<Until>,
    #[command(flatten)]
    plain: Plain,
}

/// Accept that a rule breaks one client, for a time
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy rollout waive csrf bearer:0123456789abcdef --reason 'they are told' --until 14d
  seaworthy rollout waive csrf 'acme (bearer:0123456789abcdef)' --reason 'they know' --until 14d

The client is named as `seaworthy rollout status` names it. What the rule would do to it does not
count any more; once it is enforced, the client is denied like any other. What the gates have seen
is counted anew.")]
pub(super) struct Waive {
    #[command(flatten)]
    plain: Plain,
    /// The client, as `seaworthy rollout status` names it
    #[arg(value_parser = name)]
    client: String,
    /// Until then: a time ahead such as 14d, or a date; at most 366 days
    #[arg(long, value_name = "TIME")]
    until: Until,
}

/// Take a waiver back
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy rollout unwaive csrf bearer:0123456789abcdef --reason 'they have mended it'")]
pub(super) struct Unwaive {
    #[command(flatten)]
    plain: Plain,
    /// The client that has the waiver
    #[arg(value_parser = name)]
    client: String,
}

impl Rollout {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let (plain, command) = match self {
            Self::Status(status) => return status.run(surroundings),
            Self::History(history) => return history.run(surroundings),
            Self::Receipt(one) => return one.run(surroundings),
            Self::Verify(verify) => return verify.run(surroundings),
            Self::Promote(plain) => {
                let epoch = plain.gateway.epoch(&plain.rule, &surroundings)?;
                (plain, Command::Promote { epoch })
            }
            Self::Demote(plain) => (plain, Command::Demote {}),
            Self::Release(plain) => (plain, Command::Release {}),
            Self::Hold(Hold { until, plain }) => {
                let until_unix_ms = until.map(ahead).transpose()?;
                (plain, Command::Hold { until_unix_ms })
            }
            Self::Waive(Waive { client, until, plain }) => {
                let until_unix_ms = ahead(until)?;
                (plain, Command::Waive { client, until_unix_ms })
            }
            Self::Unwaive(Unwaive { client, plain }) => (plain, Command::Unwaive { client }),
        };
        let Plain { rule, who, gateway, json } = plain;
        gateway.ask(rule, command, &who, json, surroundings)
    }
}

fn ahead(until: Until) -> Result<i64, Failure> {
    until
        .unix_ms(Timestamp::now())
        .ok_or_else(|| Failure::new(Exit::Usage, "the time of --until is over already"))
}
