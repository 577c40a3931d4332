//! Cross-site scripting: what a browser would act on, wherever it stands in a value.
//!
//! HTML is not parsed. What a value means depends on the page around it, and browsers and
//! sanitizers disagree about broken markup, which is what attacks are made of. Each of them must
//! contain one of these, though:
//!
//! 1. `<` and the name of an element that runs something, loads something or ends one that does.
//! 2. `<!` or `<?` and a declaration that does.
//! 3. `=` behind the name of an event's attribute, at the start of the value, behind white space, a
//!    quote or `/`.
//! 4. Behind a `<` that begins an element: `=` behind an attribute that styles, loads or names
//!    another.
//! 5. `=` before a URL that is a program.
//! 6. A whole value that is such a URL, for it may become one's link.
//! 7. CSS that runs a program.
//!
//! Every rule looks at a bounded number of bytes around its `<` or `=`, so the time is linear.

use super::Fingerprint;

/// How far a name or scheme is read, bytes to be ignored among them.
const LOOK_BYTES_MAX: usize = 64;

pub(super) fn detect(value: &[u8]) -> Option<Fingerprint> {
    let mut in_element = false;
    for at in memchr::memchr2_iter(b'<', b'=', value) {
        if value[at] == b'<' {
            let inner = &value[at + 1..];
            // No browser begins an element with another byte.
            let begins = |byte: &u8| byte.is_ascii_alphabetic() || b"/!?\0".contains(byte);
            if inner.first().is_some_and(begins) {
                in_element = true;
                if let Some(found) = element(inner) {
                    return Some(found);
                }
            }
        } else if let Some(found) = attribute(&value[..at], &value[at + 1..], in_element) {
            return Some(found);
        }
    }
    url(value).or_else(|| css(value))
}

/// Elements that run, load or frame something, or change what the rest of a page means.
const ELEMENTS: [&str; 28] = [
    "applet",
    "base",
    "bgsound",
    "comment",
    "embed",
    "frame",
    "frameset",
    "handler",
    "iframe",
    "import",
    "isindex",
    "link",
    "listener",
    "math",
    "meta",
    "noembed",
    "noscript",
    "object",
    "plaintext",
    "portal",
    "script",
    "style",
    "svg",
    "vmlframe",
    "xml",
    "xmp",
    "xsl",
    "xss",
];

/// Elements whose end is worth something to an attack alone.
const ENDS: [&str; 7] = ["iframe", "noscript", "script", "style", "textarea", "title", "xmp"];

/// How a declaration begins, and its name in a fingerprint.
const DECLARATIONS: [(&str, &str); 6] = [
    ("doctype", "doctype"),
    ("entity", "entity"),
    ("attlist", "attlist"),
    ("[if", "if"),
    ("xml", "xml"),
    ("import", "import"),
];

fn element(inner: &[u8]) -> Option<Fingerprint> {
    match inner {
        [b'!' | b'?', rest @ ..] => {
            let name = Name::read(rest);
            let text = name.text().trim_start_matches('-');
            let found = DECLARATIONS.iter().find(|(start, _)| text.starts_with(start))?;
            Some(named("declaration:", found.1))
        }
        [b'/', rest @ ..] => {
            let name = Name::read(rest);
            Some(named("end:", ENDS.iter().find(|end| name.is(end))?))
        }
        _ => {
            let name = Name::read(inner);
            // `html:style` in a document of several vocabularies.
            let local = name.text().split_once(':').map(|(_, local)| Name::read(local.as_bytes()));
            let is = |element: &&&str| {
                name.is(element) || local.as_ref().is_some_and(|local| local.is(element))
            };
            Some(named("tag:", ELEMENTS.iter().find(is)?))
        }
    }
}

/// What the attributes of events begin with, behind `on`. Words of prose that begin with `on` and
/// are followed by `=` (`online=true`, `only=3`, `once=5`) are not among them.
const EVENTS: [&str; 84] = [
    "abort",
    "activate",
    "afterprint",
    "afterscript",
    "afterupdate",
    "animation",
    "audio",
    "auxclick",
    "before",
    "begin",
    "blur",
    "bounce",
    "cancel",
    "canplay",
    "cellchange",
    "change",
    "click",
    "close",
    "contextmenu",
    "controlselect",
    "copy",
    "cuechange",
    "cut",
    "dataavailable",
    "dataset",
    "dblclick",
    "deactivate",
    "drag",
    "drop",
    "durationchange",
    "emptied",
    "end",
    "error",
    "filterchange",
    "finish",
    "focus",
    "form",
    "fullscreen",
    "gesture",
    "gotpointer",
    "hashchange",
    "help",
    "input",
    "invalid",
    "key",
    "layoutcomplete",
    "load",
    "losecapture",
    "lostpointer",
    "media",
    "message",
    "mouse",
    "move",
    "offline",
    "online",
    "orientation",
    "page",
    "paste",
    "pause",
    "play",
    "pointer",
    "popstate",
    "progress",
    "propertychange",
    "qt_",
    "ratechange",
    "readystate",
    "repeat",
    "reset",
    "resize",
    "reverse",
    "row",
    "scroll",
    "search",
    "seek",
    "select",
    "show",
    "stalled",
    "start",
    "stop",
    "storage",
    "submit",
    "suspend",
    "touch",
];

