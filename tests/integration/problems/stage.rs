//! A gateway and a service behind it, set up so that one request fires one code.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

use super::case::{Before, Case, KEY, Service};
use crate::harness::client::{PATIENCE, read_replies};
use crate::harness::response::get;
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Response, Upstream, exchange};

pub(super) struct Stage {
    pub(super) gateway: Gateway,
    backing: Backing,
    /// A request that is under way.
    held: Option<TcpStream>,
}

enum Backing {
    Service {
        upstream: Upstream,
        /// Tells of a whole request.
        asked: Arc<Notify>,
    },
    /// Bound, so that nobody else gets the port, and deaf.
    Nobody(TcpSocket),
}

/// What came back, and the connection that it came on.
pub(super) struct Fired {
    pub(super) response: Response,
    /// How often the service was asked on account of the request.
    pub(super) asked: usize,
    pub(super) closed: bool,
    sent: String,
    stream: TcpStream,
}

impl Stage {
    pub(super) async fn set(service: Service, config: &str) -> Self {
        let (addr, backing) = match service {
            Service::Gone => {
                let socket = TcpSocket::new_v4().expect("a socket");
                socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
                (socket.local_addr().expect("it is bound"), Backing::Nobody(socket))
            }
            service => {
                let asked = Arc::new(Notify::new());
                let told = Arc::clone(&asked);
                let upstream = Upstream::start(move |_, _| {
                    told.notify_one();
                    answer(service)
                })
                .await;
                (upstream.addr, Backing::Service { upstream, asked })
            }
        };
        let config = format!("{config}\n[store.telemetry]\nflush_every = \"100ms\"");
        let gateway = Gateway::start_with_key(addr, &config, KEY).await;
        Self { gateway, backing, held: None }
    }

    /// Fires `case`.
    pub(super) async fn fire(&mut self, case: &Case) -> Fired {
        let learned = self.prepare(case.before).await;
        let sent = case.sent.replace("LEARNED", &learned);
        let asked_before = self.asked();
        let mut stream = self.send(&sent).await;
        let reply = read_replies(&mut stream, usize::from(!case.closes)).await;
        Fired {
            response: Response::only(&reply),
            asked: self.asked() - asked_before,
            closed: reply.closed,
            sent,
            stream,
        }
    }

    async fn prepare(&mut self, before: Before) -> String {
        let addr = self.gateway.addr();
        match before {
            Before::Nothing => {}
            Before::Answered(request) => {
                exchange(addr, request.as_bytes(), 1).await;
            }
            Before::Held(request) => {
                self.held = Some(self.send(request).await);
                let Backing::Service { asked, .. } = &self.backing else {
                    panic!("nobody holds a request")
                };
                let asked = tokio::time::timeout(PATIENCE, asked.notified()).await;
                asked.expect("the service is asked");
            }
            Before::LearnVia => {
                get(addr, "/").await;
                let Backing::Service { upstream, .. } = &self.backing else {
                    panic!("nobody sees a Via")
                };
                let received = upstream.received();
                let via = received[0].lines().find_map(|line| line.strip_prefix("via: "));
                return via.expect("the gateway names itself").to_owned();
            }
            Before::LearnToken(cookie) => return csrf_token(addr, cookie).await,
        }
        String::new()
    }

    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.gateway.addr()).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        stream
    }

    fn asked(&self) -> usize {
        match &self.backing {
            Backing::Service { upstream, .. } => upstream.received().len(),
            Backing::Nobody(_) => 0,
        }
    }

    pub(super) fn service_addr(&self) -> SocketAddr {
        match &self.backing {
            Backing::Service { upstream, .. } => upstream.addr,
            Backing::Nobody(socket) => socket.local_addr().expect("it is bound"),
        }
    }

    /// The record of the request with this id, as the console's API shows it.
    pub(super) async fn record(&self, id: &str) -> Value {
        let look = async {
            loop {
                let page = get(self.gateway.console(), "/api/v1/requests").await.json();
                let rows = page["rows"].as_array().expect("a list of rows");
                if let Some(row) = rows.iter().find(|row| row["id"] == id) {
                    return row.clone();
                }
                self.gateway.settled().await;
            }
        };
        let row = tokio::time::timeout(PATIENCE, look).await;
        row.unwrap_or_else(|_| panic!("the request {id} leaves a record"))
    }

    pub(super) async fn stop(self) {
        drop(self.held);
        self.gateway.stop().await;
    }
}

impl Fired {
    /// Whether the connection is good for the same request again.
    pub(super) async fn goes_on(&mut self) -> bool {
        let sent = self.stream.write_all(self.sent.as_bytes()).await;
        sent.is_ok() && !read_replies(&mut self.stream, 1).await.statuses().is_empty()
    }
}

fn answer(service: Service) -> Answer {
    match service {
        Service::Answers => Answer::ok("ok"),
        Service::Silent => Answer::Silence,
        Service::Resets => Answer::Close(Vec::new()),
        Service::Nonsense => Answer::Close(b"HTTP/1.1 2xx what\r\n\r\n".to_vec()),
        Service::Gone => unreachable!("nothing listens"),
    }
}

/// A fresh CSRF token for whoever has this cookie.
pub(super) async fn csrf_token(addr: SocketAddr, cookie: &str) -> String {
    let request = format!("GET /.seaworthy/csrf HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
    let page = Response::only(&exchange(addr, request.as_bytes(), 1).await).json();
    page["token"].as_str().expect("a session gets a token").to_owned()
}
