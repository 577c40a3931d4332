//! Lets in webhooks that their sender has signed, once each.
//!
//! 1. It judges where `secrets` are set: on a `[[route]]` of its own, as a rule. Everything that
//!    reaches such a route has to be signed; the gateway's own resources need not.
//! 2. The signature is an HMAC-SHA256 over the bytes of the body as they came, and over the
//!    timestamp where the format has one. It is compared in constant time.
//! 3. Any of the secrets will do, so that one can be replaced without losing a delivery.
//! 4. A timestamp more than `tolerance` from now, either way, is denied: a recorded delivery
//!    cannot be sent again later.
//! 5. A delivery that the service has taken (2xx or 3xx) is not given to it again: its sender is
//!    told so with a 200, since anything else would make it try on. One that the service has
//!    refused may come again. While it is under way, its double is denied.
//! 6. What tells deliveries apart is what is signed: the id in the format "standard", the `id` of
//!    the event in "stripe", the signature itself in the others. Ids that are not signed are not
//!    believed.

use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ring::hmac;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use crate::Moment;
use crate::content::Body;
use crate::mode::ModeSetting;
use crate::problem::{Code, Denial, FieldError};
use crate::protection::{Answer, Effects, Memory, Outcome, Protection, Request};
use crate::quantity::Period;
use crate::registry::{BuildContext, BuildError, Entry, settings_of};
use crate::signed::{SIGNATURES_MAX, SecretForm, secret, standard_signatures, unhex, unix_seconds};
use crate::source::Source;

pub const ENTRY: Entry = Entry {
    name: "signature",
    summary: "Lets in webhooks that their sender has signed, once each.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a sender may use another secret, or a format that nobody told of",
    codes: &[
        Code::SignatureMissing,
        Code::SignatureInvalid,
        Code::SignatureExpired,
        Code::DeliveryUnderWay,
    ],
    mode: |protect| protect.signature.mode,
    settings: |protect| settings_of(&protect.signature),
    build: |protect, context| Ok(Arc::new(Signature::build(&protect.signature, context)?)),
    sources: |protect| protect.signature.secrets.clone(),
    ..Entry::PLAIN
};

/// `[protect.signature]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
    /// Whose way of signing it is. Standard Webhooks is the one that several senders share.
    pub format: Format,
    /// The secrets, by file or variable; none is needed where nothing is signed.
    pub secrets: Vec<Source>,
    /// How far the timestamp may be off. 300s is what Standard Webhooks and Stripe advise.
    pub tolerance: Period,
    /// The field of the format "plain". GitHub's name is the most common one.
    pub header: String,
    /// The field with the timestamp of the format "plain", in Unix seconds; what is signed is then
    /// `<timestamp>.<body>`. Empty: the body alone is signed.
    pub timestamp_header: String,
    /// How long a delivery is remembered. 1h is beyond what most senders wait between two tries.
    pub remember: Period,
    /// Deliveries that are remembered, about 40 bytes each; the oldest go first.
    pub deliveries: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: ENTRY.default_mode,
            format: Format::Standard,
            secrets: Vec::new(),
            tolerance: Period::secs(300),
            header: "x-hub-signature-256".to_owned(),
            timestamp_header: String::new(),
            remember: Period::secs(3600),
            deliveries: 65_536,
        }
    }
}

/// A way of signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64>`.
    Standard,
    /// `x-hub-signature-256: sha256=<hex>` over the body.
    Github,
    /// `stripe-signature: t=<timestamp>,v1=<hex>`.
    Stripe,
    /// `<header>: sha256=<hex>`, with a timestamp or without.
    Plain,
}

/// A 401 needs one; no registered scheme is about signed bodies.
const CHALLENGE: &str = "Signature";

struct Signature {
    keys: Vec<hmac::Key>,
    layout: Layout,
    tolerance: Duration,
    deliveries: Arc<Deliveries>,
}

/// Where a format keeps what.
enum Layout {
    Standard,
    Stripe,
    Plain { signature: HeaderName, timestamp: Option<HeaderName> },
}

const DAY_S: u64 = 24 * 60 * 60;

/// What a request says of its signature.
struct Claim<'a> {
    /// The field that has the signature.
    field: &'a str,
    /// What is signed before the body, its parts being joined by dots.
    prefix: Vec<&'a [u8]>,
    timestamp: Option<&'a [u8]>,
    /// The field that has the timestamp, where one has.
    timed_by: &'a str,
    signatures: Vec<Vec<u8>>,
}

