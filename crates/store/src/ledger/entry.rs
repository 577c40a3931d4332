//! What is audited, and its one form as bytes.
//!
//! 1. A leaf is an RFC 8785 object of `v`, `log`, `seq`, `ts_us`, `actor`, `tenant`, `action`,
//!    `target`, `request_id`, `before`, `after` and `reason`; what an entry has not is `null`.
//! 2. Each field has a bound, and an entry beyond one is refused with its name, never cut.
//! 3. A number of `before` or `after` that RFC 8785 cannot write as it is, an integer beyond
//!    2^53 - 1, is refused: it would be rounded.
//! 4. What is costly, the canonical form of the two values, is made when the entry is, by whoever
//!    makes it; the writer only puts the parts together.

use std::fmt;

use serde_json::Value;

use super::note::LogId;

/// The version of the leaf's form.
pub const LEAF_VERSION: u32 = 1;

/// Bytes that the text fields may have.
pub const ACTOR_BYTES_MAX: usize = 256;
pub const TENANT_BYTES_MAX: usize = 256;
pub const TARGET_BYTES_MAX: usize = 512;
pub const REQUEST_ID_BYTES_MAX: usize = 64;
pub const REASON_BYTES_MAX: usize = 4096;

/// Bytes of the canonical form of `before`, and of `after`.
pub const VALUE_BYTES_MAX: usize = 256 << 10;

/// How deep the two may be.
pub const VALUE_DEPTH_MAX: usize = 32;

/// A larger integer is not exact in RFC 8785.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// What was done. The text of each is in leaves and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    GatewayStart,
    GatewayStop,
    ConfigReload,
    ModePromote,
    ModeDemote,
    ModeSet,
    RolloutHold,
    RolloutWaive,
    RolloutUnwaive,
    KeyChange,
    AlertDemote,
    AdminCall,
}

impl Action {
    pub const ALL: [Self; 12] = [
        Self::GatewayStart,
        Self::GatewayStop,
        Self::ConfigReload,
        Self::ModePromote,
        Self::ModeDemote,
        Self::ModeSet,
        Self::RolloutHold,
        Self::RolloutWaive,
        Self::RolloutUnwaive,
        Self::KeyChange,
        Self::AlertDemote,
        Self::AdminCall,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatewayStart => "gateway.start",
            Self::GatewayStop => "gateway.stop",
            Self::ConfigReload => "config.reload",
            Self::ModePromote => "mode.promote",
            Self::ModeDemote => "mode.demote",
            Self::ModeSet => "mode.set",
            Self::RolloutHold => "rollout.hold",
            Self::RolloutWaive => "rollout.waive",
            Self::RolloutUnwaive => "rollout.unwaive",
            Self::KeyChange => "key.change",
            Self::AlertDemote => "alert.demote",
            Self::AdminCall => "admin.call",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that happened. When it happened is said by the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who did it: `gateway`, `operator:<name>`, `alert:<its alertname>`.
    pub actor: String,
    /// Whose data it was about.
    pub tenant: Option<String>,
    pub action: Action,
    /// What it was done to: a rule, a file, a key.
    pub target: String,
    /// The request that asked for it, where one did.
    pub request_id: Option<String>,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// In the words of whoever did it.
    pub reason: Option<String>,
}

/// Fits after "failed to audit: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("{field} is empty")]
    Empty { field: &'static str },
    #[error("{field} has {bytes} bytes, and {bytes_max} are the most")]
    TooLong { field: &'static str, bytes: usize, bytes_max: usize },
    #[error("{field} is nested more than {VALUE_DEPTH_MAX} levels deep")]
    TooDeep { field: &'static str },
    #[error(
        "{field} has the integer {number}, which JSON readers round; write those beyond \
         {INTEGER_MAX} as text"
    )]
    Inexact { field: &'static str, number: String },
}

impl Entry {
    /// An entry with the fields that every one has.
    pub fn new(actor: impl Into<String>, action: Action, target: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
            tenant: None,
            action,
            target: target.into(),
            request_id: None,
            before: None,
            after: None,
            reason: None,
        }
    }
}

/// An entry within its bounds, its parts in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    /// Up to the value of `log`.
    head: String,
    /// From `,"reason":` to the value of `seq`.
    middle: String,
    /// From `,"target":` to the value of `ts_us`.
    tail: String,
}

