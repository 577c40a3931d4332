//! The store as its users see it: real files, the real writer thread.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use rusqlite::Connection;
use seaworthy_policy::client::ClientKey;
use seaworthy_policy::evidence::{CLIENTS_MAX, ClientCounts, Lane, RuleEvidence};
use seaworthy_policy::names::RuleName;
use seaworthy_policy::record::{
    Marks, Positions, RequestRecord, RouteId, Tenant, Verdict, Verdicts,
};
use seaworthy_policy::registry::REGISTRY;

use super::fixture::{NOON_MS, denied, failed, record, would_be_denied};
use super::*;

const NOON_HOUR: TimeRange =
    TimeRange { since_unix_ms: NOON_MS, until_unix_ms: NOON_MS + 3_600_000 };

const MINUTE: NonZeroU32 = NonZeroU32::new(1).unwrap();

/// Keeps what is dated years ago.
fn config() -> TelemetryConfig {
    let ages = "3650d".parse().unwrap();
    TelemetryConfig { retention: ages, rollup_retention: ages, ..TelemetryConfig::default() }
}

fn open(dir: &Path) -> Telemetry {
    Telemetry::open(dir, config(), Arc::new(Names::new())).unwrap()
}

fn batch(telemetry: &Telemetry, records: &[RequestRecord]) -> Batch {
    let mut aggregator = telemetry.aggregator();
    records.iter().for_each(|record| aggregator.observe(record));
    aggregator.flush(NOON_MS, 0)
}

async fn store(telemetry: &Telemetry, records: &[RequestRecord]) {
    telemetry.submit(batch(telemetry, records));
    telemetry.flush().await.unwrap();
}

fn all(reader: &TelemetryReader) -> Vec<RequestRow> {
    let filter = RequestFilter {
        limit: PageLimit::new(PageLimit::MAX).unwrap(),
        ..RequestFilter::default()
    };
    reader.requests(&filter).unwrap().rows
}

#[tokio::test]
async fn a_request_is_read_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let names = Arc::new(Names::new());
    let route = names.intern_route("POST /api/traces");
    names.intern_rule(RuleName { protection: 1, route: Some(names.route(route)) });
    let telemetry = Telemetry::open(dir.path(), config(), names).unwrap();
    let mut full = RequestRecord { route, ..denied() };
    full.verdicts.set(1, Verdict::WouldDeny);
    full.verdicts.set(2, Verdict::WouldDeny);
    let bare =
        RequestRecord { tenant: Tenant::default(), started_unix_ms: NOON_MS - 1, ..record() };
    store(&telemetry, &[full, bare]).await;

    let rows = all(telemetry.reader());
    let expected = RequestRow {
        time_unix_ms: NOON_MS,
        id: "req-1".to_owned(),
        duration_us: 1500,
        upstream_us: 0,
        route: "POST /api/traces".to_owned(),
        method: "GET".to_owned(),
        status: 429,
        ending: "denied".to_owned(),
        client: "bearer:0000000000000abc".to_owned(),
        tenant: Some("acme".to_owned()),
        path: "/api/complaints".to_owned(),
        request_bytes: 10,
        response_bytes: 900,
        reason: Some("rate-limited".to_owned()),
        would_deny: vec![
            format!("{}@POST /api/traces", REGISTRY[1].name),
            REGISTRY[2].name.to_owned(),
        ],
        denied: vec![REGISTRY[0].name.to_owned()],
        upstream: None,
        weight: 1.0,
    };
    assert_eq!(rows[0], expected);
    let RequestRow { tenant, reason, would_deny, denied, upstream, .. } = &rows[1];
    assert_eq!((tenant, reason, *upstream), (&None, &None, Some(0)));
    assert!(would_deny.is_empty() && denied.is_empty());
}

