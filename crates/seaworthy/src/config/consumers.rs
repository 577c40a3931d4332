//! `[consumers]`: which clients are the operator's own, and which are not.

use seaworthy_policy::consumer::{ConsumersConfig, ITEMS_MAX};

use super::check::Checks;

/// Its lists are walked for each request, so they are short.
pub(crate) fn check(config: &ConsumersConfig, checks: &mut Checks<'_>) {
    for (kind, rules) in [("internal", &config.internal), ("external", &config.external)] {
        for (key, items) in [("networks", rules.networks.len()), ("agents", rules.agents.len())] {
            checks.require(
                items <= ITEMS_MAX,
                &format!("{kind}.{key}"),
                format!("expected at most {ITEMS_MAX}, not {items}"),
            );
        }
    }
}
