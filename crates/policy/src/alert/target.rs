//! Which rule an alert is about.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::cut;
use crate::names::RuleName;
use crate::registry::{REGISTRY, position};
use crate::route::RoutePattern;

/// The label that names a protection, where an alert is about all of its rules.
pub const PROTECTION_LABEL: &str = "seaworthy_protection";

/// What an alert demotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `csrf`, or `rate_limit@POST /api/traces`.
    Rule(RuleName),
    /// Every rule of a protection, by its position in the registry.
    Protection(usize),
}

/// Why an alert demotes nothing. Fits after "an alert has no effect: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("it has no label {0}")]
    NoLabel(Box<str>),
    #[error("its label {label} names no rule: {text:?} is not a protection, or one with a route")]
    NoRule { label: Box<str>, text: String },
}

/// Bytes of a label that is shown because it is wrong.
const SHOWN_BYTES_MAX: usize = 128;

impl Target {
    /// Reads the labels of an alert, of which `label` names the rule. The rule goes before the
    /// protection: an alert on the gateway's own metrics has both.
    pub(super) fn of(labels: &BTreeMap<String, String>, label: &str) -> Result<Self, TargetError> {
        // Alertmanager takes an empty label for one that is not there.
        let find = |label: &str| labels.get(label).filter(|text| !text.is_empty());
        let wrong = |label: &str, text: &str| TargetError::NoRule {
            label: label.into(),
            text: cut(text, SHOWN_BYTES_MAX),
        };
        if let Some(text) = find(label) {
            return rule(text).map(Self::Rule).ok_or_else(|| wrong(label, text));
        }
        match find(PROTECTION_LABEL) {
            Some(text) => {
                position(text).map(Self::Protection).ok_or_else(|| wrong(PROTECTION_LABEL, text))
            }
            None => Err(TargetError::NoLabel(label.into())),
        }
    }

    /// Whether the rule `name` is meant.
    pub fn covers(&self, name: &RuleName) -> bool {
        match self {
            Self::Rule(rule) => rule == name,
            Self::Protection(position) => *position == name.protection,
        }
    }
}

/// Whether there is a rule of that name now is for whoever has the config to say.
fn rule(text: &str) -> Option<RuleName> {
    let (protection, route) = match text.split_once('@') {
        Some((protection, route)) => (protection, Some(route)),
        None => (text, None),
    };
    let protection = position(protection)?;
    let route = match route {
        Some(route) => Some(Arc::from(route.parse::<RoutePattern>().ok()?.to_string())),
        None => None,
    };
    Some(RuleName { protection, route })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => rule.fmt(f),
            Self::Protection(position) => write!(f, "every rule of {}", REGISTRY[*position].name),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_a_rule_or_a_protection() {
        let long = "x".repeat(300);
        for (labels, want) in [
            (&[("seaworthy_rule", "csrf")][..], "csrf"),
            (&[("seaworthy_rule", "rate_limit@POST /api/traces")], "rate_limit@POST /api/traces"),
            (&[("seaworthy_rule", "rate_limit@/api/{*rest}")], "rate_limit@/api/{*rest}"),
            (&[("seaworthy_protection", "rate_limit")], "every rule of rate_limit"),
            (&[("seaworthy_rule", "csrf"), ("seaworthy_protection", "cors")], "csrf"),
            (&[("seaworthy_rule", ""), ("seaworthy_protection", "cors")], "every rule of cors"),
            (&[("rule", "csrf")], "it has no label seaworthy_rule"),
            (&[], "it has no label seaworthy_rule"),
            (&[("seaworthy_rule", "cfrs")], "its label seaworthy_rule names no rule: \"cfrs\""),
            (&[("seaworthy_rule", "CSRF")], "its label seaworthy_rule names no rule"),
            (&[("seaworthy_rule", "csrf@")], "its label seaworthy_rule names no rule"),
            (&[("seaworthy_rule", "csrf@api")], "its label seaworthy_rule names no rule"),
            (&[("seaworthy_rule", &long)], "its label seaworthy_rule names no rule: \"xxx"),
            (
                &[("seaworthy_protection", "csrf@/a")],
                "its label seaworthy_protection names no rule",
            ),
        ] {
            let pairs =
                labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let said = match Target::of(&pairs.collect(), "seaworthy_rule") {
                Ok(target) => target.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(said.starts_with(want) && said.len() < 300, "{labels:?}: {said}");
        }
    }

    #[test]
    fn a_protection_covers_its_rules_and_a_rule_itself() {
        let name = |text: &str| rule(text).unwrap();
        let csrf = position("csrf").unwrap();
        for (target, rule, want) in [
            (Target::Rule(name("csrf")), "csrf", true),
            (Target::Rule(name("csrf")), "csrf@/a", false),
            (Target::Rule(name("csrf@/a")), "csrf@/a", true),
            (Target::Rule(name("csrf@/a")), "csrf", false),
            (Target::Protection(csrf), "csrf", true),
            (Target::Protection(csrf), "csrf@/a", true),
            (Target::Protection(csrf), "cors", false),
        ] {
            assert_eq!(target.covers(&name(rule)), want, "{target} {rule}");
        }
    }
}
