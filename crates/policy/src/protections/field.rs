//! Names and values of header fields, methods and cookies as an operator writes them.
//!
//! Each is parsed once, where the config is read; after that a value that exists is right.

use std::fmt;
use std::str::FromStr;

use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quantity::{Period, serde_as_text};

/// Why a word could not be read. Fits after "failed to read the value: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("expected the name of a header field such as \"x-api-key\", not {0:?}")]
    Name(String),
    #[error("expected a header value of visible ASCII characters, not {0:?}")]
    Value(String),
    #[error("expected a method such as \"GET\" or \"PATCH\", not {0:?}")]
    Method(String),
    #[error("expected the name of a cookie such as \"session\", not {0:?}")]
    Cookie(String),
}

/// The name of a header field; lower case once read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(pub HeaderName);

impl FieldName {
    pub(crate) const fn from_static(name: &'static str) -> Self {
        Self(HeaderName::from_static(name))
    }
}

impl FromStr for FieldName {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // "*" is a field name by its grammar, and never meant as one.
        let name = text.parse().ok().filter(|_| text != "*");
        name.map(Self).ok_or_else(|| FieldError::Name(text.to_owned()))
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// The value of a header field; visible ASCII, not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldText(HeaderValue);

impl FieldText {
    pub(crate) const fn from_static(text: &'static str) -> Self {
        Self(HeaderValue::from_static(text))
    }

    pub(crate) fn to_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl FromStr for FieldText {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let visible =
            !text.trim().is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let value = HeaderValue::from_str(text.trim()).ok().filter(|_| visible);
        value.map(Self).ok_or_else(|| FieldError::Value(text.to_owned()))
    }
}

impl fmt::Display for FieldText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().expect("checked when it was read"))
    }
}

/// A method, upper case. Not CONNECT, TRACE and TRACK, which browsers refuse to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodName(pub Method);

impl FromStr for MethodName {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = text.bytes().all(|byte| byte.is_ascii_uppercase())
            && !matches!(text, "CONNECT" | "TRACE" | "TRACK");
        let method = text.parse().ok().filter(|_| known);
        method.map(Self).ok_or_else(|| FieldError::Method(text.to_owned()))
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// The name of a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(String);

impl CookieName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CookieName {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A cookie's name is a token (RFC 6265, 4.1.1), and so is a field's.
        match HeaderName::from_bytes(text.as_bytes()) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(FieldError::Cookie(text.to_owned())),
        }
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A setting that can be switched off: the word `off` in place of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch<T> {
    Off,
    On(T),
}

/// Fits after "failed to read the value: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} (\"off\" leaves it out)")]
pub struct SwitchError<E>(E);

impl<T> Switch<T> {
    pub(crate) const fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T: FromStr> FromStr for Switch<T> {
    type Err = SwitchError<T::Err>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::On).map_err(SwitchError)
    }
}

impl<T: fmt::Display> fmt::Display for Switch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On(value) => value.fmt(f),
        }
    }
}

serde_as_text!(FieldName, FieldText, MethodName, CookieName, Switch<FieldText>, Switch<Period>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        assert_eq!("X-Api-Key".parse::<FieldName>().unwrap().to_string(), "x-api-key");
        assert_eq!("no-referrer ".parse::<FieldText>().unwrap().to_string(), "no-referrer");
        assert_eq!("PATCH".parse::<MethodName>().unwrap().to_string(), "PATCH");
        assert_eq!("__Host-sid".parse::<CookieName>().unwrap().to_string(), "__Host-sid");
        assert_eq!("off".parse::<Switch<Period>>(), Ok(Switch::Off));
        assert_eq!("1h".parse::<Switch<Period>>().unwrap().to_string(), "1h");
    }

    #[test]
    fn what_is_no_such_word_is_refused() {
        for text in ["", "*", "a b", "x:y"] {
            assert_eq!(text.parse::<FieldName>(), Err(FieldError::Name(text.to_owned())));
        }
        for text in ["", " ", "a\nb", "caf\u{e9}"] {
            assert_eq!(text.parse::<FieldText>(), Err(FieldError::Value(text.to_owned())));
        }
        for text in ["", "get", "*", "CONNECT", "TRACE"] {
            assert_eq!(text.parse::<MethodName>(), Err(FieldError::Method(text.to_owned())));
        }
        for text in ["", "a;b", "a=b", "a b"] {
            assert_eq!(text.parse::<CookieName>(), Err(FieldError::Cookie(text.to_owned())));
        }
        let fault = "1w".parse::<Switch<Period>>().unwrap_err().to_string();
        assert!(fault.ends_with("not \"1w\" (\"off\" leaves it out)"), "{fault}");
    }
}
