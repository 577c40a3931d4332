//! The gateway's own resources, below `/.seaworthy/` on the traffic port.
//!
//! `problems/<code>` explains a problem's `type`, `deprecations` the rules that are going to be
//! enforced, and `me` shows a client what of its own would be denied. The rest is what the
//! protections serve there (a CSRF token, a place for CSP reports). Nothing below the prefix ever reaches the service.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderValue, Method, StatusCode};
use seaworthy_policy::content::Unread;
use seaworthy_policy::problem::{self, Code, Denial, Rendering};
use seaworthy_policy::protection::{Answer, Request};
use seaworthy_policy::record::Verdict;
use seaworthy_policy::target::OWN_PREFIX;

use crate::body::{BodyEnded, Held, RequestBody};
use crate::chain::{self, Stance};
use crate::exchange::page;
use crate::flight::Flight;

mod deprecations;
mod me;

/// The largest body that one of these resources reads.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The longest that a client may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a request for a resource of the gateway.
pub(crate) async fn answer(
    flight: &Rc<Flight>,
    request: &Request<'_>,
    mut body: RequestBody,
) -> Result<Answer, Denial> {
    let path = request.target.path().strip_prefix(OWN_PREFIX).unwrap_or_default();
    if let Some(code) = path.strip_prefix("problems/")
        && let Some(code) = Code::from_name(code)
        && matches!(*request.method, Method::GET | Method::HEAD)
    {
        let content = problem::explain(code.entry());
        return Ok(page(StatusCode::OK, "text/html; charset=utf-8", content));
    }
    let snapshot = &flight.view.snapshot;
    let rendering = Rendering::for_request(request.headers);
    if snapshot.announces && matches!(*request.method, Method::GET | Method::HEAD) {
        let content = match path {
            "deprecations" => Some(deprecations::answer(snapshot, rendering)),
            "me" => Some(me::answer(&flight.worker.findings, flight.client.key, rendering)?),
            _ => None,
        };
        if let Some(content) = content {
            let mut answer = page(StatusCode::OK, rendering.page_type(), content);
            answer.headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
            answer.headers.push((VARY, HeaderValue::from_static("accept")));
            return Ok(answer);
        }
    }
    let body = read(flight, &mut body).await?;
    for link in flight.chain().links() {
        let Some(Stance { lane, .. }) = chain::stance(snapshot, link, flight.client.key) else {
            continue;
        };
        let mode = snapshot.modes.get(link.rule);
        let Some(served) = link.version(lane).protection.serve(path, request, &body) else {
            continue;
        };
        if let Some(more) = served.would_deny.checked_sub(1) {
            // The record itself carries one.
            flight.judgement.borrow_mut().verdicts.set(link.position, Verdict::WouldDeny);
            flight.worker.shard.would_deny_many(link.rule, mode, more);
        }
        return Ok(served.answer);
    }
    Err(Denial::new(Code::NotFound, ""))
}

async fn read(flight: &Rc<Flight>, body: &mut RequestBody) -> Result<Bytes, Denial> {
    let mut held = Held::none(Rc::clone(&flight.worker));
    let read = tokio::time::timeout(BODY_TIMEOUT, body.read(&mut held, BODY_BYTES_MAX)).await;
    match read {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Ok(Err(Unread::TooLarge { .. }))) => {
            Err(Denial::new(Code::BodyTooLarge, "A body of at most 64 KiB is accepted here."))
        }
        Ok(Ok(Err(unread))) => Err(unread.denial()),
        // There is nobody to answer, and the connection gives the exchange up.
        Ok(Err(BodyEnded)) if flight.client_gone.get() => std::future::pending().await,
        Ok(Err(BodyEnded)) => Err(flight.body_denial()),
        Err(_) => Err(Denial::new(Code::BodyTimeout, "")),
    }
}
