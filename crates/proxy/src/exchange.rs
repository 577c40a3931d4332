//! One request: read, judged, forwarded, answered. The story of the data plane, top to bottom.

use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, RETRY_AFTER, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as _;
use seaworthy_policy::consumer;
use seaworthy_policy::content::{Body, Content, has_syntax};
use seaworthy_policy::learn::Shape;
use seaworthy_policy::problem::{self, Code, Denial, Rendering};
use seaworthy_policy::protection::{
    self, Answer, Apply, BodyLength, Conflict, Edit, Rewrite, Scheme,
};
use seaworthy_policy::record::Ending;
use seaworthy_policy::target::Target;
use seaworthy_policy::trace_context::TraceContext;

use crate::ask::{self, Asked, Question};
use crate::body::{ClientBody, Held, RequestBody, ResponseBody};
use crate::chain::{self, Flow};
use crate::connection::shared::Shared;
use crate::flight::{Flight, Start};
use crate::forward::{self, Hop, PeerText, X_REQUEST_ID};
use crate::http1::request::Refused;
use crate::notes::Note;
use crate::snapshot::ConnectionLimits;
use crate::worker::Worker;
use crate::{own, tunnel};

/// What all requests of one connection share.
pub(crate) struct Peer {
    pub(crate) worker: Rc<Worker>,
    pub(crate) shared: Rc<Shared>,
    pub(crate) ip: IpAddr,
    pub(crate) ip_text: PeerText,
    pub(crate) scheme: Scheme,
}

/// The gateway's own pages have one inline style and nothing else.
const OWN_PAGES_CSP: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Answers one request. Whatever happens, there is an answer and a record.
pub(crate) async fn serve(
    peer: Rc<Peer>,
    mut head: http::request::Parts,
    body: ClientBody,
) -> Response<ResponseBody> {
    let upgrade = forward::strip_hop_by_hop(&mut head.headers);
    let exchange = Exchange::begin(&peer, &head, body.length());
    let response = match exchange.check_head(&mut head) {
        Err(denial) => exchange.refuse(denial),
        Ok(checked) => {
            let upgrade = upgrade
                .filter(|_| head.version == Version::HTTP_11 && exchange.body == BodyLength::None);
            exchange.run(&mut head, body, checked, upgrade).await
        }
    };
    peer.worker.reuse_headers(head.headers);
    response
}

/// Answers what was not read as a request.
pub(crate) fn refuse(peer: &Peer, refused: &Refused) -> Response<ResponseBody> {
    let exchange = Exchange::begin(peer, &refused.stand_in, BodyLength::None);
    exchange.refuse(Denial::new(refused.refusal.code, refused.refusal.detail))
}

/// One request, while it is being answered.
struct Exchange<'a> {
    peer: &'a Peer,
    flight: Rc<Flight>,
    rendering: Rendering,
    body: BodyLength,
}

/// What the checks of the head made of it.
struct Checked {
    target: Target,
    authority: String,
    trace: TraceContext,
    trace_restarted: bool,
}

impl<'a> Exchange<'a> {
    fn begin(peer: &'a Peer, head: &http::request::Parts, body: BodyLength) -> Self {
        peer.shared.request_began();
        let worker = Rc::clone(&peer.worker);
        let view = worker.view();
        let started = worker.now();
        let clients = &view.snapshot.clients;
        let client = clients.resolve(peer.ip, &head.headers);
        let scheme = match clients.forwarded_https(&client, &head.headers) {
            Some(true) => Scheme::Https,
            Some(false) => Scheme::Http,
            None => peer.scheme,
        };
        let given_id = if client.via_trusted_proxy {
            forward::accepted_request_id(&head.headers)
        } else {
            None
        };
        let start = Start {
            id: given_id.unwrap_or_else(|| worker.request_id(started)),
            connection: Rc::clone(&peer.shared),
            scheme,
            version: head.version,
            worker,
            view,
            started,
            client,
            agent: consumer::agent(&head.headers),
        };
        let flight = Flight::new(start, &head.method, head.uri.path());
        Self { rendering: Rendering::for_request(&head.headers), body, peer, flight }
    }

