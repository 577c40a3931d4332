//! Where each effective setting came from, for `config show` and for messages.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use seaworthy_policy::registry::REGISTRY;
use serde::Serialize;
use serde_json::{Value, json};

use super::Config;
use super::tree::{Node, Path, Place};

/// Who set a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: the code's default, which the built-in file repeats.
    #[default]
    Default,
    File {
        path: Arc<str>,
        line: u32,
    },
    /// An environment variable.
    Env(Arc<str>),
    /// A flag, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Env(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The origins of all settings that somebody set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

/// One effective setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// `protect.rate_limit.limits`, `route[0].match`.
    pub key: String,
    /// Null where there is none, as for `listen.tls`.
    pub value: Value,
    pub origin: Origin,
}

impl Origins {
    /// `file` is `None` for the built-in default. `routes` are the merged settings of each route.
    pub(super) fn collect(tree: &Node, routes: &[Node], file: Option<&FilePath>) -> Self {
        let file: Option<Arc<str>> = file.map(|path| path.display().to_string().into());
        let mut origins = BTreeMap::new();
        let mut note = |path: &Path, place: &Place| {
            let origin = match (place, &file) {
                (Place::File { line, .. }, Some(file)) => {
                    Origin::File { path: Arc::clone(file), line: *line }
                }
                (Place::File { .. }, None) | (Place::Nowhere, _) => return,
                (Place::Env(name), _) => Origin::Env(Arc::clone(name)),
                (Place::Flag(name), _) => Origin::Flag(name),
            };
            origins.insert(path.to_string(), origin);
        };
        tree.for_each_leaf(&Path::default(), &mut note);
        let list = Path::of("route");
        for (index, route) in routes.iter().enumerate() {
            let path = list.index(index).key("match");
            note(&path, &tree.place_of(&path));
            route.for_each_leaf(&list.index(index).key("protect"), &mut note);
        }
        Self(origins)
    }

    /// Who set `key`, written as in [`Setting::key`].
    pub fn of(&self, key: &str) -> Origin {
        self.0.get(key).cloned().unwrap_or_default()
    }
}

impl Config {
    /// Every effective setting in the order of the sections. A route shows the protections that
    /// it mentions.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut add = |key: &str, value: Value| self.flatten(key, value, &mut settings);
        add("service", value_of(&self.service));
        add("listen", value_of(&self.listen));
        add("console", value_of(&self.console));
        add("store", value_of(&self.store));
        add("modes", value_of(&self.modes));
        add("client", value_of(&self.client));
        add("consumers", value_of(&self.consumers));
        let protect = value_of(&self.protect);
        for entry in REGISTRY {
            add(&format!("protect.{}", entry.name), protect[entry.name].clone());
        }
        for (index, route) in self.routes.iter().enumerate() {
            add(&format!("route[{index}].match"), json!(route.pattern));
            if let Some(sunset) = route.sunset {
                add(&format!("route[{index}].sunset"), json!(sunset));
            }
            let protect = value_of(&route.protect);
            for position in &route.overrides {
                let name = REGISTRY[*position].name;
                add(&format!("route[{index}].protect.{name}"), protect[name].clone());
            }
        }
        add("rollout", value_of(&self.rollout));
        add("gates", value_of(&self.gates));
        add("announce", value_of(&self.announce));
        add("learn", value_of(&self.learn));
        add("log", value_of(&self.log));
        settings
    }

    /// Adds the leaves of `value`. A list is one setting: layers replace it whole.
    fn flatten(&self, key: &str, value: Value, settings: &mut Vec<Setting>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    self.flatten(&format!("{key}.{name}"), member, settings);
                }
            }
            value => {
                let origin = self.origins.of(key);
                settings.push(Setting { key: key.to_owned(), value, origin });
            }
        }
    }
}

fn value_of(section: &impl Serialize) -> Value {
    serde_json::to_value(section).expect("settings are plain data")
}
