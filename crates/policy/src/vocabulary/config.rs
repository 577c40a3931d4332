//! `[protect.vocabulary]`: which vocabularies there are, and which fields carry their values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::Method;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::parse::{Members, Shape};
use super::place::At;
use super::rewrite::{Field, FieldError, FieldSet, OnAlias};
use super::{BuildError, Builtin, Scale, Settings, Vocabulary};
use crate::mode::ModeSetting;
use crate::route::{RouteError, RoutePattern, RouteTable};

/// `[protect.vocabulary]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// By name. The built-in ones are there without being named; one of the same name replaces it.
    pub vocabularies: BTreeMap<String, VocabularyConfig>,
    /// Where their values are. Empty by default: only the operator knows.
    pub fields: Vec<FieldConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: ModeSetting::Auto, vocabularies: BTreeMap::new(), fields: Vec::new() }
    }
}

/// `[protect.vocabulary.vocabularies.<name>]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct VocabularyConfig {
    /// The built-in vocabulary to begin with. None by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Builtin>,
    /// Canonical values and their aliases, or a list of values without any. Beside `builtin` they
    /// are added to what that has.
    pub values: Values,
    /// What weights add up to: `0-1`, which is how most programs write shares, or `0-100`.
    pub scale: Scale,
    /// How far from the whole their sum may be, in the unit of the scale. By default a thousandth
    /// of the whole, which forgives weights that are rounded to four digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum_tolerance: Option<f64>,
}

/// `{ card = ["credit card"], cash = [] }`, or `["card", "cash"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(pub Vec<(String, Vec<String>)>);

/// `[[protect.vocabulary.fields]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// Requests of which route: `"POST /api/companies"`. As everywhere, the most specific route
    /// that a request matches is its route, and the fields of others do not count.
    pub route: RoutePattern,
    /// `"/stages"`, with `*` for every item of an array, or `"query:stage"`.
    pub at: At,
    /// The vocabulary's name.
    pub vocabulary: String,
    pub shape: ShapeName,
    /// The member of an entry that names the value: `key` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The member of an entry that is its weight: `weight` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// By default the service gets the canonical value: that is what a vocabulary is for. `pass`
    /// leaves requests as they are, and still says what is in no vocabulary.
    #[serde(default)]
    pub on_alias: OnAlias,
}

/// A [`Shape`] by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShapeName {
    Scalar,
    List,
    Weights,
    Entries,
}

/// Vocabularies of a config. Each takes some memory for good.
const VOCABULARIES_MAX: usize = 64;

/// Fields of a config.
const FIELDS_MAX: usize = 512;

/// Fields of one route. The body is walked through for each.
const ROUTE_FIELDS_MAX: usize = 32;

/// Characters of a vocabulary's name.
const NAME_CHARS_MAX: usize = 64;

/// Why a config is refused. Fits after the key and a colon.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("{name:?}: {fault}")]
    Vocabulary { name: String, fault: BuildError },
    #[error("{0:?}: expected a name of 1 to {NAME_CHARS_MAX} characters")]
    Name(String),
    #[error("{0} vocabularies; at most {VOCABULARIES_MAX} are taken")]
    TooManyVocabularies(usize),
    #[error("{0} fields; at most {FIELDS_MAX} are taken")]
    TooManyFields(usize),
    #[error("{route}: {count} fields; at most {ROUTE_FIELDS_MAX} are taken for a route")]
    TooManyOfRoute { route: RoutePattern, count: usize },
    #[error("there is no vocabulary {name:?}; {known}")]
    UnknownVocabulary { name: String, known: Known },
    #[error("{route} {at}: `key` and `weight` are for the shape \"entries\"")]
    NeedlessMembers { route: RoutePattern, at: At },
    #[error("{route} {at}: `key` and `weight` have to be two members that have names")]
    SameMembers { route: RoutePattern, at: At },
    #[error("{route}: {fault}")]
    Field { route: RoutePattern, fault: FieldError },
    #[error("{0}")]
    Route(RouteError),
}

/// What may have been meant: the name that is near, or all there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    near: Option<String>,
    names: Vec<String>,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.near {
            Some(near) => write!(f, "did you mean {near:?}?"),
            None => write!(f, "there are {}", self.names.join(", ")),
        }
    }
}

