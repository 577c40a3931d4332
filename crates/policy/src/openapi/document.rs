//! Reads a document, and finds everything that is wrong with it.

use std::collections::HashSet;

use http::HeaderName;
use jsonschema::Draft;
use serde_json::Value;

use super::body::{Body, Content, Media};
use super::digest::digest;
use super::meta::Forms;
use super::parameter::{Parameter, ParameterPlace, Style};
use super::schema::Schemas;
use super::shape::Shape;
use super::text::Text;
use super::{
    Document, DocumentFault, FAULTS_MAX, OPERATIONS_MAX, Operation, PathMethods, circle, upgrade,
};
use crate::route::{RoutePattern, RouteTable, clashes};

/// References that lead from one to the next.
const HOPS_MAX: usize = 16;

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// What else a path item may have.
const BESIDE_METHODS: [&str; 5] = ["$ref", "summary", "description", "servers", "parameters"];

pub(super) fn read(text: &[u8]) -> Result<Document, Vec<DocumentFault>> {
    let mut text = Text::read(text).map_err(|fault| vec![fault])?;
    let draft = draft(&text).map_err(|fault| vec![fault])?;
    if version(&text.value).starts_with("3.0.") {
        upgrade::upgrade(&mut text.value);
    }
    upgrade::forgive_read_only(&mut text.value);
    let mut faults = Faults::of(&text);
    faults.check_references(&text.value, &mut String::new());
    faults.check_circles();
    // What a schema refers to has to be there before it can be built.
    if !faults.list.is_empty() {
        return Err(faults.sorted());
    }
    let schemas = Schemas::of(&text.value, draft)
        .map_err(|error| vec![DocumentFault::at(text.place(""), "", error)])?;
    let forms = Forms::new(&text.value, draft);
    let mut reading = Reading { faults, schemas, forms };
    reading.components();
    let operations = reading.paths();
    let document = reading.tables(operations);
    let list = reading.faults.sorted();
    match document {
        Some(document) if list.is_empty() => Ok(document),
        _ => Err(list),
    }
}

fn version(document: &Value) -> &str {
    document.get("openapi").and_then(Value::as_str).unwrap_or_default()
}

/// The dialect of the document's schemas.
fn draft(text: &Text) -> Result<Draft, DocumentFault> {
    let fault = |pointer: &str, message: &str| {
        Err(DocumentFault::at(text.place(pointer), pointer, message))
    };
    if text.value.get("swagger").is_some() {
        return fault("/swagger", "expected OpenAPI 3.0 or 3.1; Swagger 2.0 has to be converted");
    }
    let version = version(&text.value);
    if !(version.starts_with("3.0.") || version.starts_with("3.1.")) {
        return fault("/openapi", "expected `openapi` to be 3.0 or 3.1, such as \"3.1.0\"");
    }
    match text.value.get("jsonSchemaDialect").and_then(Value::as_str) {
        None | Some("https://spec.openapis.org/oas/3.1/dialect/base") => Ok(Draft::Draft202012),
        Some(dialect) => {
            let named = serde_json::json!({ "$schema": dialect });
            match Draft::Draft202012.detect(&named) {
                Draft::Unknown => fault("/jsonSchemaDialect", "expected a dialect that is known"),
                draft => Ok(draft),
            }
        }
    }
}

/// What is wrong with a document so far.
pub(super) struct Faults<'d> {
    pub(super) text: &'d Text,
    pub(super) list: Vec<DocumentFault>,
    /// Beginnings of references that lead to what is at hand.
    at_hand: Vec<&'d str>,
    /// The names of all anchors, once somebody has asked for one.
    anchors: Option<HashSet<&'d str>>,
}

impl<'d> Faults<'d> {
    pub(super) const fn of(text: &'d Text) -> Self {
        Self { text, list: Vec::new(), at_hand: Vec::new(), anchors: None }
    }

    /// The same where references that begin like `at_hand` are no fault.
    pub(super) fn beside(self, at_hand: Vec<&'d str>) -> Self {
        Self { at_hand, ..self }
    }

    pub(super) fn add(&mut self, pointer: &str, message: impl Into<String>) {
        let message = message.into();
        let is_known = |known: &DocumentFault| known.pointer == pointer && known.message == message;
        if self.list.len() < FAULTS_MAX && !self.list.iter().any(is_known) {
            self.list.push(DocumentFault::at(self.text.place(pointer), pointer, message));
        }
    }

    /// In the order of the document.
    pub(super) fn sorted(mut self) -> Vec<DocumentFault> {
        self.list.sort_by_key(|fault| (fault.line, fault.column));
        self.list
    }

