//! Rules in the language of ModSecurity, such as the OWASP Core Rule Set, judged by the engine of
//! the `zentinel-modsec` crate.
//!
//! 1. A rule set is read whole: what its files say and this engine would pass over is a fault,
//!    unless it is about logs, answers or the engine itself. Nothing is read from the disk.
//! 2. A request is judged in the first two phases, its head and its body. Rules of other phases
//!    judge answers, and are left out; so are the files that hold nothing else.
//! 3. A request is denied where the rules say so: for the Core Rule Set, where what has been found
//!    reaches its threshold. What has been found is named by the rules' ids and messages.
//! 4. A rule can be off, or in `warn`: then it is counted, and neither denies nor adds to a score.
//! 5. What the engine would read wrongly is mended first, or the rule is left out and said to be;
//!    see `crs/prepare.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::header::CONTENT_TYPE;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zentinel_modsec::engine::phase::Phase;
use zentinel_modsec::parser::{Lexer, Parser, TokenKind};
use zentinel_modsec::{CompiledRuleset, ModSecurity};

use crate::content::Part;
use crate::quantity::serde_as_text;

mod parts;
mod prepare;
mod xml;

pub(crate) use self::xml::is_xml;

/// The rules that a set may have; the Core Rule Set has some 700.
const RULES_MAX: usize = 5000;

/// The rule of the Core Rule Set that denies every request where no setup has been read before it.
const SETUP_RULE: u64 = 901_001;

/// Faults of one file that are told.
const FAULTS_MAX: usize = 20;

/// A rule set, ready to judge.
pub struct RuleSet {
    engine: ModSecurity,
    findings: BTreeMap<u64, Finding>,
    left_out: Vec<LeftOut>,
}

/// A rule that finds something in a request, other than one that adds up what others have found.
#[derive(Debug)]
struct Finding {
    message: String,
    /// What the engine calls it when it has matched.
    matched_as: u64,
    matches: AtomicU64,
}

/// A rule of the set that cannot match here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub id: u64,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its pattern needs what only a backtracking engine has.
    Pattern,
    /// It reads nothing that this engine knows.
    Variables,
    /// `@detectSQLi` and `@detectXSS`: the engine's own detector takes prose for attacks.
    Detector,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pattern => "their patterns need another engine",
            Self::Variables => "they read nothing that is known here",
            Self::Detector => "`injection` is the better detector",
        })
    }
}

/// A file of a rule set.
#[derive(Clone, Copy, Debug)]
pub struct RuleFile<'a> {
    pub name: &'a str,
    pub text: &'a [u8],
}

/// Why a rule set cannot be used. Fits after "`<key>`: ".
#[derive(Debug, thiserror::Error)]
pub enum RuleSetError {
    #[error("{file} is not UTF-8")]
    NotUtf8 { file: String },
    #[error("{file}: line {line}: Include is not followed; list the file in its place")]
    Include { file: String, line: usize },
    #[error("{file}: line {line}: {directive} is not supported")]
    Unsupported { file: String, line: usize, directive: String },
    #[error("{file}: line {line}: {fault}")]
    Statement { file: String, line: usize, fault: String },
    #[error("{file}: {fault}")]
    Malformed { file: String, fault: String },
    #[error("rule {id}: its data file {name:?} is not among the files")]
    NoData { id: u64, name: String },
    #[error("expected at most {RULES_MAX} rules, not {0}")]
    TooMany(usize),
    #[error("there is no rule in it")]
    Empty,
    #[error("there is no rule {0} that could be switched")]
    UnknownId(IdRange),
    #[error(
        "rule {SETUP_RULE} denies every request, since no setup comes before the rules: name the Core Rule Set's `crs-setup.conf` first"
    )]
    NoSetup,
    #[error("{0}")]
    Engine(String),
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleMode {
    Off,
    /// It is counted and does nothing.
    Warn,
    /// It does what it says.
    Enforce,
}

/// One id, or all from one to another: `942100`, `942100-942199`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdRange {
    first: u64,
    last: u64,
}

impl IdRange {
    const fn has(self, id: u64) -> bool {
        self.first <= id && id <= self.last
    }
}

