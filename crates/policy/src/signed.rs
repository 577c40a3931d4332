//! What signed webhooks have in common, whoever sends them and whoever is meant by them: the
//! secrets, the timestamps, and the ways in which signatures are written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::source::{Source, Sources};

/// Less would be guessed sooner than the hash behind it (RFC 2104, 3).
pub const SECRET_BYTES_MIN: usize = 32;

/// Signatures that one request may carry: senders add one for each secret while they replace it.
pub const SIGNATURES_MAX: usize = 8;

/// How a secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretForm {
    /// Its bytes are the key.
    Plain,
    /// As Standard Webhooks writes it: base64 behind `whsec_`. Without that, its bytes are the key.
    Standard,
}

/// The key at `source`, or what is wrong with it, as a clause. Never shows any of it.
pub fn secret(source: &Source, form: SecretForm, sources: &Sources) -> Result<Vec<u8>, String> {
    let text = sources.bytes(source)?.trim_ascii();
    let secret = match (form, text.strip_prefix(b"whsec_")) {
        (SecretForm::Standard, Some(encoded)) => STANDARD
            .decode(encoded)
            .map_err(|_| format!("{source} is not base64 behind its \"whsec_\""))?,
        _ => text.to_vec(),
    };
    if secret.len() < SECRET_BYTES_MIN {
        let length = secret.len();
        return Err(format!(
            "{source} has {length} bytes; a secret needs at least {SECRET_BYTES_MIN}"
        ));
    }
    Ok(secret)
}

/// The signatures of version 1 in `webhook-signature`, as Standard Webhooks writes them.
pub fn standard_signatures(field: &[u8]) -> Vec<Vec<u8>> {
    let versioned = field.split(|byte| *byte == b' ');
    let encoded = versioned.filter_map(|signature| signature.strip_prefix(b"v1,"));
    encoded.filter_map(|encoded| STANDARD.decode(encoded).ok()).take(SIGNATURES_MAX).collect()
}

/// Unix time in seconds, written in decimal digits; 12 of them last for 30 000 years.
pub fn unix_seconds(text: &[u8]) -> Option<u64> {
    let digits = (1..=12).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Bytes in hex, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Bytes written in hex, in either case; at most 64, which is more than any signature here has.
pub fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = text.chunks_exact(2);
    if !pairs.remainder().is_empty() || text.len() > 128 {
        return None;
    }
    pairs.map(|pair| Some(digit(&pair[0])? << 4 | digit(&pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_digits_alone() {
        for (text, want) in [
            ("0", Some(0)),
            ("1800000000", Some(1_800_000_000)),
            ("999999999999", Some(999_999_999_999)),
            ("1000000000000", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            (" 1", None),
            ("1.5", None),
            ("yesterday", None),
        ] {
            assert_eq!(unix_seconds(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn hex_is_read_as_it_is_written() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in all.chunks(64) {
            let text = hex(bytes);
            assert_eq!(unhex(text.as_bytes()).as_deref(), Some(bytes));
            assert_eq!(unhex(text.to_uppercase().as_bytes()).as_deref(), Some(bytes));
        }
        for text in ["0", "0g", "sha256=00", " 00", &"00".repeat(65)] {
            assert_eq!(unhex(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_secret_is_long_enough_and_never_shown() {
        let encoded = format!("whsec_{}", STANDARD.encode([7; 32]));
        let plain = "correct horse battery staple, and on";
        for (form, text, want) in [
            (SecretForm::Plain, plain, Ok(plain.as_bytes().to_vec())),
            (SecretForm::Plain, &format!("\t{plain}\n"), Ok(plain.as_bytes().to_vec())),
            (SecretForm::Standard, &encoded, Ok(vec![7; 32])),
            (SecretForm::Plain, &encoded, Ok(encoded.clone().into_bytes())),
            (SecretForm::Standard, plain, Ok(plain.as_bytes().to_vec())),
            (
                SecretForm::Standard,
                "whsec_hunter2, hunter2, hunter2, hunter2",
                Err("env:S is not base64 behind its \"whsec_\"".to_owned()),
            ),
            (
                SecretForm::Plain,
                "hunter2",
                Err("env:S has 7 bytes; a secret needs at least 32".to_owned()),
            ),
            (
                SecretForm::Plain,
                "  ",
                Err("env:S has 0 bytes; a secret needs at least 32".to_owned()),
            ),
        ] {
            let source = Source::Env("S".to_owned());
            let mut sources = Sources::default();
            sources.insert(source.clone(), Ok(text.as_bytes().to_vec()));
            assert_eq!(secret(&source, form, &sources), want, "{form:?} {text:?}");
        }
    }
}
