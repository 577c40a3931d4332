//! `application/x-www-form-urlencoded`, decoded strictly.

use super::ContentFault;

/// Names and values in order; a name may come more than once. None is the value of a pair without
/// `=`, which readers take for empty.
pub type Pairs = Vec<(String, Option<String>)>;

/// Fields of one form: more are an attack on whoever keeps them in a table.
const PAIRS_MAX: usize = 10_000;

pub(super) fn parse(body: &[u8]) -> Result<Pairs, ContentFault> {
    let mut pairs = Vec::new();
    for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        if pairs.len() == PAIRS_MAX {
            let fault = format!("a form of at most {PAIRS_MAX} fields is accepted");
            return Err(ContentFault::malformed(fault));
        }
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let value = pair.get(end + 1..).map(decode).transpose()?;
        pairs.push((decode(&pair[..end])?, value));
    }
    Ok(pairs)
}

/// Percent-decodes `text`, a plus being a space.
fn decode(text: &[u8]) -> Result<String, ContentFault> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => {
                    let fault = "a percent sign in the form is not followed by two hex digits";
                    return Err(ContentFault::ambiguous("", fault));
                }
            },
            byte => *byte,
        });
    }
    String::from_utf8(out).map_err(|_| ContentFault::malformed("the form is not UTF-8"))
}

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_in_order_and_decoded() {
        let pairs = parse(b"a=1&b=x+y%2B%C3%A9&&a=&c&d=e=f").unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
        let want = [
            ("a", Some("1")),
            ("b", Some("x y+é")),
            ("a", Some("")),
            ("c", None),
            ("d", Some("e=f")),
        ];
        assert_eq!(pairs, want);
        assert_eq!(parse(b""), Ok(vec![]));
    }

    #[test]
    fn what_decoders_differ_in_is_a_fault() {
        for (body, ambiguous) in [("a=%", true), ("a=%2", true), ("a=%zz", true), ("a=%ff", false)]
        {
            assert_eq!(parse(body.as_bytes()).unwrap_err().ambiguous, ambiguous, "{body}");
        }
        let many = "a=1&".repeat(PAIRS_MAX + 1);
        assert!(parse(many.as_bytes()).is_err());
    }
}
