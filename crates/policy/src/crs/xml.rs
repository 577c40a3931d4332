//! Writes XML so that the engine reads all of it, or says that it cannot.
//!
//! The engine takes an element that is empty (`<a/>`) for one that is never closed, and passes
//! over attributes and text that it cannot decode. So:
//!
//! 1. An empty element is written with its end.
//! 2. XML in another encoding than UTF-8, or that says so, is not read.
//! 3. Neither is what is malformed, nor what depends on declarations of its own: these say what
//!    stands for an entity or for an attribute that is not there.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, Writer, XmlVersion};

use super::JudgeError;

/// Whether the engine reads a body with these headers as XML.
pub(crate) fn is_xml(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    matches!(&*essence, b"application/xml" | b"text/xml") || essence.ends_with(b"+xml")
}

const ENCODED: JudgeError = JudgeError::Body("XML has to be UTF-8");
const DECLARED: JudgeError = JudgeError::Body("XML with declarations of its own is not taken");
const MALFORMED: JudgeError =
    JudgeError::Body("the XML is malformed, or has entities that it does not say");

pub(super) fn write(body: &[u8]) -> Result<Vec<u8>, JudgeError> {
    let text = std::str::from_utf8(body).map_err(|_| ENCODED)?;
    if text.contains('\0') {
        // UTF-16 without its mark.
        return Err(ENCODED);
    }
    let mut reader = Reader::from_str(text);
    let mut writer = Writer::new(Vec::with_capacity(body.len()));
    loop {
        let event = reader.read_event().map_err(|_| MALFORMED)?;
        match &event {
            Event::Eof => return Ok(writer.into_inner()),
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().transpose().map_err(|_| MALFORMED)?;
                let is =
                    |name: &[u8]| encoding.as_ref().is_none_or(|e| e.eq_ignore_ascii_case(name));
                if !is(b"utf-8") && !is(b"us-ascii") {
                    return Err(ENCODED);
                }
            }
            Event::DocType(declarations) if declarations.contains(&b'[') => return Err(DECLARED),
            Event::Start(start) | Event::Empty(start) => check_attributes(start, &reader)?,
            _ => {}
        }
        let written = match event {
            Event::Empty(element) => {
                let end = element.to_end().into_owned();
                writer
                    .write_event(Event::Start(element))
                    .and_then(|()| writer.write_event(Event::End(end)))
            }
            event => writer.write_event(event),
        };
        written.map_err(|_| MALFORMED)?;
    }
}

fn check_attributes(start: &BytesStart<'_>, reader: &Reader<&[u8]>) -> Result<(), JudgeError> {
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| MALFORMED)?;
        attribute
            .decoded_and_normalized_value(XmlVersion::Implicit1_0, reader.decoder())
            .map_err(|_| MALFORMED)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_there_for_the_engine_or_it_is_unread() {
        let utf16: Vec<u8> = "<a>b</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (text, want) in [
            (&b"<a b='1'/>"[..], Some("<a b='1'></a>")),
            (b"\xef\xbb\xbf<a><b /><b c=\"&lt;&#65;\"/></a>", Some("<a><b ></b><b c=\"&lt;&#65;\"></b></a>")),
            (
                b"<?xml version='1.0' encoding='UTF-8'?><!DOCTYPE a><!--<b/>--><a>&lt;<![CDATA[<b/>]]></a>",
                Some("<?xml version='1.0' encoding='UTF-8'?><!DOCTYPE a><!--<b/>--><a>&lt;<![CDATA[<b/>]]></a>"),
            ),
            (b" ", Some(" ")),
            (b"<?xml version='1.0' encoding='UTF-7'?>+ADw-a+AD4-", None),
            (b"<a>\xff</a>", None),
            (&utf16, None),
            (b"<a></b>", None),
            (b"<a b='1' b='2'></a>", None),
            (b"<a b=1></a>", None),
            (b"<a b='&c;'></a>", None),
            (b"<!DOCTYPE a [<!ATTLIST a b CDATA 'drop table'>]><a/>", None),
        ] {
            let written = write(text).ok().map(|text| String::from_utf8(text).unwrap());
            assert_eq!(written.as_deref(), want, "{}", String::from_utf8_lossy(text));
        }
    }
}
