//! `seaworthy vocabulary parse`

use std::io::{self, Read as _};

use clap::{Args, Subcommand, ValueEnum};
use seaworthy_policy::vocabulary::{
    self, ConfigError, InvalidInput, Members, Parsed, Shape, ShapeName, quote_non_finite,
};
use serde_json::value::RawValue;

use super::table::{Cell, Paint, Paper, Table};
use super::{Answer, ConfigFile, Surroundings};
use crate::config::{self, Flags};
use crate::exit::{Exit, Failure};

/// Try out the vocabularies: what a spelling means, and what means nothing
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  seaworthy vocabulary parse stages 'Series A'
  seaworthy vocabulary parse stages '{\"Series A\": 0.6, \"sead\": 0.4}'")]
pub(super) enum Vocabulary {
    Parse(Parse),
}

/// Say what the words of a field mean, as the gateway would read them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy vocabulary parse stages 'Series A'
  seaworthy vocabulary parse stages '[\"seed\", \"series_b\"]' --json
  seaworthy vocabulary parse stages '{\"Series A\": 0.6, \"sead\": 0.4}'
  echo '[{\"stage\": \"A\", \"share\": 1}]' | \\
    seaworthy vocabulary parse stages - --key stage --weight share

Without --shape, a string is a scalar, an array of objects is entries, another array is a list, an
object is weights; what is not JSON is a scalar as it stands. It exits with 0 where every input
means something and the weights add up, with 1 where not, and with 65 where the JSON is broken.")]
pub(super) struct Parse {
    /// A vocabulary of the config, or a built-in one: stages
    name: String,
    /// The field's JSON, or - for standard input
    #[arg(value_name = "JSON|-")]
    field: String,
    /// In which form the field carries values
    #[arg(long, value_enum)]
    shape: Option<ShapeChoice>,
    /// The member of an entry that names the value
    #[arg(long, value_name = "MEMBER", default_value = "key")]
    key: String,
    /// The member of an entry that is its weight
    #[arg(long, value_name = "MEMBER", default_value = "weight")]
    weight: String,
    #[command(flatten)]
    file: ConfigFile,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// [`ShapeName`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShapeChoice {
    /// "Series A"
    Scalar,
    /// ["Series A", "seed"]
    List,
    /// {"Series A": 0.6, "seed": 0.4}
    Weights,
    /// [{"key": "Series A", "weight": 0.6}]
    Entries,
}

impl From<ShapeChoice> for ShapeName {
    fn from(choice: ShapeChoice) -> Self {
        match choice {
            ShapeChoice::Scalar => Self::Scalar,
            ShapeChoice::List => Self::List,
            ShapeChoice::Weights => Self::Weights,
            ShapeChoice::Entries => Self::Entries,
        }
    }
}

/// Bytes of standard input that are read: as many as a request body may have out of the box.
const INPUT_BYTES_MAX: u64 = 1 << 20;

impl Vocabulary {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        match self {
            Self::Parse(parse) => parse.run(surroundings),
        }
    }
}

impl Parse {
    fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let Self { name, field, shape, key, weight, file, json } = self;
        if key == weight {
            return Err(Failure::new(Exit::Usage, "--key and --weight name the same member"));
        }
        let paper = surroundings.paper;
        let vocabulary = configured(file, surroundings)?.vocabulary(&name).map_err(unusable)?;
        let field = if field == "-" { standard_input()? } else { field };
        let input = Input::read(&field, shape.map(ShapeName::from))?;
        let shape = input.shape.with(Members { key, weight });
        let parsed = vocabulary.parse(&input.field, &shape);
        let exit = if parsed.is_valid() { Exit::Ok } else { Exit::No };
        if json {
            return Ok(Answer::json(&parsed, exit));
        }
        Ok(Answer::new(print(&vocabulary, &shape, &parsed, paper), exit))
    }
}

/// The vocabularies that there are.
fn configured(file: ConfigFile, surroundings: Surroundings) -> Result<vocabulary::Config, Failure> {
    let config = config::inspect(&file.inputs(Flags::default(), surroundings))?;
    Ok(config.protect.vocabulary)
}

fn unusable(errors: Vec<ConfigError>) -> Failure {
    let exit = match errors.as_slice() {
        [ConfigError::UnknownVocabulary { .. }] => Exit::Usage,
        _ => Exit::Config,
    };
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    Failure::new(exit, lines.join("\n"))
}