    /// Refuses what no protection has to see. The guard has refused the rest for HTTP/1; these
    /// rules hold for both protocols.
    fn check_head(&self, head: &mut http::request::Parts) -> Result<Checked, Denial> {
        if head.method == Method::CONNECT {
            return Err(Denial::new(Code::ConnectRefused, ""));
        }
        let expectation = head.headers.get(http::header::EXPECT);
        if expectation.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        {
            return Err(Denial::new(Code::ExpectationFailed, ""));
        }
        let snapshot = &self.flight.view.snapshot;
        if forward::has_passed(&head.headers, &snapshot.pseudonym) {
            return Err(Denial::new(Code::LoopDetected, ""));
        }
        if head.version == Version::HTTP_2 {
            check_http2_head(head, &snapshot.limits)?;
            forward::join_cookies(&mut head.headers);
        }
        let authority = settle_authority(head)?;
        let target = match head.uri.path_and_query() {
            // Not a path: only OPTIONS means the whole service by it (RFC 9110, 7.1).
            Some(target) if target == "*" && head.method != Method::OPTIONS => {
                let fault = "Only OPTIONS has the target *.";
                return Err(Denial::new(Code::MalformedTarget, fault));
            }
            Some(target) => Target::parse(target).map_err(|error| {
                Denial::new(Code::MalformedTarget, format!("The target was not read: {error}."))
            })?,
            None => return Err(Denial::new(Code::MalformedTarget, "")),
        };
        let worker = &self.flight.worker;
        let span = worker.random();
        let given = head.headers.get(forward::TRACEPARENT);
        let continued = given.and_then(|value| TraceContext::parse(value.as_bytes()));
        let trace = match continued {
            Some(context) => context.child(span),
            None => TraceContext::start(
                u128::from(worker.random()) << 64 | u128::from(worker.random()),
                span,
            ),
        };
        Ok(Checked { target, authority, trace, trace_restarted: continued.is_none() })
    }

    async fn run(
        &self,
        head: &mut http::request::Parts,
        body: ClientBody,
        mut checked: Checked,
        upgrade: Option<HeaderValue>,
    ) -> Response<ResponseBody> {
        let flight = &self.flight;
        let snapshot = &flight.view.snapshot;
        let path = checked.target.path();
        flight.path.replace(seaworthy_policy::record::clip(path));
        flight.chain_id.set(snapshot.find(&head.method, path));
        let mut body = RequestBody::new(body, Rc::clone(flight));
        let mut content = if body.is_end_stream() { Content::Empty } else { Content::Unasked };
        let mut held = Held::none(Rc::clone(&flight.worker));
        loop {
            let request = self.request(head, &checked, &content);
            // Bound to a name, so that the judgement is not borrowed any more while a body is read.
            let flow = chain::judge(
                snapshot,
                flight.chain(),
                &request,
                &mut flight.judgement.borrow_mut(),
                &flight.worker,
            );
            if !matches!(flow, Flow::Read) {
                flight.keep_sample(&request);
            }
            match flow {
                Flow::Forward => break,
                Flow::Deny(denial) => return self.deny(&denial),
                Flow::Answer(answer) => return self.answer(answer),
                Flow::Read => match self.read(&head.headers, &mut body, &mut held).await {
                    Ok(read) => content = read,
                    Err(denial) => return self.end_body(denial).await,
                },
                Flow::Rewrite(rewrite) => {
                    let Rewrite { content: new, target } = *rewrite;
                    if let Some(Content::Read(new)) = new {
                        forward::settle_body(&mut head.headers, new.raw().len());
                        body.replace(new.raw().clone());
                        content = Content::Read(new);
                    }
                    checked.target = target.unwrap_or(checked.target);
                }
            }
        }
        if checked.target.is_own() {
            let request = self.request(head, &checked, &content);
            // Boxed, as it is rare and would make every exchange larger.
            return match Box::pin(own::answer(flight, &request, body)).await {
                Ok(answer) => self.answer(answer),
                Err(denial) => self.refuse(denial),
            };
        }
        if let Some(sampling) = snapshot.learning
            && flight.worker.draw(sampling)
        {
            // Boxed, as it is rare and would make every exchange larger.
            let learnt = Box::pin(self.learn(head, &checked, content, &mut body, &mut held));
            if let Err(denial) = learnt.await {
                return self.end_body(denial).await;
            }
        } else {
            // What was made of the body for the checks can be many times its size.
            drop(content);
        }
        self.forward(head, body, &checked, upgrade).await
    }

    /// Reads the body for the checks.
    async fn read(
        &self,
        headers: &HeaderMap,
        body: &mut RequestBody,
        held: &mut Held,
    ) -> Result<Content, Denial> {
        let bytes_max = self.flight.view.snapshot.limits.checked_body_bytes_max;
        let Ok(read) = body.read(held, bytes_max).await else {
            return Err(self.flight.body_denial());
        };
        let read = read.and_then(|raw| Body::read(raw, headers, bytes_max));
        Ok(read.map_or_else(Content::Unread, Content::Read))
    }

