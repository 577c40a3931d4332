//! Every protection of the registry, through every mode, in one harness.
//!
//! A protection that is added is not tested by this file until it is on the [`STAND`], and the
//! first test fails until it is: what can deny has a request that it denies, what only adds to
//! answers has the fields that it adds.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::harness::ask::{body, get, json, until, value};
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Held, Reply, Upstream, call};

/// How a protection is shown what it is there for.
struct Case {
    protection: &'static str,
    /// Its settings, but for the mode.
    settings: &'static str,
    shows: Shows,
}

enum Shows {
    /// This request is one that it denies, with this code.
    Denial { offence: Offence, code: &'static str, status: u16 },
    /// The answers have one field in `warn` and another in `enforce`.
    Field { warn: Option<&'static str>, enforce: &'static str },
}

/// The request that is denied. All of them come from one client with an API key.
enum Offence {
    /// As it is.
    Plain { line: &'static str, fields: &'static [&'static str], body: &'static str },
    /// After another one that passes.
    Second,
    /// While another one is under way.
    Beside,
    /// Where the service takes its time.
    Slow,
}

/// The limit of the slow one.
const SLOW: Duration = Duration::from_millis(300);

const fn denial(offence: Offence, code: &'static str, status: u16) -> Shows {
    Shows::Denial { offence, code, status }
}

const STAND: &[Case] = &[
    Case {
        protection: "host_allowlist",
        settings: "hosts = [\"other.example\"]",
        shows: denial(
            Offence::Plain { line: "GET /", fields: &[], body: "" },
            "host-not-allowed",
            421,
        ),
    },
    Case {
        protection: "ip_filter",
        settings: "deny = [\"127.0.0.0/8\"]",
        shows: denial(Offence::Plain { line: "GET /", fields: &[], body: "" }, "ip-denied", 403),
    },
    Case {
        protection: "header_limit",
        settings: "count_max = 4",
        shows: denial(
            Offence::Plain {
                line: "GET /",
                fields: &["A: 1", "B: 2", "C: 3", "D: 4", "E: 5"],
                body: "",
            },
            "too-many-headers",
            431,
        ),
    },
    Case {
        protection: "security_headers",
        settings: "",
        shows: Shows::Field { warn: None, enforce: "x-content-type-options" },
    },
    Case {
        protection: "content_security_policy",
        settings: "",
        shows: Shows::Field {
            warn: Some("content-security-policy-report-only"),
            enforce: "content-security-policy",
        },
    },
    Case {
        protection: "cors",
        settings: "origins = [\"https://desk.example\"]",
        shows: denial(
            Offence::Plain { line: "GET /", fields: &["Origin: https://evil.example"], body: "" },
            "cors-origin-denied",
            403,
        ),
    },
    Case {
        protection: "rate_limit",
        settings: "limits = [{ per = \"client\", rate = \"1/hour\", burst = 1 }]",
        shows: denial(Offence::Second, "rate-limited", 429),
    },
    Case {
        protection: "csrf",
        settings: "",
        shows: denial(
            Offence::Plain {
                line: "POST /",
                fields: &["Cookie: session=s", "Sec-Fetch-Site: cross-site"],
                body: "a",
            },
            "csrf-cross-site",
            403,
        ),
    },
    Case {
        protection: "body_limit",
        settings: "max = \"4B\"",
        shows: denial(
            Offence::Plain { line: "POST /", fields: &[], body: "hello" },
            "body-too-large",
            413,
        ),
    },
    Case {
        protection: "access",
        settings: "api_keys = { keys = \"env:API_KEYS\" }\nmatrix = \"env:AUTHZ\"",
        shows: denial(
            Offence::Plain { line: "GET /a", fields: &[], body: "" },
            "access-key-unknown",
            401,
        ),
    },
    Case {
        protection: "signature",
        settings: "format = \"github\"\nsecrets = [\"env:WEBHOOK_SECRET\"]",
        shows: denial(
            Offence::Plain { line: "POST /", fields: &[], body: "{}" },
            "signature-missing",
            401,
        ),
    },
    Case {
        protection: "body_syntax",
        settings: "",
        shows: denial(
            Offence::Plain {
                line: "POST /",
                fields: &["Content-Type: application/json"],
                body: "{\"a\":1,\"a\":2}",
            },
            "ambiguous-body",
            400,
        ),
    },
    Case {
        protection: "injection",
        settings: "",
        shows: denial(
            Offence::Plain { line: "GET /?q=1%27%20OR%20%271%27=%271", fields: &[], body: "" },
            "sql-injection",
            403,
        ),
    },
    Case {
        protection: "core_rule_set",
        settings: "crs = [\"env:CRS\"]\nsample = 1",
        shows: denial(
            Offence::Plain { line: "GET /?q=drop%20table", fields: &[], body: "" },
            "core-rule-matched",
            403,
        ),
    },
    Case {
        protection: "vocabulary",
        settings: "fields = [{ route = \"POST /\", at = \"/stage\", vocabulary = \"stages\", shape = \"scalar\" }]",
        shows: denial(
            Offence::Plain {
                line: "POST /",
                fields: &["Content-Type: application/json"],
                body: "{\"stage\":\"sead\"}",
            },
            "vocabulary-mismatch",
            422,
        ),
    },
    Case {
        protection: "request_schema",
        settings: "openapi = \"env:OPENAPI\"",
        shows: denial(
            Offence::Plain { line: "GET /other", fields: &[], body: "" },
            "schema-unknown-route",
            404,
        ),
    },
    Case {
        protection: "request_timeout",
        settings: "max = \"300ms\"",
        shows: denial(Offence::Slow, "request-timeout", 504),
    },
    Case {
        protection: "concurrency_limit",
        settings: "service_max = 1",
        shows: denial(Offence::Beside, "over-capacity", 503),
    },
];

/// What a client with an identity meets in a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meets {
    Nothing,
    Judgement,
    Enforcement,
}

const MODES: &[(&str, Meets)] = &[
    ("off", Meets::Nothing),
    ("warn", Meets::Judgement),
    ("enforce", Meets::Enforcement),
    // The largest share below all: the bucket of the key that these tests use is in it.
    ("enforce 99.99%", Meets::Enforcement),
];

const KEY: &str = "X-Api-Key: stand";

#[tokio::test]
async fn every_protection_is_on_the_stand() {
    let held = Held::start().await;
    let gateway = Gateway::start(held.addr, "").await;
    let listed = json(gateway.console(), "/api/v1/protections").await;
    let listed: Vec<&str> = listed["protections"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|protection| protection["name"].as_str().expect("a name"))
        .collect();
    let stand: Vec<&str> = STAND.iter().map(|case| case.protection).collect();
    assert_eq!(listed, stand, "the registry's order, and nothing else");
    let unique: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(unique.len(), listed.len());
    gateway.stop().await;
}

#[tokio::test]
async fn every_code_of_a_protection_is_one_of_the_manuals() {
    let manual = include_str!("../../docs/errors.md");
    let held = Held::start().await;
    let gateway = Gateway::start(held.addr, "").await;
    let listed = json(gateway.console(), "/api/v1/protections").await;
    for protection in listed["protections"].as_array().expect("a list") {
        let name = protection["name"].as_str().expect("a name");
        for code in protection["codes"].as_array().expect("a list") {
            let code = code.as_str().expect("a code");
            let line = manual.lines().find(|line| line.starts_with(&format!("| `{code}` |")));
            let line = line.unwrap_or_else(|| panic!("{code} of {name} is not documented"));
            assert!(line.contains(&format!("| {name} |")), "{line}");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn every_protection_does_in_each_mode_what_the_mode_says() {
    // Each waits for the next count of its gateway, so they wait together.
    let mut cases = tokio::task::JoinSet::new();
    let local = tokio::task::LocalSet::new();
    for case in STAND {
        for (mode, meets) in MODES {
            cases.spawn_local_on(drive(case, mode, *meets), &local);
        }
    }
    let driven = async {
        while let Some(driven) = cases.join_next().await {
            if let Err(error) = driven {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    };
    local.run_until(driven).await;
}

async fn drive(case: &Case, mode: &str, meets: Meets) {
    let Case { protection, settings, shows } = case;
    // The others are off, so that nothing else answers.
    let others: String = STAND
        .iter()
        .filter(|other| other.protection != *protection)
        .map(|other| format!("[protect.{}]\nmode = \"off\"\n", other.protection))
        .collect();
    let toml = format!("{others}[protect.{protection}]\nmode = \"{mode}\"\n{settings}\n");
    let name = format!("{protection} in {mode}");
    match shows {
        Shows::Denial { offence, code, status } => {
            let (held, plain) = (Held::start().await, Upstream::ok().await);
            let is_plain = matches!(offence, Offence::Plain { .. });
            let service = if is_plain { plain.addr } else { held.addr };
            let gateway = Gateway::start(service, &toml).await;
            let reply = commit(offence, &gateway, &held, meets).await;
            let want = if meets == Meets::Enforcement { *status } else { 200 };
            assert_eq!(reply.status(), want, "{name}: {}", reply.text);
            let told = (meets == Meets::Enforcement).then_some(*code);
            assert_eq!(reply.code(), told, "{name}: {}", reply.text);
            if is_plain {
                let reached = usize::from(meets != Meets::Enforcement);
                assert_eq!(plain.received().len(), reached, "{name}: what the service got");
            }
            assert_judged(&gateway, case, meets, &name).await;
            assert_counted(&gateway, case, meets, code, &name).await;
            gateway.stop().await;
        }
        Shows::Field { warn, enforce } => {
            let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok";
            let service = Upstream::start(|_, _| Answer::Bytes(page.into())).await;
            let gateway = Gateway::start(service.addr, &toml).await;
            let reply = call(gateway.addr(), "GET /", &[KEY, "Accept: text/html"], "").await;
            assert_eq!(reply.status(), 200, "{name}: {}", reply.text);
            let enforced = meets == Meets::Enforcement;
            assert_eq!(reply.field(enforce).is_some(), enforced, "{name}: {}", reply.text);
            if let Some(warn) = warn {
                let judged = meets == Meets::Judgement;
                assert_eq!(reply.field(warn).is_some(), judged, "{name}: {}", reply.text);
            }
            gateway.settled().await;
            assert_evaluated(&gateway, protection, meets != Meets::Nothing, &name).await;
            gateway.stop().await;
        }
    }
}

/// Sends the request that is denied, and returns its answer.
async fn commit(offence: &Offence, gateway: &Gateway, held: &Held, meets: Meets) -> Reply {
    let addr = gateway.addr();
    let plain = async |line: &str| call(addr, line, &[KEY], "").await;
    match offence {
        Offence::Plain { line, fields, body } => {
            let fields: Vec<&str> = [KEY].iter().chain(*fields).copied().collect();
            call(addr, line, &fields, body).await
        }
        Offence::Second => {
            assert_eq!(plain("GET /").await.status(), 200, "the first one passes");
            plain("GET /").await
        }
        Offence::Beside => {
            let first = tokio::spawn(async move { call(addr, "GET /held", &[KEY], "").await });
            held.arrived(1).await;
            let reply = plain("GET /").await;
            held.release(1);
            assert_eq!(first.await.expect("it runs").status(), 200, "the first one passes");
            reply
        }
        Offence::Slow => {
            let slow = tokio::spawn(async move { call(addr, "GET /held", &[KEY], "").await });
            held.arrived(1).await;
            if meets != Meets::Enforcement {
                // The pause is what is judged.
                tokio::time::sleep(2 * SLOW).await;
                held.release(1);
            }
            slow.await.expect("it runs")
        }
    }
}

/// The console's evidence: what the rule has said.
async fn assert_judged(gateway: &Gateway, case: &Case, meets: Meets, name: &str) {
    let (would_deny, denied, harm) = match meets {
        Meets::Nothing => (0, 0, 0),
        // The service answered 200: a real client would have been broken.
        Meets::Judgement => (1, 0, 1),
        Meets::Enforcement => (0, 1, 0),
    };
    gateway.settled().await;
    let rule = rule(gateway, case.protection).await;
    assert_eq!(rule["would_deny"], would_deny, "{name}: {rule}");
    assert_eq!(rule["denied"], denied, "{name}: {rule}");
    assert_eq!(rule["harm"], harm, "{name}: {rule}");
    assert_evaluated(gateway, case.protection, meets != Meets::Nothing, name).await;
}

async fn assert_evaluated(gateway: &Gateway, protection: &str, wanted: bool, name: &str) {
    let rule = rule(gateway, protection).await;
    let evaluated = rule["evaluated"].as_u64().expect("a count");
    // A protection that only adds fields judges nothing; it has nothing to be counted.
    if !wanted {
        assert_eq!(evaluated, 0, "{name}: {rule}");
    } else if protection != "security_headers" {
        assert!(evaluated > 0, "{name}: {rule}");
    }
}

async fn rule(gateway: &Gateway, protection: &str) -> Value {
    let listed = json(gateway.console(), "/api/v1/protections").await;
    let protections = listed["protections"].as_array().expect("a list");
    let found = protections.iter().find(|listed| listed["name"] == protection);
    let rules = found.expect("it is in the registry")["rules"].as_array().expect("a list");
    let own: Vec<_> = rules.iter().filter(|rule| rule["rule"] == protection).collect();
    assert_eq!(own.len(), 1, "{protection} has one rule without a route: {rules:?}");
    own[0].clone()
}

/// The metrics: the decision, the harm and the problem.
async fn assert_counted(gateway: &Gateway, case: &Case, meets: Meets, code: &str, name: &str) {
    let protection = case.protection;
    let rule = format!("protection=\"{protection}\",rule=\"{protection}\"");
    let decisions = |mode: &str, outcome: &str| {
        format!("seaworthy_decisions_total{{{rule},mode=\"{mode}\",outcome=\"{outcome}\"}}")
    };
    let harm = format!("seaworthy_harm_total{{{rule}}}");
    let problem = format!("seaworthy_problems_total{{code=\"{code}\"}}");
    let one = |wanted: bool| wanted.then_some(1.0);
    let wanted = [
        (decisions("warn", "would_deny"), one(meets == Meets::Judgement)),
        (decisions("enforce", "deny"), one(meets == Meets::Enforcement)),
        (decisions("warn", "deny"), None),
        (decisions("enforce", "would_deny"), None),
        (harm, one(meets == Meets::Judgement)),
        (problem, one(meets == Meets::Enforcement)),
    ];
    // A series that has counted nothing may be there as 0 or not at all.
    until(&format!("the metrics of {name}"), async || {
        let text = body(&get(gateway.console(), "/metrics", &[]).await);
        wanted
            .iter()
            .all(|(series, count)| value(&text, series).filter(|count| *count > 0.0) == *count)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_without_an_identity_is_judged_and_not_denied_below_all() {
    let held = Held::start().await;
    let config = "[protect.ip_filter]\nmode = \"enforce 99.99%\"\ndeny = [\"127.0.0.0/8\"]";
    let gateway = Gateway::start(held.addr, config).await;
    assert_eq!(call(gateway.addr(), "GET /", &[], "").await.status(), 200);
    gateway.settled().await;
    let rule = rule(&gateway, "ip_filter").await;
    assert_eq!((&rule["would_deny"], &rule["denied"]), (&1.into(), &0.into()), "{rule}");
    gateway.stop().await;
}
