//! Holds requests to what the service says it takes: an OpenAPI document, or a JSON Schema.
//!
//! 1. It judges where a document is configured, or on a route that has a `body` schema of its own.
//! 2. Each operation of the document is a rule of its own, `request_schema@POST /path`, with its
//!    own mode and evidence: one that describes its clients badly does not hold up the others.
//! 3. Requests for what the document does not mention fall under the service's rule: unknown
//!    routes, methods and media types are findings of their own.
//! 4. Path, query, header fields, cookies and the body are judged; see `openapi.rs` for how they
//!    are read. A body that cannot be checked is denied as one that cannot.
//! 5. The gateway's own resources are no part of the document, and are not judged.
//! 6. A finding names the place, the rule of the schema and what was expected, never the value.

use std::sync::{Arc, Mutex, PoisonError};

use http::Method;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::content::has_syntax;
use crate::mode::ModeSetting;
use crate::openapi::{
    BodyInput, BodySchema, Document, DocumentFault, Findings, Input, Match, Operation, Settings,
    UnknownQuery,
};
use crate::problem::{Code, Denial, FieldError};
use crate::protection::{Effects, Outcome, Protection, Request};
use crate::registry::{BuildContext, BuildError, Entry, settings_of};
use crate::rollout::PolicyHash;
use crate::route::RoutePattern;
use crate::source::FileSource;

pub const ENTRY: Entry = Entry {
    name: "request_schema",
    summary: "Holds requests to what the service says it takes: an OpenAPI document, or a JSON Schema.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a document may describe its service wrongly, and clients rely on the service",
    codes: &[
        Code::SchemaMismatch,
        Code::SchemaUnknownRoute,
        Code::SchemaUnknownMethod,
        Code::SchemaUnknownContentType,
    ],
    mode: |protect| protect.request_schema.mode,
    settings: |protect| settings_of(&protect.request_schema),
    build: |protect, context| Ok(Arc::new(RequestSchema::build(&protect.request_schema, context)?)),
    operations: |protect, context| operations(&protect.request_schema, context),
    sources: |protect| {
        let Config { openapi, body, .. } = &protect.request_schema;
        [openapi, body].into_iter().flatten().map(|file| file.0.clone()).collect()
    },
};

/// `[protect.request_schema]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// An OpenAPI 3.0 or 3.1 document, YAML or JSON. None by default: only the operator has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openapi: Option<FileSource>,
    /// The JSON Schema of the bodies of a route, in place of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<FileSource>,
    /// What the document does not mention. Denied by default: that is what a document is for.
    pub unknown_routes: UnknownRoutes,
    /// Parameters of the query that the document does not mention. Allowed by default: trackers
    /// and caches add some to any link.
    pub unknown_query: UnknownQuery,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: ENTRY.default_mode,
            openapi: None,
            body: None,
            unknown_routes: UnknownRoutes::Deny,
            unknown_query: UnknownQuery::Allow,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownRoutes {
    Allow,
    Deny,
}

struct RequestSchema {
    scope: Scope,
    unknown_routes: UnknownRoutes,
    settings: Settings,
}

/// What a rule judges by.
enum Scope {
    Nothing,
    Document(Arc<Document>),
    /// What a document does not mention: each of its operations has a rule of its own.
    Rest(Arc<Document>),
    /// One operation of a document.
    Operation(Arc<Document>, usize),
    Body(BodySchema),
}

impl RequestSchema {
    fn build(config: &Config, context: &BuildContext<'_>) -> Result<Self, BuildError> {
        let scope = match (&config.body, &config.openapi) {
            (Some(file), _) => {
                let text = context.sources.bytes(&file.0);
                let text = text.map_err(|message| BuildError { key: "body", message })?;
                let schema =
                    BodySchema::read(text).map_err(|faults| fault("body", file, &faults))?;
                Scope::Body(schema)
            }
            (None, Some(file)) if context.operations_apart => Scope::Rest(document(file, context)?),
            (None, Some(file)) => Scope::Document(document(file, context)?),
            (None, None) => Scope::Nothing,
        };
        Ok(Self::new(config, scope))
    }

    fn new(config: &Config, scope: Scope) -> Self {
        let Config { unknown_routes, unknown_query, .. } = *config;
        Self { scope, unknown_routes, settings: Settings { unknown_query } }
    }
}

type OperationRules = Vec<(RoutePattern, Arc<dyn Protection>)>;

