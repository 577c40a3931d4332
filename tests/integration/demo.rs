//! The demo, as its users see it: each protection that reads what a request says finds the sloppy
//! or the hostile client in `warn`, denies it in `enforce` with a problem that says what to mend,
//! and the tenants that behave see no difference.

use std::collections::BTreeSet;

use seaworthy::app::demo;
use seaworthy_demo::{Clients, ClientsConfig, ClientsReport, Manners, Service, ServiceConfig};
use serde_json::Value;

use crate::harness::ask::json;
use crate::harness::{Gateway, call};

/// What one protection denies, as its offender sends it.
struct Case {
    protection: &'static str,
    line: &'static str,
    fields: &'static [&'static str],
    body: &'static str,
    status: u16,
    code: &'static str,
    /// Where the problem says that it is; empty where it is about the request as a whole.
    at: &'static str,
}

const JSON: &str = "Content-Type: application/json";

const CASES: &[Case] = &[
    Case {
        protection: "access",
        line: "GET /actuator/env",
        fields: &[],
        body: "",
        status: 401,
        code: "access-credentials-missing",
        at: "",
    },
    Case {
        protection: "signature",
        line: "POST /api/hooks/parcels",
        fields: &[JSON],
        body: r#"{"parcel":"PX-000000000000","state":"delivered"}"#,
        status: 401,
        code: "signature-missing",
        at: "header:x-hub-signature-256",
    },
    Case {
        protection: "body_syntax",
        line: "POST /api/messages",
        fields: &[JSON],
        body: r#"{"from":"a","to":"b","text":"c","to":"everyone"}"#,
        status: 400,
        code: "ambiguous-body",
        at: "/to",
    },
    Case {
        protection: "injection",
        line: "GET /api/complaints?q=%27%20OR%20%271%27%3D%271",
        fields: &[],
        body: "",
        status: 403,
        code: "sql-injection",
        at: "query:q",
    },
    Case {
        protection: "vocabulary",
        line: "PUT /api/companies/brightwater",
        fields: &[JSON],
        body: r#"{"name":"Brightwater","stage":"serie-a","employees":31}"#,
        status: 422,
        code: "vocabulary-mismatch",
        at: "/stage",
    },
    Case {
        protection: "request_schema",
        line: "POST /api/complaints",
        fields: &[JSON],
        body: r#"{"subject":"Prize","body":"Click","category":"weather"}"#,
        status: 422,
        code: "schema-mismatch",
        at: "/category",
    },
];

/// Enough for everybody to have done everything.
const REQUESTS: u64 = 900;

/// The demo with these variables, after [`REQUESTS`] requests.
struct Demo {
    gateway: Gateway,
    service: Service,
    report: ClientsReport,
}

impl Demo {
    async fn run(variables: &[(String, &str)]) -> Self {
        let service = Service::start(ServiceConfig::default()).await.expect("the help desk starts");
        let own = variables.iter().map(|(name, value)| (name.clone(), (*value).to_owned()));
        let env = demo::env().into_iter().chain(own);
        let gateway = Gateway::start_with_env(service.addr(), demo::CONFIG, env).await;
        let config = ClientsConfig { gateway: gateway.addr(), seed: 7, rate: 300.0 };
        let clients = Clients::start(config).expect("it is a loopback address");
        clients.sent(REQUESTS).await;
        let report = clients.stop().await;
        gateway.settled().await;
        Self { gateway, service, report }
    }

    /// The tenants of the requests with that verdict of that protection, as the telemetry has it.
    async fn tenants(&self, verdict: &str, protection: &str) -> BTreeSet<String> {
        let path = format!("/api/v1/requests?verdict={verdict}&limit=1000");
        let page = json(self.gateway.console(), &path).await;
        let rows = page["rows"].as_array().expect("a page has rows");
        let of_it = |row: &&Value| {
            let rules = row[verdict].as_array().expect("a row lists its rules");
            rules.iter().filter_map(Value::as_str).any(|rule| {
                rule.split_once('@').map_or(rule, |(protection, _)| protection) == protection
            })
        };
        let tenant = |row: &Value| row["tenant"].as_str().unwrap_or_default().to_owned();
        rows.iter().filter(of_it).map(tenant).collect()
    }

    async fn stop(self) {
        self.gateway.stop().await;
        self.service.shutdown().await;
    }
}

/// The tenants of the sloppy and of the hostile client.
fn offenders() -> BTreeSet<String> {
    ["umbrella", "wonka"].map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_warn_each_protection_finds_those_who_misbehave_and_nobody_else() {
    let demo = Demo::run(&[]).await;
    for case in CASES {
        let found = demo.tenants("would_deny", case.protection).await;
        assert!(!found.is_empty(), "{} finds nobody", case.protection);
        assert!(found.is_subset(&offenders()), "{} finds {found:?}", case.protection);
        assert_eq!(demo.tenants("denied", case.protection).await, BTreeSet::new());
    }
    demo.stop().await;
}

async fn enforced(case: &Case) {
    let mode = format!("SEAWORTHY__PROTECT__{}__MODE", case.protection.to_ascii_uppercase());
    let demo = Demo::run(&[(mode, "enforce")]).await;
    let denied = demo.tenants("denied", case.protection).await;
    assert!(!denied.is_empty(), "{} denies nobody", case.protection);
    assert!(denied.is_subset(&offenders()), "{} denies {denied:?}", case.protection);
    for client in demo.report.by_client.iter().filter(|client| client.manners == Manners::Good) {
        let classes = client.by_status_class;
        assert_eq!((classes.server_error, classes.failed), (0, 0), "{client:?}");
    }

    let fields = [case.fields, &["X-Tenant-Id: umbrella"]].concat();
    let reply = call(demo.gateway.addr(), case.line, &fields, case.body).await;
    assert_eq!((reply.status(), reply.code()), (case.status, Some(case.code)), "{}", reply.text);
    assert_eq!(reply.field("content-type"), Some("application/problem+json"), "{}", reply.text);
    let problem: Value = serde_json::from_str(reply.body()).expect("a problem is JSON");
    for member in ["title", "detail", "type", "request_id"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
    if !case.at.is_empty() {
        assert_eq!(problem["errors"][0]["at"], case.at, "{problem}");
    }
    demo.stop().await;
}

/// A test for each, so that they run beside each other.
macro_rules! enforced {
    ($($name:ident: $index:literal,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                enforced(&CASES[$index]).await;
            }
        )+

        #[test]
        fn every_case_has_a_test() {
            let tested = [$((stringify!($name), $index)),+];
            for (index, case) in CASES.iter().enumerate() {
                assert_eq!(tested[index], (&*format!("enforced_{}", case.protection), index));
            }
            assert_eq!(tested.len(), CASES.len());
        }
    };
}

enforced! {
    enforced_access: 0,
    enforced_signature: 1,
    enforced_body_syntax: 2,
    enforced_injection: 3,
    enforced_vocabulary: 4,
    enforced_request_schema: 5,
}
