//! Asks the service: picks an upstream, sends the request, waits for the head of the answer.
//!
//! 1. Where no connection can be made, another upstream is tried once: nothing was sent.
//! 2. Where a used connection dies before the first byte of an answer, the request is repeated
//!    once if it is idempotent (RFC 9110, 9.2.2) and has no body, or if nothing of it was sent.
//! 3. Everything else is an error, since the service may have acted on the request already.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use seaworthy_policy::Moment;
use seaworthy_policy::problem::{Code, Denial};
use seaworthy_policy::protection::Bound;
use seaworthy_policy::target::Target;

use crate::body::RequestBody;
use crate::chain::Timed;
use crate::flight::Flight;
use crate::forward::{self, Hop};
use crate::http1::{Framing, encode};
use crate::upstream::connect::Sender;
use crate::upstream::http1::{Connection, NoAnswer};
use crate::upstream::pool::{Lease, LendError};
use crate::upstream::{HostHeader, Upstream};
use crate::worker::Worker;

/// A request for the service, before it is known which upstream gets it.
pub(crate) struct Question<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a Target,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) hop: Hop<'a>,
}

/// The head of the service's answer, and the connection that its body is on.
pub(crate) struct Asked {
    pub(crate) head: http::response::Parts,
    /// The body, where it does not come on the lease's own connection.
    pub(crate) incoming: Option<Incoming>,
    pub(crate) lease: Lease,
}

/// Sends `question` with `body`, within the time that the rules allow.
pub(crate) async fn ask(
    flight: &Rc<Flight>,
    question: &Question<'_>,
    body: RequestBody,
) -> Result<Asked, Denial> {
    let deadline = flight.judgement.borrow().deadline;
    let now = flight.worker.now();
    flight.asked_at.set(Some(now));
    let asked = match deadline {
        Some(timed @ Timed { enforced: true, .. }) => {
            tokio::select! {
                biased;
                asked = send(flight, question, body, now) => asked,
                denial = expiry(flight, timed) => return Err(denial),
            }
        }
        _ => send(flight, question, body, now).await,
    };
    let now = flight.worker.now();
    flight.answered_at.set(Some(now));
    if let Some(Timed { limit, link, enforced: false }) = deadline
        && now.since(flight.waiting_since()) > limit
    {
        let bound = Bound::Deadline(limit);
        flight.judgement.borrow_mut().crossed(flight.chain(), (link, false), bound);
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
        .crossed(flight.chain(), (timed.link, true), bound)
        .unwrap_or_else(|| Denial::new(Code::RequestTimeout, ""))
}

async fn send(
    flight: &Rc<Flight>,
    question: &Question<'_>,
    body: RequestBody,
    mut now: Moment,
) -> Result<Asked, Denial> {
    let worker = &flight.worker;
    let pool = &flight.view.pool;
    let host = flight.view.snapshot.upstreams.options.host;
    let repeatable = body.is_end_stream() && is_idempotent(question.method);
    let (mut body, mut tried) = (Some(body), None);
    for attempt in 0..2 {
        let Some(target) = pool.pick(now, tried.as_ref()) else {
            return Err(unavailable("no upstream is healthy and not ejected"));
        };
        flight.upstream.set(Some(target.upstream.index));
        let mut lease = match pool.lend(&target, now).await {
            Ok(lease) => lease,
            Err(LendError::Full) => return Err(unavailable("connections_max is reached")),
            Err(LendError::Connect(error)) => {
                now = worker.now();
                target.upstream.failed(now);
                if attempt == 0 && flight.view.snapshot.upstreams.list.len() > 1 {
                    tried = Some(target);
                    continue;
                }
                return Err(Denial::new(Code::UpstreamConnectFailed, "")
                    .internal(format!("{}: {error}", target.upstream.name)));
            }
        };
        worker.shard.upstream_connects.add(u64::from(!lease.reused));
        let upstream = &target.upstream;
        let sent = body.take().unwrap_or_else(RequestBody::empty);
        let answered = match lease.sender() {
            Sender::Http1(connection) => {
                question.ask_http1(worker, connection, sent, upstream, host).await
            }
            Sender::Http2(sender) => {
                let request = question.for_http2(sent, upstream, host)?;
                let answered = sender.try_send_request(request).await;
                answered
                    .map_err(|mut error| {
                        body = error.take_message().map(Request::into_body);
                        Failure::of_http2(&error.into_error())
                    })
                    .map(|response| {
                        let (head, incoming) = response.into_parts();
                        (head, Some(incoming))
                    })
            }
        };
        let failure = match answered {
            Ok((head, incoming)) => {
                upstream.succeeded();
                return Ok(Asked { head, incoming, lease });
            }
            Err(failure) => failure,
        };
        // The body's own fault explains the error, where there is one.
        if let Some(denial) = flight.body_fault.borrow_mut().take() {
            return Err(denial);
        }
        let unsent = body.is_some();
        now = worker.now();
        if attempt == 0 && lease.reused && failure.unanswered && (unsent || repeatable) {
            worker.shard.upstream_retries.add(1);
            continue;
        }
        upstream.failed(now);
        return Err(Denial::new(failure.code, "")
            .internal(format!("{}: {}", upstream.name, failure.message)));
    }
    Err(unavailable("two connections in a row were dead"))
}

/// Why the service has not answered.
struct Failure {
    code: Code,
    message: String,
    /// Not a byte of an answer came.
    unanswered: bool,
}

impl Failure {
    fn of_http1(error: &NoAnswer) -> Self {
        let code = match error {
            NoAnswer::Ended(_) | NoAnswer::Truncated | NoAnswer::Upload => Code::UpstreamReset,
            NoAnswer::Malformed(_) | NoAnswer::Interim => Code::UpstreamMalformed,
        };
        let unanswered = matches!(error, NoAnswer::Ended(_));
        Self { code, message: error.to_string(), unanswered }
    }

    fn of_http2(error: &hyper::Error) -> Self {
        let code = if error.is_parse() { Code::UpstreamMalformed } else { Code::UpstreamReset };
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        let message = format!("{error}{}", cause.unwrap_or_default());
        // A stream that was reset is no dead connection: the service may have acted on it, unless
        // it says that it did not (RFC 9113, 8.7).
        let reset = std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<h2::Error>())
            .filter(|error| error.is_reset())
            .and_then(h2::Error::reason);
        let unanswered = reset.is_none_or(|reason| reason == h2::Reason::REFUSED_STREAM);
        Self { code, message, unanswered }
    }
}

