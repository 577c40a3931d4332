//! One client's HTTP/1 connection: a request, its answer, the next request.
//!
//! 1. Requests are answered in order, one at a time; what a client pipelines waits unread.
//! 2. A head that is refused, or that does not arrive in time, is answered and nothing behind it
//!    is read: where it ends is not known.
//! 3. `100 Continue` is sent when the body is first wanted, which is after the checks of the head.
//! 4. A body that its answer did not wait for goes on to the service while that reads it. What
//!    nobody reads is thrown away up to a bound; past it the connection is closed, so that no byte
//!    of it is read as a request.
//! 5. A client that goes away ends what it asked for.
//! 6. Behind a request that asked for an upgrade nothing is read until the service has decided.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::{Method, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use seaworthy_policy::problem::Code;

use crate::body::{ClientBody, ResponseBody};
use crate::chain::Decoration;
use crate::exchange::{self, Peer};
use crate::http1::body::{BodyError, BodyReader};
use crate::http1::chunked::Sender;
use crate::http1::request::{HeadLimits, HeadReader, Refusal, Refused, RequestHead};
use crate::http1::response::Reason;
use crate::http1::wire::{Outlet, Wire};
use crate::http1::{Framing, encode};

/// Bytes of an unwanted body that are read and thrown away to keep a connection.
const DRAIN_BYTES_MAX: u64 = 64 << 10;

/// Bytes read and thrown away after the last answer, so that the client can read it before the
/// kernel answers its unread bytes with a reset.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Bytes of later requests that are read while one is being answered, to notice the client's end.
const AHEAD_BYTES_MAX: usize = 64 << 10;

/// Serves the connection until it ends.
pub(crate) async fn serve(peer: Rc<Peer>, wire: Wire, limits: HeadLimits) {
    let link = Rc::new(Link::new(wire, Rc::clone(&peer)));
    let mut heads = HeadReader::new(limits);
    let end = loop {
        let head = match poll_fn(|cx| link.poll_head(cx, &mut heads)).await {
            Ok(Some(head)) => head,
            Ok(None) => break End::Close,
            Err(refused) => {
                let is_head = refused.stand_in.method == Method::HEAD;
                let terms = Terms { version: Version::HTTP_11, is_head, keep_alive: false };
                link.respond(exchange::refuse(&peer, &refused), terms).await;
                break End::Linger;
            }
        };
        match answer(&peer, &link, head).await {
            Next::Request => {}
            Next::End(end) => break end,
            Next::Tunnel(response) => {
                // Only a request without a body is offered an upgrade, so nobody else reads.
                if let Some(link) = Rc::into_inner(link) {
                    tunnel(*response, link.wire.into_inner()).await;
                }
                return;
            }
        }
    };
    link.close(end).await;
}

/// What follows an answer.
enum Next {
    Request,
    End(End),
    Tunnel(Box<Response<ResponseBody>>),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything that the client sent was read.
    Close,
    /// The client may still be sending.
    Linger,
    /// The client is gone, or must see that its answer is not whole.
    Abort,
}

/// How the answer to a request is sent.
#[derive(Clone, Copy, Debug)]
struct Terms {
    version: Version,
    /// It was a HEAD: the answer has no body.
    is_head: bool,
    keep_alive: bool,
}

async fn answer(peer: &Rc<Peer>, link: &Rc<Link>, head: RequestHead) -> Next {
    let terms = Terms {
        version: head.parts.version,
        is_head: head.parts.method == Method::HEAD,
        keep_alive: head.keep_alive,
    };
    let body = link.expect(head.framing, head.expects_continue);
    // An exchange takes some KiB while it lasts. Boxed, an idle connection does not hold them.
    let exchange = Box::pin(exchange::serve(Rc::clone(peer), head.parts, body));
    let Some(response) = link.unless_gone(exchange).await else { return Next::End(End::Abort) };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Next::Tunnel(Box::new(response));
    }
    if let Some(end) = link.respond(response, terms).await {
        return Next::End(end);
    }
    poll_fn(|cx| link.poll_rest(cx)).await.map_or(Next::Request, Next::End)
}