const EVENTS_MORE: [&str; 16] = [
    "timeerror",
    "timeupdate",
    "toggle",
    "trackchange",
    "transition",
    "undo",
    "redo",
    "unhandled",
    "unload",
    "urlflip",
    "visibility",
    "volumechange",
    "waiting",
    "webkit",
    "wheel",
    "zoom",
];

/// Attributes that style, load or name others. They are words, too, so they count in an element
/// alone.
const ATTRIBUTES: [&str; 10] = [
    "attributename",
    "dataformatas",
    "datasrc",
    "filter",
    "formaction",
    "ping",
    "srcdoc",
    "style",
    "xlink:",
    "xmlns",
];

fn attribute(before: &[u8], after: &[u8], in_element: bool) -> Option<Fingerprint> {
    let window = &before[before.len().saturating_sub(LOOK_BYTES_MAX)..];
    let is_space = |byte: u8| byte <= b' ';
    let window =
        &window[..window.len() - window.iter().rev().take_while(|&&b| is_space(b)).count()];
    let is_name =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.' | 0);
    let length = window.iter().rev().take_while(|&&byte| is_name(byte)).count();
    let (rest, name) = window.split_at(window.len() - length);
    let name = Name::read(name);
    let separated = match rest.last() {
        // The whole of a value may be an attribute.
        None => window.len() < LOOK_BYTES_MAX,
        Some(&byte) => is_space(byte) || matches!(byte, b'\'' | b'"' | b'`' | b'/' | b';'),
    };
    if (separated || in_element)
        && let Some(event) = event(&name)
    {
        return Some(named("on:", event));
    }
    if let Some(scheme) = scheme(after)
        && length > 0
    {
        return Some(named("url:", scheme));
    }
    if in_element {
        let found = ATTRIBUTES.iter().find(|attribute| name.text().starts_with(*attribute))?;
        return Some(named("attribute:", found.trim_end_matches(':')));
    }
    None
}

fn event(name: &Name) -> Option<&'static str> {
    let event = name.text().strip_prefix("on")?;
    EVENTS.iter().chain(&EVENTS_MORE).find(|known| event.starts_with(**known)).copied()
}

/// The scheme of a URL that is a program, or a page of its own.
fn scheme(value: &[u8]) -> Option<&'static str> {
    // Browsers skip quotes as the attribute's, and white space and controls anywhere in a scheme.
    let skipped = |byte: u8| !(b'!'..=b'~').contains(&byte) || b"'\"`".contains(&byte);
    let window = &value[..value.len().min(LOOK_BYTES_MAX)];
    let from = window.iter().position(|&byte| !skipped(byte))?;
    // The first letters of the schemes below: most values have another.
    if !b"jJvVmMdD".contains(&window[from]) || memchr::memchr(b':', window).is_none() {
        return None;
    }
    let name = Name::squeezed(&window[from..]);
    let (scheme, rest) = name.text().split_once(':')?;
    match scheme {
        "javascript" => Some("javascript"),
        "vbscript" => Some("vbscript"),
        "view-source" => Some("view-source"),
        "mhtml" => Some("mhtml"),
        // A picture in its URL is ordinary, unless it is one that runs programs.
        "data" => (!rest.starts_with("image/") || rest.starts_with("image/svg")).then_some("data"),
        _ => None,
    }
}

/// A value that is a URL of a program. "JavaScript: The Good Parts" is a book.
fn url(value: &[u8]) -> Option<Fingerprint> {
    let scheme = scheme(value)?;
    let calls = |pair: &[u8]| {
        let [byte, next] = pair else { return false };
        let callee = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b']' | b')');
        (callee && matches!(next, b'(' | b'`')) || *next == b'='
    };
    let program = match scheme {
        "javascript" | "vbscript" => value.windows(2).any(calls),
        "data" => {
            let page = Name::squeezed(value).text().contains("data:text/html");
            page && value.iter().any(|byte| matches!(byte, b';' | b'<' | b'('))
        }
        _ => false,
    };
    program.then(|| named("scheme:", scheme))
}

/// `x:expression(…)` of old browsers, and what loads a program into a style.
fn css(value: &[u8]) -> Option<Fingerprint> {
    for at in memchr::memchr_iter(b'(', value) {
        let window = &value[at.saturating_sub(24)..at];
        let ends = |word: &str| {
            let tail = window.len().checked_sub(word.len()).and_then(|from| window.get(from..));
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(word.as_bytes()))
        };
        if ends(":expression") || ends(": expression") {
            return Some(named("css:", "expression"));
        }
        if ends("url") && scheme(&value[at + 1..]).is_some_and(|scheme| scheme != "data") {
            return Some(named("css:", "url"));
        }
    }
    None
}