#[tokio::test]
async fn runs_within_one_minute_add_up_and_names_keep_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    // Each run knows the routes by other numbers.
    for routes in [["/a", "/b"], ["/b", "/a"], ["/a", "/c"]] {
        let names = Arc::new(Names::new());
        let ids = routes.map(|route| names.intern_route(route));
        let telemetry = Telemetry::open(dir.path(), config(), names).unwrap();
        for _ in 0..2 {
            store(&telemetry, &ids.map(|route| RequestRecord { route, ..record() })).await;
        }
        telemetry.close().await.unwrap();
    }
    let reader = TelemetryReader::open_read_only(dir.path()).unwrap();
    let routes = reader.routes_summary(NOON_HOUR).unwrap();
    let counts: Vec<_> = routes.iter().map(|r| (r.route.as_str(), r.traffic.requests)).collect();
    assert_eq!(counts, [("/a", 6), ("/b", 4), ("/c", 2)]);
    assert_eq!(all(&reader).len(), 12);
    let points = reader.rollups(NOON_HOUR, MINUTE).unwrap();
    assert_eq!(points.len(), 1);
    assert_eq!(points[0].traffic.latency.count(), 12);
    assert_eq!(points[0].traffic.latency.sum_us, 12 * 1500);
}

#[tokio::test]
async fn the_last_handle_writes_what_was_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = open(dir.path());
    telemetry.submit(batch(&telemetry, &[record()]));
    drop(telemetry);
    assert_eq!(all(open(dir.path()).reader()).len(), 1);
}

#[tokio::test]
async fn charts_tell_rate_errors_and_duration_of_each_step() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = open(dir.path());
    let at = |minute: i64, record: RequestRecord| RequestRecord {
        started_unix_ms: NOON_MS + minute * 60_000,
        ..record
    };
    let mut records = vec![at(0, failed()), at(0, denied()), at(3, record()), at(60, record())];
    records.extend((0..98).map(|n| at(0, RequestRecord { duration_us: n * 10, ..record() })));
    store(&telemetry, &records).await;
    let mut aggregator = Aggregator::new(&config(), Arc::new(Names::new()), 1, NOON_MS + 240_000);
    telemetry.submit(aggregator.flush(NOON_MS + 241_000, 5));
    telemetry.flush().await.unwrap();

    let points = telemetry.reader().rollups(NOON_HOUR, MINUTE).unwrap();
    let shape: Vec<_> = points
        .iter()
        .map(|p| ((p.minute_unix_ms - NOON_MS) / 60_000, p.traffic.requests, p.records_dropped))
        .collect();
    assert_eq!(shape, [(0, 100, 0), (3, 1, 0), (4, 0, 5)]);
    let Traffic { errors_4xx, errors_5xx, response_bytes, p50_us, p99_us, .. } = points[0].traffic;
    assert_eq!((errors_4xx, errors_5xx, response_bytes), (1, 1, 90_000));
    assert!((250..=500).contains(&p50_us.unwrap()), "{p50_us:?}");
    assert!((1000..=1500).contains(&p99_us.unwrap()), "{p99_us:?}");
    assert_eq!(points[2].traffic, Traffic::default());

    let five = telemetry.reader().rollups(NOON_HOUR, NonZeroU32::new(5).unwrap()).unwrap();
    assert_eq!(five.len(), 1);
    assert_eq!((five[0].minute_unix_ms, five[0].records_dropped), (NOON_MS, 5));
    assert_eq!(five[0].traffic.requests, 101);
}

#[tokio::test]
async fn rules_are_summed_and_a_window_with_drops_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = open(dir.path());
    let missed = RequestRecord { status: 404, ..would_be_denied() };
    store(&telemetry, &[record(), would_be_denied(), missed, denied()]).await;
    let summary = telemetry.reader().rules_summary(NOON_HOUR).unwrap();
    let rule = RuleSummary {
        rule: REGISTRY[0].name.to_owned(),
        evaluated: 4,
        would_deny: 2,
        denied: 1,
        harm: 1,
    };
    assert_eq!(summary, RulesSummary { records_dropped: 0, rules: vec![rule] });

    let mut aggregator = Aggregator::new(&config(), Arc::new(Names::new()), 1, NOON_MS);
    telemetry.submit(aggregator.flush(NOON_MS + 1000, 3));
    telemetry.flush().await.unwrap();
    assert_eq!(telemetry.reader().rules_summary(NOON_HOUR).unwrap().records_dropped, 3);
}

