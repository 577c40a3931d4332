//! Judging an ordinary request allocates nothing, rule by rule. In a program of its own, since
//! it counts what the whole process allocates.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use seaworthy_policy::Moment;
use seaworthy_policy::client::{Client, ClientKey};
use seaworthy_policy::content::Content;
use seaworthy_policy::protection::{BodyLength, Effects, Outcome, Request, Scheme};
use seaworthy_policy::record::{RouteId, Tenant};
use seaworthy_policy::registry::{BuildContext, InstallKey, Protect, REGISTRY};
use seaworthy_policy::source::Sources;
use seaworthy_policy::target::Target;

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

/// Settings under which the protections have something to judge.
const SETTINGS: &str = r#"
    [host_allowlist]
    hosts = ["app.example"]
    [ip_filter]
    allow = ["203.0.113.0/24"]
    [cors]
    origins = ["https://app.example"]
    [rate_limit]
    limits = [{ per = "client", rate = "1000000/min", burst = 1000000 }]
"#;

/// What each check allocates, where that is not nothing: the field of a response that tells the
/// client of its limit is written for each request.
const ALLOCATES: &[(&str, u64)] = &[("rate_limit", 1)];

const ROUNDS: u64 = 100;

#[test]
fn judging_allocates_nothing() {
    let protect: Protect = toml::from_str(SETTINGS).unwrap();
    let (key, sources) = (InstallKey::new([1; 32]), Sources::default());
    let context =
        BuildContext { key: &key, sources: &sources, memory: None, operations_apart: false };
    let protections: Vec<_> = REGISTRY
        .iter()
        .map(|entry| (entry.name, (entry.build)(&protect, &context).unwrap()))
        .filter(|(_, protection)| !protection.is_inert())
        .collect();
    assert!(protections.len() > 8, "{} protections judge", protections.len());

    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("accept", "application/json"),
        ("authorization", "Bearer 0123456789abcdef"),
        ("cookie", "theme=dark; session=0123456789abcdef"),
        ("origin", "https://app.example"),
        ("user-agent", "helpdesk/3.1"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let ip: IpAddr = "203.0.113.7".parse().unwrap();
    let tenant = Tenant::from("acme").unwrap();
    let client = Client { key: ClientKey::Bearer(7), ip, tenant, via_trusted_proxy: false };
    let target = Target::parse(&"/api/complaints?page=2".parse().unwrap()).unwrap();
    let request = Request {
        method: &Method::GET,
        target: &target,
        authority: "app.example",
        scheme: Scheme::Https,
        headers: &headers,
        client: &client,
        peer: ip,
        route: RouteId(0),
        body: BodyLength::None,
        content: &Content::Empty,
        now: Moment::START,
        unix_s: 1_800_000_000,
    };

    let _profiler = dhat::Profiler::builder().testing().build();
    for (name, protection) in protections {
        let check = || {
            let mut effects = Effects::default();
            let outcome = protection.check(&request, &mut effects);
            assert!(matches!(outcome, Outcome::Allow | Outcome::NotApplicable), "{name}");
        };
        // What is allocated once, for all requests, is none of theirs.
        check();
        let before = dhat::HeapStats::get().total_blocks;
        (0..ROUNDS).for_each(|_| check());
        let blocks = dhat::HeapStats::get().total_blocks - before;
        let known = ALLOCATES.iter().find(|(other, _)| *other == name);
        let want = known.map_or(0, |(_, each)| each * ROUNDS);
        assert_eq!(blocks, want, "{name}: blocks in {ROUNDS} requests");
    }
}