impl Prepared {
    pub(super) fn new(entry: &Entry) -> Result<Self, EntryError> {
        let Entry { actor, tenant, action, target, request_id, before, after, reason } = entry;
        let actor = required("actor", actor, ACTOR_BYTES_MAX)?;
        let after = value("after", after.as_ref())?;
        let before = value("before", before.as_ref())?;
        let reason = optional("reason", reason.as_deref(), REASON_BYTES_MAX)?;
        let request_id = optional("request_id", request_id.as_deref(), REQUEST_ID_BYTES_MAX)?;
        let target = required("target", target, TARGET_BYTES_MAX)?;
        let tenant = optional("tenant", tenant.as_deref(), TENANT_BYTES_MAX)?;
        // RFC 8785 sorts the members by name.
        Ok(Self {
            head: format!(
                r#"{{"action":"{action}","actor":{actor},"after":{after},"before":{before},"log":"#
            ),
            middle: format!(r#","reason":{reason},"request_id":{request_id},"seq":"#),
            tail: format!(r#","target":{target},"tenant":{tenant},"ts_us":"#),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.head.len() + self.middle.len() + self.tail.len()
    }

    /// The leaf in its place in the log.
    pub(super) fn leaf(&self, log: &LogId, seq: u64, ts_us: i64) -> String {
        let Self { head, middle, tail } = self;
        let log = log.as_str();
        format!("{head}\"{log}\"{middle}{seq}{tail}{ts_us},\"v\":{LEAF_VERSION}}}")
    }
}

fn required(field: &'static str, text: &str, bytes_max: usize) -> Result<String, EntryError> {
    if text.is_empty() {
        return Err(EntryError::Empty { field });
    }
    optional(field, Some(text), bytes_max)
}

fn optional(
    field: &'static str,
    text: Option<&str>,
    bytes_max: usize,
) -> Result<String, EntryError> {
    let bytes = text.map_or(0, str::len);
    if bytes > bytes_max {
        return Err(EntryError::TooLong { field, bytes, bytes_max });
    }
    Ok(canonical(&text))
}

fn value(field: &'static str, value: Option<&Value>) -> Result<String, EntryError> {
    if let Some(value) = value {
        check(field, value, VALUE_DEPTH_MAX)?;
    }
    let text = canonical(&value);
    if text.len() > VALUE_BYTES_MAX {
        let (bytes, bytes_max) = (text.len(), VALUE_BYTES_MAX);
        return Err(EntryError::TooLong { field, bytes, bytes_max });
    }
    Ok(text)
}

fn check(field: &'static str, value: &Value, depth: usize) -> Result<(), EntryError> {
    let below = || depth.checked_sub(1).ok_or(EntryError::TooDeep { field });
    match value {
        Value::Number(number) => {
            let integer = number.as_u64().or(number.as_i64().map(i64::unsigned_abs));
            if integer.is_some_and(|integer| integer > INTEGER_MAX) {
                return Err(EntryError::Inexact { field, number: number.to_string() });
            }
            Ok(())
        }
        Value::Array(items) => {
            let depth = below()?;
            items.iter().try_for_each(|item| check(field, item, depth))
        }
        Value::Object(members) => {
            let depth = below()?;
            members.values().try_for_each(|member| check(field, member, depth))
        }
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

fn canonical(value: &impl serde::Serialize) -> String {
    serde_json_canonicalizer::to_string(value).expect("plain JSON always has a canonical form")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn log() -> LogId {
        LogId::new([0xab; 16])
    }

    fn full() -> Entry {
        Entry {
            tenant: Some("acme".to_owned()),
            request_id: Some("0192".to_owned()),
            before: Some(json!({ "mode": "warn", "at": 1.50 })),
            after: Some(json!({ "mode": "enforce", "basis_points": 1000, "at": 1e21 })),
            reason: Some("says \"go\"\n€\u{1f600}\u{1}".to_owned()),
            ..Entry::new("operator:kim", Action::ModeSet, "rate_limit@POST /a")
        }
    }

    #[test]
    fn a_leaf_is_these_bytes() {
        let leaf = Prepared::new(&full()).unwrap().leaf(&log(), 7, 1_785_585_600_000_000);
        let expected = r#"{"action":"mode.set","actor":"operator:kim","after":{"at":1e+21,"basis_points":1000,"mode":"enforce"},"before":{"at":1.5,"mode":"warn"},"log":"abababababababababababababababab","reason":"says \"go\"\n€😀\u0001","request_id":"0192","seq":7,"target":"rate_limit@POST /a","tenant":"acme","ts_us":1785585600000000,"v":1}"#;
        assert_eq!(leaf, expected);
        let bare = Entry::new("gateway", Action::GatewayStop, "gateway");
        let leaf = Prepared::new(&bare).unwrap().leaf(&log(), 0, 5);
        let expected = r#"{"action":"gateway.stop","actor":"gateway","after":null,"before":null,"log":"abababababababababababababababab","reason":null,"request_id":null,"seq":0,"target":"gateway","tenant":null,"ts_us":5,"v":1}"#;
        assert_eq!(leaf, expected);
    }

    #[test]
    fn canonical_is_what_rfc_8785_shows() {
        // Section 3.2.2 and 3.2.3, the example and the order of names by UTF-16 units.
        let shown = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let value: Value = serde_json::from_str(shown).unwrap();
        let expected = concat!(
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
            r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        assert_eq!(canonical(&value), expected);

        let names = ["\u{20ac}", "\r", "\u{fb33}", "1", "\u{1f600}", "\u{80}", "\u{f6}"];
        let object: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
        let text = canonical(&object);
        let order = ["\\r", "1", "\u{80}", "\u{f6}", "\u{20ac}", "\u{1f600}", "\u{fb33}"];
        let places: Vec<Option<usize>> =
            order.iter().map(|name| text.find(&format!("\"{name}\":"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}: {places:?}");

        // Appendix B: the bits of a number and its text.
        for (bits, text) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(canonical(&json!(f64::from_bits(bits))), text, "{bits:016x}");
        }
    }

    #[test]
    fn what_is_beyond_a_bound_is_refused_by_name() {
        let deep = (0..40).fold(json!(1), |below, _| json!([below]));
        let long = |bytes: usize| "x".repeat(bytes);
        let cases: [(&str, Entry); 12] = [
            ("actor is empty", Entry { actor: String::new(), ..full() }),
            ("target is empty", Entry { target: String::new(), ..full() }),
            ("actor has 257 bytes, and 256", Entry { actor: long(257), ..full() }),
            ("tenant has 257 bytes", Entry { tenant: Some(long(257)), ..full() }),
            ("target has 513 bytes", Entry { target: long(513), ..full() }),
            ("request_id has 65 bytes", Entry { request_id: Some(long(65)), ..full() }),
            ("reason has 4097 bytes", Entry { reason: Some(long(4097)), ..full() }),
            ("after has 262145 bytes", Entry { after: Some(json!(long(262_143))), ..full() }),
            ("before is nested", Entry { before: Some(deep), ..full() }),
            ("before has the integer 9007199254740992", {
                Entry { before: Some(json!([1_u64 << 53])), ..full() }
            }),
            ("after has the integer -9223372036854775808", {
                Entry { after: Some(json!({ "a": i64::MIN })), ..full() }
            }),
            ("after has the integer 18446744073709551615", {
                Entry { after: Some(json!(u64::MAX)), ..full() }
            }),
        ];
        for (words, entry) in cases {
            let error = Prepared::new(&entry).unwrap_err().to_string();
            assert!(error.starts_with(words), "{words}: {error}");
        }
        let most = Entry {
            actor: long(256),
            reason: Some(long(4096)),
            after: Some(json!(long(262_142))),
            before: Some(json!([(1_i64 << 53) - 1, 1 - (1_i64 << 53)])),
            ..full()
        };
        assert!(Prepared::new(&most).is_ok());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-(1_i64 << 53) + 1..1 << 53).prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no others", |x| x.is_finite()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |below| {
            prop_oneof![
                prop::collection::vec(below.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), below, 0..4)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        /// The parts put together are what the library makes of the whole.
        #[test]
        fn a_leaf_is_canonical_whole(
            actor in ".{1,20}", target in ".{1,20}", reason in any::<Option<String>>(),
            after in any_value(), before in any_value(), seq in 0_u64..1 << 53,
        ) {
            prop_assume!(reason.as_ref().is_none_or(|reason| reason.len() <= REASON_BYTES_MAX));
            let (after, before) = (Some(after), Some(before));
            let entry = Entry {
                reason, after, before, ..Entry::new(actor, Action::AdminCall, target)
            };
            let Entry { actor, tenant, action, target, request_id, before, after, reason } = &entry;
            let whole = json!({
                "v": 1, "log": log().as_str(), "seq": seq, "ts_us": 5, "actor": actor,
                "tenant": tenant, "action": action.as_str(), "target": target,
                "request_id": request_id, "before": before, "after": after, "reason": reason,
            });
            let leaf = Prepared::new(&entry).unwrap().leaf(&log(), seq, 5);
            prop_assert_eq!(leaf, canonical(&whole));
        }
    }

    #[test]
    fn actions_have_one_text_each() {
        let texts: std::collections::BTreeSet<&str> =
            Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(texts.len(), Action::ALL.len());
    }
}
