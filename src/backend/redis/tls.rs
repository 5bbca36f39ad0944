//! Which certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use fred::rustls::pki_types::CertificateDer;
use fred::rustls::pki_types::pem::PemObject;
use fred::rustls::{ClientConfig, RootCertStore, crypto::ring};
use fred::rustls_native_certs::load_native_certs;
use fred::types::config::{TlsConfig, TlsConnector};

use crate::backend::BackendError;

/// With a crypto provider of our own: the process's default may be another, or none.
pub(super) fn config(ca_file: Option<&Path>) -> Result<TlsConfig, BackendError> {
    let roots = match ca_file {
        Some(path) => from_file(path)?,
        None => from_system()?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| BackendError::refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(config).into())
}

fn from_file(path: &Path) -> Result<RootCertStore, BackendError> {
    let cannot = |error: &dyn std::fmt::Display| {
        BackendError::refused(format!("cannot use the CA file {}: {error}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| cannot(&error))? {
        let certificate = certificate.map_err(|error| cannot(&error))?;
        roots.add(certificate).map_err(|error| cannot(&error))?;
    }
    if roots.is_empty() { Err(cannot(&"it has no certificate")) } else { Ok(roots) }
}

/// A certificate that cannot be read does not matter while there are others.
fn from_system() -> Result<RootCertStore, BackendError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(load_native_certs().certs);
    if roots.is_empty() {
        return Err(BackendError::refused(
            "the system has no trusted certificates: set a CA file for TLS",
        ));
    }
    Ok(roots)
}
