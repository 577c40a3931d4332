//! Alerts from outside that take a rule back to `warn`: what one is, who may send it, which rule
//! it is about.
//!
//! 1. Who sends a delivery proves it, by a signature over its body or by a token ([`Proofs`]).
//! 2. A delivery is the payload of Alertmanager's webhook (version 4) or Grafana's, read whole or
//!    refused ([`Delivery::parse`]).
//! 3. A label says which rule an alert is about ([`Target`]). What is said beside it (labels,
//!    annotations) is kept within bounds, and what is left off is counted: no alert is refused for
//!    it.
//! 4. An alert that fires demotes; one that is resolved does nothing. Nothing here promotes.
//! 5. Group key, fingerprint, start and status tell alerts apart ([`AlertId`]): whoever takes one
//!    remembers its id, so that it has its effect once, however often and in whatever order it
//!    comes.

mod payload;
mod proof;
mod target;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::quantity::Period;
use crate::registry::BuildError;
use crate::source::{Source, Sources};

pub use self::payload::{AlertFault, BODY_BYTES_MAX, Delivery, PayloadError};
pub use self::proof::{
    ALERTMANAGER_SIGNATURE, ALERTMANAGER_TIMESTAMP, Claim, GRAFANA_SIGNATURE, GRAFANA_TIMESTAMP,
    Proof, ProofError, ProofKind, Proofs, Signer,
};
pub use self::target::{PROTECTION_LABEL, Target, TargetError};

/// `[alerts]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// With what deliveries are signed, by file or variable. None by default, and without a secret
    /// or a token no alert is taken.
    pub secrets: Vec<Source>,
    /// Tokens that serve instead of a signature, by file or variable. None by default: a token says
    /// nothing of the body, and whoever has seen one can send anything.
    pub tokens: Vec<Source>,
    /// The label that names a rule. One of our own by default, so that no alert demotes by chance;
    /// alerts on the gateway's own metrics have `rule`.
    pub label: String,
    /// How far the timestamp of a signature may be off. 5m is what Standard Webhooks advises.
    pub tolerance: Period,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            tokens: Vec::new(),
            label: "seaworthy_rule".to_owned(),
            tolerance: Period::secs(300),
        }
    }
}

impl AlertsConfig {
    /// What has to be read before an [`Intake`] is built.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.secrets.iter().chain(&self.tokens)
    }
}

/// How alerts are taken in: who may send them, and which label names the rule.
#[derive(Debug)]
pub struct Intake {
    pub proofs: Proofs,
    pub label: Box<str>,
}

/// Bytes of a label's name; Prometheus has no bound, and nobody's labels are longer.
const LABEL_NAME_BYTES_MAX: usize = 128;

impl Intake {
    /// `None` where the config names neither a secret nor a token.
    pub fn build(config: &AlertsConfig, sources: &Sources) -> Result<Option<Self>, BuildError> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let label = config.label.as_bytes();
        let is_label = label.first().is_some_and(|first| named(*first) && !first.is_ascii_digit())
            && label.iter().all(|byte| named(*byte))
            && label.len() <= LABEL_NAME_BYTES_MAX;
        if !is_label {
            let message = format!("expected the name of a label, not {:?}", config.label);
            return Err(BuildError { key: "label", message });
        }
        let proofs = Proofs::build(config, sources)?;
        Ok(proofs.map(|proofs| Self { proofs, label: config.label.as_str().into() }))
    }
}

/// Who sent an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertSource {
    Alertmanager,
    Grafana,
}

impl AlertSource {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alertmanager => "Alertmanager",
            Self::Grafana => "Grafana",
        }
    }
}

/// Whether an alert is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertStatus {
    Firing,
    Resolved,
}

/// What tells an alert from others: SHA-256 over group key, fingerprint, start and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId(pub [u8; 32]);

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::signed::hex(&self.0))
    }
}

impl Serialize for AlertId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One alert of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    pub id: AlertId,
    pub source: AlertSource,
    /// The sender's key of the group that it came in, for people: a long one is cut.
    pub group_key: String,
    /// The sender's hash of the labels.
    pub fingerprint: String,
    pub status: AlertStatus,
    pub starts_at: Timestamp,
    pub labels: Pairs,
    pub annotations: Pairs,
}

/// Bytes of an alert's name; the audit log has it as an actor.
const NAME_BYTES_MAX: usize = 128;

impl Alert {
    /// What its sender calls it, on one line; the fingerprint, where it has no name.
    pub fn name(&self) -> String {
        let named = self.labels.get("alertname").map(|name| one_line(name, NAME_BYTES_MAX));
        named.filter(|name| !name.is_empty()).unwrap_or_else(|| self.fingerprint.clone())
    }
}

