use std::sync::Arc;

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::consumer::Agent;
use seaworthy_policy::names::{Names, RuleName};
use seaworthy_policy::record::{RequestRecord, Tenant, Verdict};
use seaworthy_policy::registry::{REGISTRY, position};

use super::super::fixture::{NOON_MS, denied, record, would_be_denied};
use super::super::{Telemetry, TelemetryConfig};
use super::*;

const DAY_MS: i64 = Day::MS;

fn open(dir: &std::path::Path, names: &Arc<Names>) -> Telemetry {
    let ages = "3650d".parse().unwrap();
    let config =
        TelemetryConfig { retention: ages, rollup_retention: ages, ..TelemetryConfig::default() };
    Telemetry::open(dir, config, Arc::clone(names)).unwrap()
}

async fn store(telemetry: &Telemetry, records: &[RequestRecord]) {
    let mut aggregator = telemetry.aggregator();
    records.iter().for_each(|record| aggregator.observe(record));
    telemetry.submit(aggregator.flush(NOON_MS, 0));
    telemetry.flush().await.unwrap();
}

fn of(client: u64, seconds: i64, record: RequestRecord) -> RequestRecord {
    RequestRecord {
        client: ClientKey::Bearer(client),
        started_unix_ms: NOON_MS + seconds * 1000,
        duration_us: 0,
        ..record
    }
}

fn bearer(n: u64) -> String {
    ClientKey::Bearer(n).to_string()
}

fn clients(page: &ConsumersPage) -> Vec<u64> {
    let number = |row: &ConsumerRow| {
        u64::from_str_radix(row.client.strip_prefix("bearer:").unwrap(), 16).unwrap()
    };
    page.rows.iter().map(number).collect()
}

#[tokio::test]
async fn a_client_is_read_back_with_all_that_belongs_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let names = Arc::new(Names::new());
    let route = names.intern_route("POST /api/traces");
    names.intern_rule(RuleName { protection: 0, route: Some(names.route(route)) });
    let telemetry = open(dir.path(), &names);
    let curl = Agent::from("curl/8.5.0").unwrap();
    let missed = RequestRecord { status: 404, ..would_be_denied() };
    store(&telemetry, &[of(1, -DAY_MS / 1000, record()), of(1, 0, record())]).await;
    store(
        &telemetry,
        &[
            of(1, 1, would_be_denied()),
            of(1, 2, RequestRecord { tenant: Tenant::default(), ..missed }),
            of(1, 3, RequestRecord { route, agent: curl, ..denied() }),
            of(1, 4, RequestRecord { kind: ConsumerKind::External, ..record() }),
        ],
    )
    .await;
    let filter = ConsumerFilter { since_unix_ms: Some(NOON_MS), ..ConsumerFilter::default() };
    let page = telemetry.reader().consumers(&filter).unwrap();
    let counts = |counts: &[(&str, u64)]| NamedCounts {
        names: counts
            .iter()
            .map(|(name, requests)| NamedCount { name: (*name).to_owned(), requests: *requests })
            .collect(),
        other: 0,
    };
    let objections = |rule: &str, would_deny, denied, harm| ConsumerObjections {
        rule: rule.to_owned(),
        would_deny,
        denied,
        harm,
    };
    let first = REGISTRY[0].name;
    let row = ConsumerRow {
        client: bearer(1),
        kind: ConsumerKind::External,
        first_unix_ms: NOON_MS - DAY_MS,
        last_unix_ms: NOON_MS + 4000,
        requests: 5,
        agents: counts(&[("desk/1", 4), ("curl/8.5.0", 1)]),
        tenants: counts(&[("acme", 4), ("", 1)]),
        routes: counts(&[("other", 4), ("POST /api/traces", 1)]),
        objections: vec![
            objections(first, 2, 0, 1),
            objections(&format!("{first}@POST /api/traces"), 0, 1, 0),
        ],
    };
    assert_eq!(page.rows, [row]);
    assert_eq!((page.consumers, page.records_dropped, page.next), (1, 0, None));
    assert_eq!(page.since_unix_ms, Some(Day::of_unix_ms(NOON_MS).start_unix_ms()));
    assert_eq!((page.others, page.impact), (None, None));
    // Of all days.
    let ever = telemetry.reader().consumers(&ConsumerFilter::default()).unwrap();
    assert_eq!((ever.rows[0].requests, ever.since_unix_ms), (6, None));
}