/// Fits after "failed to read the ids: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the id of a rule, such as 942100, or two with - between")]
pub struct IdRangeError;

impl FromStr for IdRange {
    type Err = IdRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = |text: &str| match text.parse::<u64>() {
            Ok(id) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(id),
            _ => Err(IdRangeError),
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (id(first)?, id(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(IdRangeError) }
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.first == self.last { Ok(()) } else { write!(f, "-{}", self.last) }
    }
}

serde_as_text!(IdRange);

/// The modes of rules that do not do what they say. Of two that fit, the narrower holds.
pub type RuleModes = BTreeMap<IdRange, RuleMode>;

fn mode_of(modes: &RuleModes, id: u64) -> RuleMode {
    let fitting = modes.iter().filter(|(range, _)| range.has(id));
    let narrowest = fitting.min_by_key(|(range, _)| range.last - range.first);
    narrowest.map_or(RuleMode::Enforce, |(_, mode)| *mode)
}

/// A request, as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub client: IpAddr,
    pub method: &'a str,
    pub target: &'a str,
    pub authority: &'a str,
    pub headers: &'a http::HeaderMap,
    pub body: InputBody<'a>,
}

/// What the rules see of a body.
#[derive(Clone, Copy, Debug)]
pub enum InputBody<'a> {
    /// Decoded, and read by the engine as its `Content-Type` says.
    Plain(&'a [u8]),
    /// Of a multipart body: the engine reads the same parts.
    Parts(&'a [Part]),
}

/// What the rules say of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub denied: bool,
    /// The ids of the rules that found something, in order; where a rule denied by itself without
    /// a message, its id.
    pub found: Vec<u64>,
}

/// Why a request could not be judged. The engine's words can hold parts of it, and are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JudgeError {
    #[error("the engine gave the request up")]
    Request,
    /// Some of its body would not be seen by any rule, for this reason.
    #[error("the rules cannot read all of this body: {0}")]
    Body(&'static str),
}

