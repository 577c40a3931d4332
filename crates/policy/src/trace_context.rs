//! W3C Trace Context: a valid `traceparent` is continued, a bad one is restarted.
//!
//! Source: W3C Recommendation "Trace Context" (level 1), sections 3.2 and 4.

use std::fmt;

/// The identity of a request in a distributed trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: u128,
    /// The caller's span when read, ours when sent.
    pub parent_id: u64,
    pub flags: u8,
}

/// The length of a `traceparent` of version 00.
pub const LEN: usize = 55;

impl TraceContext {
    /// Reads a `traceparent`. A version above 00 may be longer; its known front part is read.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let front = value.get(..LEN)?;
        let dashes = front[2] == b'-' && front[35] == b'-' && front[52] == b'-';
        let version = hex(&front[..2])?;
        let whole = value.len() == LEN || (version != 0 && value[LEN] == b'-');
        if !dashes || !whole || version == 0xff {
            return None;
        }
        let trace_id = hex(&front[3..35])?;
        let parent_id = hex(&front[36..52])? as u64;
        let flags = hex(&front[53..])? as u8;
        (trace_id != 0 && parent_id != 0).then_some(Self { trace_id, parent_id, flags })
    }

    /// The same trace with `span` as the parent of what comes next; `span` must not be 0.
    #[must_use]
    pub fn child(self, span: u64) -> Self {
        Self { parent_id: span.max(1), ..self }
    }

    /// A new trace, not sampled: whoever records traces decides that, not the gateway.
    pub fn start(trace_id: u128, span: u64) -> Self {
        Self { trace_id: trace_id.max(1), parent_id: span.max(1), flags: 0 }
    }

    /// The header's bytes, without an allocation.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut out[3..35], &self.trace_id.to_be_bytes());
        write_hex(&mut out[36..52], &self.parent_id.to_be_bytes());
        write_hex(&mut out[53..], &[self.flags]);
        out
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_bytes()).expect("hex digits are ASCII"))
    }
}

/// Reads lower-case hex digits; upper case is invalid in the standard.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Writes two hex digits for each of `bytes`.
pub fn write_hex(out: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (digits, byte) in out.chunks_exact_mut(2).zip(bytes) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 0xf)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_valid_parent_is_continued() {
        let context = TraceContext::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(context.to_string(), GOOD);
        let child = context.child(0x1234).to_string();
        assert_eq!(child, "00-0af7651916cd43dd8448eb211c80319c-0000000000001234-01");
        let future = format!("{}-what-comes", GOOD.replacen("00", "cc", 1));
        assert!(TraceContext::parse(future.as_bytes()).is_some());
    }

    #[test]
    fn a_bad_parent_is_refused() {
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