#[tokio::test]
async fn filters_choose_and_a_rule_asks_who_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let names = Arc::new(Names::new());
    let route = names.intern_route("GET /pets");
    names.intern_rule(RuleName { protection: 0, route: Some(names.route(route)) });
    let telemetry = open(dir.path(), &names);
    let missed = RequestRecord { status: 404, ..would_be_denied() };
    let globex = Tenant::from("globex").unwrap();
    let mut csrf = record();
    csrf.verdicts.set(position("csrf").unwrap(), Verdict::WouldDeny);
    store(
        &telemetry,
        &[
            of(1, 1, record()),
            of(2, 2, would_be_denied()),
            of(3, 3, RequestRecord { route, tenant: globex, ..would_be_denied() }),
            of(3, 3, would_be_denied()),
            of(4, 4, missed),
            of(5, 5, RequestRecord { kind: ConsumerKind::External, ..csrf }),
            of(6, -DAY_MS / 1000, would_be_denied()),
        ],
    )
    .await;
    let first = REGISTRY[0].name;
    let today = || ConsumerFilter { since_unix_ms: Some(NOON_MS), ..ConsumerFilter::default() };
    let rule = |rule: &str| ConsumerFilter { rule: Some(rule.parse().unwrap()), ..today() };
    let pets = format!("{first}@GET /pets");
    let external = Some(ConsumerKind::External);
    let tenant = |name: &str| Some(name.to_owned());
    let cases: [(&str, ConsumerFilter, &[u64], u64); 11] = [
        ("everyone, the busiest first", today(), &[3, 5, 4, 2, 1], 5),
        ("of all days", ConsumerFilter::default(), &[3, 5, 4, 2, 1, 6], 6),
        ("a kind", ConsumerFilter { kind: external, ..today() }, &[5], 1),
        ("a tenant", ConsumerFilter { tenant: tenant("globex"), ..today() }, &[3], 1),
        ("a tenant of nobody", ConsumerFilter { tenant: tenant("x"), ..today() }, &[], 0),
        ("a client", ConsumerFilter { client: Some(bearer(2)), ..today() }, &[2], 1),
        ("not that day", ConsumerFilter { client: Some(bearer(6)), ..today() }, &[], 0),
        ("a protection, the most harmed first", rule(first), &[3, 2, 4], 5),
        ("a rule of a route", rule(&pets), &[3], 5),
        ("another rule", rule("csrf"), &[5], 5),
        ("a rule, of a kind", ConsumerFilter { kind: external, ..rule(first) }, &[], 1),
    ];
    for (name, filter, expected, all) in cases {
        let page = telemetry.reader().consumers(&filter).unwrap();
        assert_eq!((clients(&page), page.consumers), (expected.to_vec(), all), "{name}");
    }

    for (rule, want) in [
        (
            rule(first),
            format!("breaks 2 of 5 clients: {} (2 requests), {} (1 request)", bearer(3), bearer(2)),
        ),
        (
            ConsumerFilter { client: Some(bearer(4)), ..rule(first) },
            "breaks none of 1 client: it objects to requests of 1, and the service answers none \
             of those with success"
                .to_owned(),
        ),
        (
            ConsumerFilter { client: Some(bearer(1)), ..rule(first) },
            "breaks none of 1 client: it objects to nothing that they send".to_owned(),
        ),
    ] {
        let page = telemetry.reader().consumers(&rule).unwrap();
        assert_eq!(page.sentence().unwrap(), format!("enforcing {first} today {want}"));
    }
    // A route that is misspelt is no all clear.
    let misspelt = rule("csrf@POST /nope");
    let page = telemetry.reader().consumers(&misspelt).unwrap();
    assert!(!page.impact.as_ref().unwrap().has_judged);
    let said = page.sentence().unwrap();
    assert!(said.starts_with("csrf@POST /nope has judged no request here: "), "{said}");
    for (asked, rule, matches) in [
        ("csrf", "csrf", true),
        ("csrf", "csrf@POST /a", true),
        ("csrf@POST /a", "csrf@POST /a", true),
        ("csrf@POST /a", "csrf@POST /ab", false),
        ("csrf@POST /a", "csrf", false),
        ("csrf", "cors", false),
    ] {
        assert_eq!(asked.parse::<RuleFilter>().unwrap().matches(rule), matches, "{asked} {rule}");
    }
    assert_eq!("nonsense@/a".parse::<RuleFilter>(), Err(FilterError::Rule("nonsense@/a".into())));
}

