//! The PEM files that a config names are there and hold what they should.

use std::path::{Path as FilePath, PathBuf};

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::check::Checks;
use super::listen::Listen;
use super::modes::Modes;
use super::service::Service;

/// The PEM files that are named.
pub(crate) fn named<'a>(
    listen: &'a Listen,
    service: &'a Service,
    modes: &'a Modes,
) -> impl Iterator<Item = &'a PathBuf> {
    let tls = listen.tls.iter().flat_map(|files| [&files.cert, &files.key]);
    tls.chain(&service.ca).chain(&modes.redis_ca)
}

pub(crate) fn check_listen(listen: &Listen, checks: &mut Checks<'_>) {
    if let Some(files) = &listen.tls {
        let cert = certificates(&files.cert);
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| in_words(&files.key, &error, "private key"));
        let key = match (&cert, key) {
            (Ok(chain), Ok(key)) => fit(chain, key)
                .map_err(|error| format!("{} cannot be used: {error}", files.key.display())),
            (_, key) => key.map(drop),
        };
        checks.require(cert.is_ok(), "tls.cert", cert.err().unwrap_or_default());
        checks.require(key.is_ok(), "tls.key", key.err().unwrap_or_default());
    }
}

pub(crate) fn check_service(service: &Service, checks: &mut Checks<'_>) {
    if let Some(ca) = &service.ca {
        let read = certificates(ca);
        checks.require(read.is_ok(), "ca", read.err().unwrap_or_default());
    }
}

pub(crate) fn check_modes(modes: &Modes, checks: &mut Checks<'_>) {
    if let Some(ca) = &modes.redis_ca {
        let read = certificates(ca);
        checks.require(read.is_ok(), "redis_ca", read.err().unwrap_or_default());
    }
}

/// The certificates of a PEM file that has at least one, all of them readable.
fn certificates(path: &FilePath) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |error| in_words(path, &error, "certificate");
    let found = CertificateDer::pem_file_iter(path).map_err(fault)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(fault)?;
    if found.is_empty() { Err(fault(pem::Error::NoItemsFound)) } else { Ok(found) }
}

/// Whether the first certificate of `chain` is that of `key`.
fn fit(chain: &[CertificateDer<'static>], key: PrivateKeyDer<'static>) -> Result<(), String> {
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(chain.to_vec(), key, &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err("it is not the key of the certificate in `tls.cert`".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn in_words(path: &FilePath, error: &pem::Error, what: &str) -> String {
    let path = path.display();
    match error {
        pem::Error::Io(error) => format!("{path} cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("{path} holds no {what} in PEM"),
        error => format!("{path} is not PEM: {error}"),
    }
}
