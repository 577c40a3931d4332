//! The list of all protections, in the order in which a request meets them.
//!
//! Tests walk it, the command line, the console and the manual are rendered from it. Adding a
//! protection is one file in `protections/`, one field in [`Protect`] and one line in
//! [`REGISTRY`].

use std::sync::Arc;

use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::mode::ModeSetting;
use crate::problem::Code;
use crate::protection::{Memory, Protection};
use crate::protections::{
    access, body_limit, body_syntax, concurrency_limit, content_security_policy, core_rule_set,
    cors, csrf, header_limit, host_allowlist, injection, ip_filter, rate_limit, request_schema,
    request_timeout, security_headers, signature, vocabulary,
};
use crate::route::RoutePattern;
use crate::source::{Source, Sources};

/// `[protect]` of the config, and of each route: the settings of every protection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Protect {
    pub host_allowlist: host_allowlist::Config,
    pub ip_filter: ip_filter::Config,
    pub header_limit: header_limit::Config,
    pub security_headers: security_headers::Config,
    pub content_security_policy: content_security_policy::Config,
    pub cors: cors::Config,
    pub rate_limit: rate_limit::Config,
    pub csrf: csrf::Config,
    pub body_limit: body_limit::Config,
    pub access: access::Config,
    pub signature: signature::Config,
    pub body_syntax: body_syntax::Config,
    pub injection: injection::Config,
    pub core_rule_set: core_rule_set::Config,
    pub vocabulary: vocabulary::Config,
    pub request_schema: request_schema::Config,
    pub request_timeout: request_timeout::Config,
    pub concurrency_limit: concurrency_limit::Config,
}

/// Every protection, in chain order: cheap and final ones first, the one that takes a place
/// last, so that a request denied by another never holds it.
pub static REGISTRY: &[&Entry] = &[
    &host_allowlist::ENTRY,
    &ip_filter::ENTRY,
    &header_limit::ENTRY,
    &security_headers::ENTRY,
    &content_security_policy::ENTRY,
    &cors::ENTRY,
    &rate_limit::ENTRY,
    &csrf::ENTRY,
    &body_limit::ENTRY,
    &access::ENTRY,
    &signature::ENTRY,
    &body_syntax::ENTRY,
    &injection::ENTRY,
    &core_rule_set::ENTRY,
    &vocabulary::ENTRY,
    &request_schema::ENTRY,
    &request_timeout::ENTRY,
    &concurrency_limit::ENTRY,
];

/// What the registry knows of one protection.
pub struct Entry {
    /// Snake case: the config's key and the first half of a rule's name.
    pub name: &'static str,
    /// One sentence, for help and pages.
    pub summary: &'static str,
    /// The mode where the config says nothing, and why it is that.
    pub default_mode: ModeSetting,
    pub default_mode_reason: &'static str,
    /// The codes it can deny with.
    pub codes: &'static [Code],
    pub mode: fn(&Protect) -> ModeSetting,
    /// The settings without the mode: two rules with equal settings can share their state.
    pub settings: fn(&Protect) -> serde_json::Value,
    pub build: Build,
    /// Rules that the settings make for single operations of the service, where they do.
    pub operations: Operations,
    /// The files and variables that the settings name.
    pub sources: fn(&Protect) -> Vec<Source>,
}

impl Entry {
    /// What most protections have in common: they need nothing but their settings.
    pub(crate) const PLAIN: Self = Self {
        name: "",
        summary: "",
        default_mode: ModeSetting::Auto,
        default_mode_reason: "",
        codes: &[],
        mode: |_| ModeSetting::Auto,
        settings: |_| serde_json::Value::Null,
        build: |_, _| Err(BuildError { key: "", message: "it has no build".to_owned() }.into()),
        operations: |_, _| Ok(Vec::new()),
        sources: |_| Vec::new(),
    };
}

