//! Refuses bodies that the checks and the service could read differently.
//!
//! 1. JSON, forms and multipart bodies are read whole, decoded and parsed; see `content.rs` for
//!    what has one reading. Text is read where it comes in a coding; other media types pass unread.
//! 2. A body that cannot be parsed is denied, and so is one that two parsers could read in two
//!    ways: a name twice in an object, something behind the value, two Content-Types.
//! 3. A body in a `Content-Encoding` is sent on decoded, so that the service reads the very bytes
//!    that were checked. A coding other than gzip and deflate is denied.
//! 4. A body of more than `listen.checked_body_max` bytes, decoded or not, cannot be checked.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::content::{Content, has_syntax};
use crate::mode::ModeSetting;
use crate::problem::Code;
use crate::protection::{Effects, Outcome, Protection, Request, Rewrite};
use crate::registry::{Entry, settings_of};

pub const ENTRY: Entry = Entry {
    name: "body_syntax",
    summary: "Refuses bodies that the checks and the service could read differently.",
    default_mode: ModeSetting::Auto,
    default_mode_reason: "a real client may send what its service takes in spite of the standard",
    codes: &[
        Code::UnreadableBody,
        Code::AmbiguousBody,
        Code::UnsupportedCoding,
        Code::BodyUnchecked,
        Code::ChecksOverCapacity,
    ],
    mode: |protect| protect.body_syntax.mode,
    settings: |protect| settings_of(&protect.body_syntax),
    build: |_, _| Ok(Arc::new(BodySyntax)),
    ..Entry::PLAIN
};

/// `[protect.body_syntax]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub mode: ModeSetting,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: ENTRY.default_mode }
    }
}

struct BodySyntax;

impl Protection for BodySyntax {
    fn reads_body(&self, request: &Request<'_>) -> bool {
        has_syntax(request.headers)
    }

    fn check(&self, request: &Request<'_>, effects: &mut Effects) -> Outcome {
        let body = match request.content.readable() {
            Ok(Some(body)) => body,
            Ok(None) => return Outcome::NotApplicable,
            Err(denial) => return Outcome::Deny(denial),
        };
        if body.was_coded() {
            let content = Content::Read(body.rewritten(body.plain().clone()));
            let rewrite = Rewrite { content: Some(content), target: None };
            effects.rewrite = Some(Box::new(rewrite));
        }
        Outcome::Allow
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::protections::testing::{Sample, build};

    const JSON: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn a_body_with_one_reading_passes() {
        let syntax = build(&ENTRY, "");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let parts = ("content-type", "multipart/form-data; boundary=b");
        let part = "--b\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n--b--";
        for (name, kind, body, want) in [
            ("JSON", JSON, "{\"a\":1}", "allow"),
            ("not JSON", JSON, "{a:1}", "unreadable-body"),
            ("a name twice", JSON, "{\"a\":1,\"a\":1}", "ambiguous-body"),
            ("a form", form, "a=1&b=%20", "allow"),
            ("half an escape", form, "a=1&b=%2", "ambiguous-body"),
            ("parts", parts, part, "allow"),
            ("no parts", parts, "a=1", "ambiguous-body"),
        ] {
            let sample = Sample::new("POST", "/", &[kind]).with_body(body.as_bytes());
            assert!(syntax.reads_body(&sample.request()), "{name}");
            assert_eq!(sample.verdict(&*syntax), want, "{name}");
        }
        assert_eq!(Sample::new("GET", "/", &[]).verdict(&*syntax), "n/a");
        let two = [JSON, ("content-type", "text/plain")];
        let two = Sample::new("POST", "/", &two).with_body(b"{}");
        assert_eq!(two.verdict(&*syntax), "ambiguous-body");
        for kind in ["image/png", "text/plain", "application/grpc"] {
            let sample = Sample::new("POST", "/", &[("content-type", kind)]);
            assert!(!syntax.reads_body(&sample.request()), "{kind}");
        }
        let coded = [("content-type", "text/plain"), ("content-encoding", "gzip")];
        assert!(syntax.reads_body(&Sample::new("POST", "/", &coded).request()));
    }

    #[test]
    fn a_coded_body_is_sent_on_decoded() {
        let syntax = build(&ENTRY, "");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"{\"a\":1}").unwrap();
        let fields = [JSON, ("content-encoding", "gzip")];
        let sample = Sample::new("POST", "/", &fields).with_body(&gzip.finish().unwrap());
        let (said, effects) = sample.check(&*syntax);
        assert_eq!(said, "allow");
        let Some(Rewrite { content: Some(Content::Read(body)), .. }) = effects.rewrite.as_deref()
        else {
            panic!("nothing was rewritten");
        };
        assert_eq!(&body.raw()[..], b"{\"a\":1}");
    }

    #[test]
    fn what_cannot_be_checked_is_denied() {
        let syntax = build(&ENTRY, "");
        let sent = |fields: &[(&str, &str)], body: &[u8]| {
            Sample::new("POST", "/", fields).with_body(body).verdict(&*syntax)
        };
        assert_eq!(sent(&[JSON, ("content-encoding", "br")], b"x"), "unsupported-coding");
        assert_eq!(sent(&[JSON, ("content-encoding", "gzip")], b"x"), "ambiguous-body");
        assert_eq!(sent(&[JSON], &vec![b' '; Sample::BODY_BYTES_MAX + 1]), "body-unchecked");
    }
}
