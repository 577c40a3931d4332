//! `Content-Encoding`: decoded to a bound, or not at all.

use std::io::{ErrorKind, Read};

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::HeaderValue;

use super::Unread;

/// Decodes `raw` as the fields say; `None` where they say "identity" alone.
pub(super) fn decode<'a>(
    raw: &[u8],
    fields: impl IntoIterator<Item = &'a HeaderValue>,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, Unread> {
    let mut codings = fields
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"));
    let Some(coding) = codings.next() else { return Ok(None) };
    if codings.next().is_some() {
        return Err(Unread::Coding);
    }
    let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
    if is(b"gzip") || is(b"x-gzip") {
        let mut decoder = MultiGzDecoder::new(raw);
        let fault = "it is not gzip, or goes on behind its end";
        return Ok(Some(inflate(&mut decoder, bytes_max, fault)?));
    }
    if is(b"deflate") {
        let fault = "it is not deflate in the zlib format, or goes on behind its end";
        let mut decoder = ZlibDecoder::new(raw);
        let plain = inflate(&mut decoder, bytes_max, fault)?;
        // One reader would stop here, another would go on.
        if decoder.total_in() != raw.len() as u64 {
            return Err(Unread::BadCoding(fault));
        }
        return Ok(Some(plain));
    }
    Err(Unread::Coding)
}

/// Everything that comes out of `decoder`, unless it is too much.
fn inflate(
    decoder: &mut impl Read,
    bytes_max: usize,
    fault: &'static str,
) -> Result<Vec<u8>, Unread> {
    let mut plain = Vec::new();
    let most = bytes_max as u64 + 1;
    decoder.take(most).read_to_end(&mut plain).map_err(|error| {
        let is_cut = error.kind() == ErrorKind::UnexpectedEof;
        Unread::BadCoding(if is_cut { "it is cut short" } else { fault })
    })?;
    if plain.len() > bytes_max {
        return Err(Unread::TooLarge { bytes_max });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn read(raw: &[u8], fields: &[&'static str]) -> Result<Option<Vec<u8>>, Unread> {
        let fields: Vec<_> = fields.iter().map(|field| HeaderValue::from_static(field)).collect();
        decode(raw, &fields, 100)
    }

    #[test]
    fn one_coding_is_decoded_and_anything_else_is_not_read() {
        let plain = || Ok(Some(b"hello".to_vec()));
        let bad = |result: &Result<_, Unread>| matches!(result, Err(Unread::BadCoding(_)));
        assert_eq!(read(&gzip(b"hello"), &["gzip"]), plain());
        assert_eq!(read(&gzip(b"hello"), &["X-GZIP , identity"]), plain());
        assert_eq!(read(&[gzip(b"hel"), gzip(b"lo")].concat(), &["gzip"]), plain());
        assert_eq!(read(&deflate(b"hello"), &["deflate"]), plain());
        assert_eq!(read(b"hello", &["identity"]), Ok(None));
        assert_eq!(read(b"hello", &["br"]), Err(Unread::Coding));
        assert_eq!(read(&gzip(&gzip(b"hello")), &["gzip, gzip"]), Err(Unread::Coding));
        assert_eq!(read(&gzip(b"hello"), &["gzip", "deflate"]), Err(Unread::Coding));
        assert!(bad(&read(b"hello", &["gzip"])));
        assert!(bad(&read(&[&gzip(b"hello")[..], b"more"].concat(), &["gzip"])));
        assert!(bad(&read(&[&deflate(b"hello")[..], b"more"].concat(), &["deflate"])));
    }

    #[test]
    fn what_is_cut_short_is_told_as_that() {
        for (coding, whole) in [("gzip", gzip(b"hello")), ("deflate", deflate(b"hello"))] {
            for end in 0..whole.len() {
                let cut = read(&whole[..end], &[coding]);
                assert_eq!(cut, Err(Unread::BadCoding("it is cut short")), "{coding} {end}");
            }
        }
    }

    #[test]
    fn a_bomb_is_given_up_at_the_bound() {
        let bomb = gzip(&vec![0; 10 << 20]);
        assert!(bomb.len() < 20_000);
        assert_eq!(read(&bomb, &["gzip"]), Err(Unread::TooLarge { bytes_max: 100 }));
        assert_eq!(
            read(&deflate(&[0; 101]), &["deflate"]),
            Err(Unread::TooLarge { bytes_max: 100 })
        );
        assert_eq!(read(&deflate(&[0; 100]), &["deflate"]), Ok(Some(vec![0; 100])));
    }
}
