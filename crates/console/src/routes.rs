//! What the console answers, by path.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use http::{Method, StatusCode};
use prometheus_client::registry::Registry;
use seaworthy_store::telemetry::PageLimit;
use tokio::sync::watch;

use self::events::Events;
use crate::console::ConsoleInputs;
use crate::control::Control;
use crate::evidence::Evidence;
use crate::guard::guard;
use crate::live::LiveView;
use crate::page::overview::Shown;
use crate::problem::Problem;
use crate::readiness::Readiness;
use crate::receipts::Receipts;

mod api;
mod assets;
mod events;
pub(crate) mod hooks;
mod pages;
mod probes;
mod receipts;
mod rules;

/// Rows of the first page's list.
const OBJECTIONS_MAX: u16 = 12;

/// What the handlers read. A cheap handle.
#[derive(Clone)]
struct Sources {
    live: watch::Receiver<Arc<LiveView>>,
    evidence: Evidence,
    registry: Arc<Registry>,
    ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    control: Arc<dyn Control>,
    receipts: Receipts,
}

impl Sources {
    fn live(&self) -> Arc<LiveView> {
        Arc::clone(&self.live.borrow())
    }

    /// Gathers what the first page shows with `live`, and hands it to `draw`.
    async fn overview(&self, live: &LiveView, draw: fn(&Shown<'_>) -> String) -> String {
        let limit = PageLimit::new(OBJECTIONS_MAX).unwrap_or_default();
        let objections = self.evidence.objections(limit).await;
        let (readiness, store) = ((self.ready)(), self.evidence.health());
        draw(&Shown {
            live,
            standings: &self.control.standings(),
            readiness: &readiness,
            store: store.as_ref(),
            objections: &objections,
        })
    }
}

/// All routes behind the guard. `stop` ends with the console.
pub(crate) fn router(inputs: ConsoleInputs, stop: watch::Receiver<()>) -> Router {
    let ConsoleInputs { live, telemetry, registry, ready, alerts, control, ledger } = inputs;
    let (evidence, receipts) = (Evidence::new(telemetry), Receipts::new(ledger));
    let sources = Sources { live, evidence, registry, ready, control, receipts };
    let events = Events::start(sources.clone(), stop);
    Router::new()
        .route("/", get(pages::overview))
        .route("/rules", get(pages::rules))
        .route("/requests", get(pages::requests))
        .route("/consumers", get(pages::consumers))
        .route("/api/v1/overview", get(api::overview))
        .route("/api/v1/protections", get(api::protections))
        .route("/api/v1/requests", get(api::requests))
        .route("/api/v1/consumers", get(api::consumers))
        .route("/api/v1/rules", get(rules::list).post(rules::ask))
        .route("/api/v1/receipts", get(receipts::list))
        .route("/api/v1/receipts/{seq}", get(receipts::one))
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .with_state(sources)
        .route("/events", get(events::overview).with_state(events.clone()))
        .route("/events/rules", get(events::rules).with_state(events))
        .route(hooks::ALERTS, post(hooks::alerts).with_state(hooks::Hooks::new(alerts)))
        .merge(assets::router())
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(axum::middleware::from_fn(guard))
}

async fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "nothing is here; the console's first page is at /")
}

async fn not_allowed(method: Method) -> Problem {
    let detail = format!(
        "{method} is not offered here: pages and figures have GET and HEAD, and hooks have POST"
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
