//! A well-behaved HTTP/2 client, and a service that sends back what it is sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::client::PATIENCE;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A message that has been read to its end.
#[derive(Debug)]
pub(crate) struct Whole<H> {
    pub(crate) head: H,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

pub(crate) type WholeRequest = Whole<http::request::Parts>;
pub(crate) type WholeResponse = Whole<http::response::Parts>;

impl WholeResponse {
    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("it is text")
    }

    /// The code of the problem that it is.
    pub(crate) fn code(&self) -> Option<String> {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        Some(problem["code"].as_str()?.to_owned())
    }
}

async fn read<H>(head: H, body: Incoming) -> Result<Whole<H>, hyper::Error> {
    let collected = tokio::time::timeout(PATIENCE, body.collect()).await;
    let collected = collected.expect("the body goes on or ends")?;
    let trailers = collected.trailers().cloned();
    Ok(Whole { head, body: collected.to_bytes(), trailers })
}

/// A body with trailers behind it, where there are any.
pub(crate) fn body(content: impl Into<Bytes>, trailers: Option<HeaderMap>) -> Body {
    let content = Full::new(content.into());
    match trailers {
        Some(trailers) => {
            content.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync()
        }
        None => content.boxed_unsync(),
    }
}

/// One HTTP/2 connection to the gateway.
#[derive(Clone)]
pub(crate) struct Client(SendRequest<Body>);

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let tcp = tokio::net::TcpStream::connect(addr).await.expect("the gateway listens");
        Self::over(tcp).await
    }

    /// Speaks HTTP/2 on `stream`, whatever was agreed on it.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("the gateway speaks HTTP/2");
        tokio::spawn(async move {
            let ended = connection.await;
            drop(ended);
        });
        Self(sender)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Result<WholeResponse, hyper::Error> {
        let sent = self.0.clone().send_request(request);
        let response = tokio::time::timeout(PATIENCE, sent).await.expect("the gateway answers")?;
        let (head, body) = response.into_parts();
        read(head, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> WholeResponse {
        let request = Request::get(format!("http://shop.example{path}"));
        self.send(request.body(body("", None)).expect("a request")).await.expect("an answer")
    }
}

/// A service over hyper: HTTP/1.1 or HTTP/2, in the clear or by ALPN. It answers 200 with the
/// body and the trailers of the request.
pub(crate) struct Echo {
    pub(crate) addr: SocketAddr,
    received: Arc<Mutex<Vec<WholeRequest>>>,
    task: JoinHandle<()>,
}

impl Echo {
    /// HTTP/2 with prior knowledge, and nothing else.
    pub(crate) async fn http2() -> Self {
        Self::start(None).await
    }

    /// What ALPN settles on.
    pub(crate) async fn tls(config: Arc<ServerConfig>) -> Self {
        Self::start(Some(config)).await
    }

    async fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, log) = (tls.clone(), Arc::clone(&log));
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(stream, true, log).await };
                    // A client that does not trust the certificate breaks off.
                    let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    serve(stream, http2, log).await;
                });
            }
        });
        Self { addr, received, task }
    }

    /// Takes the whole requests so far.
    pub(crate) fn take(&self) -> Vec<WholeRequest> {
        std::mem::take(&mut *self.received.lock().expect("no test panics while it holds this"))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S>(stream: S, http2: bool, log: Arc<Mutex<Vec<WholeRequest>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request: Request<Incoming>| {
        let log = Arc::clone(&log);
        async move {
            let (head, incoming) = request.into_parts();
            let http2 = head.version == Version::HTTP_2;
            let whole = read(head, incoming).await?;
            // In HTTP/1 a Content-Length says more than trailers that no client asks for.
            let trailers = whole.trailers.clone().filter(|_| http2);
            let answer = body(whole.body.clone(), trailers);
            log.lock().expect("no test panics while it holds this").push(whole);
            Ok::<_, hyper::Error>(Response::new(answer))
        }
    });
    let io = TokioIo::new(stream);
    // How a connection ends is the gateway's affair.
    if http2 {
        let ended = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, answer)
            .await;
        drop(ended);
    } else {
        let ended = hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await;
        drop(ended);
    }
}