fn operations(config: &Config, context: &BuildContext<'_>) -> Result<OperationRules, BuildError> {
    let Some(file) = config.openapi.as_ref().filter(|_| config.body.is_none()) else {
        return Ok(Vec::new());
    };
    let document = document(file, context)?;
    let rules = document.operations().iter().enumerate().map(|(index, operation)| {
        let scope = Scope::Operation(Arc::clone(&document), index);
        let rule: Arc<dyn Protection> = Arc::new(RequestSchema::new(config, scope));
        (operation.pattern().clone(), rule)
    });
    Ok(rules.collect())
}

/// Reads the document, unless it is the one that was read last: a config with its routes asks for
/// the same one several times.
fn document(file: &FileSource, context: &BuildContext<'_>) -> Result<Arc<Document>, BuildError> {
    // A lock is right here: configs are read at start and at a reload, and by nobody else.
    static LAST: Mutex<Option<([u8; 32], Arc<Document>)>> = Mutex::new(None);
    let text = context.sources.bytes(&file.0);
    let text = text.map_err(|message| BuildError { key: "openapi", message })?;
    let hash: [u8; 32] = digest(&SHA256, text).as_ref().try_into().expect("it has 32 bytes");
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, document)) = &*last
        && *known == hash
    {
        return Ok(Arc::clone(document));
    }
    let document =
        Arc::new(Document::read(text).map_err(|faults| fault("openapi", file, &faults))?);
    *last = Some((hash, Arc::clone(&document)));
    Ok(document)
}

/// Faults that one line of a config's report has room for.
const FAULTS_SHOWN: usize = 10;

fn fault(key: &'static str, file: &FileSource, faults: &[DocumentFault]) -> BuildError {
    let shown: Vec<_> = faults.iter().take(FAULTS_SHOWN).map(ToString::to_string).collect();
    let mut message = format!("{file}: {}", shown.join("; "));
    if faults.len() > FAULTS_SHOWN {
        message.push_str("; and more: `seaworthy schema check` shows all");
    }
    BuildError { key, message }
}

impl Protection for RequestSchema {
    fn policy(&self) -> Option<[u8; 32]> {
        match &self.scope {
            Scope::Operation(document, index) => {
                let operation = document.operations()[*index].digest();
                let beside = format!("{:?} {:?}", self.unknown_routes, self.settings);
                Some(PolicyHash::of(&[operation, beside.as_bytes()]).to_bytes())
            }
            Scope::Rest(document) => {
                let mut known: Vec<_> = document.operations().iter().map(pattern_text).collect();
                known.sort_unstable();
                let beside = format!("{:?} {:?}", self.unknown_routes, self.settings);
                Some(PolicyHash::of(&[known.join("\n").as_bytes(), beside.as_bytes()]).to_bytes())
            }
            Scope::Nothing | Scope::Body(_) | Scope::Document(_) => None,
        }
    }

    fn is_inert(&self) -> bool {
        matches!(self.scope, Scope::Nothing)
    }

    fn reads_body(&self, request: &Request<'_>) -> bool {
        !matches!(self.scope, Scope::Nothing)
            && !request.target.is_own()
            && has_syntax(request.headers)
    }

    fn check(&self, request: &Request<'_>, _effects: &mut Effects) -> Outcome {
        let mut findings = Findings::default();
        let judged = match &self.scope {
            Scope::Nothing => return Outcome::NotApplicable,
            _ if *request.method == Method::OPTIONS || request.target.is_own() => {
                return Outcome::NotApplicable;
            }
            Scope::Body(schema) => {
                BodyInput::of(request).map(|body| schema.judge(body, &mut findings))
            }
            Scope::Operation(document, index) => {
                self.judge(&document.operations()[*index], request, &mut findings)
            }
            Scope::Document(document) | Scope::Rest(document) => {
                match document.find(request.method, request.target.path()) {
                    Match::Operation(operation) => self.judge(operation, request, &mut findings),
                    Match::UnknownMethod(_) | Match::UnknownPath
                        if self.unknown_routes == UnknownRoutes::Allow =>
                    {
                        return Outcome::NotApplicable;
                    }
                    Match::UnknownMethod(known) => Err(unknown_method(known)),
                    Match::UnknownPath => Err(Denial::new(
                        Code::SchemaUnknownRoute,
                        "the service's document has no such path",
                    )),
                }
            }
        };
        match judged {
            Err(denial) => Outcome::Deny(denial),
            Ok(()) if findings.is_empty() => Outcome::Allow,
            Ok(()) => Outcome::Deny(mismatch(findings)),
        }
    }
}

