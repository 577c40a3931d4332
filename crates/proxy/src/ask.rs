//! Asks the service: picks an upstream, sends the request, waits for the head of the answer.
//!
//! 1. Where no connection can be made, another upstream is tried once: nothing was sent.
//! 2. Where a used connection turns out to be dead before anything was written, the request is
//!    sent on another one.
//! 3. Where it died after that and before the first byte of an answer, the request is repeated
//!    once if it is idempotent (RFC 9110, 9.2.2) and has no body.
//! 4. Everything else is an error, since the service may have acted on the request already.

use std::rc::Rc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use seaworthy_policy::problem::{Code, Denial};
use seaworthy_policy::protection::Bound;
use seaworthy_policy::target::Target;

use crate::body::RequestBody;
use crate::chain::Timed;
use crate::flight::Flight;
use crate::upstream::connect::Sender;
use crate::upstream::pool::{Lease, LendError};
use crate::upstream::{HostHeader, Upstream};

/// A request for the service, before it is known which upstream gets it.
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) authority: String,
}

/// The head of the service's answer, and the connection that its body is on.
pub(crate) struct Asked {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
}

/// Sends `question` with the body `incoming`, within the time that the rules allow.
pub(crate) async fn ask(
    flight: &Rc<Flight>,
    question: Question,
    incoming: Incoming,
) -> Result<Asked, Denial> {
    let body = RequestBody::new(incoming, Rc::clone(flight));
    let deadline = flight.judgement.borrow().deadline;
    flight.asked_at.set(Some(flight.worker.clock.now()));
    let asked = match deadline {
        Some(timed @ Timed { enforced: true, .. }) => {
            tokio::select! {
                biased;
                asked = send(flight, question, body) => asked,
                denial = expiry(flight, timed) => return Err(denial),
            }
        }
        _ => send(flight, question, body).await,
    };
    let now = flight.worker.clock.now();
    flight.answered_at.set(Some(now));
    if let Some(Timed { limit, link, enforced: false }) = deadline
        && now.since(flight.waiting_since()) > limit
    {
        let bound = Bound::Deadline(limit);
        flight.judgement.borrow_mut().crossed(flight.route(), (link, false), bound);
    }
    asked
}

/// Waits until the service has been silent for the whole limit. A body that is still on its
/// way moves the end: the service cannot answer what it has not been sent.
async fn expiry(flight: &Flight, timed: Timed) -> Denial {
    let mut end = flight.waiting_since().after(timed.limit);
    loop {
        tokio::time::sleep_until(flight.worker.clock.instant(end.as_nanos())).await;
        let moved = flight.waiting_since().after(timed.limit);
        if moved <= end {
            break;
        }
        end = moved;
    }
    let bound = Bound::Deadline(timed.limit);
    let mut judgement = flight.judgement.borrow_mut();
    judgement
        .crossed(flight.route(), (timed.link, true), bound)
        .unwrap_or_else(|| Denial::new(Code::RequestTimeout, ""))
}