fn named(kind: &str, name: &str) -> Fingerprint {
    let mut fingerprint = Fingerprint::new();
    fingerprint.push_str(kind);
    fingerprint.push_str(name);
    fingerprint
}

/// A name in lower case, without what browsers ignore in it.
struct Name(arrayvec::ArrayString<LOOK_BYTES_MAX>);

impl Name {
    /// Up to white space, `/` or `>`. NULs are ignored.
    fn read(bytes: &[u8]) -> Self {
        let ends = |byte: u8| matches!(byte, 1..=b' ' | b'/' | b'>');
        Self::collect(bytes.iter().copied().take_while(|&byte| !ends(byte)))
    }

    /// All of it, for white space is ignored in a scheme.
    fn squeezed(bytes: &[u8]) -> Self {
        Self::collect(bytes.iter().copied())
    }

    fn collect(bytes: impl Iterator<Item = u8>) -> Self {
        let mut name = arrayvec::ArrayString::new();
        for byte in bytes.take(LOOK_BYTES_MAX) {
            if matches!(byte, b'!'..=b'~') {
                name.push(char::from(byte.to_ascii_lowercase()));
            }
        }
        Self(name)
    }

    fn text(&self) -> &str {
        &self.0
    }

    /// Whether it is `word`, or `word` and something that no name has: `script<{`, `svg:svg`.
    fn is(&self, word: &str) -> bool {
        let rest = self.0.strip_prefix(word);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &str) -> String {
        detect(value.as_bytes()).map_or_else(|| "-".to_owned(), |found| found.to_string())
    }

    #[test]
    fn what_a_browser_acts_on_is_found() {
        for (value, want) in [
            ("<script>", "tag:script"),
            ("x</script >", "end:script"),
            ("<SCRIPT/src=x", "tag:script"),
            ("<script<{alert(1)}", "tag:script"),
            ("<scr\0ipt>", "tag:script"),
            ("<svg:svg", "tag:svg"),
            ("<html:style>", "tag:style"),
            ("<xsl:template>", "tag:xsl"),
            ("<styled>", "-"),
            ("<base64>", "-"),
            ("<iframe", "tag:iframe"),
            ("<!DOCTYPE x", "declaration:doctype"),
            ("<!--[if IE]>", "declaration:if"),
            ("<?xml version", "declaration:xml"),
            ("<!-- a comment -->", "-"),
            ("<img src=x onerror=alert(1)>", "on:error"),
            ("<img src=x onerror\t=\nalert(1)>", "on:error"),
            ("<img/src=\"x\"onerror=alert(1)>", "on:error"),
            ("<x onanimationstart=y", "on:animation"),
            ("\" onmouseover=\"alert(1)", "on:mouse"),
            ("x onfocus=alert(1) autofocus", "on:focus"),
            ("onload=alert(1)", "on:load"),
            ("?onload=start", "-"),
            ("online=true", "-"),
            ("moron load = 5", "-"),
            ("<a href=javascript:alert(1)>", "url:javascript"),
            ("<a href=\" java\nscript:alert(1)\">", "url:javascript"),
            ("<a href=https://app.example/>", "-"),
            ("<img src=data:image/png;base64,AA>", "-"),
            ("<img src=data:image/svg+xml,AA>", "url:data"),
            ("<a href=data:text/html,AA>", "url:data"),
            ("<p style=x>", "attribute:style"),
            ("style=x", "-"),
            ("<x xmlns:y=z>", "attribute:xmlns"),
            ("<set attributeName=href>", "attribute:attributename"),
            ("javascript:alert(1)", "scheme:javascript"),
            (" JaVa\tScript:alert`1`", "scheme:javascript"),
            ("JavaScript: The Good Parts (2008)", "-"),
            ("data:text/html;base64,AA", "scheme:data"),
            ("data:image/png;base64,AA", "-"),
            ("width:expression(alert(1))", "css:expression"),
            ("background:url('javascript:alert(1)')", "css:url"),
            ("background:url(a.png)", "-"),
            ("an expression (of doubt)", "-"),
            ("a < b = c > d", "-"),
            ("<", "-"),
            ("=", "-"),
        ] {
            assert_eq!(found(value), want, "{value}");
        }
    }

    #[test]
    fn every_name_has_room_in_a_fingerprint() {
        for (kind, names) in [
            ("tag:", &ELEMENTS[..]),
            ("end:", &ENDS),
            ("on:", &EVENTS),
            ("on:", &EVENTS_MORE),
            ("attribute:", &ATTRIBUTES),
            ("url:", &["javascript", "view-source"]),
            ("scheme:", &["javascript", "view-source"]),
        ] {
            for name in names {
                assert_eq!(named(kind, name).as_str(), format!("{kind}{name}"));
            }
        }
        for (_, name) in DECLARATIONS {
            assert!(named("declaration:", name).ends_with(name));
        }
    }
}