#[tokio::test]
async fn pages_follow_the_key_in_both_orders() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = open(dir.path(), &Arc::new(Names::new()));
    // Several in each second, and as harmed.
    let all: Vec<_> = (0..25).map(|n| of(n, n as i64 / 4, would_be_denied())).collect();
    store(&telemetry, &all).await;
    for rule in [None, Some(REGISTRY[0].name.parse().unwrap())] {
        let limit = PageLimit::new(10).unwrap();
        let mut filter = ConsumerFilter { rule, limit, ..ConsumerFilter::default() };
        let mut seen = Vec::new();
        loop {
            let page = telemetry.reader().consumers(&filter).unwrap();
            assert_eq!(page.consumers, 25);
            if let Some(impact) = &page.impact {
                assert_eq!((impact.harmed, impact.worst.len()), (25, WORST_MAX));
                assert!(page.sentence().unwrap().ends_with(" and 20 more"));
            }
            seen.extend(clients(&page));
            match page.next {
                Some(next) => filter.before = Some(next.to_string().parse().unwrap()),
                None => break,
            }
        }
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..25), "{:?}: {seen:?}", filter.rule);
    }
    for text in ["", "1_2", "1_2_3_4", "a_1_2", "1__2"] {
        let error = FilterError::PageKey(text.to_owned());
        assert_eq!(text.parse::<ConsumerPageKey>(), Err(error));
    }
}

#[tokio::test]
async fn names_of_many_days_are_bounded_and_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = open(dir.path(), &Arc::new(Names::new()));
    let day = |day: i64| {
        let agent = move |n| Agent::from(&format!("agent/{day}-{n}")).unwrap();
        (0..20)
            .map(move |n| of(1, day * DAY_MS / 1000, RequestRecord { agent: agent(n), ..record() }))
    };
    store(&telemetry, &(0..3).flat_map(day).collect::<Vec<_>>()).await;
    let page = telemetry.reader().consumers(&ConsumerFilter::default()).unwrap();
    let agents = &page.rows[0].agents;
    let named: u64 = agents.names.iter().map(|count| count.requests).sum();
    assert_eq!((agents.names.len(), named + agents.other, page.rows[0].requests), (16, 60, 60));
}

#[test]
fn a_client_is_told_of_in_one_sentence() {
    let said = |would_deny, denied, harm| {
        ConsumerObjections { rule: "access".to_owned(), would_deny, denied, harm }.sentence(40)
    };
    for (sentence, want) in [
        (said(12, 0, 12), "12 of 40 requests would be denied, 12 of them answered with success"),
        (said(1, 0, 0), "1 of 40 requests would be denied, none of them answered with success"),
        (
            said(5, 2, 1),
            "5 of 40 requests would be denied, 1 of them answered with success; 2 denied already",
        ),
        (said(0, 3, 0), "3 of 40 requests denied"),
    ] {
        assert_eq!(sentence, format!("access: {want}"));
    }
}

/// Neither is found by walking over what belongs to all clients.
#[test]
fn what_belongs_to_a_client_or_a_rule_has_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let (connection, _lock) =
        crate::sqlite::open_writer(dir.path(), &super::super::SCHEMA).unwrap();
    for set in 0..32 {
        let has = |bit: u32| set & (1 << bit) != 0;
        let text = |bit: u32| has(bit).then(|| "x".to_owned());
        let filter = ConsumerFilter {
            kind: has(0).then_some(ConsumerKind::Internal),
            tenant: text(1),
            client: text(2),
            rule: has(3).then(|| RuleFilter("csrf".to_owned())),
            since_unix_ms: Some(NOON_MS),
            before: has(4).then_some(ConsumerPageKey([1, 2, 3])),
            limit: PageLimit::default(),
        };
        let (from, values) = Query::new(&filter).from();
        let plan: Vec<String> = connection
            .prepare(&format!("EXPLAIN QUERY PLAN SELECT {}{from}", COLUMNS.join(", ")))
            .unwrap()
            .query_map(params_from_iter(values), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for step in &plan {
            let walks = step.starts_with("SCAN consumer_");
            assert!(!walks, "{filter:?}: {plan:?}");
        }
    }
}