    pub(super) fn check_references(&mut self, value: &Value, at: &mut String) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.within(&index.to_string(), item, at);
                }
            }
            Value::Object(map) => {
                for (name, part) in map {
                    match part {
                        _ if matches!(name.as_str(), "example" | "examples" | "default") => {}
                        Value::String(reference) if name == "$ref" => {
                            self.check_reference(reference, &format!("{at}/$ref"));
                        }
                        part => self.within(name, part, at),
                    }
                }
            }
            _ => {}
        }
    }

    fn within(&mut self, segment: &str, part: &Value, at: &mut String) {
        let length = at.len();
        at.push('/');
        at.push_str(&escape(segment));
        self.check_references(part, at);
        at.truncate(length);
    }

    fn check_reference(&mut self, reference: &str, at: &str) {
        match reference.strip_prefix('#') {
            None if self.at_hand.iter().any(|start| reference.starts_with(start)) => {}
            None => self.add(at, "it refers to another document, and nothing is fetched"),
            Some(target) if target.is_empty() || target.starts_with('/') => {
                if self.text.value.pointer(&unescape(target)).is_none() {
                    self.add(at, format!("there is nothing at {reference}"));
                }
            }
            // An anchor, which a schema may have.
            Some(name) => {
                let document = &self.text.value;
                let anchors = self.anchors.get_or_insert_with(|| anchors(document));
                if !anchors.contains(name) {
                    self.add(at, format!("there is nothing at {reference}"));
                }
            }
        }
    }

    pub(super) fn check_circles(&mut self) {
        for place in circle::circles(&self.text.value) {
            self.add(&place, circle::FAULT);
        }
    }

    /// Follows references from `pointer` to what is there.
    fn resolve(&mut self, pointer: &str) -> Option<(String, &'d Value)> {
        let mut at = pointer.to_owned();
        for _ in 0..HOPS_MAX {
            let value = self.text.value.pointer(&at)?;
            match value.get("$ref").and_then(Value::as_str) {
                Some(reference) => at = unescape(reference.strip_prefix('#')?),
                None => return Some((at, value)),
            }
        }
        self.add(pointer, "its references lead in a circle");
        None
    }
}

struct Reading<'d> {
    faults: Faults<'d>,
    schemas: Schemas<'d>,
    forms: Forms<'d>,
}

