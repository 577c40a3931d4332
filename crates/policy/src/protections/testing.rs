//! Requests for the tests' tables, and outcomes short enough to be written in one.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::Moment;
use crate::client::{Client, ClientKey, prefix};
use crate::content::{Body, Content, Unread};
use crate::problem::Denial;
use crate::protection::{
    BodyLength, Edits, Effects, Outcome, Protection, Request, Response, Scheme,
};
use crate::record::{RouteId, Tenant};
use crate::registry::{BuildContext, Entry, InstallKey, Protect};
use crate::source::Sources;
use crate::target::Target;

/// Header fields as a table writes them.
pub(crate) type Fields<'a> = &'a [(&'a str, &'a str)];

/// A request that owns its parts. A test changes the fields that its case is about.
pub(crate) struct Sample {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) authority: String,
    pub(crate) scheme: Scheme,
    pub(crate) headers: HeaderMap,
    pub(crate) client: Client,
    pub(crate) route: RouteId,
    pub(crate) body: BodyLength,
    pub(crate) content: Content,
    pub(crate) now: Moment,
    pub(crate) unix_s: u64,
}

impl Sample {
    /// A request of nobody in particular to `http://app.example`.
    pub(crate) fn new(method: &str, target: &str, headers: Fields<'_>) -> Self {
        let ip: IpAddr = "203.0.113.7".parse().unwrap();
        Self {
            method: method.parse().unwrap(),
            target: Target::parse(&target.parse().unwrap()).unwrap(),
            authority: "app.example".to_owned(),
            scheme: Scheme::Http,
            headers: fields(headers),
            client: Client {
                key: ClientKey::Ip(ip),
                ip,
                tenant: Tenant::new(),
                via_trusted_proxy: false,
            },
            route: RouteId(0),
            body: BodyLength::None,
            content: Content::Empty,
            now: Moment::START,
            unix_s: 1_800_000_000,
        }
    }

    /// The most bytes of a body that is read.
    pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;

    /// With `body` as the data plane hands it to the checks.
    pub(crate) fn with_body(mut self, body: &[u8]) -> Self {
        self.body = BodyLength::Declared(body.len() as u64);
        let bytes_max = Self::BODY_BYTES_MAX;
        let read = if body.len() > bytes_max {
            Err(Unread::TooLarge { bytes_max })
        } else {
            Body::read(Bytes::copy_from_slice(body), &self.headers, bytes_max)
        };
        self.content = read.map_or_else(Content::Unread, Content::Read);
        self
    }

    pub(crate) fn with_ip(mut self, ip: &str) -> Self {
        self.client.ip = ip.parse().unwrap();
        self.client.key = ClientKey::Ip(prefix(self.client.ip));
        self
    }

    pub(crate) fn with_tenant(mut self, tenant: &str) -> Self {
        self.client.tenant = Tenant::from(tenant).unwrap();
        self
    }

    pub(crate) fn at(mut self, scheme: Scheme, authority: &str) -> Self {
        self.scheme = scheme;
        self.authority = authority.to_owned();
        self
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: &self.target,
            authority: &self.authority,
            scheme: self.scheme,
            headers: &self.headers,
            client: &self.client,
            peer: self.client.ip,
            route: self.route,
            body: self.body,
            content: &self.content,
            now: self.now,
            unix_s: self.unix_s,
        }
    }

    /// What `protection` says: `n/a`, `allow`, the status of an answer, or the code of a denial.
    pub(crate) fn verdict(&self, protection: &dyn Protection) -> String {
        self.check(protection).0
    }

    /// The verdict, and what the check left behind.
    pub(crate) fn check(&self, protection: &dyn Protection) -> (String, Effects) {
        let mut effects = Effects::default();
        let verdict = match protection.check(&self.request(), &mut effects) {
            Outcome::NotApplicable => "n/a".to_owned(),
            Outcome::Allow => "allow".to_owned(),
            Outcome::Answer(answer) => answer.status.as_u16().to_string(),
            Outcome::Deny(denial) => denial.code.name().to_owned(),
        };
        (verdict, effects)
    }

    /// The denial that the case is about.
    pub(crate) fn denial(&self, protection: &dyn Protection) -> Denial {
        match protection.check(&self.request(), &mut Effects::default()) {
            Outcome::Deny(denial) => denial,
            other => panic!("expected a denial, not {other:?}"),
        }
    }
}

pub(crate) fn fields(fields: Fields<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

/// The protection of `entry` with these lines in its section of the config, or what is said of
/// the fault in them.
pub(crate) fn try_build(entry: &Entry, lines: &str) -> Result<Arc<dyn Protection>, String> {
    let section = format!("[{}]\n{lines}", entry.name);
    let protect: Protect = toml::from_str(&section).map_err(|error| error.to_string())?;
    try_build_with(entry, &protect, &Sources::default())
}

/// As [`try_build`], with what the settings name.
pub(crate) fn try_build_with(
    entry: &Entry,
    protect: &Protect,
    sources: &Sources,
) -> Result<Arc<dyn Protection>, String> {
    let key = InstallKey::new([1; 32]);
    (entry.build)(
        protect,
        &BuildContext { key: &key, memory: None, operations_apart: false, sources },
    )
    .map_err(|errors| errors.to_string())
}

pub(crate) fn build(entry: &Entry, lines: &str) -> Arc<dyn Protection> {
    try_build(entry, lines).unwrap_or_else(|fault| panic!("{lines}: {fault}"))
}

/// What is said of the fault in `lines`.
pub(crate) fn fault(entry: &Entry, lines: &str) -> String {
    match try_build(entry, lines) {
        Ok(_) => panic!("{lines} was taken"),
        Err(fault) => fault,
    }
}

/// The edits that a check left, as `name: value`.
pub(crate) fn edits(effects: &Effects) -> Vec<String> {
    let text =
        |edit: &crate::protection::Edit| format!("{}: {}", edit.name, edit.value.to_str().unwrap());
    effects.headers.iter().map(text).collect()
}

/// What `protection` adds to a response with these headers: `Enforced KeepService name: value`.
pub(crate) fn decorate(
    protection: &dyn Protection,
    scheme: Scheme,
    headers: Fields<'_>,
) -> Vec<String> {
    let headers = fields(headers);
    let mut added = Vec::new();
    let mut sink = |apply, conflict, name: &HeaderName, value: &http::HeaderValue| {
        added.push(format!("{apply:?} {conflict:?} {name}: {}", value.to_str().unwrap()));
    };
    let response = Response { status: StatusCode::OK, headers: &headers, scheme };
    if let Some(decorator) = protection.decorator() {
        decorator.decorate(&response, &mut Edits::new(&mut sink));
    }
    added
}
