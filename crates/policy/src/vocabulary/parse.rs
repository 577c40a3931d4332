//! What each input of a field means, and what is wrong with those that mean nothing.

use std::borrow::Cow;
use std::collections::BTreeSet;

use arrayvec::ArrayVec;
use serde::Serialize;
use serde_json::value::RawValue;

use super::decimal::{self, Number, NumberError};
use super::invalid::{InvalidInput, Reason, push_index, push_member, shown};
use super::json::{self, Kind, Next};
use super::normalized::{Normalized, Weight};
use super::suggest::{Budget, Suggestions};
use super::{INPUT_BYTES_MAX, ValueId, Vocabulary};

/// Items of one field: a vocabulary has at most a thousand values.
pub const ITEMS_MAX: usize = 1024;

/// In which form a field carries values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `"Series A"`
    Scalar,
    /// `["Series A", "seed"]`
    List,
    /// `{"Series A": 0.6, "seed": 0.4}`
    Weights,
    /// `[{"key": "Series A", "weight": 0.6}]`
    Entries(Members),
}

/// What the two members of an entry are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    pub key: String,
    pub weight: String,
}

impl Default for Members {
    fn default() -> Self {
        Self { key: "key".to_owned(), weight: "weight".to_owned() }
    }
}

/// What became of a field. Each input is in `normalized` or in `invalid_inputs`.
#[derive(Debug, Serialize)]
pub struct Parsed<'a> {
    /// What was understood, in the field's own shape and order.
    pub normalized: Normalized<'a>,
    pub invalid_inputs: Vec<InvalidInput>,
    pub suggestions: Suggestions,
    /// Of all weights that are numbers within the scale, also those of unknown values; null for a
    /// shape without weights.
    pub sum: Option<Number>,
    /// What was understood, input by input.
    #[serde(skip)]
    pub matches: Vec<Match<'a>>,
}

impl Parsed<'_> {
    pub fn is_valid(&self) -> bool {
        self.invalid_inputs.is_empty()
    }
}

/// An input and the canonical value that it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    /// As [`InvalidInput`] shows inputs.
    pub input: String,
    pub value: &'a str,
    /// As it was written.
    pub weight: Option<&'a str>,
}

impl Vocabulary {
    /// Says what each input of `field`, which has the shape `shape`, means.
    pub fn parse<'a>(&'a self, field: &'a RawValue, shape: &'a Shape) -> Parsed<'a> {
        let mut budget = Budget::new();
        let mut reading = Reading::new(self, &mut budget);
        reading.field(field, shape);
        let normalized = reading.normalized(shape);
        let matches = reading.items.iter().map(|item| item.shown(self)).collect();
        let Reading { invalid, suggestions, weights, .. } = reading;
        let sum = matches!(shape, Shape::Weights | Shape::Entries(_)).then_some(weights.sum);
        Parsed { normalized, invalid_inputs: invalid, suggestions, sum, matches }
    }

    /// The same for JSON text that has not been read yet.
    pub fn parse_json<'a>(
        &'a self,
        json: &'a str,
        shape: &'a Shape,
    ) -> Result<Parsed<'a>, serde_json::Error> {
        Ok(self.parse(json::read(json)?, shape))
    }
}

/// A field as it is read.
pub(super) struct Reading<'a, 'b> {
    pub(super) vocabulary: &'a Vocabulary,
    /// What was understood, in the field's order.
    pub(super) items: Vec<Item<'a>>,
    pub(super) invalid: Vec<InvalidInput>,
    pub(super) suggestions: Suggestions,
    /// Some item means the same value as an earlier one.
    pub(super) merges: bool,
    weights: Weights,
    budget: &'b mut Budget,
}

/// The weights so far.
struct Weights {
    sum: Number,
    /// All of them could be read.
    whole: bool,
}

/// An input that was understood.
pub(super) struct Item<'a> {
    /// The string that names the value.
    pub(super) key: &'a RawValue,
    pub(super) text: Cow<'a, str>,
    pub(super) value: ValueId,
    pub(super) weight: Option<(&'a RawValue, Number)>,
    /// The item before this one that means the same value.
    pub(super) merges_into: Option<usize>,
    /// The whole entry, in [`Shape::Entries`].
    pub(super) entry: Option<&'a RawValue>,
    has_more_members: bool,
}

