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
use crate::registry::Step;
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

/// A fault of a config, and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFault {
    /// Below the key of [`ConfigError::key`].
    pub below: Vec<Step>,
    pub error: ConfigError,
}

impl ConfigFault {
    /// A fault of the list or table as a whole.
    const fn of_all(error: ConfigError) -> Self {
        Self { below: Vec::new(), error }
    }

    /// A fault of the field at `index`: of one of its keys, or of all of it.
    fn of_field(index: usize, key: Option<&str>, error: ConfigError) -> Self {
        let key = key.map(|key| Step::Key(key.to_owned()));
        Self { below: [Step::Index(index)].into_iter().chain(key).collect(), error }
    }

    fn of_vocabulary(error: ConfigError) -> Self {
        let below = match &error {
            ConfigError::Vocabulary { name, fault } => {
                std::iter::once(name.as_str()).chain(fault.place()).collect()
            }
            ConfigError::Name(name) => vec![name.as_str()],
            _ => Vec::new(),
        };
        let below = below.into_iter().map(|key| Step::Key(key.to_owned())).collect();
        Self { below, error }
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
    pub fn vocabulary(&self, name: &str) -> Result<Vocabulary, Vec<ConfigError>> {
        let settings = match (self.vocabularies.get(name), Builtin::from_name(name)) {
            (Some(config), _) => config.settings(name),
            (None, Some(builtin)) => builtin.settings(),
            (None, None) => return Err(vec![self.unknown(name)]),
        };
        let chars = name.chars().count();
        if chars == 0 || chars > NAME_CHARS_MAX {
            return Err(vec![ConfigError::Name(name.chars().take(NAME_CHARS_MAX).collect())]);
        }
        let fault = |fault| ConfigError::Vocabulary { name: name.to_owned(), fault };
        Vocabulary::build(&settings).map_err(|faults| faults.into_iter().map(fault).collect())
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
    sets: Vec<(RoutePattern, FieldSet)>,
}

impl Fields {
    /// Compiles a config, or says everything that is wrong with it. All its vocabularies are built,
    /// also those without a field.
    pub fn compile(config: &Config) -> Result<Self, Vec<ConfigFault>> {
        let mut faults = Vec::new();
        let count = config.vocabularies.len();
        if count > VOCABULARIES_MAX {
            faults.push(ConfigFault::of_all(ConfigError::TooManyVocabularies(count)));
        }
        if config.fields.len() > FIELDS_MAX {
            faults.push(ConfigFault::of_all(ConfigError::TooManyFields(config.fields.len())));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        // `None` where it has a fault, which is told once.
        let mut vocabularies: BTreeMap<&str, Option<Arc<Vocabulary>>> = BTreeMap::new();
        for name in config.vocabularies.keys().map(String::as_str) {
            let built = config.vocabulary(name).map_err(|errors| {
                faults.extend(errors.into_iter().map(ConfigFault::of_vocabulary));
            });
            vocabularies.insert(name, built.ok().map(Arc::new));
        }
        let mut grouped: Vec<(&RoutePattern, usize, Vec<Field>)> = Vec::new();
        for (index, field) in config.fields.iter().enumerate() {
            let name = field.vocabulary.as_str();
            if !vocabularies.contains_key(name) {
                match config.vocabulary(name) {
                    Ok(built) => drop(vocabularies.insert(name, Some(Arc::new(built)))),
                    Err(errors) => {
                        let key = Some("vocabulary");
                        let fault = |error| ConfigFault::of_field(index, key, error);
                        faults.extend(errors.into_iter().map(fault));
                    }
                }
            }
            let shape = field
                .shape()
                .map_err(|error| faults.push(ConfigFault::of_field(index, None, error)));
            let (Some(Some(vocabulary)), Ok(shape)) = (vocabularies.get(name), shape) else {
                continue;
            };
            let (at, vocabulary) = (field.at.clone(), Arc::clone(vocabulary));
            let compiled = Field { at, vocabulary, shape, on_alias: field.on_alias };
            match grouped.iter_mut().find(|(route, ..)| **route == field.route) {
                Some((_, _, fields)) => fields.push(compiled),
                None => grouped.push((&field.route, index, vec![compiled])),
            }
        }
        let (mut ids, mut sets) = (Vec::new(), Vec::new());
        for (id, (route, index, fields)) in (0..).zip(grouped) {
            if fields.len() > ROUTE_FIELDS_MAX {
                let (route, count) = (route.clone(), fields.len());
                let error = ConfigError::TooManyOfRoute { route, count };
                faults.push(ConfigFault::of_field(index, None, error));
                continue;
            }
            match FieldSet::new(fields) {
                Ok(set) => {
                    ids.push((route, Some(id)));
                    sets.push((route.clone(), set));
                }
                Err(fault) => {
                    let error = ConfigError::Field { route: route.clone(), fault };
                    faults.push(ConfigFault::of_field(index, None, error));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let routes = RouteTable::build(ids, None)
            .map_err(|error| vec![ConfigFault::of_all(ConfigError::Route(error))])?;
        Ok(Self { routes, sets })
    }

    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The fields of a request, if its route has any. HEAD has those of GET, unless a route names
    /// it.
    pub fn find(&self, method: &Method, path: &str) -> Option<&FieldSet> {
        let set =
            |method: &Method| self.routes.find(method, path).map(|id| &self.sets[usize::from(id)]);
        let own = set(method);
        let found = match own {
            Some((route, _)) if *method == Method::HEAD && route.method.is_none() => {
                set(&Method::GET)
            }
            None if *method == Method::HEAD => set(&Method::GET),
            own => own,
        };
        found.map(|(_, set)| set)
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
        let told = |fault: &ConfigFault| format!("{}: {}", fault.error.key(), fault.error);
        Fields::compile(&config)
            .map_err(|faults| faults.iter().map(told).collect::<Vec<_>>().join("\n"))
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
    fn head_has_the_fields_of_get_unless_a_route_names_it() {
        let field = |route: &str, at: &str| {
            format!(
                "[[fields]]\nroute = \"{route}\"\nat = \"query:{at}\"\nvocabulary = \"stages\"\n\
                 shape = \"scalar\"\n"
            )
        };
        let get = field("GET /a", "get");
        for (toml, want) in [
            (get.clone(), Some("get")),
            (get.clone() + &field("/a", "any"), Some("get")),
            (get + &field("HEAD /a", "head"), Some("head")),
            (field("/a", "any"), Some("any")),
            (field("POST /a", "post"), None),
        ] {
            let fields = compile(&toml).unwrap();
            let set = fields.find(&Method::HEAD, "/a");
            let rewritten = set.and_then(|set| {
                let query = "get=Seed&any=Seed&head=Seed";
                set.rewrite_query(query).unwrap()
            });
            let found = rewritten.as_deref().map(|query| {
                let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
                pairs.find(|(_, value)| *value == "seed").unwrap().0
            });
            assert_eq!(found, want, "{toml}");
        }
    }

    #[test]
    fn all_faults_are_told_with_their_places() {
        let toml = r#"
[vocabularies.one]
values = { a = ["x"], b = ["X"] }
sum_tolerance = 20.0
[vocabularies.two]
[[fields]]
route = "/a"
at = "/x"
vocabulary = "paymnt"
shape = "scalar"
[[fields]]
route = "/a"
at = "/y"
vocabulary = "two"
shape = "scalar"
key = "k"
"#;
        let faults = Fields::compile(&toml::from_str(toml).unwrap()).unwrap_err();
        let key = |key: &str| Step::Key(key.to_owned());
        let places: Vec<_> = faults.into_iter().map(|fault| fault.below).collect();
        assert_eq!(
            places,
            [
                vec![key("one"), key("sum_tolerance")],
                vec![key("one"), key("values"), key("b")],
                vec![key("two")],
                vec![Step::Index(0), key("vocabulary")],
                vec![Step::Index(1)],
            ]
        );
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
