//! TLS as an operator configures it: certificates, their keys, and the authorities of clients.
//!
//! [`Tls`] holds what new handshakes use, and takes other files in without disturbing what is connected. What is wrong with
//! a file is said before any socket is opened; later, the old certificates stay.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;

mod certificates;
mod files;
mod handshake;
mod hello;
mod info;
mod names;
mod self_signed;
mod session;
mod x509;

pub use handshake::reload;
pub(crate) use handshake::{Handshakes, spawn};
pub(crate) use hello::{explained, too_old};
pub use info::{ClientCertificate, TlsInfo};
pub(crate) use names::take_server_name;
pub(crate) use session::Session;

use certificates::Identity;
use names::Choice;

/// A certificate that ends sooner than this is warned of. Those of 90 days are renewed a month before their end, mostly.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// What an operator says of TLS.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The certificates of the server; the first is shown to clients that name no host, or one that is in none.
    pub certificates: Vec<Files>,
    /// Names and addresses for a certificate that is made now, for development; `certificates` is empty then.
    pub self_signed: Option<Vec<String>>,
    /// Whether clients show certificates.
    pub clients: Clients,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// One certificate, in PEM form.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate, followed by those of its issuers.
    pub certificate: PathBuf,
    /// Its key; may be the same file.
    pub key: PathBuf,
}

/// What is asked of clients. The paths are those of PEM files with the certificates of the authorities that are trusted to
/// name clients.
#[derive(Debug, Clone)]
pub enum Clients {
    /// They are not asked for a certificate.
    Ignored,
    /// They are, and may have none; one that is wrong ends the handshake.
    Optional(PathBuf),
    /// Who has none is not let in.
    Required(PathBuf),
}

impl Clients {
    fn authorities(&self) -> Option<&Path> {
        match self {
            Self::Ignored => None,
            Self::Optional(path) | Self::Required(path) => Some(path),
        }
    }
}

/// What is wrong with the files.
#[derive(Debug)]
pub struct TlsError {
    /// One sentence: the file, what is wrong with it, what to do.
    pub message: String,
}

impl TlsError {
    fn file(path: &Path, why: impl fmt::Display) -> Self {
        Self { message: format!("cannot use {}: {why}", path.display()) }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TlsError {}

/// The certificates of a server. Any thread.
pub struct Tls {
    settings: Settings,
    /// What `settings.self_signed` has led to: it stays the same for as long as the server lives.
    self_signed: Option<Identity>,
    /// Held for a reading of the fields, never while a file is read.
    present: Mutex<Present>,
    /// Held while files are read, so that of two reloads the later one wins. Taken before `present`.
    loading: Mutex<Watch>,
}

/// What new handshakes use.
struct Present {
    config: Arc<ServerConfig>,
    /// What may have to be warned of.
    notes: Vec<Note>,
}

/// The files as they were when they were looked at.
struct Watch {
    /// What was loaded, or tried, last.
    tried: Vec<Stamp>,
    /// Others than these, at the last look.
    others: Option<Vec<Stamp>>,
}

/// Something about a certificate that may lead to a warning.
enum Note {
    /// It ends then, in seconds since 1970.
    Ends { path: PathBuf, not_after: u64 },
    /// A sentence.
    Always(String),
}

/// What tells one state of a file from another: time of change, size, and where it is. `None`: it is not there.
type Stamp = Option<(i64, i64, u64, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let of = |file: Metadata| (file.mtime(), file.mtime_nsec(), file.size(), file.dev(), file.ino());
    std::fs::metadata(path).ok().map(of)
}

impl Tls {
    /// Reads the files. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if one of them is not what it should be.
    pub fn load(settings: Settings) -> Result<Self, TlsError> {
        let self_signed = settings.self_signed.as_deref().map(self_signed::make).transpose()?;
        let tried = stamps(&settings);
        let present = Present::load(&settings, self_signed.as_ref())?;
        Ok(Self {
            settings,
            self_signed,
            present: Mutex::new(present),
            loading: Mutex::new(Watch { tried, others: None }),
        })
    }

    /// What a new handshake uses. Any thread.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.present.lock().config)
    }

    /// Reads the files again. New handshakes use what is in them from now on; connections keep what they have. Blocks on
    /// the disk. Not for the IO thread.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if one of the files is not what it should be; nothing is changed then.
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut watch = self.loading.lock();
        // Before they are read: what is changed meanwhile is seen at the next look.
        *watch = Watch { tried: stamps(&self.settings), others: None };
        let present = Present::load(&self.settings, self.self_signed.as_ref())?;
        *self.present.lock() = present;
        Ok(())
    }

