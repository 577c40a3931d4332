//! JSON Web Tokens (RFC 7519, RFC 8725): read strictly, verified with the keys that are configured.
//!
//! 1. A token has three parts in base64url without padding and at most 8 KiB; its JSON names no
//!    member twice.
//! 2. `alg` is one of those that the config lists, and fits the key: a public key is never taken
//!    for a shared secret, and `none` is none of them.
//! 3. `kid` chooses the key. Without one there has to be exactly one key that fits.
//! 4. A header with `crit` is refused, and nothing that it points to (`jku`, `x5u`, `jwk`) is
//!    followed.
//! 5. `exp` has to be there and in the future, `nbf` in the past, with `leeway`; `iss` and `aud`
//!    have to be what the config says. A token for an audience is refused where none is configured.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::content::parse_json;

/// A longer token would not fit into the header of most servers.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// A way of signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Algorithm {
    RS256,
    ES256,
    EdDSA,
    HS256,
}

impl Algorithm {
    pub(super) const ALL: [Self; 4] = [Self::RS256, Self::ES256, Self::EdDSA, Self::HS256];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
            Self::HS256 => "HS256",
        }
    }
}

/// A key that verifies signatures of one algorithm.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) material: Material,
}

pub(super) enum Material {
    /// Modulus and exponent, big-endian.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point of P-256.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(hmac::Key),
}

impl Key {
    pub(super) const fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::RS256,
            Material::P256(_) => Algorithm::ES256,
            Material::Ed25519(_) => Algorithm::EdDSA,
            Material::Secret(_) => Algorithm::HS256,
        }
    }

    fn verifies(&self, message: &[u8], tag: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { n, e } => {
                let key = signature::RsaPublicKeyComponents { n, e };
                key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, tag).is_ok()
            }
            Material::P256(point) => {
                let algorithm = &signature::ECDSA_P256_SHA256_FIXED;
                signature::UnparsedPublicKey::new(algorithm, point).verify(message, tag).is_ok()
            }
            Material::Ed25519(key) => signature::UnparsedPublicKey::new(&signature::ED25519, key)
                .verify(message, tag)
                .is_ok(),
            Material::Secret(key) => hmac::verify(key, message, tag).is_ok(),
        }
    }
}

/// What a token has to say.
pub(super) struct Expected {
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) leeway_s: u64,
}

/// The claims of a token whose signature is right, and for when it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Claims {
    pub(super) expires_unix_s: f64,
    pub(super) not_before_unix_s: Option<f64>,
    pub(super) all: Value,
}

/// Why a token is not taken. Shown to its sender: it says nothing of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenFault {
    #[error("the token is not three parts in base64url, or is too long")]
    Shape,
    #[error("the token's header or claims are not JSON with one reading")]
    Json,
    #[error("the token is signed with an algorithm that is not accepted here")]
    Algorithm,
    #[error("the token has critical extensions, which are not known here")]
    Critical,
    #[error("the token's `kid` names no key that is known here, or it has none and several fit")]
    Key,
    #[error("the token's signature is not right")]
    Signature,
    #[error("the token does not say until when it is valid (`exp`)")]
    NoExpiry,
    #[error("the token's `exp` or `nbf` is not a time")]
    Time,
    #[error("the token is of another issuer (`iss`)")]
    Issuer,
    #[error("the token is for another audience (`aud`)")]
    Audience,
    #[error("the token is not valid yet (`nbf`)")]
    TooEarly,
    #[error("the token has expired")]
    Expired,
}

