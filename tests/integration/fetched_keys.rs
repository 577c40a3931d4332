//! The keys of an issuer, fetched from its URL: at the start, later, anew, and not at all.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use crate::harness::ask::{metric, until};
use crate::harness::upstream::Answer;
use crate::harness::{Gateway, Upstream, call};

/// One that signs tokens, and shows its public key.
struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let pkcs8 = pkcs8.expect("the system has random numbers");
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self(pair.expect("it was just made"))
    }

    fn keys(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": x, "y": y }] }).to_string()
    }

    /// The field with a token that is good for ever.
    fn token(&self) -> String {
        let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let claims = json!({ "sub": "agent", "exp": 99_999_999_999_u64 });
        let signed = format!("{}.{}", part(json!({ "alg": "ES256", "typ": "JWT" })), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("it signs");
        format!("Authorization: Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A place for keys, which says what it was last told to.
struct Place {
    upstream: Upstream,
    says: Arc<Mutex<Option<String>>>,
}

impl Place {
    async fn start(says: Option<String>) -> Self {
        let says = Arc::new(Mutex::new(says));
        let said = Arc::clone(&says);
        let upstream = Upstream::start(move |_, _| {
            match said.lock().expect("no test panics while it holds this").as_ref() {
                Some(text) => Answer::ok(text),
                None => Answer::Close(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
            }
        });
        Self { upstream: upstream.await, says }
    }

    fn say(&self, text: impl Into<String>) {
        *self.says.lock().expect("no test panics while it holds this") = Some(text.into());
    }

    fn config(&self) -> String {
        let addr = self.upstream.addr;
        format!(
            "[protect.access]\nmode = \"enforce\"\njwt = {{ jwks = \"http://{addr}/keys.json\" }}"
        )
    }
}

async fn status(gateway: &Gateway, issuer: &Issuer) -> u16 {
    call(gateway.addr(), "GET /", &[&issuer.token()], "").await.status()
}

#[tokio::test]
async fn keys_are_there_with_the_first_request() {
    let issuer = Issuer::new();
    let place = Place::start(Some(issuer.keys())).await;
    let service = Upstream::ok().await;
    let gateway = Gateway::start(service.addr, &place.config()).await;
    assert_eq!(status(&gateway, &issuer).await, 200);
    assert_eq!(status(&gateway, &Issuer::new()).await, 401, "another one's token");
    let asked = &place.upstream.received()[0];
    assert!(asked.starts_with("GET /keys.json HTTP/1.1\r\n"), "{asked}");
    assert_eq!(metric(gateway.console(), "seaworthy_fetch_failing").await, Some(0.0));
    gateway.stop().await;
}

#[tokio::test]
async fn keys_that_come_late_are_taken_up() {
    let issuer = Issuer::new();
    let place = Place::start(None).await;
    let service = Upstream::ok().await;
    let gateway = Gateway::start(service.addr, &place.config()).await;
    let reply = call(gateway.addr(), "GET /", &[&issuer.token()], "").await;
    assert_eq!((reply.status(), reply.code()), (503, Some("access-keys-unavailable")));
    until("the failure is shown", async || {
        (metric(gateway.console(), "seaworthy_fetch_failing").await == Some(1.0)).then_some(())
    })
    .await;
    place.say(issuer.keys());
    until("the keys are in force", async || (status(&gateway, &issuer).await == 200).then_some(()))
        .await;
    gateway.stop().await;
}

#[tokio::test]
async fn keys_are_changed_for_new_ones_and_not_for_nonsense() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let place = Place::start(Some(old.keys())).await;
    let service = Upstream::ok().await;
    let gateway = Gateway::start(service.addr, &place.config()).await;
    assert_eq!(status(&gateway, &old).await, 200);
    // A reload asks for everything anew.
    place.say("{ \"keys\": [] }");
    gateway.reload().await.expect("the config is right");
    until("the nonsense was refused", async || {
        let failures = metric(gateway.console(), "seaworthy_fetch_failures_total").await;
        (failures >= Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(status(&gateway, &old).await, 200, "the keys stay");
    place.say(new.keys());
    until("the new keys are in force", async || {
        (status(&gateway, &new).await == 200).then_some(())
    })
    .await;
    assert_eq!(status(&gateway, &old).await, 401, "the old ones are gone");
    gateway.reload().await.expect("what was fetched is kept over a reload");
    assert_eq!(status(&gateway, &new).await, 200);
    gateway.stop().await;
}

/// An operator who is in the middle of an edit does not hold the issuer's new keys up.
#[tokio::test]
async fn keys_are_taken_up_beside_a_config_that_is_half_written() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let place = Place::start(Some(old.keys())).await;
    let service = Upstream::ok().await;
    let gateway = Gateway::start(service.addr, &place.config()).await;
    std::fs::write(gateway.dir().join("seaworthy.toml"), "[protect").expect("it is writable");
    place.say(new.keys());
    gateway.reload().await.expect_err("the file is torn");
    until("the new keys are in force", async || {
        (status(&gateway, &new).await == 200).then_some(())
    })
    .await;
    assert_eq!(status(&gateway, &old).await, 401, "and access is still on");
    gateway.stop().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let issuer = Issuer::new();
    let elsewhere = Place::start(Some(issuer.keys())).await;
    let to = elsewhere.upstream.addr;
    let redirecting = Upstream::start(move |_, _| {
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{to}/keys.json\r\nContent-Length: 0\r\n\r\n"
        );
        Answer::Bytes(head.into_bytes())
    })
    .await;
    let service = Upstream::ok().await;
    let place = Place { upstream: redirecting, says: Arc::default() };
    let gateway = Gateway::start(service.addr, &place.config()).await;
    until("it was asked again", async || {
        let failures = metric(gateway.console(), "seaworthy_fetch_failures_total").await;
        (failures >= Some(2.0)).then_some(())
    })
    .await;
    assert_eq!(status(&gateway, &issuer).await, 503);
    assert_eq!(elsewhere.upstream.received(), Vec::<String>::new());
    gateway.stop().await;
}
