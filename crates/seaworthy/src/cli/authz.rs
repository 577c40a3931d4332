//! `seaworthy authz`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use http::Method;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use seaworthy_policy::client;
use seaworthy_policy::openapi::{Document, DocumentFault, Operation};
use seaworthy_policy::protections::access::matrix::{Matrix, Roles};
use serde::Serialize;

use super::{Answer, ConfigFile, Surroundings};
use crate::config::{self, Config, Flags};
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
  seaworthy authz matrix --openapi openapi.yaml

Operations of the OpenAPI document that no row decides of are listed; it then exits with 1. A route
without a row is denied; the most specific row of a request decides.")]
pub(super) struct PrintMatrix {
    #[command(flatten)]
    file: ConfigFile,
    /// An OpenAPI document to hold it against; else that of the config
    #[arg(long, value_name = "FILE")]
    openapi: Option<PathBuf>,
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
    #[arg(long, value_parser = tenant)]
    tenant: Option<String>,
    /// The day on which it ends
    #[arg(long, value_name = "DATE", value_parser = day)]
    expires: Option<jiff::civil::Date>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// A tenant that a request can name.
fn tenant(text: &str) -> Result<String, String> {
    if client::is_tenant(text) {
        Ok(text.to_owned())
    } else {
        Err(client::TENANT_WANTED.to_owned())
    }
}

fn day(text: &str) -> Result<jiff::civil::Date, &'static str> {
    text.parse().map_err(|_| "expected a day such as 2027-12-31")
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
    /// Operations of the OpenAPI document that no row decides of; absent without a document.
    #[serde(skip_serializing_if = "Option::is_none")]
    without_row: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct PrintedRow<'a> {
    route: String,
    allow: Vec<&'a str>,
    deny: Vec<&'a str>,
}

impl PrintMatrix {
    fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let Self { file, openapi, json } = self;
        let config = config::inspect(&file.inputs(Flags::default(), surroundings))?;
        let Some(source) = &config.protect.access.matrix else {
            let said = "the config names no matrix: set `protect.access.matrix`, such as \
                        \"file:authz.toml\"";
            return Err(Failure::new(Exit::Config, said));
        };
        // The config is right, and so is the matrix that it names.
        let text = config.sources.bytes(source).map_err(|why| Failure::new(Exit::Config, why))?;
        let matrix =
            Matrix::read(text).map_err(|faults| Failure::new(Exit::Config, faults.join("\n")))?;
        let document = document(openapi.as_deref(), &config)?;
        let without_row = document.map(|document| without_row(&matrix, &document));
        let exit = match &without_row {
            Some(missing) if !missing.is_empty() => Exit::No,
            _ => Exit::Ok,
        };
        let printed = Printed { without_row, ..print(&matrix) };
        if json {
            return Ok(Answer::json(&printed, exit));
        }
        Ok(Answer::new(table(&printed), exit))
    }
}

/// The document that the command line or the config names.
fn document(path: Option<&Path>, config: &Config) -> Result<Option<Document>, Failure> {
    let text = match (path, &config.protect.request_schema.openapi) {
        (Some(path), _) => std::fs::read(path)
            .map_err(|error| Failure::new(Exit::BadData, format!("{}: {error}", path.display())))?,
        (None, Some(file)) => {
            let text = config.sources.bytes(&file.0);
            text.map_err(|why| Failure::new(Exit::Config, why))?.to_vec()
        }
        (None, None) => return Ok(None),
    };
    let fault = |faults: Vec<DocumentFault>| {
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Failure::new(Exit::BadData, lines.join("\n"))
    };
    Document::read(&text).map(Some).map_err(fault)
}

/// The operations of `document` that no row of `matrix` decides of.
fn without_row(matrix: &Matrix, document: &Document) -> Vec<String> {
    let undecided = document.operations().iter().map(Operation::pattern).filter(|pattern| {
        let method = pattern.method.as_ref().unwrap_or(&Method::GET);
        // A parameter stands for any segment: one that no row has literally.
        let path = pattern.path.replace(['{', '}'], "-");
        matrix.find(method, &path).is_none()
    });
    undecided.map(ToString::to_string).collect()
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
    let everybody = (0..matrix.roles().len()).map(Roles::one).fold(Roles::NONE, Roles::with);
    let rows = matrix.rows().iter().map(|row| {
        // Who has credentials is no less than somebody without.
        let (allow, deny) = named(if matrix.is_open(row) { everybody } else { row.allow });
        PrintedRow { route: row.route.to_string(), allow, deny }
    });
    Printed {
        roles: matrix.roles(),
        tenant_isolation: matrix.isolation,
        across_tenants: named(matrix.across).0,
        rows: rows.collect(),
        without_row: None,
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
    match printed.without_row.as_deref() {
        None => {}
        Some([]) => text.push_str("Every operation of the document has a row.\n"),
        Some(missing) => {
            text.push_str("\nOperations of the document without a row:\n");
            for operation in missing {
                writeln!(text, "  {operation}").expect("a String takes every write");
            }
        }
    }
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
    fn what_no_request_can_name_is_refused() {
        assert_eq!(tenant("acme:eu-1").as_deref(), Ok("acme:eu-1"));
        for text in ["foo bar", "", "a/b", &"x".repeat(49)] {
            assert!(tenant(text).unwrap_err().starts_with("expected 1 to 48"), "{text}");
        }
        assert_eq!(day("2027-12-31"), Ok(jiff::civil::Date::constant(2027, 12, 31)));
        assert_eq!(day("31.12.2027"), Err("expected a day such as 2027-12-31"));
    }

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
             GET /healthz  allow      allow  allow\n\
             /api/{*rest}  -          allow  allow\n\n\
             What has no row is denied. Everybody stays within their own tenant, but for: admin.\n"
        );
        let rows = print(&matrix).rows;
        assert_eq!(rows[0].allow, ["anonymous", "agent", "admin"]);
        assert_eq!((rows[0].deny.len(), &rows[1].deny[..]), (0, &["anonymous"][..]));
        let document = Document::read(
            b"openapi: 3.1.0\npaths: { /healthz: { get: {} }, /other: { get: {} },\n\
              '/api/{id}': { get: { parameters: [{ name: id, in: path, required: true, schema: {} }] } } }",
        );
        assert_eq!(without_row(&matrix, &document.unwrap()), ["GET /other"]);
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
