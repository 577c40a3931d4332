//! Active health checks: a GET on a path of the service, every few seconds, for each upstream.
//!
//! They run beside the data plane, never in it. A status below 400 is healthy; anything else,
//! no answer in time or no connection is not. The state changes only after so many results in
//! a row, so that one slow answer is not an outage.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::MissedTickBehavior;

use super::http1::{Connection, NoAnswer};
use super::{Upstream, Upstreams, connect};
use crate::http1::encode;
use crate::http1::wire::Socket;

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
    let path = checks.path.parse().unwrap_or_else(|_| PathAndQuery::from_static("/"));
    let status = if connect::speaks_http2(upstream, &socket) {
        get_http2(socket, upstream, path).await.map_err(|error| error.to_string())
    } else {
        get_http1(socket, upstream, &path).await.map_err(|error| error.to_string())
    }?;
    if status.as_u16() < 400 { Ok(()) } else { Err(format!("status {status}")) }
}

async fn get_http1(
    socket: Socket,
    upstream: &Upstream,
    path: &PathAndQuery,
) -> Result<StatusCode, NoAnswer> {
    let mut connection = Connection::new(socket);
    connection.ask(&Method::GET, Empty::<Bytes>::new(), |out, _| {
        encode::request_line(out, &Method::GET, path.as_str());
        encode::field(out, "host", upstream.authority.as_bytes());
        encode::field(out, "connection", b"close");
    });
    poll_fn(|cx| connection.poll_answer(cx, HeaderMap::new)).await.map(|head| head.status)
}

async fn get_http2(
    socket: Socket,
    upstream: &Upstream,
    path: PathAndQuery,
) -> Result<StatusCode, hyper::Error> {
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
    let scheme = if upstream.spec.https { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(upstream.authority.as_bytes());
    let mut request = http::Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = uri.path_and_query(path).build().unwrap_or_default();
    let drive = tokio::spawn(connection);
    let response = sender.send_request(request).await;
    drive.abort();
    response.map(|response| response.status())
}
