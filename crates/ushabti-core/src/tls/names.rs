//! Which certificate a client is shown (RFC 6066 section 3).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificates::Identity;

thread_local! {
    /// What the client has called the server whose greeting this thread has read last. rustls keeps it to itself.
    static SERVER_NAME: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The name that the client asked for whose greeting this thread has read since the last call. To be called after each
/// step of a handshake, on the same thread.
pub(crate) fn take_server_name() -> Option<String> {
    SERVER_NAME.take()
}

/// The certificates by name.
#[derive(Debug)]
pub(super) struct Choice {
    /// In the order of the operator; at least one.
    keys: Vec<Arc<CertifiedKey>>,
    /// By whole names.
    hosts: HashMap<String, Vec<usize>>,
    /// By what follows a `*.`, which stands for one label (RFC 9525 section 6.3).
    domains: HashMap<String, Vec<usize>>,
}

impl Choice {
    pub(super) fn new(identities: Vec<Identity>) -> Self {
        let mut choice = Self { keys: Vec::new(), hosts: HashMap::new(), domains: HashMap::new() };
        for (number, identity) in identities.into_iter().enumerate() {
            for name in identity.names {
                match name.strip_prefix("*.") {
                    Some(domain) => choice.domains.entry(domain.to_owned()).or_default().push(number),
                    None => choice.hosts.entry(name).or_default().push(number),
                }
            }
            choice.keys.push(identity.key);
        }
        choice
    }

    /// Those that may be shown to a client that asks for `name`, best first. All of them where none has that name: which of them it
    /// takes, if any, is the client's to say.
    fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let named = name.map(str::to_ascii_lowercase).and_then(|name| {
            let of_domain = || name.split_once('.').and_then(|(_, domain)| self.domains.get(domain));
            self.hosts.get(&name).or_else(of_domain)
        });
        let all = if named.is_none() { self.keys.as_slice() } else { &[] };
        named.into_iter().flatten().map(|&number| &self.keys[number]).chain(all)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        SERVER_NAME.set(name.map(str::to_owned));
        // Of several for one name, RSA's for old clients mostly, the first whose signature the client can verify.
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.candidates(name).find(fits).or_else(|| self.candidates(name).next()).cloned()
    }
}
