//! A certificate with its key, and the authorities of clients: read, and held to what clients will ask of them.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

use super::x509::{self, Certificate, SubjectName};
use super::{Files, Note, TlsError, files};

/// What the server may show to a client.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    /// The names of hosts that it is for; one may begin with `*.`.
    pub(super) names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub(super) not_after: u64,
}

impl Identity {
    /// Reads a certificate and its key, and adds to `notes` what is not wrong but may be.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if no client could be served with them at `now`, in seconds since 1970.
    pub(super) fn load(
        files: &Files,
        provider: &CryptoProvider,
        now: u64,
        notes: &mut Vec<Note>,
    ) -> Result<Self, TlsError> {
        let path = &files.certificate;
        let chain = files::certificates(path)?;
        let read = read_all(path, &chain)?;
        check_dates(path, &read[0], now)?;
        let key = files::key(&files.key)?;
        let signing = provider.key_provider.load_private_key(key).map_err(|_| {
            let why = "the key is of no kind that can be used; RSA of 2048 bits or more, ECDSA with P-256 or P-384 and \
                       Ed25519 can";
            TlsError::file(&files.key, why)
        })?;
        let certified = CertifiedKey::new(chain, signing);
        check_key(files, &certified)?;
        check_chain(path, &read, now, notes);
        Ok(Self::new(certified, &read[0]))
    }

    pub(super) fn new(key: CertifiedKey, certificate: &Certificate) -> Self {
        let names = certificate.names().into_iter().filter_map(|name| match name {
            SubjectName::Dns(name) => Some(name.to_ascii_lowercase()),
            SubjectName::Other(_) => None,
        });
        Self { names: names.collect(), not_after: certificate.validity().1, key: Arc::new(key) }
    }
}

/// Reads the authorities that name clients.
///
/// # Errors
///
/// [`TlsError`] if there is none, or one that cannot be used.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(files::certificates(path)?) {
        store.add(certificate).map_err(|problem| {
            TlsError::file(path, format!("certificate {number} in it is no authority's ({problem})"))
        })?;
    }
    Ok(store)
}

fn read_all(path: &Path, chain: &[CertificateDer<'_>]) -> Result<Vec<Certificate>, TlsError> {
    let read = |(number, der): (usize, &CertificateDer<'_>)| {
        Certificate::read(der)
            .map_err(|problem| TlsError::file(path, format!("certificate {number} in it cannot be read ({problem})")))
    };
    (1..).zip(chain).map(read).collect()
}

fn check_dates(path: &Path, certificate: &Certificate, now: u64) -> Result<(), TlsError> {
    let (not_before, not_after) = certificate.validity();
    if now > not_after {
        let why = format!("the certificate has expired on {}; renew it", x509::date(not_after));
        return Err(TlsError::file(path, why));
    }
    if now < not_before {
        let why = format!("the certificate holds from {} on, and not yet; is the clock right?", x509::date(not_before));
        return Err(TlsError::file(path, why));
    }
    Ok(())
}

fn check_key(files: &Files, certified: &CertifiedKey) -> Result<(), TlsError> {
    let path = &files.certificate;
    match certified.keys_match() {
        // A key that cannot say what its public half is shows it at the first handshake.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(Error::InconsistentKeys(_)) => {
            let fits = |der: &CertificateDer<'static>| {
                CertifiedKey::new(vec![der.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
            };
            let why = match certified.cert.iter().position(fits) {
                Some(place) => {
                    format!("the server's certificate has to stand first, and its key fits number {}", place + 1)
                }
                None => format!("the key in {} belongs to another certificate", files.key.display()),
            };
            Err(TlsError::file(path, why))
        }
        Err(problem) => Err(TlsError::file(path, format!("the certificate cannot be used ({problem})"))),
    }
}

/// Looks at the certificates after the first. Clients should do with them in any order and with more of them than they need (RFC
/// 8446 section 4.4.2), and not all do: so these are warnings.
fn check_chain(path: &Path, chain: &[Certificate], now: u64, notes: &mut Vec<Note>) {
    for (place, (certificate, issuer)) in (1..).zip(chain.iter().zip(&chain[1..])) {
        if certificate.issuer() != issuer.subject() {
            let (path, second) = (path.display(), place + 1);
            notes.push(Note::Always(format!(
                "{path}: certificate {second} is not that of the issuer of certificate {place}, which should follow it: some \
                 clients will not connect"
            )));
        }
        let (not_before, not_after) = issuer.validity();
        if !(not_before..=not_after).contains(&now) {
            let (path, second) = (path.display(), place + 1);
            let (from, to) = (x509::date(not_before), x509::date(not_after));
            notes.push(Note::Always(format!(
                "{path}: certificate {second} holds from {from} to {to} alone: some clients will not connect"
            )));
        }
    }
}
