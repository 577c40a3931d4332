//! The errors of the gateway's own: each code of the catalogue is fired over a real socket and
//! followed from the client's answer to the record, the metric and the page that explains it.

mod blame;
mod case;
mod http2;
mod loops;
mod passing;
mod stage;
mod wording;

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::task::JoinSet;

use self::case::{Case, Reaches, cases};
use self::stage::{Fired, Stage};
use crate::harness::response::get;
use crate::harness::{Gateway, Upstream};

/// A row of the manual's table of errors.
#[derive(Clone)]
struct Documented {
    code: String,
    status: u16,
    /// `request`, `gateway`, `upstream` or a protection's name.
    raised_by: String,
    remedy: String,
}

/// The manual, which is rendered from the catalogue.
fn manual() -> Vec<Documented> {
    let text = include_str!("../../docs/errors.md");
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [code, status, raised_by, remedy] = cells[..] else { panic!("four cells: {line}") };
        Documented {
            code: code.trim_matches('`').to_owned(),
            status: status.parse().expect("a status"),
            raised_by: raised_by.to_owned(),
            remedy: remedy.to_owned(),
        }
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_of_the_manual_is_fired_told_and_recorded() {
    let manual = manual();
    let cases = cases();
    let documented: BTreeSet<&str> = manual.iter().map(|row| row.code.as_str()).collect();
    let fired: BTreeSet<&str> = cases.iter().map(|case| case.code).collect();
    assert_eq!(fired, documented, "each code has a case here and a row in the manual");

    // Side by side, since a record takes a moment to be written.
    let mut running = JoinSet::new();
    for case in cases {
        let row = manual.iter().find(|row| row.code == case.code).expect("it is documented");
        running.spawn(follow(case, row.clone()));
    }
    running.join_all().await;
}

/// Fires one code, and looks everywhere that it must have left a trace.
async fn follow(case: Case, row: Documented) {
    let mut stage = Stage::set(case.service, case.config).await;
    let mut fired = stage.fire(&case).await;
    let id = check_answer(&case, &row, &fired);
    check_secrets(&case, &stage, &fired);
    match case.reaches {
        Reaches::Nothing => assert_eq!(fired.asked, 0, "{}", case.code),
        Reaches::Whole => assert_eq!(fired.asked, 1, "{}", case.code),
        Reaches::Part => {}
    }
    check_record(&row, &stage.record(&id).await);
    let metrics = get(stage.gateway.console(), "/metrics").await.body;
    let count = format!("seaworthy_problems_total{{code=\"{}\"}} 1\n", case.code);
    assert!(metrics.contains(&count), "{count} is missing: {metrics}");
    assert_eq!(fired.closed, case.closes, "{}", case.code);
    assert!(case.closes || fired.goes_on().await, "{}: the connection is lost", case.code);
    drop(fired);
    stage.stop().await;
}

/// Checks the shape of RFC 9457 and what else the manual promises. Returns the request's id.
fn check_answer(case: &Case, row: &Documented, fired: &Fired) -> String {
    let Fired { response, .. } = fired;
    let code = case.code;
    assert_eq!(response.status, row.status, "{code}: {response:?}");
    assert_eq!(response.field("content-type"), Some("application/problem+json"), "{code}");
    assert_eq!(response.field("cache-control"), Some("no-store"), "{code}");
    let closing = case.closes.then_some("close");
    assert_eq!(response.field("connection"), closing, "{code}: the client is told");
    let id = response.field("x-request-id").unwrap_or_else(|| panic!("{code}: it has no id"));

    let problem = response.json();
    let members = problem.as_object().unwrap_or_else(|| panic!("{code}: {problem}"));
    let mut names = vec!["code", "detail", "instance", "request_id", "status", "title", "type"];
    if !case.errors.is_empty() {
        names.push("errors");
    }
    names.sort_unstable();
    let mut found: Vec<&str> = members.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, names, "{code}");
    assert_eq!(problem["type"], format!("/.seaworthy/problems/{code}"));
    assert_eq!(problem["status"], row.status, "{code}");
    assert_eq!(problem["code"], code);
    assert_eq!(problem["request_id"], id, "{code}");
    assert_eq!(problem["instance"], format!("urn:seaworthy:request:{id}"), "{code}");
    for member in ["title", "detail"] {
        let text = problem[member].as_str().unwrap_or_default();
        assert!(!text.trim().is_empty(), "{code}: {member} says nothing: {problem}");
    }
    check_errors(case, &problem);

    let waits: Option<u64> = response
        .field("retry-after")
        .map(|value| value.parse().unwrap_or_else(|error| panic!("{code}: {error}: {value}")));
    match (&case.retry_after_s, waits) {
        (Some(expected), Some(waits)) => assert!(expected.contains(&waits), "{code}: {waits}"),
        (expected, waits) => assert_eq!(waits.is_some(), expected.is_some(), "{code}: {waits:?}"),
    }
    assert!(
        !row.remedy.contains("Retry-After") || waits.is_some(),
        "{code}: the manual sends the client to Retry-After"
    );
    id.to_owned()
}

