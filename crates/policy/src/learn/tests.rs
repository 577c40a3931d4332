use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::content::Body as ReadBody;
use crate::openapi::{BodyInput, Document, Findings, Match};

/// A request, as a client sends it.
#[derive(Clone, Debug)]
struct Sent {
    method: Method,
    path: String,
    query: Option<String>,
    media: Option<String>,
    body: Bytes,
}

impl Sent {
    fn new(method: Method, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self { method, path: path.to_owned(), query, media: None, body: Bytes::new() }
    }

    fn with(self, media: &str, body: impl Into<Bytes>) -> Self {
        Self { media: Some(media.to_owned()), body: body.into(), ..self }
    }

    fn json(target: &str, body: &Value) -> Self {
        Self::new(Method::POST, target).with("application/json", body.to_string())
    }

    /// Hands it to `use_it` as a document sees it.
    fn input<T>(&self, use_it: impl FnOnce(&Input<'_>) -> T) -> T {
        let mut headers = HeaderMap::new();
        if let Some(media) = &self.media {
            headers.insert(CONTENT_TYPE, media.parse().unwrap());
        }
        let read = ReadBody::read(self.body.clone(), &headers, 1 << 20).unwrap();
        let body = match self.media.as_deref().and_then(|media| media.split(';').next()) {
            _ if self.body.is_empty() => BodyInput::Absent,
            Some("application/json") => BodyInput::Json(read.json().unwrap()),
            Some("application/x-www-form-urlencoded") => BodyInput::Form(read.form().unwrap()),
            Some("multipart/form-data") => BodyInput::Parts(read.parts().unwrap()),
            _ => BodyInput::Other,
        };
        use_it(&Input { path: &self.path, query: self.query.as_deref(), headers: &headers, body })
    }

    fn shape(&self) -> Option<Shape> {
        self.input(|input| Shape::of(&self.method, input))
    }

    /// What `document` finds wrong with it.
    fn findings(&self, document: &Document) -> Vec<String> {
        let Match::Operation(operation) = document.find(&self.method, &self.path) else {
            return vec!["it is in no operation".to_owned()];
        };
        let mut findings = Findings::default();
        self.input(|input| operation.judge(input, Default::default(), &mut findings));
        findings.list.iter().map(|f| format!("{} {}: {}", f.at, f.keyword, f.expected)).collect()
    }
}

fn learned(sent: &[Sent]) -> Learned {
    let shapes: Vec<_> = sent.iter().filter_map(Sent::shape).collect();
    let settings = Settings { title: "notes".to_owned(), samples_min: 1 };
    learn(shapes.iter().map(|shape| (shape, 1)), &settings)
}

fn read(learned: &Learned) -> Document {
    let text = serde_json::to_vec_pretty(&learned.document).unwrap();
    Document::read(&text).unwrap_or_else(|faults| panic!("{faults:?}: {:#}", learned.document))
}

#[test]
fn a_shape_keeps_names_and_kinds() {
    let sent = Sent::json(
        "/api/notes/7c9e6679-7425-40de-944b-e07fc1f90ae7/tags?limit=20&q=grey+mare&utm%20x=1",
        &json!({
            "title": "Hunter's log", "count": 3, "ratio": 0.5, "mail": "ada@a.example", "done": null,
            "at": "2026-08-01T12:00:00Z", "tags": ["a", 1], "by": { "2026-08-01": 1, "x": "y" },
        }),
    );
    let shape = sent.shape().unwrap();
    let want = json!({
        "method": "post",
        "path": ["api", "notes", { "kinds": ["uuid"], "length": 1 }, "tags"],
        "query": { "named": {
            "limit": { "required": true, "texts": { "kinds": ["integer"] } },
            "q": { "required": true, "texts": { "kinds": ["text"] } },
        } },
        "body": { "media": "application/json", "content": { "json": { "members": { "named": {
            "at": { "required": true, "values": { "kinds": ["date-time"], "length": 1 } },
            "by": { "required": true, "values": { "members": { "map": { "kinds": ["integer", "text"] } } } },
            "count": { "required": true, "values": { "kinds": ["integer"] } },
            "done": { "required": true, "values": { "kinds": ["null"] } },
            "mail": { "required": true, "values": { "kinds": ["email"] } },
            "ratio": { "required": true, "values": { "kinds": ["number"] } },
            "tags": { "required": true, "values": { "items": { "kinds": ["integer", "text"] } } },
            "title": { "required": true, "values": { "kinds": ["text"] } },
        } } } } },
    });
    assert_eq!(serde_json::from_str::<Value>(&shape.to_text()).unwrap(), want);
    assert_eq!(Shape::read(&shape.to_text()), Ok(shape));
    assert_eq!(Shape::read("{\"method\": \"post\"}"), Err(UnknownShape));
}

#[test]
fn a_segment_that_looks_like_a_value_is_one() {
    for (path, want) in [
        ("/", vec![""]),
        ("/api/v1/notes/", vec!["api", "v1", "notes", ""]),
        ("/.well-known/jwks.json", vec![".well-known", "jwks.json"]),
        ("/items:batch/sha256", vec!["items:batch", "sha256"]),
        ("/42/-/3.5", vec!["integer", "text", "number"]),
        ("/7c9e6679-7425-40de-944b-e07fc1f90ae7", vec!["uuid"]),
        ("/2026-08-01/INV-20260801", vec!["date", "text"]),
        ("/3f2a91cd/deadbeef", vec!["text", "deadbeef"]),
        ("/reset/dQwXw9WgXcQabcdefXYZ", vec!["reset", "text"]),
        ("/users/GetUserById/oauth2/callback", vec!["users", "GetUserById", "oauth2", "callback"]),
        ("/ada@a.example/ada%20l", vec!["email", "text"]),
        ("/{id}", vec!["text"]),
        ("/a-name-that-is-far-too-long-for-what-a-service-has", vec!["text"]),
    ] {
        let shape = Sent::new(Method::GET, path).shape().unwrap();
        let shown: Vec<_> = shape
            .path
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text.clone(),
                Segment::Value(texts) => {
                    let kinds = serde_json::to_value(&texts.kinds).unwrap();
                    kinds[0].as_str().unwrap().to_owned()
                }
            })
            .collect();
        assert_eq!(shown, want, "{path}");
    }
    for (method, path) in [
        (Method::OPTIONS, "/"),
        (Method::TRACE, "/"),
        (Method::from_bytes(b"PROPFIND").unwrap(), "/"),
        (Method::GET, "*"),
        (Method::GET, "/%ff"),
        (Method::GET, &"/a".repeat(SEGMENTS_MAX + 1)),
    ] {
        assert_eq!(Sent::new(method.clone(), path).shape(), None, "{method} {path}");
    }
    let head = Sent::new(Method::HEAD, "/a").shape();
    assert_eq!(head, Sent::new(Method::GET, "/a").shape(), "HEAD is answered as GET");
}

