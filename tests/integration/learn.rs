//! `seaworthy schema learn`: from requests on a socket to a document that holds later ones to it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use seaworthy::exit::Exit;
use serde_json::Value;

use crate::bodies::gzip;
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Upstream, exchange};

/// All requests are drawn, and no check reads a body, so that what is read is read to learn.
const CONFIG: &str = "\
[service]
name = \"notes\"
[learn]
enabled = true
sample = \"1000/s\"
[listen]
checked_body_max = \"1KiB\"
[protect.body_syntax]
mode = \"off\"
[protect.injection]
mode = \"off\"
";

/// It is sent in every body and query, and must be in no file.
const SECRET: &str = "hunter2-4711-correct-horse";

/// A service that refuses a body with `refuse` in it, and has taken everything else.
async fn service() -> Upstream {
    Upstream::start(|request, _| match request.contains("refuse") {
        true => Answer::Bytes(b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
        false => Answer::ok("ok"),
    })
    .await
}

/// A request with these lines in its head.
fn request(target: &str, lines: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{target} HTTP/1.1\r\nHost: a.example\r\n");
    for line in lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    if !body.is_empty() {
        let line = format!("Content-Length: {}\r\n", body.len());
        head.push_str(&line);
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

const JSON: &str = "Content-Type: application/json";

fn note(n: u32, body: &str) -> Vec<u8> {
    request(&format!("POST /notes/{n}"), &[JSON], body.as_bytes())
}

/// Thirty requests of two operations.
fn traffic() -> Vec<Vec<u8>> {
    (0..15)
        .flat_map(|n| {
            let text = format!("{SECRET} {n}");
            let body = match n % 3 {
                0 => format!(r#"{{"text": "{text}", "stars": {n}}}"#),
                1 => format!(r#"{{"text": "{text}", "stars": {n}.5, "tags": ["{SECRET}"]}}"#),
                _ => format!(r#"{{"text": "{text}", "stars": {n}, "by": {{"{SECRET}": 1}}}}"#),
            };
            [note(n, &body), request(&format!("GET /notes?limit={n}&q={SECRET}"), &[], b"")]
        })
        .collect()
}

async fn statuses(addr: SocketAddr, requests: &[Vec<u8>]) -> Vec<u16> {
    exchange(addr, &requests.concat(), requests.len()).await.statuses()
}

/// `seaworthy schema learn` on the data of a gateway that has ended, into `out`.
fn learn(dir: &Path, out: &Path, more: &[&str]) -> Exit {
    let mut args: Vec<OsString> =
        ["seaworthy", "schema", "learn", "--from", "requests", "--config"].map(Into::into).into();
    args.push(dir.join("seaworthy.toml").into());
    args.extend(["--data".into(), dir.join("data").into(), "--out".into(), out.into()]);
    args.extend(more.iter().map(Into::into));
    seaworthy::cli::run(args, [])
}

fn paths(document: &Path) -> Value {
    let text = std::fs::read_to_string(document).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    document["paths"].clone()
}

#[tokio::test]
async fn a_document_is_learned_and_then_holds_requests_to_it() {
    let upstream = service().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    let sent = traffic();
    assert_eq!(statuses(gateway.addr(), &sent).await, [200; 30]);
    let refused = note(1, r#"{"refuse": true}"#);
    assert_eq!(statuses(gateway.addr(), &[refused]).await, [422]);
    let dir = gateway.stop_and_keep().await;

    // Whatever the file has, its log and its lock: no value of a body or a query.
    for entry in std::fs::read_dir(dir.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "{} has the secret", path.display());
    }

    let out = dir.path().join("openapi.json");
    assert_eq!(learn(dir.path(), &out, &[]), Exit::NoVerdict, "15 are fewer than 20");
    assert_eq!(learn(dir.path(), &out, &["--min-samples", "15"]), Exit::Ok);
    let paths = paths(&out);
    let operations: Vec<_> = paths.as_object().unwrap().keys().collect();
    assert_eq!(operations, ["/notes", "/notes/{id}"]);
    let post = &paths["/notes/{id}"]["post"];
    assert_eq!(post["x-seaworthy-samples"], 15, "what the service refused is not learned");
    let schema = &post["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], serde_json::json!(["stars", "text"]), "{schema:#}");

    let enforced = format!(
        "[protect.request_schema]\nmode = \"enforce\"\nopenapi = {:?}\n",
        out.display().to_string()
    );
    let gateway = Gateway::start(upstream.addr, &enforced).await;
    assert_eq!(statuses(gateway.addr(), &sent).await, [200; 30], "it fits what it is from");
    for (name, wrong, code) in [
        ("a type", note(1, r#"{"text": 1, "stars": 1}"#), "schema-mismatch"),
        ("a member", note(1, r#"{"text": "a"}"#), "schema-mismatch"),
        ("a parameter", request("GET /notes?q=a", &[], b""), "schema-mismatch"),
        (
            "a media type",
            request("POST /notes/1", &["Content-Type: text/plain"], b"a"),
            "schema-unknown-content-type",
        ),
        ("a method", request("DELETE /notes/1", &[], b""), "schema-unknown-method"),
        ("a route", request("GET /other", &[], b""), "schema-unknown-route"),
    ] {
        let reply = exchange(gateway.addr(), &wrong, 1).await;
        assert_eq!(reply.code(), Some(code), "{name}: {}", reply.text);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_learned_from_arrives_as_it_was_sent() {
    let upstream = service().await;
    let gateway = Gateway::start(upstream.addr, CONFIG).await;
    let large = format!(r#"{{"text": "{}"}}"#, "x".repeat(4000));
    let coded = gzip(br#"{"text": "coded"}"#);
    let bodies: [(&str, &[&str], &[u8]); 6] = [
        ("/whole", &[JSON], br#"{"text":   "a"}"#),
        ("/twice", &[JSON], br#"{"text": 1, "text": 2}"#),
        ("/torn", &[JSON], br#"{"text": "#),
        ("/large", &[JSON], large.as_bytes()),
        ("/coded", &[JSON, "Content-Encoding: gzip"], &coded),
        ("/bytes", &["Content-Type: application/octet-stream"], b"\x00\x01"),
    ];
    for (path, lines, body) in bodies {
        let sent = request(&format!("POST {path}"), lines, body);
        assert_eq!(statuses(gateway.addr(), &[sent]).await, [200], "{path}");
        let received = upstream.received().pop().expect("it arrived");
        let (head, arrived) = received.split_once("\r\n\r\n").expect("a whole head");
        assert_eq!(arrived, String::from_utf8_lossy(body), "{path}: {head}");
    }
    let chunked =
        b"POST /chunked HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n";
    assert_eq!(exchange(gateway.addr(), chunked, 1).await.statuses(), [200]);
    assert!(upstream.received().pop().unwrap().contains("{\"a"), "{:?}", upstream.received());

    let dir = gateway.stop_and_keep().await;
    let out = dir.path().join("openapi.json");
    assert_eq!(learn(dir.path(), &out, &["--min-samples", "1"]), Exit::Ok);
    let paths = paths(&out);
    let operations: Vec<_> = paths.as_object().unwrap().keys().collect();
    assert_eq!(
        operations,
        ["/bytes", "/chunked", "/coded", "/whole"],
        "what no check could read is nothing to learn from"
    );
    let coded = &paths["/coded"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(coded["properties"]["text"]["type"], "string", "{coded:#}");
}

#[tokio::test]
async fn nothing_is_recorded_until_it_is_turned_on() {
    let upstream = service().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    assert_eq!(statuses(gateway.addr(), &traffic()).await, [200; 30]);
    let file = gateway.dir().join("seaworthy.toml");
    std::fs::write(&file, CONFIG).unwrap();
    gateway.reload().await.expect("it is right");
    let later = [request("GET /later", &[], b"")];
    assert_eq!(statuses(gateway.addr(), &later).await, [200]);
    std::fs::write(&file, "").unwrap();
    gateway.reload().await.expect("it is right");
    assert_eq!(statuses(gateway.addr(), &traffic()).await, [200; 30]);

    let dir = gateway.stop_and_keep().await;
    let out = dir.path().join("openapi.json");
    assert_eq!(learn(dir.path(), &out, &["--min-samples", "1"]), Exit::Ok);
    let paths = paths(&out);
    assert_eq!(paths.as_object().unwrap().keys().collect::<Vec<_>>(), ["/later"]);
}
