use std::fmt::Write as _;

use ring::hmac;

use crate::harness::{Gateway, Upstream, call};

/// The field with which GitHub would sign `body`.
fn signed(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut field = "X-Hub-Signature-256: sha256=".to_owned();
    for byte in hmac::sign(&key, body.as_bytes()).as_ref() {
        write!(field, "{byte:02x}").expect("a String takes every write");
    }
    field
}

#[tokio::test]
async fn what_was_taken_stays_taken_while_secrets_are_replaced() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name);
    let (old, new) = ("the secret of this year, 32 bytes+", "the secret of next year, 32 bytes+");
    std::fs::write(path("one"), old).expect("it is writable");
    std::fs::write(path("two"), "a secret that nobody signs with now").expect("it is writable");
    let upstream = Upstream::ok().await;
    let config = format!(
        "[protect.signature]\nmode = \"enforce\"\nformat = \"github\"\n\
         secrets = [\"file:{}\", \"file:{}\"]",
        path("one").display(),
        path("two").display()
    );
    let gateway = Gateway::start(upstream.addr, &config).await;
    let (first, second) = ("{\"id\":1}", "{\"id\":2}");
    let send = async |secret: &str, body: &str| {
        call(gateway.addr(), "POST /hook", &[&signed(secret, body)], body).await.status()
    };
    assert_eq!(send(old, first).await, 200);
    assert_eq!(send(new, second).await, 401, "not known yet");
    std::fs::write(path("two"), new).expect("it is writable");
    gateway.reload().await.expect("the config is right");
    assert_eq!(send(new, second).await, 200);
    // A recorded delivery is told that it was taken, and the service is not.
    assert_eq!(send(old, first).await, 200);
    assert_eq!(upstream.received().len(), 2);
    gateway.stop().await;
}
