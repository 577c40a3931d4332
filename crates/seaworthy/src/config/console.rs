//! `[console]`: the port for operators, with its pages, API and metrics.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::addr;
use super::check::Checks;

/// `[console]` of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Console {
    /// Loopback by default, and nothing else as long as the console has no login.
    #[serde(deserialize_with = "addr::read")]
    pub addr: SocketAddr,
}

impl Default for Console {
    fn default() -> Self {
        Self { addr: SocketAddr::from(([127, 0, 0, 1], 9900)) }
    }
}

impl Console {
    pub(crate) fn check(&self, checks: &mut Checks<'_>) {
        let port = self.addr.port();
        checks.require(
            self.addr.ip().to_canonical().is_loopback(),
            "addr",
            format!(
                "the console has no login yet, so it stays on loopback: use \"127.0.0.1:{port}\" \
                 and reach it through a tunnel, such as `ssh -L {port}:127.0.0.1:{port} <host>`"
            ),
        );
    }
}