fn standard_input() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(Exit::Unavailable, format!("cannot read: {error}")))?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failure::new(Exit::BadData, "standard input has more than 1MiB"));
    }
    String::from_utf8(bytes).map_err(|_| Failure::new(Exit::BadData, "the field is not UTF-8"))
}

/// What is to be parsed.
#[derive(Debug)]
struct Input {
    field: Box<RawValue>,
    shape: ShapeName,
}

impl Input {
    fn read(text: &str, shape: Option<ShapeName>) -> Result<Self, Failure> {
        let text = text.trim();
        // A NaN is no JSON, but what is wrong with it can be said better than that.
        let repaired = || serde_json::from_str(&quote_non_finite(text)?).ok();
        let read: Result<Box<RawValue>, _> = serde_json::from_str(text);
        let field = match read.or_else(|error| repaired().ok_or(error)) {
            Ok(field) => field,
            Err(error) => return Self::plain(text, shape, &error),
        };
        let shape = shape.unwrap_or_else(|| guess(&field));
        Ok(Self { field, shape })
    }

    /// Takes what is not JSON for a scalar, unless it was plainly meant to be JSON.
    fn plain(
        text: &str,
        shape: Option<ShapeName>,
        error: &serde_json::Error,
    ) -> Result<Self, Failure> {
        let is_scalar = shape.is_none_or(|shape| shape == ShapeName::Scalar);
        if !is_scalar || text.starts_with(['{', '[', '"']) {
            let what = format!("the field is not JSON: {error}");
            return Err(Failure::new(Exit::BadData, what)
                .details("a shell needs quotes around it: '{\"Series A\": 0.6}'"));
        }
        let field = serde_json::value::to_raw_value(text).expect("a string always serialises");
        Ok(Self { field, shape: ShapeName::Scalar })
    }
}

fn guess(field: &RawValue) -> ShapeName {
    let inside = field.get().strip_prefix('[').map(str::trim_start);
    match inside {
        Some(inside) if inside.starts_with('{') => ShapeName::Entries,
        Some(_) => ShapeName::List,
        None if field.get().starts_with('{') => ShapeName::Weights,
        None => ShapeName::Scalar,
    }
}

fn print(
    vocabulary: &vocabulary::Vocabulary,
    shape: &Shape,
    parsed: &Parsed<'_>,
    paper: Paper,
) -> String {
    let mut parts = Vec::new();
    if !parsed.matches.is_empty() {
        parts.push(understood(shape, parsed).render(paper));
    }
    if !parsed.is_valid() {
        let mut table = Table::new(["invalid", "where", "why"]);
        for input in &parsed.invalid_inputs {
            table.row([
                Cell::new(input.input.as_str()).paint(Paint::Red),
                Cell::new(if input.at.is_empty() { "all of it" } else { &input.at }),
                Cell::new(why(input, parsed)),
            ]);
        }
        parts.push(table.render(paper));
    }
    let sum = parsed.sum.map_or_else(String::new, |sum| {
        let (whole, tolerance) = (vocabulary.scale().whole(), vocabulary.tolerance());
        format!("sum         {sum} of {whole} (± {tolerance})\n")
    });
    let normalized = serde_json::to_string(&parsed.normalized).expect("plain data");
    parts.push(format!("{sum}normalized  {normalized}\n"));
    parts.join("\n")
}

/// What became of each input that means something.
fn understood(shape: &Shape, parsed: &Parsed<'_>) -> Table<3> {
    let weight = if matches!(shape, Shape::Scalar | Shape::List) { "" } else { "weight" };
    let mut table = Table::new(["input", "means", weight]);
    for found in &parsed.matches {
        let paint = if found.input == found.value { Paint::Dim } else { Paint::Bold };
        table.row([
            Cell::new(found.input.as_str()),
            Cell::new(found.value).paint(paint),
            Cell::new(found.weight.unwrap_or_default()),
        ]);
    }
    table
}