impl<'a> Item<'a> {
    fn shown(&self, vocabulary: &'a Vocabulary) -> Match<'a> {
        Match {
            input: shown(&self.text),
            value: &vocabulary.value(self.value).text,
            weight: self.weight.map(|(raw, _)| raw.get()),
        }
    }
}

impl<'a, 'b> Reading<'a, 'b> {
    pub(super) fn new(vocabulary: &'a Vocabulary, budget: &'b mut Budget) -> Self {
        Self {
            vocabulary,
            items: Vec::new(),
            invalid: Vec::new(),
            suggestions: Suggestions::default(),
            merges: false,
            weights: Weights { sum: Number::ZERO, whole: true },
            budget,
        }
    }

    pub(super) fn field(&mut self, field: &'a RawValue, shape: &Shape) {
        match shape {
            Shape::Scalar => {
                if let Some(text) = self.text(field, String::new)
                    && let Some(value) = self.value(&text, String::new)
                {
                    self.push(Item::scalar(field, text, value), String::new);
                }
            }
            Shape::List => self.list(field),
            Shape::Weights => self.weights(field),
            Shape::Entries(names) => self.entries(field, names),
        }
    }

    fn fault(&mut self, at: String, input: &str, reason: Reason) {
        self.invalid.push(InvalidInput::new(at, input, reason));
    }

    /// Whether `field` is what the shape says and has an item.
    fn is(&mut self, field: &RawValue, kind: Kind) -> bool {
        if !self.has_kind(field, kind, String::new) {
            return false;
        }
        let inside = field.get().as_bytes();
        let is_empty = inside[1..inside.len() - 1].iter().all(u8::is_ascii_whitespace);
        if is_empty {
            self.fault(String::new(), field.get(), Reason::Empty);
        }
        !is_empty
    }

    fn has_kind(&mut self, value: &RawValue, kind: Kind, at: impl FnOnce() -> String) -> bool {
        let found = Kind::of(value);
        if found != kind {
            let reason = Reason::WrongType { expected: kind.name(), found: found.name() };
            self.fault(at(), value.get(), reason);
        }
        found == kind
    }

