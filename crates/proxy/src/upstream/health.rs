//! Active health checks: a GET on a path of the service, every few seconds, for each upstream.
//!
//! They run beside the data plane, never in it. A status below 400 is healthy; anything else,
//! no answer in time or no connection is not. The state changes only after so many results in
//! a row, so that one slow answer is not an outage.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::MissedTickBehavior;

use super::connect::{self, Socket};
use super::{Upstream, Upstreams};

/// How the checks are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChecks {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Failed results in a row that make an upstream unhealthy.
    pub unhealthy_after: u32,
    /// Good results in a row that make it healthy again.
    pub healthy_after: u32,
}

/// Checks all of `upstreams` until the future is dropped.
pub async fn run(upstreams: Arc<Upstreams>, checks: HealthChecks) {
    let mut tasks = tokio::task::JoinSet::new();
    for upstream in &upstreams.list {
        tasks.spawn(watch(Arc::clone(upstream), checks.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

async fn watch(upstream: Arc<Upstream>, checks: HealthChecks) {
    let mut ticks = tokio::time::interval(checks.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut against = 0;
    loop {
        ticks.tick().await;
        let result = check(&upstream, &checks).await;
        let healthy = upstream.is_healthy();
        if result.is_ok() == healthy {
            against = 0;
            continue;
        }
        against += 1;
        let needed = if healthy { checks.unhealthy_after } else { checks.healthy_after };
        if against < needed {
            continue;
        }
        against = 0;
        upstream.healthy.store(!healthy, Relaxed);
        match result {
            Ok(()) => tracing::info!(upstream = %upstream.name, "healthy again"),
            Err(why) => tracing::warn!(upstream = %upstream.name, %why, "unhealthy"),
        }
    }
}

async fn check(upstream: &Upstream, checks: &HealthChecks) -> Result<(), String> {
    tokio::time::timeout(checks.timeout, ask(upstream, checks))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {:?}", checks.timeout)))
}

async fn ask(upstream: &Upstream, checks: &HealthChecks) -> Result<(), String> {
    let socket =
        connect::open(upstream, checks.timeout).await.map_err(|error| error.to_string())?;
    let status = match socket {
        Socket::Plain(tcp) => get(TokioIo::new(tcp), upstream, &checks.path).await,
        Socket::Tls(stream) => get(TokioIo::new(stream), upstream, &checks.path).await,
    };
    match status {
        Ok(status) if status.as_u16() < 400 => Ok(()),
        Ok(status) => Err(format!("status {status}")),
        Err(error) => Err(error.to_string()),
    }
}

async fn get<T>(io: T, upstream: &Upstream, path: &str) -> Result<http::StatusCode, hyper::Error>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(io).await?;
    let drive = tokio::spawn(connection);
    let mut request = http::Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path.parse().unwrap_or_else(|_| http::Uri::from_static("/"));
    request.headers_mut().insert(HOST, upstream.authority.clone());
    let response = sender.send_request(request).await;
    drive.abort();
    response.map(|response| response.status())
}
