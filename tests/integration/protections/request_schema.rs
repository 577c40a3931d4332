use super::{Evidence, evidence};
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Upstream, call};

const JSON: &str = "Content-Type: application/json";

/// Against the document in the variable `OPENAPI`: a text of more than three characters.
const BAD: &str = "{\"text\":\"long\"}";

#[tokio::test]
async fn a_route_says_how_its_operation_is_judged() {
    for (service, route, want) in
        [("warn", "enforce", 422), ("enforce", "off", 200), ("enforce", "warn", 200)]
    {
        let upstream = Upstream::ok().await;
        let config = format!(
            "[protect.request_schema]\nmode = \"{service}\"\nopenapi = \"env:OPENAPI\"\n\
             [[route]]\nmatch = \"POST /notes\"\n\
             [route.protect.request_schema]\nmode = \"{route}\""
        );
        let gateway = Gateway::start(upstream.addr, &config).await;
        let reply = call(gateway.addr(), "POST /notes", &[JSON], BAD).await;
        assert_eq!(reply.status(), want, "{route} under {service}: {}", reply.text);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn each_operation_counts_for_itself() {
    let upstream = Upstream::start(|request, _| match request.starts_with("HEAD ") {
        true => Answer::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        false => Answer::ok("ok"),
    })
    .await;
    let config = "[protect.request_schema]\nmode = \"enforce\"\nopenapi = \"env:OPENAPI\"";
    let gateway = Gateway::start(upstream.addr, config).await;
    for (line, fields, body, want) in [
        ("POST /notes", &[JSON][..], BAD, 422),
        ("POST /notes", &[JSON], "{\"text\":\"a\"}", 200),
        ("GET /notes", &[], "", 200),
        ("HEAD /notes", &[], "", 204),
        ("PUT /notes", &[], "", 405),
        ("GET /other", &[], "", 404),
    ] {
        let reply = call(gateway.addr(), line, fields, body).await;
        assert_eq!(reply.status(), want, "{line}: {}", reply.text);
    }
    for (rule, evaluated, denied) in [
        ("request_schema@POST /notes", 2, 1),
        ("request_schema@GET /notes", 2, 0),
        ("request_schema", 2, 2),
    ] {
        let want = Evidence { evaluated, would_deny: 0, denied };
        assert_eq!(evidence(&gateway, rule).await, want, "{rule}");
    }
    gateway.stop().await;
}