/// Compiles a protection from its section of the settings.
pub type Build = fn(&Protect, &BuildContext<'_>) -> Result<Arc<dyn Protection>, BuildErrors>;

/// Compiles the rules that a protection has for single operations: what it says of a request
/// that falls under one is said by that rule, with its own mode.
pub type Operations =
    fn(&Protect, &BuildContext<'_>) -> Result<Vec<(RoutePattern, Arc<dyn Protection>)>, BuildError>;

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({})", self.name)
    }
}

/// The registry position of the protection called `name`.
pub fn position(name: &str) -> Option<usize> {
    REGISTRY.iter().position(|entry| entry.name == name)
}

/// What a protection needs besides its own settings.
#[derive(Clone, Debug)]
pub struct BuildContext<'a> {
    pub key: &'a InstallKey,
    pub sources: &'a Sources,
    /// Of the protection that the new one takes the place of.
    pub memory: Option<Memory>,
    /// Whether the rules of single operations stand where this one would, so that it has only the
    /// rest to judge: it is the service's, and no route's own.
    pub operations_apart: bool,
}

/// A setting that is well-formed and still makes no sense. Fits after "`<key>`: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BuildError {
    /// Below the protection's own section: `limits`, `origins`.
    pub key: &'static str,
    pub message: String,
}

/// Everything that is wrong with the settings of one protection: it is never empty. Most build step
/// by step and know of one fault; those that read lists and files know of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildErrors(pub Vec<SettingFault>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFault {
    /// Below the protection's own section, as in [`BuildError`]; empty for all of it.
    pub key: &'static str,
    /// The way from there, where it is known.
    pub below: Vec<Step>,
    pub message: String,
}

/// One step into a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl From<BuildError> for SettingFault {
    fn from(BuildError { key, message }: BuildError) -> Self {
        Self { key, below: Vec::new(), message }
    }
}

impl From<BuildError> for BuildErrors {
    fn from(error: BuildError) -> Self {
        Self(vec![error.into()])
    }
}

impl std::error::Error for BuildErrors {}

impl std::fmt::Display for BuildErrors {
    /// `limits[1].rate: …; mode: …`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, SettingFault { key, below, message }) in self.0.iter().enumerate() {
            f.write_str(if position == 0 { "" } else { "; " })?;
            f.write_str(key)?;
            for step in below {
                match step {
                    Step::Key(key) => write!(f, ".{key}")?,
                    Step::Index(index) => write!(f, "[{index}]")?,
                }
            }
            f.write_str(if key.is_empty() { "" } else { ": " })?;
            f.write_str(message)?;
        }
        Ok(())
    }
}

/// The secret from which this installation derives its keys. Gateways that are to agree on
/// tokens and shares are given the same one.
#[derive(Clone, PartialEq, Eq)]
pub struct InstallKey([u8; 32]);

impl InstallKey {
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key for one purpose: HMAC-SHA256 of its label.
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), label.as_bytes());
        tag.as_ref().try_into().expect("an HMAC-SHA256 tag has 32 bytes")
    }

    /// The first half of [`Self::derive`], for SipHash.
    pub fn derive_16(&self, label: &str) -> [u8; 16] {
        let key = self.derive(label);
        key[..16].try_into().expect("half of 32 bytes")
    }
}

impl std::fmt::Debug for InstallKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InstallKey")
    }
}

