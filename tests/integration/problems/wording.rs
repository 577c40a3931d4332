//! In which form a client is told: a page for a browser that navigates, JSON for a program, and
//! no body at all for HEAD.

use super::case::Service;
use super::stage::Stage;
use crate::harness::{Response, exchange};

/// What an attacker would have the gateway repeat.
const HOSTILE: &str = "https://<script>alert('1')</script>.example";

/// Both protections repeat the origin that they refuse.
const JUDGES_ORIGINS: &str = r#"
[protect.cors]
mode = "enforce"
origins = ["https://desk.example"]

[protect.csrf]
mode = "enforce"
"#;

struct Reader {
    name: &'static str,
    fields: &'static str,
    /// CORS does not judge a browser that navigates; CSRF does.
    code: &'static str,
    html: bool,
}

const fn reader(
    name: &'static str,
    fields: &'static str,
    code: &'static str,
    html: bool,
) -> Reader {
    Reader { name, fields, code, html }
}

const READERS: &[Reader] = &[
    reader(
        "a browser that navigates",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nAccept: text/html,*/*;q=0.8\r\n",
        "csrf-cross-site",
        true,
    ),
    reader(
        "an older browser that navigates",
        "Accept: text/html,application/xhtml+xml\r\n",
        "cors-origin-denied",
        true,
    ),
    reader(
        "a page's script",
        "Sec-Fetch-Mode: cors\r\nAccept: */*\r\n",
        "cors-origin-denied",
        false,
    ),
    reader(
        "a page's script that asks for HTML",
        "Sec-Fetch-Mode: cors\r\nAccept: text/html\r\n",
        "cors-origin-denied",
        false,
    ),
    reader(
        "a page's image",
        "Sec-Fetch-Mode: no-cors\r\nAccept: image/avif,*/*\r\n",
        "cors-origin-denied",
        false,
    ),
    reader("a program that takes anything", "Accept: */*\r\n", "cors-origin-denied", false),
    reader(
        "a program that prefers JSON",
        "Accept: application/json, text/html;q=0.5\r\n",
        "cors-origin-denied",
        false,
    ),
    reader("a program that says nothing", "", "cors-origin-denied", false),
];

#[tokio::test]
async fn a_browser_that_navigates_gets_a_page_and_everyone_else_json() {
    let stage = Stage::set(Service::Answers, JUDGES_ORIGINS).await;
    for Reader { name, fields, code, html } in READERS {
        let request = format!(
            "POST /%3Cscript%3E?q=%3Cscript%3E HTTP/1.1\r\nHost: a\r\nCookie: session=s1\r\nOrigin: {HOSTILE}\r\n{fields}Content-Length: 0\r\n\r\n"
        );
        let reply = exchange(stage.gateway.addr(), request.as_bytes(), 1).await;
        let response = Response::only(&reply);
        assert_eq!(response.status, 403, "{name}: {response:?}");
        let id = response.field("x-request-id").expect("it has an id");
        if *html {
            assert_eq!(response.field("content-type"), Some("text/html; charset=utf-8"), "{name}");
            let policy = response.field("content-security-policy").unwrap_or_default();
            assert!(policy.starts_with("default-src 'none'"), "{name}: {policy}");
            for said in [id, code, "&lt;script&gt;alert("] {
                assert!(response.body.contains(said), "{name}: no {said}: {}", response.body);
            }
            assert!(!response.body.contains("<script"), "{name}: {}", response.body);
        } else {
            assert_eq!(response.field("content-type"), Some("application/problem+json"), "{name}");
            let problem = response.json();
            assert_eq!(problem["request_id"], id, "{name}");
            assert_eq!(problem["code"], *code, "{name}");
        }
    }
    stage.stop().await;
}

/// HEAD, on its way to a problem.
struct Headed {
    name: &'static str,
    service: Service,
    config: &'static str,
    sent: &'static str,
    status: u16,
    closes: bool,
}

const HEADS: &[Headed] = &[
    Headed {
        name: "the gateway has nothing there",
        service: Service::Answers,
        config: "",
        sent: "HEAD /.seaworthy/none HTTP/1.1\r\nHost: a\r\n\r\n",
        status: 404,
        closes: false,
    },
    Headed {
        name: "a rule denies it",
        service: Service::Answers,
        config: "[protect.ip_filter]\nmode = \"enforce\"\ndeny = [\"127.0.0.0/8\"]",
        sent: "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        status: 403,
        closes: false,
    },
    Headed {
        name: "the service breaks off",
        service: Service::Resets,
        config: "",
        sent: "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        status: 502,
        closes: false,
    },
    Headed {
        name: "its target is refused",
        service: Service::Answers,
        config: "",
        sent: "HEAD /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        status: 400,
        closes: true,
    },
    Headed {
        name: "its head is refused",
        service: Service::Answers,
        config: "",
        sent: "HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        status: 400,
        closes: true,
    },
    Headed {
        name: "its head is refused behind an empty line",
        service: Service::Answers,
        config: "",
        sent: "\r\nHEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        status: 400,
        closes: true,
    },
    Headed {
        name: "its head does not arrive",
        service: Service::Answers,
        config: "[listen]\nhead_timeout = \"200ms\"",
        sent: "HEAD / HTTP/1.1\r\nHost: a\r\nX-Slow",
        status: 408,
        closes: true,
    },
];

#[tokio::test]
async fn a_problem_that_answers_head_has_no_body() {
    for Headed { name, service, config, sent, status, closes } in HEADS {
        let stage = Stage::set(*service, config).await;
        // What follows a HEAD shows that no byte of a body stands in between.
        let next = "GET /.seaworthy/none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let sent = if *closes { (*sent).to_owned() } else { format!("{sent}{next}") };
        let reply = exchange(stage.gateway.addr(), sent.as_bytes(), 0).await;
        let (head, behind) = reply.text.split_once("\r\n\r\n").expect("a whole head");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {head}");
        assert!(head.contains("content-type: application/problem+json"), "{name}: {head}");
        if *closes {
            assert_eq!(behind, "", "{name}");
        } else {
            assert!(behind.starts_with("HTTP/1.1 "), "{name}: {behind}");
        }
        stage.stop().await;
    }
}
