//! Who may send alerts, and how they prove it.
//!
//! 1. Four ways are known; a request is judged by the first of them that it has fields of, and by
//!    no other: a token does not heal a signature that is wrong.
//!
//!    | way | fields | what is signed |
//!    |---|---|---|
//!    | Standard Webhooks | `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64>` | `<id>.<timestamp>.<body>` |
//!    | Grafana | `x-grafana-alerting-signature: <hex>`, `x-grafana-alerting-timestamp` | `<timestamp>:<body>` |
//!    | Alertmanager, by the relay | `x-alertmanager-signature: <hex>`, `x-alertmanager-timestamp` | `<timestamp>.<body>` |
//!    | token | `authorization: Bearer <token>` | nothing |
//!
//! 2. Signatures are HMAC-SHA256, compared in constant time, and so are tokens. Any of the secrets
//!    will do, so that one can be replaced without losing a delivery.
//! 3. A timestamp more than `tolerance` from now, either way, is refused. It is part of what is
//!    signed; a signature without one is refused.
//! 4. What can be said before the body is read is said then ([`Proofs::claim`]): nobody's megabyte
//!    is read for a token that is wrong.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use ring::hmac;
use serde::Serialize;

use super::AlertsConfig;
use crate::quantity::Period;
use crate::registry::BuildError;
use crate::signed::{SecretForm, hex, secret, standard_signatures, unhex, unix_seconds};
use crate::source::{Source, Sources};

pub const GRAFANA_SIGNATURE: &str = "x-grafana-alerting-signature";
pub const GRAFANA_TIMESTAMP: &str = "x-grafana-alerting-timestamp";
pub const ALERTMANAGER_SIGNATURE: &str = "x-alertmanager-signature";
pub const ALERTMANAGER_TIMESTAMP: &str = "x-alertmanager-timestamp";

/// Secrets, and tokens, that can be in use at once: each is tried.
const SECRETS_MAX: usize = 8;

/// What is between a timestamp and a body.
const GRAFANA_SEPARATOR: &[u8] = b":";
const SEPARATOR: &[u8] = b".";

/// What a delivery can be proven with.
pub struct Proofs {
    secrets: Vec<Secret>,
    tokens: Vec<Token>,
    tolerance: Duration,
}

/// One secret, as a key in the two forms in which senders take it.
struct Secret {
    plain: hmac::Key,
    standard: hmac::Key,
}

/// A token, kept as what it must hash to: comparing hashes takes the same time for any two.
struct Token {
    key: hmac::Key,
    tag: hmac::Tag,
}

/// What was proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    pub kind: ProofKind,
    /// Which of the secrets, or of the tokens, in the order of the config: so it can be seen when
    /// an old one is out of use.
    pub number: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofKind {
    StandardWebhooks,
    Grafana,
    Alertmanager,
    Token,
}

impl fmt::Display for ProofKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StandardWebhooks => "a Standard Webhooks signature",
            Self::Grafana => "Grafana's signature",
            Self::Alertmanager => "the relay's signature",
            Self::Token => "a token",
        })
    }
}