async fn send(flight: &Rc<Flight>, question: Question, body: RequestBody) -> Result<Asked, Denial> {
    let worker = &flight.worker;
    let pool = &flight.view.pool;
    let host = flight.view.snapshot.upstreams.options.host;
    let bare = http_body::Body::is_end_stream(&body);
    let repeatable = bare && is_idempotent(&question.method);
    let (mut question, mut body) = (question, body);
    let mut tried = None;
    for attempt in 0..2 {
        let now = worker.clock.now();
        let Some(target) = pool.pick(now, tried.as_ref()) else {
            return Err(unavailable("no upstream is healthy and not ejected"));
        };
        flight.upstream.set(Some(target.upstream.index));
        let mut lease = match pool.lend(&target, now).await {
            Ok(lease) => lease,
            Err(LendError::Full) => return Err(unavailable("connections_max is reached")),
            Err(LendError::Connect(error)) => {
                target.upstream.failed(worker.clock.now());
                if attempt == 0 && flight.view.snapshot.upstreams.list.len() > 1 {
                    tried = Some(target);
                    continue;
                }
                return Err(Denial::new(Code::UpstreamConnectFailed, "")
                    .internal(format!("{}: {error}", target.upstream.name)));
            }
        };
        let may_repeat = attempt == 0 && lease.reused;
        worker.shard.upstream_connects.add(u64::from(!lease.reused));
        let spare = (may_repeat && repeatable).then(|| question.copy());
        let upstream = &target.upstream;
        let sent = match lease.sender() {
            Sender::Http1(sender) => {
                sender.try_send_request(question.for_http1(body, upstream, host)?).await
            }
            Sender::Http2(sender) => {
                sender.try_send_request(question.for_http2(body, upstream, host)?).await
            }
        };
        let error = match sent {
            Ok(response) => {
                upstream.succeeded();
                return Ok(Asked { response, lease });
            }
            Err(error) => error,
        };
        // The body's own fault explains the error, where there is one.
        if let Some(denial) = flight.body_fault.borrow_mut().take() {
            return Err(denial);
        }
        let (error, message) = take_apart(error);
        worker
            .shard
            .upstream_retries
            .add(u64::from(may_repeat && (message.is_some() || spare.is_some())));
        match (message, spare) {
            (Some(message), _) if may_repeat => (question, body) = Question::take_back(message),
            (None, Some(spare)) => (question, body) = (spare, RequestBody::empty()),
            _ => {
                upstream.failed(worker.clock.now());
                return Err(broken(&error, upstream));
            }
        }
    }
    Err(unavailable("two connections in a row were dead"))
}

fn take_apart(
    mut error: TrySendError<Request<RequestBody>>,
) -> (hyper::Error, Option<Request<RequestBody>>) {
    let message = error.take_message();
    (error.into_error(), message)
}

fn unavailable(why: &'static str) -> Denial {
    Denial::new(Code::UpstreamUnavailable, "").internal(why).retry_after(Duration::from_secs(1))
}

fn broken(error: &hyper::Error, upstream: &Upstream) -> Denial {
    let code = if error.is_parse() { Code::UpstreamMalformed } else { Code::UpstreamReset };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    Denial::new(code, "").internal(format!(
        "{}: {error}{}",
        upstream.name,
        cause.unwrap_or_default()
    ))
}

fn is_idempotent(method: &Method) -> bool {
    method.is_safe() || matches!(*method, Method::PUT | Method::DELETE)
}

impl Question {
    /// A copy to repeat from; header values are shared, not copied.
    fn copy(&self) -> Self {
        Self {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            authority: self.authority.clone(),
        }
    }

    fn for_http1(
        mut self,
        body: RequestBody,
        upstream: &Upstream,
        host: HostHeader,
    ) -> Result<Request<RequestBody>, Denial> {
        match host {
            HostHeader::Upstream => {
                self.headers.insert(HOST, upstream.authority.clone());
            }
            HostHeader::Keep => {
                self.headers.entry(HOST).or_insert(HeaderValue::from_static(""));
            }
        }
        let uri = Uri::from(self.target.as_path_and_query().clone());
        Ok(self.request(uri, body))
    }

    fn for_http2(
        mut self,
        body: RequestBody,
        upstream: &Upstream,
        host: HostHeader,
    ) -> Result<Request<RequestBody>, Denial> {
        self.headers.remove(HOST);
        let authority = match host {
            HostHeader::Keep if !self.authority.is_empty() => self.authority.as_bytes(),
            _ => upstream.authority.as_bytes(),
        };
        let uri = Uri::builder()
            .scheme(if upstream.spec.https { "https" } else { "http" })
            .authority(authority)
            .path_and_query(self.target.as_path_and_query().clone())
            .build()
            .map_err(|_| Denial::new(Code::MalformedTarget, ""))?;
        Ok(self.request(uri, body))
    }

    fn request(self, uri: Uri, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers;
        request
    }

    /// Undoes [`Self::request`] where hyper gives the message back unsent.
    fn take_back(message: Request<RequestBody>) -> (Self, RequestBody) {
        let (head, body) = message.into_parts();
        let authority = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = head.uri.authority().map(http::uri::Authority::as_str).or(authority);
        let question = Self {
            authority: authority.unwrap_or_default().to_owned(),
            target: Target::of_sent(&head.uri),
            method: head.method,
            headers: head.headers,
        };
        (question, body)
    }
}
