//! Certificates of an authority that only the test knows, and TLS as a client or a service with
//! them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate authority with a folder for its files.
pub(crate) struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM files of the authority's folder.
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Identity {
    /// `[listen]` with this certificate.
    pub(crate) fn listen(&self) -> String {
        format!("[listen]\ntls = {{ cert = {:?}, key = {:?} }}\n", self.cert, self.key)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is a bad one");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is randomness");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the key signs");
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("it is writable");
        Self { dir, issuer }
    }

    /// The authority's own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Certifies `name`, a host name or an address.
    pub(crate) fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("there is randomness");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let cert = params.signed_by(&key, &self.issuer).expect("the key signs");
        let path = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        let identity = Identity { cert: path("pem"), key: path("key") };
        std::fs::write(&identity.cert, cert.pem()).expect("it is writable");
        std::fs::write(&identity.key, key.serialize_pem()).expect("it is writable");
        identity
    }

    /// What a service speaks TLS with.
    pub(crate) fn server(identity: &Identity, alpn: &[&str]) -> Arc<ServerConfig> {
        let cert = CertificateDer::from_pem_file(&identity.cert).expect("it was just written");
        let key = PrivateKeyDer::from_pem_file(&identity.key).expect("it was just written");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .expect("they belong together");
        config.alpn_protocols = protocols(alpn);
        Arc::new(config)
    }

    /// Connects to `addr` as a client that asks for `localhost` and trusts this authority alone.
    pub(crate) async fn connect(&self, addr: SocketAddr, alpn: &[&str]) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is a certificate");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols(alpn);
        let tcp = TcpStream::connect(addr).await.expect("the gateway listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, tcp).await.expect("the handshake succeeds")
    }
}
