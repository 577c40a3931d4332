//! Fields whose values should be one of a canonical set, spelled in many ways in the wild.
//!
//! 1. A vocabulary is a set of canonical values, each with aliases. A spelling means a value where
//!    both fold alike ([`fold`]): case, Unicode form, spaces, dashes and underscores do not count.
//! 2. Each folded spelling means one value; a vocabulary in which one means two is refused.
//! 3. A field has a [`Shape`]: one value, a list, an object of weights, or a list of entries of a
//!    value and a weight. [`Vocabulary::parse`] says what each input means and what is wrong with
//!    those that mean nothing; none is dropped, and none is given a default.
//! 4. Aliases of one value merge: in a list they are one item, and weights add up as decimals.
//! 5. Weights are numbers from 0 to the whole of the scale, and add up to it within the tolerance.
//! 6. [`FieldSet`] finds the fields in a body or a query and writes canonical values in place of
//!    the aliases; every other byte stays as it came.
//! 7. What is suggested for an unknown input is at most three values within a short edit distance,
//!    and never the list of all values.

mod config;
mod decimal;
mod fold;
mod form;
mod invalid;
mod json;
mod normalized;
mod parse;
mod place;
mod query;
mod rewrite;
mod settled;
mod stages;
mod suggest;

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasherDefault;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

pub use self::config::{
    Config, ConfigError, ConfigFault, FieldConfig, Fields, ShapeName, Values, VocabularyConfig,
};
pub use self::decimal::{Decimal, Number};
pub use self::fold::{Folded, fold};
pub use self::invalid::{InvalidInput, Reason};
pub use self::json::quote_non_finite;
pub use self::normalized::{Normalized, Weight};
pub use self::parse::{ITEMS_MAX, Match, Members, Parsed, Shape};
pub use self::place::{At, AtError, Pointer};
pub use self::rewrite::{Field, FieldError, FieldSet, INVALID_MAX, Invalid, OnAlias, Refusal};
pub use self::suggest::{SUGGESTIONS_MAX, Suggestions};

/// Canonical values of a vocabulary. Currencies are 180, countries 250.
pub const VALUES_MAX: usize = 1000;

/// Aliases of one value.
pub const ALIASES_MAX: usize = 64;

/// Characters of a value or alias: they are words, not texts.
pub const VALUE_CHARS_MAX: usize = 100;

/// Bytes of an input. A longer one means nothing: it would be fifty spellings of a word.
pub const INPUT_BYTES_MAX: usize = 1024;

/// A set of canonical values, and what each spelling of them means.
pub struct Vocabulary {
    name: Box<str>,
    values: Box<[Value]>,
    spellings: HashMap<Box<[u8]>, ValueId, BuildHasherDefault<SipHasher13>>,
    scale: Scale,
    tolerance: Decimal,
    /// The same, for the short way.
    tolerance_f64: f64,
}

/// What a vocabulary is made of, before it is checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What configs, messages and the command line call it.
    pub name: String,
    /// Canonical values with their aliases. A value that folds like its alias is no fault.
    pub values: Vec<(String, Vec<String>)>,
    pub scale: Scale,
    /// How far from the whole the weights may be, in the unit of the scale. A thousandth of the
    /// whole where it is not set.
    pub sum_tolerance: Option<f64>,
}

/// What weights add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Scale {
    /// Shares.
    #[default]
    #[serde(rename = "0-1")]
    One,
    /// Percent.
    #[serde(rename = "0-100")]
    Hundred,
}

impl Scale {
    pub const fn whole(self) -> Decimal {
        Decimal::whole(self.whole_number())
    }

    const fn whole_number(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Hundred => 100,
        }
    }
}

/// A vocabulary that ships with the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Builtin {
    /// Stages of venture funding.
    Stages,
}

