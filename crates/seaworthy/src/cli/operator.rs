//! What the commands that show and move rules have in common: where the gateway is, who asks and
//! why, and what is said where it was not done.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use seaworthy_console::control::{Command, Refused, Request, RuleStanding};
use seaworthy_policy::rollout::REASON_CHARS_MAX;
use seaworthy_store::StoreError;

use super::standing::{Shown, sentence};
use super::{Answer, ConfigFile, Surroundings};
use crate::app::operator::{self, OperatorError, Through, Way};
use crate::config::{self, Flags, nearest};
use crate::exit::{Exit, Failure};

/// Characters of a name; the gateway takes no more.
const ACTOR_CHARS_MAX: usize = 64;

/// Bytes of a rule's or a client's name: longer ones there are none.
const NAME_BYTES_MAX: usize = 1024;

/// Where the gateway is.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Gateway {
    #[command(flatten)]
    file: ConfigFile,
    /// The gateway's console, such as 127.0.0.1:9900; else the config's
    #[arg(long, value_name = "ADDR")]
    console: Option<SocketAddr>,
    /// The folder with the gateway's data, for when none runs; else the config's
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Who asks, and why.
#[derive(Clone, Debug, Args)]
pub(super) struct Who {
    /// Why, in one line: it is in the audit log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// Who asks, as the audit log is to have it; else the login name
    #[arg(long, value_name = "NAME", value_parser = actor)]
    actor: Option<String>,
}

/// One line of at most so many characters. What is wrong is not shown: it may be a megabyte.
fn line(text: &str, chars_max: usize) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(format!("expected 1 to {chars_max} characters in one line"));
    }
    match text.chars().count() {
        count if count > chars_max => {
            Err(format!("it has {count} characters, and {chars_max} are the most"))
        }
        _ => Ok(text.to_owned()),
    }
}

fn reason(text: &str) -> Result<String, String> {
    line(text, REASON_CHARS_MAX)
}

fn actor(text: &str) -> Result<String, String> {
    line(text, ACTOR_CHARS_MAX)
}

/// A rule or a client by its name.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("it has {} bytes, and {NAME_BYTES_MAX} are the most", text.len()));
    }
    Ok(text.to_owned())
}

impl Who {
    /// The actor; the login name where none is given.
    fn actor(&self, surroundings: &Surroundings) -> Result<String, Failure> {
        if let Some(actor) = &self.actor {
            return Ok(actor.clone());
        }
        let variable = |name| surroundings.env.iter().find(|(known, _)| known == name);
        let login = variable("USER").or_else(|| variable("LOGNAME"));
        login.and_then(|(_, login)| actor(login).ok()).ok_or_else(|| {
            Failure::new(Exit::Usage, "nobody is known to ask: there is no login name")
                .details("name yourself with --actor")
        })
    }
}

impl Gateway {
    fn way(self, surroundings: Surroundings) -> Result<Way, Failure> {
        let (console, is_named) = (self.console, self.console.is_some());
        let flags = Flags { data: self.data, ..Flags::default() };
        let config = config::locate(&self.file.inputs(flags, surroundings));
        let console = match (console, &config) {
            (Some(console), _) => console,
            (None, Ok(config)) => config.console.addr,
            (None, Err(faults)) => {
                let mut failure = Failure::from(faults.clone());
                failure.details += "a gateway that runs is reached all the same with --console";
                return Err(failure);
            }
        };
        Ok(Way { console, is_named, config })
    }

    /// The epoch of the version of `rule` that is tried, for a step that is to be taken from there
    /// alone; `None` where there is no such rule.
    pub(super) fn epoch(
        &self,
        rule: &str,
        surroundings: &Surroundings,
    ) -> Result<Option<u64>, Failure> {
        let shown = self.clone().standings(surroundings.clone())?;
        let seen = shown.rules.into_iter().find(|known| known.rule == rule);
        Ok(seen.map(|seen| seen.next.unwrap_or(seen.current).epoch))
    }

    /// Where every rule stands.
    pub(super) fn standings(self, surroundings: Surroundings) -> Result<Shown, Failure> {
        let way = self.way(surroundings)?;
        let (through, rules) = operator::standings(&way).map_err(failure)?;
        Ok(Shown { through, console: way.console, rules })
    }

    /// Where `rule` stands.
    pub(super) fn standing(self, rule: &str, surroundings: Surroundings) -> Result<Shown, Failure> {
        let mut shown = self.standings(surroundings)?;
        if !shown.rules.iter().any(|known| known.rule == rule) {
            return Err(no_such_rule(rule, &shown.rules));
        }
        shown.rules.retain(|known| known.rule == rule);
        Ok(shown)
    }