impl ConfigError {
    /// The key of the section that is at fault.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Vocabulary { .. } | Self::Name(_) | Self::TooManyVocabularies(_) => {
                "vocabularies"
            }
            _ => "fields",
        }
    }
}

impl Config {
    /// The vocabulary called `name`: the config's, or else a built-in one.
    pub fn vocabulary(&self, name: &str) -> Result<Vocabulary, ConfigError> {
        let settings = match (self.vocabularies.get(name), Builtin::from_name(name)) {
            (Some(config), _) => config.settings(name),
            (None, Some(builtin)) => builtin.settings(),
            (None, None) => return Err(self.unknown(name)),
        };
        let chars = name.chars().count();
        if chars == 0 || chars > NAME_CHARS_MAX {
            return Err(ConfigError::Name(name.chars().take(NAME_CHARS_MAX).collect()));
        }
        Vocabulary::build(&settings)
            .map_err(|fault| ConfigError::Vocabulary { name: name.to_owned(), fault })
    }

    fn unknown(&self, name: &str) -> ConfigError {
        let mut names: Vec<&str> = self.vocabularies.keys().map(String::as_str).collect();
        names.extend(Builtin::ALL.map(Builtin::name));
        names.sort_unstable();
        names.dedup();
        let near = names.iter().map(|known| (strsim::osa_distance(known, name), *known)).min();
        let near = near.filter(|(edits, known)| *edits <= known.len() / 3);
        let known = Known {
            near: near.map(|(_, known)| known.to_owned()),
            names: names.into_iter().map(str::to_owned).collect(),
        };
        ConfigError::UnknownVocabulary { name: name.to_owned(), known }
    }
}

impl VocabularyConfig {
    fn settings(&self, name: &str) -> Settings {
        let begun = self.builtin.map(|builtin| builtin.settings().values);
        let mut values = begun.unwrap_or_default();
        for (value, aliases) in &self.values.0 {
            match values.iter_mut().find(|(known, _)| known == value) {
                Some((_, known)) => known.extend(aliases.iter().cloned()),
                None => values.push((value.clone(), aliases.clone())),
            }
        }
        let Self { scale, sum_tolerance, .. } = *self;
        Settings { name: name.to_owned(), values, scale, sum_tolerance }
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(value, aliases)| (value, aliases)))
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValuesVisitor)
    }
}

struct ValuesVisitor;

impl<'de> Visitor<'de> for ValuesVisitor {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of values with their aliases, or a list of values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Values, A::Error> {
        let mut values = Values::default();
        while let Some(entry) = table.next_entry()? {
            values.0.push(entry);
        }
        Ok(values)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
        let mut values = Values::default();
        while let Some(value) = list.next_element()? {
            values.0.push((value, Vec::new()));
        }
        Ok(values)
    }
}

impl FieldConfig {
    fn shape(&self) -> Result<Shape, ConfigError> {
        let Self { route, at, shape, key, weight, .. } = self;
        let (route, at) = (route.clone(), at.clone());
        if *shape != ShapeName::Entries && (key.is_some() || weight.is_some()) {
            return Err(ConfigError::NeedlessMembers { route, at });
        }
        let usual = Members::default();
        let members = Members {
            key: key.clone().unwrap_or(usual.key),
            weight: weight.clone().unwrap_or(usual.weight),
        };
        if members.key == members.weight || members.key.is_empty() || members.weight.is_empty() {
            return Err(ConfigError::SameMembers { route, at });
        }
        Ok(shape.with(members))
    }
}

impl ShapeName {
    /// The shape of this name; `members` are those of entries.
    pub fn with(self, members: Members) -> Shape {
        match self {
            Self::Scalar => Shape::Scalar,
            Self::List => Shape::List,
            Self::Weights => Shape::Weights,
            Self::Entries => Shape::Entries(members),
        }
    }
}

/// The fields of each route, compiled.
#[derive(Debug)]
pub struct Fields {
    routes: RouteTable<Option<u16>>,
    sets: Vec<FieldSet>,
}

