//! `seaworthy config check` and `seaworthy config show`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use seaworthy_policy::registry::REGISTRY;
use serde::Serialize;
use serde_json::{Value, json};

use super::table::{Cell, Paint, Table};
use super::{Answer, ConfigFile, Overrides, Surroundings};
use crate::config::{self, Faults, Origin, Setting};
use crate::exit::{Exit, Failure};

/// Check the config, or show what is in force
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  seaworthy config check
  seaworthy config show --changed")]
pub(super) enum Config {
    Check(Check),
    Show(Show),
}

/// Say whether a config is right: every fault with its line, key and what was expected
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy config check
  seaworthy config check staging.toml --json

It exits with 0 where all is right and with 78 where not. Environment variables count, as they
do for `serve`.")]
pub(super) struct Check {
    /// The config; else seaworthy.toml where there is one, else the built-in default
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same, spelled as for `serve`
    #[arg(short = 'c', long = "config", value_name = "FILE", conflicts_with = "file")]
    named: Option<PathBuf>,
    /// Print the faults as JSON
    #[arg(long)]
    json: bool,
}

/// Show every effective setting and where it came from
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy config show
  seaworthy config show --changed
  seaworthy config show --config staging.toml --listen 127.0.0.1:8443 --json")]
pub(super) struct Show {
    #[command(flatten)]
    file: ConfigFile,
    /// Only what is not left at its default
    #[arg(long)]
    changed: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
}

impl Config {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        match self {
            Self::Check(check) => check.run(surroundings),
            Self::Show(show) => show.run(surroundings),
        }
    }
}

/// What `config check --json` prints.
#[derive(Serialize)]
struct Checked {
    /// Null for the built-in default.
    file: Option<PathBuf>,
    ok: bool,
    faults: Value,
}

impl Check {
    fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let file = ConfigFile { config: self.file.or(self.named) };
        let inputs = file.inputs(config::Flags::default(), surroundings);
        let checked = config::inspect(&inputs);
        if self.json {
            let faults = checked.as_ref().err().map_or(json!([]), Faults::to_json);
            let exit = if checked.is_ok() { Exit::Ok } else { Exit::Config };
            let checked = Checked { file: inputs.file, ok: exit == Exit::Ok, faults };
            return Ok(Answer::json(&checked, exit));
        }
        let config = checked?;
        let name = inputs
            .path()
            .map_or("the built-in config".to_owned(), |path| path.display().to_string());
        let upstreams = match config.service.upstreams.len() {
            0 => "no upstreams, so `serve` needs --upstream".to_owned(),
            1 => "1 upstream".to_owned(),
            many => format!("{many} upstreams"),
        };
        let routes = match config.routes.len() {
            1 => "1 route".to_owned(),
            many => format!("{many} routes"),
        };
        let protections = REGISTRY.len();
        Ok(Answer::ok(format!(
            "{name} is right: {protections} protections, {routes}, {upstreams}\n"
        )))
    }
}

impl Show {
    fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let paper = surroundings.paper;
        let inputs = self.file.inputs(self.overrides.into(), surroundings);
        let mut settings = config::inspect(&inputs)?.settings();
        if self.changed {
            settings.retain(|setting| setting.origin != Origin::Default);
        }
        if self.json {
            let settings: Vec<Value> = settings.iter().map(to_json).collect();
            return Ok(Answer::json(&settings, Exit::Ok));
        }
        let mut table = Table::new(["key", "from", "value"]);
        for Setting { key, value, origin } in settings {
            let paint = if origin == Origin::Default { Paint::Dim } else { Paint::Plain };
            table.row([
                Cell::new(key).paint(paint),
                Cell::new(origin.to_string()).paint(paint),
                Cell::new(as_toml(&value)).paint(paint),
            ]);
        }
        Ok(Answer::ok(table.render(paper)))
    }
}

fn to_json(setting: &Setting) -> Value {
    let from = match &setting.origin {
        Origin::Default => json!({ "kind": "default" }),
        Origin::File { path, line } => json!({ "kind": "file", "path": &**path, "line": line }),
        Origin::Env(name) => json!({ "kind": "environment", "name": &**name }),
        Origin::Flag(name) => json!({ "kind": "flag", "name": name }),
    };
    json!({ "key": setting.key, "value": setting.value, "from": from })
}

/// A value as it would be written in the file; what is absent has no such form.
fn as_toml(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(as_toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{key} = {}", as_toml(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        // JSON's strings, numbers and booleans are TOML's.
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Paper;
    use super::*;

    fn surroundings() -> Surroundings {
        Surroundings { env: Vec::new(), paper: Paper::Pipe }
    }

    fn file(toml: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seaworthy.toml");
        std::fs::write(&path, toml).unwrap();
        (dir, path)
    }

    #[test]
    fn check_says_what_is_there_or_every_fault() {
        let check = |toml: &str, json| {
            let (_dir, path) = file(toml);
            Check { file: Some(path), named: None, json }.run(surroundings())
        };
        let right = check("[service]\nupstreams = [\"http://a\"]\n", false).unwrap();
        assert!(right.text.contains("is right: "), "{}", right.text);
        assert!(right.text.ends_with("protections, 0 routes, 1 upstream\n"), "{}", right.text);
        let failure = check("[log]\nlevl = \"info\"\n[lgo]\n", false).unwrap_err();
        assert_eq!(
            (failure.exit, failure.what.as_str()),
            (Exit::Config, "the config has 2 faults")
        );
        assert_eq!(failure.details.lines().count(), 2);
        let faults = check("[log]\nlevl = \"info\"\n", true).unwrap();
        assert_eq!(faults.exit, Exit::Config);
        let json: Value = serde_json::from_str(&faults.text).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["faults"][0]["suggestion"], "level");
    }

    #[test]
    fn show_says_what_is_in_force_and_why() {
        let (_dir, path) = file("[log]\nlevel = \"warn\"\n");
        let show = |changed, json| {
            let file = ConfigFile { config: Some(path.clone()) };
            let overrides =
                Overrides { listen: Some("127.0.0.1:1".to_owned()), ..Overrides::default() };
            Show { file, changed, json, overrides }.run(surroundings()).unwrap().text
        };
        let changed = show(true, false);
        let lines: Vec<Vec<&str>> =
            changed.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["listen.addr", "--listen", "\"127.0.0.1:1\""]);
        assert!(lines[2][0] == "log.level" && lines[2][1].ends_with("seaworthy.toml:2"));
        assert_eq!(lines.len(), 3);
        assert!(show(false, false).lines().count() > 60);
        let json: Vec<Value> = serde_json::from_str(&show(true, true)).unwrap();
        assert_eq!(json[0]["from"], json!({ "kind": "flag", "name": "--listen" }));
        assert_eq!(json[1]["from"]["line"], 2);
    }

    #[test]
    fn values_are_shown_as_they_are_written() {
        let value = json!([{ "per": "client", "burst": 5 }, true, null, 1.5]);
        assert_eq!(as_toml(&value), "[{ burst = 5, per = \"client\" }, true, (none), 1.5]");
    }
}
