//! Server-Sent Events: the page's parts, once a second, to everybody who has it open.
//!
//! The first page asks the store, so one task renders it for all subscribers, and only while there
//! are some. Each subscriber is sent the newest rendering when it has taken the last one; a slow
//! one skips, one that takes nothing for [`STALL`] is dropped. No message is queued.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, Uri, header};
use http_body_util::channel::{Channel, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time;

use super::Sources;
use super::api::now_unix_ms;
use crate::console::stopped;
use crate::control::Control;
use crate::live::LiveView;
use crate::page::{overview, rollout, rollouts};
use crate::problem::Problem;
use crate::query::Query;

/// Pages that may be open at once.
const SUBSCRIBERS_MAX: usize = 32;

/// How long a subscriber may take nothing.
const STALL: Duration = Duration::from_secs(10);

/// How often a line goes out when there is no news, which finds out who is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Sent first: opens the stream, and asks browsers to come back two seconds after a loss.
const OPENING: &[u8] = b"retry: 2000\n\n";

/// A line that browsers ignore.
const COMMENT: &[u8] = b":\n\n";

/// What can be followed, and the places of those who follow.
#[derive(Clone)]
pub(super) struct Events {
    sources: Sources,
    /// The newest parts of the first page.
    overview: Arc<watch::Sender<Bytes>>,
    places: Arc<Semaphore>,
    stop: watch::Receiver<()>,
}

impl Events {
    /// Starts to render the first page; ends with the console, or with what it shows.
    pub(super) fn start(sources: Sources, stop: watch::Receiver<()>) -> Self {
        let overview = Arc::new(watch::Sender::new(Bytes::new()));
        let places = Arc::new(Semaphore::new(SUBSCRIBERS_MAX));
        let events = Self { sources, overview, places, stop };
        tokio::spawn(events.clone().render());
        events
    }

    async fn render(mut self) {
        let mut live = self.sources.live.clone();
        loop {
            tokio::select! {
                () = stopped(&mut self.stop) => return,
                changed = live.changed() => if changed.is_err() { return },
            }
            let view = live.borrow_and_update().clone();
            if self.overview.receiver_count() > 0 {
                let parts = self.sources.overview(&view, overview::render_parts).await;
                self.overview.send_replace(message(&parts));
            }
        }
    }

    /// Sends `news` for as long as it is taken.
    fn follow(self, news: News) -> Response {
        let Ok(place) = self.places.try_acquire_owned() else {
            let detail = format!("{SUBSCRIBERS_MAX} pages are open already; close one of them");
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
        };
        let (sender, body) = Channel::new(1);
        tokio::spawn(feed(sender, news, self.stop, place));
        ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(body)).into_response()
    }
}

/// JSON has no raw line feeds, so this is one line.
fn message(parts: &str) -> Bytes {
    format!("data: {parts}\n\n").into()
}

/// `GET /events`: the first page.
pub(super) async fn overview(State(events): State<Events>) -> Response {
    let news = News::Overview(events.overview.subscribe());
    events.follow(news)
}

/// `GET /events/rules`: all rules, or one by `rule=csrf`.
pub(super) async fn rules(State(events): State<Events>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::of(&uri, &["rule"]);
    let rule: Option<String> = query.read("rule");
    let rule = query.checked(rule).map_err(Problem::bad_query)?;
    let mut live = events.sources.live.clone();
    live.mark_unchanged();
    let control = Arc::clone(&events.sources.control);
    Ok(events.follow(News::Rules { live, control, rule }))
}

/// What one subscriber follows.
enum News {
    Overview(watch::Receiver<Bytes>),
    /// Drawn for each subscriber by itself: it takes no question to a store.
    Rules {
        live: watch::Receiver<Arc<LiveView>>,
        control: Arc<dyn Control>,
        rule: Option<String>,
    },
}

impl News {
    /// The next message; `None` where there will be none.
    async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Overview(newest) => {
                newest.changed().await.ok()?;
                Some(newest.borrow_and_update().clone())
            }
            Self::Rules { live, control, rule } => {
                live.changed().await.ok()?;
                let live = live.borrow_and_update().clone();
                let rules = control.standings();
                Some(message(&match rule {
                    None => rollouts::render_parts(&rollouts::Shown { live: &live, rules: &rules }),
                    Some(name) => {
                        let rule = rules.iter().find(|rule| rule.rule == *name);
                        let now_unix_ms = now_unix_ms();
                        rollout::render_parts(&rollout::Shown { live: &live, rule, now_unix_ms })
                    }
                }))
            }
        }
    }
}

/// Ends when the subscriber is gone or stalls, or when there will be no more news.
async fn feed(
    mut subscriber: Sender<Bytes>,
    mut news: News,
    mut stop: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
) {
    let mut message = Bytes::from_static(OPENING);
    loop {
        match time::timeout(STALL, subscriber.send_data(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        let next = tokio::select! {
            () = stopped(&mut stop) => return,
            next = time::timeout(KEEP_ALIVE, news.next()) => next,
        };
        message = match next {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(_) => Bytes::from_static(COMMENT),
        };
    }
}
