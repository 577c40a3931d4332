//! The headers that a proxy takes away and puts in (RFC 9110, 7.6; RFC 7239).
//!
//! 1. Hop-by-hop fields, and those that `Connection` names, are gone before any check looks, in
//!    both directions: what was checked is what is sent.
//! 2. Only then are our own fields set, so that a client cannot strike them out.
//! 3. `X-Forwarded-*` and `Forwarded` of a peer that is not a trusted proxy are replaced, of a
//!    trusted one they are continued.
//! 4. `Via` is appended, and a request that already carries our name has come in a circle.

use std::fmt::Write as _;
use std::net::IpAddr;

use arrayvec::ArrayString;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use seaworthy_policy::protection::Scheme;
use seaworthy_policy::record::RequestId;
use seaworthy_policy::trace_context::TraceContext;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Names that a `Connection` field may list; more is an attack on the other fields.
const CONNECTION_NAMES_MAX: usize = 16;

/// Takes out what ends at this hop. Returns the protocol that an upgrade asks for.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    // Most heads have none of them, and one pass costs less than one look-up.
    if !headers.keys().any(ends_here) {
        return None;
    }
    let upgrade = strip_named(headers);
    // `te: trailers` is the one value with a meaning beyond this hop (gRPC relies on it).
    let trailers = headers.get(TE).is_some_and(|value| value == "trailers");
    while let Some(name) = headers.keys().find(|name| ends_here(name) && **name != TE).cloned() {
        headers.remove(name);
    }
    if !trailers {
        headers.remove(TE);
    }
    upgrade
}

/// Whether a field means this hop alone.
fn ends_here(name: &HeaderName) -> bool {
    match *name {
        CONNECTION | TE | TRAILER | TRANSFER_ENCODING | UPGRADE => true,
        PROXY_AUTHENTICATE | PROXY_AUTHORIZATION => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings"),
    }
}

/// Makes the fields of a request fit a body that the gateway has put in place of the client's: it
/// has `length` bytes and no coding, and the client's digests were of another one.
pub(crate) fn settle_body(headers: &mut HeaderMap, length: usize) {
    const DIGESTS: [&str; 3] = ["content-digest", "content-md5", "digest"];
    headers.remove(CONTENT_ENCODING);
    for name in DIGESTS {
        headers.remove(name);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

/// Makes one field of cookies that came apart: HTTP/2 lets clients send them one by one, and no
/// other protocol does (RFC 9113, 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    let joined = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined));
    headers.insert(COOKIE, joined.expect("bytes of field values make a field value"));
}

/// Takes out `Connection`, what it names, and `Upgrade`.
fn strip_named(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.remove(UPGRADE);
    if !headers.contains_key(CONNECTION) {
        return None;
    }
    let mut names = arrayvec::ArrayVec::<HeaderName, CONNECTION_NAMES_MAX>::new();
    let mut upgrades = false;
    for value in headers.get_all(CONNECTION) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            upgrades |= option.eq_ignore_ascii_case(b"upgrade");
            let usual = option.eq_ignore_ascii_case(b"keep-alive")
                || option.eq_ignore_ascii_case(b"close")
                || option.eq_ignore_ascii_case(b"upgrade");
            if !usual
                && let Ok(name) = HeaderName::from_bytes(option)
                && !names.is_full()
            {
                names.push(name);
            }
        }
    }
    headers.remove(CONNECTION);
    for name in names {
        // Host belongs to the request line in all but spelling; it cannot be struck out.
        if name != HOST && name != TE {
            headers.remove(name);
        }
    }
    upgrade.filter(|_| upgrades)
}

/// What a request says of its way here, in our words.
#[derive(Clone, Copy)]
pub(crate) struct Hop<'a> {
    pub(crate) peer: &'a PeerText,
    pub(crate) trusted: bool,
    pub(crate) scheme: Scheme,
    pub(crate) authority: &'a str,
    pub(crate) version: Version,
    pub(crate) pseudonym: &'a str,
    pub(crate) request_id: &'a RequestId,
    pub(crate) trace: TraceContext,
    /// The incoming `traceparent` was not valid, so `tracestate` has lost its meaning.
    pub(crate) trace_restarted: bool,
}