    /// Keeps what the request is like until its answer is known. Its body is read as for a check,
    /// within the same bounds; what is sent is the same.
    async fn learn(
        &self,
        head: &http::request::Parts,
        checked: &Checked,
        content: Content,
        body: &mut RequestBody,
        held: &mut Held,
    ) -> Result<(), Denial> {
        let content = match content {
            Content::Unasked if has_syntax(&head.headers) => {
                self.read(&head.headers, body, held).await?
            }
            content => content,
        };
        let shape = Shape::of_request(&self.request(head, checked, &content));
        self.flight.shape.set(shape.map(Box::new));
        Ok(())
    }

    /// The request as the rules see it.
    fn request<'r>(
        &'r self,
        head: &'r http::request::Parts,
        checked: &'r Checked,
        content: &'r Content,
    ) -> protection::Request<'r> {
        let flight = &self.flight;
        protection::Request {
            method: &head.method,
            target: &checked.target,
            authority: &checked.authority,
            scheme: flight.scheme,
            headers: &head.headers,
            client: &flight.client,
            peer: self.peer.ip,
            route: flight.chain().route(),
            body: match content {
                Content::Read(body) => BodyLength::Declared(body.raw().len() as u64),
                _ => self.body,
            },
            content,
            now: flight.started,
            unix_s: (flight.worker.clock.unix_ms(flight.started) / 1000).unsigned_abs(),
        }
    }

    async fn forward(
        &self,
        head: &mut http::request::Parts,
        body: RequestBody,
        checked: &Checked,
        upgrade: Option<HeaderValue>,
    ) -> Response<ResponseBody> {
        let flight = &self.flight;
        let hop = Hop {
            peer: &self.peer.ip_text,
            trusted: flight.client.via_trusted_proxy,
            scheme: flight.scheme,
            authority: &checked.authority,
            version: head.version,
            pseudonym: &flight.view.snapshot.pseudonym,
            request_id: &flight.id,
            trace: checked.trace,
            trace_restarted: checked.trace_restarted,
        };
        let upgrade = upgrade.filter(tunnel::is_offered);
        let asks_upgrade = upgrade.is_some();
        if let Some(protocol) = upgrade {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, protocol);
        }
        let question =
            Question { method: &head.method, target: &checked.target, headers: &head.headers, hop };
        match ask::ask(flight, &question, body).await {
            Ok(Asked { mut head, incoming, lease }) => {
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    if !asks_upgrade || !tunnel::settle(&mut head.headers) {
                        let denial = Denial::new(Code::UpstreamMalformed, "");
                        let why = "it switched protocols without being asked";
                        return self.fail(&denial.internal(why));
                    }
                } else {
                    forward::strip_hop_by_hop(&mut head.headers);
                }
                head.version = Version::HTTP_11;
                let body = ResponseBody::stream(incoming, lease, Rc::clone(flight));
                self.finish(Response::from_parts(head, body))
            }
            Err(denial) if denial.code.entry().domain == problem::Domain::Upstream => {
                self.wait_if_gone().await;
                self.fail(&denial)
            }
            Err(denial) => self.end_body(denial).await,
        }
    }

    /// The request's body ended early, or the time for an answer.
    async fn end_body(&self, denial: Denial) -> Response<ResponseBody> {
        self.wait_if_gone().await;
        match denial.code {
            Code::BodyTimeout | Code::MalformedBody => self.refuse(denial),
            _ => self.deny(&denial),
        }
    }

    /// Never goes on where there is nobody to answer: the connection gives the exchange up.
    async fn wait_if_gone(&self) {
        if self.flight.client_gone.get() {
            std::future::pending().await
        }
    }

    /// A rule denied it.
    fn deny(&self, denial: &Denial) -> Response<ResponseBody> {
        self.flight.ending.set(Some(Ending::Denied));
        self.problem(denial)
    }

    /// The request itself is at fault; the connection is not used again.
    fn refuse(&self, denial: Denial) -> Response<ResponseBody> {
        self.flight.ending.set(Some(Ending::Refused));
        self.note(&denial);
        let mut response = self.problem(&denial);
        let own = denial.code.entry().domain == problem::Domain::Gateway;
        if self.flight.version != Version::HTTP_2 && !own {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The service is at fault.
    fn fail(&self, denial: &Denial) -> Response<ResponseBody> {
        self.flight.ending.set(Some(Ending::UpstreamFailed));
        self.note(denial);
        self.problem(denial)
    }

    fn note(&self, denial: &Denial) {
        let flight = &self.flight;
        flight.failure.set(Some(denial.code));
        flight.worker.note(Note::gateway(&flight.id, flight.client, *flight.path.borrow(), denial));
    }

    fn problem(&self, denial: &Denial) -> Response<ResponseBody> {
        // Nothing of it is under way any more but its answer.
        self.flight.judgement.borrow_mut().permits.clear();
        self.flight.worker.shard.code(denial.code);
        let content = problem::render(denial, &self.flight.id, self.rendering);
        let body = ResponseBody::whole(content.into(), Rc::clone(&self.flight));
        let mut response = Response::new(body);
        *response.status_mut() = denial.code.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.rendering.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.rendering == Rendering::Html {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(OWN_PAGES_CSP));
        }
        if let Some((name, value)) = denial.header.as_deref() {
            headers.insert(name, value.clone());
        }
        if let Some(seconds) = denial.retry_after_secs() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        self.finish(response)
    }

    fn answer(&self, answer: Answer) -> Response<ResponseBody> {
        self.flight.ending.set(Some(Ending::Answered));
        let mut response = Response::new(ResponseBody::whole(answer.body, Rc::clone(&self.flight)));
        *response.status_mut() = answer.status;
        for (name, value) in answer.headers {
            response.headers_mut().append(name, value);
        }
        self.finish(response)
    }

    /// The last step of every response: the rules' headers, the id, the clock.
    fn finish(&self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        let flight = &self.flight;
        let status = response.status();
        flight.status.set(status.as_u16());
        let mut decoration = flight.judgement.borrow_mut().decorate(
            &flight.view.snapshot,
            flight.chain(),
            flight.client.key,
            &protection::Response { status, headers: response.headers(), scheme: flight.scheme },
        );
        flight.judgement.borrow().announce(flight.chain(), &mut decoration);
        decoration.push(Edit {
            name: X_REQUEST_ID,
            value: HeaderValue::from_str(&flight.id).expect("an id has only visible characters"),
            apply: Apply::Enforced,
            conflict: Conflict::KeepService,
        });
        response.body_mut().decorate(decoration);
        let now = flight.worker.now();
        let own = match (flight.asked_at.get(), flight.answered_at.get()) {
            (Some(asked), Some(answered)) => asked.since(flight.started) + now.since(answered),
            (Some(asked), None) => asked.since(flight.started),
            _ => now.since(flight.started),
        };
        flight.worker.shard.overhead(own);
        response
    }
}

