//! The PEM files that a config names are there and hold what they should.

use std::path::Path as FilePath;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::check::Checks;
use super::listen::Listen;
use super::service::Service;

pub(crate) fn check_listen(listen: &Listen, checks: &mut Checks<'_>) {
    if let Some(files) = &listen.tls {
        let cert = certificates(&files.cert);
        checks.require(cert.is_ok(), "tls.cert", cert.err().unwrap_or_default());
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map(drop)
            .map_err(|error| in_words(&files.key, &error, "private key"));
        checks.require(key.is_ok(), "tls.key", key.err().unwrap_or_default());
    }
}

pub(crate) fn check_service(service: &Service, checks: &mut Checks<'_>) {
    if let Some(ca) = &service.ca {
        let read = certificates(ca);
        checks.require(read.is_ok(), "ca", read.err().unwrap_or_default());
    }
}

/// Whether `path` is a PEM file with at least one certificate, all of them readable.
fn certificates(path: &FilePath) -> Result<(), String> {
    let fault = |error| in_words(path, &error, "certificate");
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(fault)? {
        certificate.map_err(fault)?;
        count += 1;
    }
    if count == 0 { Err(fault(pem::Error::NoItemsFound)) } else { Ok(()) }
}

fn in_words(path: &FilePath, error: &pem::Error, what: &str) -> String {
    let path = path.display();
    match error {
        pem::Error::Io(error) => format!("{path} cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("{path} holds no {what} in PEM"),
        error => format!("{path} is not PEM: {error}"),
    }
}