    /// The text of a string.
    fn text(&mut self, string: &'a RawValue, at: impl Fn() -> String) -> Option<Cow<'a, str>> {
        if !self.has_kind(string, Kind::String, &at) {
            return None;
        }
        // An escape takes six bytes for one.
        let text = if string.get().len() > 6 * INPUT_BYTES_MAX + 2 {
            Err(Reason::TooLong)
        } else {
            json::text(string).ok_or(Reason::NotText)
        };
        let text = text.and_then(|text| match text.len() {
            0 => Err(Reason::Empty),
            1..=INPUT_BYTES_MAX => Ok(text),
            _ => Err(Reason::TooLong),
        });
        match text {
            Ok(text) => Some(text),
            Err(reason) => {
                self.fault(at(), string.get(), reason);
                None
            }
        }
    }

    /// The value that `text` means.
    fn value(&mut self, text: &str, at: impl FnOnce() -> String) -> Option<ValueId> {
        let found = self.vocabulary.lookup(text);
        if found.is_none() {
            self.fault(at(), text, Reason::UnknownValue);
            let input = shown(text);
            if self.suggestions.of(&input).is_empty() {
                let near = self.vocabulary.nearest(text, self.budget);
                if !near.is_empty() {
                    self.suggestions.0.push((input, near));
                }
            }
        }
        found
    }

    /// Reads a weight and adds it to the sum.
    fn weight(&mut self, raw: &'a RawValue, at: impl FnOnce() -> String) -> Option<Number> {
        let whole = self.vocabulary.scale.whole();
        let read = match Kind::of(raw) {
            Kind::Number => decimal::read(raw.get(), whole).map_err(|error| match error {
                NumberError::Negative => Reason::Negative,
                NumberError::AboveBound => Reason::AboveScale { whole },
            }),
            Kind::String if json::text(raw).is_some_and(|text| json::is_non_finite(&text)) => {
                Err(Reason::NotFinite)
            }
            found => Err(Reason::WrongType { expected: "a number", found: found.name() }),
        };
        match read {
            Ok(number) => {
                self.weights.sum = self.weights.sum.plus(number);
                Some(number)
            }
            Err(reason) => {
                self.weights.whole = false;
                // Quotes around a NaN may be our own.
                let is_word = reason == Reason::NotFinite;
                let input = if is_word { raw.get().trim_matches('"') } else { raw.get() };
                self.fault(at(), input, reason);
                None
            }
        }
    }

    /// Takes an item that was understood.
    fn push(&mut self, mut item: Item<'a>, at: impl FnOnce() -> String) {
        item.merges_into = self
            .items
            .iter()
            .position(|known| known.value == item.value && known.merges_into.is_none());
        if let Some(first) = item.merges_into {
            let drops = |item: &Item<'_>| item.has_more_members;
            if drops(&item) || drops(&self.items[first]) {
                let text = item.text.into_owned();
                return self.fault(at(), &text, Reason::CannotMerge);
            }
            self.merges = true;
        }
        self.items.push(item);
    }

    /// Whether one more of `count` items is taken.
    fn has_room(&mut self, count: usize, field: &RawValue) -> bool {
        if count < ITEMS_MAX {
            return true;
        }
        // None of the items is taken, so that nobody takes a part of them for all.
        self.items.clear();
        self.invalid.clear();
        self.suggestions = Suggestions::default();
        self.merges = false;
        self.weights = Weights { sum: Number::ZERO, whole: false };
        self.fault(String::new(), field.get(), Reason::TooMany);
        false
    }

    fn list(&mut self, field: &'a RawValue) {
        if !self.is(field, Kind::Array) {
            return;
        }
        json::items(field, |index, item| {
            if !self.has_room(index, field) {
                return Next::Stop;
            }
            let at = || pointer_to(index);
            if let Some(text) = self.text(item, at)
                && let Some(value) = self.value(&text, at)
            {
                self.push(Item::scalar(item, text, value), at);
            }
            Next::Continue
        });
    }

    fn weights(&mut self, field: &'a RawValue) {
        if !self.is(field, Kind::Object) {
            return;
        }
        let mut names = Names::default();
        let mut count = 0;
        json::members(field, |key, raw| {
            if !self.has_room(count, field) {
                return Next::Stop;
            }
            count += 1;
            let text = self.text(key, || pointer_to_member(key));
            let at = || pointer_to_member(key);
            let weight = self.weight(raw, at);
            let Some(text) = text else { return Next::Continue };
            if !names.insert(text.clone()) {
                self.fault(at(), &text, Reason::DuplicateKey);
                return Next::Continue;
            }
            let value = self.value(&text, at);
            if let (Some(value), Some(weight)) = (value, weight) {
                let weight = Some((raw, weight));
                self.push(Item { weight, ..Item::scalar(key, text, value) }, at);
            }
            Next::Continue
        });
        self.judge_sum();
    }

    fn entries(&mut self, field: &'a RawValue, names: &Members) {
        if !self.is(field, Kind::Array) {
            return;
        }
        json::items(field, |index, entry| {
            if !self.has_room(index, field) {
                return Next::Stop;
            }
            self.entry(index, entry, names);
            Next::Continue
        });
        self.judge_sum();
    }

    fn entry(&mut self, index: usize, entry: &'a RawValue, names: &Members) {
        let to = |name: &str| {
            let mut at = pointer_to(index);
            push_member(&mut at, name);
            at
        };
        if !self.has_kind(entry, Kind::Object, || pointer_to(index)) {
            self.weights.whole = false;
            return;
        }
        let (mut key, mut raw, mut has_more_members) = (None, None, false);
        let mut is_double = false;
        json::members(entry, |name, value| {
            let text = json::text(name);
            let slot = match text.as_deref() {
                Some(text) if text == names.key => &mut key,
                Some(text) if text == names.weight => &mut raw,
                _ => {
                    has_more_members = true;
                    return Next::Continue;
                }
            };
            if slot.is_some() {
                is_double = true;
                self.fault(to(&text.unwrap_or_default()), value.get(), Reason::DuplicateKey);
            }
            *slot = Some(value);
            Next::Continue
        });
        if is_double {
            self.weights.whole = false;
            return;
        }
        let missing = |reading: &mut Self, name: &str| {
            let reason = Reason::MissingMember(name.to_owned());
            reading.fault(pointer_to(index), entry.get(), reason);
        };
        let at = || to(&names.key);
        let mut found = None;
        match key {
            None => missing(self, &names.key),
            Some(key) => {
                if let Some(text) = self.text(key, at)
                    && let Some(value) = self.value(&text, at)
                {
                    found = Some(Item::scalar(key, text, value));
                }
            }
        }
        let Some(raw) = raw else {
            self.weights.whole = false;
            return missing(self, &names.weight);
        };
        let weight = self.weight(raw, || to(&names.weight));
        if let (Some(item), Some(weight)) = (found, weight) {
            let (entry, weight) = (Some(entry), Some((raw, weight)));
            self.push(Item { entry, weight, has_more_members, ..item }, at);
        }
    }

    /// A sum is judged where it is known: one fault is not to be told twice.
    fn judge_sum(&mut self) {
        let (whole, tolerance) = (self.vocabulary.scale.whole(), self.vocabulary.tolerance);
        let sum = self.weights.sum;
        if self.weights.whole && !sum.is_near(whole, tolerance) {
            let reason = Reason::SumOff { sum, whole, tolerance };
            self.fault(String::new(), &sum.to_string(), reason);
        }
    }

    /// The first item of each value with the weight of all of them.
    pub(super) fn merged(&self) -> Vec<(&Item<'a>, Option<Weight<'a>>)> {
        let mut sums: Vec<(&Item<'a>, Option<Number>)> = Vec::new();
        // Places in `items` and in `sums` differ as soon as something has merged.
        let mut places = vec![0; self.items.len()];
        for (index, item) in self.items.iter().enumerate() {
            match item.merges_into {
                None => {
                    places[index] = sums.len();
                    sums.push((item, None));
                }
                Some(first) => {
                    let (first, sum) = &mut sums[places[first]];
                    if let (Some((_, own)), Some((_, more))) = (first.weight, item.weight) {
                        *sum = Some(sum.unwrap_or(own).plus(more));
                    }
                }
            }
        }
        let weight = |(item, sum): (&'_ Item<'a>, Option<Number>)| match sum {
            Some(sum) => Some(Weight::Merged(sum.to_json())),
            None => item.weight.map(|(raw, _)| Weight::Given(raw)),
        };
        sums.into_iter().map(|(item, sum)| (item, weight((item, sum)))).collect()
    }

    fn normalized(&self, shape: &'a Shape) -> Normalized<'a> {
        let text = |item: &Item<'a>| &*self.vocabulary.value(item.value).text;
        let weights = || {
            let weighted = |(item, weight): (&Item<'a>, Option<Weight<'a>>)| {
                weight.map(|weight| (text(item), weight))
            };
            self.merged().into_iter().filter_map(weighted).collect()
        };
        match shape {
            Shape::Scalar => Normalized::Scalar(self.items.first().map(text)),
            Shape::List => {
                let firsts = self.items.iter().filter(|item| item.merges_into.is_none());
                Normalized::List(firsts.map(text).collect())
            }
            Shape::Weights => Normalized::Weights(weights()),
            Shape::Entries(names) => Normalized::Entries(names, weights()),
        }
    }
}

impl<'a> Item<'a> {
    const fn scalar(key: &'a RawValue, text: Cow<'a, str>, value: ValueId) -> Self {
        Self {
            key,
            text,
            value,
            weight: None,
            merges_into: None,
            entry: None,
            has_more_members: false,
        }
    }
}

fn pointer_to(index: usize) -> String {
    let mut at = String::new();
    push_index(&mut at, index);
    at
}

/// The pointer to a member, from the string that is its name.
fn pointer_to_member(name: &RawValue) -> String {
    let mut at = String::new();
    match json::text(name) {
        Some(text) => push_member(&mut at, &text),
        None => push_member(&mut at, name.get().trim_matches('"')),
    }
    at
}

/// The names of an object so far. Few are compared one by one; many are looked up, without a hash
/// that a client could choose names against.
#[derive(Default)]
struct Names<'a> {
    few: ArrayVec<Cow<'a, str>, 16>,
    many: BTreeSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    /// Whether `name` was not there yet.
    fn insert(&mut self, name: Cow<'a, str>) -> bool {
        if self.few.contains(&name) {
            return false;
        }
        match self.few.try_push(name) {
            Ok(()) => true,
            Err(full) => self.many.insert(full.element()),
        }
    }
}

#[cfg(test)]
mod tests;
