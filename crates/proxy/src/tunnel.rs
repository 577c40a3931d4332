//! WebSocket and other upgrades: bytes both ways, once the service has agreed with its 101.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue};

use crate::flight::Flight;
use crate::forward;
use crate::http1::wire::Wire;
use crate::upstream::pool::Lease;

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

/// Makes the service's 101 ours. `false` where it does not say to what it switches.
pub(crate) fn settle(headers: &mut HeaderMap) -> bool {
    let Some(protocol) = headers.get(UPGRADE).cloned() else { return false };
    forward::strip_hop_by_hop(headers);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
    true
}

/// Copies bytes both ways until both sides have ended, or one of them with a fault.
///
/// The flight is held as long, and with it the permits of its request: an open WebSocket is a
/// request under way.
pub(crate) async fn run(flight: &Flight, mut client: Wire, lease: Lease) {
    let Some(mut service) = lease.into_wire() else { return };
    let shard = &flight.worker.shard;
    shard.tunnels_open.add(1);
    // Either side may end it at any time; a reset is an end like any other.
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut service).await {
        tracing::debug!(%error, "tunnel ended");
    }
    shard.tunnels_open.sub(1);
}