#[test]
fn a_document_is_proposed() {
    let note = |id: u32, body: Value| Sent::json(&format!("/notes/{id}"), &body);
    let sent = [
        note(1, json!({ "text": "a", "stars": 3, "tags": ["x"] })),
        note(2, json!({ "text": "b".repeat(17), "stars": 3.5, "by": null })),
        Sent::new(Method::GET, "/notes?limit=7&tag=a&tag=b"),
        Sent::new(Method::HEAD, "/notes?limit=all"),
        Sent::new(Method::PUT, "/notes/9/draft")
            .with("application/x-www-form-urlencoded", "text=a&stars=3&box=1&box=2"),
        Sent::new(Method::PUT, "/files").with(
            "multipart/form-data; boundary=B",
            "--B\r\ncontent-disposition: form-data; name=file; filename=x\r\n\
             content-type: image/png\r\n\r\n\u{0}\r\n--B\r\n\
             content-disposition: form-data; name=kind\r\n\r\nlogo\r\n--B--",
        ),
    ];
    let learned = learned(&sent);
    assert_eq!(
        learned.document["paths"],
        json!({
            "/files": { "put": {
                "x-seaworthy-samples": 1,
                "requestBody": { "required": true, "content": { "multipart/form-data": {
                    "encoding": { "file": { "contentType": "image/png" } },
                    "schema": {
                        "type": "object",
                        "properties": {
                            "file": { "type": "string" },
                            "kind": { "type": "string", "maxLength": 64 },
                        },
                        "required": ["file", "kind"],
                    },
                } } },
            } },
            "/notes": { "get": {
                "x-seaworthy-samples": 2,
                "parameters": [
                    { "name": "limit", "in": "query", "required": true,
                      "schema": { "type": "string", "maxLength": 64 } },
                    { "name": "tag", "in": "query",
                      "schema": { "type": "array", "items": { "type": "string", "maxLength": 64 } } },
                ],
            } },
            "/notes/{id}": { "post": {
                "x-seaworthy-samples": 2,
                "parameters": [
                    { "name": "id", "in": "path", "required": true, "schema": { "type": "integer" } },
                ],
                "requestBody": { "required": true, "content": { "application/json": { "schema": {
                    "type": "object",
                    "properties": {
                        "by": {},
                        "stars": { "type": "number" },
                        "tags": { "type": "array", "items": { "type": "string", "maxLength": 64 } },
                        "text": { "type": "string", "maxLength": 256 },
                    },
                    "required": ["stars", "text"],
                } } } },
            } },
            "/notes/{id}/draft": { "put": {
                "x-seaworthy-samples": 1,
                "parameters": [
                    { "name": "id", "in": "path", "required": true, "schema": { "type": "integer" } },
                ],
                "requestBody": { "required": true, "content": { "application/x-www-form-urlencoded": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "box": { "type": "array", "items": { "type": "integer" } },
                            "stars": { "type": "integer" },
                            "text": { "type": "string", "maxLength": 64 },
                        },
                        "required": ["box", "stars", "text"],
                    },
                } } },
            } },
        })
    );
    let document = read(&learned);
    for (name, sent, want) in [
        ("a type", note(3, json!({ "text": 1, "stars": 1 })), "/text type: a string"),
        ("a member", note(3, json!({ "text": "a" })), "/stars required: it is missing"),
        ("a parameter", Sent::new(Method::GET, "/notes"), "query:limit required: it is missing"),
        ("no body", Sent::new(Method::POST, "/notes/3"), " body: a body"),
        ("a path", Sent::json("/notes/x", &json!({})), "path:id type: a whole number"),
        ("a route", Sent::new(Method::GET, "/other"), "it is in no operation"),
    ] {
        assert_eq!(sent.findings(&document).first().map(String::as_str), Some(want), "{name}");
    }
}

