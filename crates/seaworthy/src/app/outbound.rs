//! One request to a URL that an operator has named: the look-up, TLS, the request, the bounded
//! answer. The data plane has connections of its own.
//!
//! A redirect is an answer like any other: who is asked is for the operator to name.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;

/// Why there is no answer. Fits after "failed to ask <url>: ".
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the URL has no host")]
    NoHost,
    #[error("{0}")]
    Tls(#[from] tls::TlsError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("its body was not taken (at most {bytes_max} bytes): {error}")]
    Body { bytes_max: usize, error: Box<dyn std::error::Error + Send + Sync> },
}

/// What `https` is asked with: HTTP/1.1, and the system's roots unless there are others. It reads
/// files.
pub(super) async fn tls_client(ca: Option<PathBuf>) -> Result<Arc<ClientConfig>, AskError> {
    // Not on a thread that others wait for.
    let config = tokio::task::spawn_blocking(move || tls::client(ca.as_deref(), &[b"http/1.1"]));
    Ok(config.await.map_err(io::Error::other)??)
}

pub(super) fn is_secure(url: &Uri) -> bool {
    url.scheme_str() == Some("https")
}

/// Sends `request` to `url`, whose path, query and host it takes, and reads the answer whole. `tls`
/// is for a URL of `https`; without it, the system's roots are read.
pub(super) async fn ask(
    url: &Uri,
    request: Request<Full<Bytes>>,
    tls: Option<Arc<ClientConfig>>,
    bytes_max: usize,
) -> Result<Response<Bytes>, AskError> {
    let host = url.host().ok_or(AskError::NoHost)?;
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_u16().unwrap_or(if is_secure(url) { 443 } else { 80 });
    let tcp = TcpStream::connect((&*name, port)).await?;
    if !is_secure(url) {
        return send(tcp, url, request, bytes_max).await;
    }
    let config = match tls {
        Some(config) => config,
        None => tls_client(None).await?,
    };
    let name = ServerName::try_from(name).map_err(|_| AskError::NoHost)?;
    send(TlsConnector::from(config).connect(name, tcp).await?, url, request, bytes_max).await
}

async fn send<S>(
    stream: S,
    url: &Uri,
    mut request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<Response<Bytes>, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    let driven = tokio::spawn(connection);
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = Uri::try_from(target).map_err(io::Error::other)?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let host = HeaderValue::try_from(authority).map_err(io::Error::other)?;
    let agent = HeaderValue::from_static(concat!("seaworthy/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(USER_AGENT, agent);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, bytes_max).collect().await;
    let body = body.map_err(|error| AskError::Body { bytes_max, error })?.to_bytes();
    driven.abort();
    Ok(Response::from_parts(head, body))
}
