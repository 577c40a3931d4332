//! `seaworthy protections`

use clap::Args;
use seaworthy_policy::mode::ModeSetting;
use seaworthy_policy::registry::{Entry, Protect, REGISTRY};
use serde::Serialize;

use super::table::{Cell, Paint, Table};
use super::{Answer, ConfigFile, Surroundings};
use crate::config::{self, Config, Flags};
use crate::exit::{Exit, Failure};

/// List the protections, their modes and their rules
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy protections
  seaworthy protections --config staging.toml
  seaworthy protections --json

The mode is the config's. A route that has settings of its own has a rule of its own, such as
rate_limit@POST /api/traces.")]
pub(super) struct Protections {
    #[command(flatten)]
    file: ConfigFile,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// One protection as the config has it.
#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    summary: &'static str,
    default_mode: ModeSetting,
    default_mode_reason: &'static str,
    codes: Vec<&'static str>,
    /// The service's own.
    mode: ModeSetting,
    /// Those of routes besides.
    rules: Vec<Rule>,
}

#[derive(Debug, Serialize)]
struct Rule {
    name: String,
    route: String,
    mode: ModeSetting,
}

impl Protections {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let paper = surroundings.paper;
        let config = config::inspect(&self.file.inputs(Flags::default(), surroundings))?;
        let listed = list(&config);
        if self.json {
            return Ok(Answer::json(&listed, Exit::Ok));
        }
        let mut table = Table::new(["rule", "mode", "about"]);
        for protection in &listed {
            table.row([
                Cell::new(protection.name).paint(Paint::Bold),
                mode(protection.mode),
                Cell::new(about(protection)),
            ]);
            for rule in &protection.rules {
                table.row([Cell::new(rule.name.as_str()), mode(rule.mode), Cell::new("")]);
            }
        }
        Ok(Answer::ok(table.render(paper)))
    }
}

fn list(config: &Config) -> Vec<Listed> {
    let one = |(position, entry): (usize, &&Entry)| {
        let mode = |protect: &Protect| (entry.mode)(protect);
        let own = config.routes.iter().filter(|route| route.overrides.contains(&position));
        let rules = own.map(|route| Rule {
            name: format!("{}@{}", entry.name, route.pattern),
            route: route.pattern.to_string(),
            mode: mode(&route.protect),
        });
        Listed {
            name: entry.name,
            summary: entry.summary,
            default_mode: entry.default_mode,
            default_mode_reason: entry.default_mode_reason,
            codes: entry.codes.iter().map(|code| code.name()).collect(),
            mode: mode(&config.protect),
            rules: rules.collect(),
        }
    };
    REGISTRY.iter().enumerate().map(one).collect()
}

fn about(protection: &Listed) -> String {
    let Listed { summary, default_mode, default_mode_reason, codes, .. } = protection;
    let mut about = format!("{summary}\ndefault {default_mode}: {default_mode_reason}");
    if !codes.is_empty() {
        about.push_str("\ncodes: ");
        about.push_str(&codes.join(", "));
    }
    about
}

fn mode(mode: ModeSetting) -> Cell {
    let paint = match mode {
        ModeSetting::OFF => Paint::Dim,
        ModeSetting::Auto => Paint::Plain,
        ModeSetting::Pinned(_) => Paint::Bold,
    };
    Cell::new(mode.to_string()).paint(paint)
}

#[cfg(test)]
mod tests {
    use super::super::table::Paper;
    use super::*;

    fn printed(toml: &str, json: bool) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seaworthy.toml");
        std::fs::write(&path, toml).unwrap();
        let file = ConfigFile { config: Some(path) };
        let surroundings = Surroundings { env: Vec::new(), paper: Paper::Pipe };
        Protections { file, json }.run(surroundings).unwrap().text
    }

    const TOML: &str = "[protect.cors]\nmode = \"off\"\n[[route]]\nmatch = \"POST /a\"\n\
                        [route.protect.rate_limit]\nmode = \"enforce 10%\"\n";

    #[test]
    fn the_table_walks_the_registry_and_shows_the_configs_modes() {
        let table = printed(TOML, false);
        for entry in REGISTRY {
            assert!(table.contains(entry.summary), "{}", entry.name);
            assert!(table.contains(entry.default_mode_reason), "{}", entry.name);
        }
        let line = |start: &str| table.lines().find(|line| line.starts_with(start)).unwrap();
        assert!(line("cors ").contains("  off  "), "{table}");
        assert!(line("rate_limit@POST /a ").trim_end().ends_with("enforce 10%"), "{table}");
    }

    #[test]
    fn json_has_what_the_registry_has() {
        let json: Vec<serde_json::Value> = serde_json::from_str(&printed(TOML, true)).unwrap();
        assert_eq!(json.len(), REGISTRY.len());
        let named = |name: &str| json.iter().find(|entry| entry["name"] == name).unwrap();
        assert_eq!(named("cors")["mode"], "off");
        assert_eq!(named("cors")["default_mode"], "auto");
        assert_eq!(named("rate_limit")["codes"], serde_json::json!(["rate-limited"]));
        assert_eq!(named("rate_limit")["rules"][0]["name"], "rate_limit@POST /a");
    }
}
