//! Where a Redis is, as a URL that has no secret in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const PORT: u16 = 6379;

/// Databases that a Redis is set up with by default are 16; some have more.
const DATABASE_MAX: u16 = 9999;

/// `redis://[user@]host[:port][/database]`, or `rediss://…` for TLS; `valkey` and `valkeys` are
/// the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: u16,
}

impl RedisUrl {
    /// Whether a TLS configuration is needed to get there.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }
}

/// Fits after "failed to read the URL: ". Never shows the text: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    #[error(
        "expected \"redis://host:port\" or \"rediss://host:port\", with \"/<database>\" or without"
    )]
    Form,
    #[error("the password does not belong here; name where it is in `redis_password`")]
    Password,
    #[error("expected a database from 0 to {DATABASE_MAX} behind the host")]
    Database,
    #[error("expected no parameters behind the host and the database")]
    Parameters,
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = redis::parse_redis_url(text).ok_or(RedisUrlError::Form)?;
        if url.password().is_some() {
            return Err(RedisUrlError::Password);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(RedisUrlError::Parameters);
        }
        let tls = match url.scheme() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(RedisUrlError::Form),
        };
        let user = match url.username() {
            "" => None,
            // A name with escapes would have to be read as Redis reads it.
            name if name.contains('%') => return Err(RedisUrlError::Form),
            name => Some(name.to_owned()),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(RedisUrlError::Form)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let database = match url.path().strip_prefix('/').unwrap_or_default() {
            "" => 0,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let number = digits.parse().map_err(|_| RedisUrlError::Database)?;
                if number > DATABASE_MAX {
                    return Err(RedisUrlError::Database);
                }
                number
            }
            _ => return Err(RedisUrlError::Database),
        };
        Ok(Self { tls, user, host, port: url.port().unwrap_or(PORT), database })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss://" } else { "redis://" })?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        if self.database > 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for (text, written) in [
            ("redis://modes.example", "redis://modes.example:6379"),
            ("redis://modes.example:7000/3", "redis://modes.example:7000/3"),
            ("redis://modes.example/", "redis://modes.example:6379"),
            ("rediss://gateway@modes.example", "rediss://gateway@modes.example:6379"),
            ("valkeys://modes.example", "rediss://modes.example:6379"),
            ("valkey://127.0.0.1:1", "redis://127.0.0.1:1"),
            ("redis://[::1]:6380/1", "redis://[::1]:6380/1"),
        ] {
            let url: RedisUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), written);
            assert_eq!(written.parse(), Ok(url));
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_showing_it() {
        for (text, error) in [
            ("", RedisUrlError::Form),
            ("modes.example:6379", RedisUrlError::Form),
            ("http://modes.example", RedisUrlError::Form),
            ("unix:///run/redis.sock", RedisUrlError::Form),
            ("redis://", RedisUrlError::Form),
            ("redis://a%40b@modes.example", RedisUrlError::Form),
            ("redis://:hunter2@modes.example", RedisUrlError::Password),
            ("redis://user:hunter2@modes.example", RedisUrlError::Password),
            ("redis://modes.example/x", RedisUrlError::Database),
            ("redis://modes.example/-1", RedisUrlError::Database),
            ("redis://modes.example/10000", RedisUrlError::Database),
            ("redis://modes.example/0/1", RedisUrlError::Database),
            ("redis://modes.example?protocol=resp2", RedisUrlError::Parameters),
            ("rediss://modes.example/#insecure", RedisUrlError::Parameters),
        ] {
            assert_eq!(text.parse::<RedisUrl>(), Err(error), "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
