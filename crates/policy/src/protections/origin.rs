//! Web origins: scheme, host and port, compared as browsers compare them.
//!
//! 1. Two origins are the same only where all three parts are (RFC 6454): `http://localhost:3000`
//!    and `http://127.0.0.1:3000` are two, and so are `http://a.example` and `https://a.example`.
//! 2. What an operator writes is normalised once: lower case, the scheme's own port dropped. What
//!    a browser sends has that form already, and is compared byte for byte.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::protection::{Request, Scheme};
use crate::quantity::serde_as_text;

/// An origin in the form in which a browser writes it: `https://app.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(Box<str>);

/// Fits after "failed to read the origin: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an origin such as \"https://app.example\" or \"http://localhost:3000\", not {text:?}: {why}"
)]
pub struct OriginError {
    pub text: String,
    pub why: &'static str,
}

impl Origin {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without its port.
    fn host(&self) -> &str {
        let authority = self.0.split_once("://").map_or("", |(_, authority)| authority);
        split_port(authority).map_or(authority, |(host, _)| host)
    }

    /// Whether someone could take one for the other: the same host by another scheme or port, or
    /// two names of the own machine.
    pub(crate) fn resembles(&self, other: &Self) -> bool {
        self.host() == other.host() || (is_loopback(self.host()) && is_loopback(other.host()))
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = |why| OriginError { text: text.to_owned(), why };
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = lower.split_once("://").ok_or_else(|| fault("it has no scheme"))?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme {
            return Err(fault("it has no scheme"));
        }
        if rest.contains(['/', '?', '#']) {
            return Err(fault("an origin ends after its host and port, without a slash"));
        }
        let (host, port) = split_port(rest).ok_or_else(|| fault("its port is not a number"))?;
        let host = normal_host(host).map_err(fault)?;
        let own_port = match scheme {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        };
        Ok(Self(match port.filter(|port| Some(*port) != own_port) {
            Some(port) => format!("{scheme}://{host}:{port}").into(),
            None => format!("{scheme}://{host}").into(),
        }))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(Origin);

/// Whether `origin`, as a browser wrote it, is the one that `request` was sent to.
pub(crate) fn is_own(origin: &[u8], request: &Request<'_>) -> bool {
    let scheme = request.scheme.as_str().as_bytes();
    origin
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_prefix(b"://"))
        .is_some_and(|authority| authority == without_own_port(request).as_bytes())
}

fn without_own_port<'a>(request: &Request<'a>) -> &'a str {
    let own_port = match request.scheme {
        Scheme::Http => ":80",
        Scheme::Https => ":443",
    };
    request.authority.strip_suffix(own_port).unwrap_or(request.authority)
}

/// What an operator should look at where `origin` is own but for its scheme.
pub(crate) fn scheme_hint(origin: &[u8], request: &Request<'_>) -> &'static str {
    let other = match request.scheme {
        Scheme::Http => Scheme::Https,
        Scheme::Https => Scheme::Http,
    };
    if is_own(origin, &Request { scheme: other, ..*request }) {
        " (they differ in the scheme alone: is TLS ended by a proxy that is missing from \
         client.trusted_proxies?)"
    } else {
        ""
    }
}

/// Host and port of an authority. `None` where what follows the colon is no port; an empty port
/// is none (RFC 3986, 3.2.3).
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    // By bytes: an authority is so short that to search for a character takes longer.
    let bytes = authority.as_bytes();
    let port_at = match bytes.iter().rposition(|byte| *byte == b']') {
        Some(bracket) => bracket + 1,
        None => bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len()),
    };
    let (host, port) = authority.split_at_checked(port_at)?;
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        None => None,
        Some("") => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().map(|port| (host, Some(port)))
        }
        Some(_) => None,
    }
}

/// `host` as browsers write it, or what is wrong with it. The input is lower case.
pub(crate) fn normal_host(host: &str) -> Result<String, &'static str> {
    if let Some(inner) = host.strip_prefix('[') {
        let ip = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        return ip.map(|ip| format!("[{ip}]")).ok_or("its IPv6 address is malformed");
    }
    if host.is_empty() {
        return Err("it has no host");
    }
    if host.contains('*') {
        return Err("a wildcard has no place there");
    }
    if !host.is_ascii() {
        return Err("a name with other letters than a to z is written in its xn-- form");
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        return Err("its host is malformed");
    }
    Ok(host.to_owned())
}

/// Whether `host` is a name of the own machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host == "[::1]"
        || host.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protections::testing::Sample;

    #[test]
    fn each_origin_has_one_spelling() {
        for (text, want) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abc", "chrome-extension://abc"),
        ] {
            assert_eq!(text.parse::<Origin>().expect(text).as_str(), want);
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "no scheme"),
            ("app.example", "no scheme"),
            ("1http://app.example", "no scheme"),
            ("https://app.example/", "without a slash"),
            ("https://app.example?x", "without a slash"),
            ("https://", "no host"),
            ("https://*.app.example", "wildcard"),
            ("https://user@app.example", "malformed"),
            ("https://b\u{fc}cher.example", "xn--"),
            ("https://app.example:", "") as (&str, &str),
            ("https://app.example:0x50", "port"),
            ("https://app.example:99999", "port"),
            ("https://[::g]", "IPv6"),
            ("https://[::1]x", "port"),
        ] {
            match text.parse::<Origin>() {
                Ok(origin) => assert_eq!((why, origin.as_str()), ("", "https://app.example")),
                Err(error) => {
                    assert!(!why.is_empty() && error.to_string().contains(why), "{error}");
                }
            }
        }
    }

    #[test]
    fn own_is_the_same_scheme_host_and_port() {
        use Scheme::{Http, Https};
        for (origin, scheme, authority, own, hinted) in [
            ("https://a.example", Https, "a.example", true, false),
            ("https://a.example", Https, "a.example:443", true, false),
            ("http://a.example", Http, "a.example:80", true, false),
            ("http://a.example:8080", Http, "a.example:8080", true, false),
            ("http://[::1]:8080", Http, "[::1]:8080", true, false),
            ("https://a.example", Http, "a.example", false, true),
            ("http://a.example", Https, "a.example", false, true),
            ("http://a.example:443", Http, "a.example", false, false),
            ("http://localhost:3000", Http, "127.0.0.1:3000", false, false),
            ("http://b.a.example", Http, "a.example", false, false),
            ("null", Http, "a.example", false, false),
            ("", Http, "", false, false),
        ] {
            let sample = Sample::new("GET", "/", &[]).at(scheme, authority);
            let request = sample.request();
            assert_eq!(is_own(origin.as_bytes(), &request), own, "{origin} {authority}");
            let hint = scheme_hint(origin.as_bytes(), &request);
            assert_eq!(!hint.is_empty(), hinted, "{origin} {authority}");
        }
    }
}
