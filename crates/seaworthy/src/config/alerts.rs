//! `[alerts]`: who may send alerts that take a rule back to `warn`.

use seaworthy_policy::alert::{AlertsConfig, Intake};
use seaworthy_policy::source::Sources;

use super::check::Checks;

/// Its own judge is what is built of it.
pub(crate) fn check(config: &AlertsConfig, sources: &Sources, checks: &mut Checks<'_>) {
    if let Err(error) = Intake::build(config, sources) {
        checks.fault(&checks.section.keys(error.key), error.message);
    }
}
