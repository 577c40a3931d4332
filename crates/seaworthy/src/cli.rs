//! The command line: one file a subcommand in `cli/`.
//!
//! A subcommand that answers returns an `Answer` and prints nothing itself; [`run`] writes it
//! and turns failures into one line on standard error and an exit code.

mod alert_relay;
mod audit;
mod authz;
mod completions;
mod config;
mod consumers;
mod demo;
mod init;
mod mode;
mod operator;
mod protections;
mod requests;
mod rollout;
mod schema;
mod serve;
mod since;
mod standing;
mod table;
mod until;
mod vocabulary;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::app::StartError;
use crate::config::{Flags, Inputs, find_file};
use crate::exit::{Exit, Failure};

use self::table::Paper;

/// Put it in front of your service: see what it would block, let evidence decide when it starts
/// blocking.
#[derive(Debug, Parser)]
#[command(name = "seaworthy", version, after_help = overview(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Init(init::Init),
    #[command(subcommand)]
    Config(config::Config),
    Protections(protections::Protections),
    Mode(mode::Mode),
    #[command(subcommand)]
    Rollout(rollout::Rollout),
    Requests(requests::Requests),
    Consumers(consumers::Consumers),
    #[command(subcommand)]
    Vocabulary(vocabulary::Vocabulary),
    #[command(subcommand)]
    Schema(schema::Schema),
    #[command(subcommand)]
    Authz(authz::Authz),
    AlertRelay(alert_relay::AlertRelay),
    #[command(subcommand)]
    Audit(audit::Audit),
    Completions(completions::Completions),
}

/// What a subcommand says on standard output, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    text: String,
    /// For standard error: what is about the answer and no part of it.
    aside: String,
    exit: Exit,
}

impl Answer {
    const fn new(text: String, exit: Exit) -> Self {
        Self { text, aside: String::new(), exit }
    }

    const fn ok(text: String) -> Self {
        Self::new(text, Exit::Ok)
    }

    fn aside(self, aside: String) -> Self {
        Self { aside, ..self }
    }

    fn json(value: &impl serde::Serialize, exit: Exit) -> Self {
        let text = serde_json::to_string_pretty(value).expect("plain data always serialises");
        Self::new(text + "\n", exit)
    }
}

/// What surrounds a command: read once, here, and handed in.
#[derive(Clone, Debug)]
struct Surroundings {
    /// All of the environment: the settings can name variables of their own.
    env: Vec<(String, String)>,
    /// What standard output is like.
    paper: Paper,
}

/// Runs the command line `args`, the program's name first. Prints what there is to print.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Exit {
    let env: Vec<(String, String)> = env
        .into_iter()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect();
    let paper = Paper::of(io::stdout().is_terminal(), &env);
    let surroundings = Surroundings { env, paper };
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    match cli.command.run(surroundings) {
        Ok(answer) => write(&answer),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit
        }
    }
}

impl Command {
    fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        match self {
            Self::Serve(command) => command.run(surroundings),
            Self::Demo(command) => command.run(),
            Self::Init(command) => command.run(),
            Self::Config(command) => command.run(surroundings),
            Self::Protections(command) => command.run(surroundings),
            Self::Mode(command) => command.run(surroundings),
            Self::Rollout(command) => command.run(surroundings),
            Self::Requests(command) => command.run(surroundings),
            Self::Consumers(command) => command.run(surroundings),
            Self::Vocabulary(command) => command.run(surroundings),
            Self::Schema(command) => command.run(surroundings),
            Self::Authz(command) => command.run(surroundings),
            Self::AlertRelay(command) => command.run(surroundings),
            Self::Audit(command) => command.run(surroundings),
            Self::Completions(command) => Ok(command.run()),
        }
    }
}

/// Prints help and versions, which are no errors, and errors of usage.
fn explain(error: &clap::Error) -> Exit {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
    // Whoever closed the pipe has read enough.
    drop(error.print());
    exit
}

fn write(answer: &Answer) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(answer.text.as_bytes()).and_then(|()| stdout.flush()) {
        // `seaworthy requests | head` is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("{}", Failure::new(Exit::Unavailable, format!("cannot write: {error}")));
            Exit::Unavailable
        }
        _ => {
            eprint!("{}", answer.aside);
            answer.exit
        }
    }
}

