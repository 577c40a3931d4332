//! `seaworthy alert-relay`: signs what Alertmanager posts, and passes it on.
//!
//! 1. Whatever reaches the relay leaves it signed, so it listens on loopback alone, and takes
//!    nothing that a page in a browser could send: no request with an `Origin`, and no body that is
//!    not declared as JSON.
//! 2. A delivery is passed on as it came, byte for byte, with the time and the signature. What is
//!    answered to it is answered to Alertmanager, whose rule for trying again is "any 5xx".
//! 3. Where there is no answer, it is 502, and after [`ANSWER_TIMEOUT`] 504: Alertmanager comes
//!    again. Nothing is kept here in between.
//! 4. On SIGTERM no connection is accepted any more, and deliveries under way have [`GRACE`].

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use seaworthy_policy::alert::{
    ALERTMANAGER_SIGNATURE, ALERTMANAGER_TIMESTAMP, BODY_BYTES_MAX, Signer,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;

use super::outbound::{self, AskError};
use super::serve::{listen_for_stop, runtime};

/// Connections at once; an Alertmanager has one for each group that it is notifying of.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may take over a head, and sit idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the console may take, from the look-up of its name to the end of its answer. A little
/// more than it allows itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

/// Bytes of an answer: a problem that lists what had no effect has a few kilobytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

const GRACE: Duration = Duration::from_secs(10);

/// The pause after a failed accept, which would otherwise fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where it takes alerts, and where it sends them.
#[derive(Debug)]
pub(crate) struct RelayOptions {
    pub(crate) listen: SocketAddr,
    pub(crate) to: Uri,
    pub(crate) signer: Signer,
    /// Replaces the system's roots.
    pub(crate) ca: Option<PathBuf>,
}

/// Why the relay did not start. Fits after "failed to start the relay: ".
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("could not listen on {addr}: {source}; choose another address with --listen")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error("{0}")]
    Tls(#[from] AskError),
    #[error("{0}")]
    Runtime(#[from] anyhow::Error),
}

/// Relays until SIGTERM or SIGINT.
pub(crate) fn run(options: RelayOptions) -> Result<(), RelayError> {
    runtime()?.block_on(async {
        let RelayOptions { listen: addr, to, signer, ca } = options;
        let tls = match outbound::is_secure(&to) {
            true => Some(outbound::tls_client(ca).await?),
            false => None,
        };
        let listening = async {
            let listener = TcpListener::bind(addr).await?;
            Ok((listener.local_addr()?, listener))
        };
        let (listen, listener) =
            listening.await.map_err(|source| RelayError::Listen { addr, source })?;
        // Before it is said that it runs: whoever has read that may end it.
        let asked = listen_for_stop();
        tracing::info!(%listen, to = %to, "relaying alerts");
        serve(listener, Arc::new(Relay { to, signer, tls }), asked).await;
        tracing::info!("the relay has ended");
        Ok(())
    })
}

async fn serve(listener: TcpListener, relay: Arc<Relay>, asked: impl Future<Output = ()>) {
    let (running, stop) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut asked = std::pin::pin!(asked);
    loop {
        tokio::select! {
            () = &mut asked => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&relay), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the relay failed to accept a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop((listener, running));
    let under_way = connections.len();
    tracing::info!(under_way, "ending; what is under way may take {GRACE:?}");
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if time::timeout(GRACE, all_ended).await.is_err() {
        tracing::warn!("deliveries were given up that took too long");
        connections.shutdown().await;
    }
}

/// A panic ends one connection, never the relay.
fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection to the relay panicked");
    }
}