impl Signature {
    fn build(config: &Config, context: &BuildContext<'_>) -> Result<Self, BuildError> {
        let Config { format, tolerance, remember, deliveries, .. } = *config;
        let name = |key: &'static str, text: &str| {
            text.parse::<HeaderName>().map_err(|_| BuildError {
                key,
                message: format!("expected the name of a header field, not {text:?}"),
            })
        };
        let plain = name("header", &config.header)?;
        let timestamp = match config.timestamp_header.as_str() {
            "" => None,
            text => Some(name("timestamp_header", text)?),
        };
        let layout = match format {
            Format::Standard => Layout::Standard,
            Format::Stripe => Layout::Stripe,
            Format::Github => Layout::Plain { signature: HUB_SIGNATURE, timestamp: None },
            Format::Plain => Layout::Plain { signature: plain, timestamp },
        };
        let form = match format {
            Format::Standard => SecretForm::Standard,
            Format::Github | Format::Stripe | Format::Plain => SecretForm::Plain,
        };
        let mut keys = Vec::with_capacity(config.secrets.len());
        for source in &config.secrets {
            let secret = secret(source, form, context.sources)
                .map_err(|message| BuildError { key: "secrets", message })?;
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &secret));
        }
        let tolerance = tolerance.as_duration();
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&tolerance) {
            let message = format!("expected \"1s\" to \"1d\", not \"{}\"", config.tolerance);
            return Err(BuildError { key: "tolerance", message });
        }
        let remember = remember.as_duration();
        if remember < 2 * tolerance {
            let message = format!(
                "expected at least twice the tolerance, which is \"{}\": a delivery could be sent \
                 again after it is forgotten",
                config.tolerance
            );
            return Err(BuildError { key: "remember", message });
        }
        if !(1..=1 << 24).contains(&deliveries) {
            let message = format!("expected 1 to {}, not {deliveries}", 1 << 24);
            return Err(BuildError { key: "deliveries", message });
        }
        let hash_key = context.key.derive_16("webhook deliveries");
        // What has been taken stays taken while secrets are replaced.
        let known = context.memory.clone().and_then(|memory| memory.downcast::<Deliveries>().ok());
        let known = known.filter(|known| known.is_for(remember, deliveries));
        let deliveries =
            known.unwrap_or_else(|| Arc::new(Deliveries::new(&hash_key, remember, deliveries)));
        Ok(Self { keys, layout, tolerance, deliveries })
    }
}

const HUB_SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

impl Protection for Signature {
    fn is_inert(&self) -> bool {
        self.keys.is_empty()
    }

    fn memory(&self) -> Option<Memory> {
        Some(Arc::<Deliveries>::clone(&self.deliveries))
    }

    fn reads_body(&self, request: &Request<'_>) -> bool {
        !self.is_inert() && !request.target.is_own()
    }

    fn check(&self, request: &Request<'_>, effects: &mut Effects) -> Outcome {
        if self.is_inert() || request.target.is_own() {
            return Outcome::NotApplicable;
        }
        let body = match request.content.body() {
            Ok(body) => body,
            Err(denial) => return Outcome::Deny(denial),
        };
        let raw = body.map_or(&[][..], |body| body.raw());
        let signed = self.claim(request.headers).and_then(|claim| {
            self.in_time(&claim, request.unix_s)?;
            let tag = self.verify(&claim, raw)?;
            Ok((claim, tag))
        });
        let (claim, tag) = match signed {
            Ok(signed) => signed,
            Err(denial) => return Outcome::Deny(denial),
        };
        let token = self.deliveries.hash(&self.identity(&claim, &tag, body));
        match self.deliveries.begin(token, request.now) {
            Standing::New => {
                effects.token = Some(token);
                Outcome::Allow
            }
            Standing::UnderWay => Outcome::Deny(
                Denial::new(Code::DeliveryUnderWay, "this delivery is being processed right now")
                    .retry_after(Duration::from_secs(1)),
            ),
            Standing::Taken => Outcome::Answer(taken()),
        }
    }

    fn settled(&self, token: u64, served: bool) {
        self.deliveries.end(token, served);
    }
}

/// The answer to a delivery that the service has had already.
fn taken() -> Answer {
    Answer {
        status: StatusCode::OK,
        headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        body: Bytes::from_static(b"{\"status\":\"duplicate\"}\n"),
    }
}

