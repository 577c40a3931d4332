//! The list of clients: filters above, who breaks if a rule is enforced, a page at a time.

use jiff::Timestamp;
use maud::{Markup, html};
use seaworthy_policy::consumer::ConsumerKind;
use seaworthy_policy::problem::FieldError;
use seaworthy_store::telemetry::{
    ConsumerObjections, ConsumerRow, ConsumersPage, NamedCounts, RuleFilter,
};

use super::{Here, day_and_time, document};
use crate::evidence::EvidenceError;
use crate::figures::count;
use crate::query::{Query, link};

/// What the filters led to.
pub(crate) enum Found {
    Page(Box<ConsumersPage>),
    /// The filters make no sense.
    Faults(Vec<FieldError>),
    /// The store could not be asked.
    Failed(EvidenceError),
}

/// The filters that the form offers: name, label, example.
const FIELDS: [(&str, &str, &str); 4] = [
    ("rule", "Rule", "rate_limit"),
    ("client", "Client", "ip:203.0.113.7"),
    ("tenant", "Tenant", "acme"),
    ("since", "Since", "7d"),
];

/// Names that a list shows; the API has all that are kept.
const NAMES_SHOWN: usize = 3;

pub(crate) fn render(service: &str, query: &Query, found: &Found) -> String {
    // Where it makes no sense, there are no rows.
    let rule: Option<RuleFilter> = query.value("rule").parse().ok();
    let main = html! {
        section aria-labelledby="consumers-title" {
            div.heading {
                h2 #consumers-title { "Consumers" }
                p {
                    @if query.value("rule").is_empty() {
                        "Who calls, the busiest first. With a rule: whom it would break today."
                    } @else {
                        "To whom the rule objects, the most harmed first."
                    }
                }
            }
            (form(query))
            @match found {
                Found::Page(page) => { (summary(page)) }
                Found::Faults(faults) => {
                    ul.faults role="alert" {
                        @for fault in faults { li { (fault.detail) } }
                    }
                }
                Found::Failed(_) => {}
            }
            table.cards.consumers role="table" aria-labelledby="consumers-title" {
                (head())
                tbody role="rowgroup" {
                    @match found {
                        Found::Page(page) if page.rows.is_empty() => { (remark(nobody(page, query))) }
                        Found::Page(page) => { @for consumer in &page.rows { (row(consumer, rule.as_ref())) } }
                        Found::Faults(_) => { (remark("Correct the filters above.")) }
                        Found::Failed(error) => {
                            (remark(&format!("No consumers to show: {error}.")))
                        }
                    }
                }
            }
            @if let Found::Page(page) = found { (beyond(page)) }
            (pager(query, found))
        }
    };
    document(service, Here::Consumers, None, html! {}, main)
}

fn form(query: &Query) -> Markup {
    html! {
        form.filters.who method="get" action="/consumers" {
            @for (name, label, example) in FIELDS {
                label {
                    (label)
                    input name=(name) value=(query.value(name)) placeholder=(example)
                        autocomplete="off" spellcheck="false";
                }
            }
            label {
                "Kind"
                select name="kind" {
                    option value="" { "any" }
                    @for kind in ConsumerKind::ALL.map(ConsumerKind::as_str) {
                        option value=(kind) selected[query.value("kind") == kind] { (kind) }
                    }
                }
            }
            @let limit = query.value("limit");
            @if !limit.is_empty() { input type="hidden" name="limit" value=(limit); }
            button { "Show" }
            a href="/consumers" { "Clear" }
        }
    }
}

/// Who breaks, else how many there are.
fn summary(page: &ConsumersPage) -> Markup {
    let since = page.since_unix_ms.and_then(|since| Timestamp::from_millisecond(since).ok());
    let harmed = page.impact.as_ref().is_some_and(|impact| impact.harmed > 0);
    html! {
        p.impact.harmed[harmed] {
            @match page.sentence() {
                Some(sentence) => { (capitalised(&sentence)) "." }
                None => {
                    (count(page.consumers))
                    @if page.consumers == 1 { " client" } @else { " clients" }
                    "."
                }
            }
            @if let Some(since) = since {
                small { " Since " time datetime=(since) { (since.strftime("%Y-%m-%d")) } ", in whole days of UTC." }
            }
        }
    }
}

fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn head() -> Markup {
    html! {
        thead role="rowgroup" {
            tr role="row" {
                th scope="col" role="columnheader" { "Client" }
                th.number scope="col" role="columnheader" { "Requests" }
                th scope="col" role="columnheader" { "Last seen" }
                th scope="col" role="columnheader" { "Tenants" }
                th scope="col" role="columnheader" { "User agents" }
                th scope="col" role="columnheader" { "Objections" }
            }
        }
    }
}

fn row(consumer: &ConsumerRow, rule: Option<&RuleFilter>) -> Markup {
    let asked_for = |said: &&ConsumerObjections| rule.is_none_or(|rule| rule.matches(&said.rule));
    html! {
        tr role="row" {
            th scope="row" role="rowheader" {
                a href=(link("/requests", "client", &consumer.client)) { code { (consumer.client) } }
                " " span.kind.(consumer.kind.as_str()) { (consumer.kind) }
            }
            td.number role="cell" data-label="Requests" { (count(consumer.requests)) }
            td.when role="cell" data-label="Last seen" { (day_and_time(consumer.last_unix_ms)) }
            td role="cell" data-label="Tenants" { (names(&consumer.tenants, None)) }
            td role="cell" data-label="User agents" { (names(&consumer.agents, Some("none"))) }
            td.why role="cell" data-label="Objections" {
                @for objections in consumer.objections.iter().filter(asked_for) {
                    (sentence(objections, consumer.requests))
                }
                @if consumer.objections.is_empty() { "–" }
            }
        }
    }
}

fn sentence(objections: &ConsumerObjections, requests: u64) -> Markup {
    let ConsumerObjections { rule, would_deny, denied, harm } = objections;
    html! {
        @if *would_deny > 0 {
            span.objection.would {
                a href=(link("/consumers", "rule", rule)) { code { (rule) } }
                " would deny " (count(*would_deny)) " of " (count(requests))
                @if *harm > 0 { " " span.harm { "▲ " (count(*harm)) " harm" } }
            }
        }
        @if *denied > 0 {
            span.objection.denied {
                a href=(link("/consumers", "rule", rule)) { code { (rule) } }
                " denied " (count(*denied)) " of " (count(requests))
            }
        }
    }
}

/// The most frequent names. An empty one is shown as `nameless`, or not at all.
fn names(counts: &NamedCounts, nameless: Option<&str>) -> Markup {
    let all: Vec<&str> = counts
        .names
        .iter()
        .filter_map(|count| Some(count.name.as_str()).filter(|name| !name.is_empty()).or(nameless))
        .collect();
    html! {
        @for name in all.iter().take(NAMES_SHOWN) { span.name { (name) } }
        @if all.len() > NAMES_SHOWN || counts.other > 0 { span.name { "and others" } }
        @if all.is_empty() && counts.other == 0 { "–" }
    }
}

/// Why there is no row.
fn nobody(page: &ConsumersPage, query: &Query) -> &'static str {
    let filtered = ["kind", "tenant", "client"].iter().any(|name| !query.value(name).is_empty());
    match page.consumers {
        0 if !filtered => "No client was seen. Send requests through the gateway.",
        0 => "No clients match these filters.",
        _ if !query.value("before").is_empty() => "There are no more.",
        _ => "The rule objects to none of them.",
    }
}

/// What is in no row.
fn beyond(page: &ConsumersPage) -> Markup {
    html! {
        @if let Some(others) = &page.others {
            p.note {
                (count(page.consumers_max as u64)) " clients are told apart; "
                (count(others.requests)) " requests of others are counted together. "
                @for objections in &others.objections { (sentence(objections, others.requests)) }
            }
        }
        @if page.records_dropped > 0 {
            p.note {
                (count(page.records_dropped))
                " requests could not be counted: the figures are not of all."
            }
        }
    }
}

fn remark(text: &str) -> Markup {
    html! { tr.empty role="row" { td role="cell" colspan="6" { (text) } } }
}

fn pager(query: &Query, found: &Found) -> Markup {
    let next = match found {
        Found::Page(page) => page.next,
        Found::Faults(_) | Found::Failed(_) => None,
    };
    html! {
        nav.pager aria-label="Pages of the list" {
            @if !query.value("before").is_empty() {
                a href=(format!("/consumers{}", query.with_before(""))) { "First" }
            }
            @if let Some(next) = next {
                a href=(format!("/consumers{}", query.with_before(&next.to_string()))) { "More" }
            }
        }
    }
}
