//! TLS for the replication connection, as the other one has it.
//!
//! Invariants: a mode that verifies never goes on without; `prefer` and `require` protect from those
//! who listen, not from those who pretend, as everywhere with Postgres.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use sqlx::postgres::PgSslMode;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::session::Stream;

/// How to make a connection safe.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) mode: PgSslMode,
    /// Who is trusted, instead of those whom the machine trusts.
    pub(crate) roots: Option<PathBuf>,
    /// Who the relay is: its certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Asks the server for TLS, and goes on without only where the mode allows it.
    pub(crate) async fn secure(
        &self,
        mut stream: TcpStream,
        host: &str,
    ) -> io::Result<Box<dyn Stream>> {
        if matches!(self.mode, PgSslMode::Disable | PgSslMode::Allow) {
            return Ok(Box::new(stream));
        }
        pgwire_replication::protocol::framing::write_ssl_request(&mut stream)
            .await
            .map_err(io::Error::other)?;
        match (stream.read_u8().await?, self.mode) {
            (b'S', _) => {}
            (_, PgSslMode::Prefer) => return Ok(Box::new(stream)),
            _ => {
                let reason = "the server has no TLS, and the url's sslmode asks for it";
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
        }
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let connector = TlsConnector::from(Arc::new(self.config()?));
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    fn config(&self) -> io::Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let config = config
            .with_safe_default_protocol_versions()
            .map_err(invalid)?;
        let is_verified = matches!(self.mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        let inner = match is_verified || self.roots.is_some() {
            false => None,
            true => {
                let roots = Arc::new(self.trusted()?);
                let inner =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                Some(inner.build().map_err(invalid)?)
            }
        };
        let verifier = Verifier {
            inner,
            names: matches!(self.mode, PgSslMode::VerifyFull),
            provider,
        };
        let config = config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        match &self.identity {
            None => Ok(config.with_no_client_auth()),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(invalid)?;
                config.with_client_auth_cert(chain, key).map_err(invalid)
            }
        }
    }

    fn trusted(&self) -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            None => {
                let native = rustls_native_certs::load_native_certs().certs;
                roots.add_parsable_certificates(native);
            }
            Some(file) => {
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(invalid)?;
                }
            }
        }
        Ok(roots)
    }
}

fn certificates(file: &PathBuf) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).map_err(invalid)?;
    read.collect::<Result<_, _>>().map_err(invalid)
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// Verifies what the mode asks for.
#[derive(Debug)]
struct Verifier {
    /// Whom to trust; nobody is asked if not.
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// Whether the name has to be the server's.
    names: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        match inner.verify_server_cert(certificate, between, name, ocsp, now) {
            // The chain is verified before the name.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
