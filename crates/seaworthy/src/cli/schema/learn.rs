//! `seaworthy schema learn`

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use seaworthy_policy::learn::{self, LeftOut, Operation, Settings, Shape};
use seaworthy_policy::openapi::Document;
use seaworthy_store::StoreError;
use seaworthy_store::telemetry::{SHAPES_MAX, ShapeRow, TelemetryReader};
use serde::Serialize;
use serde_json::Value;

use super::super::{Answer, ConfigFile, Surroundings};
use crate::config::{self, Config, Flags};
use crate::exit::{Exit, Failure};

/// Propose an OpenAPI document for a service that has none, from what its requests are like
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy schema learn --from requests --out openapi.json
  seaworthy schema learn --from requests --min-samples 100 > openapi.json
  seaworthy schema learn --from requests --json

It learns from what `[learn] enabled = true` has had written down: names and kinds, no values.
The document goes to standard output, or to the file of --out; what is in it and what is not is
said beside it. It exits with 2 where there is too little to propose anything.")]
pub(in crate::cli) struct Learn {
    /// What to learn from
    #[arg(long, value_name = "SOURCE")]
    from: Source,
    #[command(flatten)]
    file: ConfigFile,
    /// The folder for the gateway's data
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Requests of an operation below which it is left out
    #[arg(long, value_name = "N", default_value_t = 20)]
    min_samples: u64,
    /// Write the document to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a file that is there already
    #[arg(long, requires = "out")]
    force: bool,
    /// Print the document, what is in it and what is not, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// Requests that the service answered with success
    Requests,
}

/// What was learned, for `--json`.
#[derive(Debug, Serialize)]
struct Report {
    /// Requests that were learned from, those of operations that are left out among them.
    samples: u64,
    /// Different shapes that these requests had.
    shapes: usize,
    /// Shapes that another version of Seaworthy has written.
    unknown_shapes: usize,
    /// Whether older shapes may have gone to make room.
    full: bool,
    operations: Vec<Operation>,
    left_out: Vec<LeftOut>,
    document: Value,
}

impl Learn {
    pub(in crate::cli) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let Source::Requests = self.from;
        let flags = Flags { data: self.data, ..Flags::default() };
        let config = config::locate(&self.file.inputs(flags, surroundings))?;
        let rows = match TelemetryReader::open_read_only(&config.store.dir)
            .and_then(|reader| reader.shapes())
        {
            Ok(rows) => rows,
            Err(StoreError::Missing { .. }) => Vec::new(),
            Err(error) => return Err(unreadable(&error)),
        };
        if rows.is_empty() {
            return Err(nothing_recorded(&config));
        }
        let report = propose(&rows, &config.service.name, self.min_samples);
        if report.operations.is_empty() {
            return Err(too_little(&report, self.min_samples));
        }
        let document = pretty(&report.document);
        check(&document)?;
        if let Some(path) = &self.out {
            write(path, self.force, document.as_bytes())?;
        }
        if self.json {
            return Ok(Answer::json(&report, Exit::Ok));
        }
        let summary = summary(&report, self.min_samples, self.out.as_deref());
        Ok(match self.out {
            Some(_) => Answer::ok(summary),
            None => Answer::ok(document).aside(summary),
        })
    }
}

fn propose(rows: &[ShapeRow], service: &str, samples_min: u64) -> Report {
    let known: Vec<(Shape, u64)> =
        rows.iter().filter_map(|row| Some((Shape::read(&row.shape).ok()?, row.samples))).collect();
    let settings = Settings { title: service.to_owned(), samples_min };
    let learned = learn::learn(known.iter().map(|(shape, samples)| (shape, *samples)), &settings);
    Report {
        samples: known.iter().map(|(_, samples)| samples).sum(),
        shapes: known.len(),
        unknown_shapes: rows.len() - known.len(),
        full: rows.len() >= SHAPES_MAX,
        operations: learned.operations,
        left_out: learned.left_out,
        document: learned.document,
    }
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).expect("plain data always serialises") + "\n"
}

/// A document that the gateway would not take is not handed out.
fn check(document: &str) -> Result<(), Failure> {
    Document::read(document.as_bytes()).map(drop).map_err(|faults| {
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Failure::new(Exit::Bug, "the document that was learned is not right")
            .details(lines.join("\n"))
    })
}

fn write(path: &Path, force: bool, document: &[u8]) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let shown = path.display();
    options.open(path).and_then(|mut file| file.write_all(document)).map_err(|error| {
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::new(Exit::Usage, format!("{shown} is there already"))
                    .details("choose another name, or replace it with --force")
            }
            _ => Failure::new(Exit::Unavailable, format!("{shown} cannot be written: {error}"))
                .details("choose a file in a folder that you may write to"),
        }
    })
}

fn unreadable(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Corrupt { .. } | StoreError::SchemaNewer { .. } => Exit::BadData,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, format!("what requests were like cannot be read: {error}"))
}

fn nothing_recorded(config: &Config) -> Failure {
    let dir = config.store.dir.display();
    let failure = |why: &str| {
        Failure::new(Exit::NoVerdict, format!("nothing is recorded in {dir} to learn from: {why}"))
    };
    if config.learn.enabled {
        return failure("no request was drawn yet").details(
            "`[learn]` is on: let the service be used through the gateway for a while, and run this \
             again",
        );
    }
    failure("`[learn]` is off").details(
        "write this into the config, which is taken up without a restart, let the service be used \
         through the gateway for a while, and run this again:\n\n[learn]\nenabled = true",
    )
}