#[test]
fn few_samples_are_told_and_not_proposed() {
    let sent = [["/a"; 3].as_slice(), &["/b"; 2], &["/c/7"]].concat();
    let shapes: Vec<_> =
        sent.iter().map(|path| Sent::new(Method::GET, path).shape().unwrap()).collect();
    let settings = Settings { title: "t".to_owned(), samples_min: 2 };
    let learned = learn(shapes.iter().map(|shape| (shape, 1)), &settings);
    let shown: Vec<_> =
        learned.operations.iter().map(|known| (&*known.operation, known.samples)).collect();
    assert_eq!(shown, [("GET /a", 3), ("GET /b", 2)]);
    assert_eq!(
        learned.document["x-seaworthy-left-out"],
        json!([{ "operation": "GET /c/{id}", "samples": 1, "reason": "few_samples" }])
    );
    assert_eq!(read(&learned).operations().len(), 2);
}

#[test]
fn one_that_is_too_large_leaves_room_for_the_rest() {
    let letters = || ('a'..='h').flat_map(|one| ('a'..='h').map(move |two| format!("{one}_{two}")));
    let members: Value =
        letters().map(|name| (format!("{}{name}", "member_".repeat(8)), json!(1))).collect();
    let mut shapes: Vec<_> = letters()
        .map(|name| (Sent::json("/large", &json!({ name: members })).shape().unwrap(), 10))
        .collect();
    shapes.push((Sent::new(Method::GET, "/small").shape().unwrap(), 50));
    let settings = Settings { title: "t".to_owned(), samples_min: 1 };
    let learned = learn(shapes.iter().map(|(shape, count)| (shape, *count)), &settings);
    let small = Operation { operation: "GET /small".to_owned(), samples: 50 };
    let large = Operation { operation: "POST /large".to_owned(), samples: 640 };
    assert_eq!(learned.operations, [small]);
    assert_eq!(learned.left_out, [LeftOut { operation: large, reason: Reason::NoRoom }]);
    assert_eq!(read(&learned).operations().len(), 1);
}

