//! `/.seaworthy/deprecations`: to a developer, what this gateway will deny that it lets pass now.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use seaworthy_policy::mode::{Mode, Share};
use seaworthy_policy::problem::{Code, Rendering, escape, page};
use seaworthy_policy::registry::REGISTRY;
use serde::Serialize;

use crate::snapshot::{Link, Snapshot, slug};

#[derive(Serialize)]
struct Listed<'a> {
    rules: Vec<Rule<'a>>,
}

/// One rule that does not enforce for everybody yet.
#[derive(Serialize)]
struct Rule<'a> {
    rule: &'a str,
    summary: &'a str,
    mode: String,
    /// The day from which it is to be enforced, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced_from: Option<&'a str>,
    codes: Vec<Explained>,
}

#[derive(Serialize)]
struct Explained {
    code: &'static str,
    status: u16,
    title: &'static str,
    remedy: &'static str,
}

/// The page, in the wanted form.
pub(super) fn answer(snapshot: &Snapshot, rendering: Rendering) -> String {
    let listed = list(snapshot);
    match rendering {
        Rendering::Json => serde_json::to_string(&listed).expect("plain data always serialises"),
        Rendering::Html => html(&listed),
    }
}

fn list(snapshot: &Snapshot) -> Listed<'_> {
    let mut rules: BTreeMap<(usize, &str), Rule<'_>> = BTreeMap::new();
    for link in snapshot.links() {
        let mode = snapshot.modes.get(link.rule);
        let entry = REGISTRY[link.position];
        if matches!(mode, Mode::Off | Mode::Enforce(Share::ALL)) || entry.codes.is_empty() {
            continue;
        }
        rules.entry((link.position, &link.rule_name)).or_insert_with(|| rule(link, mode));
    }
    Listed { rules: rules.into_values().collect() }
}

fn rule(link: &Link, mode: Mode) -> Rule<'_> {
    let entry = REGISTRY[link.position];
    let explained = |code: &Code| {
        let entry = code.entry();
        Explained {
            code: entry.name,
            status: entry.status.as_u16(),
            title: entry.title,
            remedy: entry.remedy,
        }
    };
    Rule {
        rule: &link.rule_name,
        summary: entry.summary,
        mode: mode.to_string(),
        enforced_from: link.announcement.as_ref().and_then(|notice| notice.date.as_deref()),
        codes: entry.codes.iter().map(explained).collect(),
    }
}

fn html(listed: &Listed<'_>) -> String {
    let mut inner = String::from(
        "<p>These rules judge requests and let them pass all the same, for now. A response to a \
         request that one of them would deny says so in <code>Deprecation</code> and \
         <code>Link</code>. <a href=\"/.seaworthy/me\">What it was in your own requests</a></p>",
    );
    for rule in &listed.rules {
        let name = escape(rule.rule);
        let when = match rule.enforced_from {
            Some(date) => format!("It is to be enforced from {}.", escape(date)),
            None => "No date is set for its enforcement.".to_owned(),
        };
        write!(
            inner,
            "<h2 id=\"{}\">{name}</h2><p>{} {when}</p><ul>",
            slug(rule.rule),
            escape(rule.summary)
        )
        .expect("a String takes every write");
        for code in &rule.codes {
            write!(
                inner,
                "<li><a href=\"/.seaworthy/problems/{0}\">{0}</a>: {1}</li>",
                code.code,
                escape(code.remedy)
            )
            .expect("a String takes every write");
        }
        inner.push_str("</ul>");
    }
    if listed.rules.is_empty() {
        inner.push_str("<p>There are none.</p>");
    }
    page("What will be denied", &inner)
}
