//! `/.seaworthy/me`: to a client, what was wrong with its own requests of late.
//!
//! A client is known by what it presents (a token, a key, a session), so nobody sees what another
//! one did. A client without any is one of many behind an address, and is shown nothing.

use std::fmt::Write as _;

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::problem::{Code, Denial, Rendering, escape, page};
use serde::Serialize;

use crate::findings::{Finding, Findings};

#[derive(Serialize)]
struct Mine {
    /// What telemetry and the operator call the client.
    client: String,
    would_deny: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    rule: String,
    code: &'static str,
    /// Of the last such request.
    path: String,
    count: u64,
    /// Unix time in milliseconds.
    first_unix_ms: i64,
    last_unix_ms: i64,
    last_request_id: String,
    detail: String,
    remedy: &'static str,
    errors: Vec<Place>,
}

#[derive(Serialize)]
struct Place {
    at: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    keyword: String,
    detail: String,
}

/// To a client that presents nothing.
const UNIDENTIFIED: &str = "This page shows a client its own requests: ask with the token, key or \
                            cookie that they carry.";

pub(super) fn answer(
    findings: &Findings,
    client: ClientKey,
    rendering: Rendering,
) -> Result<String, Denial> {
    if !client.is_identified() {
        return Err(Denial::new(Code::ClientUnidentified, UNIDENTIFIED).challenge("Bearer"));
    }
    let would_deny = findings.of(client).iter().map(found).collect();
    let mine = Mine { client: client.to_string(), would_deny };
    Ok(match rendering {
        Rendering::Json => serde_json::to_string(&mine).expect("plain data always serialises"),
        Rendering::Html => html(&mine),
    })
}

fn found(finding: &Finding) -> Found {
    let entry = finding.code.entry();
    let text = if finding.objection.detail.is_empty() {
        entry.title
    } else {
        finding.objection.detail.as_str()
    };
    let places = finding.objection.places.iter();
    Found {
        rule: finding.rule.to_string(),
        code: entry.name,
        path: finding.path.to_string(),
        count: finding.count,
        first_unix_ms: finding.first_unix_ms,
        last_unix_ms: finding.last_unix_ms,
        last_request_id: finding.request.to_string(),
        detail: text.to_owned(),
        remedy: entry.remedy,
        errors: places
            .map(|place| Place {
                at: place.at.to_string(),
                keyword: place.keyword.to_string(),
                detail: place.detail.to_string(),
            })
            .collect(),
    }
}

fn html(mine: &Mine) -> String {
    let mut inner = format!("<p>You are <code>{}</code>.</p>", escape(&mine.client));
    if mine.would_deny.is_empty() {
        inner.push_str("<p>Nothing of yours would have been denied of late.</p>");
    }
    for found in &mine.would_deny {
        let times = if found.count == 1 { "once".to_owned() } else { format!("{}×", found.count) };
        write!(
            inner,
            "<h2>{}</h2><p><code>{}</code>, {times}: {}. {}</p><ul>",
            escape(&found.path),
            escape(&found.rule),
            escape(&found.detail),
            escape(found.remedy)
        )
        .expect("a String takes every write");
        for place in &found.errors {
            write!(inner, "<li><code>{}</code>: {}</li>", escape(&place.at), escape(&place.detail))
                .expect("a String takes every write");
        }
        inner.push_str("</ul>");
    }
    page("What of yours would be denied", &inner)
}