impl Signature {
    /// Reads what the request says of its signature.
    fn claim<'a>(&'a self, headers: &'a HeaderMap) -> Result<Claim<'a>, Denial> {
        match &self.layout {
            Layout::Standard => {
                let id = one(headers, "webhook-id")?;
                let timed_by = "webhook-timestamp";
                let timestamp = one(headers, timed_by)?;
                let field = "webhook-signature";
                let signatures = standard_signatures(one(headers, field)?);
                let prefix = vec![id, timestamp];
                Ok(Claim { field, prefix, timestamp: Some(timestamp), timed_by, signatures })
            }
            Layout::Stripe => {
                let field = "stripe-signature";
                let (mut timestamp, mut signatures) = (None, Vec::new());
                for item in one(headers, field)?.split(|byte| *byte == b',') {
                    let item = item.trim_ascii();
                    if let Some(text) = item.strip_prefix(b"t=") {
                        if timestamp.replace(text).is_some() {
                            return Err(invalid(field, "it has two timestamps"));
                        }
                    } else if let Some(hex) = item.strip_prefix(b"v1=")
                        && signatures.len() < SIGNATURES_MAX
                    {
                        signatures.extend(unhex(hex));
                    }
                }
                let Some(timestamp) = timestamp else {
                    return Err(invalid(field, "it has no timestamp (t=)"));
                };
                let (prefix, timestamp) = (vec![timestamp], Some(timestamp));
                Ok(Claim { field, prefix, timestamp, timed_by: field, signatures })
            }
            Layout::Plain { signature, timestamp } => {
                let field = signature.as_str();
                let timed_by = timestamp.as_ref().map_or(field, HeaderName::as_str);
                let timestamp = match timestamp {
                    Some(_) => Some(one(headers, timed_by)?),
                    None => None,
                };
                let text = one(headers, field)?;
                let signatures =
                    text.strip_prefix(b"sha256=").and_then(unhex).into_iter().collect();
                let prefix = timestamp.into_iter().collect();
                Ok(Claim { field, prefix, timestamp, timed_by, signatures })
            }
        }
    }

    fn in_time(&self, claim: &Claim<'_>, now_unix_s: u64) -> Result<(), Denial> {
        let Some(text) = claim.timestamp else { return Ok(()) };
        let Some(timestamp) = unix_seconds(text) else {
            return Err(invalid(claim.timed_by, "its timestamp is not Unix time in seconds"));
        };
        let off = timestamp.abs_diff(now_unix_s);
        if off > self.tolerance.as_secs() {
            let when = if timestamp < now_unix_s { "ago" } else { "from now" };
            let tolerance = self.tolerance.as_secs();
            // Of what is no time of a clock that goes wrong, the seconds say nothing.
            let off = if off > DAY_S { "more than a day".to_owned() } else { format!("{off} s") };
            let detail = format!("it was signed {off} {when}; {tolerance} s are accepted");
            let mut denial =
                Denial::new(Code::SignatureExpired, detail.clone()).challenge(CHALLENGE);
            denial.errors = vec![FieldError::new(format!("header:{}", claim.timed_by), detail)];
            return Err(denial);
        }
        Ok(())
    }

    /// Returns the signature that is right.
    fn verify(&self, claim: &Claim<'_>, body: &[u8]) -> Result<Vec<u8>, Denial> {
        if claim.signatures.is_empty() {
            return Err(invalid(claim.field, "no signature in it can be read"));
        }
        let parts = claim.prefix.iter().flat_map(|part| [*part, b"."]).chain([body]);
        let signed: Vec<u8> = parts.flatten().copied().collect();
        for signature in &claim.signatures {
            if self.keys.iter().any(|key| hmac::verify(key, &signed, signature).is_ok()) {
                return Ok(signature.clone());
            }
        }
        Err(invalid(claim.field, "it is not that of this body with any of the secrets"))
    }

    /// What tells this delivery from others.
    fn identity(&self, claim: &Claim<'_>, tag: &[u8], body: Option<&Body>) -> Vec<u8> {
        match &self.layout {
            Layout::Standard => claim.prefix[0].to_vec(),
            Layout::Stripe => {
                let json = body.and_then(|body| body.json().ok());
                let id = json.and_then(|event| event.get("id")).and_then(|id| id.as_str());
                id.map_or_else(|| tag.to_vec(), |id| id.as_bytes().to_vec())
            }
            Layout::Plain { .. } => tag.to_vec(),
        }
    }
}

