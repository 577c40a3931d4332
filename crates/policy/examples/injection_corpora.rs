//! Measures `seaworthy_policy::detect` on corpora of attacks and of ordinary input.
//!
//! ```text
//! injection_corpora FOLDER [--show-missed]
//! injection_corpora --speed
//! ```
//!
//! The folder is laid out as libinjection's `data/`: files `sqli-*.txt` and `xss-*.txt` of attacks,
//! `false_positives.txt` of what is none, one value a line, percent-encoded as in a query. Empty
//! lines and those that begin with `#` are skipped. Run it through
//! `bench/conformance/injection.sh`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use seaworthy_policy::detect::{Encoding, Kinds, inspect};

const USAGE: &str = "usage: injection_corpora FOLDER [--show-missed] | --speed";

/// How many missed lines of a file are shown.
const MISSED_SHOWN_MAX: usize = 5;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (folder, show_missed) = match args[..] {
        ["--speed"] => {
            speed();
            return ExitCode::SUCCESS;
        }
        [folder] if !folder.starts_with('-') => (folder, false),
        [folder, "--show-missed"] | ["--show-missed", folder] => (folder, true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match corpora(Path::new(folder), show_missed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{folder}: {fault}");
            ExitCode::from(69)
        }
    }
}

/// What the lines of one file, or of several, were found to be.
#[derive(Default)]
struct Tally {
    lines: usize,
    sql: usize,
    xss: usize,
    either: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.sql += other.sql;
        self.xss += other.xss;
        self.either += other.either;
    }

    fn print(&self, name: &str) {
        let Self { lines, sql, xss, either } = self;
        println!("{name:42} {lines:6} {sql:6} {xss:6} {:6}", lines - either);
    }
}

fn corpora(folder: &Path, show_missed: bool) -> std::io::Result<()> {
    let files = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = files.collect::<Result<Vec<PathBuf>, _>>()?;
    files.sort();
    let (mut sqli, mut xss, mut ordinary) = (Tally::default(), Tally::default(), Tally::default());
    println!("{:42} {:>6} {:>6} {:>6} {:>6}", "file", "lines", "sql", "xss", "none");
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let total = match name.as_str() {
            "false_positives.txt" => &mut ordinary,
            name if name.starts_with("sqli-") && name.ends_with(".txt") => &mut sqli,
            name if name.starts_with("xss-") && name.ends_with(".txt") => &mut xss,
            _ => continue,
        };
        let hostile = name != "false_positives.txt";
        let (tally, wrong) = judge(&std::fs::read(&file)?, Encoding::Form, hostile);
        tally.print(&name);
        if show_missed {
            for line in wrong {
                println!("    {}", String::from_utf8_lossy(&line));
            }
        }
        total.add(&tally);
    }
    println!();
    rate("SQL injection found, as either kind", sqli.either, sqli.lines);
    rate("SQL injection found, as such", sqli.sql, sqli.lines);
    rate("cross-site scripting found, as either kind", xss.either, xss.lines);
    rate("cross-site scripting found, as such", xss.xss, xss.lines);
    rate("ordinary input of the corpus found", ordinary.either, ordinary.lines);
    let (own, wrong) = judge(ORDINARY.as_bytes(), Encoding::Plain, false);
    if show_missed {
        for line in wrong {
            println!("    {}", String::from_utf8_lossy(&line));
        }
    }
    rate("ordinary input of our own table found", own.either, own.lines);
    Ok(())
}

/// Our own table, which the tests read, too.
const ORDINARY: &str = include_str!("../src/detect/ordinary.txt");

fn rate(what: &str, found: usize, of: usize) {
    let percent = 100.0 * found as f64 / of.max(1) as f64;
    println!("{what:44} {found:6} of {of:6}  {percent:6.2} %");
}

