//! The gateway's own resources, below `/.seaworthy/` on the traffic port.
//!
//! `problems/<code>` explains a problem's `type`; the rest is what the protections serve there
//! (a CSRF token, a place for CSP reports). Nothing below the prefix ever reaches the service.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use seaworthy_policy::mode::Mode;
use seaworthy_policy::problem::{self, Code, Denial};
use seaworthy_policy::protection::{Answer, Request};
use seaworthy_policy::record::Verdict;

use crate::body::{BrokenBody, ClientBody};
use crate::exchange::page;
use crate::flight::Flight;

pub(crate) const PREFIX: &str = "/.seaworthy/";

/// The largest body that one of these resources reads.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The longest that a client may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a request for a resource of the gateway.
pub(crate) async fn answer(
    flight: &Rc<Flight>,
    request: &Request<'_>,
    body: ClientBody,
) -> Result<Answer, Denial> {
    let path = request.target.path().strip_prefix(PREFIX).unwrap_or_default();
    if let Some(code) = path.strip_prefix("problems/")
        && let Some(code) = Code::from_name(code)
        && matches!(*request.method, Method::GET | Method::HEAD)
    {
        let content = problem::explain(code.entry());
        return Ok(page(StatusCode::OK, "text/html; charset=utf-8", content));
    }
    let body = collect(body).await?;
    let snapshot = &flight.view.snapshot;
    for link in &flight.route().links {
        let mode = snapshot.modes.get(link.rule);
        if mode == Mode::Off {
            continue;
        }
        let Some(served) = link.protection.serve(path, request, &body) else { continue };
        if let Some(more) = served.would_deny.checked_sub(1) {
            // The record itself carries one.
            flight.judgement.borrow_mut().verdicts.set(link.position, Verdict::WouldDeny);
            flight.worker.shard.would_deny_many(link.rule, mode, more);
        }
        return Ok(served.answer);
    }
    Err(Denial::new(Code::NotFound, ""))
}

async fn collect(body: ClientBody) -> Result<Bytes, Denial> {
    let limited = Limited::new(body, BODY_BYTES_MAX);
    let collected = tokio::time::timeout(BODY_TIMEOUT, limited.collect())
        .await
        .map_err(|_| Denial::new(Code::BodyTimeout, ""))?;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Denial::new(Code::BodyTooLarge, "A body of at most 64 KiB is accepted here."))
        }
        // There is nobody to answer, and the connection gives the exchange up.
        Err(error) if error.downcast_ref().is_some_and(BrokenBody::is_gone) => {
            std::future::pending().await
        }
        Err(error) => Err(Denial::new(Code::MalformedBody, "").internal(error.to_string())),
    }
}