/// Verifies all of `token` that does not depend on the time.
pub(super) fn verify(token: &str, keys: &[Key], expected: &Expected) -> Result<Claims, TokenFault> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenFault::Shape);
    }
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(tag), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenFault::Shape);
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Shape);
    let tag = decode(tag)?;
    let message = token.get(..header.len() + 1 + claims.len()).expect("its first two parts");
    let header = object(&decode(header)?)?;
    let claims = decode(claims)?;

    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(|name| Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name));
    let algorithm = algorithm
        .filter(|algorithm| expected.algorithms.contains(algorithm))
        .ok_or(TokenFault::Algorithm)?;
    if header.get("crit").is_some() {
        return Err(TokenFault::Critical);
    }
    let key = choose(keys, algorithm, header.get("kid"))?;
    if !key.verifies(message.as_bytes(), &tag) {
        return Err(TokenFault::Signature);
    }
    check(object(&claims)?, expected)
}

fn object(text: &[u8]) -> Result<Value, TokenFault> {
    parse_json(text).ok().filter(Value::is_object).ok_or(TokenFault::Json)
}

fn choose<'k>(
    keys: &'k [Key],
    algorithm: Algorithm,
    kid: Option<&Value>,
) -> Result<&'k Key, TokenFault> {
    let mut fit = keys.iter().filter(|key| key.algorithm() == algorithm);
    match kid {
        Some(kid) => {
            let kid = kid.as_str().ok_or(TokenFault::Key)?;
            fit.find(|key| key.kid.as_deref() == Some(kid)).ok_or(TokenFault::Key)
        }
        None => match (fit.next(), fit.next()) {
            (Some(key), None) => Ok(key),
            _ => Err(TokenFault::Key),
        },
    }
}

fn check(claims: Value, expected: &Expected) -> Result<Claims, TokenFault> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(time) => time.as_f64().filter(|time| *time >= 0.0).map(Some).ok_or(TokenFault::Time),
    };
    let (expires, not_before) = (time("exp")?, time("nbf")?);
    if let Some(issuer) = &expected.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(TokenFault::Issuer);
    }
    let named = match claims.get("aud") {
        None => expected.audience.is_none(),
        Some(Value::String(one)) => expected.audience.as_ref() == Some(one),
        Some(Value::Array(list)) => expected
            .audience
            .as_ref()
            .is_some_and(|audience| list.iter().any(|one| one.as_str() == Some(audience))),
        Some(_) => false,
    };
    if !named {
        return Err(TokenFault::Audience);
    }
    let expires_unix_s = expires.ok_or(TokenFault::NoExpiry)?;
    Ok(Claims { expires_unix_s, not_before_unix_s: not_before, all: claims })
}

impl Claims {
    /// Checks the claims against the time.
    pub(super) fn at(&self, now_unix_s: u64, expected: &Expected) -> Result<(), TokenFault> {
        let (now, leeway) = (now_unix_s as f64, expected.leeway_s as f64);
        if now >= self.expires_unix_s + leeway {
            return Err(TokenFault::Expired);
        }
        if self.not_before_unix_s.is_some_and(|from| now + leeway < from) {
            return Err(TokenFault::TooEarly);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    pub(crate) const NOW: u64 = 1_800_000_000;
    const SECRET: &[u8] = b"a shared secret of more than 32 bytes";

    /// Signs as the key pair or the secret does.
    pub(crate) enum Signer {
        P256(EcdsaKeyPair),
        Ed25519(Ed25519KeyPair),
        Secret(Vec<u8>),
    }

    impl Signer {
        pub(crate) fn p256() -> Self {
            let (random, algorithm) =
                (SystemRandom::new(), &signature::ECDSA_P256_SHA256_FIXED_SIGNING);
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            Self::P256(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap())
        }

        pub(crate) fn ed25519() -> Self {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Self::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
        }

        pub(crate) fn public(&self) -> Vec<u8> {
            match self {
                Self::P256(pair) => pair.public_key().as_ref().to_vec(),
                Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
                Self::Secret(secret) => secret.clone(),
            }
        }

        fn key(&self, kid: Option<&str>) -> Key {
            let material = match self {
                Self::P256(_) => Material::P256(self.public()),
                Self::Ed25519(_) => Material::Ed25519(self.public()),
                Self::Secret(secret) => Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret)),
            };
            Key { kid: kid.map(str::to_owned), material }
        }

        fn sign(&self, message: &[u8]) -> Vec<u8> {
            match self {
                Self::P256(pair) => {
                    pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
                }
                Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
                Self::Secret(secret) => {
                    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                    hmac::sign(&key, message).as_ref().to_vec()
                }
            }
        }

        pub(crate) fn token(&self, header: &str, claims: &str) -> String {
            let message =
                format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let tag = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
            format!("{message}.{tag}")
        }
    }