impl<'d> Reading<'d> {
    fn document(&self) -> &'d Value {
        &self.faults.text.value
    }

    /// Judges the form of all named schemas, used or not.
    fn components(&mut self) {
        let schemas = self.document().pointer("/components/schemas").and_then(Value::as_object);
        for name in schemas.into_iter().flat_map(|schemas| schemas.keys()) {
            self.judge_form(&format!("/components/schemas/{}", escape(name)));
        }
    }

    /// Judges the schema at `pointer` as a schema.
    fn judge_form(&mut self, pointer: &str) {
        let Self { forms, faults, .. } = self;
        forms.judge(pointer, &mut |place, words| faults.add(place, words));
    }

    fn content(&mut self, pointer: &str) -> Option<Content> {
        self.judge_form(pointer);
        match self.schemas.validator(pointer) {
            Ok(validator) => {
                let schema = self.document().pointer(pointer)?;
                Some(Content { validator, shape: Shape::of(schema, self.document()) })
            }
            // What is wrong with its form has been told already.
            Err(_) if self.forms.is_faulty(pointer) => None,
            Err(error) => {
                self.faults.add(pointer, error);
                None
            }
        }
    }

    fn paths(&mut self) -> Vec<(String, Operation)> {
        let Some(paths) = self.document().get("paths").and_then(Value::as_object) else {
            self.faults.add("", "it has no `paths`");
            return Vec::new();
        };
        let prefix = prefix(self.document());
        let mut operations = Vec::new();
        for path in paths.keys().filter(|path| !path.starts_with("x-")) {
            let pointer = format!("/paths/{}", escape(path));
            if !path.starts_with('/') {
                self.faults.add(&pointer, "expected a path to start with a slash");
                continue;
            }
            let Some((at, item)) = self.faults.resolve(&pointer) else { continue };
            let Some(item) = item.as_object() else {
                self.faults.add(&at, "expected a mapping of methods");
                continue;
            };
            for (name, operation) in item {
                let method = METHODS.contains(&name.as_str());
                if method && operation.is_object() {
                    let below = format!("{at}/{name}");
                    let template = format!("{prefix}{path}");
                    if let Some(operation) = self.operation(name, &template, &at, &below) {
                        operations.push((below, operation));
                    }
                } else if !BESIDE_METHODS.contains(&name.as_str()) && !name.starts_with("x-") {
                    self.faults.add(
                        &format!("{at}/{}", escape(name)),
                        "expected a method with its operation",
                    );
                }
            }
        }
        if operations.len() > OPERATIONS_MAX {
            let message = format!("it has more than {OPERATIONS_MAX} operations");
            self.faults.add("/paths", message);
        }
        operations
    }

    fn operation(
        &mut self,
        method: &str,
        template: &str,
        item: &str,
        at: &str,
    ) -> Option<Operation> {
        let method = method.to_ascii_uppercase();
        let pattern = match format!("{method} {template}").parse::<RoutePattern>() {
            Ok(pattern) => pattern,
            Err(error) => {
                self.faults.add(at, format!("the path cannot be used: {error}"));
                return None;
            }
        };
        let parameters = self.parameters(item, at);
        self.check_template(template, &parameters, at);
        let body_at = format!("{at}/requestBody");
        let body = self.document().pointer(&body_at).is_some();
        let body = if body { Some(self.body(&body_at)?) } else { None };
        let places = [format!("{item}/parameters"), format!("{at}/parameters"), body_at];
        let digest = digest(self.document(), &places);
        Some(Operation { pattern, parameters, body, digest })
    }

    /// Those of the path, overruled by those of the operation.
    fn parameters(&mut self, item: &str, operation: &str) -> Vec<Parameter> {
        let mut parameters: Vec<Parameter> = Vec::new();
        for owner in [item, operation] {
            let pointer = format!("{owner}/parameters");
            let list = self.document().pointer(&pointer).and_then(Value::as_array);
            let mut own = HashSet::new();
            for index in 0..list.map_or(0, Vec::len) {
                let Some(parameter) = self.parameter(&format!("{pointer}/{index}")) else {
                    continue;
                };
                if !own.insert(parameter.at.clone()) {
                    self.faults.add(&format!("{pointer}/{index}"), "the parameter is there twice");
                }
                parameters.retain(|earlier| earlier.at != parameter.at);
                parameters.push(parameter);
            }
        }
        parameters
    }

    fn parameter(&mut self, pointer: &str) -> Option<Parameter> {
        let (at, parameter) = self.faults.resolve(pointer)?;
        let text = |name: &str| parameter.get(name).and_then(Value::as_str);
        let Some(name) = text("name").filter(|name| !name.is_empty()) else {
            self.faults.add(&at, "the parameter has no `name`");
            return None;
        };
        let place = match text("in") {
            Some("path") => ParameterPlace::Path,
            Some("query") => ParameterPlace::Query,
            Some("cookie") => ParameterPlace::Cookie,
            Some("header") => match name.parse::<HeaderName>() {
                // Said by other parts of the document (OpenAPI, "Parameter Object").
                Ok(name)
                    if matches!(name.as_str(), "accept" | "content-type" | "authorization") =>
                {
                    return None;
                }
                Ok(name) => ParameterPlace::Header(name),
                Err(_) => {
                    self.faults.add(&at, "expected the name of a header field");
                    return None;
                }
            },
            _ => {
                self.faults.add(&at, "expected `in` to be path, query, header or cookie");
                return None;
            }
        };
        let flag = |name: &str| parameter.get(name).and_then(Value::as_bool);
        let required = flag("required").unwrap_or(false);
        if place == ParameterPlace::Path && !required {
            self.faults.add(&at, "a parameter of the path has to be `required`");
        }
        let (style, content) = match parameter.get("content").and_then(Value::as_object) {
            Some(media) => {
                let first = media.keys().next()?;
                let below = format!("{at}/content/{}/schema", escape(first));
                let style = match crate::content::Media::named(first.as_bytes()) {
                    crate::content::Media::Json => Style::Json,
                    // It is text, of which the schema speaks as a string.
                    _ => Style::default_of(&place),
                };
                (style, self.content(&below)?)
            }
            None => {
                let style = match text("style") {
                    None => Style::default_of(&place),
                    Some(style) => match Style::of(style, &place) {
                        Some(style) => style,
                        None => {
                            self.faults
                                .add(&format!("{at}/style"), "no style for a parameter there");
                            return None;
                        }
                    },
                };
                if parameter.get("schema").is_none() {
                    self.faults.add(&at, "the parameter has neither `schema` nor `content`");
                    return None;
                }
                (style, self.content(&format!("{at}/schema"))?)
            }
        };
        let word = match &place {
            ParameterPlace::Path => "path",
            ParameterPlace::Query => "query",
            ParameterPlace::Header(_) => "header",
            ParameterPlace::Cookie => "cookie",
        };
        let shown = match &place {
            ParameterPlace::Header(name) => name.as_str(),
            _ => name,
        };
        Some(Parameter {
            name: name.to_owned(),
            at: format!("{word}:{shown}"),
            required,
            style,
            explode: flag("explode").unwrap_or(style == Style::Form),
            place,
            shape: content.shape,
            validator: content.validator,
        })
    }

    /// The names in the path and its parameters are the same.
    fn check_template(&mut self, template: &str, parameters: &[Parameter], at: &str) {
        let mut named = Vec::new();
        for segment in template.split('/') {
            let count = segment.matches('{').count();
            if count > 1 {
                self.faults.add(at, "a segment of the path can have one parameter");
            }
            let inner = segment.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            named.extend(inner.map(|(name, _)| name));
        }
        let declared = |parameter: &&Parameter| parameter.place == ParameterPlace::Path;
        let declared: Vec<_> =
            parameters.iter().filter(declared).map(|p| p.name.as_str()).collect();
        for name in &named {
            if !declared.contains(name) {
                self.faults.add(at, format!("the path's {{{name}}} is not among the parameters"));
            }
        }
        for name in declared {
            if !named.contains(&name) {
                self.faults
                    .add(at, format!("the path has no {{{name}}}, which is among the parameters"));
            }
        }
    }

    fn body(&mut self, pointer: &str) -> Option<Body> {
        let (at, body) = self.faults.resolve(pointer)?;
        let required = body.get("required").and_then(Value::as_bool).unwrap_or(false);
        let Some(content) = body.get("content").and_then(Value::as_object) else {
            self.faults.add(&at, "the body has no `content`");
            return None;
        };
        let mut media = Vec::new();
        for (range, description) in content {
            let below = format!("{at}/content/{}", escape(range));
            let range = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let valid = range
                .split_once('/')
                .is_some_and(|(kind, sub)| !kind.is_empty() && !sub.is_empty());
            if !valid {
                self.faults.add(&below, "expected a media type, such as application/json");
                continue;
            }
            let content = match description.get("schema") {
                Some(_) => self.content(&format!("{below}/schema")),
                None => None,
            };
            media.push(Media { range, content });
        }
        // What names a type comes before what names a range of them.
        media.sort_by_key(|media| media.range.matches('*').count());
        Some(Body { required, media })
    }

    fn tables(&mut self, operations: Vec<(String, Operation)>) -> Option<Document> {
        let mut patterns: Vec<RoutePattern> = Vec::new();
        let mut methods: Vec<PathMethods> = Vec::new();
        // Where the first operation of each path is.
        let mut places: Vec<&str> = Vec::new();
        for (index, (place, operation)) in operations.iter().enumerate() {
            let RoutePattern { method, path } = &operation.pattern;
            let method = method.clone().expect("an operation has a method");
            let known = patterns.iter().position(|pattern| pattern.path == *path);
            let known = known.unwrap_or_else(|| {
                patterns.push(RoutePattern { method: None, path: path.clone() });
                methods.push(PathMethods::default());
                places.push(place);
                patterns.len() - 1
            });
            methods[known].names.push(method);
            methods[known].operations.push(index);
        }
        let clashes = clashes(&patterns);
        for (index, error) in &clashes {
            let place = places.get(*index).copied().unwrap_or_default();
            self.faults.add(place, format!("it cannot stand beside another operation: {error}"));
        }
        if !clashes.is_empty() {
            return None;
        }
        let paths = match RouteTable::build(patterns.iter().zip((0..).map(Some)), None) {
            Ok(paths) => paths,
            Err(error) => {
                self.faults.add("/paths", error.to_string());
                return None;
            }
        };
        let operations = operations.into_iter().map(|(_, operation)| operation).collect();
        Some(Document { operations, paths, methods })
    }
}