/// HTTP/2 forbids what HTTP/1 uses to frame a connection (RFC 9113, 8.2.2); h2 refuses most of
/// it, this is the rest. A field counts as RFC 9113, 6.5.2 has it: 32 bytes beside its own.
fn check_http2_head(head: &http::request::Parts, limits: &ConnectionLimits) -> Result<(), Denial> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let mut bytes = target + head.uri.authority().map_or(0, |authority| authority.as_str().len());
    for (name, value) in &head.headers {
        if value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(Denial::new(Code::MalformedRequest, "A header field has a control byte."));
        }
        bytes += name.as_str().len() + value.len() + 32;
    }
    let too_large = |detail| Err(Denial::new(Code::HeadTooLarge, detail));
    if bytes > limits.head_bytes_max {
        return too_large("The target and the header fields are too long together.");
    }
    if head.headers.len() > limits.fields_max {
        return too_large("There are too many header fields.");
    }
    Ok(())
}

/// Finds the one authority of the request and makes `Host` say the same: `:authority` and the
/// absolute form beat `Host`.
fn settle_authority(head: &mut http::request::Parts) -> Result<String, Denial> {
    const FAULT: &str = "The host is missing or has a byte that no host name has.";
    let malformed = || Denial::new(Code::MissingHost, FAULT);
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next().is_some());
    let mut authority = match (head.uri.authority(), host) {
        (Some(authority), host) => {
            let authority = authority.as_str().to_owned();
            if another || host.is_none_or(|host| host.as_bytes() != authority.as_bytes()) {
                let value = HeaderValue::from_str(&authority).map_err(|_| malformed())?;
                head.headers.insert(HOST, value);
            }
            authority
        }
        (None, Some(host)) if !another => host.to_str().map_err(|_| malformed())?.to_owned(),
        // HTTP/1.0 knows no Host. The service is told an empty one.
        (None, None) if head.version == Version::HTTP_10 => return Ok(String::new()),
        _ => return Err(malformed()),
    };
    if authority.is_empty() || !authority.bytes().all(is_of_authority) {
        return Err(malformed());
    }
    authority.make_ascii_lowercase();
    Ok(authority)
}

const fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'~' | b'%')
}

/// A short page of our own.
pub(crate) fn page(status: StatusCode, content_type: &'static str, content: String) -> Answer {
    Answer {
        status,
        headers: vec![
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(OWN_PAGES_CSP)),
        ],
        body: Bytes::from(content),
    }
}