impl Fields {
    /// Compiles a config. All its vocabularies are built, also those without a field.
    pub fn compile(config: &Config) -> Result<Self, ConfigError> {
        let count = config.vocabularies.len();
        if count > VOCABULARIES_MAX {
            return Err(ConfigError::TooManyVocabularies(count));
        }
        if config.fields.len() > FIELDS_MAX {
            return Err(ConfigError::TooManyFields(config.fields.len()));
        }
        let mut vocabularies: BTreeMap<&str, Arc<Vocabulary>> = BTreeMap::new();
        let named = config.fields.iter().map(|field| field.vocabulary.as_str());
        for name in config.vocabularies.keys().map(String::as_str).chain(named) {
            if !vocabularies.contains_key(name) {
                vocabularies.insert(name, Arc::new(config.vocabulary(name)?));
            }
        }
        let mut grouped: Vec<(&RoutePattern, Vec<Field>)> = Vec::new();
        for field in &config.fields {
            let compiled = Field {
                at: field.at.clone(),
                vocabulary: Arc::clone(&vocabularies[field.vocabulary.as_str()]),
                shape: field.shape()?,
                on_alias: field.on_alias,
            };
            match grouped.iter_mut().find(|(route, _)| **route == field.route) {
                Some((_, fields)) => fields.push(compiled),
                None => grouped.push((&field.route, vec![compiled])),
            }
        }
        let (mut ids, mut sets) = (Vec::new(), Vec::new());
        for (id, (route, fields)) in (0..).zip(grouped) {
            if fields.len() > ROUTE_FIELDS_MAX {
                let (route, count) = (route.clone(), fields.len());
                return Err(ConfigError::TooManyOfRoute { route, count });
            }
            let set = FieldSet::new(fields)
                .map_err(|fault| ConfigError::Field { route: route.clone(), fault })?;
            ids.push((route, Some(id)));
            sets.push(set);
        }
        let routes = RouteTable::build(ids, None).map_err(ConfigError::Route)?;
        Ok(Self { routes, sets })
    }

    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The fields of a request, if its route has any.
    pub fn find(&self, method: &Method, path: &str) -> Option<&FieldSet> {
        let id = self.routes.find(method, path)?;
        Some(&self.sets[usize::from(id)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
mode = "warn"

[vocabularies.stages]
builtin = "stages"
values = { "pre-seed" = ["angel"], "public" = ["IPO"] }

[vocabularies.payment]
values = { card = ["credit card", "debit card"], cash = [] }
scale = "0-100"
sum_tolerance = 0.5

[[fields]]
route = "POST /api/companies"
at = "/stage_focus"
vocabulary = "stages"
shape = "weights"

[[fields]]
route = "POST /api/companies"
at = "/revenue"
vocabulary = "payment"
shape = "entries"
key = "kind"
weight = "percent"
on_alias = "pass"

[[fields]]
route = "GET /api/companies"
at = "query:stage"
vocabulary = "stages"
shape = "list"
"#;

    fn compile(toml: &str) -> Result<Fields, String> {
        let config: Config = toml::from_str(toml).map_err(|error| error.to_string())?;
        Fields::compile(&config).map_err(|error| format!("{}: {error}", error.key()))
    }

    #[test]
    fn a_config_is_read_and_finds_the_fields_of_a_route() {
        let fields = compile(TOML).unwrap();
        let set = fields.find(&Method::POST, "/api/companies").unwrap();
        assert!(set.reads_body() && !set.reads_query());
        let body = br#"{"stage_focus": {"Angel": 0.5, "ipo": 0.5}, "revenue": [{"kind": "Credit-Card", "percent": 100}]}"#;
        let rewritten = set.rewrite_body(body).unwrap().unwrap();
        assert_eq!(
            String::from_utf8(rewritten).unwrap(),
            r#"{"stage_focus": {"pre-seed": 0.5, "public": 0.5}, "revenue": [{"kind": "Credit-Card", "percent": 100}]}"#
        );
        let set = fields.find(&Method::GET, "/api/companies").unwrap();
        assert!(!set.reads_body() && set.reads_query());
        assert_eq!(set.rewrite_query("stage=A,angel"), Ok(Some("stage=series-a,pre-seed".into())));
        assert!(fields.find(&Method::GET, "/api/companies/7").is_none());
        assert!(fields.find(&Method::PUT, "/api/companies").is_none());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let config: Config = toml::from_str(TOML).unwrap();
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&written).unwrap(), config, "{written}");
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        assert!(Fields::compile(&Config::default()).unwrap().sets.is_empty());
    }

    #[test]
    fn built_ins_are_there_and_can_be_replaced() {
        let config = Config::default();
        assert_eq!(config.vocabulary("stages").unwrap().find("a"), Some("series-a"));
        let own: Config = toml::from_str("vocabularies.stages.values = { one = [\"a\"] }").unwrap();
        assert_eq!(own.vocabulary("stages").unwrap().find("a"), Some("one"));
        assert_eq!(own.vocabulary("stages").unwrap().find("seed"), None);
        let list: Config =
            toml::from_str("vocabularies.money.values = [\"EUR\", \"CHF\"]").unwrap();
        let money = list.vocabulary("money").unwrap();
        assert_eq!(money.values().collect::<Vec<_>>(), ["EUR", "CHF"]);
        assert_eq!(money.find("eur"), Some("EUR"));
    }

    #[test]
    fn faults_are_named() {
        let field = |lines: &str| {
            format!(
                "[[fields]]\nroute = \"POST /a\"\nat = \"/x\"\nvocabulary = \"stages\"\n{lines}\n"
            )
        };
        let scalar = field("shape = \"scalar\"");
        let two_places = format!("{scalar}{}", scalar.replace("/x", "/x/y"));
        let many = scalar.repeat(FIELDS_MAX + 1);
        let of_route: String =
            (0..=ROUTE_FIELDS_MAX).map(|n| scalar.replace("/x", &format!("/x{n}"))).collect();
        let two_routes =
            format!("{}{}", scalar.replace("/a", "/{a}"), scalar.replace("/a", "/{b}"));
        for (toml, words) in [
            ("vocabulary = 1", "unknown field `vocabulary`"),
            ("vocabularies.x = {}", "vocabularies: \"x\": it has no values"),
            ("vocabularies.\"\".values = { a = [] }", "vocabularies: \"\": expected a name"),
            (
                "vocabularies.x.values = { a = [\"c\"], b = [\"C\"] }",
                "vocabularies: \"x\": \"C\" means both \"a\" and \"b\"",
            ),
            (
                "[vocabularies.x]\nbuiltin = \"stages\"\nvalues = { late = [] }",
                "vocabularies: \"x\": \"late\" means both \"late-stage\" and \"late\"",
            ),
            (
                "[vocabularies.x]\nbuiltin = \"stages\"\nsum_tolerance = -1.0",
                "vocabularies: \"x\": sum_tolerance: expected 0 to 0.1",
            ),
            ("[vocabularies.x]\nbuiltin = \"stage\"", "unknown variant `stage`"),
            (
                "vocabularies.x.values = 1",
                "expected a table of values with their aliases, or a list",
            ),
            ("vocabularies.x.values = [1]", "expected a string"),
            ("[vocabularies.x]\nscale = \"0-10\"", "unknown variant `0-10`"),
            (
                &scalar.replace("stages", "stagse"),
                "fields: there is no vocabulary \"stagse\"; did you mean \"stages\"?",
            ),
            (
                &scalar.replace("stages", "food"),
                "fields: there is no vocabulary \"food\"; there are stages",
            ),
            (&scalar.replace("\"/x\"", "\"x\""), "expected a JSON Pointer"),
            (&scalar.replace("POST /a", "post /a"), "expected \"METHOD /path\""),
            (&field(""), "missing field `shape`"),
            (
                &field("shape = \"scalar\"\nkey = \"k\""),
                "`key` and `weight` are for the shape \"entries\"",
            ),
            (&field("shape = \"entries\"\nkey = \"weight\""), "`key` and `weight` have to be two"),
            (
                &field("shape = \"weights\"").replace("/x", "query:x"),
                "is a parameter, which carries a scalar or a list",
            ),
            (&two_places, "fields: POST /a: \"/x\" and \"/x/y\" are one place, or one is inside"),
            (&two_routes, "fields: "),
            (&many, "fields: 513 fields; at most 512"),
            (&of_route, "fields: POST /a: 33 fields; at most 32"),
        ] {
            let said = compile(toml).unwrap_err();
            assert!(said.contains(words), "{toml}: {said}");
        }
    }
}
