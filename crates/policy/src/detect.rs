//! Finds SQL injection and cross-site scripting in a value.
//!
//! 1. A value of letters, digits and plain punctuation, with no word in it that an attack made of
//!    nothing else would need, is let go by a look at each byte.
//! 2. Any other is read as it is, and then after each decoding that a service might apply, as long
//!    as decoding changes it, in at most [`FORMS_MAX`] forms.
//! 3. Each form is looked at for SQL injection by libinjection's fingerprints, and for cross-site
//!    scripting by the tags, attributes and schemes that a browser would act on.
//! 4. Of a value longer than [`VALUE_BYTES_MAX`] its first three quarters of that and its last
//!    quarter are looked at. What an attack breaks out of begins before the value, so it stands at
//!    its start; what it comments out follows, so it may also stand at its end. Overlapping windows
//!    would read text from its middle as if it stood behind a quote, and find what is not there.
//! 5. A finding names what it saw in words of this module alone: it never carries the value.
//!
//! Not found: injection into other languages (NoSQL, templates, shells, LDAP, XPath), a payload
//! split over several values, one in an encoding of the service's own.

mod decode;
pub mod fields;
mod prefilter;
mod sql;
mod xss;

use arrayvec::ArrayString;

use prefilter::Classes;

/// In how many forms a value is looked at, the one that was sent among them.
pub const FORMS_MAX: usize = 6;

/// How much of one value is looked at.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// What was found in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    pub fingerprint: Fingerprint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sql,
    Xss,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sql => "sql",
            Self::Xss => "xss",
        }
    }
}

/// libinjection's fingerprint (`s&1c`), or the element, attribute or scheme that a browser would
/// act on (`tag:script`, `on:error`, `scheme:javascript`).
pub type Fingerprint = ArrayString<24>;

/// For which kinds a value is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    Sql,
    Xss,
    Both,
}

impl Kinds {
    const fn sql(self) -> bool {
        matches!(self, Self::Sql | Self::Both)
    }

    const fn xss(self) -> bool {
        matches!(self, Self::Xss | Self::Both)
    }

    /// These kinds but for `others`.
    fn without(self, others: Self) -> Option<Self> {
        match (self.sql() && !others.sql(), self.xss() && !others.xss()) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Sql),
            (false, true) => Some(Self::Xss),
            (false, false) => None,
        }
    }
}

/// How a value was written for its way here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A query or a form: percent-encoded, and `+` is a space.
    Form,
    /// Anything else, already decoded as its format wants it.
    Plain,
}

/// What the first form of `value` that has an attack in it shows. SQL injection is looked for
/// first. Allocates only where decoding changes the value.
pub fn inspect(value: &[u8], encoding: Encoding, kinds: Kinds) -> Option<Finding> {
    let classes = Classes::of(value);
    if classes.are_harmless(value) {
        return None;
    }
    let (head, tail) = parts(value);
    inspect_part(head, classes, encoding, kinds)
        .or_else(|| inspect_part(tail?, classes, encoding, kinds))
}

/// The parts of `value` that are looked at.
fn parts(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    if value.len() <= VALUE_BYTES_MAX {
        return (value, None);
    }
    let tail = VALUE_BYTES_MAX / 4;
    (&value[..VALUE_BYTES_MAX - tail], Some(&value[value.len() - tail..]))
}

/// Looks at `value` in all its forms, where `classes` are those of its bytes or of more.
fn inspect_part(
    value: &[u8],
    classes: Classes,
    encoding: Encoding,
    kinds: Kinds,
) -> Option<Finding> {
    let sent = if classes.has_markup() { Some(kinds) } else { kinds.without(Kinds::Xss) };
    let mut found = sent.and_then(|kinds| inspect_form(value, kinds));
    if found.is_none() && classes.is_encoded() {
        decode::each_form(value, encoding, FORMS_MAX - 1, |form| {
            found = inspect_form(form, kinds);
            found.is_none()
        });
    }
    found
}

fn inspect_form(value: &[u8], kinds: Kinds) -> Option<Finding> {
    if kinds.sql()
        && let Some(found) = sql::detect(value)
    {
        let fingerprint = Fingerprint::from(&found).expect("five letters have room");
        return Some(Finding { kind: Kind::Sql, fingerprint });
    }
    if kinds.xss()
        && let Some(fingerprint) = xss::detect(value)
    {
        return Some(Finding { kind: Kind::Xss, fingerprint });
    }
    None
}

/// What is found in `value` where no byte is trusted to say that there is nothing.
#[cfg(test)]
fn inspect_all(value: &[u8], encoding: Encoding) -> Option<Finding> {
    let mut found = inspect_form(value, Kinds::Both);
    decode::each_form(value, encoding, FORMS_MAX - 1, |form| {
        found = found.or_else(|| inspect_form(form, Kinds::Both));
        found.is_none()
    });
    found
}

#[cfg(test)]
mod tests;