/// `errors` names the parts of the request that are at fault, each with a sentence.
fn check_errors(case: &Case, problem: &Value) {
    let errors = problem["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let places: Vec<&str> = errors.iter().filter_map(|error| error["at"].as_str()).collect();
    assert_eq!(places, case.errors, "{}: {problem}", case.code);
    for error in errors {
        let members: Vec<&str> =
            error.as_object().expect("an object").keys().map(String::as_str).collect();
        let plain = members == ["at", "detail"] || members == ["at", "detail", "keyword"];
        assert!(plain, "{}: {members:?}", case.code);
        assert!(!error["detail"].as_str().unwrap_or_default().is_empty(), "{}", case.code);
    }
}

/// The client is told less than the log: nothing of where the service is.
fn check_secrets(case: &Case, stage: &Stage, fired: &Fired) {
    let port = format!(":{}", stage.service_addr().port());
    let told = format!("{:?}{}", fired.response.fields, fired.response.body);
    assert!(!told.contains(&port), "{}: {port} is told: {told}", case.code);
}

/// The record has the code as its reason, and says who ended the request.
fn check_record(row: &Documented, record: &Value) {
    assert_eq!(record["reason"], row.code, "{record}");
    assert_eq!(record["status"], row.status, "{record}");
    let (ending, denied) = match row.raised_by.as_str() {
        "request" | "gateway" => ("refused", None),
        "upstream" => ("upstream_failed", None),
        protection => ("denied", Some(protection)),
    };
    assert_eq!(record["ending"], ending, "{record}");
    let rules: Vec<&str> = record["denied"]
        .as_array()
        .expect("a list of rules")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    // An operation's rule is its protection's.
    let rules = rules.iter().map(|rule| rule.split('@').next().expect("a name"));
    assert_eq!(rules.collect::<Vec<_>>(), Vec::from_iter(denied), "{record}");
}

#[tokio::test]
async fn every_type_leads_to_a_page_that_explains_it() {
    let upstream = Upstream::ok().await;
    let gateway = Gateway::start(upstream.addr, "").await;
    let manual = manual();
    assert!(!manual.is_empty());
    for Documented { code, status, raised_by, remedy } in &manual {
        let page = get(gateway.addr(), &format!("/.seaworthy/problems/{code}")).await;
        assert_eq!(page.status, 200, "{code}");
        assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"), "{code}");
        let remedy = remedy.replace('\'', "&#39;");
        for said in [code.as_str(), &status.to_string(), raised_by, &remedy] {
            assert!(page.body.contains(said), "{code}: {said} is missing: {}", page.body);
        }
    }
    let page = get(gateway.addr(), "/.seaworthy/problems/no-such-code").await;
    assert_eq!((page.status, page.json()["code"].as_str()), (404, Some("not-found")));
    assert_eq!(upstream.received(), Vec::<String>::new(), "the pages are the gateway's own");
    gateway.stop().await;
}
