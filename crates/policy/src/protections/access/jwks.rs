//! JSON Web Key Sets (RFC 7517): the public keys of whoever issues the tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::jwt::{Key, Material};
use crate::content::parse_json;

/// Keys of one set: issuers have two or three.
const KEYS_MAX: usize = 64;

/// Reads a set. Keys of other kinds and for other uses are passed over, as RFC 7517 (5) has it.
pub(super) fn read(text: &[u8]) -> Result<Vec<Key>, String> {
    let set = parse_json(text).map_err(|fault| format!("is no key set: {}", fault.detail))?;
    let list = set.get("keys").and_then(Value::as_array).ok_or("has no list of `keys`")?;
    if list.len() > KEYS_MAX {
        return Err(format!("has more than {KEYS_MAX} keys"));
    }
    let mut keys: Vec<Key> = Vec::new();
    for (index, jwk) in list.iter().enumerate() {
        let key = key(jwk).map_err(|fault| format!("has a fault in keys[{index}]: {fault}"))?;
        let Some(key) = key else { continue };
        let twice = |known: &&Key| known.kid == key.kid && known.algorithm() == key.algorithm();
        if key.kid.is_some() && keys.iter().any(|known| twice(&known)) {
            return Err(format!("has the `kid` of keys[{index}] twice"));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err("has no key for RS256, ES256 or EdDSA".to_owned());
    }
    Ok(keys)
}

/// One key; `None` where it is of a kind that is not used here.
fn key(jwk: &Value) -> Result<Option<Key>, String> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|usage| usage != "sig") {
        return Ok(None);
    }
    let bytes = |name: &'static str, length: Option<usize>| {
        text(name)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .filter(|bytes| length.is_none_or(|length| bytes.len() == length))
            .ok_or_else(|| format!("its `{name}` is not right"))
    };
    let material = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => {
            let (n, e) = (bytes("n", None)?, bytes("e", None)?);
            let n: Vec<u8> = n.into_iter().skip_while(|byte| *byte == 0).collect();
            let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
            if !(2048..=8192).contains(&bits) {
                return Err(format!("an RSA key of 2048 to 8192 bits is needed, not of {bits}"));
            }
            Material::Rsa { n, e }
        }
        (Some("EC"), Some("P-256")) => {
            Material::P256([&[4][..], &bytes("x", Some(32))?, &bytes("y", Some(32))?].concat())
        }
        (Some("OKP"), Some("Ed25519")) => Material::Ed25519(bytes("x", Some(32))?),
        _ => return Ok(None),
    };
    let key = Key { kid: text("kid").map(str::to_owned), material };
    match text("alg") {
        Some(name) if name != key.algorithm().name() => Ok(None),
        _ => Ok(Some(key)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::jwt::tests::Signer;
    use super::*;

    fn ec(kid: &str) -> Value {
        let point = Signer::p256().public();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        json!({ "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y })
    }

    fn rsa(bits: usize) -> Value {
        let n = URL_SAFE_NO_PAD.encode(vec![0xff; bits / 8]);
        json!({ "kty": "RSA", "kid": "r", "n": n, "e": "AQAB" })
    }

    #[test]
    fn a_set_is_read_and_what_is_not_for_signatures_passed_over() {
        let mut encryption = ec("enc");
        encryption["use"] = json!("enc");
        let mut other = rsa(2048);
        other["alg"] = json!("RS512");
        let p384 = json!({ "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" });
        let okp = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 32]) });
        let set = json!({ "keys": [ec("a"), encryption, other, p384, okp, rsa(2048)] });
        let kinds: Vec<_> = read(set.to_string().as_bytes())
            .unwrap()
            .iter()
            .map(|key| (key.kid.clone(), key.algorithm().name()))
            .collect();
        let kid = |kid: &str| Some(kid.to_owned());
        assert_eq!(kinds, [(kid("a"), "ES256"), (None, "EdDSA"), (kid("r"), "RS256")]);
    }

    #[test]
    fn a_set_that_cannot_protect_is_refused() {
        let mut short = ec("a");
        short["x"] = json!("AA");
        for (set, words) in [
            ("{".to_owned(), "is no key set"),
            ("[]".to_owned(), "has no list of `keys`"),
            (json!({ "keys": [] }).to_string(), "has no key for"),
            (json!({ "keys": [rsa(1024)] }).to_string(), "keys[0]: an RSA key of 2048"),
            (json!({ "keys": [short] }).to_string(), "its `x` is not right"),
            (json!({ "keys": [ec("a"), ec("a")] }).to_string(), "`kid` of keys[1] twice"),
        ] {
            let fault = read(set.as_bytes()).err().unwrap();
            assert!(fault.contains(words), "{fault}");
        }
    }
}
