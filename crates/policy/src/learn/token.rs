//! Tells what was drawn at random from what somebody wrote, by how it reads: a name is made of
//! words, whose letters follow each other as they do in languages, in one style of case. In a token
//! hardly anything does.
//!
//! It is an estimate, of which the tests hold the figures. Of 20,000 random texts of Base64url, 421
//! read like a name at 10 characters, 5 at 16, 1 at 20 and none at 24 and more; of as many of 16
//! letters in lower case, 892. What is made of words, a passphrase among them, cannot be told from a
//! name.

/// Letters and digits below which a text is too short to judge.
const BYTES_MIN: usize = 8;

/// Letters and digits of a token for each oddity, at most: a long name may have some.
const BYTES_PER_ODDITY: usize = 10;

/// Oddities of a token in lower case, as of `mysql_vtab`.
const ODDITIES_MIN: usize = 3;

/// The same where the case changes, by which words are cut and less of a token is a pair.
const ODDITIES_MIXED_MIN: usize = 2;

/// Groups of digits that a name may have, and one whose case changes.
const GROUPS_MAX: usize = 2;
const GROUPS_MIXED_MAX: usize = 1;

/// The letters that follow each letter in words, from `a`: those of at least 3 in 10,000 pairs in
/// the identifiers of the libraries that the gateway is made of, and what German, Dutch, Polish and
/// the like have beside.
const FOLLOWERS: [&[u8]; 26] = [
    b"bcdefghijklmnprstuvwxyz",
    b"aceijlorsuy",
    b"abcdeghiklmoprstuvy",
    b"abdefgilmoprstuvw",
    b"abcdefghiklmnopqrstuvwxyz",
    b"acdefiloprstuy",
    b"aeghilmnorstuy",
    b"aeilmnortuwy",
    b"abcdefgjklmnopqrstvxz",
    b"aeiou",
    b"aeilnorstuwy",
    b"abcdefiklopstuy",
    b"abeilmopstu",
    b"abcdefghiklmnoprstuvy",
    b"abcdefghijklmnoprstuvwxyz",
    b"acdefghilmoprstuv",
    b"lu",
    b"abcdefgiklmnoprstuvwy",
    b"acefghiklmnoprstuwyz",
    b"abcdefghilmnoprstuwxy",
    b"abcdefgiklmnoprstvyz",
    b"aeiory",
    b"aehilnorsuy",
    b"aceioptu",
    b"acdeilmnoprst",
    b"aeiouwyz",
];

/// Words that are no pairs of letters as above, or are as short as a piece of a token.
const ABBREVIATIONS: [&str; 79] = [
    "ad", "am", "an", "as", "at", "be", "by", "cfg", "cpu", "crm", "csrf", "css", "csv", "db",
    "dns", "do", "dst", "dto", "gmt", "go", "gpu", "grpc", "hsl", "html", "http", "https", "id",
    "if", "in", "io", "ip", "is", "js", "jwe", "jwk", "jwks", "jwt", "me", "mp", "ms", "msg", "my",
    "no", "npm", "of", "ok", "on", "or", "os", "pdf", "pm", "png", "pr", "pwd", "qty", "re", "rgb",
    "rpc", "sms", "sql", "src", "ssh", "ssl", "tls", "tmp", "to", "ts", "ttl", "tv", "tz", "ui",
    "up", "us", "vm", "vs", "we", "xhtml", "xml", "xsrf",
];

/// Whether `text`, of ASCII, is more likely to have been drawn at random than written.
pub(super) fn is_token(text: &str) -> bool {
    let bytes = text.as_bytes();
    let length = bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
    if length < BYTES_MIN {
        return false;
    }
    let is_hash = bytes.iter().any(u8::is_ascii_digit) && bytes.iter().all(u8::is_ascii_hexdigit);
    let is_mixed = is_mixed(bytes);
    let oddities = oddities(bytes, is_mixed);
    let least = if is_mixed { ODDITIES_MIXED_MIN } else { ODDITIES_MIN };
    is_hash || (oddities >= least && oddities * BYTES_PER_ODDITY >= length)
}

/// Whether a capital is elsewhere than in front of a word that is set apart.
fn is_mixed(bytes: &[u8]) -> bool {
    let inner = |pair: &[u8]| pair[0].is_ascii_alphanumeric() && pair[1].is_ascii_uppercase();
    bytes.iter().any(u8::is_ascii_lowercase) && bytes.windows(2).any(inner)
}

/// What does not read like a name.
fn oddities(bytes: &[u8], is_mixed: bool) -> usize {
    let (mut odd, mut groups, mut acronyms) = (0, 0_usize, 0_usize);
    let mut rest = bytes;
    let mut is_start = true;
    while let Some(first) = rest.first() {
        let (piece, behind) = rest.split_at(piece(rest));
        if first.is_ascii_digit() {
            groups += 1;
            let goes_on = behind.first().is_some_and(|byte| {
                byte.is_ascii_lowercase() || (is_start && byte.is_ascii_alphabetic())
            });
            odd += usize::from(is_mixed && goes_on);
        } else if first.is_ascii_alphabetic() && !is_abbreviation(piece) {
            odd += piece.windows(2).filter(|pair| !follows(pair[0], pair[1])).count();
            odd += usize::from(is_mixed && piece.len() <= 2);
            acronyms += usize::from(piece.len() > 2 && piece.iter().all(u8::is_ascii_uppercase));
        }
        is_start = !first.is_ascii_alphanumeric();
        rest = behind;
    }
    let groups_max = if is_mixed { GROUPS_MIXED_MAX } else { GROUPS_MAX };
    odd += groups.saturating_sub(groups_max);
    if is_mixed { odd + acronyms.saturating_sub(1) } else { odd }
}

