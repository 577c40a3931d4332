//! Bodies of which two parsers could make two things, or that cost more than they are worth.
//!
//! Each case is raw bytes over TCP. Where `body_syntax` enforces, a bad one leaves nothing at the
//! service and its client is told why; where it warns, the service gets every byte as it was sent.

use super::{JSON, deflate, gzip, post, post_chunked};
use crate::harness::ask::{metric, until};
use crate::harness::{Gateway, Reply, Upstream, call, exchange};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const PARTS: &str = "Content-Type: multipart/form-data; boundary=b";
const GZIP: &str = "Content-Encoding: gzip";

struct Case {
    name: &'static str,
    fields: &'static [&'static str],
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// What the problem points at.
    at: Option<&'static str>,
}

fn case(name: &'static str, fields: &'static [&'static str], body: impl Into<Vec<u8>>) -> Case {
    Case { name, fields, body: body.into(), status: 400, code: "ambiguous-body", at: None }
}

impl Case {
    fn unreadable(self) -> Self {
        Self { status: 400, code: "unreadable-body", ..self }
    }

    fn unchecked(self) -> Self {
        Self { status: 413, code: "body-unchecked", ..self }
    }

    fn coding(self) -> Self {
        Self { status: 415, code: "unsupported-coding", ..self }
    }

    fn at(self, pointer: &'static str) -> Self {
        Self { at: Some(pointer), ..self }
    }
}

/// A part of a multipart body.
fn part(fields: &str) -> String {
    format!("--b\r\n{fields}\r\n\r\nx\r\n")
}

fn cases() -> Vec<Case> {
    let disposition = "Content-Disposition: form-data; name=a";
    let parts = |body: String| case("", &[PARTS], body + "--b--\r\n");
    let named = |name, case: Case| Case { name, ..case };
    vec![
        // Depth.
        case("arrays, one level too deep", &[JSON], "[".repeat(65) + &"]".repeat(65)).unreadable(),
        case("objects, one level too deep", &[JSON], "{\"a\":".repeat(65) + "1" + &"}".repeat(65))
            .unreadable(),
        case("a million brackets", &[JSON], "[".repeat(1_000_000)).unreadable(),
        case("a hundred thousand objects", &[JSON], "{\"a\":".repeat(100_000)).unreadable(),
        // Names.
        case("a name twice", &[JSON], "{\"role\":\"user\",\"role\":\"admin\"}").at("/role"),
        case("a name twice, once escaped", &[JSON], "{\"role\":1,\"\\u0072ole\":2}").at("/role"),
        case("a name twice, far inside", &[JSON], "{\"a\":[{\"b\":1},{\"b\":1,\"b\":2}]}")
            .at("/a/1/b"),
        case("the empty name twice", &[JSON], "{\"\":1,\"\":2}").at("/"),
        // Numbers.
        case("1e400", &[JSON], "{\"n\":1e400}").unreadable(),
        case("-1e400", &[JSON], "[-1e400]").unreadable(),
        case("NaN", &[JSON], "{\"n\":NaN}").unreadable(),
        case("Infinity", &[JSON], "[Infinity]").unreadable(),
        case("a number with a zero before it", &[JSON], "[01]").unreadable(),
        case("a hexadecimal number", &[JSON], "[0x1f]").unreadable(),
        // Text.
        case("a lone high surrogate", &[JSON], "[\"\\ud800\"]").unreadable(),
        case("a lone low surrogate", &[JSON], "[\"\\udc00\"]").unreadable(),
        case("a lone surrogate in a name", &[JSON], "{\"\\ud800\":1}").unreadable(),
        case("bytes that are no UTF-8", &[JSON], b"{\"a\":\"\xff\xfe\"}").unreadable(),
        case("an overlong encoding", &[JSON], b"{\"a\":\"\xc0\xaf\"}").unreadable(),
        case("a surrogate as bytes", &[JSON], b"{\"a\":\"\xed\xa0\x80\"}").unreadable(),
        case("a raw control byte", &[JSON], b"{\"a\":\"\x01\"}").unreadable(),
        case("UTF-16", &[JSON], b"{\0\"\0a\0\"\0:\x001\0}\0").unreadable(),
        case("a byte order mark", &[JSON], b"\xef\xbb\xbf{\"a\":1}"),
        // What is around the value.
        case("something behind the value", &[JSON], "{\"a\":1}x"),
        case("a second value", &[JSON], "{\"a\":1}{\"a\":2}"),
        case("a NUL behind the value", &[JSON], "{\"a\":1}\0"),
        case("a comment", &[JSON], "{\"a\":1/* */}").unreadable(),
        case("a comma too many", &[JSON], "{\"a\":1,}").unreadable(),
        case("half of a value", &[JSON], "{\"a\":").unreadable(),
        case("white space alone", &[JSON], "   ").unreadable(),
        case("not JSON at all", &[JSON], "<xml/>").unreadable(),
        // Size.
        case("a string of 10 MB", &[JSON], format!("\"{}\"", "a".repeat(10_000_000))).unchecked(),
        case("a string of 10 MB in gzip", &[JSON, GZIP], {
            gzip(format!("\"{}\"", "a".repeat(10_000_000)).as_bytes())
        })
        .unchecked(),
        // Codings.
        case("a gzip bomb", &[JSON, GZIP], gzip(&vec![b' '; 100 << 20])).unchecked(),
        case("a bomb of many members", &[JSON, GZIP], gzip(&vec![b' '; 1 << 20]).repeat(64))
            .unchecked(),
        case("a deflate bomb", &[JSON, "Content-Encoding: deflate"], {
            deflate(&vec![b' '; 100 << 20])
        })
        .unchecked(),
        case("a gzip bomb of no type", &[GZIP], gzip(&vec![b' '; 100 << 20])).unchecked(),
        case("not gzip", &[JSON, GZIP], "{\"a\":1}"),
        case("half of gzip", &[JSON, GZIP], {
            let whole = gzip(b"{\"a\":1}");
            whole[..whole.len() - 4].to_vec()
        }),
        case("something behind gzip", &[JSON, GZIP], [gzip(b"{\"a\":1}"), b"x".to_vec()].concat()),
        case("something behind deflate", &[JSON, "Content-Encoding: deflate"], {
            [deflate(b"{\"a\":1}"), b"x".to_vec()].concat()
        }),
        case("gzip in gzip", &[JSON, "Content-Encoding: gzip, gzip"], gzip(&gzip(b"{}"))).coding(),
        case("gzip in gzip, in two fields", &[JSON, GZIP, GZIP], gzip(&gzip(b"{}"))).coding(),
        case("another coding", &[JSON, "Content-Encoding: br"], "\x0b\x02{}").coding(),
        case("gzip of a name twice", &[JSON, GZIP], gzip(b"{\"a\":1,\"a\":2}")).at("/a"),
        // Forms.
        case("half an escape", &[FORM], "a=%4"),
        case("an escape of no digits", &[FORM], "a=%zz"),
        case("escapes of no UTF-8", &[FORM], "a=%ff%fe").unreadable(),
        // Multipart.
        named("parts beyond the bound", parts(part(disposition).repeat(2000))).unreadable(),
        named("a million parts", parts("--b\r\n\r\n".repeat(1_000_000))).unchecked(),
        named("a part without a name", parts(part("Content-Disposition: form-data"))).unreadable(),
        named("a part with two names", {
            parts(part("Content-Disposition: form-data; name=a; name=b"))
        }),
        case("no last boundary", &[PARTS], part(disposition)).unreadable(),
        case("no boundary in the type", &["Content-Type: multipart/form-data"], "x").unreadable(),
        case("fields of a part that do not end", &[PARTS], {
            format!("--b\r\nX: {}", "a".repeat(100_000))
        })
        .unreadable(),
        // Types.
        case("two types", &[JSON, "Content-Type: text/plain"], "{\"a\":1}"),
        case("two types that hide a name twice", &["Content-Type: text/plain", JSON], {
            "{\"a\":1,\"a\":2}"
        }),
    ]
}

fn problem(reply: &Reply) -> serde_json::Value {
    serde_json::from_str(reply.body()).unwrap_or_else(|error| panic!("{error}: {}", reply.text))
}

#[tokio::test]
async fn a_body_with_two_readings_never_reaches_the_service() {
    let upstream = Upstream::ok().await;
    let config = "[protect.body_syntax]\nmode = \"enforce\"\n[protect.body_limit]\nmode = \"off\"";
    let gateway = Gateway::start(upstream.addr, config).await;
    for case in cases() {
        for (framing, sent) in [
            ("declared", post(case.fields, &case.body)),
            ("chunked", post_chunked(case.fields, &case.body, 10_000)),
        ] {
            let reply = exchange(gateway.addr(), &sent, 1).await;
            let name = format!("{}, {framing}", case.name);
            assert_eq!(reply.statuses(), [case.status], "{name}: {}", reply.text);
            assert_eq!(reply.code(), Some(case.code), "{name}: {}", reply.text);
            if let Some(at) = case.at {
                assert_eq!(problem(&reply)["errors"][0]["at"], at, "{name}: {}", reply.text);
            }
            assert!(reply.text.len() < 2000, "{name}: what was sent is not sent back");
        }
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    // Nothing of them stays.
    assert_eq!(call(gateway.addr(), "GET /", &[], "").await.status(), 200);
    until("no request is left", async || {
        (metric(gateway.console(), "http_server_active_requests").await == Some(0.0)).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn in_warn_a_bad_body_arrives_as_it_was_sent() {
    let upstream = Upstream::ok().await;
    let config = "[protect.body_limit]\nmode = \"off\"";
    let gateway = Gateway::start(upstream.addr, config).await;
    for (index, case) in cases().into_iter().enumerate() {
        let reply = exchange(gateway.addr(), &post(case.fields, &case.body), 1).await;
        assert_eq!(reply.statuses(), [200], "{}: {}", case.name, reply.text);
        let received = upstream.received();
        let (head, body) = received[index].split_once("\r\n\r\n").expect("a whole head");
        assert!(body == String::from_utf8_lossy(&case.body), "{}: bytes differ", case.name);
        let coded = case.fields.iter().any(|field| field.starts_with("Content-Encoding"));
        assert_eq!(head.contains("content-encoding"), coded, "{}: {head}", case.name);
    }
    gateway.stop().await;
}

/// What has one reading passes, however strange it looks.
#[tokio::test]
async fn what_has_one_reading_passes() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "[protect.body_syntax]\nmode = \"enforce\"").await;
    let passing: &[(&str, &[&str], &[u8])] = &[
        ("64 levels", &[JSON], &[[b'['; 64], [b']'; 64]].concat()),
        ("white space around it", &[JSON], b" \r\n\t{} \n"),
        ("a scalar", &[JSON], b"null"),
        ("a pair of surrogates", &[JSON], b"\"\\ud83d\\ude00\""),
        ("a number at the bound", &[JSON], b"1.7976931348623157e308"),
        ("a number too small to tell from 0", &[JSON], b"1e-400"),
        ("the same name in two objects", &[JSON], b"[{\"a\":1},{\"a\":2}]"),
        ("names that differ in case", &[JSON], b"{\"a\":1,\"A\":2}"),
        ("JSON under another name", &["Content-Type: application/problem+json"], b"{}"),
        ("a field of a form twice", &[FORM], b"a=1&a=2"),
        ("an empty form field", &[FORM], b"a=&b"),
        ("plain text", &["Content-Type: text/plain"], b"{\"a\":1,\"a\":2}"),
        ("no type", &[], b"\xff\xfe{"),
        ("no content", &[JSON], b""),
    ];
    for (index, (name, fields, body)) in passing.iter().enumerate() {
        let reply = exchange(gateway.addr(), &post(fields, body), 1).await;
        assert_eq!(reply.statuses(), [200], "{name}: {}", reply.text);
        let received = upstream.received();
        let (_, arrived) = received[index].split_once("\r\n\r\n").expect("a whole head");
        assert!(arrived == String::from_utf8_lossy(body), "{name}: {arrived}");
    }
    gateway.stop().await;
}