impl Builtin {
    pub const ALL: [Self; 1] = [Self::Stages];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Stages => "stages",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|builtin| builtin.name() == name)
    }

    /// The values and aliases.
    pub fn settings(self) -> Settings {
        let values = match self {
            Self::Stages => stages::VALUES,
        };
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Settings {
            name: self.name().to_owned(),
            values: values.iter().map(|(value, also)| ((*value).to_owned(), owned(also))).collect(),
            scale: Scale::One,
            sum_tolerance: None,
        }
    }
}

/// A value's place in its vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ValueId(u16);

/// A canonical value in the forms in which it is written.
struct Value {
    text: Box<str>,
    /// With its quotes and escapes.
    json: Box<str>,
    /// Percent-encoded.
    query: Box<str>,
}

/// Why a vocabulary is refused. Fits after "failed to build the vocabulary: ".
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BuildError {
    #[error("it has no values")]
    NoValues,
    #[error("it has {0} values; at most {VALUES_MAX} are taken")]
    TooManyValues(usize),
    #[error("{value:?} has {count} aliases; at most {ALIASES_MAX} are taken")]
    TooManyAliases { value: String, count: usize },
    #[error("{spelling:?} is empty once spaces, dashes and underscores are left out")]
    Empty { value: String, spelling: String },
    #[error("{start:?}… has {chars} characters; at most {VALUE_CHARS_MAX} are taken")]
    TooLong { value: String, start: String, chars: usize },
    #[error(
        "{spelling:?} means both {one:?} and {other:?}: spellings that differ in case, Unicode form, spaces, dashes and underscores alone are the same"
    )]
    Ambiguous { spelling: String, one: String, other: String },
    #[error("sum_tolerance: expected 0 to {max}, a tenth of the whole, not {found}")]
    Tolerance { found: f64, max: f64 },
}

impl BuildError {
    /// The setting of the vocabulary that is at fault, and the value in it.
    fn place(&self) -> Vec<&str> {
        match self {
            Self::NoValues => Vec::new(),
            Self::TooManyValues(_) => vec!["values"],
            Self::Tolerance { .. } => vec!["sum_tolerance"],
            Self::TooManyAliases { value, .. }
            | Self::Empty { value, .. }
            | Self::TooLong { value, .. }
            | Self::Ambiguous { other: value, .. } => vec!["values", value],
        }
    }
}

impl Vocabulary {
    /// Builds a vocabulary, or says everything that is wrong with it.
    pub fn build(settings: &Settings) -> Result<Self, Vec<BuildError>> {
        let Settings { name, values, scale, sum_tolerance } = settings;
        if values.is_empty() {
            return Err(vec![BuildError::NoValues]);
        }
        if values.len() > VALUES_MAX {
            return Err(vec![BuildError::TooManyValues(values.len())]);
        }
        let mut faults = Vec::new();
        let tolerance = tolerance(*scale, *sum_tolerance).unwrap_or_else(|fault| {
            faults.push(fault);
            scale.whole()
        });
        let mut built = Self {
            name: name.as_str().into(),
            values: values.iter().map(|(value, _)| Value::new(value)).collect(),
            spellings: HashMap::default(),
            scale: *scale,
            tolerance,
            tolerance_f64: tolerance.to_f64(),
        };
        for (id, (value, aliases)) in (0..).map(ValueId).zip(values) {
            if aliases.len() > ALIASES_MAX {
                let (value, count) = (value.clone(), aliases.len());
                faults.push(BuildError::TooManyAliases { value, count });
                continue;
            }
            let spellings = std::iter::once(value).chain(aliases);
            faults.extend(spellings.filter_map(|spelling| built.learn(spelling, id).err()));
        }
        if faults.is_empty() { Ok(built) } else { Err(faults) }
    }

