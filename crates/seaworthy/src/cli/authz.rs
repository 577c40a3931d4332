//! `seaworthy authz`

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use seaworthy_policy::protections::access::matrix::{Matrix, Roles};
use serde::Serialize;

use super::{Answer, ConfigFile, Surroundings};
use crate::config::{self, Flags};
use crate::exit::{Exit, Failure};

/// Show who may call what; make API keys
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  seaworthy authz matrix
  seaworthy authz key ci --roles agent --tenant acme")]
pub(super) enum Authz {
    Matrix(PrintMatrix),
    Key(MakeKey),
}

/// Print the authorization matrix of the config: routes and roles
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy authz matrix
  seaworthy authz matrix --config staging.toml --json

A route without a row is denied; the most specific row of a request decides.")]
pub(super) struct PrintMatrix {
    #[command(flatten)]
    file: ConfigFile,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Make an API key: it is shown once, and its hash goes into the file of keys
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy authz key ci --roles agent --tenant acme
  seaworthy authz key billing --roles reader,writer --expires 2027-12-31

The key itself is kept nowhere.")]
pub(super) struct MakeKey {
    /// What the file of keys calls it
    name: String,
    /// Roles of the matrix
    #[arg(long, value_delimiter = ',', value_name = "ROLE")]
    roles: Vec<String>,
    /// The tenant whose data it is for
    #[arg(long)]
    tenant: Option<String>,
    /// The day on which it ends
    #[arg(long, value_name = "DATE")]
    expires: Option<jiff::civil::Date>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Authz {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        match self {
            Self::Matrix(command) => command.run(surroundings),
            Self::Key(command) => command.run(),
        }
    }
}

/// The matrix, for `--json`.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    roles: &'a [String],
    tenant_isolation: bool,
    across_tenants: Vec<&'a str>,
    rows: Vec<PrintedRow<'a>>,
}

#[derive(Debug, Serialize)]
struct PrintedRow<'a> {
    route: String,
    allow: Vec<&'a str>,
    deny: Vec<&'a str>,
}

impl PrintMatrix {
    fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let config = config::inspect(&self.file.inputs(Flags::default(), surroundings))?;
        let Some(source) = &config.protect.access.matrix else {
            let said = "the config names no matrix: set `protect.access.matrix`, such as \
                        \"file:authz.toml\"";
            return Err(Failure::new(Exit::Config, said));
        };
        // The config is right, and so is the matrix that it names.
        let text = config.sources.bytes(source).map_err(|why| Failure::new(Exit::Config, why))?;
        let matrix =
            Matrix::read(text).map_err(|faults| Failure::new(Exit::Config, faults.join("\n")))?;
        let printed = print(&matrix);
        if self.json {
            return Ok(Answer::json(&printed, Exit::Ok));
        }
        Ok(Answer::ok(table(&printed)))
    }
}

fn print(matrix: &Matrix) -> Printed<'_> {
    let roles = || matrix.roles().iter().map(String::as_str).enumerate();
    let named = |set: Roles| -> (Vec<&str>, Vec<&str>) {
        let is_in = |index: usize| set.meets(Roles::one(index));
        let of = |wanted: bool| {
            let those = roles().filter(|(index, _)| is_in(*index) == wanted);
            those.map(|(_, role)| role).collect()
        };
        (of(true), of(false))
    };
    let rows = matrix.rows().iter().map(|row| {
        let (allow, deny) = named(row.allow);
        PrintedRow { route: row.route.to_string(), allow, deny }
    });
    Printed {
        roles: matrix.roles(),
        tenant_isolation: matrix.isolation,
        across_tenants: named(matrix.across).0,
        rows: rows.collect(),
    }
}

/// Routes down, roles across.
fn table(printed: &Printed<'_>) -> String {
    let route_width = printed.rows.iter().map(|row| row.route.chars().count()).max();
    let route_width = route_width.unwrap_or(0).max("route".len());
    let mut text = format!("{:route_width$}", "route");
    for role in printed.roles {
        write!(text, "  {role}").expect("a String takes every write");
    }
    text.push('\n');
    for row in &printed.rows {
        let mut line = format!("{:route_width$}", row.route);
        for role in printed.roles {
            let said = if row.allow.contains(&role.as_str()) { "allow" } else { "-" };
            let width = role.chars().count();
            write!(line, "  {said:width$}").expect("a String takes every write");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("\nWhat has no row is denied.");
    if printed.tenant_isolation {
        text.push_str(" Everybody stays within their own tenant");
        match &printed.across_tenants[..] {
            [] => text.push('.'),
            roles => {
                let roles = roles.join(", ");
                write!(text, ", but for: {roles}.").expect("a String takes every write");
            }
        }
    }
    text.push('\n');
    text
}

/// A new key, for `--json`.
#[derive(Debug, Serialize)]
struct Made {
    key: String,
    row: String,
}

impl MakeKey {
    fn run(self) -> Result<Answer, Failure> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| {
            Failure::new(Exit::Unavailable, "the operating system gives no random bytes")
        })?;
        let made = self.made(&bytes);
        if self.json {
            return Ok(Answer::json(&made, Exit::Ok));
        }
        Ok(Answer::ok(format!(
            "{}\n\nIt is shown this once. Its row for the file of keys:\n\n{}",
            made.key, made.row
        )))
    }

    fn made(&self, bytes: &[u8; 32]) -> Made {
        let key = format!("sw_{}", URL_SAFE_NO_PAD.encode(bytes));
        let mut row = String::from("[[key]]\n");
        let mut line = |name: &str, value: toml::Value| {
            writeln!(row, "{name} = {value}").expect("a String takes every write");
        };
        line("name", self.name.clone().into());
        let hash = digest(&SHA256, key.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        line("sha256", hash.into());
        if !self.roles.is_empty() {
            line("roles", self.roles.clone().into());
        }
        if let Some(tenant) = &self.tenant {
            line("tenant", tenant.clone().into());
        }
        if let Some(date) = self.expires {
            writeln!(row, "expires = {date}").expect("a String takes every write");
        }
        Made { key, row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_printed_routes_down_and_roles_across() {
        let matrix = Matrix::read(
            b"roles = [\"anonymous\", \"agent\", \"admin\"]\n\
              row = [{ route = \"GET /healthz\", allow = [\"anonymous\"] },\n\
              { route = \"/api/{*rest}\", allow = [\"agent\", \"admin\"] }]\n\
              tenant = { isolation = true, across = [\"admin\"] }",
        )
        .unwrap();
        assert_eq!(
            table(&print(&matrix)),
            "route         anonymous  agent  admin\n\
             GET /healthz  allow      -      -\n\
             /api/{*rest}  -          allow  allow\n\n\
             What has no row is denied. Everybody stays within their own tenant, but for: admin.\n"
        );
        assert_eq!(print(&matrix).rows[1].deny, ["anonymous"]);
    }

    #[test]
    fn a_new_key_has_a_row_that_is_read_again() {
        let command = MakeKey {
            name: "ci \"one\"".to_owned(),
            roles: vec!["agent".to_owned()],
            tenant: Some("acme".to_owned()),
            expires: Some(jiff::civil::Date::constant(2027, 12, 31)),
            json: false,
        };
        let made = command.made(&[7; 32]);
        assert_eq!(made.key, "sw_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
        let row: toml::Table = made.row.parse().unwrap();
        let row = &row["key"][0];
        assert_eq!(row["name"].as_str(), Some("ci \"one\""));
        assert_eq!(row["sha256"].as_str().map(str::len), Some(64));
        assert!(!made.row.contains(made.key.as_str()));
    }
}
