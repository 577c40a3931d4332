//! Undoes what a service might undo before it uses a value.
//!
//! The decodings are applied one after the other, each to what the last one made, in the order in
//! which layers of a service apply them: percent (twice, for a proxy in front of it), escapes of
//! JSON and JavaScript, entities of HTML, folding of look-alikes. So decoys for one decoding do not
//! use up the forms of another. They start over while they change something: what folding made of
//! a full-width `％` can be decoded again. None of them makes a value longer.

use super::Encoding;

/// Calls `look` with each form of `value` but the first, until it returns false or there have been
/// `forms_max`.
pub(super) fn each_form(
    value: &[u8],
    encoding: Encoding,
    forms_max: usize,
    mut look: impl FnMut(&[u8]) -> bool,
) {
    let mut form: Option<Vec<u8>> = None;
    let mut left = forms_max;
    loop {
        let mut changed = false;
        for (at, decode) in DECODINGS.iter().enumerate() {
            // A `+` is a space once: behind the first decoding it is a plus.
            let plus = at == 0 && form.is_none() && encoding == Encoding::Form;
            let source = form.as_deref().unwrap_or(value);
            let decoded = if plus { percent(source, b'+') } else { decode(source) };
            let Some(decoded) = decoded else { continue };
            if left == 0 || !look(&decoded) {
                return;
            }
            left -= 1;
            form = Some(decoded);
            changed = true;
        }
        if !changed {
            return;
        }
    }
}

/// What decoding makes of a value, or `None` where it changes nothing.
type Decode = fn(&[u8]) -> Option<Vec<u8>>;

const DECODINGS: [Decode; 5] = [percent_only, percent_only, escapes, entities, look_alikes];

/// Rewrites `value`: at each byte that `starts` takes, `decode` says how many bytes it reads there
/// and what they mean.
fn rewrite(
    value: &[u8],
    starts: impl Fn(u8) -> bool,
    decode: impl Fn(&[u8]) -> Option<(usize, char)>,
) -> Option<Vec<u8>> {
    let mut decoded: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(skipped) = value[at..].iter().position(|&byte| starts(byte)) {
        let here = at + skipped;
        let Some((length, meaning)) = decode(&value[here..]) else {
            if let Some(decoded) = &mut decoded {
                decoded.extend_from_slice(&value[at..=here]);
            }
            at = here + 1;
            continue;
        };
        let decoded = decoded.get_or_insert_with(|| {
            let mut start = Vec::with_capacity(value.len());
            start.extend_from_slice(&value[..at]);
            start
        });
        decoded.extend_from_slice(&value[at..here]);
        let mut bytes = [0; 4];
        // Bytes above ASCII stand for themselves: the parts of a character come one by one.
        match u8::try_from(u32::from(meaning)) {
            Ok(byte) => decoded.push(byte),
            Err(_) => decoded.extend_from_slice(meaning.encode_utf8(&mut bytes).as_bytes()),
        }
        at = here + length;
    }
    let mut decoded = decoded?;
    decoded.extend_from_slice(&value[at..]);
    Some(decoded)
}

fn percent_only(value: &[u8]) -> Option<Vec<u8>> {
    percent(value, b'%')
}

/// `%27`, and IIS's `%u0027`; the byte `space` too, where it is not `%`.
pub(super) fn percent(value: &[u8], space: u8) -> Option<Vec<u8>> {
    rewrite(
        value,
        |byte| byte == b'%' || byte == space,
        |rest| match rest {
            [b'%', b'u' | b'U', digits @ ..] => Some((6, character(hex(digits.get(..4)?)?)?)),
            [b'%', digits @ ..] => Some((3, character(hex(digits.get(..2)?)?)?)),
            _ => Some((1, ' ')),
        },
    )
}

/// `\u0027`, `\u{27}` and `\x27`.
fn escapes(value: &[u8]) -> Option<Vec<u8>> {
    rewrite(
        value,
        |byte| byte == b'\\',
        |rest| match rest {
            [_, b'u', b'{', digits @ ..] => {
                let length = digits.iter().take(7).position(|&byte| byte == b'}')?;
                Some((length + 4, character(hex(&digits[..length])?)?))
            }
            [_, b'u', digits @ ..] => Some((6, character(hex(digits.get(..4)?)?)?)),
            [_, b'x', digits @ ..] => Some((4, character(hex(digits.get(..2)?)?)?)),
            _ => None,
        },
    )
}

/// Those that an attack is written with; browsers read numbers without their `;`, too.
const ENTITIES: [(&[u8], char); 18] = [
    (b"lt;", '<'),
    (b"gt;", '>'),
    (b"amp;", '&'),
    (b"quot;", '"'),
    (b"apos;", '\''),
    (b"lpar;", '('),
    (b"rpar;", ')'),
    (b"colon;", ':'),
    (b"semi;", ';'),
    (b"equals;", '='),
    (b"sol;", '/'),
    (b"num;", '#'),
    (b"grave;", '`'),
    (b"period;", '.'),
    (b"Tab;", '\t'),
    (b"NewLine;", '\n'),
    (b"nbsp;", ' '),
    (b"bsol;", '\\'),
];