#[test]
fn of_what_is_bare_only_is_kept_that_it_was_there() {
    let fields = |pairs: &str| {
        let sent = Sent::new(Method::POST, &format!("/?{pairs}"))
            .with("application/x-www-form-urlencoded", pairs.to_owned());
        let shape: Value = serde_json::from_str(&sent.shape().unwrap().to_text()).unwrap();
        let query = shape["query"]["named"].clone();
        assert_eq!(shape["body"]["content"]["form"]["named"], query, "{pairs}");
        query
    };
    let text = json!({ "required": true, "texts": { "kinds": ["text"] } });
    let texts = json!({ "required": true, "repeated": true, "texts": { "kinds": ["text"] } });
    let number = json!({ "required": true, "texts": { "kinds": ["integer"] } });
    for (pairs, want) in [
        ("correcthorsebatterystaple", json!({ "": text })),
        ("Zm9v==", json!({ "": text })),
        ("dQwXw9WgXcQabcdefXYZ&dQwXw9WgXcQabcdefXYZ=1", json!({})),
        ("pretty&debug&a=1", json!({ "": text, "a": number })),
        ("pretty&pretty&a=1", json!({ "": texts, "a": number })),
        ("a=b&a", json!({ "a": texts })),
        ("a=", json!({ "a": text })),
        ("not%20a%20name", json!({})),
    ] {
        assert_eq!(fields(pairs), want, "{pairs}");
    }

    let sent = ["a=1&b=x", "a&b=y", "b=z&pretty"].map(|pairs| {
        let target = format!("/?{pairs}");
        Sent::new(Method::POST, &target).with("application/x-www-form-urlencoded", pairs)
    });
    let learned = learned(&sent);
    let schema = json!({ "type": "string", "maxLength": 64 });
    assert_eq!(
        learned.document["paths"]["/"]["post"]["parameters"],
        json!([
            { "name": "a", "in": "query", "schema": schema },
            { "name": "b", "in": "query", "required": true, "schema": schema },
        ])
    );
    let document = read(&learned);
    for sent in &sent {
        assert_eq!(sent.findings(&document), [""; 0], "{sent:?}");
    }
}

#[test]
fn many_siblings_are_one_parameter() {
    let path = |n: usize| format!("/users/{}/posts", "e".repeat(n + 1));
    let upto = |count: usize| {
        let mut sent: Vec<_> = (0..count).map(|n| Sent::new(Method::GET, &path(n))).collect();
        sent.push(Sent::new(Method::GET, "/users/"));
        let learned = learned(&sent);
        let document = read(&learned);
        for sent in &sent {
            assert_eq!(sent.findings(&document), [""; 0], "{sent:?}");
        }
        learned.operations.len()
    };
    assert_eq!((upto(20), upto(21)), (21, 2), "the slash alone stays");
}

