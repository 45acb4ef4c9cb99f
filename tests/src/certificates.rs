//! Certificates of a private CA, for servers that speak TLS.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::TlsAcceptor;

use crate::{devservices, watchdog};

/// What servers listen on, and a valid certificate names.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A private CA, and a valid and three wrong certificates for a server.
///
/// Clients are given [`ca`](Self::ca) to trust, and refuse what the wrong ones
/// show. The files are removed when this is dropped; servers keep copies.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
    ca: PathBuf,
    valid: Certificate,
    wrong_name: Certificate,
    expired: Certificate,
    unknown_ca: Certificate,
}

/// A certificate and its key, as files in PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
}

// === impl Certificates ===

impl Certificates {
    /// Makes all of them anew.
    pub fn new() -> Self {
        Self::naming(&NAMES)
    }

    /// Makes all of them anew; the valid one is for servers of these names.
    pub fn naming(names: &[&str]) -> Self {
        let folder = watchdog::new_folder("certificates");
        let ca = authority("maxscale-tests CA");
        let ca_file = folder.join("ca.pem");
        fs::write(&ca_file, ca.pem()).expect("the run's folder is ours");
        Self {
            ca: ca_file,
            valid: Certificate::new(&folder, "valid", &ca, names, 2100),
            wrong_name: Certificate::new(&folder, "wrong-name", &ca, &["elsewhere.invalid"], 2100),
            expired: Certificate::new(&folder, "expired", &ca, names, 2001),
            unknown_ca: Certificate::new(
                &folder,
                "unknown-ca",
                &authority("another CA"),
                names,
                2100,
            ),
            folder,
        }
    }

    /// The file of the CA that clients are to trust, in PEM.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// For `localhost` and 127.0.0.1, or the names that it was made for.
    pub fn valid(&self) -> &Certificate {
        &self.valid
    }

    /// For another host.
    pub fn wrong_name(&self) -> &Certificate {
        &self.wrong_name
    }

    /// For the right host, until the year 2001.
    pub fn expired(&self) -> &Certificate {
        &self.expired
    }

    /// For the right host, by a CA that nobody trusts.
    pub fn unknown_ca(&self) -> &Certificate {
        &self.unknown_ca
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        // What stays is the watchdog's.
        let _ = devservices::remove(&self.folder);
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params(name, 2100);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, new_key()).expect("a CA can sign itself")
}

fn params(name: &str, last_year: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system has random numbers")
}

// === impl Certificate ===

impl Certificate {
    /// The certificate's file.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The key's file, which only its owner may read.
    pub fn key(&self) -> &Path {
        &self.key
    }

    fn new(
        folder: &Path,
        file: &str,
        ca: &CertifiedIssuer<'_, KeyPair>,
        names: &[&str],
        last_year: i32,
    ) -> Self {
        let key = new_key();
        let mut params = params(names[0], last_year);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = names.iter().map(|name| alternative(name)).collect();
        let signed = params.signed_by(&key, ca).expect("a CA can sign");
        let this = Self {
            certificate: folder.join(format!("{file}.crt")),
            key: folder.join(format!("{file}.key")),
        };
        this.write(&signed.pem(), &key.serialize_pem());
        this
    }

    /// TLS for a server that the test itself is.
    pub fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(&self.certificate);
        let chain = chain.and_then(Iterator::collect);
        let chain = chain.expect("the certificates are not dropped yet");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("its key is beside it");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
        TlsAcceptor::from(Arc::new(config.expect("the key is the certificate's")))
    }

    /// A copy in a server's folder.
    pub(crate) fn copy_to(&self, folder: &Path) -> Self {
        let read = |path| fs::read_to_string(path).expect("the certificates are not dropped yet");
        let copy = Self {
            certificate: folder.join("server.crt"),
            key: folder.join("server.key"),
        };
        copy.write(&read(&self.certificate), &read(&self.key));
        copy
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(&self.certificate, certificate).expect("the run's folder is ours");
        // PostgreSQL takes no key that others can read.
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.key)
            .and_then(|mut file| file.write_all(key.as_bytes()))
            .expect("the run's folder is ours");
    }
}

fn alternative(name: &str) -> SanType {
    match name.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into().expect("a host's name is ASCII")),
    }
}