    fn expected() -> Expected {
        Expected {
            algorithms: vec![Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256],
            issuer: Some("https://id.example/".to_owned()),
            audience: Some("desk".to_owned()),
            leeway_s: 30,
        }
    }

    fn claims() -> Value {
        json!({ "iss": "https://id.example/", "aud": "desk", "exp": NOW + 60 })
    }

    fn with(name: &str, value: Value) -> String {
        let mut claims = claims();
        claims[name] = value;
        claims.to_string()
    }

    #[test]
    fn what_attackers_try_is_refused() {
        let (signer, other) = (Signer::p256(), Signer::p256());
        let keys = [signer.key(Some("one")), Signer::ed25519().key(Some("two"))];
        let fine = claims().to_string();
        let token = |header: &str| signer.token(header, &fine);
        let right = token(r#"{"alg":"ES256","kid":"one"}"#);
        let (message, tag) = right.rsplit_once('.').unwrap();
        let unsigned = |header: &str| {
            let (header, claims) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&fine));
            format!("{header}.{claims}.")
        };
        // The public key, taken for the secret of HS256.
        let confused =
            Signer::Secret(signer.public()).token(r#"{"alg":"HS256","kid":"one"}"#, &fine);
        for (name, token, want) in [
            ("right", right.clone(), None),
            ("without kid, one fits", token(r#"{"alg":"ES256"}"#), None),
            ("none", unsigned(r#"{"alg":"none"}"#), Some(TokenFault::Algorithm)),
            ("None", unsigned(r#"{"alg":"None","kid":"one"}"#), Some(TokenFault::Algorithm)),
            ("no signature", format!("{message}."), Some(TokenFault::Signature)),
            ("algorithm confusion", confused, Some(TokenFault::Algorithm)),
            (
                "the other key's algorithm",
                token(r#"{"alg":"EdDSA","kid":"one"}"#),
                Some(TokenFault::Key),
            ),
            (
                "another key",
                other.token(r#"{"alg":"ES256","kid":"one"}"#, &fine),
                Some(TokenFault::Signature),
            ),
            (
                "an unknown kid",
                token(r#"{"alg":"ES256","kid":"../../dev/null"}"#),
                Some(TokenFault::Key),
            ),
            ("a kid that is no text", token(r#"{"alg":"ES256","kid":1}"#), Some(TokenFault::Key)),
            (
                "crit",
                token(r#"{"alg":"ES256","kid":"one","crit":["b64"],"b64":false}"#),
                Some(TokenFault::Critical),
            ),
            ("alg twice", token(r#"{"alg":"none","alg":"ES256"}"#), Some(TokenFault::Json)),
            ("no alg", token(r#"{"kid":"one"}"#), Some(TokenFault::Algorithm)),
            ("a header that is no object", token("\"ES256\""), Some(TokenFault::Json)),
            ("two parts", message.to_owned(), Some(TokenFault::Shape)),
            ("four parts", format!("{right}.x"), Some(TokenFault::Shape)),
            ("a dot behind", format!("{right}."), Some(TokenFault::Shape)),
            ("padding", format!("{message}.{tag}="), Some(TokenFault::Shape)),
            ("a blank", format!(" {right}"), Some(TokenFault::Shape)),
            ("empty", String::new(), Some(TokenFault::Shape)),
            ("endless", "a".repeat(TOKEN_BYTES_MAX + 1), Some(TokenFault::Shape)),
            ("a changed claim", right.replacen('.', ".e", 1), Some(TokenFault::Signature)),
        ] {
            assert_eq!(verify(&token, &keys, &expected()).err(), want, "{name}");
        }
        let two = [signer.key(Some("one")), other.key(Some("two"))];
        let without = token(r#"{"alg":"ES256"}"#);
        assert_eq!(verify(&without, &two, &expected()).err(), Some(TokenFault::Key));
    }

    #[test]
    fn claims_have_to_be_for_this_service() {
        let signer = Signer::ed25519();
        let keys = [signer.key(None)];
        for (name, claims, want) in [
            ("a list of audiences", with("aud", json!(["x", "desk"])), None),
            (
                "another issuer",
                with("iss", json!("https://evil.example/")),
                Some(TokenFault::Issuer),
            ),
            ("no issuer", with("iss", Value::Null), Some(TokenFault::Issuer)),
            ("another audience", with("aud", json!("shop")), Some(TokenFault::Audience)),
            ("no audience in the list", with("aud", json!([])), Some(TokenFault::Audience)),
            ("an audience that is a number", with("aud", json!(1)), Some(TokenFault::Audience)),
            ("no exp", with("exp", Value::Null), Some(TokenFault::Time)),
            ("exp as text", with("exp", json!("1900000000")), Some(TokenFault::Time)),
            ("exp below zero", with("exp", json!(-1)), Some(TokenFault::Time)),
            ("a fraction", with("exp", json!(1_900_000_000.5)), None),
            ("no object", "[]".to_owned(), Some(TokenFault::Json)),
            ("a member twice", r#"{"exp":1,"exp":9999999999}"#.to_owned(), Some(TokenFault::Json)),
        ] {
            let token = signer.token(r#"{"alg":"EdDSA"}"#, &claims);
            assert_eq!(verify(&token, &keys, &expected()).err(), want, "{name}");
        }
        let bare = signer.token(r#"{"alg":"EdDSA"}"#, &json!({ "exp": NOW + 60 }).to_string());
        let any = Expected { issuer: None, audience: None, ..expected() };
        assert!(verify(&bare, &keys, &any).is_ok());
        let addressed = signer.token(r#"{"alg":"EdDSA"}"#, &claims().to_string());
        assert_eq!(verify(&addressed, &keys, &any).err(), Some(TokenFault::Audience));
        let endless = signer.token(r#"{"alg":"EdDSA"}"#, "{}");
        assert_eq!(verify(&endless, &keys, &any).err(), Some(TokenFault::NoExpiry));
    }

    #[test]
    fn a_token_is_valid_from_to_with_leeway() {
        let claims = |exp: f64, nbf: Option<f64>| Claims {
            expires_unix_s: exp,
            not_before_unix_s: nbf,
            all: Value::Null,
        };
        let now = NOW as f64;
        for (name, claims, want) in [
            ("valid", claims(now + 1.0, None), Ok(())),
            ("within the leeway", claims(now - 29.0, None), Ok(())),
            ("past it", claims(now - 30.0, None), Err(TokenFault::Expired)),
            ("not yet", claims(now + 99.0, Some(now + 31.0)), Err(TokenFault::TooEarly)),
            ("nearly", claims(now + 99.0, Some(now + 30.0)), Ok(())),
            ("for ever", claims(1e300, None), Ok(())),
        ] {
            assert_eq!(claims.at(NOW, &expected()), want, "{name}");
        }
    }

    #[test]
    fn a_shared_secret_verifies_where_it_is_configured() {
        let signer = Signer::Secret(SECRET.to_vec());
        let expected = Expected { algorithms: vec![Algorithm::HS256], ..expected() };
        let token = signer.token(r#"{"alg":"HS256"}"#, &claims().to_string());
        assert!(verify(&token, &[signer.key(None)], &expected).is_ok());
        let other = Signer::Secret(b"another secret of more than 32 bytes".to_vec());
        let fault = verify(&token, &[other.key(None)], &expected).err();
        assert_eq!(fault, Some(TokenFault::Signature));
    }
}
