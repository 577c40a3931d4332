//! Active health checks: a GET on a path of the service, every few seconds, for each upstream.
//!
//! They run beside the data plane, never in it. A status below 400 is healthy; anything else,
//! no answer in time or no connection is not. The state changes only after so many results in
//! a row, so that one slow answer is not an outage.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::header::HOST;
use http::uri::PathAndQuery;
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::MissedTickBehavior;

use super::connect::{self, Socket};
use super::{Upstream, UpstreamProtocol, Upstreams};

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
        Socket::Plain(tcp) => {
            let http2 = upstream.protocol == UpstreamProtocol::Http2;
            get(TokioIo::new(tcp), http2, upstream, &checks.path).await
        }
        Socket::Tls(stream) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            get(TokioIo::new(stream), http2, upstream, &checks.path).await
        }
    };
    match status {
        Ok(status) if status.as_u16() < 400 => Ok(()),
        Ok(status) => Err(format!("status {status}")),
        Err(error) => Err(error.to_string()),
    }
}

async fn get<T>(
    io: T,
    http2: bool,
    upstream: &Upstream,
    path: &str,
) -> Result<http::StatusCode, hyper::Error>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let path = path.parse().unwrap_or_else(|_| PathAndQuery::from_static("/"));
    let mut request = http::Request::new(Empty::<Bytes>::new());
    if http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        let scheme = if upstream.spec.https { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(upstream.authority.as_bytes());
        *request.uri_mut() = uri.path_and_query(path).build().unwrap_or_default();
        let drive = tokio::spawn(connection);
        let response = sender.send_request(request).await;
        drive.abort();
        return response.map(|response| response.status());
    }
    let (mut sender, connection) = http1::handshake(io).await?;
    *request.uri_mut() = Uri::from(path);
    request.headers_mut().insert(HOST, upstream.authority.clone());
    let drive = tokio::spawn(connection);
    let response = sender.send_request(request).await;
    drive.abort();
    response.map(|response| response.status())
}
