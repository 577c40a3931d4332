//! Addresses to listen on: an IP address and a port, no names.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de};

/// Says what an address looks like where the standard library only says that it is none.
pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        de::Error::custom(format!(
            "expected an address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\", not {text:?}"
        ))
    })
}
