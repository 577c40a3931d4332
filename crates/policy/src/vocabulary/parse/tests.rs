use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{stages, words};
use super::super::{Scale, Settings};
use super::*;

fn entries() -> Shape {
    Shape::Entries(Members::default())
}

fn parsed(vocabulary: &Vocabulary, shape: &Shape, json: &str) -> Value {
    let parsed =
        vocabulary.parse_json(json, shape).unwrap_or_else(|error| panic!("{json}: {error}"));
    serde_json::to_value(parsed).unwrap()
}

/// `at: reason` of each invalid input.
fn faults(parsed: &Value) -> Vec<String> {
    let inputs = parsed["invalid_inputs"].as_array().unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    inputs.iter().map(|input| word(&input["at"]) + ": " + &word(&input["reason"])).collect()
}

#[test]
fn the_example_of_the_manual() {
    let stages = stages();
    let parsed = stages.parse_json(r#"{"Series A": 0.6, "sead": 0.4}"#, &Shape::Weights).unwrap();
    assert_eq!(
        serde_json::to_string(&parsed).unwrap(),
        r#"{"normalized":{"series-a":0.6},"invalid_inputs":[{"at":"/sead","input":"sead","reason":"unknown-value","detail":"is none of the values"}],"suggestions":{"sead":["seed"]},"sum":1}"#
    );
    assert!(!parsed.is_valid());
    let [only] = &parsed.matches[..] else { panic!() };
    assert_eq!((&*only.input, only.value, only.weight), ("Series A", "series-a", Some("0.6")));
}

#[test]
fn what_is_understood_is_normalised() {
    let stages = stages();
    for (shape, json, want) in [
        (Shape::Scalar, r#""Series A""#, r#""series-a""#),
        (Shape::Scalar, r#""s\u0065ries_a""#, r#""series-a""#),
        (Shape::List, r#"["SEED","pre seed"]"#, r#"["seed","pre-seed"]"#),
        (Shape::List, r#"["a","seed","Series A"]"#, r#"["series-a","seed"]"#),
        (Shape::Weights, r#"{"Seed":1}"#, r#"{"seed":1}"#),
        (Shape::Weights, r#"{"b":0.70,"Seed":3.0e-1}"#, r#"{"series-b":0.70,"seed":3.0e-1}"#),
        (Shape::Weights, r#"{"a":0.1,"seed":0.7,"A ":0.2}"#, r#"{"series-a":0.3,"seed":0.7}"#),
        (Shape::Weights, r#"{"a":0.1,"A":0.2,"Series-A":0.70}"#, r#"{"series-a":1}"#),
        (
            Shape::Weights,
            r#"{"seed":0,"growth":-0,"a":1}"#,
            r#"{"seed":0,"growth":-0,"series-a":1}"#,
        ),
        (
            entries(),
            r#"[{"weight":0.25,"key":"Growth","note":1},{"key":"late","weight":0.75}]"#,
            r#"[{"key":"growth","weight":0.25},{"key":"late-stage","weight":0.75}]"#,
        ),
        (
            entries(),
            r#"[{"key":"Growth","weight":0.1},{"key":"growth stage","weight":0.2},{"key":"a","weight":0.7}]"#,
            r#"[{"key":"growth","weight":0.3},{"key":"series-a","weight":0.7}]"#,
        ),
    ] {
        let parsed = stages.parse_json(json, &shape).unwrap();
        assert_eq!(serde_json::to_string(&parsed.normalized).unwrap(), want, "{json}");
        assert!(parsed.is_valid(), "{json}: {:?}", parsed.invalid_inputs);
        assert!(parsed.suggestions.is_empty());
    }
}

#[test]
fn each_fault_has_its_place_and_reason() {
    let stages = stages();
    let (long, half) = (format!("\"{}\"", "s".repeat(1025)), r#""\ud800""#);
    let many = format!("[{}\"seed\"]", "\"seed\",".repeat(ITEMS_MAX));
    let cases: Vec<(Shape, &str, &[&str])> = vec![
        (Shape::Scalar, r#""""#, &[": empty"]),
        (Shape::Scalar, r#"" - ""#, &[": unknown-value"]),
        (Shape::Scalar, r#""angel""#, &[": unknown-value"]),
        (Shape::Scalar, "null", &[": wrong-type"]),
        (Shape::Scalar, "1", &[": wrong-type"]),
        (Shape::Scalar, r#"["seed"]"#, &[": wrong-type"]),
        (Shape::Scalar, &long, &[": too-long"]),
        (Shape::Scalar, half, &[": not-text"]),
        (Shape::List, "[ ]", &[": empty"]),
        (Shape::List, r#""seed""#, &[": wrong-type"]),
        (
            Shape::List,
            r#"["seed", 1, "", "x", null]"#,
            &["/1: wrong-type", "/2: empty", "/3: unknown-value", "/4: wrong-type"],
        ),
        (Shape::List, &many, &[": too-many"]),
        (Shape::Weights, "{}", &[": empty"]),
        (Shape::Weights, "[]", &[": wrong-type"]),
        (Shape::Weights, r#"{"seed":0.5,"a":0.4}"#, &[": sum-off"]),
        (Shape::Weights, r#"{"seed":0}"#, &[": sum-off"]),
        (Shape::Weights, r#"{"seed":0.5,"a":0.6}"#, &[": sum-off"]),
        (Shape::Weights, r#"{"seed":-0.5,"a":0.5}"#, &["/seed: negative"]),
        (Shape::Weights, r#"{"seed":1.5,"a":0.5}"#, &["/seed: above-scale"]),
        (Shape::Weights, r#"{"seed":1e400}"#, &["/seed: above-scale"]),
        (Shape::Weights, r#"{"seed":-1e400}"#, &["/seed: negative"]),
        (
            Shape::Weights,
            r#"{"seed":"NaN","a":"-Infinity"}"#,
            &["/seed: not-finite", "/a: not-finite"],
        ),
        (
            Shape::Weights,
            r#"{"seed":"0.5","a":null,"b":true}"#,
            &["/seed: wrong-type", "/a: wrong-type", "/b: wrong-type"],
        ),
        (Shape::Weights, r#"{"seed":0.5,"s\u0065ed":0.5}"#, &["/seed: duplicate-key"]),
        (
            Shape::Weights,
            r#"{"x/y":0.5,"x/y":0.5}"#,
            &["/x~1y: unknown-value", "/x~1y: duplicate-key"],
        ),
        (Shape::Weights, r#"{"":1}"#, &["/: empty"]),
        (Shape::Weights, r#"{"\ud800":1}"#, &["/\\ud800: not-text"]),
        (Shape::Weights, r#"{"nope":-1}"#, &["/nope: negative", "/nope: unknown-value"]),
        (entries(), r#"{"seed":1}"#, &[": wrong-type"]),
        (entries(), "[]", &[": empty"]),
        (
            entries(),
            r#"["seed",{},{"key":"seed"},{"weight":1}]"#,
            &[
                "/0: wrong-type",
                "/1: missing-member",
                "/1: missing-member",
                "/2: missing-member",
                "/3: missing-member",
            ],
        ),
        (
            entries(),
            r#"[{"key":1,"weight":"x"}]"#,
            &["/0/key: wrong-type", "/0/weight: wrong-type"],
        ),
        (entries(), r#"[{"key":"seed","key":"a","weight":1}]"#, &["/0/key: duplicate-key"]),
        (entries(), r#"[{"key":"sed","weight":1}]"#, &["/0/key: unknown-value"]),
        (
            entries(),
            r#"[{"key":"a","weight":0.5,"note":"x"},{"key":"Series A","weight":0.5}]"#,
            &["/1/key: cannot-merge"],
        ),
    ];
    for (shape, json, want) in cases {
        assert_eq!(faults(&parsed(&stages, &shape, json)), want, "{json}");
    }
}

#[test]
fn faults_say_what_was_expected() {
    let stages = stages();
    let details = |shape: &Shape, json: &str| {
        let inputs = stages.parse_json(json, shape).unwrap().invalid_inputs;
        inputs.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        details(&Shape::Weights, r#"{"seed":0.5,"a":0.4}"#),
        ["the weights add up to 0.9 instead of 1 (± 0.001)"]
    );
    assert_eq!(
        details(&Shape::Weights, r#"{"seed":{"a": 1},"sead":1.5}"#),
        [
            "{\"a\": 1}: expected a number, not an object",
            "1.5: is above 1",
            "\"sead\": is none of the values",
        ]
    );
    let control = parsed(&stages, &Shape::Scalar, "\"\\u001b[2J\"");
    assert_eq!(control["invalid_inputs"][0]["input"], "\\u{1b}[2J");
    let long = parsed(&stages, &Shape::Scalar, &format!("\"{}\"", "x".repeat(10_000_000)));
    assert_eq!(long["invalid_inputs"][0]["input"].as_str().unwrap().chars().count(), 61);
}

#[test]
fn the_scale_and_the_names_of_members_are_settings() {
    let percent = Settings { scale: Scale::Hundred, ..words(&[("cash", &[]), ("card", &[])]) };
    let percent = Vocabulary::build(&percent).unwrap();
    let shape = Shape::Entries(Members { key: "kind".to_owned(), weight: "share".to_owned() });
    let parsed =
        parsed(&percent, &shape, r#"[{"kind":"CASH","share":66.6},{"kind":"card","share":33.3}]"#);
    assert_eq!(parsed["invalid_inputs"], json!([]));
    assert_eq!(
        parsed["normalized"],
        json!([{"kind": "cash", "share": 66.6}, {"kind": "card", "share": 33.3}])
    );
    assert_eq!(parsed["sum"], json!(99.9));
}

#[test]
fn suggestions_are_few_and_only_for_what_is_near() {
    let parsed =
        parsed(&stages(), &Shape::List, r#"["sead","sead","Series D","quarterly report"]"#);
    assert_eq!(
        parsed["suggestions"],
        json!({"sead": ["seed"], "Series D": ["series-a", "series-b", "series-c"]})
    );
    assert_eq!(parsed["normalized"], json!([]));
    assert_eq!(parsed["sum"], Value::Null);
}

/// Spellings of the stages, right and wrong ones.
fn spelling() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "seed",
        "Seed",
        "SEED round",
        "series-a",
        "Series A",
        "a",
        "series_b",
        "B",
        "growth",
        "Growth\u{2011}Stage",
        "late",
        "pre seed",
        "preseed",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => "\\PC{0,12}"]
}

fn weight() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0_u32..=1000).prop_map(|n| format!("{}", f64::from(n) / 1000.0)),
        2 => (0.0..=1.0_f64).prop_map(|n| serde_json::to_string(&n).unwrap()),
        1 => prop::sample::select(vec!["1.5", "-0.1", "1e400", "null", "\"x\"", "1e-45", "0.50"])
            .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn every_input_is_understood_or_invalid(
        pairs in prop::collection::vec((spelling(), weight()), 1..12),
        as_entries in any::<bool>(),
    ) {
        let stages = stages();
        let quoted = |text: &String| serde_json::to_string(text).unwrap();
        let (shape, json) = if as_entries {
            let entry = |(key, weight): &(String, String)| {
                format!("{{\"key\":{},\"weight\":{weight}}}", quoted(key))
            };
            let all: Vec<String> = pairs.iter().map(entry).collect();
            (entries(), format!("[{}]", all.join(",")))
        } else {
            let member = |(key, weight): &(String, String)| format!("{}:{weight}", quoted(key));
            let members: Vec<String> = pairs.iter().map(member).collect();
            (Shape::Weights, format!("{{{}}}", members.join(",")))
        };
        let parsed = stages.parse_json(&json, &shape).unwrap();
        // Counted by place: each input is at exactly one side.
        let places: BTreeSet<String> = parsed
            .invalid_inputs
            .iter()
            .filter(|input| !matches!(input.reason, Reason::SumOff { .. }))
            .map(|input| input.at.clone())
            .collect();
        let place = |(index, (key, _)): (usize, &(String, String))| {
            let mut at = String::new();
            if as_entries { push_index(&mut at, index) } else { push_member(&mut at, key) }
            at
        };
        let touched = |at: &str| {
            places.iter().any(|place| place == at || place.starts_with(&format!("{at}/")))
        };
        let mut understood = 0;
        let mut distinct = BTreeSet::new();
        for pair in pairs.iter().enumerate() {
            let key = &pair.1.0;
            let at = place(pair);
            let is_match = parsed.matches.iter().any(|found| found.input == shown(key));
            prop_assert!(touched(&at) || is_match, "{json}: {at} was dropped");
            distinct.insert(at);
            understood += usize::from(is_match);
        }
        prop_assert!(understood + places.len() >= distinct.len());
        // The values of the normalised form are those of the matches, each once.
        let values: BTreeSet<&str> =
            parsed.matches.iter().map(|found| found.value).collect();
        let (Normalized::Weights(weights) | Normalized::Entries(_, weights)) = &parsed.normalized
        else { panic!() };
        prop_assert_eq!(weights.len(), values.len());
        // What goes in comes out: the weights of the matches are those of the normalised form.
        let one = crate::vocabulary::Decimal::whole(1);
        let sum_in = parsed.matches.iter().fold(Number::ZERO, |sum, found| {
            sum.plus(decimal::read(found.weight.unwrap(), one).unwrap())
        });
        let bound = crate::vocabulary::Decimal::whole(1000);
        let sum_out = weights.iter().fold(Number::ZERO, |sum, (_, weight)| {
            sum.plus(decimal::read(weight.as_str(), bound).unwrap())
        });
        match (sum_in, sum_out) {
            (Number::Exact(sum_in), Number::Exact(sum_out)) => prop_assert_eq!(sum_in, sum_out),
            (sum_in, sum_out) => {
                prop_assert!((sum_in.to_f64() - sum_out.to_f64()).abs() < 1e-12);
            }
        }
        // And where all is valid, the sum that is told is the same.
        if parsed.is_valid() {
            prop_assert!((parsed.sum.unwrap().to_f64() - sum_in.to_f64()).abs() < 1e-12);
            prop_assert_eq!(parsed.matches.len(), pairs.len());
        }
    }
}