    fn learn(&mut self, spelling: &str, id: ValueId) -> Result<(), BuildError> {
        let value = |of: &Self| of.value(id).text.to_string();
        let chars = spelling.chars().count();
        if chars > VALUE_CHARS_MAX {
            let start = spelling.chars().take(20).collect();
            return Err(BuildError::TooLong { value: value(self), start, chars });
        }
        let folded = fold(spelling);
        if folded.as_bytes().is_empty() {
            return Err(BuildError::Empty { value: value(self), spelling: spelling.to_owned() });
        }
        let known = *self.spellings.entry(folded.as_bytes().into()).or_insert(id);
        if known == id {
            return Ok(());
        }
        let text = |id: ValueId| self.value(id).text.to_string();
        Err(BuildError::Ambiguous {
            spelling: spelling.to_owned(),
            one: text(known),
            other: text(id),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub const fn scale(&self) -> Scale {
        self.scale
    }

    pub const fn tolerance(&self) -> Decimal {
        self.tolerance
    }

    /// The canonical values, in the order of the settings.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|value| &*value.text)
    }

    /// The canonical value that `spelling` means.
    pub fn find(&self, spelling: &str) -> Option<&str> {
        self.lookup(spelling).map(|id| &*self.value(id).text)
    }

    fn lookup(&self, spelling: &str) -> Option<ValueId> {
        if spelling.len() > INPUT_BYTES_MAX {
            return None;
        }
        self.spellings.get(fold(spelling).as_bytes()).copied()
    }

    fn value(&self, id: ValueId) -> &Value {
        &self.values[usize::from(id.0)]
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vocabulary({}, {} values)", self.name, self.values.len())
    }
}

impl Value {
    fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            json: serde_json::to_string(text).expect("a string always serialises").into(),
            query: query::encode(text).into(),
        }
    }
}

