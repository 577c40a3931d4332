//! Writes the parts of a multipart body so that the engine reads what the gateway has read.
//!
//! The engine splits a body wherever it finds `--` and the boundary, in the middle of a line too,
//! and splits parameters at each semicolon, in quotes too. So what it gets is written anew:
//!
//! 1. The boundary is in no part, and is the first parameter of the `Content-Type`.
//! 2. The name and the file's name are written like a browser does, and have no semicolon.
//! 3. A part whose file has an empty name is a field, too: services differ in what it is.
//! 4. The other fields of a part, and what is in it, are as they came.

use std::collections::BTreeSet;

use memchr::memmem;

use crate::content::Part;

/// How each boundary starts. It cannot overlap with itself, so that a search finds all of them.
const START: &str = "--seaworthy";

/// The digits that follow.
const DIGITS: usize = 8;

/// A body, and the boundary between its parts.
pub(super) struct Written {
    pub(super) boundary: String,
    pub(super) body: Vec<u8>,
}

pub(super) fn write(parts: &[Part]) -> Written {
    let delimiter = delimiter(parts);
    let length: usize = parts.iter().map(|part| part.content.len() + part.fields.len() + 100).sum();
    let mut body = Vec::with_capacity(length + 100);
    for part in parts {
        body.extend_from_slice(delimiter.as_bytes());
        body.extend_from_slice(b"\r\nContent-Disposition: form-data; name=\"");
        write_escaped(&mut body, &part.name);
        if let Some(filename) = part.filename.as_deref().filter(|name| !name.is_empty()) {
            body.extend_from_slice(b"\"; filename=\"");
            write_escaped(&mut body, filename);
        }
        body.extend_from_slice(b"\"\r\n");
        for line in part.other_fields() {
            body.extend_from_slice(line);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(&part.content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(delimiter.as_bytes());
    body.extend_from_slice(b"--\r\n");
    let boundary = delimiter.strip_prefix("--").unwrap_or(&delimiter).to_owned();
    Written { boundary, body }
}

/// `content_type` with `boundary` before its own parameters: the engine takes the first.
pub(super) fn content_type(content_type: &str, boundary: &str) -> String {
    let end = content_type.find(';').unwrap_or(content_type.len());
    let (essence, parameters) = content_type.split_at(end);
    format!("{}; boundary={boundary}{parameters}", essence.trim_ascii_end())
}

/// The first one that no part has.
fn delimiter(parts: &[Part]) -> String {
    let start = memmem::Finder::new(START);
    let mut taken = BTreeSet::new();
    for part in parts {
        let filename = part.filename.as_deref().unwrap_or_default();
        for text in [&part.content[..], &part.fields, part.name.as_bytes(), filename.as_bytes()] {
            taken.extend(start.find_iter(text).filter_map(|at| {
                let digits = text.get(at + START.len()..)?.get(..DIGITS)?;
                std::str::from_utf8(digits).ok()?.parse::<u32>().ok()
            }));
        }
    }
    let free = (0..).find(|number| !taken.contains(number)).expect("no body has 100 million");
    format!("{START}{free:0DIGITS$}")
}

/// Writes a name without quotes and semicolons.
fn write_escaped(body: &mut Vec<u8>, name: &str) {
    for byte in name.bytes() {
        match byte {
            b'"' => body.extend_from_slice(b"%22"),
            b';' => body.extend_from_slice(b"%3B"),
            b'\r' => body.extend_from_slice(b"%0D"),
            b'\n' => body.extend_from_slice(b"%0A"),
            byte => body.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use zentinel_modsec::variables::{Collection as _, RequestData};

    use super::*;
    use crate::content::Media;

    fn part(name: &str, filename: Option<&str>, content: &[u8]) -> Part {
        Part {
            name: name.to_owned(),
            filename: filename.map(str::to_owned),
            content_type: None,
            media: Media::Undeclared,
            fields: Bytes::from_static(b"Content-Disposition: x\r\nX-More: a=b; c\r\n\r\n"),
            content: Bytes::copy_from_slice(content),
        }
    }

    fn read(parts: &[Part]) -> RequestData {
        let written = write(parts);
        let mut engine = RequestData::new();
        engine.append_body(&written.body);
        let sent = "Multipart/Form-Data ; x=\"; boundary=C\"; boundary=B";
        assert!(engine.parse_multipart_body(&content_type(sent, &written.boundary)));
        engine
    }

    #[test]
    fn a_boundary_that_is_in_a_part_is_not_taken() {
        let content = b"--seaworthy00000000\r\n--seaworthy--seaworthy00000001--seaworthy9";
        let parts = [part("--seaworthy00000002", Some("--seaworthy00000003"), content)];
        assert_eq!(write(&parts).boundary, "seaworthy00000004");
        assert_eq!(write(&[]).body, b"--seaworthy00000000--\r\n");
    }

    #[test]
    fn names_and_fields_are_those_of_the_part() {
        let parts = [
            part("a;b=\"c\" ", None, b"1"),
            part("f", Some("x;y.php"), b"2"),
            part("g", Some(""), b"3"),
        ];
        let engine = read(&parts);
        assert_eq!(engine.args_post.get("a%3Bb=%22c%22 "), Some(vec!["1"]));
        assert_eq!(engine.files.get("f"), Some(vec!["x%3By.php"]));
        assert_eq!((engine.args_post.get("f"), engine.args_post.get("g")), (None, Some(vec!["3"])));
        let fields = engine.multipart_part_headers.get("f").unwrap();
        let disposition = "Content-Disposition: form-data; name=\"f\"; filename=\"x%3By.php\"";
        assert_eq!(fields, [disposition, "X-More: a=b; c"]);
    }

    proptest! {
        #[test]
        fn the_engine_reads_each_part_as_it_is(
            contents in prop::collection::vec("(a|-|\r|\n|\"|;|--B|--seaworthy|0000000[0-3]){0,12}", 0..5),
        ) {
            let parts: Vec<_> =
                contents.iter().map(|content| part("q", None, content.as_bytes())).collect();
            let engine = read(&parts);
            let found = engine.args_post.get("q").unwrap_or_default();
            prop_assert_eq!(found, contents.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