impl RuleSet {
    /// Reads `files` in their order: `*.conf` are rules, any other is data that rules name. Says
    /// everything that is wrong with them.
    pub fn read(files: &[RuleFile<'_>], modes: &RuleModes) -> Result<Self, Vec<RuleSetError>> {
        let mut parser = Parser::new();
        let mut parsed = 0;
        let mut faults = Vec::new();
        for file in files.iter().filter(|file| has_request_rules(file.name)) {
            let name = || file.name.to_owned();
            let Ok(text) = std::str::from_utf8(file.text) else {
                faults.push(RuleSetError::NotUtf8 { file: name() });
                continue;
            };
            let mut fault = check_words(file.name, text).err();
            // What a file would include must not be read, so a fault of words comes before.
            if fault.is_none() {
                // Without a path: with one the engine would look for data files on the disk.
                let read = parser.parse_with_location(text, None::<&Path>);
                fault = read.err().map(|error| RuleSetError::Malformed {
                    file: name(),
                    fault: error.to_string(),
                });
            }
            let directives = parser.directives();
            let fresh = directives.get(parsed..).unwrap_or_default();
            if fault.is_some() || prepare::unsupported(fresh).is_some() {
                let told = statement_faults(file.name, text);
                let untold = fault.filter(|_| told.is_empty());
                faults.extend(told.into_iter().chain(untold));
            }
            parsed = directives.len();
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let prepared = prepare::prepare(parser.into_directives(), files, modes)
            .map_err(|error| vec![error])?;
        match prepared.ids.len() {
            0 => return Err(vec![RuleSetError::Empty]),
            count if count > RULES_MAX => return Err(vec![RuleSetError::TooMany(count)]),
            _ => {}
        }
        let is_unknown = |range: &&IdRange| !prepared.ids.iter().any(|id| range.has(*id));
        let unknown = modes.keys().filter(is_unknown);
        faults.extend(unknown.map(|range| RuleSetError::UnknownId(*range)));
        let compiled = CompiledRuleset::compile(prepared.directives)
            .map_err(|error| vec![RuleSetError::Engine(error.to_string())])?;
        let set = Self {
            engine: ModSecurity::new(compiled),
            findings: prepared.findings,
            left_out: prepared.left_out,
        };
        set.warm_up();
        if set.misses_its_setup() {
            faults.push(RuleSetError::NoSetup);
        }
        if faults.is_empty() { Ok(set) } else { Err(faults) }
    }

    /// Whether it is a Core Rule Set that would deny whatever came.
    fn misses_its_setup(&self) -> bool {
        let headers = http::HeaderMap::new();
        let plain = Input {
            client: IpAddr::from([192, 0, 2, 1]),
            method: "GET",
            target: "/",
            authority: "localhost",
            headers: &headers,
            body: InputBody::Plain(b""),
        };
        self.run(&plain).is_ok_and(|judged| judged.denied && judged.found.contains(&SETUP_RULE))
    }

    /// Has each pattern built: the engine does so when it first meets a value for one, which takes
    /// as long as a hundred requests.
    fn warm_up(&self) {
        for phase in [Phase::RequestHeaders, Phase::RequestBody] {
            for rule in self.engine.ruleset().rules_for_phase(phase) {
                rule.operator.execute("a");
            }
        }
    }

    /// Judges one request. It takes a millisecond or more.
    pub fn judge(&self, input: &Input<'_>) -> Result<Judged, JudgeError> {
        let judged = self.run(input)?;
        for id in &judged.found {
            if let Some(finding) = self.findings.get(id) {
                finding.matches.fetch_add(1, Relaxed);
            }
        }
        Ok(judged)
    }

    fn run(&self, input: &Input<'_>) -> Result<Judged, JudgeError> {
        let mut transaction = self.engine.new_transaction();
        transaction.set_client_addr(&input.client.to_string(), 0);
        let engine = |_| JudgeError::Request;
        transaction.process_uri(input.target, input.method, "HTTP/1.1").map_err(engine)?;
        let (written, text);
        let (boundary, body) = match input.body {
            InputBody::Plain(plain) if plain.is_empty() => (None, plain),
            // It would be taken for the parts of which it has none.
            InputBody::Plain(_) if starts_as_multipart(input.headers) => {
                return Err(JudgeError::Body("its type starts like another one"));
            }
            InputBody::Plain(plain) if is_xml(input.headers) => {
                text = xml::write(plain)?;
                (None, &*text)
            }
            InputBody::Plain(plain) => (None, plain),
            InputBody::Parts(parts) => {
                written = parts::write(parts);
                (Some(&written.boundary), &*written.body)
            }
        };
        for (name, value) in input.headers {
            let mut value = String::from_utf8_lossy(value.as_bytes());
            if let (Some(boundary), &CONTENT_TYPE) = (boundary, name) {
                value = parts::content_type(&value, boundary).into();
            }
            transaction.add_request_header(name.as_str(), &value).map_err(engine)?;
        }
        if !input.headers.contains_key(http::header::HOST) {
            transaction.add_request_header("host", input.authority).map_err(engine)?;
        }
        if !body.is_empty() && !input.headers.contains_key(http::header::CONTENT_LENGTH) {
            // How the body was framed is the connection's business; rules expect to see it.
            let length = body.len().to_string();
            transaction.add_request_header("content-length", &length).map_err(engine)?;
        }
        transaction.process_request_headers().map_err(engine)?;
        transaction.append_request_body(body).map_err(engine)?;
        transaction.process_request_body().map_err(engine)?;
        let intervention = transaction.intervention();
        let denied_by = |id| {
            let ids = intervention.into_iter().flat_map(|intervention| &intervention.rule_ids);
            ids.map(|id| id.parse::<u64>()).any(|found| found == Ok(id))
        };
        if denied_by(prepare::UNREAD_BODY) {
            return Err(JudgeError::Body("it has more levels or parts than they read"));
        }
        let matched = transaction.matched_rules();
        let mut found: Vec<u64> = matched
            .iter()
            .filter_map(|id| id.parse().ok())
            .filter(|matched| {
                let id = prepare::id_of(*matched);
                self.findings.get(&id).is_some_and(|finding| finding.matched_as == *matched)
            })
            .map(prepare::id_of)
            .collect();
        found.dedup();
        if found.is_empty() {
            let ids = intervention.into_iter().flat_map(|intervention| &intervention.rule_ids);
            found.extend(ids.filter_map(|id| id.parse().ok()).map(prepare::id_of).take(1));
        }
        Ok(Judged { denied: intervention.is_some(), found })
    }

    /// What the rule `id` says that it finds.
    pub fn message(&self, id: u64) -> Option<&str> {
        self.findings.get(&id).map(|finding| &*finding.message)
    }

    /// The rules that can find something.
    pub fn findings_count(&self) -> usize {
        self.findings.len()
    }

    /// How often each rule has found something, where it has.
    pub fn matches(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.findings.iter().map(|(id, finding)| (*id, finding.matches.load(Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }

    /// The rules that cannot match here, and why.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuleSet({} findings)", self.findings.len())
    }
}

/// Whether a file has rules, some of them about requests. The Core Rule Set keeps those about
/// answers in files of their own; among these are changes that the operator makes to any rule.
fn has_request_rules(name: &str) -> bool {
    let about_answers = name.starts_with("RESPONSE-") && !name.contains("EXCLUSION");
    let rules = Path::new(name).extension().is_some_and(|extension| extension == "conf");
    rules && !about_answers
}

/// Whether the engine takes a body with these headers for multipart, by how its type starts.
fn starts_as_multipart(headers: &http::HeaderMap) -> bool {
    const START: &[u8] = b"multipart/form-data";
    let value = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let start = value.trim_ascii_start().get(..START.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(START))
}

/// What is wrong with the statements of a file, each read by itself.
fn statement_faults(name: &str, text: &str) -> Vec<RuleSetError> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let starts = statement_lines(text);
    let ends = starts.iter().skip(1).copied().chain([lines.len() + 1]);
    let mut faults = Vec::new();
    for (line, end) in starts.iter().copied().zip(ends) {
        let file = || name.to_owned();
        let statement = lines.get(line - 1..end - 1).unwrap_or_default().concat();
        let mut lexer = Lexer::new(&statement);
        let is_include = matches!(
            lexer.next_token().map(|token| token.kind),
            Some(TokenKind::Directive(word)) if word.eq_ignore_ascii_case("include")
        );
        if is_include {
            faults.push(RuleSetError::Include { file: file(), line });
        } else {
            let mut parser = Parser::new();
            match parser.parse(&statement) {
                Err(error) => {
                    let fault = match error {
                        // Its place is within the statement alone.
                        zentinel_modsec::Error::Parse { message, .. } => message,
                        error => error.to_string(),
                    };
                    faults.push(RuleSetError::Statement { file: file(), line, fault });
                }
                Ok(()) => {
                    let directive = prepare::unsupported(parser.directives());
                    let fault =
                        |directive| RuleSetError::Unsupported { file: file(), line, directive };
                    faults.extend(directive.map(fault));
                }
            }
        }
        if faults.len() == FAULTS_MAX {
            break;
        }
    }
    faults
}

/// The lines on which the statements of a file start, from 1.
fn statement_lines(text: &str) -> Vec<usize> {
    let (mut lexer, mut starts, mut is_new) = (Lexer::new(text), Vec::new(), true);
    while let Some(token) = lexer.next_token() {
        match token.kind {
            TokenKind::Newline | TokenKind::Comment => is_new = true,
            _ if is_new => {
                starts.push(token.line);
                is_new = false;
            }
            _ => {}
        }
    }
    starts
}

/// Looks at a file word by word, like the parser does, for what that must not meet: an `Include`,
/// which it would follow on the disk, and a character at which it ends without a word.
fn check_words(name: &str, text: &str) -> Result<(), RuleSetError> {
    let file = || name.to_owned();
    let mut lexer = Lexer::new(text);
    let mut line = 1;
    while let Some(token) = lexer.next_token() {
        line = token.line;
        match token.kind {
            TokenKind::Directive(word) if word.eq_ignore_ascii_case("include") => {
                return Err(RuleSetError::Include { file: file(), line });
            }
            _ => {}
        }
    }
    if lexer.peek().is_some() {
        let fault = format!("a character behind line {line} belongs to no word");
        return Err(RuleSetError::Malformed { file: file(), fault });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