/// Why a delivery is not proven. Fits after "the sender is not proven: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error(
        "the request has no proof: sign it (webhook-signature, {GRAFANA_SIGNATURE} or \
         {ALERTMANAGER_SIGNATURE}), or send authorization: Bearer"
    )]
    Missing,
    #[error("the header field {0} is missing")]
    FieldMissing(&'static str),
    #[error("the header field {0} is there twice")]
    FieldTwice(&'static str),
    #[error("{kind} was sent, and the config has no alerts.{key} to check it with")]
    NotConfigured { kind: ProofKind, key: &'static str },
    #[error("the header field {0} is not Unix time in seconds")]
    Timestamp(&'static str),
    #[error("it was signed {off_s} s {}; {tolerance_s} s are accepted", when(.is_past))]
    Expired { off_s: u64, is_past: bool, tolerance_s: u64 },
    #[error("no signature in the header field {0} can be read")]
    Unreadable(&'static str),
    #[error("the signature in {0} is not that of this body with any of the secrets")]
    WrongSignature(&'static str),
    #[error("the token is none of those in the config")]
    WrongToken,
}

fn when(is_past: &bool) -> &'static str {
    if *is_past { "ago" } else { "from now" }
}

/// A claim whose time is right, and its token where it has one. The signature is still to be
/// verified, with the body.
#[derive(Debug)]
pub struct Claim(Claimed);

#[derive(Debug)]
enum Claimed {
    Proven(Proof),
    Signed { kind: ProofKind, field: &'static str, prefix: Vec<u8>, signatures: Vec<Vec<u8>> },
}

impl Proofs {
    pub(super) fn build(
        config: &AlertsConfig,
        sources: &Sources,
    ) -> Result<Option<Self>, BuildError> {
        let tolerance = config.tolerance;
        if !(Period::secs(1)..=Period::secs(3600)).contains(&tolerance) {
            let message = format!("expected \"1s\" to \"1h\", not \"{tolerance}\"");
            return Err(BuildError { key: "tolerance", message });
        }
        let each = |key: &'static str, list: &[Source]| {
            let fault = |message| BuildError { key, message };
            if list.len() > SECRETS_MAX {
                return Err(fault(format!("expected at most {SECRETS_MAX}, not {}", list.len())));
            }
            Ok(())
        };
        each("secrets", &config.secrets)?;
        each("tokens", &config.tokens)?;
        let mut secrets = Vec::with_capacity(config.secrets.len());
        for source in &config.secrets {
            let key = |form| {
                let bytes = secret(source, form, sources)
                    .map_err(|message| BuildError { key: "secrets", message })?;
                Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
            };
            let (plain, standard) = (key(SecretForm::Plain)?, key(SecretForm::Standard)?);
            secrets.push(Secret { plain, standard });
        }
        let mut tokens = Vec::with_capacity(config.tokens.len());
        for source in &config.tokens {
            let fault = |message| BuildError { key: "tokens", message };
            let bytes = secret(source, SecretForm::Plain, sources).map_err(fault)?;
            if !bytes.iter().all(u8::is_ascii_graphic) {
                return Err(fault(format!(
                    "{source} has what no token has: blanks, or other than ASCII"
                )));
            }
            let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
            let tag = hmac::sign(&key, &bytes);
            tokens.push(Token { key, tag });
        }
        let is_any = !secrets.is_empty() || !tokens.is_empty();
        Ok(is_any.then(|| Self { secrets, tokens, tolerance: tolerance.as_duration() }))
    }

    /// Reads what the request says of itself, and judges what can be judged without its body.
    pub fn claim(&self, headers: &HeaderMap, now_unix_s: u64) -> Result<Claim, ProofError> {
        let has = |name: &str| headers.contains_key(name);
        if has("webhook-signature") || has("webhook-id") {
            let kind = ProofKind::StandardWebhooks;
            let (field, id) = ("webhook-signature", one(headers, "webhook-id")?);
            let timestamp = self.timestamp(headers, "webhook-timestamp", now_unix_s)?;
            let prefix = [id, SEPARATOR, timestamp, SEPARATOR].concat();
            let signatures = standard_signatures(one(headers, field)?);
            return self.signed(kind, field, prefix, signatures);
        }
        let hexed = [
            (ProofKind::Grafana, GRAFANA_SIGNATURE, GRAFANA_TIMESTAMP, GRAFANA_SEPARATOR),
            (ProofKind::Alertmanager, ALERTMANAGER_SIGNATURE, ALERTMANAGER_TIMESTAMP, SEPARATOR),
        ];
        for (kind, field, timestamp, separator) in hexed {
            if has(field) {
                let timestamp = self.timestamp(headers, timestamp, now_unix_s)?;
                let prefix = [timestamp, separator].concat();
                let signatures = unhex(one(headers, field)?).into_iter().collect();
                return self.signed(kind, field, prefix, signatures);
            }
        }
        self.token(headers)
    }

    /// Verifies what the claim says of `body`.
    pub fn verify(&self, claim: Claim, body: &[u8]) -> Result<Proof, ProofError> {
        let (kind, field, prefix, signatures) = match claim.0 {
            Claimed::Proven(proof) => return Ok(proof),
            Claimed::Signed { kind, field, prefix, signatures } => {
                (kind, field, prefix, signatures)
            }
        };
        let signed = [&prefix, body].concat();
        for (number, secret) in self.secrets.iter().enumerate() {
            let key = match kind {
                ProofKind::StandardWebhooks => &secret.standard,
                ProofKind::Grafana | ProofKind::Alertmanager | ProofKind::Token => &secret.plain,
            };
            if signatures.iter().any(|signature| hmac::verify(key, &signed, signature).is_ok()) {
                return Ok(Proof { kind, number });
            }
        }
        Err(ProofError::WrongSignature(field))
    }

    fn signed(
        &self,
        kind: ProofKind,
        field: &'static str,
        prefix: Vec<u8>,
        signatures: Vec<Vec<u8>>,
    ) -> Result<Claim, ProofError> {
        if self.secrets.is_empty() {
            return Err(ProofError::NotConfigured { kind, key: "secrets" });
        }
        if signatures.is_empty() {
            return Err(ProofError::Unreadable(field));
        }
        Ok(Claim(Claimed::Signed { kind, field, prefix, signatures }))
    }

    fn token(&self, headers: &HeaderMap) -> Result<Claim, ProofError> {
        let field = "authorization";
        if !headers.contains_key(field) {
            return Err(ProofError::Missing);
        }
        let kind = ProofKind::Token;
        let value = one(headers, field)?;
        let (scheme, token) = value.split_at(value.len().min(7));
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(ProofError::Missing);
        }
        if self.tokens.is_empty() {
            return Err(ProofError::NotConfigured { kind, key: "tokens" });
        }
        let token = token.trim_ascii();
        let is_right = |known: &Token| hmac::verify(&known.key, token, known.tag.as_ref()).is_ok();
        let number = self.tokens.iter().position(is_right).ok_or(ProofError::WrongToken)?;
        Ok(Claim(Claimed::Proven(Proof { kind, number })))
    }

    /// The timestamp in `field` as it is written, if it is near.
    fn timestamp<'a>(
        &self,
        headers: &'a HeaderMap,
        field: &'static str,
        now_unix_s: u64,
    ) -> Result<&'a [u8], ProofError> {
        let text = one(headers, field)?;
        let timestamp = unix_seconds(text).ok_or(ProofError::Timestamp(field))?;
        let (off_s, tolerance_s) = (timestamp.abs_diff(now_unix_s), self.tolerance.as_secs());
        if off_s > tolerance_s {
            let is_past = timestamp < now_unix_s;
            return Err(ProofError::Expired { off_s, is_past, tolerance_s });
        }
        Ok(text)
    }
}

impl fmt::Debug for Proofs {
    /// Secrets are in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secrets, tokens) = (self.secrets.len(), self.tokens.len());
        write!(f, "Proofs({secrets} secrets, {tokens} tokens, within {:?})", self.tolerance)
    }
}