/// The file, where one is named.
#[derive(Clone, Debug, Default, Args)]
struct ConfigFile {
    /// The config; else seaworthy.toml where there is one, else the built-in default
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The flags that override the config.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Overriding the config")]
struct Overrides {
    /// An address of the service; repeat it for more
    #[arg(long = "upstream", value_name = "URL")]
    upstreams: Vec<String>,
    /// Where clients connect, such as 0.0.0.0:8080
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where the console is, such as 127.0.0.1:9900
    #[arg(long, value_name = "ADDR")]
    console: Option<String>,
    /// The folder for the gateway's data
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl ConfigFile {
    fn inputs(self, flags: Flags, surroundings: Surroundings) -> Inputs {
        Inputs {
            file: self.config.or_else(find_file),
            env: surroundings.env,
            flags,
            ..Inputs::default()
        }
    }
}

impl From<Overrides> for Flags {
    fn from(overrides: Overrides) -> Self {
        let Overrides { upstreams, listen, console, data } = overrides;
        Self { upstreams, listen, console, data }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(faults) => faults.into(),
            StartError::Unavailable(error) => Self::new(Exit::Unavailable, format!("{error:#}")),
        }
    }
}

fn overview() -> String {
    let codes: Vec<String> =
        Exit::ALL.iter().map(|exit| format!("  {:>2}  {}", exit.code(), exit.meaning())).collect();
    format!(
        "Examples:\n  \
         seaworthy demo                                     see everything, on a built-in service\n  \
         seaworthy serve --upstream http://127.0.0.1:3000   in front of your own\n  \
         seaworthy init                                     write the commented config\n\n\
         Exit codes:\n{}",
        codes.join("\n")
    )
}

/// The command line as clap knows it, for completions and tests.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["seaworthy"], args].concat())
    }

    #[test]
    fn clap_finds_nothing_wrong() {
        command().debug_assert();
    }

    #[test]
    fn every_help_has_examples() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  seaworthy "), "{path}");
            assert!(command.get_about().is_some(), "{path}");
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{path} {}", arg.get_id());
            }
            for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
                walk(below, &path);
            }
        }
        walk(&command(), "");
    }

    #[test]
    fn the_command_line_is_read() {
        let serve = ["serve", "--upstream", "http://a", "--upstream", "http://b", "--data", "d"];
        let Ok(Cli { command: Command::Serve(serve) }) = parsed(&serve) else { panic!() };
        let flags = Flags::from(serve.overrides);
        assert_eq!(flags.upstreams, ["http://a", "http://b"]);
        assert_eq!((flags.data, flags.listen), (Some(PathBuf::from("d")), None));
        for wrong in [
            &["serv"][..],
            &[],
            &["demo", "--duration", "soon"],
            &["demo", "--rate", "0"],
            &["requests", "--status", "9xx"],
            &["requests", "--since", "yesterday"],
            &["requests", "--limit", "0"],
            &["consumers", "--kind", "mixed"],
            &["consumers", "--rule", "cfrs"],
            &["config"],
            &["vocabulary", "parse", "stages"],
            &["schema", "learn"],
            &["schema", "learn", "--from", "traces"],
            &["vocabulary", "parse", "stages", "a", "--shape", "round"],
            &["mode", "set"],
            &["mode", "set", "csrf"],
            &["mode", "set", "csrf", "warn"],
            &["mode", "set", "csrf", "enforce=101%", "--reason", "r"],
            &["mode", "set", "csrf", "auto", "--reason", "r"],
            &["mode", "set", "csrf", "warn", "--reason", ""],
            &["mode", "set", "csrf", "warn", "--reason", "a\nb"],
            &["rollout"],
            &["rollout", "status"],
            &["rollout", "hold", "csrf", "--until", "tomorrow", "--reason", "r"],
            &["rollout", "waive", "csrf", "ip:203.0.113.7", "--reason", "r"],
            &["rollout", "history", "--limit", "0"],
            &["rollout", "verify"],
            &["requests", "--explain"],
            &["requests", "--explain", "abc", "--limit", "3"],
            &["audit"],
            &["audit", "tail", "-n", "0"],
            &["audit", "verify", "audit.jsonl"],
            &["completions", "csh"],
            &["alert-relay", "--to", "http://a/b"],
            &["alert-relay", "--secret-file", "f"],
            &["alert-relay", "--to", "http://a/b", "--secret-file", "f", "--secret-env", "F"],
            &["alert-relay", "--to", "http://a/b", "--secret-file", "f", "--listen", "0.0.0.0:1"],
        ] {
            let error = parsed(wrong).expect_err("it is wrong");
            assert!(error.use_stderr(), "{wrong:?} is an error of usage");
        }
        for asked in [&["--help"][..], &["--version"], &["help", "serve"], &["serve", "--help"]] {
            assert!(!parsed(asked).expect_err("clap answers").use_stderr(), "{asked:?}");
        }
    }
}