#[tokio::test]
async fn pages_follow_the_key_and_miss_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = open(dir.path());
    // Several in each millisecond, out of order.
    let records: Vec<_> = (0..95)
        .map(|n| RequestRecord {
            started_unix_ms: NOON_MS + (n * 7) % 10,
            duration_us: n as u32,
            ..record()
        })
        .collect();
    store(&telemetry, &records).await;
    let mut filter =
        RequestFilter { limit: PageLimit::new(10).unwrap(), ..RequestFilter::default() };
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        let page = telemetry.reader().requests(&filter).unwrap();
        seen.extend(page.rows.iter().map(|row| (row.time_unix_ms, row.duration_us)));
        pages += 1;
        // What arrives between two pages is newer and does not move the key.
        store(&telemetry, &[RequestRecord { started_unix_ms: NOON_MS + 99, ..record() }]).await;
        match page.next {
            Some(next) => filter.before = Some(next),
            None => break,
        }
    }
    assert_eq!(pages, 10);
    assert!(seen.is_sorted_by(|newer, older| newer.0 >= older.0));
    seen.sort_unstable_by_key(|(_, duration)| *duration);
    assert!(seen.iter().map(|(_, duration)| *duration).eq(0..95));
}

#[tokio::test]
async fn filters_choose() {
    let dir = tempfile::tempdir().unwrap();
    let names = Arc::new(Names::new());
    let pets = names.intern_route("/pets");
    let telemetry = Telemetry::open(dir.path(), config(), names).unwrap();
    let of = |id: &str, record: RequestRecord| RequestRecord { id: id.parse().unwrap(), ..record };
    let other = Tenant::from("globex").unwrap();
    let client = ClientKey::Ip([203, 0, 113, 7].into());
    let records = [
        of("plain", record()),
        of("failed", RequestRecord { started_unix_ms: NOON_MS + 5, ..failed() }),
        of("denied", RequestRecord { tenant: other, ..denied() }),
        of("missing", RequestRecord { status: 404, client, ..record() }),
        of("would", RequestRecord { route: pets, ..would_be_denied() }),
    ];
    store(&telemetry, &records).await;
    let filter = RequestFilter::default;
    let cases: [(RequestFilter, &[&str]); 12] = [
        (filter(), &["denied", "failed", "missing", "plain", "would"]),
        (RequestFilter { status: "4xx".parse().ok(), ..filter() }, &["denied", "missing"]),
        (RequestFilter { status: "404".parse().ok(), ..filter() }, &["missing"]),
        (RequestFilter { route: Some("/pets".to_owned()), ..filter() }, &["would"]),
        (RequestFilter { route: Some("/nowhere".to_owned()), ..filter() }, &[]),
        (RequestFilter { client: Some("ip:203.0.113.7".to_owned()), ..filter() }, &["missing"]),
        (RequestFilter { tenant: Some("globex".to_owned()), ..filter() }, &["denied"]),
        (RequestFilter { verdict: "denied".parse().ok(), ..filter() }, &["denied"]),
        (RequestFilter { verdict: "would_deny".parse().ok(), ..filter() }, &["would"]),
        (RequestFilter { since_unix_ms: Some(NOON_MS + 1), ..filter() }, &["failed"]),
        (
            RequestFilter {
                until_unix_ms: Some(NOON_MS + 5),
                status: "2xx".parse().ok(),
                ..filter()
            },
            &["plain", "would"],
        ),
        (
            RequestFilter {
                status: "5xx".parse().ok(),
                tenant: Some("globex".to_owned()),
                ..filter()
            },
            &[],
        ),
    ];
    for (filter, expected) in cases {
        let page = telemetry.reader().requests(&filter).unwrap();
        let mut ids: Vec<_> = page.rows.iter().map(|row| row.id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, expected, "{filter:?}");
        assert_eq!(page.next, None);
    }
}

