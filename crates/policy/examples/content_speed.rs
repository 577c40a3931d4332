//! How long the checks that read a request take:
//! `cargo run --release -p seaworthy-policy --example content_speed`
//!
//! Each is the protection as the gateway builds it, asked about the request of
//! `bench/peers/content.sh` and about a larger one. `COUNT` after `--` runs one case that many times
//! without a clock, for a profiler or a count of instructions: `content_speed schema 100000`.
//! The clock costs some 30 ns of each figure.

use std::hint::black_box;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use seaworthy_policy::Moment;
use seaworthy_policy::client::{Client, ClientKey};
use seaworthy_policy::content::{Body, Content};
use seaworthy_policy::protection::{BodyLength, Effects, Outcome, Protection, Request, Scheme};
use seaworthy_policy::record::{RouteId, Tenant};
use seaworthy_policy::registry::{BuildContext, InstallKey, Protect, REGISTRY};
use seaworthy_policy::source::{Source, Sources};
use seaworthy_policy::target::Target;

const WARM_UP: usize = 20_000;
const RUNS: usize = 100_000;

const CONFIG: &str = r#"
[access]
api_keys = { keys = "env:KEYS" }
matrix = "env:MATRIX"
[vocabulary]
fields = [
    { route = "POST /api/items", at = "/stages", vocabulary = "stages", shape = "weights", on_alias = "rewrite" },
]
[request_schema]
openapi = "env:OPENAPI"
"#;

const SOURCES: [(&str, &str); 3] = [
    ("KEYS", include_str!("../../../bench/peers/content/conf/api-keys.toml")),
    ("MATRIX", include_str!("../../../bench/peers/content/conf/authz.toml")),
    ("OPENAPI", include_str!("../../../bench/peers/content/conf/openapi.yaml")),
];

const CANONICAL: &str = r#"{"pre-seed":0.1,"seed":0.2,"series-a":0.3,"growth":0.4}"#;
const ALIASES: &str = r#"{"Pre Seed":0.1,"seed":0.2,"Series A":0.3,"Growth":0.4}"#;

/// Prose as people write it, for a body of a kilobyte.
const SUMMARY: &str = "Delivers parcels by bicycle in cities; wants to open two more depots. The \
    team has run the first one for three years and knows what it costs: rent, batteries, riders, \
    and the hour between six and seven when everything comes at once. They don't plan to raise \
    prices -- customers would go elsewhere -- but to fill the quiet hours with returns, which the \
    large carriers leave lying about. Two of the founders come from logistics, one from software. \
    What they ask for pays for eighteen months; the second depot should carry itself after ten. \
    Risks: a wet winter, a carrier that copies the idea, and the permits (one is still missing). The \
    letters of three customers are with the papers; two more have said yes on the phone, and one \
    of them would like to begin in spring, with two hundred parcels a day.";

/// A request that owns its parts.
struct Sample {
    method: Method,
    target: Target,
    headers: HeaderMap,
    client: Client,
    body: Vec<u8>,
    content: Content,
}

impl Sample {
    fn new(stages: &str, summary: &str) -> Self {
        let body = format!(
            "{{\"company\":\"Example Parcels Ltd\",\"contact\":\"desk@parcels.example\",\
             \"country\":\"NL\",\"employees\":42,\"tags\":[\"b2b\",\"logistics\"],\
             \"stages\":{stages},\"summary\":\"{summary}\"}}"
        )
        .into_bytes();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "application/json"),
            ("content-type", "application/json"),
            ("x-api-key", "sw_bench"),
            ("x-tenant-id", "acme"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let ip = [127, 0, 0, 1].into();
        let tenant = Tenant::from("acme").expect("it is short");
        let client = Client { key: ClientKey::Ip(ip), ip, tenant, via_trusted_proxy: false };
        let uri = "/api/items".parse().expect("a path");
        let target = Target::parse(&uri).expect("a target");
        let mut sample =
            Self { method: Method::POST, target, headers, client, body, content: Content::Empty };
        sample.content = sample.read();
        sample
    }

