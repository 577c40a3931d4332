//! Opens a connection to an upstream: TCP, TLS where it is asked for, the HTTP handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::TlsStream;

use super::http1::Connection;
use super::{Upstream, UpstreamProtocol};
use crate::http1::wire::Socket;
use crate::local::LocalExecutor;

/// Why there is no connection. Fits after "failed to connect to the upstream: ".
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the HTTP handshake did not succeed: {0}")]
    Handshake(#[from] hyper::Error),
    #[error("it does not offer HTTP/2")]
    NoHttp2,
}

/// A connection that requests can be sent on.
pub(crate) enum Sender<B> {
    Http1(Box<Connection<B>>),
    Http2(http2::SendRequest<B>),
}

/// Opens a socket. `timeout` bounds name look-up, TCP and TLS together.
pub(crate) async fn open(upstream: &Upstream, timeout: Duration) -> Result<Socket, ConnectError> {
    tokio::time::timeout(timeout, open_untimed(upstream))
        .await
        .map_err(|_| ConnectError::Timeout(timeout))?
}

async fn open_untimed(upstream: &Upstream) -> Result<Socket, ConnectError> {
    let host = upstream.spec.host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((host, upstream.spec.port)).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = &upstream.tls else { return Ok(Socket::Plain(tcp)) };
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.connect(tls.server_name.clone(), tcp).await?;
    Ok(Socket::Tls(Box::new(TlsStream::Client(stream))))
}

/// Whether HTTP/2 is spoken on `socket`.
pub(crate) fn speaks_http2(upstream: &Upstream, socket: &Socket) -> bool {
    match socket {
        Socket::Plain(_) => upstream.protocol == UpstreamProtocol::Http2,
        Socket::Tls(_) => socket.speaks_http2(),
    }
}

/// Opens a connection; where HTTP/2 is spoken, it is driven on this thread.
pub(crate) async fn connect<B>(
    upstream: &Upstream,
    timeout: Duration,
) -> Result<Sender<B>, ConnectError>
where
    B: Body<Data = bytes::Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let socket = open(upstream, timeout).await?;
    if !speaks_http2(upstream, &socket) {
        if upstream.protocol == UpstreamProtocol::Http2 {
            return Err(ConnectError::NoHttp2);
        }
        return Ok(Sender::Http1(Box::new(Connection::new(socket))));
    }
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        // A dead peer is noticed in 30 s, also while nothing is sent.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .handshake(TokioIo::new(socket))
        .await?;
    let name = Arc::clone(&upstream.name);
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(upstream = %name, %error, "connection ended");
        }
    });
    Ok(Sender::Http2(sender))
}
