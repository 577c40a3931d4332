//! The payload of a delivery: Alertmanager's webhook of version 4, and Grafana's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ring::digest;
use serde::Deserialize;
use serde_json::error::Category;

use super::cut;
use super::{
    Alert, AlertId, AlertSource, AlertStatus, Demotion, Pairs, Proof, Target, TargetError,
};

/// Bytes of a body. An alert has about one kilobyte.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Alerts of one delivery.
const ALERTS_MAX: usize = 1000;

/// Bytes of a fingerprint; both senders write 16 hex digits.
const FINGERPRINT_BYTES_MAX: usize = 128;

/// Bytes of a group key that are kept. All of it is in the alert's id.
const GROUP_KEY_BYTES_MAX: usize = 512;

/// Labels, and annotations, that are kept of an alert, and bytes of each.
const PAIRS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 512;

/// A payload, read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub source: AlertSource,
    /// Each with what it is about, or why it is about nothing.
    pub alerts: Vec<(Alert, Result<Target, TargetError>)>,
    /// Alerts that the sender has left off (its `max_alerts`).
    pub left_off: u64,
}

/// Why a body is no delivery. Fits after "the body was not taken: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("it is not JSON: {0}")]
    NotJson(String),
    #[error("it is not the payload of Alertmanager (version 4) or of Grafana (version 1): {0}")]
    Shape(String),
    #[error(
        "its version is {0:?}; Alertmanager's webhook of version \"4\" is known, and Grafana's of \
         version \"1\""
    )]
    Version(String),
    #[error("it has {count} alerts; {ALERTS_MAX} are taken at once")]
    TooMany { count: usize },
    #[error("alerts[{index}]: {fault}")]
    Alert { index: usize, fault: AlertFault },
}