/// Sends the 101 and copies bytes both ways until both sides have ended.
async fn tunnel(response: Response<ResponseBody>, mut wire: Wire) {
    let (mut head, mut body) = response.into_parts();
    body.take_decoration().apply(&mut head.headers);
    let mut outlet = Outlet::default();
    encode::status_line(outlet.end(), Version::HTTP_11, head.status, None);
    encode::fields(outlet.end(), &head.headers);
    outlet.end().extend_from_slice(b"\r\n");
    if poll_fn(|cx| wire.poll_flush(cx, &mut outlet)).await.is_ok() {
        body.tunnel(wire).await;
    }
}

/// The socket and the request that is being read from it, shared by the loop and the request's
/// body.
struct Link {
    wire: RefCell<Wire>,
    outlet: RefCell<Outlet>,
    body: RefCell<BodyReader>,
    /// `100 Continue` is still to be sent.
    continue_due: Cell<bool>,
    /// The loop, where another task reads the body: it is told when that has ended.
    waiting: RefCell<Option<Waker>>,
    /// The client went away in the middle of the body.
    gone: Cell<bool>,
    /// The number of the request. Whoever reads the body of an earlier one is refused.
    number: Cell<u64>,
    peer: Rc<Peer>,
}

impl Link {
    fn new(wire: Wire, peer: Rc<Peer>) -> Self {
        Self {
            wire: RefCell::new(wire),
            outlet: RefCell::default(),
            body: RefCell::new(BodyReader::Ended),
            continue_due: Cell::new(false),
            waiting: RefCell::default(),
            gone: Cell::new(false),
            number: Cell::new(0),
            peer,
        }
    }

