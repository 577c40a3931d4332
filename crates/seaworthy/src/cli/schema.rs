//! `seaworthy schema`

mod learn;

use std::io::{self, Read as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use seaworthy_policy::openapi::{BodySchema, Document, DocumentFault};
use seaworthy_policy::source::SOURCE_BYTES_MAX;
use serde::Serialize;

use super::{Answer, Surroundings};
use crate::exit::{Exit, Failure};

/// Check the documents that requests are held to, or learn one
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  seaworthy schema check openapi.yaml
  seaworthy schema check --body trace.schema.json
  seaworthy schema learn --from requests --out openapi.json")]
pub(super) enum Schema {
    Check(Check),
    Learn(learn::Learn),
}

/// Say whether a document is right, and every fault with its line
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy schema check openapi.yaml
  seaworthy schema check openapi.json --json
  seaworthy schema check --body trace.schema.json
  curl -s http://127.0.0.1:3000/openapi.json | seaworthy schema check -

It exits with 0 where the document is right and with 1 where it is not.")]
pub(super) struct Check {
    /// The document, YAML or JSON, or - for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// It is a JSON Schema of bodies, not an OpenAPI document
    #[arg(long)]
    body: bool,
    /// Print the operations or the faults as JSON
    #[arg(long)]
    json: bool,
}

/// What was found, for `--json`.
#[derive(Debug, Serialize)]
struct Checked {
    valid: bool,
    /// `POST /api/traces`; each is a rule of its own.
    operations: Vec<String>,
    faults: Vec<Fault>,
}

#[derive(Debug, Serialize)]
struct Fault {
    line: u32,
    column: u32,
    pointer: String,
    message: String,
}

impl Schema {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        match self {
            Self::Check(check) => check.run(),
            Self::Learn(learn) => learn.run(surroundings),
        }
    }
}

impl Check {
    fn run(self) -> Result<Answer, Failure> {
        let text = self.read()?;
        let read = if self.body {
            BodySchema::read(&text).map(|_| Vec::new())
        } else {
            Document::read(&text).map(|document| {
                let operations = document.operations().iter();
                operations.map(|operation| operation.pattern().to_string()).collect()
            })
        };
        let exit = if read.is_ok() { Exit::Ok } else { Exit::No };
        if self.json {
            return Ok(Answer::json(&checked(read), exit));
        }
        let name = self.file.display();
        let text = match read {
            Ok(operations) if self.body => {
                debug_assert!(operations.is_empty(), "a schema has no operations");
                format!("{name} is right\n")
            }
            Ok(operations) => match operations.len() {
                1 => format!("{name} is right: 1 operation\n"),
                count => format!("{name} is right: {count} operations\n"),
            },
            Err(faults) => {
                let lines = faults.iter().map(|fault| line(&name.to_string(), fault));
                lines.collect::<Vec<_>>().concat()
            }
        };
        Ok(Answer::new(text, exit))
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let fault = |error: io::Error| {
            Failure::new(Exit::BadData, format!("{}: {error}", self.file.display()))
        };
        let mut text = Vec::new();
        if self.file.as_os_str() == "-" {
            io::stdin().lock().take(SOURCE_BYTES_MAX).read_to_end(&mut text).map_err(fault)?;
        } else {
            let file = std::fs::File::open(&self.file).map_err(fault)?;
            file.take(SOURCE_BYTES_MAX).read_to_end(&mut text).map_err(fault)?;
        }
        Ok(text)
    }
}

/// As compilers write it, so that editors lead there.
fn line(name: &str, fault: &DocumentFault) -> String {
    let DocumentFault { line, column, pointer, message } = fault;
    let at = if pointer.is_empty() { String::new() } else { format!("  ({pointer})") };
    format!("{name}:{line}:{column}: {message}{at}\n")
}

fn checked(read: Result<Vec<String>, Vec<DocumentFault>>) -> Checked {
    match read {
        Ok(operations) => Checked { valid: true, operations, faults: Vec::new() },
        Err(faults) => {
            let fault = |DocumentFault { line, column, pointer, message }| Fault {
                line,
                column,
                pointer,
                message,
            };
            let faults = faults.into_iter().map(fault).collect();
            Checked { valid: false, operations: Vec::new(), faults }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, body: bool, json: bool) -> Answer {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("api.yaml");
        std::fs::write(&file, text).unwrap();
        let mut answer = Check { file, body, json }.run().unwrap();
        answer.text = answer.text.replace(&format!("{}/", dir.path().display()), "");
        answer
    }

    #[test]
    fn a_document_is_right_or_every_fault_has_its_line() {
        let right = check("openapi: 3.1.0\npaths:\n  /a: { get: {}, post: {} }", false, false);
        assert_eq!(right, Answer::ok("api.yaml is right: 2 operations\n".to_owned()));
        let wrong = check("openapi: 3.1.0\npaths:\n  a: {}\n  /b: { fetch: {} }", false, false);
        assert_eq!(wrong.exit, Exit::No);
        assert_eq!(
            wrong.text,
            "api.yaml:3:6: expected a path to start with a slash  (/paths/a)\n\
             api.yaml:4:16: expected a method with its operation  (/paths/~1b/fetch)\n"
        );
        let json = check("openapi: 3.1.0\npaths: { /a: { get: {} } }", false, true);
        let json: serde_json::Value = serde_json::from_str(&json.text).unwrap();
        assert_eq!(json["operations"][0], "GET /a");
    }

    #[test]
    fn a_schema_is_checked_as_such() {
        assert_eq!(check("type: object", true, false).exit, Exit::Ok);
        let wrong = check("type: strin", true, true);
        assert!(wrong.text.contains("\"line\": 1") && wrong.exit == Exit::No, "{}", wrong.text);
        let text = "{\"type\": \"strng\",\n\"items\": {\n\"pattern\": \"(?=x)\"}}";
        assert_eq!(
            check(text, true, false).text,
            "api.yaml:1:10: expected one of array, boolean, integer, null, number, object, string, \
             or a list of several; did you mean \"string\"?  (/type)\n\
             api.yaml:3:12: expected a pattern without look-around, which has no bound in time  \
             (/items/pattern)\n"
        );
        let nowhere = check("not:\n  $ref: '#/nope'\ntype: strin", true, false);
        assert_eq!(nowhere.text, "api.yaml:2:9: there is nothing at #/nope  (/not/$ref)\n");
        let missing = Check { file: "no/such/file".into(), body: false, json: false }.run();
        assert_eq!(missing.unwrap_err().exit, Exit::BadData);
    }
}
