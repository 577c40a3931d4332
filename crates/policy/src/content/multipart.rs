//! `multipart/form-data` (RFC 7578), with exactly one reading.
//!
//! 1. The body starts with the first boundary and ends behind the last, but for a line end.
//! 2. Each part has one `Content-Disposition: form-data` with one name; `filename*` is refused,
//!    as RFC 7578 has it.
//! 3. Lines end in CRLF, fields are not folded, and nothing but a line end follows a boundary.

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use memchr::memmem;

use super::ContentFault;
use super::media::{Media, media_of, parameter};

/// Parts of one body.
pub const PARTS_MAX: usize = 1000;

/// Bytes of the fields of one part.
const FIELDS_BYTES_MAX: usize = 4 << 10;

/// RFC 2046, 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// One part of a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    /// There is one where the part is a file.
    pub filename: Option<String>,
    /// The `Content-Type` of the part as it is written, in lower case, without parameters.
    pub content_type: Option<String>,
    pub media: Media,
    /// Its fields as they came, with the empty line behind them.
    pub fields: Bytes,
    pub content: Bytes,
}

impl Part {
    /// The lines of its fields, but for `Content-Disposition`.
    pub fn other_fields(&self) -> impl Iterator<Item = &[u8]> {
        let is_disposition = |line: &[u8]| {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            name.eq_ignore_ascii_case(CONTENT_DISPOSITION.as_str().as_bytes())
        };
        let lines = self.fields.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        lines.filter(move |line| !line.is_empty() && !is_disposition(line))
    }
}

pub(super) fn parse(body: &Bytes, boundary: Option<&str>) -> Result<Vec<Part>, ContentFault> {
    let boundary =
        boundary
            .filter(|boundary| (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()))
            .ok_or_else(|| ContentFault::malformed("its Content-Type has no valid boundary"))?;
    let first = format!("--{boundary}");
    let next = memmem::Finder::new(&format!("\r\n{first}")).into_owned();
    let mut parts = Vec::new();
    let mut rest = body
        .strip_prefix(first.as_bytes())
        .ok_or_else(|| two_readings("it does not start with its boundary"))?;
    loop {
        // `rest` is what follows a boundary.
        match rest {
            [b'-', b'-'] | [b'-', b'-', b'\r', b'\n'] => return Ok(parts),
            [b'-', b'-', ..] => return Err(two_readings("something follows the last boundary")),
            [b'\r', b'\n', part @ ..] => rest = part,
            [] => return Err(ContentFault::malformed("it ends before its last boundary")),
            _ => return Err(two_readings("something follows a boundary on its line")),
        }
        if parts.len() == PARTS_MAX {
            let fault = format!("multipart of at most {PARTS_MAX} parts is accepted");
            return Err(ContentFault::malformed(fault));
        }
        let (fields, length) = fields(rest)?;
        let (text, after) = rest.split_at(length);
        if after.starts_with(first.as_bytes()) {
            return Err(two_readings("a boundary follows the fields of a part"));
        }
        let end = next
            .find(after)
            .ok_or_else(|| ContentFault::malformed("it ends before its last boundary"))?;
        let (text, content) = (body.slice_ref(text), body.slice_ref(&after[..end]));
        parts.push(part(&fields, text, content)?);
        rest = &after[end + 2 + first.len()..];
    }
}

/// The fields at the start of `text`, and how many bytes they have with the empty line behind.
fn fields(text: &[u8]) -> Result<(HeaderMap, usize), ContentFault> {
    let mut fields = HeaderMap::new();
    let mut at = 0;
    loop {
        let line = text
            .get(at..)
            .and_then(|rest| rest.get(..rest.len().min(FIELDS_BYTES_MAX - at)))
            .and_then(|rest| memmem::find(rest, b"\r\n").map(|end| &rest[..end]))
            .ok_or_else(|| ContentFault::malformed("the fields of a part do not end"))?;
        at += line.len() + 2;
        if line.is_empty() {
            return Ok((fields, at));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(0));
        let name = http::HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default().trim_ascii());
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(two_readings("a field of a part cannot be read"));
        };
        fields.append(name, value);
        if at >= FIELDS_BYTES_MAX {
            return Err(ContentFault::malformed("the fields of a part are too long"));
        }
    }
}