    /// Reads the next head. `None` where there is none to come.
    fn poll_head(
        &self,
        cx: &mut Context<'_>,
        heads: &mut HeadReader,
    ) -> Poll<Result<Option<RequestHead>, Refused>> {
        let wire = &mut *self.wire.borrow_mut();
        loop {
            if !wire.unread.is_empty() {
                if let Some(head) =
                    heads.take(&mut wire.unread, || self.peer.worker.empty_headers())?
                {
                    self.peer.shared.head_ended();
                    return Poll::Ready(Ok(Some(head)));
                }
                self.peer.shared.head_began();
            } else if self.peer.shared.is_winding_up() {
                return Poll::Ready(Ok(None));
            }
            if self.peer.shared.head_expired() {
                let refusal = Refusal {
                    code: Code::HeadTimeout,
                    detail: "The request head did not arrive in time.",
                };
                return Poll::Ready(Err(Refused::new(refusal, &wire.unread)));
            }
            match ready!(wire.poll_fill(cx)) {
                Ok(1..) => {}
                // An end in the middle of a head has nobody to be told.
                Ok(0) | Err(_) => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// A head has announced this body.
    fn expect(self: &Rc<Self>, framing: Framing, expects_continue: bool) -> ClientBody {
        if framing == Framing::None {
            return ClientBody::None;
        }
        self.body.replace(BodyReader::new(framing, Sender::Client));
        self.continue_due.set(expects_continue);
        self.number.set(self.number.get() + 1);
        ClientBody::Http1(Upload { link: Rc::clone(self), number: self.number.get() })
    }

    /// Waits for `exchange`, and gives it up when the client goes away.
    async fn unless_gone<F: Future + Unpin>(&self, mut exchange: F) -> Option<F::Output> {
        poll_fn(|cx| {
            if let Poll::Ready(output) = Pin::new(&mut exchange).poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.poll_gone(cx).map(|()| None)
        })
        .await
    }

    /// Ready when the client has gone away. While a request's body is under way, its reader
    /// notices that, and nobody else reads.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.gone.get() {
            return Poll::Ready(());
        }
        if !self.body.borrow().has_ended() {
            self.waiting.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let wire = &mut *self.wire.borrow_mut();
        while wire.unread.len() < AHEAD_BYTES_MAX {
            match ready!(wire.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.wire.borrow_mut().poll_flush(cx, &mut self.outlet.borrow_mut());
        self.peer.shared.wrote(flushed.is_pending());
        flushed
    }

    /// Sends a response. Returns why it was the last, if it was.
    async fn respond(
        self: &Rc<Self>,
        response: Response<ResponseBody>,
        terms: Terms,
    ) -> Option<End> {
        let (head, mut body) = response.into_parts();
        let decoration = body.take_decoration();
        let bodiless = terms.is_head
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framing = match body.size_hint().exact() {
            _ if bodiless => Framing::None,
            Some(length) => Framing::Length(length),
            None if terms.version == Version::HTTP_11 => Framing::Chunked,
            None => Framing::UntilClose,
        };
        // A client that was not told to continue may send the body all the same, or not.
        let unsure = self.continue_due.take();
        let keep_alive = terms.keep_alive
            && !unsure
            && framing != Framing::UntilClose
            && !self.peer.shared.is_winding_up()
            && !self.has_too_much_left()
            && head.headers.get(CONNECTION).is_none_or(|value| value != "close");
        self.write_head(&head, &decoration, terms.version, framing, keep_alive);
        self.peer.worker.reuse_headers(head.headers);
        let mut sending = Sending {
            complete: framing == Framing::None || framing == Framing::Length(0),
            chunked: framing == Framing::Chunked,
            broken: false,
            body: pin!(body),
        };
        let end = poll_fn(|cx| self.poll_send(cx, &mut sending)).await;
        match end {
            // A body that ends with the connection looks whole however it ends, unless it ends
            // with a reset.
            Some(End::Close) if framing == Framing::UntilClose => {
                self.wire.borrow().socket.reset_on_drop();
                Some(End::Abort)
            }
            Some(end) => Some(end),
            None if keep_alive => None,
            None if self.has_read_all() && !unsure => Some(End::Close),
            None => Some(End::Linger),
        }
    }

    /// Sends the body. `Close` where it broke off, `Abort` where the client did.
    fn poll_send(&self, cx: &mut Context<'_>, sending: &mut Sending<'_>) -> Poll<Option<End>> {
        while !sending.complete && !sending.broken {
            if !self.outlet.borrow().has_room() && ready!(self.poll_flush(cx)).is_err() {
                return Poll::Ready(Some(End::Abort));
            }
            match sending.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => sending.put(frame, &mut self.outlet.borrow_mut()),
                Poll::Ready(Some(Err(_))) => sending.broken = true,
                Poll::Ready(None) => sending.end(&mut self.outlet.borrow_mut()),
                Poll::Pending => {
                    if ready!(self.poll_flush(cx)).is_ok() {
                        ready!(self.poll_gone(cx));
                    }
                    return Poll::Ready(Some(End::Abort));
                }
            }
        }
        let flushed = ready!(self.poll_flush(cx));
        Poll::Ready(match (flushed, sending.broken) {
            (Err(_), _) => Some(End::Abort),
            (Ok(()), true) => Some(End::Close),
            (Ok(()), false) => None,
        })
    }

    fn write_head(
        &self,
        head: &http::response::Parts,
        decoration: &Decoration,
        version: Version,
        framing: Framing,
        keep_alive: bool,
    ) {
        let mut outlet = self.outlet.borrow_mut();
        let out = outlet.end();
        out.reserve(HEAD_BYTES_USUAL);
        let reason = head.extensions.get::<Reason>().map(|reason| &*reason.0);
        encode::status_line(out, version, head.status, reason);
        let mut dated = false;
        encode::message_fields(out, &head.headers, framing, |name| {
            dated |= *name == DATE;
            *name == CONNECTION
                || (*name == CONTENT_LENGTH && head.status == StatusCode::NO_CONTENT)
                || decoration.replaces(name)
        });
        for edit in decoration.additions(&head.headers) {
            encode::field(out, edit.name.as_str(), edit.value.as_bytes());
        }
        if !dated {
            encode::field(out, "date", &self.peer.worker.http_date());
        }
        match (version, keep_alive) {
            (Version::HTTP_10, true) => encode::field(out, "connection", b"keep-alive"),
            (Version::HTTP_10, false) | (_, true) => {}
            (_, false) => encode::field(out, "connection", b"close"),
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether the client has sent nothing that was not read: what is unread when a socket closes
    /// makes the kernel reset it, and the client may lose its answer.
    fn has_read_all(&self) -> bool {
        self.body.borrow().has_ended() && self.wire.borrow().unread.is_empty()
    }

    /// Whether more of the request's body is to come than is worth throwing away.
    fn has_too_much_left(self: &Rc<Self>) -> bool {
        let left = self.body.borrow().size_hint();
        left.exact().is_none_or(|left| left > DRAIN_BYTES_MAX) && !self.is_read()
    }

    /// Whether somebody has the request's body, and may read on.
    fn is_read(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1
    }

    /// Waits for the end of the request's body.
    fn poll_rest(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<Option<End>> {
        if !self.body.borrow().has_ended() && self.is_read() {
            self.waiting.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        if self.has_too_much_left() {
            return Poll::Ready(Some(End::Linger));
        }
        let mut body = self.body.borrow_mut();
        while !body.has_ended() {
            match ready!(body.poll_frame(&mut self.wire.borrow_mut(), cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) => return Poll::Ready(Some(End::Abort)),
                None => break,
            }
        }
        Poll::Ready(None)
    }

    async fn close(&self, end: End) {
        if matches!(end, End::Abort) {
            return;
        }
        if poll_fn(|cx| self.wire.borrow_mut().poll_shutdown(cx)).await.is_err() {
            return;
        }
        if matches!(end, End::Linger) {
            self.peer.shared.linger_began();
            let mut left = LINGER_BYTES_MAX;
            poll_fn(|cx| self.wire.borrow_mut().poll_discard(cx, &mut left)).await;
        }
    }
}

/// Most heads of responses are smaller.
const HEAD_BYTES_USUAL: usize = 1024;

/// The body of a response on its way.
struct Sending<'a> {
    body: Pin<&'a mut ResponseBody>,
    chunked: bool,
    complete: bool,
    /// It ended before its end.
    broken: bool,
}

impl Sending<'_> {
    /// Puts a frame into `outlet`, which has room.
    fn put(&mut self, frame: Frame<Bytes>, outlet: &mut Outlet) {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) if self.chunked => {
                encode::chunk_size(outlet.end(), data.len());
                outlet.push(data);
                outlet.end().extend_from_slice(b"\r\n");
            }
            Ok(data) => outlet.push(data),
            // Trailers stay behind: whether the client reads them is not known.
            Err(_) => {}
        }
        if self.body.is_end_stream() {
            self.end(outlet);
        }
    }

    fn end(&mut self, outlet: &mut Outlet) {
        if self.chunked {
            outlet.end().extend_from_slice(encode::LAST_CHUNK);
        }
        self.complete = true;
    }
}

/// The body of the request that is being answered.
pub(crate) struct Upload {
    link: Rc<Link>,
    number: u64,
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(waiting) = self.link.waiting.take() {
            waiting.wake();
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let link = &*self.link;
        if self.number != link.number.get() {
            return Poll::Ready(Some(Err(BodyError::Truncated)));
        }
        let mut wire = link.wire.borrow_mut();
        if link.continue_due.take() && wire.unread.is_empty() {
            let mut outlet = link.outlet.borrow_mut();
            outlet.end().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            // What does not go now goes with the answer.
            if let Poll::Ready(Err(error)) = wire.poll_flush(cx, &mut outlet) {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        let mut body = link.body.borrow_mut();
        let frame = ready!(body.poll_frame(&mut wire, cx));
        let gone =
            frame.as_ref().is_some_and(|frame| frame.as_ref().is_err_and(BodyError::is_gone));
        link.gone.set(gone);
        if (gone || body.has_ended())
            && let Some(waiting) = link.waiting.take()
        {
            waiting.wake();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.link.body.borrow().has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.link.body.borrow().size_hint()
    }
}