#[test]
fn siblings_that_take_the_same_are_one_parameter() {
    let put = |name: &str, body: Value| Sent {
        method: Method::PUT,
        ..Sent::json(&format!("/companies/{name}"), &body)
    };
    let alike = |name: &str| put(name, json!({ "name": name, "stage": "seed" }));
    let get = |name: &str| Sent::new(Method::GET, &format!("/companies/{name}"));
    let operations = |sent: &[Sent]| {
        let learned = learned(sent);
        let document = read(&learned);
        for sent in sent {
            assert_eq!(sent.findings(&document), [""; 0], "{sent:?}");
        }
        let mut all: Vec<_> = learned.operations.into_iter().map(|known| known.operation).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(
        operations(&[alike("acme"), alike("globex"), alike("hooli"), get("acme"), get("search")]),
        ["GET /companies/search", "GET /companies/{id}", "PUT /companies/{id}"]
    );
    let more = put("umbrella", json!({ "name": "u", "stage": "seed", "note": "x", "site": null }));
    assert_eq!(operations(&[alike("acme"), alike("globex"), more]), ["PUT /companies/{id}"]);
    for (name, sent) in [
        ("two", vec![alike("acme"), alike("globex")]),
        ("one is unlike", vec![alike("acme"), alike("globex"), put("all", json!([]))]),
        (
            "one has much more",
            vec![
                alike("acme"),
                alike("globex"),
                put("all", json!({ "name": 1, "stage": 1, "a": 1, "b": 1, "c": 1 })),
            ],
        ),
        (
            "posted",
            ["acme", "globex", "hooli"]
                .map(|name| Sent { method: Method::POST, ..alike(name) })
                .to_vec(),
        ),
        ("got", ["acme", "globex", "hooli"].map(get).to_vec()),
    ] {
        assert_eq!(operations(&sent).len(), sent.len(), "{name}");
    }
}

#[test]
fn names_that_look_odd_cannot_spoil_a_document() {
    let body = json!({
        "$ref": "x", "$id": "y", "$schema": { "type": 1 }, "properties": [], "schema": { "example": 1 },
        "type": "object", "default": { "readOnly": true }, "required": true, "__proto__": null,
    });
    let sent = Sent::json("/odd", &body);
    let document = read(&learned(std::slice::from_ref(&sent)));
    assert_eq!(sent.findings(&document), [""; 0]);
}

#[test]
fn what_a_bound_keeps_from_being_looked_at_is_left_open() {
    let deep = (0..40).fold(json!("leaf"), |inner, _| json!({ "in": inner }));
    let mut long = vec![json!(1); VALUES_MAX];
    long.push(json!("last"));
    let wide: Value = (0..2000).map(|n| (format!("k{}", "e".repeat(n)), json!(n))).collect();
    let broad: Value = (b'a'..=b'z')
        .map(|one| {
            let members: Value = (b'a'..=b'z')
                .map(|two| (format!("member-{}-{}", one as char, two as char), json!({ "v": [1] })))
                .collect();
            (format!("member-{}", one as char), members)
        })
        .collect();
    let form = (0..500).map(|n| format!("{}=1", "e".repeat(n + 1))).collect::<Vec<_>>().join("&");
    let media = "application/x-www-form-urlencoded";
    let sent = [
        Sent::json("/deep", &deep),
        Sent::json("/long", &json!(long)),
        Sent::json("/wide", &wide),
        Sent::json("/broad", &broad),
        Sent::new(Method::POST, "/form").with(media, form.clone()),
        Sent::new(Method::GET, &format!("/query?{form}")),
        Sent::new(Method::GET, "/bytes?q=%ff"),
        Sent::new(Method::POST, "/odd-type").with("Application/X-0815-4711", "x"),
    ];
    for sent in &sent {
        let text = sent.shape().unwrap().to_text();
        assert!(text.len() <= SHAPE_BYTES_MAX, "{}: {}", sent.path, text.len());
        assert!(!text.contains("4711"), "{text}");
    }
    let document = read(&learned(&sent));
    for sent in &sent {
        assert_eq!(sent.findings(&document), [""; 0], "{}", sent.path);
    }
}

/// Text of every kind that the masker tells apart, and of those that look nearly like it.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,20}",
        "[0-9]{1,25}",
        "-?[0-9]{1,3}(\\.[0-9]{1,3})?([eE][0-9]{1,3})?",
        Just("true".to_owned()),
        "[0-9]{4}-[01][0-9]-[0-3][0-9]",
        "20[0-9]{2}-0[1-9]-1[0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](Z|\\+01:00)",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[a-z.]{1,8}@[a-z]{1,8}\\.example",
        "https?://[a-z]{1,8}\\.example/[a-z?=#%]{0,8}",
        "\\PC{0,80}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-e]", 1 => "[$@_a-z][a-zA-Z0-9_.-]{0,9}", 1 => "\\PC{0,6}"]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n))),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(name(), inner, 0..6)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes()
        .map(
            |byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") },
        )
        .collect()
}

fn pairs() -> impl Strategy<Value = String> {
    let pair = (name(), proptest::option::weighted(0.8, text())).prop_map(|(name, text)| {
        let name = encoded(&name);
        text.map_or(name.clone(), |text| format!("{name}={}", encoded(&text)))
    });
    proptest::collection::vec(pair, 0..5).prop_map(|pairs| pairs.join("&"))
}

