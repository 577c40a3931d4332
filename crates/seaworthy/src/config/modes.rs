//! `[modes]`: where several gateways before one service share the modes of their rules.

use std::path::{Path, PathBuf};

use seaworthy_policy::quantity::Period;
use seaworthy_policy::source::{Source, Sources};
use seaworthy_store::fleet::{FleetOptions, RedisUrl};
use serde::{Deserialize, Serialize};

use super::check::Checks;
use super::service::Service;

/// `[modes]` of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Modes {
    /// None by default: one gateway keeps its modes to itself.
    pub redis: Option<RedisUrl>,
    /// By file or variable, never in the file itself. None by default.
    pub redis_password: Option<Source>,
    /// A PEM bundle that replaces the system's roots for `rediss`. None by default.
    pub redis_ca: Option<PathBuf>,
    /// 5s: who missed a message knows it by then, and a fleet of ten costs Redis two small reads
    /// a second.
    pub redis_refresh: Period,
    /// 100ms for each step: a Redis nearby answers in one, and one that is slower is as good as
    /// gone.
    pub redis_timeout: Period,
    /// What the gateways of one service have in common, and no others; `service.name` by default.
    pub fleet: Option<String>,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            redis: None,
            redis_password: None,
            redis_ca: None,
            redis_refresh: Period::secs(5),
            redis_timeout: Period::millis(100),
            fleet: None,
        }
    }
}

/// Characters of a fleet's name.
const FLEET_MAX: usize = 100;

/// Bytes of a password; what Redis makes itself has 64.
const PASSWORD_BYTES_MAX: usize = 512;

impl Modes {
    /// How the fleet is joined; None where there is none. The TLS configuration is left to whoever
    /// starts it. `sources` has the password, which was checked with the rest.
    pub fn fleet_options(
        &self,
        service: &Service,
        sources: &Sources,
        snapshot: &Path,
    ) -> Option<FleetOptions> {
        let url = self.redis.clone()?;
        let password = self.redis_password.as_ref();
        let password = password.and_then(|source| password_of(source, sources).ok());
        let prefix = format!("seaworthy:{}", self.fleet_name(service));
        Some(FleetOptions {
            password,
            refresh: self.redis_refresh.as_duration(),
            timeout: self.redis_timeout.as_duration(),
            ..FleetOptions::new(url, prefix, snapshot)
        })
    }

    fn fleet_name<'a>(&'a self, service: &'a Service) -> &'a str {
        self.fleet.as_deref().unwrap_or(&service.name)
    }

    pub(crate) fn check(&self, service: &Service, sources: &Sources, checks: &mut Checks<'_>) {
        let period = |text: &str| text.parse::<Period>().expect("it is one");
        checks.lasts("redis_refresh", self.redis_refresh, period("100ms")..=period("1h"));
        checks.lasts("redis_timeout", self.redis_timeout, period("10ms")..=period("10s"));
        if let Some(fleet) = &self.fleet {
            checks.require(is_fleet_name(fleet), "fleet", fleet_fault());
        }
        if let Some(source) = &self.redis_password {
            let read = password_of(source, sources);
            checks.require(read.is_ok(), "redis_password", read.err().unwrap_or_default());
        }
        let Some(url) = &self.redis else {
            let alone = self.redis_password.is_none() && self.redis_ca.is_none();
            checks.require(alone, "redis", "expected where Redis is, or nothing else about it");
            return;
        };
        checks.require(
            self.redis_ca.is_none() || url.is_tls(),
            "redis_ca",
            "expected a `redis` that begins with \"rediss://\", or none of it",
        );
        if self.fleet.is_some() {
            return;
        }
        // Two services of which nobody has said the name would take each other's modes.
        checks.require(
            service.name != Service::default().name,
            "redis",
            "expected `fleet`, or a `service.name` of its own: gateways of one name share modes",
        );
        checks.require(
            is_fleet_name(&service.name),
            "redis",
            format!(
                "expected `fleet`, since `service.name` cannot stand in for it: {}",
                fleet_fault()
            ),
        );
    }
}

fn is_fleet_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=FLEET_MAX).contains(&name.len()) && name.bytes().all(plain)
}

fn fleet_fault() -> String {
    format!("expected 1 to {FLEET_MAX} of A-Z, a-z, 0-9, `.`, `_` and `-`")
}

/// The password at `source`, without the line end that a file has. A fault never shows it.
fn password_of(source: &Source, sources: &Sources) -> Result<String, String> {
    let text = std::str::from_utf8(sources.bytes(source)?)
        .map_err(|_| format!("{source} is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if (1..=PASSWORD_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!("{source} is not one line of 1 to {PASSWORD_BYTES_MAX} bytes"))
    }
}
