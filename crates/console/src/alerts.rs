//! What the console needs to take alerts in: who may send them, and who makes them take effect.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use seaworthy_policy::alert::{Demotion, Intake};
use tokio::sync::watch;

/// Makes demotions take effect and remembers them.
///
/// It is told of an alert as often as its sender sends it; [`Alert::id`] says which one it is.
/// The call may be given up while it waits, when the caller's time is up: what was begun is then
/// finished all the same, and the sender comes again.
///
/// [`Alert::id`]: seaworthy_policy::alert::Alert::id
pub trait AlertSink: Send + Sync {
    /// Returns once every demotion is in force and on the disk: one outcome each, in their order.
    /// A demotion whose rule there is not is not remembered: it takes effect when it comes again and
    /// the rule is there.
    fn take(&self, demotions: Vec<Demotion>) -> Taking<'_>;
}

/// What [`AlertSink::take`] returns.
pub type Taking<'a> = Pin<Box<dyn Future<Output = Result<Taken, NotKept>> + Send + 'a>>;

/// The outcomes of demotions, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken(pub Vec<Outcome>);

/// What became of a demotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It took effect now.
    Demoted,
    /// The rule denied nobody as it was; it is held from being promoted.
    Held,
    /// It took effect when the alert came before.
    Known,
    /// There is no such rule in the config in force.
    NoSuchRule,
}

/// Demotions that may be in force, and are not on the disk: the sender is to come again. Fits
/// after "the alert was not kept: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKept(pub String);

/// What the console is given of alerts.
#[derive(Clone)]
pub struct AlertInputs {
    /// Who may send them, replaced by a reload; `None` where the config names nobody.
    pub intake: watch::Receiver<Option<Arc<Intake>>>,
    pub sink: Arc<dyn AlertSink>,
    pub metrics: AlertMetrics,
}

impl AlertInputs {
    /// Nobody may send any.
    pub fn closed() -> Self {
        Self {
            intake: watch::channel(None).1,
            sink: Arc::new(Closed),
            metrics: AlertMetrics::default(),
        }
    }
}

/// Is asked by nobody.
struct Closed;

impl AlertSink for Closed {
    fn take(&self, _: Vec<Demotion>) -> Taking<'_> {
        Box::pin(std::future::ready(Err(NotKept("nothing here keeps alerts".to_owned()))))
    }
}

impl fmt::Debug for AlertInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AlertInputs")
    }
}

/// How deliveries ended. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct AlertMetrics(Family<[(&'static str, &'static str); 1], Counter>);

/// How a delivery can end. A sum over results that were never seen is no number, so each is there
/// from the start.
pub(crate) const RESULTS: [&str; 7] =
    ["taken", "partly", "unproven", "malformed", "too_large", "not_kept", "not_configured"];

impl AlertMetrics {
    pub fn register(&self, registry: &mut Registry) {
        for result in RESULTS {
            drop(self.0.get_or_create(&[("result", result)]));
        }
        registry.register(
            "seaworthy_alert_deliveries",
            "Deliveries of alerts to the console, by how they ended",
            self.0.clone(),
        );
    }

    pub(crate) fn count(&self, result: &'static str) {
        debug_assert!(RESULTS.contains(&result), "{result} is there from the start");
        self.0.get_or_create(&[("result", result)]).inc();
    }
}
