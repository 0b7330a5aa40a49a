//! What a handler may know of the TLS of a connection.

use rustls::{CommonState, ProtocolVersion};

use super::x509::{self, Certificate, SubjectName};

/// What was agreed on in a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// "1.3" or "1.2".
    pub version: &'static str,
    /// The cipher suite, by its registered name.
    pub cipher: String,
    /// The name by which the client has called the server.
    pub server_name: Option<String>,
    /// The protocol that was agreed on, if the client has offered some (RFC 7301).
    pub protocol: Option<String>,
    /// The client's certificate, verified.
    pub client: Option<ClientCertificate>,
}

/// A certificate that a client has shown. An authority that the operator trusts stands for what is in it.
///
/// One that rustls accepts and that cannot be read here leaves all but `fingerprint` and `der` empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject, as text (RFC 4514).
    pub subject: String,
    /// The subject's common name, if there is one.
    pub common_name: Option<String>,
    /// The subject's other names: hosts, addresses, mail addresses, URIs (RFC 5280 section 4.2.1.6).
    pub names: Vec<String>,
    /// The issuer, as text (RFC 4514).
    pub issuer: String,
    /// The serial number, in hexadecimal digits.
    pub serial: String,
    /// The first moment in which it holds, in seconds since 1970.
    pub not_before: u64,
    /// The last moment in which it holds, in seconds since 1970.
    pub not_after: u64,
    /// SHA-256 of the DER form, in hexadecimal digits.
    pub fingerprint: String,
    /// The DER form.
    pub der: Vec<u8>,
}

impl TlsInfo {
    /// What was agreed on in the handshake that `state` is of, which has ended. `server_name`: see
    /// `take_server_name`, which is how it is found out.
    pub fn of(state: &CommonState, server_name: Option<&str>) -> Self {
        let suite = state.negotiated_cipher_suite().map(|suite| suite.suite());
        let cipher = suite.map(|suite| format!("{suite:?}").replace("TLS13_", "TLS_"));
        Self {
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                // There is no other.
                _ => "1.3",
            },
            cipher: cipher.unwrap_or_default(),
            server_name: server_name.map(str::to_owned),
            protocol: state.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            client: state.peer_certificates().and_then(|chain| chain.first()).map(|der| ClientCertificate::read(der)),
        }
    }
}

impl ClientCertificate {
    fn read(der: &[u8]) -> Self {
        let unread = Self { fingerprint: x509::fingerprint(der), der: der.to_vec(), ..Self::default() };
        let Ok(certificate) = Certificate::read(der) else { return unread };
        let (not_before, not_after) = certificate.validity();
        Self {
            subject: certificate.subject().to_string(),
            common_name: certificate.common_name(),
            names: certificate.names().into_iter().map(SubjectName::into_text).collect(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.serial(),
            not_before,
            not_after,
            ..unread
        }
    }
}
