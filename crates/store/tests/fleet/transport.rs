//! The way to Redis: TLS, users, passwords, databases.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use seaworthy_policy::modes::ModeBoard;
use seaworthy_store::fleet::{Fleet, FleetOptions, FleetState, Published, RedisUrl};
use tempfile::TempDir;

use crate::server::Server;
use crate::{
    ENFORCE, OTHER_RULE, RULE, board, entry, options, until, until_fresh, until_health,
    until_it_knows, until_synced,
};

const PASSWORD: &str = "correct-horse-battery-staple";

/// A server that speaks TLS alone, to whoever knows the password; and who trusts it.
async fn guarded() -> (Server, Arc<ClientConfig>) {
    let folder = TempDir::new().unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let [cert, key] = [cert_file, key_file].map(|path| path.display().to_string());
    let server = Server::with(folder, |port| {
        let port = port.to_string();
        [
            "--port",
            "0",
            "--tls-port",
            &port,
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &cert,
            "--tls-auth-clients",
            "no",
            "--requirepass",
            PASSWORD,
        ]
        .map(str::to_owned)
        .to_vec()
    });
    let server = server.await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, Arc::new(tls))
}

fn url(text: &str, port: u16) -> RedisUrl {
    text.replace("PORT", &port.to_string()).parse().unwrap()
}

#[tokio::test]
async fn tls_a_user_a_password_and_a_database_lead_to_the_modes() {
    let (server, tls) = guarded().await;
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let start = |address: &str, folder: &TempDir, known| {
        let options = FleetOptions {
            tls: Some(Arc::clone(&tls)),
            password: Some(PASSWORD.to_owned()),
            ..options(url(address, server.port()), folder.path())
        };
        Fleet::start(options, known)
    };
    let known = board(&[(RULE, entry(ENFORCE, 1))]);
    let one = start("rediss://default@localhost:PORT/2", &folders[0], known);
    until_fresh(&one).await;
    let two = start("valkeys://127.0.0.1:PORT/2", &folders[1], ModeBoard::default());
    until_it_knows(&two, RULE, &entry(ENFORCE, 1)).await;
}

#[tokio::test]
async fn the_rights_of_the_manual_are_enough() {
    let server = Server::start().await;
    let manual = include_str!("../../../../docs/fleet.md");
    let (_, rest) = manual.split_once("ACL SETUSER").expect("the manual names them");
    let (rights, _) = rest.split_once("```").expect("the block ends");
    let rights = rights.replace("<password>", PASSWORD);
    let mut command = vec![&b"ACL"[..], b"SETUSER"];
    command.extend(rights.split_whitespace().map(str::as_bytes));
    server.ask(&command).await;
    let folder = TempDir::new().unwrap();
    let options = FleetOptions {
        password: Some(PASSWORD.to_owned()),
        ..options(url("redis://seaworthy@127.0.0.1:PORT", server.port()), folder.path())
    };
    let other = TempDir::new().unwrap();
    let two = FleetOptions { snapshot: other.path().join("snapshot"), ..options.clone() };
    let one = Fleet::start(options, ModeBoard::default());
    until(one.leads(), "the lease", |leads| *leads).await;
    let two = Fleet::start(two, ModeBoard::default());
    until_fresh(&two).await;
    for (rule, epoch) in [(RULE, 1), (OTHER_RULE, 1), (RULE, 2)] {
        assert_eq!(one.publish(rule, entry(ENFORCE, epoch)).await, Ok(Published::Taken));
        until_it_knows(&two, rule, &entry(ENFORCE, epoch)).await;
    }
    // Once it was prolonged, and then at once given back.
    for _ in 0..8 {
        until_synced(&one).await;
    }
    assert!(*one.leads().borrow() && one.health().borrow().lease_fault.is_none());
    one.close().await;
    until(two.leads(), "the lease", |leads| *leads).await;
}

#[tokio::test]
async fn what_is_missing_is_said_and_the_password_is_not() {
    let (server, tls) = guarded().await;
    let trusted = Some(Arc::clone(&tls));
    for (address, tls, password, said, answers) in [
        ("rediss://127.0.0.1:PORT", trusted.clone(), None, "it refuses: ", true),
        ("rediss://127.0.0.1:PORT", trusted, Some("wrong-password"), "it refuses: ", true),
        ("rediss://127.0.0.1:PORT", None, Some(PASSWORD), "TLS is not set up for it", false),
    ] {
        let folder = TempDir::new().unwrap();
        let password = password.map(str::to_owned);
        let options =
            FleetOptions { tls, password, ..options(url(address, server.port()), folder.path()) };
        let fleet = Fleet::start(options, ModeBoard::default());
        let health =
            until_health(&fleet, "a fault", |health| health.state != FleetState::Starting).await;
        let (reason, answered) = match health.state {
            FleetState::Unusable { reason } => (reason, true),
            FleetState::Unreachable { reason } => (reason, false),
            other => panic!("{other:?}"),
        };
        assert!(reason.as_str().starts_with(said), "{reason}");
        assert_eq!(answered, answers, "{reason}");
        assert!(!reason.as_str().contains("password\"") && !reason.as_str().contains(PASSWORD));
    }
}
