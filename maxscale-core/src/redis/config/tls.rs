use std::path::Path;
use std::sync::Arc;

use fred::types::config::{TlsConfig, TlsConnector};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::RedisConfigError;
use crate::BoxError;

/// TLS that trusts the CAs in a file, or else the system's.
pub(super) fn trusting(ca: Option<&Path>) -> Result<TlsConfig, RedisConfigError> {
    let connector = match ca {
        Some(file) => read(file).and_then(connector),
        None => connector(system()),
    };
    let connector = connector.map_err(|source| RedisConfigError::Ca {
        file: ca.unwrap_or(Path::new("the system's store")).to_owned(),
        source,
    })?;
    Ok(connector.into())
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, BoxError> {
    // Named here: with two providers in one program there is no default.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config.into())
}

fn read(file: &Path) -> Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_file_iter(file)? {
        roots.add(ca?)?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".into());
    }
    Ok(roots)
}

fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Of what the system has, some may be too odd to be used.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
