use std::path::Path;
use std::sync::Arc;

use fred::types::config::{TlsConfig, TlsConnector};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, load_native_certs};

use super::RedisConfigError;
use crate::BoxError;

/// TLS that trusts the CAs in a file, or else the system's.
pub(super) fn trusting(ca: Option<&Path>) -> Result<TlsConfig, RedisConfigError> {
    let connector = match ca {
        Some(file) => read(file).and_then(connector),
        None => trusted(load_native_certs()).and_then(connector),
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

/// What the system has. The loader looks at `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// first: where they are set, that is where this system keeps its CAs.
fn trusted(found: CertificateResult) -> Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    // Some may be too odd to be used.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let mut why = "there is no certificate in it".to_owned();
        for error in found.errors {
            why += &format!("; {error}");
        }
        return Err(why.into());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use rustls_native_certs::load_certs_from_paths;

    use super::*;

    #[test]
    fn system_without_cas_is_an_error_that_says_why() {
        let none = load_certs_from_paths(Some(Path::new("/absent.pem")), None);
        let error = trusted(none).unwrap_err().to_string();
        assert!(error.contains("/absent.pem"), "{error}");
        assert!(trusted(CertificateResult::default()).is_err());
    }
}
