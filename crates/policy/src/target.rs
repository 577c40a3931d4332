//! The one normalised request target: what the checks saw is what the service gets.
//!
//! 1. Origin form only: an absolute form has lost its scheme and authority before this, and
//!    `*` is kept for `OPTIONS`.
//! 2. A fragment, a control byte, a space, a byte above 0x7e or a backslash is refused.
//! 3. A percent sign without two hex digits is refused, and so is an encoded NUL.
//! 4. In the path, encoded unreserved characters are decoded (`%7E` → `~`, `%2e` → `.`), other
//!    encodings are kept with upper-case digits, so that each path has one spelling.
//! 5. Dot segments are then removed (RFC 3986, 5.2.4); a path never climbs above `/`.
//! 6. An encoded slash stays encoded: it is data in a segment, not a separator. Empty segments
//!    (`//`) are kept, because services give them meaning.
//! 7. The query is checked by rules 2 and 3 and otherwise kept byte for byte.

use http::uri::PathAndQuery;

/// Where the gateway's own resources are. A path below is never the service's.
pub const OWN_PREFIX: &str = "/.seaworthy/";

/// A normalised path and query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    form: PathAndQuery,
}

/// Why a target is refused. Fits after "failed to read the target: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("the path does not start with a slash")]
    NotOriginForm,
    #[error("it has a byte that must be percent-encoded")]
    ForbiddenByte,
    #[error("a percent sign is not followed by two hex digits")]
    BadEncoding,
    #[error("it has an encoded NUL")]
    EncodedNul,
}

impl Target {
    /// Normalises `path_and_query`; borrows it where it is in normal form already.
    pub fn parse(path_and_query: &PathAndQuery) -> Result<Self, TargetError> {
        let text = path_and_query.as_str();
        if text == "*" {
            return Ok(Self { form: path_and_query.clone() });
        }
        let path = path_and_query.path();
        let query = path_and_query.query();
        if !path.starts_with('/') {
            return Err(TargetError::NotOriginForm);
        }
        check_bytes(path.as_bytes())?;
        check_bytes(query.unwrap_or_default().as_bytes())?;
        let mut settled = path.contains("/.") || path.contains('%');
        let mut normal = String::new();
        if settled {
            normal = remove_dot_segments(&normalise_encoding(path));
            settled = normal == path;
        } else {
            settled = true;
        }
        if settled {
            return Ok(Self { form: path_and_query.clone() });
        }
        if let Some(query) = query {
            normal.push('?');
            normal.push_str(query);
        }
        let form = PathAndQuery::try_from(normal).map_err(|_| TargetError::ForbiddenByte)?;
        Ok(Self { form })
    }

    /// The target of a request that was built from one already.
    pub fn of_sent(uri: &http::Uri) -> Self {
        Self { form: uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")) }
    }

    /// The same path with another query; `None` where that is none.
    pub fn with_query(&self, query: &str) -> Option<Self> {
        let form = PathAndQuery::try_from(format!("{}?{query}", self.path())).ok()?;
        Self::parse(&form).ok()
    }

    /// Whether it is a resource of the gateway's own, of which what is said about the service's
    /// routes does not hold.
    pub fn is_own(&self) -> bool {
        self.path().starts_with(OWN_PREFIX)
    }

    pub fn path(&self) -> &str {
        self.form.path()
    }

    pub fn query(&self) -> Option<&str> {
        self.form.query()
    }

    pub fn as_str(&self) -> &str {
        self.form.as_str()
    }

    pub fn as_path_and_query(&self) -> &PathAndQuery {
        &self.form
    }
}

fn check_bytes(bytes: &[u8]) -> Result<(), TargetError> {
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => match (rest.next().and_then(hex), rest.next().and_then(hex)) {
                (Some(0), Some(0)) => return Err(TargetError::EncodedNul),
                (Some(_), Some(_)) => {}
                _ => return Err(TargetError::BadEncoding),
            },
            b'!'..=b'~' if !matches!(byte, b'\\' | b'#') => {}
            _ => return Err(TargetError::ForbiddenByte),
        }
    }
    Ok(())
}

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Rule 4. The input has passed [`check_bytes`].
fn normalise_encoding(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(char::from(byte));
            continue;
        }
        let (high, low) = (rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0'));
        let value = hex(&high).unwrap_or(0) << 4 | hex(&low).unwrap_or(0);
        if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
            out.push(char::from(value));
        } else {
            out.push('%');
            out.push(char::from(high.to_ascii_uppercase()));
            out.push(char::from(low.to_ascii_uppercase()));
        }
    }
    out
}

/// Rule 5. `path` starts with a slash, and so does the result.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_directory = false;
    for segment in path.split('/').skip(1) {
        ends_in_directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if ends_in_directory || out.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<String, TargetError> {
        let raw = PathAndQuery::try_from(text).expect(text);
        Target::parse(&raw).map(|target| target.as_str().to_owned())
    }

    #[test]
    fn each_path_has_one_spelling() {
        for (text, want) in [
            ("/", "/"),
            ("/a/b?x=/../y", "/a/b?x=/../y"),
            ("/a/../b", "/b"),
            ("/a/./b/", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/a/%2e%2E/b", "/b"),
            ("/%7Euser/%41", "/~user/A"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2f..%2fb", "/a%2F..%2Fb"),
            ("//a//b", "//a//b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/%e2%82%ac?q=%e2", "/%E2%82%AC?q=%e2"),
            ("*", "*"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for (text, want) in [
            ("/a%", TargetError::BadEncoding),
            ("/a%2", TargetError::BadEncoding),
            ("/a%zz", TargetError::BadEncoding),
            ("/a?b=%g0", TargetError::BadEncoding),
            ("/a%00", TargetError::EncodedNul),
            ("/a?b=%00", TargetError::EncodedNul),
            ("/a\\..\\b", TargetError::ForbiddenByte),
            ("/a?b=c\\d", TargetError::ForbiddenByte),
        ] {
            assert_eq!(parse(text), Err(want), "{text}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "/[a-z./%2eEfF~?=]{0,24}") {
            if let Ok(raw) = PathAndQuery::try_from(text.as_str())
                && let Ok(once) = Target::parse(&raw)
            {
                let twice = Target::parse(once.as_path_and_query()).unwrap();
                prop_assert_eq!(&once, &twice);
                let climbs = once.path().split('/').any(|segment| matches!(segment, "." | ".."));
                prop_assert!(!climbs, "{}", once.path());
            }
        }
    }
}
