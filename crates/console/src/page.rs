//! The console's pages: complete as the server renders them, readable without script.
//!
//! Every page is one file; [`document`] is what they have in common. No page has inline
//! script, inline style, or anything from another origin.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

pub(crate) mod consumers;
pub(crate) mod overview;
pub(crate) mod requests;

mod chart;
mod gateway;
mod request_rows;
mod rules;
mod traffic;
mod upstreams;

/// A whole page: its title, what stands beside the title in the head of the page, the rest.
fn document(service: &str, title: Option<&str>, beside: Markup, main: Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { @if let Some(title) = title { (title) " · " } (service) " · Seaworthy" }
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
                        (link("/", "Overview", title.is_none()))
                        (link("/requests", "Requests", title == Some("Requests")))
                        (link("/consumers", "Consumers", title == Some("Consumers")))
                    }
                    (beside)
                }
                main #main tabindex="-1" { (main) }
                footer {
                    p {
                        "The same figures for programs: "
                        a href="/api/v1/overview" { "overview" } ", "
                        a href="/api/v1/protections" { "protections" } ", "
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

fn link(to: &str, words: &str, here: bool) -> Markup {
    html! { a href=(to) aria-current=[here.then_some("page")] { (words) } }
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