/// The tally of a file, and the first of its lines that were judged wrongly.
fn judge(file: &[u8], encoding: Encoding, hostile: bool) -> (Tally, Vec<Vec<u8>>) {
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    for line in file.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let found = |kinds| inspect(line, encoding, kinds);
        let (sql, xss) = (found(Kinds::Sql), found(Kinds::Xss));
        tally.lines += 1;
        tally.sql += usize::from(sql.is_some());
        tally.xss += usize::from(xss.is_some());
        tally.either += usize::from(sql.or(xss).is_some());
        if sql.or(xss).is_some() != hostile && wrong.len() < MISSED_SHOWN_MAX {
            let mut line = line.to_vec();
            if let Some(found) = sql.or(xss) {
                line.extend_from_slice(format!("    ← {}", found.fingerprint).as_bytes());
            }
            wrong.push(line);
        }
    }
    (tally, wrong)
}

/// What 1,000 bytes of each kind of text cost, and what 64 KiB made to be slow do.
fn speed() {
    let names = ["stage", "title", "currency", "id", "created_at", "customer", "status", "amount"];
    let values = [
        "series-a",
        "Printer jams on page 7",
        "EUR",
        "5f0c7a3e-9b1d-4c52-8e11-0123456789ab",
        "2026-11-21T04:27:45.123Z",
        "Acme Logistics GmbH",
        "waiting for customer",
        "1250.00",
    ];
    let json: Vec<&str> = names.iter().chain(&values).copied().collect();
    let prose = [
        "I don't think it's the printer's fault; the paper's just too thick for it, isn't it?",
        "She said \"it's broken\", and he couldn't find the manual - so we're stuck (for now).",
        "O'Brien's team won't be able to update the order from here, they'd need access.",
    ];
    let html = ["<p>It's <b>bold</b>, see <a href=\"https://app.example/a?b=c\">here</a>.</p>"];
    let encoded = ["It%27s+here+%26+there%2C+isn%27t+it%3F+100%25+sure", "caf%C3%A9+%26+bar"];
    let umlauts = ["Die Prüfung läuft über den Größenfilter, danach für alle Märkte"];
    println!("{:44} {:>10}", "per 1,000 bytes", "µs");
    for (name, texts, encoding) in [
        ("strings of ordinary JSON, names and values", &json[..], Encoding::Plain),
        ("prose with apostrophes", &prose, Encoding::Plain),
        ("prose with umlauts", &umlauts, Encoding::Plain),
        ("HTML", &html, Encoding::Plain),
        ("percent-encoded form values", &encoded, Encoding::Form),
    ] {
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let took = median(|| {
            for text in texts {
                std::hint::black_box(inspect(
                    std::hint::black_box(text.as_bytes()),
                    encoding,
                    Kinds::Both,
                ));
            }
        });
        println!("{name:44} {:10.2}", took.as_secs_f64() * 1e6 / bytes as f64);
    }
    println!("\n{:44} {:>10}", "64 KiB of", "ms");
    for piece in [
        "'",
        "\"",
        "`",
        "\\'",
        "/*",
        "<",
        "</>",
        "<a ",
        "=",
        "onx=",
        "(",
        "url(",
        "a.",
        "'a.",
        "1,",
        "1 or ",
        "--\n",
        "%25",
        "%2525",
        "&amp;",
        "\\u0027",
        "&#38;",
        "$a",
        "q'(",
        "[",
        "{a ",
        "-",
        "!",
        "in in ",
        "%2527&amp;\\u0027 ",
        "'\"",
        "data:",
        "a=data:",
    ] {
        let value = piece.repeat(64 * 1024 / piece.len());
        let start = Instant::now();
        std::hint::black_box(inspect(value.as_bytes(), Encoding::Form, Kinds::Both));
        println!("{:44} {:10.2}", format!("{piece:?}"), start.elapsed().as_secs_f64() * 1e3);
    }
}

/// The median of 101 measurements of a thousand runs each, as the time of a thousand runs.
fn median(run: impl Fn()) -> Duration {
    let mut times: Vec<Duration> = (0..101)
        .map(|_| {
            let start = Instant::now();
            (0..1000).for_each(|_| run());
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}
