//! How long the vocabulary takes: `cargo run --release -p seaworthy-policy --example vocabulary_speed`
//!
//! Each case runs for a while before it is timed one by one; the clock itself costs some 30 ns of
//! each figure.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use seaworthy_policy::vocabulary::{
    Builtin, Field, FieldSet, OnAlias, Settings, Shape, Vocabulary,
};

const WARM_UP: usize = 20_000;
const RUNS: usize = 200_000;

const CANONICAL: &str = r#"{"pre-seed": 0.1, "seed": 0.2, "series-a": 0.3, "series-b": 0.1, "series-c": 0.1, "growth": 0.1, "late-stage": 0.1}"#;
const ALIASES: &str = r#"{"Pre Seed": 0.1, "SEED": 0.2, "Series A": 0.3, "series_b": 0.1, "C round": 0.1, "Growth Equity": 0.1, "late": 0.1}"#;
const UNICODE: &str = r#"{"Pre–Seed": 0.1, "Ｓeed": 0.2, "Series A": 0.3, "series‑b": 0.1, "C round": 0.1, "Growth Equity": 0.1, "late": 0.1}"#;
const MERGING: &str = r#"{"Pre Seed": 0.1, "SEED": 0.2, "Series A": 0.3, "a": 0.1, "A round": 0.1, "Growth Equity": 0.1, "growth": 0.1}"#;
const INVALID: &str = r#"{"Pre Sead": 0.1, "SEDE": 0.2, "Serie A": 0.3, "Series D": 0.1, "C rund": 0.1, "Grwth Equity": 0.1, "lte": 0.1}"#;

fn main() {
    let stages = Arc::new(Vocabulary::build(&Builtin::Stages.settings()).expect("it is built in"));
    println!("{:<34} {:>9} {:>9} {:>9}", "", "p50 µs", "p99 µs", "max µs");
    for (name, json) in [
        ("parse, 7 canonical keys", CANONICAL),
        ("parse, 7 aliases", ALIASES),
        ("parse, 7 aliases, 3 not ASCII", UNICODE),
        ("parse, 7 aliases that merge", MERGING),
        ("parse, 7 unknown words", INVALID),
    ] {
        time(name, || stages.parse_json(json, &Shape::Weights).is_ok());
    }
    let field = Field {
        at: "/stage_focus".parse().expect("a pointer"),
        vocabulary: Arc::clone(&stages),
        shape: Shape::Weights,
        on_alias: OnAlias::Rewrite,
    };
    let fields = FieldSet::new([field]).expect("one field");
    let notes = "n".repeat(100);
    for (name, json) in [
        ("270-byte body, canonical", CANONICAL),
        ("270-byte body, aliases", ALIASES),
        ("270-byte body, merging", MERGING),
    ] {
        let body = format!(r#"{{"name": "Example", "notes": "{notes}", "stage_focus": {json}}}"#);
        time(name, || fields.rewrite_body(body.as_bytes()).is_ok());
    }
    let large = large();
    let mut unknown = String::from("{");
    for n in 0..100 {
        write!(unknown, "\"categori-{n:04}\": 0.01,").expect("a string takes everything");
    }
    unknown.pop();
    unknown.push('}');
    time("1000 values, 100 unknown words", || large.parse_json(&unknown, &Shape::Weights).is_ok());
}

fn large() -> Vocabulary {
    let settings = Settings {
        name: "categories".to_owned(),
        values: (0..1000).map(|n| (format!("category-{n:04}"), Vec::new())).collect(),
        scale: Default::default(),
        sum_tolerance: None,
    };
    Vocabulary::build(&settings).expect("a thousand values are taken")
}

fn time(name: &str, mut run: impl FnMut() -> bool) {
    let start = Instant::now();
    let mut runs = RUNS;
    for done in 1..=WARM_UP {
        assert!(run());
        if start.elapsed().as_secs() >= 2 {
            runs = 5 * done;
            break;
        }
    }
    let mut times_ns: Vec<u128> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(run());
            start.elapsed().as_nanos()
        })
        .collect();
    times_ns.sort_unstable();
    let us = |at: usize| times_ns[at] as f64 / 1000.0;
    let last = times_ns.len() - 1;
    println!("{name:<34} {:>9.2} {:>9.2} {:>9.1}", us(last / 2), us(last * 99 / 100), us(last));
}