/// The address on the other end of a connection, as fields name it. Written once for all of
/// its requests.
#[derive(Debug)]
pub(crate) struct PeerText {
    ip: ArrayString<40>,
    /// `for=192.0.2.60`, `for="[2001:db8::1]"`
    element: ArrayString<48>,
}

impl PeerText {
    pub(crate) fn new(ip: IpAddr) -> Self {
        let mut text = Self { ip: ArrayString::new(), element: ArrayString::new() };
        let ip = ip.to_canonical();
        let written = write!(text.ip, "{ip}").and_then(|()| match ip {
            IpAddr::V4(ip) => write!(text.element, "for={ip}"),
            IpAddr::V6(ip) => write!(text.element, "for=\"[{ip}]\""),
        });
        written.expect("an address has at most 39 characters");
        text
    }
}

/// Whether [`own_fields`] says what becomes of a field.
pub(crate) fn is_own(name: &HeaderName) -> bool {
    match *name {
        EXPECT | FORWARDED | VIA => true,
        _ => matches!(
            name.as_str(),
            "x-forwarded-for"
                | "x-forwarded-proto"
                | "x-forwarded-host"
                | "x-request-id"
                | "traceparent"
                | "tracestate"
        ),
    }
}

/// Gives `set` our own fields for a request to the service, in place of those that `headers` has
/// of them. `Expect` goes: the gateway answers it by itself once it reads the body.
pub(crate) fn own_fields(
    headers: &HeaderMap,
    hop: &Hop<'_>,
    mut set: impl FnMut(&HeaderName, &[u8]),
) {
    if hop.trusted {
        set(&X_FORWARDED_FOR, &joined(headers, &X_FORWARDED_FOR, &hop.peer.ip));
        if headers.contains_key(FORWARDED) {
            set(&FORWARDED, &joined(headers, &FORWARDED, &hop.peer.element));
        }
    } else {
        set(&X_FORWARDED_FOR, hop.peer.ip.as_bytes());
    }
    for (name, ours) in
        [(X_FORWARDED_PROTO, hop.scheme.as_str()), (X_FORWARDED_HOST, hop.authority)]
    {
        if hop.trusted && headers.contains_key(&name) {
            for given in headers.get_all(&name) {
                set(&name, given.as_bytes());
            }
        } else {
            set(&name, ours.as_bytes());
        }
    }
    let via = via(hop.version, hop.pseudonym);
    if headers.contains_key(VIA) {
        set(&VIA, &joined(headers, &VIA, &via));
    } else {
        set(&VIA, via.as_bytes());
    }
    set(&X_REQUEST_ID, hop.request_id.as_bytes());
    set(&TRACEPARENT, &hop.trace.to_bytes());
    if !hop.trace_restarted {
        for state in headers.get_all(TRACESTATE) {
            set(&TRACESTATE, state.as_bytes());
        }
    }
}

/// `headers` with our own fields set.
pub(crate) fn with_own(headers: &HeaderMap, hop: &Hop<'_>) -> HeaderMap {
    let mut with = HeaderMap::with_capacity(headers.len() + OWN_FIELDS_MAX);
    for (name, value) in headers.iter().filter(|(name, _)| !is_own(name)) {
        with.append(name.clone(), value.clone());
    }
    own_fields(headers, hop, |name, value| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            with.append(name.clone(), value);
        }
    });
    with
}

const OWN_FIELDS_MAX: usize = 8;

/// `1.1 seaworthy-1a2b3c4d`
pub(crate) fn via(version: Version, pseudonym: &str) -> ArrayString<48> {
    let received = match version {
        Version::HTTP_2 => "2 ",
        Version::HTTP_10 => "1.0 ",
        _ => "1.1 ",
    };
    let mut via = ArrayString::new();
    via.push_str(received);
    // It has at most 40 characters.
    via.push_str(pseudonym);
    via
}

/// Whether this gateway is named in `Via` already.
pub(crate) fn has_passed(headers: &HeaderMap, pseudonym: &str) -> bool {
    headers.get_all(VIA).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|hop| {
            hop.trim_ascii().split(|byte| *byte == b' ').nth(1) == Some(pseudonym.as_bytes())
        })
    })
}