/// The bytes of the first piece of `rest`: digits, `Word`, `word`, the `URL` of `URLFor`, or one
/// byte that is none of these.
fn piece(rest: &[u8]) -> usize {
    let run = |from: usize, is: fn(&u8) -> bool| {
        from + rest[from..].iter().take_while(|byte| is(byte)).count()
    };
    let capitals = run(0, u8::is_ascii_uppercase);
    let word = run(capitals, u8::is_ascii_lowercase);
    match capitals {
        0 if word > 0 => word,
        0 => run(0, u8::is_ascii_digit).max(1),
        1 => word,
        _ if word > capitals => capitals - 1,
        _ => capitals,
    }
}

fn follows(first: u8, second: u8) -> bool {
    let letter = usize::from(first.to_ascii_lowercase().wrapping_sub(b'a'));
    FOLLOWERS.get(letter).is_some_and(|known| known.contains(&second.to_ascii_lowercase()))
}

fn is_abbreviation(word: &[u8]) -> bool {
    ABBREVIATIONS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use ring::digest::{SHA256, digest};

    use super::*;

    #[test]
    fn a_name_is_no_token() {
        for name in [
            "complaints GetUserById getUserByIDAndOrgID v1 oauth2 oauth2Callback .well-known",
            "openid-configuration jwks.json index.html app.bundle.js swagger-ui.html robots.txt",
            "XMLHttpRequest getHTTPSURL GetAWSKMSKeyId ListObjectsV2 s3UploadUrl p2pNode",
            "iso8601DateTime phoneNumberE164 x5tS256 ipV6Address isUSCitizen firstNameKana utf8mb4",
            "shippingAddressLine2 address_line_2 utm_campaign tags[] filter[createdAt] $schema",
            "access_token client_secret authenticity_token csrfmiddlewaretoken __VIEWSTATEGENERATOR",
            "__RequestVerificationToken X-Requested-With X-CSRF-Token postgresql Wednesday",
            "adresseFacturation rechnungsadresse Kundenkonto postLeitZahl gebruikersnaam straatnaam",
            "fechaNacimiento numeroDeTelefono przelewy24 sklepWielkosc zamowienieNumer hozzaszolas",
            "vnd.openxmlformats-officedocument.wordprocessingml.document x-www-form-urlencoded",
            "vnd.ms-excel.sheet.macroenabled.12 merge-patch+json sparql-results+xml grpc-web+proto",
        ]
        .into_iter()
        .flat_map(str::split_whitespace)
        {
            assert!(!is_token(name), "{name}: {}", oddities(name.as_bytes(), is_mixed(name.as_bytes())));
        }
    }

    #[test]
    fn a_token_is_one() {
        for token in [
            "dQwXw9WgXcQabcdefXYZ",
            "dQw4w9WgXcQ",
            "a3f2b1cd",
            "SSTX9QrVOBAcMueWNAeaurva105EbQUJ",
            "eyJhbGciOiJIUzI1NiJ9",
            "xkqzvwpjfhtrbnml",
            "mfrggzdfmztwq2lk",
            "x-QxZdJk-wVbGq",
        ] {
            assert!(is_token(token), "{token}");
        }
        assert!(!is_token("xkqzvwp"), "too short to judge");
        assert!(!is_token("correcthorsebatterystaple"), "made of words");
    }

    /// The figures of the header, for a sample that is always the same.
    #[test]
    fn few_random_texts_are_taken_for_names() {
        const TEXTS: u32 = 20_000;
        let lower: Vec<char> = ('a'..='z').collect();
        let base64: Vec<char> =
            lower.iter().copied().chain('A'..='Z').chain('0'..='9').chain(['-', '_']).collect();
        let kept = |alphabet: &[char], length: usize| {
            let text = |n: u32| -> String {
                let block = |part: u8| digest(&SHA256, format!("{length} {n} {part}").as_bytes());
                let blocks = [block(0), block(1)];
                let bytes = blocks.iter().flat_map(|block| block.as_ref());
                let letter = |byte: &u8| alphabet[usize::from(*byte) % alphabet.len()];
                bytes.take(length).map(letter).collect()
            };
            (0..TEXTS).filter(|n| !is_token(&text(*n))).count()
        };
        let measured = [10, 12, 16, 20, 24, 32, 40].map(|length| kept(&base64, length));
        assert_eq!(measured, [421, 91, 5, 1, 0, 0, 0], "Base64url, of {TEXTS} each");
        let measured = [16, 26].map(|length| kept(&lower, length));
        assert_eq!(measured, [892, 37], "lower case, of {TEXTS} each");
    }
}