async fn connection(stream: TcpStream, relay: Arc<Relay>, mut stop: watch::Receiver<()>) {
    let service = service_fn(move |request| {
        let relay = Arc::clone(&relay);
        async move { Ok::<_, Infallible>(relay.answer(request).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the relay failed");
    }
}

struct Relay {
    to: Uri,
    signer: Signer,
    tls: Option<Arc<ClientConfig>>,
}

/// What is answered without asking the gateway.
struct Refused(StatusCode, String);

impl Relay {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() == Method::GET && request.uri().path() == "/healthz" {
            return text(StatusCode::OK, "ok\n".to_owned());
        }
        let started = Instant::now();
        match self.pass_on(request).await {
            Ok(response) => {
                let (status, took_ms) = (response.status().as_u16(), started.elapsed().as_millis());
                if response.status().is_success() {
                    tracing::info!(status, took_ms, "passed a delivery on");
                } else {
                    let said = String::from_utf8_lossy(response.body()).into_owned();
                    tracing::warn!(
                        status,
                        took_ms,
                        said,
                        "passed a delivery on, which was not taken"
                    );
                }
                response.map(Full::new)
            }
            Err(Refused(status, why)) => {
                tracing::warn!(status = status.as_u16(), "did not pass a delivery on: {why}");
                text(status, format!("{why}\n"))
            }
        }
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Bytes>, Refused> {
        admit(&request)?;
        let body =
            within(BODY_TIMEOUT, Limited::new(request.into_body(), BODY_BYTES_MAX).collect());
        let body = match body.await {
            Some(Ok(body)) => body.to_bytes(),
            Some(Err(error)) if error.is::<LengthLimitError>() => {
                let why = format!("a delivery has at most {} KiB", BODY_BYTES_MAX >> 10);
                return Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, why));
            }
            Some(Err(error)) => {
                let why = format!("the body did not come whole: {error}");
                return Err(Refused(StatusCode::BAD_REQUEST, why));
            }
            None => {
                let why = format!("the body did not come within {BODY_TIMEOUT:?}");
                return Err(Refused(StatusCode::REQUEST_TIMEOUT, why));
            }
        };
        let now_unix_s = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let (timestamp, signature) = self.signer.sign(now_unix_s, &body);
        let request = Request::post("/")
            .header(CONTENT_TYPE, "application/json")
            .header(ALERTMANAGER_TIMESTAMP, timestamp)
            .header(ALERTMANAGER_SIGNATURE, signature)
            .body(Full::new(body))
            .expect("digits and hex are valid fields");
        let asked = outbound::ask(&self.to, request, self.tls.clone(), ANSWER_BYTES_MAX);
        match within(ANSWER_TIMEOUT, asked).await {
            Some(Ok(answer)) if answer.status().is_redirection() => {
                // Alertmanager would follow it, unsigned.
                let why = format!("{} redirects elsewhere: give --to the URL itself", self.to);
                Err(Refused(StatusCode::BAD_GATEWAY, why))
            }
            Some(Ok(answer)) => {
                let mut response = Response::new(answer.body().clone());
                *response.status_mut() = answer.status();
                if let Some(kind) = answer.headers().get(CONTENT_TYPE) {
                    response.headers_mut().insert(CONTENT_TYPE, kind.clone());
                }
                Ok(response)
            }
            Some(Err(error)) => {
                let why = format!("failed to ask {}: {error}", self.to);
                Err(Refused(StatusCode::BAD_GATEWAY, why))
            }
            None => {
                let why = format!("{} did not answer within {ANSWER_TIMEOUT:?}", self.to);
                Err(Refused(StatusCode::GATEWAY_TIMEOUT, why))
            }
        }
    }
}

/// Whether it can be Alertmanager's. A page in a browser could not be told apart by its address.
fn admit<B>(request: &Request<B>) -> Result<(), Refused> {
    if request.method() != Method::POST {
        let why = "only POST is offered here, and GET of /healthz".to_owned();
        return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, why));
    }
    let has = |name: &str| request.headers().contains_key(name);
    if has(ORIGIN.as_str()) || has("sec-fetch-mode") {
        let why = "it comes from a browser, and alerts do not".to_owned();
        return Err(Refused(StatusCode::FORBIDDEN, why));
    }
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let why = "alerts are application/json".to_owned();
        return Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    Ok(())
}

async fn within<F: Future>(limit: Duration, what: F) -> Option<F::Output> {
    time::timeout(limit, what).await.ok()
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_alertmanagers_is_signed() {
        let json = ("content-type", "application/json");
        for (method, fields, want) in [
            ("POST", &[json][..], None),
            ("POST", &[("content-type", "Application/JSON; charset=utf-8")], None),
            ("POST", &[], Some(415)),
            ("POST", &[("content-type", "text/plain")], Some(415)),
            ("POST", &[json, ("origin", "https://evil.example")], Some(403)),
            ("POST", &[json, ("origin", "null")], Some(403)),
            ("POST", &[json, ("sec-fetch-mode", "no-cors")], Some(403)),
            ("GET", &[json], Some(405)),
            ("PUT", &[json], Some(405)),
            ("OPTIONS", &[], Some(405)),
        ] {
            let mut request = Request::builder().method(method).uri("/");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let refused = admit(&request.body(()).unwrap()).err();
            let status = refused.map(|Refused(status, _)| status.as_u16());
            assert_eq!(status, want, "{method} {fields:?}");
        }
    }
}
