//! WebSocket and other upgrades: bytes both ways, once the service has agreed with its 101.

use std::rc::Rc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::ResponseBody;
use crate::flight::Flight;
use crate::forward;

/// Whether the gateway passes an upgrade to `protocol` on. HTTP/2 is not one of them: inside
/// a tunnel its requests would go past every check (h2c smuggling).
pub(crate) fn is_offered(protocol: &HeaderValue) -> bool {
    let mut protocols = protocol.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    !protocols.any(|protocol| {
        protocol.len() >= 2 && protocol[..2].eq_ignore_ascii_case(b"h2")
            || protocol.len() >= 4 && protocol[..4].eq_ignore_ascii_case(b"http")
            || protocol.len() >= 3 && protocol[..3].eq_ignore_ascii_case(b"tls")
    })
}

/// Turns the service's 101 into ours and starts the copying. Returns `None` where it does not
/// say to what it switches.
pub(crate) fn open(
    flight: &Rc<Flight>,
    mut response: Response<Incoming>,
    client: OnUpgrade,
) -> Option<Response<ResponseBody>> {
    let protocol = response.headers().get(UPGRADE).cloned()?;
    let service = hyper::upgrade::on(&mut response);
    // The flight is held as long as the tunnel is open, and with it the permits of its request:
    // an open WebSocket is a request under way. It counts as a connection of its own, too, so
    // that a drain waits for it.
    let held = Rc::clone(flight);
    tokio::task::spawn_local(async move {
        let worker = Rc::clone(&held.worker);
        let _registered = worker.register();
        let (Ok(client), Ok(service)) = (client.await, service.await) else { return };
        worker.shard.tunnels_open.add(1);
        let (mut client, mut service) = (TokioIo::new(client), TokioIo::new(service));
        // Either side may end it at any time; a reset is an end like any other.
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut service).await {
            tracing::debug!(%error, "tunnel ended");
        }
        worker.shard.tunnels_open.sub(1);
    });
    let (mut head, _) = response.into_parts();
    forward::strip_hop_by_hop(&mut head.headers);
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, protocol);
    let body = ResponseBody::whole(bytes::Bytes::new(), Rc::clone(flight));
    Some(Response::from_parts(head, body))
}
