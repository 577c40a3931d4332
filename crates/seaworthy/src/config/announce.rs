//! `[announce]`: what clients are told before a rule is enforced.

use std::collections::BTreeMap;

use jiff::civil::Date;
use seaworthy_policy::registry::{REGISTRY, position};
use seaworthy_policy::route::RoutePattern;
use serde::{Deserialize, Serialize};

use super::check::Checks;
use super::fault::nearest;

/// `[announce]` of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Announce {
    /// Whether a response says that its request would be denied. On by default: who learns of it
    /// in time breaks nothing later, and an attacker would learn it from a denial.
    pub enabled: bool,
    /// The day from which a rule is to be enforced, by the rule's name. None by default.
    pub dates: BTreeMap<String, Date>,
}

impl Default for Announce {
    fn default() -> Self {
        Self { enabled: true, dates: BTreeMap::new() }
    }
}

impl Announce {
    pub(crate) fn check(&self, checks: &mut Checks<'_>) {
        for rule in self.dates.keys() {
            let (protection, route) = match rule.split_once('@') {
                Some((protection, route)) => (protection, Some(route)),
                None => (rule.as_str(), None),
            };
            let path = checks.section.keys("dates").key(rule);
            if position(protection).is_none() {
                let names: Vec<_> = REGISTRY.iter().map(|entry| entry.name).collect();
                let meant = nearest(protection, &names);
                let meant = meant.map(|name| format!(" (did you mean `{name}`?)"));
                let meant = meant.unwrap_or_default();
                checks.fault(&path, format!("expected a rule, not {rule:?}{meant}"));
            } else if let Some(Err(error)) = route.map(str::parse::<RoutePattern>) {
                checks.fault(&path, error.to_string());
            }
        }
    }
}