    /// Whether the files are others than those that were loaded or tried last, and have been left alone since the last look: a
    /// certificate and its key are seldom replaced in one moment. For the thread that looks after them, once a second.
    pub fn has_changed(&self) -> bool {
        let now = stamps(&self.settings);
        let mut watch = self.loading.lock();
        if now == watch.tried {
            watch.others = None;
            return false;
        }
        let is_settled = watch.others.as_ref() == Some(&now);
        watch.others = Some(now);
        is_settled
    }

    /// Sentences about what will soon be, or may already be, a reason for clients to stay away.
    pub fn warnings(&self) -> Vec<String> {
        let soon = unix_now() + ENDS_SOON.as_secs();
        let warning = |note: &Note| match note {
            Note::Always(sentence) => Some(sentence.clone()),
            Note::Ends { path, not_after } if *not_after <= soon => {
                let (path, ends) = (path.display(), x509::date(*not_after));
                Some(format!("the certificate {path} ends on {ends}: clients do not connect after that; renew it"))
            }
            Note::Ends { .. } => None,
        };
        self.present.lock().notes.iter().filter_map(warning).collect()
    }

    /// SHA-256 of the certificate that was made for development, in hexadecimal digits: by this a client can know it.
    pub fn self_signed_fingerprint(&self) -> Option<String> {
        self.self_signed.as_ref().map(|identity| x509::fingerprint(&identity.key.cert[0]))
    }

    /// The certificate that was made for development, in DER form.
    pub fn self_signed_certificate(&self) -> Option<&[u8]> {
        self.self_signed.as_ref().map(|identity| identity.key.cert[0].as_ref())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest has keys in it.
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Present {
    fn load(settings: &Settings, self_signed: Option<&Identity>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let now = unix_now();
        let mut identities: Vec<_> = self_signed.into_iter().cloned().collect();
        let mut notes = Vec::new();
        for files in &settings.certificates {
            let identity = Identity::load(files, &provider, now, &mut notes)?;
            notes.push(Note::Ends { path: files.certificate.clone(), not_after: identity.not_after });
            identities.push(identity);
        }
        if identities.is_empty() {
            return Err(TlsError { message: "TLS needs a certificate".to_owned() });
        }
        Ok(Self { config: Arc::new(config(settings, &provider, Choice::new(identities))?), notes })
    }
}

/// What handshakes use. Left as rustls has it, on purpose:
///
/// - TLS 1.3 and 1.2. RFC 8996 has done away with what was before, and renegotiation is not implemented.
/// - Its suites: all with forward secrecy and authenticated encryption. The client's order counts, because there is no weak one to
///   keep it from, and it knows whether its processor is quicker with AES or with `ChaCha20`.
/// - No early data: it could be sent again by others (RFC 8446 section 8).
fn config(settings: &Settings, provider: &Arc<CryptoProvider>, choice: Choice) -> Result<ServerConfig, TlsError> {
    let fault = |problem: &dyn fmt::Display| TlsError { message: format!("TLS cannot be set up: {problem}") };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|problem| fault(&problem))?;
    let builder = match settings.clients.authorities() {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(certificates::authorities(path)?);
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
            if matches!(settings.clients, Clients::Optional(_)) {
                verifier = verifier.allow_unauthenticated();
            }
            builder.with_client_cert_verifier(verifier.build().map_err(|problem| TlsError::file(path, problem))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(choice));
    // A client that comes back saves the signature and, with TLS 1.2, a round trip; the session is kept by the client (RFC 8446
    // section 4.6.1, RFC 5077), so that a million of them take no memory here. The keys are drawn anew at each reload, or clients
    // of an authority that is no longer trusted would still come in by their tickets.
    config.ticketer = ring::Ticketer::new().map_err(|problem| fault(&problem))?;
    if settings.http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(config)
}

/// The state of all files, in the order of the settings.
fn stamps(settings: &Settings) -> Vec<Stamp> {
    let pairs = settings.certificates.iter().flat_map(|files| [files.certificate.as_path(), files.key.as_path()]);
    pairs.chain(settings.clients.authorities()).map(stamp).collect()
}

/// Seconds since 1970.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

#[cfg(test)]
mod tests;
