//! What a certificate says (RFC 5280). Whether it may be believed is for rustls to verify; nothing here decides that.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ring::digest::{SHA256, digest};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::{self, Decode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};
use x509_cert::name::Name;

/// A certificate, read.
pub(super) struct Certificate(CertificateInner<Raw>);

/// One of the names of a certificate's subject (RFC 5280 section 4.2.1.6).
pub(super) enum SubjectName {
    /// A host's, or with `*.` before it any host's in a domain.
    Dns(String),
    /// Another: address, mail, URI.
    Other(String),
}

impl SubjectName {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Dns(text) | Self::Other(text) => text,
        }
    }
}

impl Certificate {
    /// Reads the DER form.
    ///
    /// # Errors
    ///
    /// When it is no certificate.
    pub(super) fn read(der: &[u8]) -> Result<Self, der::Error> {
        CertificateInner::from_der(der).map(Self)
    }

    /// First and last second in which it holds, since 1970.
    pub(super) fn validity(&self) -> (u64, u64) {
        let validity = self.0.tbs_certificate().validity();
        (validity.not_before.to_unix_duration().as_secs(), validity.not_after.to_unix_duration().as_secs())
    }

    pub(super) fn subject(&self) -> &Name {
        self.0.tbs_certificate().subject()
    }

    pub(super) fn issuer(&self) -> &Name {
        self.0.tbs_certificate().issuer()
    }

    /// The subject's common name, if there is one that can be read.
    pub(super) fn common_name(&self) -> Option<String> {
        self.subject().common_name().ok().flatten().map(|name| text_of(&name))
    }

    /// The names of the subject; none if they cannot be read.
    pub(super) fn names(&self) -> Vec<SubjectName> {
        let Ok(Some((_, names))) = self.0.tbs_certificate().get_extension::<SubjectAltName>() else {
            return Vec::new();
        };
        let name = |name: GeneralName| match name {
            GeneralName::DnsName(name) => Some(SubjectName::Dns(name.to_string())),
            GeneralName::Rfc822Name(name) | GeneralName::UniformResourceIdentifier(name) => {
                Some(SubjectName::Other(name.to_string()))
            }
            GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|ip| SubjectName::Other(ip.to_string())),
            _ => None,
        };
        names.0.into_iter().filter_map(name).collect()
    }

    /// The serial number, in hexadecimal digits.
    pub(super) fn serial(&self) -> String {
        match self.0.tbs_certificate().serial_number().as_bytes() {
            // It says that the number is positive.
            [0, rest @ ..] if !rest.is_empty() => hex(rest),
            bytes => hex(bytes),
        }
    }
}

fn text_of(name: &DirectoryString) -> String {
    name.value().into_owned()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into())).ok()
}

/// SHA-256 of the DER form, in hexadecimal digits.
pub(super) fn fingerprint(der: &[u8]) -> String {
    hex(digest(&SHA256, der).as_ref())
}

/// A moment, in seconds since 1970, as it is written in messages.
pub(super) fn date(unix: u64) -> String {
    let date = der::DateTime::from_unix_duration(std::time::Duration::from_secs(unix));
    date.map_or_else(|_| format!("second {unix} since 1970"), |date| date.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
