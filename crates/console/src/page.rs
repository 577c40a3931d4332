//! The console's pages: complete as the server renders them, readable without script.
//!
//! Every page is one file; [`document`] is what they have in common. No page has inline
//! script, inline style, or anything from another origin.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use serde_json::{Map, Value};

use crate::live::LiveView;

pub(crate) mod consumers;
pub(crate) mod overview;
pub(crate) mod requests;
pub(crate) mod rollout;
pub(crate) mod rollouts;

mod chart;
mod gateway;
mod request_rows;
mod rules;
mod traffic;
mod upstreams;

/// The pages that the head of each of them links to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Here {
    Overview,
    Rules,
    Requests,
    Consumers,
}

impl Here {
    const ALL: [Self; 4] = [Self::Overview, Self::Rules, Self::Requests, Self::Consumers];

    /// Its path and its name.
    const fn link(self) -> (&'static str, &'static str) {
        match self {
            Self::Overview => ("/", "Overview"),
            Self::Rules => ("/rules", "Rules"),
            Self::Requests => ("/requests", "Requests"),
            Self::Consumers => ("/consumers", "Consumers"),
        }
    }
}

/// A part of a page that changes, with the id of the element that holds it.
struct Part {
    id: &'static str,
    html: Markup,
}

/// Parts as a JSON object from id to HTML, for the script.
fn parts_json(parts: impl IntoIterator<Item = Part>) -> String {
    let parts: Map<String, Value> = parts
        .into_iter()
        .map(|part| (part.id.to_owned(), Value::String(part.html.into_string())))
        .collect();
    Value::Object(parts).to_string()
}

/// Up to when the figures of `live` go.
fn as_of(live: &LiveView) -> Part {
    Part { id: "as-of", html: time_of_day(live.traffic.at_unix_s * 1000) }
}

/// What a page says of its own age; newer parts of it arrive on `events`.
fn updates(as_of: &Part, events: &str) -> Markup {
    html! {
        div.updates {
            p { "As of " span id=(as_of.id) { (as_of.html) } }
            p id="connection" role="status" data-events=(events) {}
            noscript { p { "Reload for newer figures." } }
        }
    }
}

/// A whole page: which one, of what, what stands beside the title in its head, the rest.
fn document(
    service: &str,
    here: Here,
    subject: Option<&str>,
    beside: Markup,
    main: Markup,
) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title {
                    @if let Some(subject) = subject { (subject) " · " }
                    @if here != Here::Overview { (here.link().1) " · " }
                    (service) " · Seaworthy"
                }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/console.css";
                script src="/assets/console.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    div.title {
                        p.brand { "Seaworthy" }
                        h1 { (service) }
                    }
                    nav aria-label="Pages" {
                        @for page in Here::ALL {
                            @let (path, name) = page.link();
                            a href=(path) aria-current=[(page == here).then_some("page")] { (name) }
                        }
                    }
                    (beside)
                }
                main #main tabindex="-1" { (main) }
                footer {
                    p {
                        "The same figures for programs: "
                        a href="/api/v1/overview" { "overview" } ", "
                        a href="/api/v1/protections" { "protections" } ", "
                        a href="/api/v1/rules" { "rules" } ", "
                        a href="/api/v1/receipts" { "receipts" } ", "
                        a href="/api/v1/requests" { "requests" } ", "
                        a href="/api/v1/consumers" { "consumers" } ", "
                        a href="/metrics" { "metrics" } ", "
                        a href="/readyz" { "readiness" } "."
                    }
                }
            }
        }
    };
    page.into_string()
}

/// `12:03:05 UTC`.
fn time_of_day(unix_ms: i64) -> Markup {
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or_default();
    html! {
        time datetime=(time) title=(time.strftime("%Y-%m-%d %H:%M:%S UTC")) {
            (time.strftime("%H:%M:%S")) " UTC"
        }
    }
}

/// `08-01 12:03 UTC`, the second in the title.
fn day_and_time(unix_ms: i64) -> Markup {
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or_default();
    html! {
        time datetime=(time) title=(time.strftime("%Y-%m-%d %H:%M:%S UTC")) {
            (time.strftime("%m-%d %H:%M")) " UTC"
        }
    }
}