fn too_little(report: &Report, samples_min: u64) -> Failure {
    let requests = requests(report.samples);
    let what = format!("no operation has {samples_min} requests yet, of {requests} in all");
    let mut details = list(&report.left_out);
    details.push_str("let the service be used for longer, or ask for less with --min-samples");
    if report.unknown_shapes > 0 {
        details.push_str("\nsome of what is recorded is another version's, and was passed over");
    }
    Failure::new(Exit::NoVerdict, what).details(details)
}

/// Operations that are named one by one.
const LISTED_MAX: usize = 20;

fn list(left_out: &[LeftOut]) -> String {
    let mut text = String::new();
    for LeftOut { operation: Operation { operation, samples }, reason } in
        left_out.iter().take(LISTED_MAX)
    {
        writeln!(text, "  {operation}  ({}: {reason})", requests(*samples))
            .expect("a String takes every write");
    }
    if let Some(more @ 1..) = left_out.len().checked_sub(LISTED_MAX) {
        writeln!(text, "  and {more} more").expect("a String takes every write");
    }
    text
}

fn summary(report: &Report, samples_min: u64, out: Option<&Path>) -> String {
    let told: u64 = report.operations.iter().map(|operation| operation.samples).sum();
    let operations = counted(report.operations.len(), "operation");
    let mut text = format!("learned {operations} from {}", requests(told));
    text.push_str(&out.map_or(String::new(), |path| format!(" into {}", path.display())));
    text.push('\n');
    if !report.left_out.is_empty() {
        let left_out = counted(report.left_out.len(), "operation");
        let line = format!("left out {left_out} (--min-samples is {samples_min}):\n");
        text.push_str(&line);
        text.push_str(&list(&report.left_out));
    }
    if report.unknown_shapes > 0 {
        let line =
            format!("passed over {} of another version\n", counted(report.unknown_shapes, "shape"));
        text.push_str(&line);
    }
    if report.full {
        let line = format!(
            "{SHAPES_MAX} shapes are all that is kept: what was seen least recently may be missing\n"
        );
        text.push_str(&line);
    }
    let file = out.map_or("openapi.json".to_owned(), |path| path.display().to_string());
    let next = format!(
        "\nRead it: it says what was sent, not what is right. Then see what it would deny:\n  \
         seaworthy schema check {file}\n\n  [protect.request_schema]\n  openapi = {file:?}\n"
    );
    text.push_str(&next);
    text
}

fn requests(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(shape: &str, samples: u64) -> ShapeRow {
        ShapeRow { shape: shape.to_owned(), samples, first_unix_ms: 0, last_unix_ms: 0 }
    }

    fn shape(path: &str) -> String {
        format!(r#"{{"method":"get","path":["{path}"],"query":{{"named":{{}}}}}}"#)
    }

    #[test]
    fn the_summary_says_what_is_in_what_is_not_and_what_to_do() {
        let rows = [row(&shape("a"), 30), row(&shape("b"), 1), row("{}", 7)];
        let report = propose(&rows, "notes", 20);
        assert_eq!((report.samples, report.shapes, report.unknown_shapes), (31, 2, 1));
        check(&pretty(&report.document)).unwrap();
        assert_eq!(
            summary(&report, 20, Some(Path::new("api.json"))),
            "learned 1 operation from 30 requests into api.json\n\
             left out 1 operation (--min-samples is 20):\n  \
             GET /b  (1 request: too few requests)\n\
             passed over 1 shape of another version\n\n\
             Read it: it says what was sent, not what is right. Then see what it would deny:\n  \
             seaworthy schema check api.json\n\n  \
             [protect.request_schema]\n  openapi = \"api.json\"\n"
        );
    }

    #[test]
    fn too_little_is_no_verdict() {
        let rows: Vec<_> = (b'a'..=b'z')
            .flat_map(|one| [("", one), ("x", one)])
            .take(20)
            .map(|(start, one)| row(&shape(&format!("{start}{}", char::from(one))), 3))
            .collect();
        let failure = too_little(&propose(&rows, "notes", 20), 20);
        assert_eq!(failure.exit, Exit::NoVerdict);
        assert_eq!(failure.what, "no operation has 20 requests yet, of 60 requests in all");
        assert!(failure.details.contains("  GET /xj  (3 requests: too few requests)\n"));
    }

    #[test]
    fn without_anything_recorded_it_says_how_to_record() {
        let dir = tempfile::tempdir().unwrap();
        let learn = |toml: &str| {
            let file = dir.path().join("seaworthy.toml");
            std::fs::write(&file, toml).unwrap();
            let learn = Learn {
                from: Source::Requests,
                file: ConfigFile { config: Some(file) },
                data: Some(dir.path().join("data")),
                min_samples: 20,
                out: None,
                force: false,
                json: false,
            };
            let paper = super::super::super::table::Paper::Pipe;
            learn.run(Surroundings { env: Vec::new(), paper }).unwrap_err()
        };
        let off = learn("");
        assert_eq!(off.exit, Exit::NoVerdict);
        assert!(off.what.ends_with("`[learn]` is off"), "{off}");
        assert!(off.details.ends_with("[learn]\nenabled = true"), "{off}");
        let on = learn("[learn]\nenabled = true");
        assert!(on.what.ends_with("no request was drawn yet"), "{on}");
    }

    #[test]
    fn a_file_is_kept_unless_it_is_to_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("openapi.json");
        write(&file, false, b"one").unwrap();
        assert_eq!(write(&file, false, b"two").unwrap_err().exit, Exit::Usage);
        assert_eq!(std::fs::read(&file).unwrap(), b"one");
        write(&file, true, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        let nowhere = dir.path().join("no/such/folder.json");
        assert_eq!(write(&nowhere, false, b"").unwrap_err().exit, Exit::Unavailable);
    }
}
