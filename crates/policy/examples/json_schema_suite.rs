//! Runs the JSON-Schema-Test-Suite on validators made as `request_schema` makes them.
//!
//! ```text
//! json_schema_suite FOLDER
//! ```
//!
//! The folder is laid out as the suite's repository: `tests/<draft>/*.json` are the required
//! cases, `tests/<draft>/optional/format/*.json` those of formats, `remotes/` the documents that
//! schemas refer to by URL. Required cases take a format for a remark, as the drafts do; those of
//! formats are judged as the gateway does, where a format is a demand. Run it through
//! `bench/conformance/json-schema.sh`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jsonschema::{Draft, Retrieve, Uri};
use seaworthy_policy::openapi;
use serde::Deserialize;
use serde_json::Value;

const USAGE: &str = "usage: json_schema_suite FOLDER";

/// The drafts that a schema of an OpenAPI document, or one of a route, can be of.
const DRAFTS: [(&str, Draft); 3] =
    [("draft4", Draft::Draft4), ("draft7", Draft::Draft7), ("draft2020-12", Draft::Draft202012)];

/// Where the suite's schemas say that the documents of `remotes/` are.
const REMOTES_URL: &str = "http://localhost:1234/";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = &args[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    match suite(Path::new(folder)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("{folder}: {fault}");
            ExitCode::from(69)
        }
    }
}

/// A schema, and instances of which the suite knows whether they are valid.
#[derive(Deserialize)]
struct Group {
    description: String,
    schema: Value,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    description: String,
    data: Value,
    valid: bool,
}

/// Gives what the schemas refer to from the suite's folder; nothing is fetched.
#[derive(Clone)]
struct Remotes(PathBuf);

impl Retrieve for Remotes {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let path = uri.as_str().strip_prefix(REMOTES_URL);
        let path = path.ok_or_else(|| format!("{uri} is not of the suite"))?;
        let path = path.split_once('#').map_or(path, |(path, _)| path);
        Ok(serde_json::from_slice(&std::fs::read(self.0.join(path))?)?)
    }
}

#[derive(Default)]
struct Tally {
    cases: usize,
    passed: usize,
    /// What did not pass, by file.
    failed: BTreeMap<String, Vec<String>>,
}

impl Tally {
    /// Judges all cases of the files of a folder, not of those below it.
    fn of(folder: &Path, draft: Draft, formats: bool, remotes: &Remotes) -> Result<Self, String> {
        let mut tally = Self::default();
        let entries =
            std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        if files.is_empty() {
            return Err(format!("{}: no cases", folder.display()));
        }
        for file in files {
            let fault = |error: &dyn Error| format!("{}: {error}", file.display());
            let text = std::fs::read(&file).map_err(|error| fault(&error))?;
            let groups: Vec<Group> =
                serde_json::from_slice(&text).map_err(|error| fault(&error))?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            for group in groups {
                tally.judge(&name, &group, draft, formats, remotes);
            }
        }
        Ok(tally)
    }

    fn judge(&mut self, file: &str, group: &Group, draft: Draft, formats: bool, remotes: &Remotes) {
        let options = openapi::options(draft).should_validate_formats(formats);
        let validator = options.with_retriever(remotes.clone()).build(&group.schema);
        for case in &group.tests {
            self.cases += 1;
            let passed = match &validator {
                Ok(validator) => validator.is_valid(&case.data) == case.valid,
                Err(_) => false,
            };
            if passed {
                self.passed += 1;
                continue;
            }
            let why = validator.as_ref().err().map(|error| format!(" ({error})"));
            let said =
                format!("{}: {}{}", group.description, case.description, why.unwrap_or_default());
            self.failed.entry(file.to_owned()).or_default().push(said);
        }
    }

    fn print(&self, draft: &str, of: &str) {
        println!("{draft:14} {of:10} {:6} {:6}", self.cases, self.passed);
        for (file, cases) in &self.failed {
            for case in cases {
                println!("    {file}: {case}");
            }
        }
    }
}

/// Whether every required case passed.
fn suite(folder: &Path) -> Result<bool, String> {
    let remotes = Remotes(folder.join("remotes"));
    let mut whole = true;
    println!("{:14} {:10} {:>6} {:>6}", "draft", "cases", "all", "passed");
    for (name, draft) in DRAFTS {
        let tests = folder.join("tests").join(name);
        let required = Tally::of(&tests, draft, false, &remotes)?;
        required.print(name, "required");
        whole &= required.failed.is_empty();
        let formats = Tally::of(&tests.join("optional/format"), draft, true, &remotes)?;
        formats.print(name, "formats");
    }
    Ok(whole)
}