/// How many digits a number may have: some write zeros before it.
const ENTITY_DIGITS_MAX: usize = 10;

fn entities(value: &[u8]) -> Option<Vec<u8>> {
    rewrite(
        value,
        |byte| byte == b'&',
        |rest| match rest {
            [_, b'#', b'x' | b'X', digits @ ..] => number(digits, 16).map(|(n, c)| (n + 3, c)),
            [_, b'#', digits @ ..] => number(digits, 10).map(|(n, c)| (n + 2, c)),
            [_, name @ ..] => ENTITIES
                .iter()
                .find(|(entity, _)| name.starts_with(entity))
                .map(|&(entity, meaning)| (entity.len() + 1, meaning)),
            [] => None,
        },
    )
}

/// The character that `digits` begin with the number of, and how many bytes that takes.
fn number(digits: &[u8], radix: u32) -> Option<(usize, char)> {
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
    let length = digits.iter().take(ENTITY_DIGITS_MAX).take_while(is_digit).count();
    let value = std::str::from_utf8(&digits[..length]).ok()?;
    let meaning = character(u32::from_str_radix(value, radix).ok()?)?;
    Some((length + usize::from(digits.get(length) == Some(&b';')), meaning))
}

fn hex(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, |number, &digit| Some(number << 4 | char::from(digit).to_digit(16)?))
}

/// Half of a surrogate pair is nothing that an attack is made of.
fn character(number: u32) -> Option<char> {
    char::from_u32(number)
}

/// Characters that databases, frameworks and decoders take for a byte of ASCII: compatibility
/// forms (NFKC), a modifier letter that SQL Server stores as `'`, and UTF-8 that is longer than it
/// may be. Typographic quotes are not among them: no normalization makes them `'`.
fn look_alikes(value: &[u8]) -> Option<Vec<u8>> {
    rewrite(
        value,
        |byte| matches!(byte, 0xC0 | 0xC1 | 0xCA | 0xE0 | 0xE2 | 0xEF | 0xF0),
        |rest| {
            let (length, number) = match *rest {
                [lead @ (0xC0 | 0xC1), b, ..] => (2, u32::from(lead & 1) << 6 | tail(b)?),
                [0xCA, b, ..] => (2, 0x280 | tail(b)?),
                [lead @ (0xE0 | 0xE2 | 0xEF), b, c, ..] => {
                    (3, u32::from(lead & 0xF) << 12 | tail(b)? << 6 | tail(c)?)
                }
                [0xF0, 0x80, b, c, ..] => (4, tail(b)? << 6 | tail(c)?),
                _ => return None,
            };
            Some((length, char::from(ascii_of(number)?)))
        },
    )
}

/// The six bits of a byte that continues a character.
fn tail(byte: u8) -> Option<u32> {
    (byte & 0xC0 == 0x80).then_some(u32::from(byte & 0x3F))
}

fn ascii_of(number: u32) -> Option<u8> {
    let byte = match number {
        // Only UTF-8 that is longer than it may be gets here with these.
        0..=0x7F => number,
        0xFF01..=0xFF5E => number - 0xFF01 + 0x21,
        0x02BC => u32::from(b'\''),
        // Exclamation marks and dots in one.
        0x203C => u32::from(b'!'),
        0x2024 => u32::from(b'.'),
        0x207A | 0x208A => u32::from(b'+'),
        0x207C | 0x208C => u32::from(b'='),
        0x207D | 0x208D => u32::from(b'('),
        0x207E | 0x208E => u32::from(b')'),
        0x2260 => u32::from(b'='),
        0x226E => u32::from(b'<'),
        0x226F => u32::from(b'>'),
        // Small forms.
        0xFE50 => u32::from(b','),
        0xFE52 => u32::from(b'.'),
        0xFE54 => u32::from(b';'),
        0xFE55 => u32::from(b':'),
        0xFE59 => u32::from(b'('),
        0xFE5A => u32::from(b')'),
        0xFE5F => u32::from(b'#'),
        0xFE60 => u32::from(b'&'),
        0xFE61 => u32::from(b'*'),
        0xFE62 => u32::from(b'+'),
        0xFE63 => u32::from(b'-'),
        0xFE64 => u32::from(b'<'),
        0xFE65 => u32::from(b'>'),
        0xFE66 => u32::from(b'='),
        0xFE68 => u32::from(b'\\'),
        0xFE69 => u32::from(b'$'),
        0xFE6A => u32::from(b'%'),
        0xFE6B => u32::from(b'@'),
        _ => return None,
    };
    u8::try_from(byte).ok()
}