fn part(fields: &HeaderMap, head: Bytes, content: Bytes) -> Result<Part, ContentFault> {
    let mut dispositions = fields.get_all(CONTENT_DISPOSITION).iter();
    let (Some(disposition), None) = (dispositions.next(), dispositions.next()) else {
        return Err(two_readings("a part has not exactly one Content-Disposition"));
    };
    let text = disposition.as_bytes();
    let end = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
    let (kind, parameters) = text.split_at(end);
    if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return Err(ContentFault::malformed("a part is not form-data"));
    }
    for name in [&b"name"[..], b"filename"] {
        if occurrences(parameters, name) > 1 {
            return Err(two_readings("a part has a name twice"));
        }
    }
    if occurrences(parameters, b"filename*") + occurrences(parameters, b"name*") > 0 {
        return Err(two_readings("a part has a name in the extended form"));
    }
    let name = parameter(parameters, b"name")
        .ok_or_else(|| ContentFault::malformed("a part has no name"))?;
    let media = media_of(fields);
    if media == Media::Conflicting {
        return Err(ContentFault::ambiguous(
            format!("part:{}", name.chars().take(40).collect::<String>()),
            "the part has two Content-Types",
        ));
    }
    let filename = parameter(parameters, b"filename");
    let content_type = fields.get(CONTENT_TYPE).and_then(|value| {
        let essence = value.to_str().ok()?.split(';').next()?;
        Some(essence.trim().to_ascii_lowercase())
    });
    Ok(Part { name, filename, content_type, media, fields: head, content })
}

/// How many parameters are called `name`, outside of quotes.
fn occurrences(parameters: &[u8], name: &[u8]) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    let mut starts = Vec::new();
    for (index, byte) in parameters.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => starts.push(index + 1),
            _ => {}
        }
    }
    let is_name = |start: &usize| {
        let rest = parameters[*start..].trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b'=').unwrap_or(rest.len());
        rest[..end].trim_ascii_end().eq_ignore_ascii_case(name)
    };
    starts.iter().filter(|start| is_name(start)).count()
}

fn two_readings(fault: &'static str) -> ContentFault {
    ContentFault::ambiguous("", fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Part>, ContentFault> {
        parse(&Bytes::copy_from_slice(body.replace('\n', "\r\n").as_bytes()), Some("B"))
    }

    const DISPOSITION: &str = "Content-Disposition: form-data; name=\"a\"";

    #[test]
    fn parts_are_read_in_order() {
        let body = "--B\nContent-Disposition: form-data; name=\"a\"\n\none\n--B\n\
                    content-disposition: form-data; name=f; filename=\"x;y.txt\"\n\
                    Content-Type: Text/Plain; charset=utf-8\n\n\n--Bx\n--\n--B--\n";
        let parts = read(body);
        // "--Bx" starts with the boundary, and then is none.
        assert!(parts.is_err_and(|fault| fault.ambiguous));
        let parts = read(&body.replace("--Bx", "-Bx")).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!((&*parts[0].name, &parts[0].content[..]), ("a", &b"one"[..]));
        assert_eq!((&parts[0].filename, &parts[0].media), (&None, &Media::Undeclared));
        assert_eq!((&*parts[1].name, parts[1].filename.as_deref()), ("f", Some("x;y.txt")));
        assert_eq!(&parts[1].content[..], b"\r\n-Bx\r\n--");
        assert_eq!(parts[1].content_type.as_deref(), Some("text/plain"));
        let fields: Vec<_> = parts[1].other_fields().collect();
        assert_eq!(fields, [b"Content-Type: Text/Plain; charset=utf-8"]);
        assert_eq!(parts[0].other_fields().count(), 0);
        assert_eq!(read("--B--"), Ok(vec![]));
    }

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_a_fault() {
        let one = |head: &str| format!("--B\n{head}\n\nx\n--B--\n");
        let many = format!("--B\n{DISPOSITION}\n\nx\n").repeat(PARTS_MAX + 1) + "--B--";
        for (name, body, ambiguous) in [
            ("a preamble", format!("hello\n{}", one(DISPOSITION)), true),
            ("an epilogue", format!("{}bye", one(DISPOSITION)), true),
            ("padding", one(DISPOSITION).replacen("--B\n", "--B \n", 1), true),
            ("no end", format!("--B\n{DISPOSITION}\n\nx"), false),
            ("no empty line", format!("--B\n{DISPOSITION}\n"), false),
            ("no disposition", one("content-type: text/plain"), true),
            ("no line of its own", format!("--B\n{DISPOSITION}\n\n--B--"), true),
            ("two dispositions", one(&format!("{DISPOSITION}\n{DISPOSITION}")), true),
            ("no name", one("content-disposition: form-data"), false),
            ("two names", one(&format!("{DISPOSITION}; name=b")), true),
            ("an extended name", one(&format!("{DISPOSITION}; filename*=utf-8''x")), true),
            (
                "two types",
                one(&format!("{DISPOSITION}\ncontent-type: a/b\ncontent-type: c/d")),
                true,
            ),
            ("a folded field", one(&format!("{DISPOSITION};\n filename=x")), true),
            ("a space before the colon", one("content-disposition : form-data; name=a"), true),
            ("another kind", one("content-disposition: attachment; name=a"), false),
            ("endless fields", one(&format!("{DISPOSITION}\nx: {}", "y".repeat(5000))), false),
            ("a million parts", many, false),
        ] {
            let fault = read(&body).expect_err(name);
            assert_eq!(fault.ambiguous, ambiguous, "{name}: {}", fault.detail);
        }
        assert!(parse(&Bytes::from_static(b"--B--"), None).is_err());
        assert!(parse(&Bytes::from_static(b"----"), Some("")).is_err());
    }
}
