use proptest::prelude::*;
use serde_json::Value;

use super::super::parse::Members;
use super::super::tests::{stages, words};
use super::super::{Decimal, Number, decimal};
use super::*;

fn field(at: &str, shape: Shape, on_alias: OnAlias) -> Field {
    Field { at: at.parse().unwrap(), vocabulary: Arc::new(stages()), shape, on_alias }
}

fn set(at: &str, shape: Shape) -> FieldSet {
    FieldSet::new([field(at, shape, OnAlias::Rewrite)]).unwrap()
}

fn entries() -> Shape {
    Shape::Entries(Members::default())
}

/// The body after rewriting, `same`, or the faults.
fn rewritten(set: &FieldSet, body: &str) -> String {
    match set.rewrite_body(body.as_bytes()) {
        Ok(None) => "same".to_owned(),
        Ok(Some(body)) => String::from_utf8(body).unwrap(),
        Err(refusal) => faults(&refusal),
    }
}

fn faults(refusal: &Refusal) -> String {
    let Refusal::Invalid(invalid) = refusal else { return refusal.to_string() };
    let fault = |input: &InvalidInput| format!("{} {}", input.at, input.reason.name());
    invalid.inputs.iter().map(fault).collect::<Vec<_>>().join("; ")
}

#[test]
fn only_the_spelled_values_change() {
    for (at, shape, body, want) in [
        ("/s", Shape::Scalar, r#"{ "a" : 1e5,"s":"Series A" }"#, r#"{ "a" : 1e5,"s":"series-a" }"#),
        ("/s", Shape::Scalar, r#"{"s":"series-a","t":"A"}"#, "same"),
        ("/s", Shape::Scalar, r#"{"s":"series\u002da"}"#, "same"),
        ("/s", Shape::Scalar, r#"{"t":"x"}"#, "same"),
        ("/s", Shape::Scalar, "[1]", "same"),
        ("", Shape::Scalar, " \"Seed\"\n", " \"seed\"\n"),
        ("/s", Shape::List, r#"{"s":[ "Seed" ,"growth"]}"#, r#"{"s":[ "seed" ,"growth"]}"#),
        (
            "/s",
            Shape::List,
            r#"{"s":[ "a" , "s\u0065ed", "A"]}"#,
            r#"{"s":["series-a","s\u0065ed"]}"#,
        ),
        (
            "/p/*/s",
            Shape::Scalar,
            r#"{"p":[{"s":"A"},{"t":1},{"s":"seed"},{"s":"B"}]}"#,
            r#"{"p":[{"s":"series-a"},{"t":1},{"s":"seed"},{"s":"series-b"}]}"#,
        ),
        (
            "/p/s",
            Shape::Weights,
            "{\"p\":{\"s\":{\n \"Seed\" : 0.50,\t\"series-a\":5e-1}}, \"x\":1.0}",
            "{\"p\":{\"s\":{\n \"seed\" : 0.50,\t\"series-a\":5e-1}}, \"x\":1.0}",
        ),
        (
            "/s",
            Shape::Weights,
            r#"{"x":[ ], "s": { "a": 0.1, "seed": 0.70, "A ": 0.2 } , "y":-0}"#,
            r#"{"x":[ ], "s": {"series-a":0.3,"seed":0.70} , "y":-0}"#,
        ),
        (
            "/s",
            entries(),
            r#"{"s":[{"weight":0.4,"note":"A","key":"A"}, {"key":"seed","weight":0.6}]}"#,
            r#"{"s":[{"weight":0.4,"note":"A","key":"series-a"}, {"key":"seed","weight":0.6}]}"#,
        ),
        (
            "/s",
            entries(),
            r#"{"s":[{"weight": 0.1, "key": "A"}, {"key":"b","weight":0.70,"note":1}, {"key":"a","weight":0.2}]}"#,
            r#"{"s":[{"weight": 0.3, "key": "series-a"},{"key":"series-b","weight":0.70,"note":1}]}"#,
        ),
    ] {
        assert_eq!(rewritten(&set(at, shape), body), want, "{body}");
    }
}

#[test]
fn what_is_invalid_is_told_with_its_place_and_nothing_is_rewritten() {
    let deep = "[".repeat(1_000_000);
    for (at, shape, body, want) in [
        ("/s", Shape::Scalar, r#"{"s":"sead"}"#, "/s unknown-value"),
        ("/s", Shape::Scalar, r#"{"s":null}"#, "/s wrong-type"),
        ("/s", Shape::Scalar, r#"{"s":"A","s":"B"}"#, "/s duplicate-key"),
        ("/s/t", Shape::Scalar, r#"{"s":{"t":"A"},"\u0073":{}}"#, "/s duplicate-key"),
        (
            "/p/*",
            Shape::List,
            r#"{"p":[["A"],["x", 1]]}"#,
            "/p/1/0 unknown-value; /p/1/1 wrong-type",
        ),
        ("/s", Shape::Weights, r#"{"s":{"a":0.5,"x/y":0.5}}"#, "/s/x~1y unknown-value"),
        ("/s", Shape::Weights, r#"{"s":{"a":0.5}}"#, "/s sum-off"),
        (
            "/s",
            Shape::Weights,
            r#"{"s":{"a":NaN,"b":-Infinity}}"#,
            "/s/a not-finite; /s/b not-finite",
        ),
        ("/s", entries(), r#"{"s":[{"key":"a","weight":NaN}]}"#, "/s/0/weight not-finite"),
        ("/s", Shape::Weights, r#"{"t":NaN}"#, "the body is not JSON, from line 1, column 6"),
        ("/s", Shape::Scalar, "", "the body is not JSON, from line 1, column 0"),
        ("/s", Shape::Scalar, "{\"s\":\"A\"} x", "the body is not JSON, from line 1, column 11"),
        (
            "/s",
            Shape::Scalar,
            "\u{feff}{\"s\":\"A\"}",
            "the body is not JSON, from line 1, column 1",
        ),
        ("/s", Shape::Scalar, &deep, "the body is not JSON, from line 1, column 1000000"),
    ] {
        assert_eq!(rewritten(&set(at, shape), body), want);
    }
    let not_text = set("/s", Shape::Scalar).rewrite_body(b"{\"s\":\"\xff\"}");
    assert_eq!(not_text, Err(Refusal::NotUtf8));
}

#[test]
fn a_flood_of_faults_is_told_in_part_and_counted() {
    let body = format!("[{}\"sead\"]", "\"sead\",".repeat(50_000));
    let Err(Refusal::Invalid(invalid)) = set("/*", Shape::Scalar).rewrite_body(body.as_bytes())
    else {
        panic!()
    };
    assert_eq!((invalid.inputs.len(), invalid.omitted), (INVALID_MAX, 50_001 - INVALID_MAX));
    assert_eq!(invalid.suggestions.of("sead"), ["seed"]);
    assert_eq!(Refusal::Invalid(invalid).to_string(), "50001 inputs mean nothing");
}

#[test]
fn passing_fields_are_judged_and_left_alone() {
    let fields = [
        field("/a", Shape::Scalar, OnAlias::Pass),
        field("/b", Shape::Scalar, OnAlias::Rewrite),
        field("query:a", Shape::Scalar, OnAlias::Pass),
    ];
    let set = FieldSet::new(fields).unwrap();
    assert_eq!(rewritten(&set, r#"{"a":"Seed","b":"Seed"}"#), r#"{"a":"Seed","b":"seed"}"#);
    assert_eq!(rewritten(&set, r#"{"a":"sead","b":"Seed"}"#), "/a unknown-value");
    assert_eq!(set.rewrite_query("a=Seed"), Ok(None));
    let query = FieldSet::new([field("query:a", Shape::Scalar, OnAlias::Rewrite)]).unwrap();
    assert_eq!(rewritten(&query, "no JSON at all"), "same");
    assert_eq!(faults(&set.rewrite_query("a=sead").unwrap_err()), "query:a unknown-value");
}

#[test]
fn fields_that_overlap_are_refused() {
    let of = |places: [&str; 2]| {
        let fields = places.map(|at| field(at, Shape::Scalar, OnAlias::Rewrite));
        FieldSet::new(fields).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(of(["/a", "/b"]), Ok(()));
    assert_eq!(of(["/a", "query:a"]), Ok(()));
    assert!(of(["/a/*", "/a/0/b"]).unwrap_err().starts_with("\"/a/*\" and \"/a/0/b\" are one"));
    assert!(of(["query:a", "query:a"]).unwrap_err().starts_with("\"query:a\" and \"query:a\""));
    let weights = FieldSet::new([field("query:a", Shape::Weights, OnAlias::Rewrite)]);
    assert_eq!(weights.unwrap_err(), FieldError::QueryShape("query:a".to_owned()));
}

#[test]
fn only_the_parameters_value_changes() {
    for (shape, query, want) in [
        (Shape::Scalar, "x=1&stage=Series+A&y=%41", "x=1&stage=series-a&y=%41"),
        (Shape::Scalar, "stage=Pre%20Seed", "stage=pre-seed"),
        (Shape::Scalar, "st%61ge=A", "st%61ge=series-a"),
        (Shape::Scalar, "stage=pre%2Dseed", "same"),
        (Shape::Scalar, "stages=A&Stage=A", "same"),
        (Shape::Scalar, "", "same"),
        (Shape::Scalar, "stage", "query:stage empty"),
        (Shape::Scalar, "stage=", "query:stage empty"),
        (Shape::Scalar, "stage=A&stage=A", "query:stage duplicate-key"),
        (Shape::Scalar, "stage=A,B", "query:stage unknown-value"),
        (Shape::Scalar, "stage=%ff", "query:stage not-text"),
        (Shape::List, "stage=A,seed&x=1&stage=B", "stage=series-a,seed&x=1&stage=series-b"),
        (Shape::List, "stage=A,seed,Series-A&x=,", "stage=series-a,seed&x=,"),
        (Shape::List, "stage=A&x=1&stage=a&y=2", "stage=series-a&x=1&y=2"),
        (Shape::List, "stage=A&stage=a,Series+A&y", "stage=series-a&y"),
        (Shape::List, "stage=A&stage=a,b,series-a", "stage=series-a&stage=series-b"),
        (
            Shape::List,
            "stage=seed,,x&stage=%2C",
            "query:stage/1 empty; query:stage/2 unknown-value; query:stage/3 unknown-value",
        ),
    ] {
        let said = match set("query:stage", shape).rewrite_query(query) {
            Ok(None) => "same".to_owned(),
            Ok(Some(query)) => query,
            Err(refusal) => faults(&refusal),
        };
        assert_eq!(said, want, "{query}");
    }
    let odd = Vocabulary::build(&words(&[("R&D, é/+", &["research"])])).unwrap();
    let odd =
        Field { vocabulary: Arc::new(odd), ..field("query:q", Shape::List, OnAlias::Rewrite) };
    let odd = FieldSet::new([odd]).unwrap();
    let want = "q=R%26D%2C%20%C3%A9%2F%2B";
    assert_eq!(odd.rewrite_query("q=Research"), Ok(Some(want.to_owned())));
    assert_eq!(odd.rewrite_query(want), Ok(None));
}

/// Each value with the spellings that the laws are tried with; the first is canonical.
const SPELLINGS: [&[&str]; 4] = [
    &["seed", "Seed", "SEED\u{a0}", "s\u{200b}eed round"],
    &["series-a", "a", "Series A", "series_a", "Ａ"],
    &["growth", "Growth Stage", "GROWTH"],
    &["late-stage", "late", "Late\u{2014}Stage"],
];

#[derive(Clone, Copy, Debug)]
enum Kind {
    List,
    Weights,
    Entries,
}

impl Kind {
    fn shape(self) -> Shape {
        match self {
            Self::List => Shape::List,
            Self::Weights => Shape::Weights,
            Self::Entries => entries(),
        }
    }

    /// The field's JSON from spellings and weights in thousandths, with blanks in it.
    fn json(self, items: &[(&str, u32)], blank: &str) -> String {
        let item = |(spelling, weight): &(&str, u32)| {
            let key = serde_json::to_string(spelling).unwrap();
            let weight = format!("{}.{:03}", weight / 1000, weight % 1000);
            match self {
                Self::List => key,
                Self::Weights => format!("{key}{blank}:{weight}"),
                Self::Entries => format!("{{\"weight\":{blank}{weight}, \"key\":{key}}}"),
            }
        };
        let items: Vec<String> = items.iter().map(item).collect();
        let items = items.join(&format!("{blank},"));
        match self {
            Self::Weights => format!("{{{blank}{items}}}"),
            _ => format!("[{blank}{items}]"),
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::List, Kind::Weights, Kind::Entries])
}

fn blank() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", " ", "\n\t", "\r\n "])
}

/// Distinct spellings with weights that add up to a whole.
fn items() -> impl Strategy<Value = Vec<(&'static str, u32)>> {
    let all: Vec<&str> = SPELLINGS.concat();
    (prop::sample::subsequence(all, 1..=8).prop_shuffle(), any::<prop::sample::Index>()).prop_map(
        |(spellings, odd)| {
            let count = u32::try_from(spellings.len()).unwrap();
            let share = 1000 / count;
            let odd = odd.index(spellings.len());
            let weight = |index| if index == odd { 1000 - share * (count - 1) } else { share };
            spellings.into_iter().enumerate().map(|(i, s)| (s, weight(i))).collect()
        },
    )
}

/// What is before and behind a field in a body.
fn surroundings() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        ("{\"f\":", "}"),
        (" {\"f\" :\t", "\n}\n"),
        ("{\"x\":[1e400,{\"f\":\"A\"}],\"y\":\"\\ud800\",\"f\":", ",\"z\":1.00}"),
        ("{\"a\":{\"f\":[\"Seed\"]},\"f\":", " , \"é\" : \"Series A\"}"),
    ])
}

/// The values of a normalised field with their weights in thousandths.
fn weights_of(kind: Kind, json: &str) -> Vec<(String, u32)> {
    let value: Value = serde_json::from_str(json).unwrap();
    let thousandths = |value: &Value| {
        let read = decimal::read(&value.to_string(), Decimal::whole(1000)).unwrap();
        (read.to_f64() * 1000.0).round() as u32
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    match kind {
        Kind::List => value.as_array().unwrap().iter().map(|item| (text(item), 0)).collect(),
        Kind::Weights => value
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, weight)| (key.clone(), thousandths(weight)))
            .collect(),
        Kind::Entries => value
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| (text(&entry["key"]), thousandths(&entry["weight"])))
            .collect(),
    }
}

proptest! {
    #[test]
    fn rewriting_keeps_the_sum_and_every_other_byte(
        kind in kind(), items in items(), blank in blank(), (before, after) in surroundings(),
    ) {
        let set = set("/f", kind.shape());
        let field = kind.json(&items, blank);
        let body = format!("{before}{field}{after}");
        let rewritten = match set.rewrite_body(body.as_bytes()) {
            Ok(rewritten) => rewritten,
            Err(refusal) => return Err(TestCaseError::fail(format!("{body}: {}", faults(&refusal)))),
        };
        let new = rewritten.map_or(body, |body| String::from_utf8(body).unwrap());

        // Nothing outside of the field has changed.
        let inside = new.strip_prefix(before).and_then(|new| new.strip_suffix(after));
        let Some(new_field) = inside else { return Err(TestCaseError::fail(new)) };

        // Each value is there once, with the weight of all its spellings.
        let mut want: Vec<(String, u32)> = Vec::new();
        for (spelling, weight) in &items {
            let value = SPELLINGS.iter().find(|all| all.contains(spelling)).unwrap()[0];
            let weight = if matches!(kind, Kind::List) { 0 } else { *weight };
            match want.iter_mut().find(|(known, _)| known == value) {
                Some((_, sum)) => *sum += weight,
                None => want.push((value.to_owned(), weight)),
            }
        }
        let mut got = weights_of(kind, new_field);
        // An object of `serde_json` forgets the order.
        if matches!(kind, Kind::Weights) {
            want.sort();
            got.sort();
        }
        prop_assert_eq!(got, want);

        // And rewriting it again changes nothing more.
        prop_assert_eq!(set.rewrite_body(new.as_bytes()), Ok(None));
    }

    #[test]
    fn the_rest_of_the_body_is_the_same_value(
        kind in kind(), items in items(), blank in blank(),
        other in prop::collection::btree_map("[a-e]{1,3}", any::<f64>().prop_filter("finite", |n| n.is_finite()), 0..5),
    ) {
        let field: Value = serde_json::from_str(&kind.json(&items, blank)).unwrap();
        let body = serde_json::json!({ "other": other, "f": field });
        let text = serde_json::to_vec_pretty(&body).unwrap();
        let rewritten = set("/f", kind.shape()).rewrite_body(&text).unwrap();
        let rest = |text: &[u8]| {
            let mut body: Value = serde_json::from_slice(text).unwrap();
            body["f"].take();
            body
        };
        let rewritten = rewritten.map_or_else(|| rest(&text), |new| rest(&new));
        prop_assert_eq!(rewritten, rest(&text));
    }

    #[test]
    fn canonical_input_passes_byte_for_byte(
        kind in kind(), blank in blank(), (before, after) in surroundings(), count in 1_usize..=4,
    ) {
        let weight = |index| if index == 0 { 1000 - 100 * (count as u32 - 1) } else { 100 };
        let items: Vec<(&str, u32)> =
            SPELLINGS.iter().take(count).enumerate().map(|(i, all)| (all[0], weight(i))).collect();
        let body = format!("{before}{}{after}", kind.json(&items, blank));
        prop_assert_eq!(set("/f", kind.shape()).rewrite_body(body.as_bytes()), Ok(None));
    }

    #[test]
    fn weights_that_do_not_merge_keep_their_bytes(number in 0.0..=1.0_f64) {
        let (one, other) = (serde_json::to_string(&number).unwrap(), Number::Approximate(1.0 - number));
        let body = format!("{{\"Seed\":{one},\"A\":{other}}}");
        let want = format!("{{\"seed\":{one},\"series-a\":{other}}}");
        prop_assert_eq!(rewritten(&set("", Shape::Weights), &body), want);
    }

    #[test]
    fn no_body_makes_it_panic_or_change_without_reason(body in "[\\[\\]{}:,\"a1. f\\\\]{0,40}") {
        for shape in [Shape::Scalar, Shape::List, Shape::Weights, entries()] {
            for at in ["", "/f", "/*/a"] {
                if let Ok(Some(new)) = set(at, shape.clone()).rewrite_body(body.as_bytes()) {
                    prop_assert!(serde_json::from_slice::<&RawValue>(&new).is_ok());
                }
            }
        }
    }

    #[test]
    fn queries_are_rewritten_once_and_nothing_else_in_them(
        items in items(), comma in any::<bool>(), before in "[a-z=%2&]{0,10}", after in "[a-z=+]{0,10}",
    ) {
        let words: Vec<String> =
            items.iter().map(|(spelling, _)| query::encode(spelling)).collect();
        let value = if comma {
            format!("stage={}", words.join(","))
        } else {
            words.iter().map(|word| format!("stage={word}")).collect::<Vec<_>>().join("&")
        };
        let text = format!("{before}&{value}&{after}");
        let set = set("query:stage", Shape::List);
        let new = set.rewrite_query(&text).unwrap().unwrap_or(text);
        let prefix = format!("{before}&");
        let suffix = format!("&{after}");
        let inside = new.strip_prefix(&prefix).and_then(|new| new.strip_suffix(&suffix));
        let Some(new_value) = inside else { return Err(TestCaseError::fail(new)) };
        let mut values: Vec<&str> = new_value.split(['&', ',']).map(|word| {
            word.strip_prefix("stage=").unwrap_or(word)
        }).collect();
        let mut want: Vec<&str> = items.iter().map(|(spelling, _)| {
            SPELLINGS.iter().find(|all| all.contains(spelling)).unwrap()[0]
        }).collect();
        values.sort_unstable();
        want.sort_unstable();
        want.dedup();
        prop_assert_eq!(values, want);
        prop_assert_eq!(set.rewrite_query(&new), Ok(None));
    }
}