/// The value of a field that has to be there once.
fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a [u8], ProofError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes()),
        (None, _) => Err(ProofError::FieldMissing(name)),
        _ => Err(ProofError::FieldTwice(name)),
    }
}

/// What signs for Alertmanager, which cannot.
pub struct Signer(hmac::Key);

impl Signer {
    /// The secret is at `source`; a fault never shows any of it.
    pub fn build(source: &Source, sources: &Sources) -> Result<Self, String> {
        let secret = secret(source, SecretForm::Plain, sources)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    /// The values of [`ALERTMANAGER_TIMESTAMP`] and [`ALERTMANAGER_SIGNATURE`].
    pub fn sign(&self, now_unix_s: u64, body: &[u8]) -> (String, String) {
        let timestamp = now_unix_s.to_string();
        let mut context = hmac::Context::with_key(&self.0);
        for part in [timestamp.as_bytes(), SEPARATOR, body] {
            context.update(part);
        }
        (timestamp, hex(context.sign().as_ref()))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use http::{HeaderName, HeaderValue};

    use super::super::Intake;
    use super::*;

    const OLD: &str = "an old secret with thirty-two bytes";
    const NEW: &str = "a newer secret with thirty-two bytes";
    const OTHER: &str = "another secret with thirty-two bytes";
    const TOKEN: &str = "a-token-of-at-least-thirty-two-characters";
    const BODY: &[u8] = b"{\"version\":\"4\"}";
    const NOW: u64 = 1_800_000_000;

    fn sources() -> Sources {
        let mut sources = Sources::default();
        let encoded = format!("whsec_{}", STANDARD.encode(OTHER));
        for (name, text) in
            [("OLD", OLD), ("NEW", NEW), ("TOKEN", TOKEN), ("ENCODED", encoded.as_str())]
        {
            sources.insert(Source::Env(name.to_owned()), Ok(format!("{text}\n").into_bytes()));
        }
        sources
    }

    fn proofs(lines: &str) -> Proofs {
        let config: AlertsConfig = toml::from_str(lines).unwrap();
        Intake::build(&config, &sources()).unwrap().expect("there are secrets").proofs
    }

    fn all() -> Proofs {
        proofs("secrets = [\"env:OLD\", \"env:NEW\", \"env:ENCODED\"]\ntokens = [\"env:TOKEN\"]")
    }

    fn tag(secret: &str, parts: &[&[u8]]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::sign(&key, &parts.concat()).as_ref().to_vec()
    }

    type Fields = Vec<(&'static str, String)>;

    /// Makes the fields that prove [`BODY`] with a secret, at a time.
    type Sign = fn(&str, u64) -> Fields;

    fn standard(secret: &str, at: u64) -> Fields {
        let tag = STANDARD.encode(tag(secret, &[format!("msg_1.{at}.").as_bytes(), BODY]));
        vec![
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", at.to_string()),
            ("webhook-signature", format!("v1,{tag}")),
        ]
    }

    fn grafana(secret: &str, at: u64) -> Fields {
        let tag = hex(&tag(secret, &[format!("{at}:").as_bytes(), BODY]));
        vec![(GRAFANA_SIGNATURE, tag), (GRAFANA_TIMESTAMP, at.to_string())]
    }

    fn relay(secret: &str, at: u64) -> Fields {
        let mut sources = Sources::default();
        let source = Source::Env("S".to_owned());
        sources.insert(source.clone(), Ok(secret.as_bytes().to_vec()));
        let (timestamp, tag) = Signer::build(&source, &sources).unwrap().sign(at, BODY);
        vec![(ALERTMANAGER_SIGNATURE, tag), (ALERTMANAGER_TIMESTAMP, timestamp)]
    }

    fn bearer(token: &str) -> Fields {
        vec![("authorization", format!("Bearer {token}"))]
    }

    fn prove(proofs: &Proofs, fields: &Fields, body: &[u8]) -> Result<Proof, ProofError> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        proofs.verify(proofs.claim(&headers, NOW)?, body)
    }

    #[test]
    fn each_way_is_taken_with_each_secret_and_with_no_other() {
        let proofs = all();
        let encoded = format!("whsec_{}", STANDARD.encode(OTHER));
        let ways: [(ProofKind, Sign, &str, &str); 3] = [
            (ProofKind::StandardWebhooks, standard, OTHER, "webhook-signature"),
            (ProofKind::Grafana, grafana, &encoded, GRAFANA_SIGNATURE),
            (ProofKind::Alertmanager, relay, &encoded, ALERTMANAGER_SIGNATURE),
        ];
        for (kind, sign, third, field) in ways {
            for (number, secret) in [OLD, NEW, third].into_iter().enumerate() {
                let fields = sign(secret, NOW);
                assert_eq!(prove(&proofs, &fields, BODY), Ok(Proof { kind, number }));
                let error = prove(&proofs, &fields, b"{}").unwrap_err();
                assert_eq!(error, ProofError::WrongSignature(field), "another body");
            }
            let unknown = sign("an unknown secret of thirty-two bytes", NOW);
            let error = prove(&proofs, &unknown, BODY).unwrap_err();
            assert_eq!(error, ProofError::WrongSignature(field), "another secret");
        }
        let token = Proof { kind: ProofKind::Token, number: 0 };
        assert_eq!(prove(&proofs, &bearer(TOKEN), BODY), Ok(token.clone()));
        let loud = vec![("authorization", format!("bearer  {TOKEN} "))];
        assert_eq!(prove(&proofs, &loud, BODY), Ok(token));
    }

    #[test]
    fn a_timestamp_is_signed_and_has_to_be_near() {
        let proofs = all();
        for sign in [standard, grafana, relay] {
            for (at, want) in [
                (NOW, None),
                (NOW - 300, None),
                (NOW + 300, None),
                (NOW - 301, Some((301, true))),
                (NOW + 301, Some((301, false))),
                (0, Some((NOW, true))),
            ] {
                let want = match want {
                    None => Ok(()),
                    Some((off_s, is_past)) => {
                        Err(ProofError::Expired { off_s, is_past, tolerance_s: 300 })
                    }
                };
                assert_eq!(prove(&proofs, &sign(OLD, at), BODY).map(|_| ()), want, "{at}");
            }
            // A recorded delivery whose time is put forward.
            let mut moved = sign(OLD, NOW - 301);
            for (name, value) in &mut moved {
                if name.ends_with("timestamp") {
                    *value = NOW.to_string();
                }
            }
            let error = prove(&proofs, &moved, BODY).unwrap_err();
            assert!(matches!(error, ProofError::WrongSignature(_)), "{error}");
        }
        let narrow = proofs_within("1m");
        assert!(prove(&narrow, &relay(OLD, NOW - 60), BODY).is_ok());
        assert!(prove(&narrow, &relay(OLD, NOW - 61), BODY).is_err());
    }

    fn proofs_within(tolerance: &str) -> Proofs {
        proofs(&format!("secrets = [\"env:OLD\"]\ntolerance = \"{tolerance}\""))
    }

    #[test]
    fn what_proves_nothing_is_refused_and_told_why() {
        let without = |mut fields: Fields, name: &str| {
            fields.retain(|(known, _)| *known != name);
            fields
        };
        let with = |mut fields: Fields, name: &'static str, value: &str| {
            fields.retain(|(known, _)| *known != name);
            fields.push((name, value.to_owned()));
            fields
        };
        let twice = |fields: Fields| [fields.clone(), fields].concat();
        let untimed = vec![(GRAFANA_SIGNATURE, hex(&tag(OLD, &[BODY])))];
        let wrong = with(grafana(OLD, NOW), GRAFANA_SIGNATURE, &"0".repeat(64));
        for (fields, want) in [
            (vec![], ProofError::Missing),
            (vec![("authorization", "Basic dTpw".to_owned())], ProofError::Missing),
            (vec![("authorization", "Bear".to_owned())], ProofError::Missing),
            (bearer(""), ProofError::WrongToken),
            (bearer(OLD), ProofError::WrongToken),
            (bearer(&TOKEN.to_uppercase()), ProofError::WrongToken),
            (twice(bearer(TOKEN)), ProofError::FieldTwice("authorization")),
            (without(standard(OLD, NOW), "webhook-id"), ProofError::FieldMissing("webhook-id")),
            (
                without(standard(OLD, NOW), "webhook-signature"),
                ProofError::FieldMissing("webhook-signature"),
            ),
            (
                with(standard(OLD, NOW), "webhook-signature", "v2,AAAA"),
                ProofError::Unreadable("webhook-signature"),
            ),
            (
                with(standard(OLD, NOW), "webhook-id", "msg_2"),
                ProofError::WrongSignature("webhook-signature"),
            ),
            (untimed, ProofError::FieldMissing(GRAFANA_TIMESTAMP)),
            (twice(grafana(OLD, NOW)), ProofError::FieldTwice(GRAFANA_TIMESTAMP)),
            (
                with(grafana(OLD, NOW), GRAFANA_TIMESTAMP, "now"),
                ProofError::Timestamp(GRAFANA_TIMESTAMP),
            ),
            (
                with(relay(OLD, NOW), ALERTMANAGER_SIGNATURE, "sha256=00"),
                ProofError::Unreadable(ALERTMANAGER_SIGNATURE),
            ),
            // Neither another way's separator nor a token makes up for it.
            (
                vec![
                    (ALERTMANAGER_SIGNATURE, grafana(OLD, NOW)[0].1.clone()),
                    (ALERTMANAGER_TIMESTAMP, NOW.to_string()),
                ],
                ProofError::WrongSignature(ALERTMANAGER_SIGNATURE),
            ),
            ([wrong, bearer(TOKEN)].concat(), ProofError::WrongSignature(GRAFANA_SIGNATURE)),
        ] {
            assert_eq!(prove(&all(), &fields, BODY), Err(want), "{fields:?}");
        }
    }

    #[test]
    fn a_way_that_is_not_configured_says_so() {
        let (secrets, tokens) =
            (proofs("secrets = [\"env:OLD\"]"), proofs("tokens = [\"env:TOKEN\"]"));
        let (kind, key) = (ProofKind::Token, "tokens");
        let want = ProofError::NotConfigured { kind, key };
        assert_eq!(prove(&secrets, &bearer(TOKEN), BODY), Err(want));
        let (kind, key) = (ProofKind::Grafana, "secrets");
        let want = ProofError::NotConfigured { kind, key };
        assert_eq!(prove(&tokens, &grafana(OLD, NOW), BODY), Err(want));
    }

    #[test]
    fn a_signature_is_what_others_compute() {
        // printf '1800000000.{"version":"4"}' | openssl dgst -sha256 -hmac "$SECRET"
        let fields = relay("an old secret with thirty-two bytes", NOW);
        assert_eq!(fields[0].1, "ddd90e2a7aa3f9f4a438b4535795c58f3ccbf3bafe913b860d4702402cc2cfea");
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", all());
        assert_eq!(shown, "Proofs(3 secrets, 1 tokens, within 300s)");
    }
}
