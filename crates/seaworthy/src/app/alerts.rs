//! Alerts from outside: who may send them, as the config says it, and where they go.

use std::sync::Arc;

use seaworthy_console::{AlertSink, NotKept, Taking};
use seaworthy_policy::alert::{Demotion, Intake};

use crate::config::Config;

/// Who may send alerts; `None` where the config names nobody.
pub(super) fn intake(config: &Config) -> anyhow::Result<Option<Arc<Intake>>> {
    let intake = Intake::build(&config.alerts, &config.sources)
        .map_err(|error| anyhow::anyhow!("alerts.{}: {}", error.key, error.message))?;
    Ok(intake.map(Arc::new))
}

/// Keeps nothing, and says so: there is no ledger to keep it in yet.
pub(super) struct NoLedger;

impl AlertSink for NoLedger {
    fn take(&self, _: Vec<Demotion>) -> Taking<'_> {
        let why = "this gateway has no ledger to keep it in".to_owned();
        Box::pin(std::future::ready(Err(NotKept(why))))
    }
}
