//! `[store]`: where the gateway keeps its data, and how much of it.

use std::path::PathBuf;

use seaworthy_store::telemetry::TelemetryConfig;
use serde::{Deserialize, Serialize};

use super::check::Checks;

/// `[store]` of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// A folder, made where there is none. Below the working directory by default, so that a
    /// first try leaves nothing behind elsewhere.
    pub dir: PathBuf,
    pub telemetry: TelemetryConfig,
}

impl Default for Store {
    fn default() -> Self {
        Self { dir: PathBuf::from("seaworthy-data"), telemetry: TelemetryConfig::default() }
    }
}

impl Store {
    pub(crate) fn check(&self, checks: &mut Checks<'_>) {
        checks.require(!self.dir.as_os_str().is_empty(), "dir", "expected a folder");
        for fault in self.telemetry.faults() {
            checks.require(false, &format!("telemetry.{}", fault.key), fault.message);
        }
    }
}