/// The value of a field that has to be there once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a [u8], Denial> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes()),
        (None, _) => {
            let detail = format!("the header field {name} is missing");
            let mut denial = Denial::new(Code::SignatureMissing, detail).challenge(CHALLENGE);
            denial.errors = vec![FieldError::new(format!("header:{name}"), "it is missing")];
            Err(denial)
        }
        _ => Err(invalid(name, "it is there twice")),
    }
}

fn invalid(field: &str, fault: &str) -> Denial {
    let mut denial = Denial::new(
        Code::SignatureInvalid,
        format!("the header field {field} is not right: {fault}"),
    )
    .challenge(CHALLENGE);
    denial.errors = vec![FieldError::new(format!("header:{field}"), fault)];
    denial
}

/// The deliveries of late.
struct Deliveries {
    hasher: SipHasher24,
    remember: Duration,
    most: usize,
    // A lock is right here: it is held for two look-ups in a table, and webhooks come by the
    // second, not by the microsecond.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Whether the service has taken it.
    known: HashMap<u64, bool>,
    /// In the order in which they came; some may be forgotten already.
    order: VecDeque<(Moment, u64)>,
}

/// How a delivery stands.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    New,
    UnderWay,
    Taken,
}

impl Deliveries {
    fn new(key: &[u8; 16], remember: Duration, most: usize) -> Self {
        let hasher = SipHasher24::new_with_key(key);
        Self { hasher, remember, most, table: Mutex::default() }
    }

    fn is_for(&self, remember: Duration, most: usize) -> bool {
        (self.remember, self.most) == (remember, most)
    }

