//! A certificate that is made when the server starts, for development: no client knows its issuer.

use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::CertifiedKey;

use super::certificates::Identity;
use super::x509::Certificate;
use super::{TlsError, unix_now};

/// It holds for so long; a server for development does not live longer.
const HOLDS: Duration = Duration::from_secs(30 * 24 * 3600);
/// And from so long ago on, for clocks that go slow.
const HELD: Duration = Duration::from_secs(24 * 3600);

/// Makes a key (ECDSA with P-256, which all clients know) and a certificate for `names`, hosts or addresses.
///
/// # Errors
///
/// [`TlsError`] for a name that cannot stand in a certificate.
pub(super) fn make(names: &[String]) -> Result<Identity, TlsError> {
    let fault = |problem: &dyn std::fmt::Display| TlsError {
        message: format!("cannot make a certificate for {}: {problem}", names.join(", ")),
    };
    let mut params = CertificateParams::new(names).map_err(|problem| fault(&problem))?;
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(unix_now());
    (params.not_before, params.not_after) = (now - HELD, now + HOLDS);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "ushabti, for development");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(|problem| fault(&problem))?;
    let certificate = params.self_signed(&key).map_err(|problem| fault(&problem))?;
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    let signing = ring::sign::any_ecdsa_type(&der.into()).map_err(|problem| fault(&problem))?;
    let read = Certificate::read(certificate.der()).map_err(|problem| fault(&problem))?;
    Ok(Identity::new(CertifiedKey::new(vec![certificate.der().clone()], signing), &read))
}