#[tokio::test]
async fn a_request_is_found_by_its_id() {
    use seaworthy_policy::record::RequestId;

    let dir = tempfile::tempdir().unwrap();
    let telemetry = open(dir.path());
    let with = |id: &str, started_unix_ms, status| RequestRecord {
        id: RequestId::from(id).unwrap(),
        started_unix_ms,
        status,
        ..record()
    };
    // 48 bits of NOON_MS, then what tells requests of one millisecond apart.
    let own = format!("{NOON_MS:012x}{:020x}", 7);
    let late = format!("{NOON_MS:012x}{:020x}", 8);
    store(
        &telemetry,
        &[
            with(&own, NOON_MS, 200),
            // A clock that was set, or an id that a proxy brought along and only looks like ours.
            with(&late, NOON_MS + 3_600_000, 201),
            with("from-a-proxy", NOON_MS, 202),
            with("twice", NOON_MS, 203),
            with("twice", NOON_MS + 1, 204),
        ],
    )
    .await;
    let status = |id: &str| telemetry.reader().request(id).unwrap().map(|row| row.status);
    for (id, want) in [
        (&*own, Some(200)),
        (&late, Some(201)),
        ("from-a-proxy", Some(202)),
        ("twice", Some(204)),
        ("", None),
        ("from-a-prox", None),
        (&own.to_uppercase(), None),
        (&"ä".repeat(16), None),
    ] {
        assert_eq!(status(id), want, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_commits_while_the_writer_writes() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = open(dir.path());
    store(&telemetry, &[record(); 10]).await;
    let reader = TelemetryReader::open_read_only(dir.path()).unwrap();
    let reading: Vec<_> = (0..8)
        .map(|_| {
            let reader = reader.clone();
            let until_all_are_there = |reader: &TelemetryReader| {
                let mut last = 0;
                while last < 500 {
                    let points = reader.rollups(NOON_HOUR, MINUTE)?;
                    let requests = points[0].traffic.requests;
                    assert_eq!(requests % 10, 0, "a part of a commit");
                    assert!(requests >= last, "time went back");
                    last = requests;
                }
                Ok(last)
            };
            tokio::spawn(async move { reader.query(until_all_are_there).await })
        })
        .collect();
    for _ in 0..49 {
        store(&telemetry, &[record(); 10]).await;
    }
    for reading in reading {
        assert_eq!(reading.await.unwrap().unwrap(), 500);
    }
    assert_eq!(all(&reader).len(), 500);
}

#[tokio::test]
async fn a_writer_kept_from_writing_delays_nobody_and_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = open(dir.path());
    store(&telemetry, &[record()]).await;
    telemetry.apply_retention().await.unwrap();
    let shell = Connection::open(dir.path().join("telemetry.db")).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();

    let mut health = telemetry.watch_health();
    let batches: Vec<_> = (0..20).map(|_| batch(&telemetry, &[record(); 100])).collect();
    batches.into_iter().for_each(|batch| telemetry.submit(batch));
    let busy = StoreError::Busy { path: dir.path().join("telemetry.db") };
    assert_eq!(telemetry.flush().await, Err(busy.clone()));
    let stuck = health.wait_for(|health| !health.writable).await.unwrap().clone();
    assert_eq!(stuck.last_error, Some(busy.to_string()));
    assert!(stuck.write_failures > 0);

    shell.execute_batch("ROLLBACK").unwrap();
    let well = |health: &StoreHealth| health.writable && health.last_error.is_none();
    let healthy = health.wait_for(well).await.unwrap().clone();
    assert_eq!((healthy.rows_written, healthy.rows_dropped), (2001, 0));
    assert!(healthy.write_latency.count() >= 2 && healthy.db_bytes > 0);
    let points = telemetry.reader().rollups(NOON_HOUR, MINUTE).unwrap();
    assert_eq!(points[0].traffic.requests, 2001);
}

#[tokio::test]
async fn retention_is_applied_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry =
        Telemetry::open(dir.path(), TelemetryConfig::default(), Arc::new(Names::new())).unwrap();
    let ancient = RequestRecord { started_unix_ms: 0, ..record() };
    store(&telemetry, &[ancient; 100]).await;
    telemetry.apply_retention().await.unwrap();
    assert!(all(telemetry.reader()).is_empty());
    let ever = TimeRange { since_unix_ms: 0, until_unix_ms: i64::MAX };
    assert!(telemetry.reader().rollups(ever, MINUTE).unwrap().is_empty());
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let telemetry = open(dir.path());
    telemetry.submit(batch(&telemetry, &[record()]));
    telemetry.close().await.unwrap();
    assert_eq!(telemetry.flush().await, Err(StoreError::Closed));
    assert_eq!(telemetry.apply_retention().await, Err(StoreError::Closed));
    assert!(!telemetry.health().writable);
    assert_eq!(all(telemetry.reader()).len(), 1, "reading goes on");
    let again = open(dir.path());
    assert_eq!(all(again.reader()).len(), 1);
}