    fn hash(&self, identity: &[u8]) -> u64 {
        let mut hasher = self.hasher;
        hasher.write(identity);
        hasher.finish()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the delivery `token` has come, unless it is known.
    fn begin(&self, token: u64, now: Moment) -> Standing {
        let table = &mut *self.table();
        while let Some((came, oldest)) = table.order.front() {
            if now.since(*came) <= self.remember && table.order.len() < self.most {
                break;
            }
            table.known.remove(oldest);
            table.order.pop_front();
        }
        match table.known.get(&token) {
            Some(true) => Standing::Taken,
            Some(false) => Standing::UnderWay,
            None => {
                table.known.insert(token, false);
                table.order.push_back((now, token));
                Standing::New
            }
        }
    }

    /// Notes how the delivery `token` ended.
    fn end(&self, token: u64, served: bool) {
        let table = &mut *self.table();
        if served {
            if let Some(taken) = table.known.get_mut(&token) {
                *taken = true;
            }
        } else if table.known.remove(&token) == Some(false)
            && let Some(at) = table.order.iter().rposition(|(_, known)| *known == token)
        {
            table.order.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::protections::testing::{Fields, Sample, try_build_with};
    use crate::registry::Protect;
    use crate::signed::hex;
    use crate::source::Sources;

    const OLD: &str = "an old secret with thirty-two bytes";
    const NEW: &str = "a newer secret with thirty-two bytes";
    const BODY: &[u8] = b"{\"id\":\"evt_1\",\"type\":\"paid\"}";
    const NOW: u64 = 1_800_000_000;

    fn rule(lines: &str) -> Result<Arc<dyn Protection>, String> {
        let section = format!("[signature]\nsecrets = [\"env:OLD\", \"env:NEW\"]\n{lines}");
        let protect: Protect = toml::from_str(&section).map_err(|error| error.to_string())?;
        let mut sources = Sources::default();
        for (name, secret) in [("OLD", OLD), ("NEW", NEW), ("SHORT", "short")] {
            sources.insert(Source::Env(name.to_owned()), Ok(format!("{secret}\n").into_bytes()));
        }
        try_build_with(&ENTRY, &protect, &sources)
    }

    fn mac(secret: &str, parts: &[&[u8]]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::sign(&key, &parts.join(&b'.')).as_ref().to_vec()
    }

    fn github(secret: &str) -> String {
        format!("sha256={}", hex(&mac(secret, &[BODY])))
    }

    fn stripe(secret: &str, timestamp: u64) -> String {
        let at = timestamp.to_string();
        format!("t={at},v1={}", hex(&mac(secret, &[at.as_bytes(), BODY])))
    }

    fn standard(secret: &str, id: &str, timestamp: u64) -> [(String, String); 3] {
        let at = timestamp.to_string();
        let tag = STANDARD.encode(mac(secret, &[id.as_bytes(), at.as_bytes(), BODY]));
        [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", at),
            ("webhook-signature", format!("v1,{tag}")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }

    fn verdict(rule: &dyn Protection, fields: &[(&str, &str)], body: &[u8]) -> String {
        Sample::new("POST", "/hook", fields).with_body(body).verdict(rule)
    }

    #[test]
    fn each_format_is_verified() {
        let (old, new) = (github(OLD), github(NEW));
        let wrong = github("another secret with thirty-two bytes");
        let upper = old.to_uppercase().replace("SHA256", "sha256");
        let short = old.get(..40).unwrap();
        let cases: &[(&str, Fields<'_>, &str)] = &[
            ("unsigned", &[], "signature-missing"),
            ("the old secret", &[("x-hub-signature-256", &old)], "allow"),
            ("the new secret", &[("x-hub-signature-256", &new)], "allow"),
            ("another secret", &[("x-hub-signature-256", &wrong)], "signature-invalid"),
            ("upper case", &[("x-hub-signature-256", &upper)], "allow"),
            ("cut short", &[("x-hub-signature-256", short)], "signature-invalid"),
            ("no hex", &[("x-hub-signature-256", "sha256=zz")], "signature-invalid"),
            (
                "no algorithm",
                &[("x-hub-signature-256", old.get(7..).unwrap())],
                "signature-invalid",
            ),
            ("SHA-1", &[("x-hub-signature", &old)], "signature-missing"),
            (
                "twice",
                &[("x-hub-signature-256", &old), ("x-hub-signature-256", &old)],
                "signature-invalid",
            ),
        ];
        for (name, fields, want) in cases {
            let rule = rule("format = \"github\"").unwrap();
            assert_eq!(verdict(&*rule, fields, BODY), *want, "{name}");
            if *want == "allow" {
                assert_eq!(
                    verdict(&*rule, fields, b"{}"),
                    "signature-invalid",
                    "{name}: another body"
                );
            }
        }
    }

    #[test]
    fn a_timestamp_is_signed_and_has_to_be_near() {
        let stripe_rule = rule("format = \"stripe\"").unwrap();
        let untimed = format!("v1={}", hex(&mac(OLD, &[BODY])));
        let two = format!("t=1,{}", stripe(OLD, NOW));
        let moved =
            stripe(OLD, NOW - 301).replace(&format!("t={}", NOW - 301), &format!("t={NOW}"));
        for (name, value, want) in [
            ("now", stripe(OLD, NOW), "allow"),
            ("the limit", stripe(NEW, NOW - 300), "200"),
            ("too old", stripe(OLD, NOW - 301), "signature-expired"),
            ("too new", stripe(OLD, NOW + 301), "signature-expired"),
            ("moved", moved, "signature-invalid"),
            ("none", untimed, "signature-invalid"),
            ("two", two, "signature-invalid"),
            ("nonsense", "t=yesterday,v1=00".to_owned(), "signature-invalid"),
            ("endless", format!("t={},v1=00", "9".repeat(30)), "signature-invalid"),
        ] {
            let sample = Sample::new("POST", "/", &[("stripe-signature", &value)]).with_body(BODY);
            let (said, effects) = sample.check(&*stripe_rule);
            assert_eq!(said, want, "{name}");
            if let Some(token) = effects.token {
                stripe_rule.settled(token, true);
            }
        }
    }

    #[test]
    fn a_fault_of_the_timestamp_names_its_field() {
        let standard_rule = rule("format = \"standard\"").unwrap();
        let timed = |at: &str| -> (String, String) {
            let [id, _, signature] = standard(OLD, "msg_1", NOW);
            let fields = [
                (id.0.as_str(), id.1.as_str()),
                ("webhook-timestamp", at),
                (signature.0.as_str(), signature.1.as_str()),
            ];
            let sample = Sample::new("POST", "/", &fields).with_body(BODY);
            let denial = sample.denial(&*standard_rule);
            (denial.errors[0].at.clone(), denial.errors[0].detail.clone())
        };
        for (at, want) in [
            ("soon", "its timestamp is not Unix time in seconds".to_owned()),
            ("12", "it was signed more than a day ago; 300 s are accepted".to_owned()),
            (
                &(NOW + 301).to_string(),
                "it was signed 301 s from now; 300 s are accepted".to_owned(),
            ),
        ] {
            assert_eq!(timed(at), ("header:webhook-timestamp".to_owned(), want), "{at}");
        }
    }

    #[test]
    fn a_delivery_is_taken_once_and_a_refused_one_may_come_again() {
        let rule = rule("").unwrap();
        let send = |id: &str, timestamp: u64| {
            let fields = standard(OLD, id, timestamp);
            let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
            let (said, effects) = Sample::new("POST", "/", &fields).with_body(BODY).check(&*rule);
            (said, effects.token)
        };
        let (said, token) = send("msg_1", NOW);
        assert_eq!(said, "allow");
        assert_eq!(send("msg_1", NOW + 1).0, "delivery-under-way");
        rule.settled(token.unwrap(), false);
        let (said, token) = send("msg_1", NOW + 2);
        assert_eq!(said, "allow", "the service did not take it");
        rule.settled(token.unwrap(), true);
        assert_eq!(send("msg_1", NOW + 3), ("200".to_owned(), None));
        assert_eq!(send("msg_2", NOW).0, "allow");
    }

    #[test]
    fn what_is_remembered_has_a_bound_in_time_and_number() {
        let deliveries = Deliveries::new(&[1; 16], Duration::from_secs(60), 3);
        let at = |s: u64| Moment::START.after(Duration::from_secs(s));
        for token in 0..3 {
            assert_eq!(deliveries.begin(token, at(token)), Standing::New);
            deliveries.end(token, true);
        }
        assert_eq!(deliveries.begin(2, at(3)), Standing::Taken);
        assert_eq!(deliveries.begin(3, at(3)), Standing::New, "the oldest made room");
        assert_eq!(deliveries.begin(0, at(4)), Standing::New, "it was the oldest");
        assert_eq!(deliveries.begin(2, at(100)), Standing::New, "it was long ago");
        let table = deliveries.table();
        assert!(table.order.len() <= 3);
        assert_eq!(table.order.len(), table.known.len());
    }

    #[test]
    fn a_plain_signature_can_cover_a_timestamp() {
        let rule =
            rule("format = \"plain\"\nheader = \"x-sig\"\ntimestamp_header = \"x-at\"").unwrap();
        let at = NOW.to_string();
        let signed = format!("sha256={}", hex(&mac(OLD, &[at.as_bytes(), BODY])));
        let bare = format!("sha256={}", hex(&mac(OLD, &[BODY])));
        assert_eq!(verdict(&*rule, &[("x-at", &at), ("x-sig", &signed)], BODY), "allow");
        assert_eq!(verdict(&*rule, &[("x-at", &at), ("x-sig", &bare)], BODY), "signature-invalid");
        assert_eq!(verdict(&*rule, &[("x-sig", &signed)], BODY), "signature-missing");
    }

    #[test]
    fn settings_that_would_not_protect_are_refused() {
        for (lines, words) in [
            ("secrets = [\"env:SHORT\"]", "env:SHORT has 5 bytes; a secret needs at least 32"),
            ("secrets = [\"env:NONE\"]", "env:NONE was not read"),
            ("secrets = [\"hunter2\"]", "expected \"env:<NAME>\" or \"file:<path>\""),
            ("secrets = [\"https://a.example/b\"]", "expected \"env:<NAME>\" or \"file:<path>\""),
            ("remember = \"9m\"", "expected at least twice the tolerance"),
            ("tolerance = \"0s\"", "expected \"1s\" to \"1d\""),
            ("header = \"a b\"", "expected the name of a header field"),
            ("deliveries = 0", "expected 1 to"),
        ] {
            let section = format!("[signature]\n{lines}");
            let said = match toml::from_str::<Protect>(&section) {
                Err(error) => error.to_string(),
                Ok(protect) => {
                    let mut sources = Sources::default();
                    sources.insert(Source::Env("SHORT".to_owned()), Ok(b"short".to_vec()));
                    try_build_with(&ENTRY, &protect, &sources).err().unwrap()
                }
            };
            assert!(said.contains(words), "{lines}: {said}");
        }
    }

    #[test]
    fn without_secrets_nothing_is_judged() {
        let protect = Protect::default();
        let rule = try_build_with(&ENTRY, &protect, &Sources::default()).unwrap();
        let sample = Sample::new("POST", "/", &[]);
        assert!(!rule.reads_body(&sample.request()));
        assert_eq!(sample.verdict(&*rule), "n/a");
    }
}