fn parts() -> impl Strategy<Value = Vec<u8>> {
    let part = ("[a-e]", 0..4_u8, text(), value()).prop_map(|(name, kind, text, value)| {
        let head = format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"");
        match kind {
            0 => format!("{head}\r\n\r\n{text}\r\n").into_bytes(),
            1 => {
                format!("{head}\r\ncontent-type: application/json\r\n\r\n{value}\r\n").into_bytes()
            }
            2 => format!("{head}; filename=f\r\ncontent-type: image/png\r\n\r\n{text}\r\n")
                .into_bytes(),
            _ => [head.as_bytes(), b"\r\n\r\n\xff\xfe\r\n"].concat(),
        }
    });
    proptest::collection::vec(part, 0..4)
        .prop_map(|parts| [parts.concat(), b"--B--".to_vec()].concat())
}

fn path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        3 => "[ab]",
        1 => Just(String::new()),
        1 => "[a-z]{1,3}",
        2 => text().prop_map(|text| encoded(&text)).prop_filter("dots are gone", |text| {
            !matches!(text.as_str(), "." | "..")
        }),
    ];
    proptest::collection::vec(segment, 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn sent() -> impl Strategy<Value = Sent> {
    let method = proptest::sample::select(&[Method::GET, Method::HEAD, Method::POST, Method::PUT]);
    let body = prop_oneof![
        2 => Just((None, Vec::new())),
        4 => value().prop_map(|value| (Some("application/json"), value.to_string().into_bytes())),
        2 => pairs().prop_map(|form| (Some("application/x-www-form-urlencoded"), form.into_bytes())),
        2 => parts().prop_map(|parts| (Some("multipart/form-data; boundary=B"), parts)),
        1 => Just((Some("Text/Plain; charset=utf-8"), b"hello".to_vec())),
        1 => Just((None, b"hello".to_vec())),
    ];
    (method, path(), proptest::option::of(pairs()), body).prop_map(
        |(method, path, query, (media, body))| Sent {
            method,
            path,
            query,
            media: media.map(str::to_owned),
            body: body.into(),
        },
    )
}

/// Puts `secret` in place of the `nth` string or number of `value`, counted around.
fn plant(value: &mut Value, secret: &str, nth: usize) {
    fn leaves<'v>(value: &'v mut Value, found: &mut Vec<&'v mut Value>) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| leaves(item, found)),
            Value::Object(map) => map.values_mut().for_each(|value| leaves(value, found)),
            leaf => found.push(leaf),
        }
    }
    let mut found = Vec::new();
    leaves(value, &mut found);
    if !found.is_empty() {
        let at = nth % found.len();
        *found[at] = Value::from(secret);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Rule 4.
    #[test]
    fn the_document_accepts_what_it_was_learned_from(
        sent in proptest::collection::vec(sent(), 1..40),
    ) {
        let learned = learned(&sent);
        let document = read(&learned);
        for sent in sent.iter().filter(|sent| sent.shape().is_some()) {
            let findings = sent.findings(&document);
            prop_assert!(findings.is_empty(), "{:?}: {:?} by {:#}", sent, findings, learned.document);
        }
    }

    /// Rule 3.
    #[test]
    fn neither_the_order_nor_a_repetition_matters(
        sent in proptest::collection::vec(sent(), 1..40),
        seed in any::<u64>(),
    ) {
        let learned_once = learned(&sent);
        let mut shuffled = sent.clone();
        shuffled.sort_by_key(|sent| {
            use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            hasher.hash_one((seed, format!("{sent:?}")))
        });
        prop_assert_eq!(&learned(&shuffled).document, &learned_once.document);

        let twice = learned(&[sent, shuffled].concat());
        fn without_counts(value: &Value) -> Value {
            match value {
                Value::Array(items) => items.iter().map(without_counts).collect(),
                Value::Object(map) => map
                    .iter()
                    .filter(|(name, _)| *name != "x-seaworthy-samples")
                    .map(|(name, value)| (name.clone(), without_counts(value)))
                    .collect(),
                leaf => leaf.clone(),
            }
        }
        let paths = |learned: &Learned| without_counts(&learned.document["paths"]);
        prop_assert_eq!(paths(&twice), paths(&learned_once));
    }

    /// Rule 1: a value is nowhere, wherever it was.
    #[test]
    fn no_value_leaves_the_masker(
        secret in "[A-Za-z0-9+/=_-]{8,40}",
        mut body in value(),
        nth in any::<usize>(),
    ) {
        // It is no word of the form that a shape has.
        let secret = format!("zq{secret}");
        plant(&mut body, &secret, nth);
        let bearer = format!("/reset?token={}&a=1", encoded(&secret));
        let form = format!("a=1&password={}", encoded(&secret));
        let part = format!(
            "--B\r\ncontent-disposition: form-data; name=a\r\n\r\n{secret}\r\n--B\r\n\
             content-disposition: form-data; name=b; filename=\"{secret}\"\r\n\r\n{secret}\r\n--B--"
        );
        let media = format!("multipart/form-data; boundary=B; x={secret}");
        for sent in [
            Sent::json(&bearer, &body),
            Sent::new(Method::POST, "/").with("application/x-www-form-urlencoded", form),
            Sent::new(Method::POST, "/").with(&media, part),
            Sent::new(Method::POST, "/").with("text/plain", secret.clone()),
        ] {
            let text = sent.shape().unwrap().to_text();
            prop_assert!(!text.contains(&secret), "{}", text);
        }
    }

    /// Rule 1: what comes without `=` is nowhere, even where it is made of plain letters.
    #[test]
    fn nothing_bare_leaves_the_masker(
        secret in "zq([a-z]{6,40}|[A-Za-z0-9_-]{6,40}|[A-Za-z0-9+/]{8,40}==)",
        before in pairs(),
        after in pairs(),
    ) {
        let media = "application/x-www-form-urlencoded";
        for bare in [secret.clone(), encoded(&secret)] {
            for pairs in [bare.clone(), format!("{before}&{bare}"), format!("{before}&{bare}&{after}&{bare}")] {
                for sent in [
                    Sent::new(Method::GET, &format!("/a?{pairs}")),
                    Sent::new(Method::POST, "/a").with(media, pairs.clone()),
                ] {
                    let text = sent.shape().unwrap().to_text();
                    prop_assert!(!text.contains(secret.trim_end_matches('=')), "{}", text);
                }
            }
        }
    }

    /// Rule 2: what has the digits of an id or a token, or some of the letters that no words have,
    /// is nowhere, not even as a name.
    #[test]
    fn no_token_is_taken_for_a_name(token in prop_oneof![
        "[a-z]{1,8}[0-9]{5,9}[a-zA-Z]{1,8}",
        "[A-Za-z0-9_-]{5,17}([QXZ][bdfg]){3}[A-Za-z0-9_-]{5,17}",
    ]) {
        let part = format!(
            "--B\r\ncontent-disposition: form-data; name=\"{token}\"; filename=\"{token}\"\r\n\
             content-type: text/{token}\r\n\r\n\r\n--B--"
        );
        for sent in [
            Sent::json(
                &format!("/users/{token}?{token}=1&{token}"),
                &json!({ "by": { &token: 1 }, "list": [{ &token: { &token: token } }] }),
            ),
            Sent::new(Method::POST, "/")
                .with("application/x-www-form-urlencoded", format!("{token}=1&a={token}")),
            Sent::new(Method::POST, "/").with("multipart/form-data; boundary=B", part),
            Sent::new(Method::POST, "/").with(&format!("text/{token}"), "x"),
        ] {
            let text = sent.shape().unwrap().to_text().to_ascii_lowercase();
            prop_assert!(!text.contains(&token.to_ascii_lowercase()), "{}", text);
        }
    }
}

#[test]
fn joining_is_what_it_says_for_part_of_a_form() {
    let part = |media: &str| {
        let body = format!(
            "--B\r\ncontent-disposition: form-data; name=f; filename=x\r\n\
             content-type: {media}\r\n\r\n\r\n--B--"
        );
        Sent::new(Method::POST, "/").with("multipart/form-data; boundary=B", body)
    };
    let encoding = |media: &[&str]| {
        let sent: Vec<_> = media.iter().map(|media| part(media)).collect();
        let learned = learned(&sent);
        let content = &learned.document["paths"]["/"]["post"]["requestBody"]["content"];
        content["multipart/form-data"]["encoding"]["f"]["contentType"].as_str().map(str::to_owned)
    };
    assert_eq!(encoding(&["image/png", "image/gif"]).as_deref(), Some("image/gif, image/png"));
    assert_eq!(encoding(&["a/b", "image/png"]).as_deref(), Some("image/png"));
    assert_eq!(encoding(&["image/a", "image/b", "image/c", "image/d", "image/e"]), None);
}