/// The head of an answer, and its body where hyper has it.
type Answer = (http::response::Parts, Option<Incoming>);

fn unavailable(why: &'static str) -> Denial {
    Denial::new(Code::UpstreamUnavailable, "").internal(why).retry_after(Duration::from_secs(1))
}

fn is_idempotent(method: &Method) -> bool {
    method.is_safe() || matches!(*method, Method::PUT | Method::DELETE)
}

impl Question<'_> {
    async fn ask_http1(
        &self,
        worker: &Worker,
        connection: &mut Connection<RequestBody>,
        body: RequestBody,
        upstream: &Upstream,
        host: HostHeader,
    ) -> Result<Answer, Failure> {
        connection.ask(self.method, body, |out, framing| {
            self.write(out, framing, upstream, host);
        });
        let answer = poll_fn(|cx| connection.poll_answer(cx, || worker.empty_headers())).await;
        let answer = answer.map_err(|error| Failure::of_http1(&error))?;
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = answer.status;
        head.headers = answer.headers;
        if let Some(reason) = answer.reason {
            head.extensions.insert(reason);
        }
        Ok((head, None))
    }

    fn write(&self, out: &mut Vec<u8>, framing: Framing, upstream: &Upstream, host: HostHeader) {
        out.reserve(HEAD_BYTES_USUAL);
        encode::request_line(out, self.method, self.target.as_str());
        let host = match host {
            HostHeader::Upstream => Some(&upstream.authority),
            HostHeader::Keep => self.headers.get(HOST),
        };
        encode::field(out, "host", host.map_or(b"", |host| host.as_bytes()));
        let mut length_known = framing != Framing::None;
        encode::message_fields(out, self.headers, framing, |name| {
            length_known |= *name == CONTENT_LENGTH;
            *name == HOST || forward::is_own(name)
        });
        forward::own_fields(self.headers, &self.hop, |name, value| {
            encode::field(out, name.as_str(), value);
        });
        // Some services answer 411 without it (RFC 9110, 8.6).
        if !length_known && matches!(*self.method, Method::POST | Method::PUT | Method::PATCH) {
            encode::field(out, "content-length", b"0");
        }
    }

    fn for_http2(
        &self,
        body: RequestBody,
        upstream: &Upstream,
        host: HostHeader,
    ) -> Result<Request<RequestBody>, Denial> {
        let authority = match host {
            HostHeader::Keep if !self.hop.authority.is_empty() => self.hop.authority.as_bytes(),
            _ => upstream.authority.as_bytes(),
        };
        let uri = Uri::builder()
            .scheme(if upstream.spec.https { "https" } else { "http" })
            .authority(authority)
            .path_and_query(self.target.as_path_and_query().clone())
            .build()
            .map_err(|_| Denial::new(Code::MalformedTarget, ""))?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = forward::with_own(self.headers, &self.hop);
        request.headers_mut().remove(HOST);
        Ok(request)
    }
}

/// Most heads of requests are smaller.
const HEAD_BYTES_USUAL: usize = 1024;