impl RequestSchema {
    fn judge(
        &self,
        operation: &Operation,
        request: &Request<'_>,
        findings: &mut Findings,
    ) -> Result<(), Denial> {
        let input = Input::of(request)?;
        operation.judge(&input, self.settings, findings);
        Ok(())
    }
}

fn pattern_text(operation: &Operation) -> String {
    operation.pattern().to_string()
}

fn unknown_method(known: &[Method]) -> Denial {
    let names: Vec<_> = known.iter().map(Method::as_str).collect();
    let names = names.join(", ");
    let detail = format!("the service's document has {names} for this path");
    Denial::new(Code::SchemaUnknownMethod, detail).allow(&names)
}

fn mismatch(findings: Findings) -> Denial {
    let Findings { list, omitted } = findings;
    let media = list.iter().find(|finding| finding.keyword == "content-type");
    let (code, detail) = match (media, list.len() + omitted) {
        (Some(finding), _) => {
            (Code::SchemaUnknownContentType, format!("this operation takes {}", finding.expected))
        }
        (None, 1) => {
            (Code::SchemaMismatch, "one part of the request is not as documented".to_owned())
        }
        (None, count) => {
            (Code::SchemaMismatch, format!("{count} parts of the request are not as documented"))
        }
    };
    let mut denial = Denial::new(code, detail);
    denial.errors = list
        .into_iter()
        .map(|finding| {
            let mut error = FieldError::new(finding.at, finding.expected);
            error.keyword = finding.keyword.into();
            error
        })
        .collect();
    denial
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::{Sample, try_build_with};
    use crate::registry::{InstallKey, Protect};
    use crate::source::{Source, Sources};

    const OPENAPI: &str = r#"
openapi: 3.1.0
paths:
  /notes:
    get: { parameters: [{ name: limit, in: query, schema: { type: integer } }] }
    post:
      requestBody:
        required: true
        content:
          application/json: { schema: { type: object, required: [text], properties: { text: { maxLength: 3 } } } }
"#;

    fn sources() -> Sources {
        let mut sources = Sources::default();
        for (name, text) in [
            ("api.yaml", OPENAPI),
            ("bad.json", "{ \"type\": \"strin\" }"),
            ("note.json", "{ \"required\": [\"text\"] }"),
            ("torn.yaml", "openapi: 3.1.0\npaths:\n  notes: {}\n  /a: { fetch: {} }"),
        ] {
            sources.insert(Source::File(name.into()), Ok(text.as_bytes().to_vec()));
        }
        sources
    }

    fn settings(lines: &str) -> Protect {
        toml::from_str(&format!("[request_schema]\n{lines}")).unwrap()
    }

    fn rule(lines: &str) -> Arc<dyn Protection> {
        try_build_with(&ENTRY, &settings(lines), &sources()).unwrap()
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn a_request_is_held_to_the_document() {
        let rule = rule("openapi = \"api.yaml\"");
        for (name, method, target, kind, body, want) in [
            ("right", "GET", "/notes?limit=3", None, "", "allow"),
            ("a parameter", "GET", "/notes?limit=x", None, "", "schema-mismatch"),
            ("a body", "POST", "/notes", Some(JSON), r#"{"text": "abc"}"#, "allow"),
            ("too long", "POST", "/notes", Some(JSON), r#"{"text": "abcd"}"#, "schema-mismatch"),
            (
                "two readings",
                "POST",
                "/notes",
                Some(JSON),
                r#"{"text": 1, "text": 2}"#,
                "ambiguous-body",
            ),
            ("no body", "POST", "/notes", None, "", "schema-mismatch"),
            (
                "another type",
                "POST",
                "/notes",
                Some(("content-type", "text/plain")),
                "abc",
                "schema-unknown-content-type",
            ),
            ("no type", "POST", "/notes", None, "abc", "schema-unknown-content-type"),
            ("another method", "DELETE", "/notes", None, "", "schema-unknown-method"),
            ("another path", "GET", "/other", None, "", "schema-unknown-route"),
            ("a preflight", "OPTIONS", "/notes", None, "", "n/a"),
            ("an own resource", "GET", "/.seaworthy/me", None, "", "n/a"),
        ] {
            let fields: Vec<_> = kind.into_iter().collect();
            let mut sample = Sample::new(method, target, &fields);
            if !body.is_empty() {
                sample = sample.with_body(body.as_bytes());
            }
            assert_eq!(sample.verdict(&*rule), want, "{name}");
        }
    }

    #[test]
    fn the_client_is_told_where_by_which_rule_and_what_instead() {
        let rule = rule("openapi = \"api.yaml\"");
        let sample = Sample::new("POST", "/notes", &[JSON]).with_body(br#"{"text": "hunter2"}"#);
        let denial = sample.denial(&*rule);
        let FieldError { at, keyword, detail } = &denial.errors[0];
        assert_eq!((&**at, &**keyword, &**detail), ("/text", "maxLength", "at most 3 characters"));
        assert!(!format!("{denial:?}").contains("hunter2"));
        let denial = Sample::new("DELETE", "/notes", &[]).denial(&*rule);
        assert_eq!(denial.detail, "the service's document has GET, POST for this path");
        assert_eq!(denial.header.unwrap().1, "GET, POST");
    }

    #[test]
    fn each_operation_is_a_rule_of_its_own() {
        let protect = settings("openapi = \"api.yaml\"");
        let (key, sources) = (InstallKey::new([1; 32]), sources());
        let context =
            BuildContext { key: &key, sources: &sources, memory: None, operations_apart: false };
        let rules = (ENTRY.operations)(&protect, &context).unwrap();
        let names: Vec<_> = rules.iter().map(|(pattern, _)| pattern.to_string()).collect();
        assert_eq!(names, ["GET /notes", "POST /notes"]);
        let sample = Sample::new("POST", "/notes", &[JSON]).with_body(b"{}");
        assert_eq!(sample.verdict(&*rules[1].1), "schema-mismatch");
        assert!((ENTRY.operations)(&settings(""), &context).unwrap().is_empty());
    }

    #[test]
    fn the_rest_changes_with_the_routes_alone() {
        let policy = |document: &str| {
            let mut sources = sources();
            sources.insert(Source::File("api.yaml".into()), Ok(document.as_bytes().to_vec()));
            let (key, protect) = (InstallKey::new([1; 32]), settings("openapi = \"api.yaml\""));
            let context =
                BuildContext { key: &key, sources: &sources, memory: None, operations_apart: true };
            (ENTRY.build)(&protect, &context).unwrap().policy().unwrap()
        };
        let of_today = policy(OPENAPI);
        assert_eq!(policy(&OPENAPI.replace("maxLength: 3", "maxLength: 4")), of_today);
        assert_ne!(policy(&OPENAPI.replace("/notes:", "/letters:")), of_today);
        assert_ne!(policy(&OPENAPI.replace("post:", "put:")), of_today);
    }

    #[test]
    fn a_route_can_have_a_schema_without_a_document() {
        let rule = rule("body = \"note.json\"");
        let sent = |body: &str| {
            Sample::new("POST", "/any", &[JSON]).with_body(body.as_bytes()).verdict(&*rule)
        };
        assert_eq!((sent("{\"text\": 1}"), sent("{}")), ("allow".into(), "schema-mismatch".into()));
    }

    #[test]
    fn what_is_not_mentioned_can_be_let_pass() {
        let rule =
            rule("openapi = \"api.yaml\"\nunknown_routes = \"allow\"\nunknown_query = \"deny\"");
        assert_eq!(Sample::new("GET", "/other", &[]).verdict(&*rule), "n/a");
        assert_eq!(Sample::new("GET", "/notes?utm=1", &[]).verdict(&*rule), "schema-mismatch");
        let nothing = try_build_with(&ENTRY, &settings(""), &sources()).unwrap();
        assert_eq!(Sample::new("GET", "/", &[]).verdict(&*nothing), "n/a");
    }

    #[test]
    fn every_fault_of_a_document_is_in_the_report() {
        let fault =
            |lines: &str| try_build_with(&ENTRY, &settings(lines), &sources()).err().unwrap();
        let told = fault("openapi = \"torn.yaml\"");
        for words in ["openapi: file:torn.yaml: line 3", "line 4", "expected a method"] {
            assert!(told.contains(words), "{told}");
        }
        assert!(fault("openapi = \"gone.yaml\"").contains("file:gone.yaml was not read"));
        assert!(fault("body = \"bad.json\"").starts_with("body: file:bad.json: line 1"));
    }
}