/// A list field with `item` added, in one line as old services expect it.
fn joined(headers: &HeaderMap, name: &HeaderName, item: &str) -> Vec<u8> {
    let mut joined = Vec::new();
    for value in headers.get_all(name) {
        joined.extend_from_slice(value.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(item.as_bytes());
    joined
}

/// An id that a trusted proxy gave the request, where it is one we would give.
pub(crate) fn accepted_request_id(headers: &HeaderMap) -> Option<RequestId> {
    let text = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = !text.is_empty() && text.bytes().all(plain);
    fits.then(|| RequestId::from(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn left(fields: &[(&str, &str)]) -> (Vec<String>, Option<HeaderValue>) {
        let mut headers = headers(fields);
        let upgrade = strip_hop_by_hop(&mut headers);
        let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
        names.sort();
        (names, upgrade)
    }

    #[test]
    fn what_ends_at_this_hop_is_taken_out() {
        let (names, upgrade) = left(&[
            ("host", "a"),
            ("connection", "close, x-secret"),
            ("connection", "X-Other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("x-kept", "1"),
        ]);
        assert_eq!(names, ["host", "x-kept"]);
        assert_eq!(upgrade, None, "upgrade without connection: upgrade is not one");
        let (names, upgrade) = left(&[
            ("connection", "Upgrade, host"),
            ("upgrade", "websocket"),
            ("host", "a"),
            ("te", "trailers"),
        ]);
        assert_eq!(names, ["host", "te"]);
        assert_eq!(upgrade.unwrap(), "websocket");
    }

    #[test]
    fn cookies_that_came_apart_are_joined() {
        for (crumbs, joined) in [
            (&["a=1", "b=2; c=3", "d=\"4\""][..], Some("a=1; b=2; c=3; d=\"4\"")),
            (&["a=1"], Some("a=1")),
            (&[], None),
        ] {
            let crumbs: Vec<_> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
            let mut headers = headers(&crumbs);
            join_cookies(&mut headers);
            let left: Vec<_> = headers.get_all(COOKIE).iter().collect();
            assert_eq!(left, joined.as_slice());
        }
    }

    fn hop(trusted: bool) -> Hop<'static> {
        use std::sync::LazyLock;
        static ID: LazyLock<RequestId> = LazyLock::new(|| RequestId::from("id-1").unwrap());
        static PEER: LazyLock<PeerText> =
            LazyLock::new(|| PeerText::new("10.0.0.9".parse().unwrap()));
        Hop {
            peer: &PEER,
            trusted,
            scheme: Scheme::Http,
            authority: "shop.example",
            version: Version::HTTP_11,
            pseudonym: "sw-1",
            request_id: &ID,
            trace: TraceContext::start(1, 2),
            trace_restarted: true,
        }
    }

    #[test]
    fn forwarding_is_continued_for_trusted_peers_and_replaced_for_others() {
        let sent = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("forwarded", "for=6.6.6.6"),
            ("tracestate", "a=b"),
            ("via", "1.0 front"),
        ];
        for (trusted, want) in [
            (false, ["10.0.0.9", "http", "shop.example"]),
            (true, ["6.6.6.6, 1.1.1.1, 10.0.0.9", "https", "evil.example"]),
        ] {
            let headers = with_own(&headers(&sent), &hop(trusted));
            for (name, want) in
                [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST].iter().zip(want)
            {
                assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [want], "{name}");
            }
            let forwarded = headers.get(FORWARDED).map(|value| value.to_str().unwrap());
            assert_eq!(forwarded, trusted.then_some("for=6.6.6.6, for=10.0.0.9"));
            assert_eq!(headers[VIA], "1.0 front, 1.1 sw-1");
            assert_eq!(headers[X_REQUEST_ID], "id-1");
            assert!(!headers.contains_key(TRACESTATE));
            assert!(has_passed(&headers, "sw-1") && !has_passed(&headers, "sw-2"));
        }
    }

    #[test]
    fn only_ids_like_ours_are_accepted() {
        let id = |text: &str| accepted_request_id(&headers(&[("x-request-id", text)]));
        assert_eq!(id("abc-1.2_3").unwrap().as_str(), "abc-1.2_3");
        assert!(id("").is_none() && id("a b").is_none() && id("a\"b").is_none());
        assert!(id(&"x".repeat(65)).is_none());
    }
}
