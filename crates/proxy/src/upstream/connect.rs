//! Opens a connection to an upstream: TCP, TLS where it is asked for, the HTTP handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Upstream, UpstreamProtocol};
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
    Http1(http1::SendRequest<B>),
    Http2(http2::SendRequest<B>),
}

/// A socket to an upstream, with what ALPN settled on.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
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
    Ok(Socket::Tls(Box::new(stream)))
}

/// Opens a connection and starts driving it on this thread.
pub(crate) async fn connect<B>(
    upstream: &Upstream,
    timeout: Duration,
) -> Result<Sender<B>, ConnectError>
where
    B: Body<Data = bytes::Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match open(upstream, timeout).await? {
        Socket::Plain(tcp) => {
            let http2 = upstream.protocol == UpstreamProtocol::Http2;
            handshake(TokioIo::new(tcp), http2, upstream).await
        }
        Socket::Tls(stream) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            if upstream.protocol == UpstreamProtocol::Http2 && !http2 {
                return Err(ConnectError::NoHttp2);
            }
            handshake(TokioIo::new(stream), http2, upstream).await
        }
    }
}

async fn handshake<T, B>(io: T, http2: bool, upstream: &Upstream) -> Result<Sender<B>, ConnectError>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: Body<Data = bytes::Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let name = Arc::clone(&upstream.name);
    if http2 {
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            // A dead peer is noticed in 30 s, also while nothing is sent.
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake(io)
            .await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(upstream = %name, %error, "connection ended");
            }
        });
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = http1::Builder::new().handshake(io).await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(upstream = %name, %error, "connection ended");
        }
    });
    Ok(Sender::Http1(sender))
}
