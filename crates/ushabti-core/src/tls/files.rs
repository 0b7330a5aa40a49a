//! PEM files (RFC 7468): what is in them, and what an operator is told when it is something else.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// The largest file that is read. All authorities that browsers trust take a quarter of this.
const BYTES_MAX: u64 = 1024 * 1024;

/// What stands before a part of a PEM file.
const BEGIN: &[u8] = b"-----BEGIN ";

/// The certificates of a file, in order.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let sections = sections(path, &read(path)?)?;
    let certificates: Vec<_> = sections
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    if certificates.is_empty() {
        return Err(TlsError::file(path, "there is no certificate in it (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(certificates)
}

/// The one key of a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    // Both forms: PKCS #8's "BEGIN ENCRYPTED PRIVATE KEY", and the "Proc-Type: 4,ENCRYPTED" of older ones (RFC 1421).
    if memchr::memmem::find(&text, b"ENCRYPTED").is_some() {
        return Err(TlsError::file(
            path,
            "the key is encrypted, and there is nobody to ask for its password; write it as it is with \"openssl pkey\", for \
             the server's user alone to read",
        ));
    }
    let mut keys = sections(path, &text)?.into_iter().filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(TlsError::file(path, "there is no private key in it (-----BEGIN PRIVATE KEY-----)")),
        (Some(_), Some(_)) => {
            Err(TlsError::file(path, "there are several private keys in it; leave the one that is meant"))
        }
    }
}

fn sections(path: &Path, text: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, TlsError> {
    if memchr::memmem::find(text, BEGIN).is_none() {
        return Err(TlsError::file(path, "it is not in PEM form; \"openssl x509\" or \"openssl pkey\" convert it"));
    }
    let why = |problem: Error| match problem {
        Error::MissingSectionEnd { .. } => "it is cut off: a part has no -----END line".to_owned(),
        Error::IllegalSectionStart { .. } => "a -----BEGIN line in it is no such line".to_owned(),
        other => format!("it is damaged: {other}"),
    };
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text).collect::<Result<_, _>>();
    sections.map_err(|problem| TlsError::file(path, why(problem)))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let system = |problem: std::io::Error| {
        let why = match problem.kind() {
            ErrorKind::NotFound => "there is no such file".to_owned(),
            ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
            _ => format!("it cannot be read ({problem})"),
        };
        TlsError::file(path, why)
    };
    // A pipe would be empty when it is read again, or keep whoever reads it waiting.
    if !std::fs::metadata(path).map_err(system)?.is_file() {
        return Err(TlsError::file(path, "it is not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut text)).map_err(system)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(TlsError::file(
            path,
            format!("it has more than {BYTES_MAX} bytes; a PEM file of certificates has fewer"),
        ));
    }
    Ok(text)
}
