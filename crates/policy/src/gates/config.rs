//! `[gates]` of the config.

use serde::{Deserialize, Serialize};

use super::{Percentage, alarm, calibration, clients, coverage, errors, harm_rate, latency, soak};

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatesConfig {
    /// The chance that a rule which harms as much as the gates allow, or more, is ever promoted
    /// at a step. Default: 1%, over all attempts at it.
    pub alpha: Percentage,
    pub harm_rate: harm_rate::Config,
    pub clients: clients::Config,
    pub coverage: coverage::Config,
    pub latency: latency::Config,
    pub errors: errors::Config,
    pub soak: soak::Config,
    pub calibration: calibration::Config,
    pub alarm: alarm::Config,
}

impl Default for GatesConfig {
    fn default() -> Self {
        Self {
            alpha: Percentage::thousandths(10),
            harm_rate: harm_rate::Config::default(),
            clients: clients::Config::default(),
            coverage: coverage::Config::default(),
            latency: latency::Config::default(),
            errors: errors::Config::default(),
            soak: soak::Config::default(),
            calibration: calibration::Config::default(),
            alarm: alarm::Config::default(),
        }
    }
}

/// A setting that is well-formed and makes no sense. Fits after "`<key>`: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, not {found}")]
pub struct GatesFault {
    /// Below `[gates]`: `harm_rate.p0`.
    pub key: &'static str,
    pub expected: &'static str,
    pub found: String,
}

impl GatesConfig {
    /// All faults of the settings, in the order of their keys; none where they can be used.
    pub fn faults(&self) -> Vec<GatesFault> {
        let mut faults = Vec::new();
        let mut check = |key, is_right: bool, expected, found: &dyn std::fmt::Display| {
            if !is_right {
                faults.push(GatesFault { key, expected, found: found.to_string() });
            }
        };
        let within =
            |value: Percentage, low: u32, high: u32| (low..=high).contains(&value.millionths());
        check("alpha", within(self.alpha, 1, 200_000), "more than 0% and at most 20%", &self.alpha);
        for (key, p0) in [
            ("harm_rate.p0", self.harm_rate.p0),
            ("clients.p0", self.clients.p0),
            ("latency.p0", self.latency.p0),
        ] {
            check(key, within(p0, 1, 500_000), "more than 0% and at most 50%", &p0);
        }
        let requests = self.clients.requests_min;
        check("clients.requests_min", requests > 0, "at least 1", &requests);
        let share = self.coverage.share;
        check("coverage.share", within(share, 1, 1_000_000), "more than 0%", &share);
        for (key, margin) in [
            ("errors.margin", self.errors.margin),
            ("calibration.margin", self.calibration.margin),
            ("alarm.denials_rise_min", self.alarm.denials_rise_min),
            ("alarm.errors_margin", self.alarm.errors_margin),
        ] {
            check(key, within(margin, 1, 500_000), "more than 0% and at most 50%", &margin);
        }
        let budget = self.latency.budget;
        check("latency.budget", !budget.as_duration().is_zero(), "more than 0s", &budget);
        let stale = self.soak.stale_after_minutes;
        check("soak.stale_after_minutes", stale >= 2, "at least 2", &stale);
        for (key, factor) in [
            ("calibration.factor", self.calibration.factor),
            ("alarm.denials_factor", self.alarm.denials_factor),
        ] {
            check(key, (1.0..=1000.0).contains(&factor), "at least 1 and at most 1000", &factor);
        }
        let known = self.alarm.known_requests_min;
        check("alarm.known_requests_min", known > 0, "at least 1", &known);
        // It is asked once a minute at least, which is more than a thousand times a day.
        let every = self.alarm.false_alarm_every;
        let is_long = every.as_duration().as_secs() >= 86_400;
        check("alarm.false_alarm_every", is_long, "at least 1d", &every);
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used_and_are_what_is_documented() {
        let config = GatesConfig::default();
        assert_eq!(config.faults(), []);
        assert_eq!(toml::from_str::<GatesConfig>("").unwrap(), config);
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<GatesConfig>(&written).unwrap(), config);
        let docs = include_str!("../../../../docs/gates.md");
        let written = format!("[gates]\n{}", written.replace("\n[", "\n[gates."));
        assert!(docs.contains(&written), "docs/gates.md shows other defaults than:\n{written}");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, keys) in [
            ("alpha = \"0%\"", &["alpha"][..]),
            ("alpha = \"21%\"", &["alpha"]),
            ("harm_rate.p0 = \"0%\"\nlatency.p0 = \"51%\"", &["harm_rate.p0", "latency.p0"]),
            ("clients.requests_min = 0", &["clients.requests_min"]),
            ("coverage.share = \"0%\"", &["coverage.share"]),
            ("errors.margin = \"0%\"", &["errors.margin"]),
            ("latency.budget = \"0ms\"", &["latency.budget"]),
            ("soak.stale_after_minutes = 1", &["soak.stale_after_minutes"]),
            ("calibration.factor = 0.5", &["calibration.factor"]),
            ("calibration.factor = nan", &["calibration.factor"]),
            ("alarm.denials_factor = inf", &["alarm.denials_factor"]),
            ("alarm.false_alarm_every = \"10s\"", &["alarm.false_alarm_every"]),
        ] {
            let config: GatesConfig = toml::from_str(text).expect(text);
            let found: Vec<_> = config.faults().iter().map(|fault| fault.key).collect();
            assert_eq!(found, keys, "{text}");
        }
        assert!(toml::from_str::<GatesConfig>("p0 = \"1%\"").is_err(), "an unknown key");
    }
}
