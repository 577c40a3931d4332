//! The short way: whether a body that has been parsed needs no other one.
//!
//! Most bodies carry canonical values already. They are seen in the tree that all checks share;
//! reading the text again, value by value, cost five times as much as this. It says "yes" only
//! where the long way is certain to change nothing and to find nothing; so every number that a
//! double could have rounded over a bound takes the long way.

use serde_json::{Map, Value};

use super::ValueId;
use super::parse::{Members, Shape};
use super::rewrite::{Field, FieldSet, OnAlias};

/// More items than this take the long way.
const ITEMS_MAX: usize = 32;

impl FieldSet {
    /// Whether [`Self::rewrite_body`] would leave the text of `root` as it is. `false` where it is
    /// not certain.
    pub fn is_settled(&self, root: &Value) -> bool {
        self.body().iter().all(|(pointer, field)| {
            pointer.all(root, &mut |value| Settled::of(field).field(value, &field.shape))
        })
    }
}

/// What a field is made of so far.
struct Settled<'a> {
    field: &'a Field,
    seen: Vec<ValueId>,
    sum: f64,
}

impl<'a> Settled<'a> {
    const fn of(field: &'a Field) -> Self {
        Self { field, seen: Vec::new(), sum: 0.0 }
    }

    fn field(mut self, value: &Value, shape: &Shape) -> bool {
        match (shape, value) {
            (Shape::Scalar, Value::String(text)) => self.word(text),
            (Shape::List, Value::Array(items)) => {
                is_few(items.len()) && items.iter().all(|item| self.item(item))
            }
            (Shape::Weights, Value::Object(members)) => {
                is_few(members.len())
                    && members.iter().all(|(name, weight)| self.word(name) && self.weight(weight))
                    && self.is_whole()
            }
            (Shape::Entries(names), Value::Array(entries)) => {
                is_few(entries.len())
                    && entries.iter().all(|entry| self.entry(entry, names))
                    && self.is_whole()
            }
            _ => false,
        }
    }

    fn item(&mut self, item: &Value) -> bool {
        item.as_str().is_some_and(|text| self.word(text))
    }

    fn entry(&mut self, entry: &Value, names: &Members) -> bool {
        let part = |name: &str| entry.as_object().and_then(|entry: &Map<_, _>| entry.get(name));
        let (key, weight) = (part(&names.key), part(&names.weight));
        key.is_some_and(|key| self.item(key)) && weight.is_some_and(|weight| self.weight(weight))
    }

    /// Whether `text` stays as it is, and is there for the first time.
    fn word(&mut self, text: &str) -> bool {
        let vocabulary = &self.field.vocabulary;
        let Some(id) = vocabulary.lookup(text) else { return false };
        let stays = self.field.on_alias == OnAlias::Pass || *vocabulary.value(id).text == *text;
        let is_new = !self.seen.contains(&id);
        self.seen.push(id);
        stays && is_new
    }

    fn weight(&mut self, weight: &Value) -> bool {
        let Some(weight) = weight.as_f64() else { return false };
        self.sum += weight;
        // The whole itself could be a little more, rounded.
        weight.is_sign_positive() && weight < self.whole()
    }

    /// Whether the weights add up, by more than what doubles can be wrong by.
    fn is_whole(&self) -> bool {
        (self.sum - self.whole()).abs() < self.field.vocabulary.tolerance_f64 / 2.0
    }

    fn whole(&self) -> f64 {
        f64::from(self.field.vocabulary.scale().whole_number())
    }
}

