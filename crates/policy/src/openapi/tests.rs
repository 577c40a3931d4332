//! What a document says, held against requests.

use http::header::{CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};

use super::*;
use crate::content::{Body as Read, Media};

const DESK: &[u8] = include_bytes!("../../../demo/src/openapi.json");

fn document(yaml: &str) -> Document {
    Document::read(yaml.as_bytes()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

/// What is found wrong, as `at keyword: expected`.
fn told(
    document: &Document,
    line: &str,
    fields: &[(&str, &str)],
    body: &[u8],
    settings: Settings,
) -> Vec<String> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let operation = match document.find(&method.parse().unwrap(), path) {
        Match::Operation(operation) => operation,
        other => return vec![format!("{other:?}")],
    };
    let headers = headers(fields);
    let read = Read::read(bytes::Bytes::copy_from_slice(body), &headers, 1 << 20).unwrap();
    let input = match read.media() {
        _ if body.is_empty() => BodyInput::Absent,
        Media::Json => BodyInput::Json(read.json().unwrap()),
        Media::Form => BodyInput::Form(read.form().unwrap()),
        Media::Multipart { .. } => BodyInput::Parts(read.parts().unwrap()),
        _ => BodyInput::Other,
    };
    let mut findings = Findings::default();
    let input = Input { path, query, headers: &headers, body: input };
    operation.judge(&input, settings, &mut findings);
    findings.list.iter().map(|f| format!("{} {}: {}", f.at, f.keyword, f.expected)).collect()
}

const NONE: &[&str] = &[];

#[test]
fn the_document_of_a_real_service_is_read_and_its_examples_are_right() {
    let desk = Document::read(DESK).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let value: Value = serde_json::from_slice(DESK).unwrap();
    let mut examples = 0;
    for operation in desk.operations() {
        let RoutePattern { method, path } = operation.pattern();
        let method = method.as_ref().unwrap();
        let at = &value["paths"][path.as_str()][method.as_str().to_ascii_lowercase()];
        let Some(content) = at["requestBody"]["content"]["application/json"].as_object() else {
            continue;
        };
        let example = content.get("example").or_else(|| {
            let named = content.get("schema")?.get("$ref")?.as_str()?;
            value.pointer(named.strip_prefix('#')?)?.get("example")
        });
        let Some(example) = example else { continue };
        examples += 1;
        let line = format!("{method} {}", path.replace("{id}", "7"));
        let fields = [("content-type", "application/json"), ("x-tenant-id", "acme")];
        let told = told(&desk, &line, &fields, example.to_string().as_bytes(), Settings::default());
        assert_eq!(told, NONE, "{line}");
    }
    assert!(examples >= 5, "{examples}");
}

const STYLES: &str = r#"
openapi: 3.1.0
info: { title: t, version: '1' }
servers: [{ url: 'https://api.example/v1/' }]
paths:
  /items/{id}:
    parameters:
      - { name: id, in: path, required: true, schema: { type: integer, minimum: 1 } }
    get:
      parameters:
        - { name: limit, in: query, schema: { type: integer, maximum: 100 } }
        - { name: q, in: query, required: true, schema: { type: string, minLength: 2 } }
        - { name: tag, in: query, schema: { type: array, items: { type: integer }, maxItems: 2 } }
        - { name: csv, in: query, explode: false, schema: { type: array, items: { type: integer } } }
        - { name: pipe, in: query, style: pipeDelimited, explode: false, schema: { type: array, items: { type: integer } } }
        - { name: space, in: query, style: spaceDelimited, explode: false, schema: { type: array, items: { type: integer } } }
        - { name: deep, in: query, style: deepObject, schema: { type: object, properties: { a: { type: integer } }, additionalProperties: false } }
        - { name: spread, in: query, schema: { type: object, properties: { b: { type: boolean } } } }
        - { name: filter, in: query, content: { application/json: { schema: { type: object, required: [x] } } } }
        - { name: X-Level, in: header, schema: { type: integer } }
        - { name: X-List, in: header, schema: { type: array, items: { enum: [a, b] } } }
        - { name: theme, in: cookie, schema: { enum: [light, dark] } }
    delete: {}
  /dots/{p}:
    get:
      parameters:
        - { name: p, in: path, required: true, style: label, explode: true, schema: { type: array, items: { type: integer } } }
  /matrix/{p}:
    get:
      parameters:
        - { name: p, in: path, required: true, style: matrix, schema: { type: array, items: { type: integer } } }
"#;

#[test]
fn parameters_are_read_as_their_styles_say() {
    let document = document(STYLES);
    for (target, fields, want) in [
        ("/v1/items/7?q=ab", &[][..], NONE),
        ("/v1/items/x?q=ab", &[], &["path:id type: a whole number"]),
        ("/v1/items/0?q=ab", &[], &["path:id minimum: at least 1"]),
        ("/v1/items/7", &[], &["query:q required: it is missing"]),
        ("/v1/items/7?q=a%20b&limit=100", &[], NONE),
        ("/v1/items/7?q=ab&limit=101", &[], &["query:limit maximum: at most 100"]),
        (
            "/v1/items/7?q=ab&limit=1&limit=2",
            &[],
            &["query:limit style: one parameter of this name"],
        ),
        ("/v1/items/7?q=ab&limit=01", &[], &["query:limit type: a whole number"]),
        ("/v1/items/7?q=%ff%ff", &[], &["query:q style: percent-encoded UTF-8"]),
        ("/v1/items/7?q=ab&tag=1&tag=2", &[], NONE),
        ("/v1/items/7?q=ab&tag=1&tag=x", &[], &["query:tag/1 type: a whole number"]),
        ("/v1/items/7?q=ab&tag=1&tag=2&tag=3", &[], &["query:tag maxItems: at most 2 items"]),
        ("/v1/items/7?q=ab&csv=1,2", &[], NONE),
        ("/v1/items/7?q=ab&csv=1,b", &[], &["query:csv/1 type: a whole number"]),
        ("/v1/items/7?q=ab&pipe=1%7C2", &[], NONE),
        ("/v1/items/7?q=ab&pipe=1|b", &[], &["query:pipe/1 type: a whole number"]),
        ("/v1/items/7?q=ab&space=1%20b", &[], &["query:space/1 type: a whole number"]),
        ("/v1/items/7?q=ab&deep[a]=1", &[], NONE),
        ("/v1/items/7?q=ab&deep%5Ba%5D=x", &[], &["query:deep/a type: a whole number"]),
        ("/v1/items/7?q=ab&deep[b]=1", &[], &["query:deep/b additionalProperties: no such member"]),
        ("/v1/items/7?q=ab&b=true", &[], NONE),
        ("/v1/items/7?q=ab&b=1", &[], &["query:spread/b type: true or false"]),
        ("/v1/items/7?q=ab&filter=%7B%22x%22%3A1%7D", &[], NONE),
        ("/v1/items/7?q=ab&filter=%7B%7D", &[], &["query:filter/x required: it is missing"]),
        ("/v1/items/7?q=ab&filter=%7B", &[], &["query:filter style: JSON with one reading"]),
        ("/v1/items/7?q=ab", &[("x-level", "high")], &["header:x-level type: a whole number"]),
        (
            "/v1/items/7?q=ab",
            &[("x-list", "a, b"), ("x-list", "c")],
            &["header:x-list/2 enum: one of \"a\", \"b\""],
        ),
        ("/v1/items/7?q=ab", &[("cookie", "a=b; theme=dark")], NONE),
        (
            "/v1/items/7?q=ab",
            &[("cookie", "theme=loud")],
            &["cookie:theme enum: one of \"light\", \"dark\""],
        ),
        (
            "/v1/items/7?q=ab",
            &[("cookie", "theme=dark; theme=light")],
            &["cookie:theme style: one cookie of this name"],
        ),
        ("/v1/dots/.1.2", &[], NONE),
        ("/v1/dots/.1.x", &[], &["path:p/1 type: a whole number"]),
        ("/v1/dots/1", &[], &["path:p style: a dot before the value"]),
        ("/v1/matrix/;p=1,2", &[], NONE),
        ("/v1/matrix/;p=1,x", &[], &["path:p/1 type: a whole number"]),
    ] {
        let told = told(&document, &format!("GET {target}"), fields, b"", Settings::default());
        assert_eq!(told, want, "{target} {fields:?}");
    }
    let strict = Settings { unknown_query: UnknownQuery::Deny };
    let unknown = ["query additionalProperties: no further parameters"];
    assert_eq!(told(&document, "GET /v1/items/7?q=ab&hunter2=1", &[], b"", strict), unknown);
    assert_eq!(told(&document, "GET /v1/items/7?q=ab&deep[a]=1&b=true", &[], b"", strict), NONE);
    assert!(COOKIE == "cookie" && CONTENT_TYPE == "content-type");
}

#[test]
fn what_the_document_does_not_mention_is_told_apart() {
    let document = document(STYLES);
    let find = |method: &str, path: &str| match document.find(&method.parse().unwrap(), path) {
        Match::Operation(operation) => operation.pattern().to_string(),
        Match::UnknownMethod(known) => format!("{known:?}"),
        Match::UnknownPath => "none".to_owned(),
    };
    assert_eq!(find("GET", "/v1/items/7"), "GET /v1/items/{id}");
    assert_eq!(find("HEAD", "/v1/items/7"), "GET /v1/items/{id}");
    assert_eq!(find("POST", "/v1/items/7"), "[DELETE, GET]");
    assert_eq!(find("GET", "/items/7"), "none");
}

const BODIES: &str = r#"
openapi: 3.0.3
info: { title: t, version: '1' }
paths:
  /json:
    post:
      requestBody:
        required: true
        content:
          application/json: { schema: { $ref: '#/components/schemas/Node' } }
          text/*: {}
    put:
      requestBody: { content: { application/json: { schema: { type: object } } } }
    get: {}
  /form:
    post:
      requestBody:
        content:
          application/x-www-form-urlencoded: { schema: { $ref: '#/components/schemas/Form' } }
          multipart/form-data: { schema: { $ref: '#/components/schemas/Form' } }
components:
  schemas:
    Form:
      type: object
      required: [age]
      additionalProperties: false
      properties:
        age: { type: integer, minimum: 18 }
        tags: { type: array, items: { type: string, maxLength: 2 } }
        photo: { type: string, format: binary }
        extra: { type: object, required: [x] }
    Node:
      type: object
      required: [name, id]
      properties:
        id: { type: integer, readOnly: true }
        name: { type: string, nullable: true, maxLength: 3 }
        rank: { type: integer, minimum: 0, exclusiveMinimum: true }
        kind: { type: string, nullable: true, enum: [a, b] }
        children: { type: array, items: { $ref: '#/components/schemas/Node' } }
"#;

#[test]
fn bodies_are_judged_by_their_media_type() {
    let document = document(BODIES);
    let json = ("content-type", "application/json; charset=utf-8");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let parts = ("content-type", "multipart/form-data; boundary=b");
    let part = |name: &str, more: &str, content: &str| {
        format!("--b\r\ncontent-disposition: form-data; name={name}{more}\r\n\r\n{content}\r\n")
    };
    let photo = part("age", "", "20") + &part("photo", "; filename=x.png", "\u{1}") + "--b--";
    let broken = part("age", "", "20") + &part("extra", "", "{") + "--b--";
    let young = part("age", "", "7") + &part("tags", "", "abc") + "--b--";
    for (line, kind, body, want) in [
        ("POST /json", json, r#"{"name": "a"}"#, NONE),
        ("POST /json", json, r#"{"name": null, "kind": null, "rank": 1}"#, NONE),
        (
            "POST /json",
            json,
            r#"{"name": "a", "rank": 0}"#,
            &["/rank exclusiveMinimum: more than 0"],
        ),
        (
            "POST /json",
            json,
            r#"{"name": "a", "kind": "c"}"#,
            &["/kind enum: one of \"a\", \"b\", null"],
        ),
        (
            "POST /json",
            json,
            r#"{"name": "a", "children": [{"name": "b"}, {"name": "long"}, {}]}"#,
            &[
                "/children/1/name maxLength: at most 3 characters",
                "/children/2/name required: it is missing",
            ],
        ),
        ("POST /json", json, "", &[" body: a body"]),
        ("POST /json", ("content-type", "text/plain"), "any", NONE),
        (
            "POST /json",
            form,
            "a=1",
            &["header:content-type content-type: application/json or text/*"],
        ),
        ("PUT /json", json, "", NONE),
        ("PUT /json", json, "[]", &[" type: an object"]),
        ("GET /json", json, "{}", &[" body: no body"]),
        ("POST /form", form, "age=20&tags=a&tags=b", NONE),
        ("POST /form", form, "age=x", &["/age type: a whole number"]),
        (
            "POST /form",
            form,
            "age=17&tags=abc&y=1",
            &[
                "/y additionalProperties: no such member",
                "/age minimum: at least 18",
                "/tags/0 maxLength: at most 2 characters",
            ],
        ),
        ("POST /form", form, "tags=a", &["/age required: it is missing"]),
        ("POST /form", parts, &photo, NONE),
        (
            "POST /form",
            parts,
            &young,
            &["/age minimum: at least 18", "/tags/0 maxLength: at most 2 characters"],
        ),
        ("POST /form", parts, &broken, &["/extra type: JSON with one reading"]),
    ] {
        let mut told = told(&document, line, &[kind], body.as_bytes(), Settings::default());
        let mut want: Vec<_> = want.iter().map(|text| (*text).to_owned()).collect();
        told.sort();
        want.sort();
        assert_eq!(told, want, "{line} {body}");
    }
}

#[test]
fn findings_have_a_bound_and_the_rest_is_counted() {
    let document = document(BODIES);
    let children = vec![json!({}); 100];
    let body = json!({ "name": "a", "children": children });
    let value = &body;
    let headers = headers(&[("content-type", "application/json")]);
    let Match::Operation(operation) = document.find(&Method::POST, "/json") else { panic!() };
    let mut findings = Findings::default();
    let input =
        Input { path: "/json", query: None, headers: &headers, body: BodyInput::Json(value) };
    operation.judge(&input, Settings::default(), &mut findings);
    assert_eq!((findings.list.len(), findings.omitted), (FINDINGS_MAX, 80));
}

#[test]
fn every_fault_of_a_document_is_told_with_its_line() {
    let faults = Document::read(
        br#"openapi: 3.1.0
paths:
  items: {}
  /a/{id}:
    fetch: {}
    get:
      parameters:
        - { name: x, in: body, schema: {} }
        - { name: y, in: query }
        - { name: z, in: query, style: simple, schema: {} }
        - { name: q, in: query, schema: { type: strin } }
        - { name: w, in: query, schema: { pattern: '(?=a)' } }
        - { name: v, in: path, required: true, schema: {} }
    post:
      requestBody: { content: { json: {} } }
  /a/{name}:
    get:
      parameters: [{ name: name, in: path, schema: {} }]
"#,
    )
    .unwrap_err();
    let told: Vec<_> = faults.iter().map(|fault| (fault.line, fault.message.clone())).collect();
    for (line, words) in [
        (3, "start with a slash"),
        (5, "expected a method"),
        (8, "expected `in` to be"),
        (9, "neither `schema` nor `content`"),
        (10, "no style"),
        (11, "did you mean \"string\"?"),
        (12, "expected a pattern without look-around"),
        (7, "the path's {id} is not among"),
        (7, "has no {v}"),
        (15, "expected a media type"),
        (18, "has to be `required`"),
    ] {
        let found = told.iter().any(|(at, said)| *at == line && said.contains(words));
        assert!(found, "line {line}, {words}: {told:#?}");
    }
}

#[test]
fn every_fault_of_a_schema_is_told_where_it_is() {
    let schema = "type: object\nrequired: text\nproperties:\n  a: { pattern: '(?=x)', minimum: \"3\" }\n  \
                  b: { type: strng }\npatternProperties:\n  '(': {}\n";
    let want = [
        (2, "/required", "expected an array"),
        (4, "/properties/a/pattern", "expected a pattern without look-around"),
        (4, "/properties/a/minimum", "expected a number"),
        (5, "/properties/b/type", "expected one of array, boolean"),
        (7, "/patternProperties/(", "expected a regular expression"),
    ];
    let check = |faults: Vec<DocumentFault>, lines: u32, at: &str| {
        assert_eq!(faults.len(), want.len(), "{faults:#?}");
        for (fault, (line, pointer, words)) in faults.iter().zip(want) {
            assert_eq!((fault.line, &*fault.pointer), (line + lines, &*format!("{at}{pointer}")));
            assert!(fault.message.starts_with(words), "{fault:?}");
        }
    };
    check(BodySchema::read(schema.as_bytes()).unwrap_err(), 0, "");
    // As a named schema, which an operation refers to.
    let indented: String = schema.lines().map(|line| format!("      {line}\n")).collect();
    let document = format!(
        "openapi: 3.1.0\npaths:\n  /a:\n    post:\n      requestBody:\n        content:\n          \
         application/json: {{ schema: {{ $ref: '#/components/schemas/A' }} }}\n\
         components:\n  schemas:\n    A:\n{indented}"
    );
    check(Document::read(document.as_bytes()).unwrap_err(), 10, "/components/schemas/A");
}

#[test]
fn a_schema_that_stands_alone_is_told_where_its_references_lead() {
    for (text, want) in [
        ("type: strin\nitems: { $ref: '#/nope' }\nnot: { $ref: '#also' }", &[2, 3][..]),
        ("items:\n  $ref: '#/items'", &[2]),
        ("\nitems: { $ref: other.yaml }", &[2]),
        ("$defs: { a: { $anchor: one } }\nitems: { $ref: '#one' }", &[]),
        ("$defs: { a: { $id: 'urn:one' } }\nitems: { $ref: 'urn:one' }", &[]),
        ("$id: 'urn:all'\nitems: { $ref: 'urn:all#/$defs/a' }\n$defs: { a: {} }", &[]),
        ("items: { $ref: 'https://json-schema.org/draft/2020-12/schema' }", &[]),
    ] {
        let faults = BodySchema::read(text.as_bytes()).err().unwrap_or_default();
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, want, "{text}: {faults:#?}");
    }
}

#[test]
fn each_path_that_another_one_hides_is_told() {
    let parameter =
        |name: &str| format!("[{{ name: {name}, in: path, required: true, schema: {{}} }}]");
    let mut text = "openapi: 3.1.0\npaths:\n".to_owned();
    for (path, name) in [("notes", "id"), ("notes", "key"), ("tags", "a"), ("notes", "z")] {
        let parameters = parameter(name);
        let path = format!("  /{path}/{{{name}}}:\n    get: {{ parameters: {parameters} }}\n");
        text.push_str(&path);
    }
    let faults = Document::read(text.as_bytes()).unwrap_err();
    let told: Vec<_> = faults.iter().map(|fault| (fault.line, &*fault.message)).collect();
    let words = |path: &str| {
        format!(
            "it cannot stand beside another operation: {path} and /notes/{{id}} can match the same \
             requests, and neither is the more specific"
        )
    };
    let (key, z) = (words("/notes/{key}"), words("/notes/{z}"));
    assert_eq!(told, [(6, &*key), (10, &*z)]);
}

#[test]
fn references_stay_inside_and_lead_somewhere() {
    let with = |schema: &str| {
        format!(
            "openapi: 3.1.0\npaths:\n  /a:\n    post:\n      requestBody:\n        content:\n          \
             application/json:\n            schema: {schema}\n      parameters:\n        \
             - $ref: '#/components/parameters/p'\ncomponents:\n  parameters:\n    \
             p: {{ $ref: '#/components/parameters/q' }}\n    q: {{ $ref: '#/components/parameters/p' }}\n"
        )
    };
    for (schema, line, words) in [
        ("{ $ref: 'https://evil.example/schema.json' }", 8, "nothing is fetched"),
        ("{ $ref: 'other.yaml#/a' }", 8, "nothing is fetched"),
        ("{ $ref: '#/components/schemas/none' }", 8, "there is nothing at"),
        ("{ $ref: '#none' }", 8, "there is nothing at #none"),
        ("{ $ref: '#/paths/~1a/post/requestBody/content/application~1json/schema' }", 8, "circle"),
        (
            "{ allOf: [{ not: { $ref: '#/paths/~1a/post/requestBody/content/application~1json/schema' } }] }",
            8,
            "circle",
        ),
        ("{}", 14, "circle"),
    ] {
        let faults = Document::read(with(schema).as_bytes()).unwrap_err();
        let found = faults.iter().any(|fault| fault.line == line && fault.message.contains(words));
        assert!(found, "{schema}: {faults:#?}");
    }
    for (text, words) in [
        ("swagger: '2.0'\npaths: {}", "Swagger 2.0"),
        ("openapi: 4.0.0\npaths: {}", "3.0 or 3.1"),
        ("openapi: 3.1.0", "no `paths`"),
        ("[]", "3.0 or 3.1"),
        ("openapi: 3.1.0\njsonSchemaDialect: https://evil.example/\npaths: {}", "dialect"),
    ] {
        let faults = Document::read(text.as_bytes()).unwrap_err();
        assert!(faults[0].message.contains(words), "{text}: {faults:?}");
    }
}

#[test]
fn a_schema_can_stand_alone() {
    let schema =
        BodySchema::read(b"type: object\nrequired: [a]\nproperties: { a: { type: integer } }");
    let schema = schema.unwrap();
    let told = |body: BodyInput<'_>| {
        let mut findings = Findings::default();
        schema.judge(body, &mut findings);
        findings.list.iter().map(|f| format!("{} {}", f.at, f.keyword)).collect::<Vec<_>>()
    };
    assert_eq!(told(BodyInput::Json(&json!({ "a": 1 }))), NONE);
    assert_eq!(told(BodyInput::Json(&json!({ "a": "x" }))), ["/a type"]);
    assert_eq!(told(BodyInput::Form(&[("a".to_owned(), Some("1".to_owned()))])), NONE);
    assert_eq!(told(BodyInput::Absent), [" body"]);
    assert_eq!(told(BodyInput::Other), ["header:content-type content-type"]);
    let faults = BodySchema::read(b"type: object\nproperties:\n  a: { type: strin }").unwrap_err();
    assert_eq!(faults[0].line, 3, "{faults:?}");
    assert!(BodySchema::read(b"$schema: https://evil.example/\n").is_err());
    assert!(BodySchema::read(b"$ref: https://evil.example/").is_err());
}