/// What is wrong with one alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlertFault {
    #[error("startsAt is not a time as RFC 3339 writes it")]
    StartsAt,
    #[error("fingerprint is not 1 to {FINGERPRINT_BYTES_MAX} printable characters of ASCII")]
    Fingerprint,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDelivery {
    version: String,
    group_key: String,
    #[serde(default)]
    truncated_alerts: u64,
    alerts: Vec<RawAlert>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAlert {
    status: AlertStatus,
    // Go writes `null` for a map that was never made.
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    starts_at: String,
    fingerprint: String,
}

impl Delivery {
    /// Reads `body`; `label` names the rule that an alert is about.
    pub fn parse(body: &[u8], label: &str) -> Result<Self, PayloadError> {
        let raw: RawDelivery =
            serde_json::from_slice(body).map_err(|error| match error.classify() {
                Category::Data => PayloadError::Shape(cut(&error.to_string(), 200)),
                Category::Syntax | Category::Eof | Category::Io => {
                    PayloadError::NotJson(cut(&error.to_string(), 200))
                }
            })?;
        let source = match raw.version.as_str() {
            "4" => AlertSource::Alertmanager,
            "1" => AlertSource::Grafana,
            _ => return Err(PayloadError::Version(cut(&raw.version, 32))),
        };
        let count = raw.alerts.len();
        if count > ALERTS_MAX {
            return Err(PayloadError::TooMany { count });
        }
        let mut alerts = Vec::with_capacity(count);
        for (index, alert) in raw.alerts.into_iter().enumerate() {
            let target = Target::of(alert.labels.as_ref().unwrap_or(&BTreeMap::new()), label);
            let alert = read(alert, source, &raw.group_key)
                .map_err(|fault| PayloadError::Alert { index, fault })?;
            alerts.push((alert, target));
        }
        Ok(Self { source, alerts, left_off: raw.truncated_alerts })
    }

    /// What the alerts ask for: each one that fires, by its position, with its demotion or the
    /// reason why it has none.
    pub fn firing(
        self,
        proof: &Proof,
    ) -> impl Iterator<Item = (usize, Result<Demotion, TargetError>)> {
        let alerts = self.alerts.into_iter().enumerate();
        let firing = alerts.filter(|(_, (alert, _))| alert.status == AlertStatus::Firing);
        firing.map(|(index, (alert, target))| {
            (index, target.map(|target| Demotion::new(target, alert, proof.clone())))
        })
    }
}

fn read(raw: RawAlert, source: AlertSource, group_key: &str) -> Result<Alert, AlertFault> {
    let RawAlert { status, labels, annotations, starts_at, fingerprint } = raw;
    let starts_at: Timestamp = starts_at.parse().map_err(|_| AlertFault::StartsAt)?;
    let is_plain = (1..=FINGERPRINT_BYTES_MAX).contains(&fingerprint.len())
        && fingerprint.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain {
        return Err(AlertFault::Fingerprint);
    }
    Ok(Alert {
        id: identify(group_key, &fingerprint, starts_at, status),
        source,
        group_key: cut(group_key, GROUP_KEY_BYTES_MAX),
        fingerprint,
        status,
        starts_at,
        labels: bound(labels),
        annotations: bound(annotations),
    })
}

fn identify(
    group_key: &str,
    fingerprint: &str,
    starts_at: Timestamp,
    status: AlertStatus,
) -> AlertId {
    let mut context = digest::Context::new(&digest::SHA256);
    // The instant counts, not how it is written: one sender of a pair may write another zone.
    let starts_at = starts_at.as_nanosecond().to_be_bytes();
    let status: &[u8] = match status {
        AlertStatus::Firing => b"firing",
        AlertStatus::Resolved => b"resolved",
    };
    for part in [group_key.as_bytes(), fingerprint.as_bytes(), &starts_at, status] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    AlertId(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn bound(pairs: Option<BTreeMap<String, String>>) -> Pairs {
    let pairs = pairs.unwrap_or_default();
    let left_off = pairs.len().saturating_sub(PAIRS_MAX);
    // What people read first is never what is left off.
    let first = ["alertname", "description", "message", "summary"];
    let (named, others): (Vec<_>, Vec<_>) =
        pairs.into_iter().partition(|(name, _)| first.contains(&name.as_str()));
    let mut kept: Vec<(String, String)> = named
        .into_iter()
        .chain(others)
        .take(PAIRS_MAX)
        .map(|(name, value)| (cut(&name, NAME_BYTES_MAX), cut(&value, VALUE_BYTES_MAX)))
        .collect();
    kept.sort_unstable();
    Pairs { kept, left_off }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::ProofKind;
    use super::*;

    const LABEL: &str = "seaworthy_rule";

    /// As Alertmanager 0.25 sends it.
    fn alertmanager() -> Value {
        json!({
            "receiver": "seaworthy", "status": "firing",
            "alerts": [{
                "status": "firing",
                "labels": { "alertname": "ErrorsHigh", "seaworthy_rule": "csrf", "severity": "page" },
                "annotations": { "summary": "5 % of requests fail\nfor ten minutes\u{1b}[2J" },
                "startsAt": "2026-03-01T12:00:00.123Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus.example/graph", "fingerprint": "af1cf8ae1b5a4c3d",
            }],
            "groupLabels": { "alertname": "ErrorsHigh" }, "commonLabels": {},
            "commonAnnotations": {}, "externalURL": "http://alertmanager.example",
            "version": "4", "groupKey": "{}:{alertname=\"ErrorsHigh\"}", "truncatedAlerts": 0,
        })
    }

    /// As Grafana 12 sends it.
    fn grafana() -> Value {
        json!({
            "receiver": "seaworthy", "status": "firing", "orgId": 1,
            "alerts": [{
                "status": "firing",
                "labels": { "alertname": "ErrorsHigh", "seaworthy_protection": "rate_limit" },
                "annotations": {}, "startsAt": "2026-03-01T13:00:00.123+01:00",
                "endsAt": "0001-01-01T00:00:00Z", "values": { "B": 44.2, "C": 1 },
                "valueString": "[ var='B' ]", "fingerprint": "af1cf8ae1b5a4c3d",
                "generatorURL": "", "silenceURL": "", "dashboardURL": "", "panelURL": "",
            }],
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "",
            "version": "1", "groupKey": "{}:{}", "truncatedAlerts": 0, "title": "[FIRING:1]",
            "state": "alerting", "message": "**Firing**",
        })
    }

    fn parse(payload: &Value) -> Result<Delivery, PayloadError> {
        Delivery::parse(payload.to_string().as_bytes(), LABEL)
    }

    fn proof() -> Proof {
        Proof { kind: ProofKind::Grafana, number: 0 }
    }

    #[test]
    fn both_senders_are_understood() {
        let delivery = parse(&alertmanager()).unwrap();
        assert_eq!((delivery.source, delivery.left_off), (AlertSource::Alertmanager, 0));
        let (alert, target) = &delivery.alerts[0];
        assert_eq!(alert.status, AlertStatus::Firing);
        assert_eq!(alert.labels.get("severity"), Some("page"));
        assert_eq!(target.as_ref().unwrap().to_string(), "csrf");
        let (_, demotion) = delivery.clone().firing(&proof()).next().unwrap();
        assert_eq!(
            demotion.unwrap().sentence,
            "Alertmanager says that ErrorsHigh fires since 2026-03-01T12:00:00.123Z: 5 % of \
             requests fail for ten minutes [2J"
        );

        let delivery = parse(&grafana()).unwrap();
        let (alert, target) = &delivery.alerts[0];
        assert_eq!(alert.source, AlertSource::Grafana);
        assert_eq!(target.as_ref().unwrap().to_string(), "every rule of rate_limit");
    }

    #[test]
    fn an_alert_is_called_by_its_name_on_one_bounded_line() {
        let long = "é".repeat(1000);
        for (name, want) in [
            (json!("ErrorsHigh"), "alert:ErrorsHigh".to_owned()),
            (json!("errors  high\n\u{1b}[2J"), "alert:errors high [2J".to_owned()),
            (json!("operator:ada"), "alert:operator:ada".to_owned()),
            (json!(long), format!("alert:{}…", "é".repeat(62))),
            (json!(""), "alert:af1cf8ae1b5a4c3d".to_owned()),
            (json!(" \n"), "alert:af1cf8ae1b5a4c3d".to_owned()),
            (Value::Null, "alert:af1cf8ae1b5a4c3d".to_owned()),
        ] {
            let mut payload = alertmanager();
            let labels = payload["alerts"][0]["labels"].as_object_mut().unwrap();
            match name {
                Value::Null => drop(labels.remove("alertname")),
                name => drop(labels.insert("alertname".to_owned(), name)),
            }
            let (_, demotion) = parse(&payload).unwrap().firing(&proof()).next().unwrap();
            assert_eq!(demotion.unwrap().actor(), want);
        }
    }

    #[test]
    fn what_is_no_payload_is_refused_and_told_why() {
        let edit = |at: &str, value: Value| {
            let mut payload = alertmanager();
            *payload.pointer_mut(at).unwrap() = value;
            payload.to_string()
        };
        let whole = alertmanager().to_string();
        let half = whole.get(..whole.len() / 2).unwrap();
        let two = whole.replacen('{', "{\"version\":\"3\",", 1);
        for (body, want) in [
            ("", "it is not JSON: EOF"),
            ("alerts=1", "it is not JSON: "),
            (half, "it is not JSON: EOF"),
            (&format!("{whole}x"), "it is not JSON: trailing characters"),
            ("[]", "it is not the payload of "),
            ("{}", "it is not the payload of Alertmanager (version 4) or of Grafana (version 1): "),
            (
                &two,
                "it is not the payload of Alertmanager (version 4) or of Grafana (version 1): dup",
            ),
            (&edit("/version", json!("3")), "its version is \"3\""),
            (&edit("/version", json!("4".repeat(99))), "its version is \"4444"),
            (&edit("/version", json!(4)), "it is not the payload"),
            (&edit("/truncatedAlerts", json!(-1)), "it is not the payload"),
            (&edit("/alerts/0/status", json!("pending")), "it is not the payload"),
            (&edit("/alerts/0/labels/severity", json!(1)), "it is not the payload"),
            (&edit("/alerts/0/startsAt", json!("today")), "alerts[0]: startsAt is not a time"),
            (&edit("/alerts/0/startsAt", json!("2026-03-01")), "alerts[0]: startsAt"),
            (&edit("/alerts/0/fingerprint", json!("")), "alerts[0]: fingerprint is not"),
            (&edit("/alerts/0/fingerprint", json!("a b")), "alerts[0]: fingerprint is not"),
            (
                &edit("/alerts/0/fingerprint", json!("a".repeat(129))),
                "alerts[0]: fingerprint is not",
            ),
            (
                &edit("/alerts", json!(vec![alertmanager()["alerts"][0].clone(); 1001])),
                "it has 1001 alerts; 1000 are taken at once",
            ),
            (&"[".repeat(100_000), "it is not"),
        ] {
            let error = Delivery::parse(body.as_bytes(), LABEL).unwrap_err().to_string();
            assert!(error.starts_with(want) && error.len() < 400, "{want}: {error}");
        }
        let torn = Delivery::parse(b"{\"version\":\"\xff\"}", LABEL).unwrap_err();
        assert!(matches!(torn, PayloadError::NotJson(_)), "{torn}");
    }

    #[test]
    fn four_things_tell_alerts_apart_and_nothing_else_does() {
        let id = |payload: &Value| parse(payload).unwrap().alerts[0].0.id;
        let edit = |at: &str, value: &str| {
            let mut payload = alertmanager();
            *payload.pointer_mut(at).unwrap() = json!(value);
            id(&payload)
        };
        let own = id(&alertmanager());
        for (at, value) in [
            ("/groupKey", "{}:{alertname=\"ErrorsLow\"}"),
            ("/groupKey", &"x".repeat(GROUP_KEY_BYTES_MAX + 10)),
            ("/alerts/0/fingerprint", "af1cf8ae1b5a4c3e"),
            ("/alerts/0/startsAt", "2026-03-01T12:00:00.124Z"),
            ("/alerts/0/status", "resolved"),
        ] {
            assert_ne!(edit(at, value), own, "{at}");
        }
        // A group key that is cut for people is whole in the id.
        let long = "x".repeat(GROUP_KEY_BYTES_MAX);
        assert_ne!(edit("/groupKey", &format!("{long}a")), edit("/groupKey", &format!("{long}b")));
        for (at, value) in [
            ("/receiver", "other"),
            ("/alerts/0/annotations/summary", "now 6 %"),
            ("/alerts/0/endsAt", "2026-03-02T00:00:00Z"),
            ("/alerts/0/startsAt", "2026-03-01T13:00:00.123+01:00"),
        ] {
            assert_eq!(edit(at, value), own, "{at}");
        }
    }

    #[test]
    fn what_is_said_beside_it_is_bounded_and_never_a_reason_to_refuse() {
        let mut payload = alertmanager();
        let alert = &mut payload["alerts"][0];
        alert["annotations"] = json!({ "summary": "é".repeat(10_000) });
        for n in 0..100 {
            alert["labels"][format!("a{n}")] = json!("x");
        }
        alert["labels"]["n".repeat(5000)] = json!("y");
        let delivery = parse(&payload).unwrap();
        let (alert, target) = &delivery.alerts[0];
        assert_eq!(target.as_ref().unwrap().to_string(), "csrf", "it is found before the cut");
        assert_eq!((alert.labels.kept.len(), alert.labels.left_off), (PAIRS_MAX, 104 - PAIRS_MAX));
        assert_eq!(alert.labels.get("alertname"), Some("ErrorsHigh"));
        assert!(alert.annotations.get("summary").unwrap().ends_with("é…"));
        let pairs = alert.labels.kept.iter().chain(&alert.annotations.kept);
        assert!(pairs.clone().all(|(name, _)| name.len() <= NAME_BYTES_MAX));
        assert!(pairs.clone().all(|(_, value)| value.len() <= VALUE_BYTES_MAX));
        let (_, demotion) = delivery.firing(&proof()).next().unwrap();
        assert!(demotion.unwrap().sentence.len() <= 400);
    }

    #[test]
    fn maps_that_were_never_made_are_empty() {
        let mut payload = alertmanager();
        payload["alerts"][0]["labels"] = Value::Null;
        payload["alerts"][0].as_object_mut().unwrap().remove("annotations");
        let delivery = parse(&payload).unwrap();
        assert_eq!(delivery.alerts[0].0.annotations, Pairs::default());
        assert_eq!(delivery.alerts[0].1, Err(TargetError::NoLabel(LABEL.into())));
    }

    #[test]
    fn resolved_asks_for_nothing() {
        let mut payload = alertmanager();
        payload["alerts"][0]["status"] = json!("resolved");
        let mut firing = alertmanager()["alerts"][0].clone();
        firing["labels"]["seaworthy_rule"] = json!("csfr");
        payload["alerts"].as_array_mut().unwrap().push(firing);
        let asked: Vec<_> = parse(&payload).unwrap().firing(&proof()).collect();
        assert_eq!(asked.len(), 1);
        assert!(matches!(asked[0], (1, Err(TargetError::NoRule { .. }))), "{asked:?}");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Delivery::parse(&body, LABEL));
        }

        #[test]
        fn a_payload_that_is_cut_is_refused(share in 0.0..1.0) {
            let whole = alertmanager().to_string().into_bytes();
            let end = (whole.len() as f64 * share) as usize;
            let error = Delivery::parse(&whole[..end], LABEL).unwrap_err();
            prop_assert!(matches!(error, PayloadError::NotJson(_)), "{}", error);
        }
    }
}