/// None at all is a fault, and many are looked for each in all others.
fn is_few(count: usize) -> bool {
    (1..=ITEMS_MAX).contains(&count)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::tests::stages;
    use super::*;

    fn set(shape: Shape, on_alias: OnAlias) -> FieldSet {
        let at = "/f".parse().unwrap();
        FieldSet::new([Field { at, vocabulary: Arc::new(stages()), shape, on_alias }]).unwrap()
    }

    fn entries() -> Shape {
        Shape::Entries(Members::default())
    }

    #[test]
    fn what_is_canonical_goes_the_short_way() {
        for (shape, body, want) in [
            (Shape::Scalar, r#"{"f":"seed"}"#, true),
            (Shape::Scalar, r#"{"g":"x"}"#, true),
            (Shape::Scalar, r#"{"f":"Seed"}"#, false),
            (Shape::Scalar, r#"{"f":"sead"}"#, false),
            (Shape::Scalar, r#"{"f":1}"#, false),
            (Shape::List, r#"{"f":["seed","growth"]}"#, true),
            (Shape::List, r#"{"f":["seed","seed"]}"#, false),
            (Shape::List, r#"{"f":[]}"#, false),
            (Shape::Weights, r#"{"f":{"seed":0.3,"growth":0.7}}"#, true),
            (Shape::Weights, r#"{"f":{"seed":0.3,"growth":0.71}}"#, false),
            (Shape::Weights, r#"{"f":{"seed":-0.3,"growth":0.7}}"#, false),
            (Shape::Weights, r#"{"f":{"seed":1}}"#, false),
            (
                entries(),
                r#"{"f":[{"key":"seed","weight":0.5},{"key":"growth","weight":0.5}]}"#,
                true,
            ),
            (entries(), r#"{"f":[{"key":"seed","weight":0.5},{"key":"growth"}]}"#, false),
        ] {
            let root = serde_json::from_str(body).unwrap();
            assert_eq!(set(shape, OnAlias::Rewrite).is_settled(&root), want, "{body}");
        }
        let aliases = serde_json::from_str(r#"{"f":["Seed","Growth"]}"#).unwrap();
        assert!(set(Shape::List, OnAlias::Pass).is_settled(&aliases));
    }

    fn word() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(&["seed", "Seed", "series-a", "A", "growth", "sead", ""][..])
    }

    fn number() -> impl Strategy<Value = &'static str> {
        const NUMBERS: &[&str] = &[
            "0",
            "-0",
            "0.5",
            "0.4999",
            "1",
            "1.00000000000000000001",
            "0.4",
            "0.6",
            "-0.1",
            "2",
            "\"1\"",
            "null",
        ];
        proptest::sample::select(NUMBERS)
    }

    /// A body of which the field has these words and numbers in this shape.
    fn body(shape: &Shape, items: &[(&str, &str)]) -> String {
        let each = |text: fn(&str, &str) -> String| -> String {
            items.iter().map(|(word, number)| text(word, number)).collect::<Vec<_>>().join(",")
        };
        match shape {
            Shape::Scalar => format!("{{\"f\":\"{}\"}}", items.first().map_or("x", |item| item.0)),
            Shape::List => format!("{{\"f\":[{}]}}", each(|word, _| format!("\"{word}\""))),
            Shape::Weights => {
                format!("{{\"f\":{{{}}}}}", each(|word, number| format!("\"{word}\":{number}")))
            }
            Shape::Entries(_) => {
                let entry = |word: &str, number: &str| {
                    format!("{{\"key\":\"{word}\",\"weight\":{number}}}")
                };
                format!("{{\"f\":[{}]}}", each(entry))
            }
        }
    }

    proptest! {
        /// The short way never says "yes" where the long way would change or find something.
        #[test]
        fn the_short_way_agrees_with_the_long_one(
            shape in 0..4usize,
            pass in any::<bool>(),
            items in proptest::collection::vec((word(), number()), 0..5),
        ) {
            let shape = [Shape::Scalar, Shape::List, Shape::Weights, entries()][shape].clone();
            let text = body(&shape, &items);
            let set = set(shape, if pass { OnAlias::Pass } else { OnAlias::Rewrite });
            // A name that is there twice has no tree: the body is refused before.
            if let Ok(root) = crate::content::parse_json(text.as_bytes())
                && set.is_settled(&root)
            {
                prop_assert_eq!(set.rewrite_body(text.as_bytes()), Ok(None), "{}", text);
            }
        }
    }
}