/// The names that schemas of `document` give themselves.
fn anchors(document: &Value) -> HashSet<&str> {
    let (mut names, mut open) = (HashSet::new(), vec![document]);
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(map) => {
                for (name, part) in map {
                    match (name.as_str(), part) {
                        ("$anchor" | "$dynamicAnchor", Value::String(anchor)) => {
                            names.insert(anchor.as_str());
                        }
                        // As drafts 4 to 7 have them.
                        ("$id" | "id", Value::String(id)) => names.extend(id.strip_prefix('#')),
                        _ => open.push(part),
                    }
                }
            }
            _ => {}
        }
    }
    names
}

/// What the first server's URL has before every path.
fn prefix(document: &Value) -> String {
    let server = document.pointer("/servers/0");
    let Some(url) = server.and_then(|server| server.get("url")).and_then(Value::as_str) else {
        return String::new();
    };
    let mut url = url.to_owned();
    let variables = server.and_then(|server| server.get("variables")).and_then(Value::as_object);
    for (name, variable) in variables.into_iter().flatten() {
        let default = variable.get("default").and_then(Value::as_str).unwrap_or_default();
        url = url.replace(&format!("{{{name}}}"), default);
    }
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default(),
        None => &url,
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() || path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

pub(super) fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

/// A URI's fragment as a JSON Pointer.
pub(super) fn unescape(fragment: &str) -> String {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(fragment.len());
    let mut bytes = fragment.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        match (byte, ahead.next().and_then(hex), ahead.next().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| fragment.to_owned())
}
