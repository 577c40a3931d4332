//! Server-Sent Events: the page's parts, once a second, to everybody who has it open.
//!
//! One task renders for all subscribers, and only while there are some. Each subscriber is
//! sent the newest rendering when it has taken the last one; a slow one skips, one that takes
//! nothing for [`STALL`] is dropped. No message is queued.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::channel::{Channel, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time;

use super::Sources;
use crate::console::stopped;
use crate::page::overview::parts_json;
use crate::problem::Problem;

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

/// The newest rendering, and the places of the subscribers.
#[derive(Clone)]
pub(super) struct Events {
    newest: watch::Receiver<Bytes>,
    places: Arc<Semaphore>,
}

impl Events {
    /// Starts to render; ends with the console, or with what it shows.
    pub(super) fn start(sources: Sources, mut stop: watch::Receiver<()>) -> Self {
        let (publish, newest) = watch::channel(Bytes::new());
        let places = Arc::new(Semaphore::new(SUBSCRIBERS_MAX));
        let events = Self { newest, places: Arc::clone(&places) };
        tokio::spawn(async move {
            tokio::select! {
                () = stopped(&mut stop) => {}
                () = render(&sources, &publish, &places) => {}
            }
        });
        events
    }
}

async fn render(sources: &Sources, publish: &watch::Sender<Bytes>, places: &Semaphore) {
    let mut live = sources.live.clone();
    while live.changed().await.is_ok() {
        let view = live.borrow_and_update().clone();
        if places.available_permits() == SUBSCRIBERS_MAX {
            continue;
        }
        // JSON has no raw line feeds, so this is one line.
        let parts = sources.overview(&view, parts_json).await;
        let message = format!("data: {parts}\n\n");
        publish.send_replace(message.into());
    }
}

/// `GET /events`.
pub(super) async fn subscribe(State(events): State<Events>) -> Response {
    let Ok(place) = events.places.try_acquire_owned() else {
        let detail = format!("{SUBSCRIBERS_MAX} pages are open already; close one of them");
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    };
    let mut newest = events.newest;
    newest.mark_unchanged();
    let (sender, body) = Channel::new(1);
    tokio::spawn(feed(sender, newest, place));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(body)).into_response()
}

/// Ends when the subscriber is gone or stalls, or when there will be no more news.
async fn feed(
    mut subscriber: Sender<Bytes>,
    mut newest: watch::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
) {
    let mut message = Bytes::from_static(OPENING);
    loop {
        match time::timeout(STALL, subscriber.send_data(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        message = match time::timeout(KEEP_ALIVE, newest.changed()).await {
            Ok(Ok(())) => newest.borrow_and_update().clone(),
            Ok(Err(_)) => return,
            Err(_) => Bytes::from_static(COMMENT),
        };
    }
}
