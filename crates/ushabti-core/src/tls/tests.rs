//! Certificates made here, read from files, and shown to rustls as a client.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P384_SHA384, SanType, SerialNumber, date_time_ymd,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
};

use super::*;

mod handshakes;
mod loading;

const DAY_S: u64 = 24 * 3600;

/// A folder of this test's own, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ushabti-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("the name is new");
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("the folder can be written to");
        path
    }

    /// A certificate for `hosts` with its key.
    fn identity(&self, name: &str, hosts: &[&str]) -> Files {
        let (certificate, key) = made(&params(hosts));
        self.files(name, &certificate, &key)
    }

    fn files(&self, name: &str, certificate: &str, key: &str) -> Files {
        Files {
            certificate: self.write(&format!("{name}.pem"), certificate),
            key: self.write(&format!("{name}.key"), key),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn params(hosts: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>())
        .expect("these names can stand in a certificate");
    set_dates(&mut params, unix_now() - DAY_S, unix_now() + 90 * DAY_S);
    params
}

fn set_dates(params: &mut CertificateParams, not_before: u64, not_after: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(not_before);
    params.not_after = epoch + Duration::from_secs(not_after);
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("there is chance enough")
}

/// Certificate and key in PEM form.
fn made(params: &CertificateParams) -> (String, String) {
    let key = new_key();
    (params.self_signed(&key).expect("it can be signed").pem(), key.serialize_pem())
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params(&[]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, new_key()).expect("it can be signed")
}

fn settings(certificates: Vec<Files>) -> Settings {
    Settings { certificates, self_signed: None, clients: Clients::Ignored, http2: true }
}

fn refusal(settings: Settings) -> String {
    Tls::load(settings).map(|_| ()).expect_err("it must be refused").message
}

/// Takes every certificate, and keeps what it was shown: which one is the question here.
#[derive(Debug)]
struct Anyone(&'static [SignatureScheme]);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &default_provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &default_provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.to_vec()
    }
}

const ANY_SCHEME: &[SignatureScheme] =
    &[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384];

const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];
const TLS13: Versions = &[&rustls::version::TLS13];
const TLS12: Versions = &[&rustls::version::TLS12];

type Versions = &'static [&'static SupportedProtocolVersion];

struct Client {
    versions: Versions,
    schemes: &'static [SignatureScheme],
    identity: Option<(CertificateDer<'static>, PrivatePkcs8KeyDer<'static>)>,
    protocols: &'static [&'static [u8]],
}

impl Default for Client {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS, schemes: ANY_SCHEME, identity: None, protocols: &[] }
    }
}

impl Client {
    fn config(self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(self.versions)
            .expect("these versions are there")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(self.schemes)));
        let mut config = match self.identity {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate], key.into()).expect("the key can be used")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

/// Shakes hands in memory. What the server made of it, and the certificate that it has shown.
fn handshake(tls: &Tls, client: &Arc<ClientConfig>, name: &str) -> Result<Shaken, Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(tls.config())?;
    // A few rounds after the handshake take the tickets over.
    for _ in 0..6 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory takes all");
        }
        server.read_tls(&mut wire.as_slice()).expect("there is room");
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory takes all");
        }
        client.read_tls(&mut wire.as_slice()).expect("there is room");
        client.process_new_packets()?;
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    Ok(Shaken {
        info: TlsInfo::of(&server, take_server_name().as_deref()),
        shown: client.peer_certificates().and_then(|chain| chain.first()).expect("a certificate").to_vec(),
        is_resumed: client.handshake_kind() == Some(HandshakeKind::Resumed),
    })
}

#[derive(Debug)]
struct Shaken {
    info: TlsInfo,
    shown: Vec<u8>,
    is_resumed: bool,
}

fn der_of(path: &Path) -> Vec<u8> {
    files::certificates(path).expect("a certificate")[0].to_vec()
}
