//! TLS: what a server is told of it, and what a handler may know of that of its connection.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use ushabti_core::tls::{self, Clients, Files, Tls, TlsError};

use crate::exceptions::ConfigError;

/// What the core reads of `ushabti.config.Settings` to set up TLS.
#[derive(FromPyObject)]
#[expect(clippy::struct_field_names, reason = "these are the names of the options")]
pub(crate) struct TlsSettings {
    tls_certificates: Vec<(PathBuf, PathBuf)>,
    tls_self_signed: Option<Vec<String>>,
    tls_client_ca: Option<PathBuf>,
    tls_client_auth: String,
}

impl TlsSettings {
    /// Reads the certificates, and offers HTTP/2 if `http2`; `None` if the server speaks no TLS. Blocks on the disk: detached.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if one of the files is not what it should be.
    pub(crate) fn load(self, http2: bool) -> Result<Option<Arc<Tls>>, TlsError> {
        if self.tls_certificates.is_empty() && self.tls_self_signed.is_none() {
            return Ok(None);
        }
        let files = self.tls_certificates.into_iter().map(|(certificate, key)| Files { certificate, key });
        let clients = match (self.tls_client_ca, self.tls_client_auth.as_str()) {
            (Some(authorities), "required") => Clients::Required(authorities),
            (Some(authorities), "optional") => Clients::Optional(authorities),
            _ => Clients::Ignored,
        };
        let settings =
            tls::Settings { certificates: files.collect(), self_signed: self.tls_self_signed, clients, http2 };
        Tls::load(settings).map(|tls| Some(Arc::new(tls)))
    }
}

/// `ConfigError(message)`.
pub(crate) fn config_error(problem: &TlsError) -> PyErr {
    ConfigError::new_err(problem.message.clone())
}

/// The TLS of a connection, as it was agreed on (RFC 8446).
#[pyclass(frozen, name = "TLSInfo", module = "ushabti._core")]
pub struct TlsInfo {
    core: Arc<tls::TlsInfo>,
}

impl TlsInfo {
    pub(crate) fn new(core: Arc<tls::TlsInfo>) -> Self {
        Self { core }
    }
}

#[pymethods]
impl TlsInfo {
    /// `1.3` or `1.2`.
    #[getter]
    fn version(&self) -> &'static str {
        self.core.version
    }

    /// The cipher suite by its registered name: `TLS_AES_256_GCM_SHA384`.
    #[getter]
    fn cipher(&self) -> &str {
        &self.core.cipher
    }

    /// The name by which the client has called the server (RFC 6066 section 3), or `None`.
    #[getter]
    fn server_name(&self) -> Option<&str> {
        self.core.server_name.as_deref()
    }

    /// The protocol that was agreed on (RFC 7301): `h2`, `http/1.1`, or `None` if the client has offered none.
    #[getter]
    fn protocol(&self) -> Option<&str> {
        self.core.protocol.as_deref()
    }

    /// The certificate of the client, verified by the authorities of `tls_client_ca`; `None` if it has shown none.
    #[getter]
    fn client_certificate(&self) -> Option<ClientCertificate> {
        self.core.client.is_some().then(|| ClientCertificate { core: Arc::clone(&self.core) })
    }

    fn __repr__(&self) -> String {
        let client = self.core.client.as_ref().map(|client| format!(", client {:?}", client.subject));
        format!("<TLSInfo {} {}{}>", self.core.version, self.core.cipher, client.unwrap_or_default())
    }
}

/// The certificate of a client (RFC 5280). What is in it was signed by an authority that the operator trusts.
#[pyclass(frozen, module = "ushabti._core")]
pub struct ClientCertificate {
    core: Arc<tls::TlsInfo>,
}

impl ClientCertificate {
    fn get(&self) -> &tls::ClientCertificate {
        self.core.client.as_ref().expect("it is made only where there is one")
    }
}

#[pymethods]
impl ClientCertificate {
    /// The subject as text (RFC 4514): `CN=ani,O=Thebes`.
    #[getter]
    fn subject(&self) -> &str {
        &self.get().subject
    }

    /// The subject's common name, or `None`.
    #[getter]
    fn common_name(&self) -> Option<&str> {
        self.get().common_name.as_deref()
    }

    /// The subject's other names: hosts, addresses, mail addresses, URIs.
    #[getter]
    fn names(&self) -> Vec<&str> {
        self.get().names.iter().map(String::as_str).collect()
    }

    /// The issuer as text.
    #[getter]
    fn issuer(&self) -> &str {
        &self.get().issuer
    }

    /// The serial number, in hexadecimal digits.
    #[getter]
    fn serial(&self) -> &str {
        &self.get().serial
    }

    /// The first moment in which it holds, in seconds since 1970.
    #[getter]
    fn not_before(&self) -> u64 {
        self.get().not_before
    }

    /// The last moment in which it holds, in seconds since 1970.
    #[getter]
    fn not_after(&self) -> u64 {
        self.get().not_after
    }

    /// SHA-256 of the DER form, in hexadecimal digits.
    #[getter]
    fn fingerprint(&self) -> &str {
        &self.get().fingerprint
    }

    /// The DER form.
    #[getter]
    fn der<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.get().der)
    }

    fn __repr__(&self) -> String {
        format!("<ClientCertificate {:?}>", self.get().subject)
    }
}