    /// The body, read anew.
    fn read(&self) -> Content {
        let raw = Bytes::copy_from_slice(&self.body);
        let body = Body::read(raw, &self.headers, 1 << 20).expect("it has no coding");
        assert!(body.json().is_ok(), "it is JSON");
        Content::Read(body)
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: &self.target,
            authority: "127.0.0.1",
            scheme: Scheme::Http,
            headers: &self.headers,
            client: &self.client,
            peer: self.client.ip,
            route: RouteId(0),
            body: BodyLength::Declared(self.body.len() as u64),
            content: &self.content,
            now: Moment::START,
            unix_s: 1_800_000_000,
        }
    }
}

fn protection(name: &str) -> Arc<dyn Protection> {
    let mut sources = Sources::default();
    for (variable, text) in SOURCES {
        sources.insert(Source::Env(variable.to_owned()), Ok(text.as_bytes().to_vec()));
    }
    let protect: Protect = toml::from_str(CONFIG).expect("the config is right");
    let entry = REGISTRY.iter().find(|entry| entry.name == name).expect("it is registered");
    let key = InstallKey::new([1; 32]);
    (entry.build)(
        &protect,
        &BuildContext { key: &key, memory: None, operations_apart: false, sources: &sources },
    )
    .expect("it is right")
}

/// A name, and what is timed.
type Work = (&'static str, Box<dyn Fn()>);

fn works() -> Vec<Work> {
    let small = Sample::new(
        CANONICAL,
        "Delivers parcels by bicycle in cities; wants to open two more depots.",
    );
    let aliases = Sample::new(
        ALIASES,
        "Delivers parcels by bicycle in cities; wants to open two more depots.",
    );
    let large = Sample::new(CANONICAL, SUMMARY);
    println!("bodies of {} and {} bytes", small.body.len(), large.body.len());
    let samples = [Rc::new(small), Rc::new(aliases), Rc::new(large)];
    let check = |name: &'static str, which: &str, sample: usize| -> Work {
        let (protection, sample) = (protection(which), Rc::clone(&samples[sample]));
        let run = move || {
            let outcome = protection.check(&sample.request(), &mut Effects::default());
            assert!(matches!(black_box(outcome), Outcome::Allow), "the request is right");
        };
        (name, Box::new(run))
    };
    let read = |name: &'static str, sample: usize| -> Work {
        let sample = Rc::clone(&samples[sample]);
        (name, Box::new(move || drop(black_box(sample.read()))))
    };
    vec![
        read("read", 0),
        check("access", "access", 0),
        check("body_syntax", "body_syntax", 0),
        check("injection", "injection", 0),
        check("vocabulary", "vocabulary", 0),
        check("schema", "request_schema", 0),
        check("vocabulary-aliases", "vocabulary", 1),
        read("read-1kB", 2),
        check("injection-1kB", "injection", 2),
        check("schema-1kB", "request_schema", 2),
    ]
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let works = works();
    match &args[..] {
        [] => {
            println!("{:<22} {:>9} {:>9}", "", "p50 µs", "p99 µs");
            for (name, run) in &works {
                time(name, run);
            }
            ExitCode::SUCCESS
        }
        [name, count] => {
            let work = works.iter().find(|(known, _)| known == name);
            let (Some((_, run)), Ok(count)) = (work, count.parse::<u64>()) else {
                eprintln!("usage: content_speed [CASE COUNT]");
                return ExitCode::from(64);
            };
            (0..count).for_each(|_| run());
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: content_speed [CASE COUNT]");
            ExitCode::from(64)
        }
    }
}

fn time(name: &str, run: &dyn Fn()) {
    (0..WARM_UP).for_each(|_| run());
    let mut nanos: Vec<u128> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let micros = |permille: usize| nanos[RUNS * permille / 1000] as f64 / 1000.0;
    println!("{name:<22} {:>9.2} {:>9.2}", micros(500), micros(990));
}
