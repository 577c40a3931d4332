//! The media type of a body, as far as it decides how the body is read.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// How a body is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json` and what ends in `+json`.
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `multipart/form-data`; without a boundary it cannot be read.
    Multipart { boundary: Option<String> },
    /// `text/…`, XML, and what is text in spite of its name: GraphQL, JavaScript, YAML.
    Text,
    /// There are several that differ: services pick one.
    Conflicting,
    /// There is no `Content-Type`: services guess.
    Undeclared,
    /// Images, archives, streams of messages: it is not read.
    Other,
}

/// The media type that `headers` declare.
pub fn media_of(headers: &HeaderMap) -> Media {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return Media::Undeclared };
    if values.any(|other| other != value) {
        return Media::Conflicting;
    }
    Media::named(value.as_bytes())
}

impl Media {
    /// What a media type with its parameters means.
    pub fn named(value: &[u8]) -> Self {
        let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        let (essence, parameters) = value.split_at(end);
        let essence = essence.trim_ascii();
        let is = |name: &[u8]| essence.eq_ignore_ascii_case(name);
        let starts = |with: &[u8]| {
            essence.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
        };
        let ends = |with: &[u8]| {
            let start = essence.len().saturating_sub(with.len());
            essence.len() > with.len() && essence[start..].eq_ignore_ascii_case(with)
        };
        if is(b"application/json") || is(b"text/json") || ends(b"+json") {
            Self::Json
        } else if is(b"application/x-www-form-urlencoded") {
            Self::Form
        } else if is(b"multipart/form-data") {
            Self::Multipart { boundary: parameter(parameters, b"boundary") }
        } else if is(b"text/event-stream") {
            Self::Other
        } else if starts(b"text/") || ends(b"+xml") || TEXTS.iter().any(|text| is(text)) {
            Self::Text
        } else if essence.is_empty() {
            Self::Undeclared
        } else {
            Self::Other
        }
    }
}

const TEXTS: [&[u8]; 5] = [
    b"application/xml",
    b"application/graphql",
    b"application/javascript",
    b"application/yaml",
    b"application/sql",
];

/// The value of the parameter `name`, quoted or not (RFC 9110, 5.6.6). `rest` starts at the
/// first semicolon.
pub(super) fn parameter(rest: &[u8], name: &[u8]) -> Option<String> {
    let mut rest = rest;
    loop {
        rest = rest.strip_prefix(b";")?.trim_ascii_start();
        let equals = rest.iter().position(|byte| matches!(byte, b'=' | b';'))?;
        if rest[equals] == b';' {
            rest = &rest[equals..];
            continue;
        }
        let (found, value) = (rest[..equals].trim_ascii(), &rest[equals + 1..]);
        let (value, after) = match value.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
                (value[..end].trim_ascii().to_vec(), &value[end..])
            }
        };
        if found.eq_ignore_ascii_case(name) {
            return String::from_utf8(value).ok();
        }
        rest = after.trim_ascii_start();
    }
}

/// The content of a quoted string whose first quote is gone, and what follows its last.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value, &text[index + 1..])),
            b'\\' => value.push(*bytes.next()?.1),
            byte => value.push(*byte),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_says_how_a_body_is_read() {
        let multipart = |boundary: &str| Media::Multipart { boundary: Some(boundary.to_owned()) };
        for (value, want) in [
            ("application/json", Media::Json),
            ("Application/JSON; charset=utf-8", Media::Json),
            ("application/problem+json", Media::Json),
            ("application/x-www-form-urlencoded", Media::Form),
            ("multipart/form-data; boundary=xyz", multipart("xyz")),
            ("multipart/form-data; a=b; Boundary=\"x;\\\"y\" ; c=d", multipart("x;\"y")),
            ("multipart/form-data", Media::Multipart { boundary: None }),
            ("multipart/form-data; boundary=\"open", Media::Multipart { boundary: None }),
            ("text/plain", Media::Text),
            ("image/svg+xml", Media::Text),
            ("text/event-stream", Media::Other),
            ("application/grpc", Media::Other),
            ("application/octet-stream", Media::Other),
            ("application/x-ndjson", Media::Other),
            ("+json", Media::Other),
            (" ", Media::Undeclared),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(media_of(&headers), want, "{value}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(media_of(&headers), Media::Undeclared);
        for (value, want) in [("text/xml", Media::Text), ("a/b", Media::Conflicting)] {
            headers.append(CONTENT_TYPE, "text/xml".parse().unwrap());
            headers.append(CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(media_of(&headers), want, "{value}");
        }
    }
}
