//! Fetches what the config names by URL: the public keys of whoever issues the tokens.
//!
//! 1. Each URL is fetched once before a port opens, for a few seconds at most, then every five
//!    minutes and with every reload; after a failure sooner, with growing pauses.
//! 2. What comes is put in force if the config in force is right with it. What is wrong changes
//!    nothing: the last keys stay. The config's files are not read for it.
//! 3. Only 200 counts, within a bound on bytes and on time. A redirect is not followed: who is
//!    trusted to say whose tokens are taken is for the config to name.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use http::header::{ACCEPT, LOCATION};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::time::{Instant, MissedTickBehavior};

use super::metrics::FetchMetrics;
use super::outbound::{self, AskError};
use super::reload::Reloader;
use crate::config::Fetched;

/// A key set has a few kilobytes.
const BYTES_MAX: usize = 1 << 20;

/// How long one fetch may take, from the look-up of the name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the start waits for all of them.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// Issuers show a new key for longer than this before they use it.
const REFRESH_EVERY: Duration = Duration::from_secs(300);

/// The first pause after a failure; each further one doubles it.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// How often the config is asked for its URLs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why nothing was fetched. Fits after "failed to fetch <url>: ".
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("nothing came within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Ask(#[from] AskError),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it redirects to {0}; name that URL, if it is to be trusted")]
    Redirect(String),
}

/// What can be had of `urls` before a port opens.
pub(super) async fn first(urls: Vec<String>) -> Fetched {
    let mut fetches = tokio::task::JoinSet::new();
    for url in urls {
        fetches.spawn(async move {
            let got = within(START_TIMEOUT, get(&url)).await;
            (url, got)
        });
    }
    let mut fetched = Fetched::default();
    while let Some(done) = fetches.join_next().await {
        match done {
            Ok((url, Ok(bytes))) => drop(fetched.insert(url, bytes)),
            Ok((url, Err(error))) => tracing::warn!("failed to fetch {url}: {error}"),
            Err(error) => tracing::error!(%error, "a fetch ended early"),
        }
    }
    fetched
}

/// When a URL is fetched next.
struct Due {
    at: Instant,
    failures: u32,
}

/// Fetches for as long as it runs.
pub(super) async fn run(reloader: Reloader, metrics: FetchMetrics) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut dues: HashMap<String, Due> = HashMap::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // Whoever asks for a reload wants what there is now.
            () = reloader.reloaded() => {
                let now = Instant::now();
                dues.values_mut().for_each(|due| due.at = now);
            }
        }
        let urls = reloader.urls();
        dues.retain(|url, _| urls.contains_key(url));
        for (url, is_there) in urls {
            let now = Instant::now();
            // What the start has fetched is fresh; what it has not is tried again at once.
            let at = if is_there { now + REFRESH_EVERY } else { now };
            let due = dues.entry(url.clone()).or_insert(Due { at, failures: 0 });
            if due.at > now {
                continue;
            }
            let taken = match within(TIMEOUT, get(&url)).await {
                Ok(bytes) => reloader.take(&url, bytes).await,
                Err(error) => Err(format!("failed to fetch {url}: {error}")),
            };
            *due = match taken {
                Ok(()) => Due { at: Instant::now() + REFRESH_EVERY, failures: 0 },
                Err(fault) => {
                    tracing::warn!("{fault}");
                    metrics.failures.inc();
                    let pause = RETRY_FIRST * 2u32.saturating_pow(due.failures.min(16));
                    let at = Instant::now() + pause.min(REFRESH_EVERY);
                    Due { at, failures: due.failures + 1 }
                }
            };
        }
        metrics.failing.set(dues.values().filter(|due| due.failures > 0).count() as i64);
    }
}

async fn within<T>(
    limit: Duration,
    fetch: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    tokio::time::timeout(limit, fetch).await.unwrap_or(Err(FetchError::Timeout(limit)))
}

async fn get(url: &str) -> Result<Vec<u8>, FetchError> {
    let url: Uri = url.parse().map_err(|_| AskError::NoHost)?;
    let request = Request::get("/").header(ACCEPT, "application/json");
    let request = request.body(Full::default()).expect("its parts are valid");
    let response = outbound::ask(&url, request, None, BYTES_MAX).await?;
    if response.status().is_redirection() {
        let to = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        return Err(FetchError::Redirect(to.unwrap_or("nowhere").to_owned()));
    }
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    Ok(response.into_body().to_vec())
}