/// A tolerance of the whole would let every sum pass. A tenth is what thirty weights, each rounded
/// to two digits, can be off by.
fn tolerance(scale: Scale, set: Option<f64>) -> Result<Decimal, BuildError> {
    let whole = f64::from(scale.whole_number());
    let (found, max) = (set.unwrap_or(whole / 1000.0), whole / 10.0);
    let fault = BuildError::Tolerance { found, max };
    if !found.is_finite() {
        return Err(fault);
    }
    let text = serde_json::to_string(&found).map_err(|_| fault.clone())?;
    match decimal::read(&text, scale.whole()) {
        Ok(Number::Exact(tolerance)) if found <= max => Ok(tolerance),
        _ => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn stages() -> Vocabulary {
        Vocabulary::build(&Builtin::Stages.settings()).unwrap()
    }

    /// A vocabulary `words` with these values and aliases.
    pub(super) fn words(values: &[(&str, &[&str])]) -> Settings {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Settings {
            name: "words".to_owned(),
            values: values.iter().map(|(value, also)| ((*value).to_owned(), owned(also))).collect(),
            scale: Scale::One,
            sum_tolerance: None,
        }
    }

    #[test]
    fn a_spelling_means_a_value_or_nothing() {
        let stages = stages();
        for (spelling, want) in [
            ("seed", Some("seed")),
            ("SEED", Some("seed")),
            ("Pre Seed", Some("pre-seed")),
            ("preseed", Some("pre-seed")),
            ("Series A", Some("series-a")),
            ("series_b", Some("series-b")),
            ("Series\u{2011}C", Some("series-c")),
            ("a", Some("series-a")),
            ("Ｂ", Some("series-b")),
            ("Series A Round", Some("series-a")),
            ("later stage", Some("late-stage")),
            ("growth equity", Some("growth")),
            ("sead", None),
            ("angel", None),
            ("Series D", None),
            ("early stage", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(stages.find(spelling), want, "{spelling:?}");
        }
        assert_eq!(stages.find(&"s".repeat(INPUT_BYTES_MAX + 1)), None);
        assert_eq!(stages.find(&format!("{}seed", "-".repeat(INPUT_BYTES_MAX - 4))), Some("seed"));
        assert_eq!(
            stages.values().collect::<Vec<_>>(),
            ["pre-seed", "seed", "series-a", "series-b", "series-c", "growth", "late-stage"]
        );
    }

    #[test]
    fn a_vocabulary_that_cannot_be_right_is_refused() {
        let long = "x".repeat(VALUE_CHARS_MAX + 1);
        let many: Vec<String> = (0..=VALUES_MAX).map(|n| format!("v{n}")).collect();
        let many: Vec<(&str, &[&str])> =
            many.iter().map(|value| (value.as_str(), &[][..])).collect();
        let aliases: Vec<String> = (0..=ALIASES_MAX).map(|n| format!("a{n}")).collect();
        let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
        for (values, want) in [
            (&[][..], "it has no values"),
            (&many, "it has 1001 values; at most 1000 are taken"),
            (&[("a", &aliases)], "\"a\" has 65 aliases; at most 64 are taken"),
            (&[("a", &[""])], "\"\" is empty once"),
            (&[("--", &[])], "\"--\" is empty once"),
            (&[(&long, &[])], "\"xxxxxxxxxxxxxxxxxxxx\"… has 101 characters"),
            (&[("a", &["b c"]), ("B-C", &[])], "\"B-C\" means both \"a\" and \"B-C\""),
            (&[("a", &["x"]), ("b", &["X"])], "\"X\" means both \"a\" and \"b\""),
            (&[("a", &[]), ("A", &[])], "\"A\" means both \"a\" and \"A\""),
        ] {
            let said = Vocabulary::build(&words(values)).unwrap_err()[0].to_string();
            assert!(said.starts_with(want), "{said}");
        }
        let full: Vec<(&str, &[&str])> = many[1..].to_vec();
        assert!(Vocabulary::build(&words(&full)).is_ok());
        assert!(Vocabulary::build(&words(&[("a", &aliases[1..])])).is_ok());
        assert!(Vocabulary::build(&words(&[("pre-seed", &["preseed", "Pre Seed"])])).is_ok());
        assert!(Vocabulary::build(&words(&[(&"x".repeat(VALUE_CHARS_MAX), &[])])).is_ok());
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let mut settings = words(&[("a", &["b", "--"]), ("B", &["A", "c"])]);
        settings.sum_tolerance = Some(20.0);
        let faults = Vocabulary::build(&settings).unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.place().join(".")).collect();
        assert_eq!(places, ["sum_tolerance", "values.a", "values.B", "values.B"], "{faults:?}");
    }

    #[test]
    fn the_tolerance_is_a_small_part_of_the_whole() {
        let build = |scale, sum_tolerance| {
            let settings = Settings { scale, sum_tolerance, ..words(&[("a", &[])]) };
            Vocabulary::build(&settings).map(|words| words.tolerance().to_string())
        };
        for (scale, set, want) in [
            (Scale::One, None, "0.001"),
            (Scale::Hundred, None, "0.1"),
            (Scale::One, Some(0.0), "0"),
            (Scale::One, Some(0.1), "0.1"),
            (Scale::Hundred, Some(10.0), "10"),
        ] {
            assert_eq!(build(scale, set), Ok(want.to_owned()), "{set:?}");
        }
        for wrong in [-0.001, 0.11, 1.0, 1e300, f64::NAN, f64::INFINITY] {
            let said = build(Scale::One, Some(wrong)).unwrap_err()[0].to_string();
            assert!(said.starts_with("sum_tolerance: expected 0 to 0.1, a tenth"), "{said}");
        }
    }

    #[test]
    fn built_ins_build_and_have_their_names() {
        for builtin in Builtin::ALL {
            let vocabulary = Vocabulary::build(&builtin.settings()).unwrap();
            assert_eq!(Builtin::from_name(vocabulary.name()), Some(builtin));
            for value in vocabulary.values() {
                assert_eq!(vocabulary.find(value), Some(value));
            }
        }
    }
}