/// Labels or annotations by name, within bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pairs {
    /// In the order of the names. What was cut ends in "…".
    pub kept: Vec<(String, String)>,
    /// How many there were beyond the bound.
    pub left_off: usize,
}

impl Pairs {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.kept.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What an alert asks for: back to `warn`, at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Demotion {
    pub target: Target,
    pub alert: Alert,
    pub proof: Proof,
    /// Why, on one line.
    pub sentence: String,
}

/// Bytes of a sentence: a line of a log, or of a table.
const SENTENCE_BYTES_MAX: usize = 400;

impl Demotion {
    pub fn new(target: Target, alert: Alert, proof: Proof) -> Self {
        let (sender, name) = (alert.source.name(), alert.name());
        let mut sentence = format!("{sender} says that {name} fires since {}", alert.starts_at);
        let words = ["summary", "description", "message"];
        if let Some(summary) = words.iter().find_map(|word| alert.annotations.get(word)) {
            sentence.push_str(": ");
            sentence.push_str(summary);
        }
        let sentence = one_line(&sentence, SENTENCE_BYTES_MAX);
        Self { target, alert, proof, sentence }
    }

    /// Who asks for it, as the audit log has it: `alert:CheckoutErrors`. Which sender has told of
    /// the alert is in the sentence.
    pub fn actor(&self) -> String {
        format!("alert:{}", self.alert.name())
    }
}

/// `text` on one line, within `bytes_max` bytes: a label or an annotation may have lines, and nobody's
/// terminal is to be told what to do.
fn one_line(text: &str, bytes_max: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    cut(&words.join(" "), bytes_max)
}

/// `text` within `bytes_max` bytes; what was cut ends in "…".
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = bytes_max.saturating_sub('…'.len_utf8());
    let kept = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|at| *at <= end);
    let kept = kept.last().and_then(|end| text.get(..end)).unwrap_or_default();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_cut_is_a_prefix_within_the_bound(text in ".{0,80}", max in 3_usize..60) {
            let short = cut(&text, max);
            prop_assert!(short.len() <= max);
            match short.strip_suffix('…') {
                Some(kept) if short != text => prop_assert!(text.starts_with(kept)),
                _ => prop_assert_eq!(short, text),
            }
        }
    }

    #[test]
    fn without_a_secret_nothing_is_taken_in() {
        let none = Intake::build(&AlertsConfig::default(), &Sources::default());
        assert!(none.unwrap().is_none());
    }

    #[test]
    fn settings_that_would_not_protect_are_refused() {
        for (lines, words) in [
            ("label = \"\"", "label: expected the name of a label, not \"\""),
            ("label = \"a-b\"", "label: expected the name of a label"),
            ("label = \"1a\"", "label: expected the name of a label"),
            ("tolerance = \"0s\"", "tolerance: expected \"1s\" to \"1h\", not \"0ms\""),
            ("tolerance = \"2h\"", "tolerance: expected \"1s\" to \"1h\", not \"2h\""),
            ("secrets = [\"env:SHORT\"]", "secrets: env:SHORT has 5 bytes"),
            ("tokens = [\"env:SHORT\"]", "tokens: env:SHORT has 5 bytes"),
            ("secrets = [\"env:NONE\"]", "secrets: env:NONE was not read"),
            ("tokens = [\"env:BLANK\"]", "tokens: env:BLANK has what no token has"),
        ] {
            let config: AlertsConfig = toml::from_str(lines).unwrap();
            let mut sources = Sources::default();
            sources.insert(Source::Env("SHORT".to_owned()), Ok(b"short".to_vec()));
            let blank = "a token with blanks, which is no token at all";
            sources.insert(Source::Env("BLANK".to_owned()), Ok(blank.into()));
            let BuildError { key, message } = Intake::build(&config, &sources).unwrap_err();
            let said = format!("{key}: {message}");
            assert!(said.starts_with(words), "{lines}: {said}");
        }
        let many = format!("secrets = [{}]", "\"env:A\", ".repeat(9));
        let many = Intake::build(&toml::from_str(&many).unwrap(), &Sources::default());
        assert_eq!(many.unwrap_err().message, "expected at most 8, not 9");
        // What anyone could make a server answer is no secret.
        let fetched = toml::from_str::<AlertsConfig>("secrets = [\"https://a.example/\"]");
        assert!(fetched.unwrap_err().message().starts_with("expected \"env:<NAME>\" or"));
    }
}
