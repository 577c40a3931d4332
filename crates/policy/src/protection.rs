//! What every protection is: a check of a request, and at most five more things it can ask for.
//!
//! A protection never sees its mode. It returns an [`Outcome`] and may leave wishes in
//! [`Effects`] and [`Edits`]; the data plane's chain is the only place where a mode decides
//! what becomes of them. So each protection is judged in `warn` exactly as it will enforce.

use std::any::Any;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::Moment;
use crate::client::Client;
use crate::content::Content;
use crate::problem::Denial;
use crate::record::RouteId;
use crate::target::Target;

/// One compiled protection. Its state (buckets, counters) is its own and is shared by all
/// workers without locks.
pub trait Protection: Send + Sync {
    /// Whether its settings leave it nothing to do for any request. It is then in no chain: a
    /// protection that nobody has configured costs nothing.
    fn is_inert(&self) -> bool {
        false
    }

    /// Whether [`Self::check`] has to see the body of this request. It is then read whole, up to
    /// a bound; [`Request::content`] says what became of it.
    fn reads_body(&self, _request: &Request<'_>) -> bool {
        false
    }

    /// Judges a request. Runs once for each request, before the service is asked.
    fn check(&self, request: &Request<'_>, effects: &mut Effects) -> Outcome;

    /// Where this is a number, a check takes milliseconds. So a rule that only judges a client
    /// judges one of so many requests, after the answer and off the path of all requests; what its
    /// check leaves in [`Effects`] then goes nowhere.
    fn sampling(&self) -> Option<NonZeroU32> {
        None
    }

    /// How often each part of this protection has found something, for those that have parts with
    /// names of their own.
    fn counts(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// What of its settings does nothing here: clauses for the operator's log, a few lines at most.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// What adds the response headers that do not depend on the request; the others are left in
    /// [`Effects::headers`] by `check`.
    fn decorator(&self) -> Option<&dyn Decorate> {
        None
    }

    /// The request for which `check` left `token` in [`Effects`] is over; `served` says whether the
    /// service did what it was asked.
    fn settled(&self, _token: u64, _served: bool) {}

    /// Words the denial for a bound that this protection set in [`Effects`] and that was
    /// crossed afterwards.
    fn crossed(&self, bound: Bound) -> Denial {
        unreachable!("{bound:?} was crossed, but this protection sets no bound")
    }

    /// What it judges by, where that is not all of its settings and of the files that they name: a
    /// change of the rest is none of this rule's.
    fn policy(&self) -> Option<[u8; 32]> {
        None
    }

    /// What its next version is to remember: a change of settings or secrets makes a new one.
    fn memory(&self) -> Option<Memory> {
        None
    }

    /// Answers `path` below `/.seaworthy/`, where this protection has a page there. `body` is
    /// the whole request body, at most 64 KiB.
    fn serve(&self, _path: &str, _request: &Request<'_>, _body: &[u8]) -> Option<Served> {
        None
    }
}

/// A protection that adds headers to responses.
pub trait Decorate {
    /// Runs once for each response.
    fn decorate(&self, response: &Response<'_>, edits: &mut Edits<'_>);
}

/// What a protection keeps over a change of its settings, for [`BuildContext::memory`].
///
/// [`BuildContext::memory`]: crate::registry::BuildContext::memory
pub type Memory = Arc<dyn Any + Send + Sync>;

/// A request as the checks see it: what the upstream will get, hop-by-hop headers gone.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a Method,
    pub target: &'a Target,
    /// Host and port as the client named them, lower case, from `:authority` or `Host`.
    pub authority: &'a str,
    pub scheme: Scheme,
    pub headers: &'a HeaderMap,
    pub client: &'a Client,
    /// The address on the socket, before any forwarding was believed.
    pub peer: IpAddr,
    pub route: RouteId,
    pub body: BodyLength,
    pub content: &'a Content,
    pub now: Moment,
    /// Unix time in seconds, for what outlives the process.
    pub unix_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What the head says of the body's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    None,
    Declared(u64),
    /// Chunked, or an HTTP/2 stream without a Content-Length.
    Unknown,
}

/// What a protection says of a request.
#[derive(Debug)]
pub enum Outcome {
    /// Not this protection's business: it leaves no evidence.
    NotApplicable,
    Allow,
    Deny(Denial),
    /// The gateway can answer by itself (a preflight). In `warn` the service is asked instead.
    Answer(Answer),
}

/// A whole response of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

/// What [`Protection::serve`] made of a request for one of its pages.
#[derive(Debug)]
pub struct Served {
    pub answer: Answer,
    /// Would-denials to add to the rule's evidence: a browser's reports of what a policy in
    /// `warn` would have blocked.
    pub would_deny: u32,
}

/// What a check leaves behind for the rest of the exchange.
#[derive(Debug, Default)]
pub struct Effects {
    /// Response headers that depend on the request.
    pub headers: ArrayVec<Edit, 10>,
    /// The service has to start answering within this time.
    pub deadline: Option<Duration>,
    /// The request body may have this many bytes.
    pub body_max: Option<u64>,
    /// Held until the response has been sent.
    pub permit: Option<Permit>,
    /// Handed to [`Protection::settled`] when the request is over.
    pub token: Option<u64>,
    /// What the service and the rules behind this one see in place of what was sent, where the
    /// rule enforces. Boxed, as it is large and rare.
    pub rewrite: Option<Box<Rewrite>>,
}

/// Parts of a request in another spelling; what is `None` stays.
#[derive(Debug)]
pub struct Rewrite {
    pub content: Option<Content>,
    pub target: Option<Target>,
}

/// A bound of [`Effects`] that a request crossed after its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// [`Effects::deadline`], the whole of it.
    Deadline(Duration),
    /// [`Effects::body_max`].
    BodyMax(u64),
}