#[test]
fn what_cannot_be_opened_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let names = || Arc::new(Names::new());
    let open = |dir: &Path| Telemetry::open(dir, config(), names()).map(drop).unwrap_err();

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file.join("data"));
    assert!(matches!(error, StoreError::Unwritable { .. }), "{error:?}");
    assert!(error.to_string().contains("--data"), "{error}");

    let missing = TelemetryReader::open_read_only(&dir.path().join("nowhere")).map(drop);
    let path = dir.path().join("nowhere/telemetry.db");
    assert_eq!(missing.unwrap_err(), StoreError::Missing { path: path.clone() });
    assert!(!path.exists());

    let taken = dir.path().join("taken");
    let _first = Telemetry::open(&taken, config(), names()).unwrap();
    let holder = Some(std::process::id());
    let path = taken.join("telemetry.db");
    let locked = StoreError::Locked { path, holder };
    assert_eq!(open(&taken), locked);
    assert!(locked.to_string().contains(&format!("(process {})", std::process::id())), "{locked}");

    let damaged = dir.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("telemetry.db"), [b'x'; 8192]).unwrap();
    let error = open(&damaged);
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    let error = TelemetryReader::open_read_only(&damaged).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");

    let newer = dir.path().join("newer");
    drop(Telemetry::open(&newer, config(), names()).unwrap());
    let path = newer.join("telemetry.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute(
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
             VALUES (99, 'later', '2030-01-01T00:00:00Z', '1')",
            [],
        )
        .unwrap();
    drop(connection);
    let refused = StoreError::SchemaNewer { path, found: 99, known: 6 };
    assert_eq!(open(&newer), refused);
    assert_eq!(TelemetryReader::open_read_only(&newer).map(drop), Err(refused));

    let older = dir.path().join("older");
    fs::create_dir(&older).unwrap();
    let path = older.join("telemetry.db");
    fs::write(&path, "").unwrap();
    let refused = StoreError::SchemaOlder { path, found: 0, known: 6 };
    assert_eq!(TelemetryReader::open_read_only(&older).map(drop), Err(refused));
}

#[tokio::test]
async fn a_file_of_the_first_version_is_brought_up_to_date_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut connection = Connection::open(dir.path().join("telemetry.db")).unwrap();
    migrations::runner().set_target(refinery::Target::Version(1)).run(&mut connection).unwrap();
    let minute = NOON_MS / 60_000;
    connection
        .execute("INSERT INTO dropped_record (minute, records) VALUES (?, 3)", [minute])
        .unwrap();
    drop(connection);
    let telemetry = open(dir.path());
    store(&telemetry, &[record()]).await;
    let page = telemetry.reader().consumers(&ConsumerFilter::default()).unwrap();
    assert_eq!((page.rows.len(), page.records_dropped), (1, 3));
}