fn why(input: &InvalidInput, parsed: &Parsed<'_>) -> String {
    let near = parsed.suggestions.of(&input.input);
    match near.split_last() {
        None => input.reason.to_string(),
        Some((last, [])) => format!("{}; did you mean {last}?", input.reason),
        Some((last, others)) => {
            format!("{}; did you mean {} or {last}?", input.reason, others.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, field: &str, json: bool) -> Result<Answer, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seaworthy.toml");
        std::fs::write(&file, "").unwrap();
        let parse = Parse {
            name: name.to_owned(),
            field: field.to_owned(),
            shape: None,
            key: "stage".to_owned(),
            weight: "share".to_owned(),
            file: ConfigFile { config: Some(file) },
            json,
        };
        parse.run(Surroundings { env: Vec::new(), paper: Paper::Pipe })
    }

    #[test]
    fn what_became_what_and_what_is_wrong_is_printed() {
        let answer = parse("stages", r#"{"Series A": 0.6, "sead": 0.4}"#, false).unwrap();
        assert_eq!(answer.exit, Exit::No);
        assert_eq!(
            answer.text,
            "input     means     weight\n\
             Series A  series-a  0.6\n\
             \n\
             invalid  where  why\n\
             sead     /sead  is none of the values; did you mean seed?\n\
             \n\
             sum         1 of 1 (± 0.001)\n\
             normalized  {\"series-a\":0.6}\n"
        );
        let answer = parse("stages", "Series A", false).unwrap();
        assert_eq!(answer.exit, Exit::Ok);
        assert_eq!(
            answer.text,
            "input     means\nSeries A  series-a\n\nnormalized  \"series-a\"\n"
        );
        let answer = parse("stages", r#"{"Series D": 0.9}"#, false).unwrap();
        assert_eq!(
            answer.text,
            "invalid   where      why\n\
             Series D  /Series D  is none of the values; did you mean series-a, series-b or series-c?\n\
             0.9       all of it  the weights add up to 0.9 instead of 1 (± 0.001)\n\
             \n\
             sum         0.9 of 1 (± 0.001)\n\
             normalized  {}\n"
        );
    }

    #[test]
    fn json_is_the_result_of_the_gateway() {
        let answer = parse("stages", r#"{"a": 0.1, "A ": 0.2, "seed": 0.70}"#, true).unwrap();
        assert_eq!(answer.exit, Exit::Ok);
        let want = "{\n  \"normalized\": {\n    \"series-a\": 0.3,\n    \"seed\": 0.70\n  },\n  \
                    \"invalid_inputs\": [],\n  \"suggestions\": {},\n  \"sum\": 1\n}\n";
        assert_eq!(answer.text, want);
    }

    #[test]
    fn the_shape_is_seen_from_the_json() {
        for (field, exit, normalized) in [
            ("Series A", Exit::Ok, "\"series-a\""),
            ("  \"Series A\"\n", Exit::Ok, "\"series-a\""),
            ("[\"a\", \"b\"]", Exit::Ok, "[\"series-a\",\"series-b\"]"),
            ("{\"a\": 1}", Exit::Ok, "{\"series-a\":1}"),
            (
                "[ {\"stage\": \"a\", \"share\": 1.0}]",
                Exit::Ok,
                "[{\"stage\":\"series-a\",\"share\":1.0}]",
            ),
            ("angel", Exit::No, "null"),
            ("", Exit::No, "null"),
            ("7", Exit::No, "null"),
            ("[]", Exit::No, "[]"),
            ("{\"a\": NaN}", Exit::No, "{}"),
        ] {
            let answer = parse("stages", field, false).unwrap();
            let last = answer.text.lines().last().unwrap();
            assert_eq!(last, format!("normalized  {normalized}"), "{field}");
            assert_eq!(answer.exit, exit, "{field}");
        }
    }

    #[test]
    fn what_cannot_be_parsed_is_a_failure() {
        for (name, field, exit, words) in [
            ("stagse", "a", Exit::Usage, "no vocabulary \"stagse\"; did you mean \"stages\"?"),
            ("food", "a", Exit::Usage, "no vocabulary \"food\"; there are stages"),
            ("stages", "{\"a\": 1", Exit::BadData, "the field is not JSON: EOF"),
            ("stages", "{Series A: 1}", Exit::BadData, "the field is not JSON: key must"),
            ("stages", "[\"a\"] x", Exit::BadData, "the field is not JSON: trailing"),
        ] {
            let failure = parse(name, field, false).unwrap_err();
            assert_eq!(failure.exit, exit, "{field}");
            assert!(failure.what.contains(words), "{}", failure.what);
        }
    }
}