/// Counts a request against a limit on how many run at once; dropping it gives the place back.
pub struct Permit(Arc<dyn Release>, u32);

/// Takes back the place that a [`Permit`] held.
pub trait Release: Send + Sync {
    fn release(&self, slot: u32);
}

impl Permit {
    /// A permit for the place `slot` of `owner`.
    pub fn new(owner: Arc<dyn Release>, slot: u32) -> Self {
        Self(owner, slot)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Permit({})", self.1)
    }
}

/// One change to a response's headers.
#[derive(Clone, Debug)]
pub struct Edit {
    pub name: HeaderName,
    pub value: HeaderValue,
    pub apply: Apply,
    pub conflict: Conflict,
}

/// In which mode an edit is made. `off` makes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// Where the rule enforces for this client.
    Enforced,
    /// Where the rule only judges this client: report-only forms.
    Judged,
}

/// What happens where the service has set the header itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The service knows better.
    KeepService,
    Replace,
    /// Adds the value to those that are there, once (`Vary`).
    Append,
}

/// A response as [`Decorate::decorate`] sees it: the service's, or the gateway's own.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    /// The scheme that the client used.
    pub scheme: Scheme,
}

/// Collects the edits of [`Decorate::decorate`].
///
/// The chain hands one to each protection, knowing the mode; the protection names both the
/// enforced and the judged form, and the one that does not apply goes nowhere.
pub struct Edits<'a> {
    sink: &'a mut dyn FnMut(Apply, Conflict, &HeaderName, &HeaderValue),
}

impl<'a> Edits<'a> {
    pub fn new(sink: &'a mut dyn FnMut(Apply, Conflict, &HeaderName, &HeaderValue)) -> Self {
        Self { sink }
    }

    pub fn add(
        &mut self,
        apply: Apply,
        conflict: Conflict,
        name: &HeaderName,
        value: &HeaderValue,
    ) {
        (self.sink)(apply, conflict, name, value);
    }
}