#[tokio::test]
async fn evidence_is_read_back_as_it_was_counted() {
    let dir = tempfile::tempdir().unwrap();
    let names = Arc::new(Names::new());
    let route = names.intern_route("POST /api/traces");
    let telemetry = Telemetry::open(dir.path(), config(), Arc::clone(&names)).unwrap();
    let mut aggregator = telemetry.aggregator();
    let next = {
        let mut next = Verdicts::default();
        next.set(0, Verdict::Allow);
        Marks { next, ..Marks::default() }
    };
    let known = RequestRecord { route, marks: next, ..would_be_denied() };
    let other = |n| RequestRecord { client: ClientKey::Cookie(n), ..record() };
    let first = {
        let mut first = Positions::default();
        first.insert(0);
        first
    };
    let slow = Marks { slow: first, ..Marks::default() };
    let enforced = Marks { enforced: first, ..slow };
    aggregator.observe(&known);
    for n in 0..100 {
        let failed = |marks| RequestRecord { client: ClientKey::Cookie(n), marks, ..failed() };
        aggregator.observe(&match n {
            3 => failed(slow),
            4 | 99 => failed(enforced),
            _ => other(n),
        });
    }
    telemetry.submit(aggregator.flush(NOON_MS + 1000, 0));
    aggregator.observe(&known);
    telemetry.submit(aggregator.flush(NOON_MS + 90_000, 7));
    let counted = aggregator.closed();
    telemetry.flush().await.unwrap();

    let reader = telemetry.reader();
    let read = reader.evidence(NOON_MS..i64::MAX).unwrap();
    let rules = names.rules();
    let counted: Vec<_> = counted
        .iter()
        .flat_map(|tick| tick.rules.iter().map(|one| (tick.start_unix_ms, one)))
        .map(|(start_unix_ms, (rule, lane, evidence))| StoredEvidence {
            start_unix_ms,
            rule: rules[usize::from(rule.0)].to_string(),
            lane: *lane,
            evidence: evidence.clone(),
        })
        .collect();
    assert_eq!(read, counted);
    assert_eq!(read[0].evidence.counts.harm, 2);
    assert_eq!(read[0].evidence.clients[0].client, known.client);
    let of = |n| {
        let clients = &read[0].evidence.clients;
        clients.iter().find(|one| one.client == ClientKey::Cookie(n)).unwrap().counts
    };
    let failed = ClientCounts { evaluated: 1, slow: 1, ..ClientCounts::default() };
    assert_eq!(of(3), ClientCounts { control_errors: 1, ..failed });
    assert_eq!(of(4), ClientCounts { enforced: 1, enforced_errors: 1, ..failed });
    let rest = read[0].evidence.other;
    assert_eq!((rest.enforced_errors, rest.slow), (1, 1), "the last is one of the others");
    assert_eq!(read[1].lane, Lane::Next);
    assert_eq!(reader.evidence(NOON_MS + 1..i64::MAX).unwrap(), []);
    assert_eq!(reader.evidence(0..NOON_MS).unwrap(), []);
    assert_eq!(reader.evidence_gaps(0).unwrap(), [(NOON_MS, 7), (NOON_MS + 60_000, 7)]);

    let pairs = reader.pairs(NOON_MS).unwrap();
    assert_eq!(pairs.len(), 101);
    let pair = StoredPair {
        day_unix_ms: NOON_MS - 12 * 3_600_000,
        client: Some(known.client),
        route: Some("POST /api/traces".to_owned()),
        requests: 2,
        last_unix_ms: NOON_MS + 1,
    };
    assert_eq!(pairs[0], pair);
}

#[tokio::test]
async fn what_two_processes_say_of_one_tick_adds_up() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let telemetry = open(dir.path());
        store(&telemetry, &[would_be_denied()]).await;
        telemetry.close().await.unwrap();
    }
    let read = TelemetryReader::open_read_only(dir.path()).unwrap().evidence(0..i64::MAX).unwrap();
    let RuleEvidence { counts, clients, other } = &read[0].evidence;
    assert_eq!((counts.harm, clients.len(), *other), (2, 1, ClientCounts::default()));
    assert_eq!(clients[0].counts.harm, 2);
}

#[tokio::test]
async fn a_tick_of_two_processes_has_no_more_clients_than_one_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let (both, mut clients) = (CLIENTS_MAX as u64 * 2, Vec::new());
    for run in 0..2 {
        // Of each process other clients, and the worst of all in the second.
        let client = |n| RequestRecord { client: ClientKey::Cookie(2 * n + run), ..record() };
        let mut records: Vec<_> = (0..both / 2).map(client).collect();
        if run == 1 {
            let worst = RequestRecord { client: ClientKey::Cookie(both), ..would_be_denied() };
            records.extend([worst; 3]);
        }
        let telemetry = open(dir.path());
        store(&telemetry, &records).await;
        telemetry.close().await.unwrap();
        clients = telemetry.reader().evidence(0..i64::MAX).unwrap();
    }
    let RuleEvidence { counts, clients, other } = &clients[0].evidence;
    assert_eq!(clients.len(), CLIENTS_MAX);
    assert_eq!((clients[0].client, clients[0].counts.harm), (ClientKey::Cookie(both), 3));
    let sum = clients.iter().map(|one| one.counts).chain([*other]).fold(
        ClientCounts::default(),
        |mut sum, part| {
            sum.add(&part);
            sum
        },
    );
    assert_eq!((sum.evaluated, sum.harm), (both + 3, 3));
    assert_eq!((counts.evaluated, counts.harm), (both + 3, 3));
}

#[test]
fn a_new_file_is_set_up_as_it_must_be_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let _telemetry = open(dir.path());
    let connection = Connection::open(dir.path().join("telemetry.db")).unwrap();
    let auto_vacuum: i64 =
        connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).unwrap();
    let journal: String =
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!((auto_vacuum, journal.as_str()), (2, "wal"));
    assert_eq!(Names::new().route(RouteId(0)).as_ref(), "other");
}