    /// Has it done, and says what became of it.
    pub(super) fn ask(
        self,
        rule: String,
        command: Command,
        who: &Who,
        json: bool,
        surroundings: Surroundings,
    ) -> Result<Answer, Failure> {
        let actor = who.actor(&surroundings)?;
        let request = Request { rule, actor, reason: who.reason.clone(), command };
        let way = self.way(surroundings)?;
        let (through, done) = match operator::ask(&way, &request) {
            Ok(done) => done,
            Err(OperatorError::Refused(Refused::NoSuchRule(rule))) => {
                let known = operator::standings(&way).map_err(failure)?;
                return Err(no_such_rule(&rule, &known.1));
            }
            Err(error) => return Err(failure(error)),
        };
        if json {
            #[derive(serde::Serialize)]
            struct Printed<'a> {
                through: Through,
                #[serde(flatten)]
                done: &'a seaworthy_console::control::Done,
            }
            return Ok(Answer::json(&Printed { through, done: &done }, Exit::Ok));
        }
        let text = sentence(&request.rule, &request.command, &done.standing);
        let aside = match (through, done.durable) {
            (Through::Ledger, _) => format!(
                "no gateway runs at {}: it is in the ledger, and in force with the next start\n",
                way.console
            ),
            (Through::Gateway, true) => String::new(),
            (Through::Gateway, false) => "it is in force and not in the ledger yet, which cannot \
                                          be written: see /readyz of the console\n"
                .to_owned(),
        };
        Ok(Answer::ok(text).aside(aside))
    }
}

fn no_such_rule(rule: &str, known: &[RuleStanding]) -> Failure {
    let names: Vec<&str> = known.iter().map(|known| known.rule.as_str()).collect();
    let meant =
        nearest(rule, &names).map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
    let shown: String = rule.chars().take(80).collect();
    Failure::new(Exit::Usage, format!("there is no rule {shown:?}{meant}"))
        .details("`seaworthy mode` lists all")
}

fn failure(error: OperatorError) -> Failure {
    let what = error.to_string();
    match error {
        OperatorError::Config(faults) => faults.into(),
        OperatorError::NoAnswer(..) => Failure::new(Exit::Unavailable, what)
            .details("nothing was written beside it; `seaworthy mode` shows what is in force"),
        OperatorError::Refused(Refused::NoSuchRule(_) | Refused::BadRequest(_)) => {
            Failure::new(Exit::Usage, what)
        }
        OperatorError::Refused(Refused::NotNow(_)) => Failure::new(Exit::No, what),
        OperatorError::Refused(Refused::NotKept(_)) => Failure::new(Exit::Unavailable, what),
        OperatorError::Other { console, .. } => {
            Failure::new(Exit::Unavailable, what).details(format!(
                "give each gateway a console address of its own in its config; \
             --console {console} asks this one"
            ))
        }
        OperatorError::Fleet(_) => Failure::new(Exit::Unavailable, what)
            .details("ask a gateway of the fleet that runs: name its console with --console"),
        OperatorError::Held { console, error } => {
            let holder = match error {
                StoreError::Locked { holder: Some(pid), .. } => format!(" (process {pid})"),
                _ => String::new(),
            };
            let what =
                format!("no gateway answers at {console}, yet one runs on this data{holder}");
            Failure::new(Exit::Unavailable, what).details(
                "name its console with --console, or stop it; nothing was written beside it",
            )
        }
        OperatorError::Store { error, .. } => {
            let exit = match error {
                StoreError::Corrupt { .. } | StoreError::SchemaNewer { .. } => Exit::BadData,
                _ => Exit::Unavailable,
            };
            Failure::new(exit, what)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        let long = "x".repeat(REASON_CHARS_MAX + 1);
        for text in ["", "  ", "a\nb", "\u{1b}[2J", &long, &"x".repeat(1 << 20)] {
            let fault = reason(text).unwrap_err();
            assert!(fault.len() < 80 && fault.contains("500"), "{fault}");
        }
        assert!(reason("so that the batch job passes").is_ok());
        assert!(reason(&"ä".repeat(REASON_CHARS_MAX)).is_ok());
    }

    #[test]
    fn who_asks_is_the_login_name_unless_it_is_said() {
        let who = |actor: Option<&str>| Who {
            reason: "a test".to_owned(),
            actor: actor.map(str::to_owned),
        };
        let surroundings = |env: &[(&str, &str)]| Surroundings {
            env: env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            paper: super::super::table::Paper::Pipe,
        };
        for (given, env, want) in [
            (Some("ada"), &[("USER", "root")][..], Some("ada")),
            (None, &[("USER", "ada"), ("LOGNAME", "root")], Some("ada")),
            (None, &[("LOGNAME", "ada")], Some("ada")),
            (None, &[], None),
            (None, &[("USER", "")], None),
        ] {
            let found = who(given).actor(&surroundings(env)).ok();
            assert_eq!(found.as_deref(), want, "{given:?} {env:?}");
        }
        let unknown = who(None).actor(&surroundings(&[])).unwrap_err();
        assert_eq!((unknown.exit, &*unknown.details), (Exit::Usage, "name yourself with --actor"));
    }
}