/// A protection's settings as JSON without `mode`, for [`Entry::settings`].
pub(crate) fn settings_of<T: Serialize>(config: &T) -> serde_json::Value {
    let mut value = serde_json::to_value(config).expect("settings are plain data");
    if let Some(map) = value.as_object_mut() {
        map.remove("mode");
    }
    value
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::problem::Domain;
    use crate::protections::testing::{Sample, build};
    use crate::record::PROTECTIONS_MAX;

    #[test]
    fn names_are_unique_and_in_the_config() {
        let config = serde_json::to_value(Protect::default()).unwrap();
        let mut names = HashSet::new();
        for entry in REGISTRY {
            assert!(names.insert(entry.name), "{} is there twice", entry.name);
            assert!(config.get(entry.name).is_some(), "{} has no section", entry.name);
            assert_eq!((entry.mode)(&Protect::default()), entry.default_mode, "{}", entry.name);
        }
        assert_eq!(config.as_object().unwrap().len(), REGISTRY.len());
        assert!(REGISTRY.len() <= PROTECTIONS_MAX);
    }

    #[test]
    fn what_is_inert_has_nothing_to_say() {
        let requests = [
            Sample::new("GET", "/a?b=1", &[("origin", "http://other.example")]),
            Sample::new("OPTIONS", "/a", &[("origin", "http://other.example")]),
            Sample::new("POST", "/a", &[("content-type", "application/json")]).with_body(b"{}"),
        ];
        let mut inert = Vec::new();
        for entry in REGISTRY {
            let protection = build(entry, "");
            if !protection.is_inert() {
                continue;
            }
            inert.push(entry.name);
            assert!(protection.sampling().is_none(), "{}", entry.name);
            for sample in &requests {
                let request = sample.request();
                assert!(!protection.reads_body(&request), "{}", entry.name);
                assert!(protection.serve("/.seaworthy/a", &request, b"").is_none());
                assert_eq!(sample.verdict(&*protection), "n/a", "{}", entry.name);
            }
        }
        let unset = [
            "host_allowlist",
            "ip_filter",
            "cors",
            "access",
            "signature",
            "core_rule_set",
            "vocabulary",
            "request_schema",
        ];
        assert_eq!(inert, unset);
    }

    #[test]
    fn each_code_of_a_protection_is_claimed_by_it_alone() {
        for entry in REGISTRY {
            for code in entry.codes {
                assert_eq!(code.entry().domain, Domain::Protection(entry.name));
            }
        }
        for code in Code::all() {
            if let Domain::Protection(name) = code.domain {
                let entry = REGISTRY.iter().find(|entry| entry.name == name);
                let claimed = entry.is_some_and(|entry| entry.codes.contains(&code.code));
                assert!(claimed, "{} belongs to no protection", code.name);
            }
        }
    }

    #[test]
    fn what_cannot_break_a_client_enforces_and_the_rest_starts_in_warn() {
        let enforcing: Vec<_> = REGISTRY
            .iter()
            .filter(|entry| entry.default_mode == ModeSetting::ENFORCE)
            .map(|entry| entry.name)
            .collect();
        assert_eq!(enforcing, ["header_limit", "security_headers", "body_limit"]);
        for entry in REGISTRY {
            assert!(entry.default_mode == ModeSetting::Auto || enforcing.contains(&entry.name));
            assert!(!entry.default_mode_reason.is_empty() && entry.summary.ends_with('.'));
        }
    }

    #[test]
    fn settings_survive_being_written_and_unknown_ones_are_refused() {
        let written = toml::to_string(&Protect::default()).unwrap();
        assert_eq!(toml::from_str::<Protect>(&written).unwrap(), Protect::default(), "{written}");
        for entry in REGISTRY {
            let misspelt = format!("[{}]\nmoed = \"off\"", entry.name);
            let fault = toml::from_str::<Protect>(&misspelt).unwrap_err().to_string();
            assert!(fault.contains("unknown field `moed`"), "{fault}");
            let off = format!("[{}]\nmode = \"off\"", entry.name);
            let protect: Protect = toml::from_str(&off).unwrap();
            assert_eq!((entry.mode)(&protect), ModeSetting::OFF, "{}", entry.name);
        }
    }

    #[test]
    fn the_defaults_build() {
        let key = InstallKey::new([1; 32]);
        for entry in REGISTRY {
            let context = BuildContext {
                key: &key,
                sources: &Sources::default(),
                memory: None,
                operations_apart: false,
            };
            let built = (entry.build)(&Protect::default(), &context);
            assert!(built.is_ok(), "{}", entry.name);
            assert!((entry.settings)(&Protect::default()).get("mode").is_none());
        }
    }
}
