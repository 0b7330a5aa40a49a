//! How many connections each client has, where that is bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::listener::Peer;

/// A client as far as it can be told from others: an IPv4 address, or an IPv6 network of 64 bits, of which a single machine
/// has all addresses (RFC 4291 section 2.5.1). Unix sockets are all one, and not bounded.
fn client_of(peer: &Peer) -> Option<u64> {
    let Peer::Inet(address) = peer else { return None };
    Some(match address.ip().to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        // The upper half of an address in use is never so small a number as an IPv4 address is.
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 | 1 << 63,
    })
}

/// How many connections of a client are served, and how many are being refused.
#[derive(Debug, Default)]
struct Count {
    served: usize,
    refused: usize,
}

/// The clients that have connections. IO thread; the lock is never contended.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<HashMap<u64, Count>>);

/// One connection of a client; counted out when it is dropped.
pub(crate) struct ClientSlot {
    clients: Arc<Clients>,
    client: u64,
    is_served: bool,
}

/// Connections of a client beyond its bound that are told so. Beyond these they are closed unanswered, or it could take all
/// that the server has for its refusals.
const REFUSED_MAX: usize = 8;

/// What becomes of a new connection.
pub(crate) enum Entry {
    /// It is served.
    Admitted(Option<ClientSlot>),
    /// Its client has too many, and is told so.
    Refused(Option<ClientSlot>),
    /// Its client has been told so often enough.
    Ignored,
}

impl Clients {
    /// Counts a connection in, if its client has fewer than `most`, or not many more.
    pub(crate) fn enter(self: &Arc<Self>, peer: &Peer, most: usize) -> Entry {
        let Some(client) = client_of(peer) else { return Entry::Admitted(None) };
        let mut counts = self.0.lock();
        let count = counts.entry(client).or_default();
        let slot = |is_served| Some(ClientSlot { clients: Arc::clone(self), client, is_served });
        if count.served < most {
            count.served += 1;
            Entry::Admitted(slot(true))
        } else if count.refused < REFUSED_MAX {
            count.refused += 1;
            Entry::Refused(slot(false))
        } else {
            Entry::Ignored
        }
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        let mut counts = self.clients.0.lock();
        if let Some(count) = counts.get_mut(&self.client) {
            *(if self.is_served { &mut count.served } else { &mut count.refused }) -= 1;
            if count.served + count.refused == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::Inet(text.parse().expect("an address"))
    }

    fn enter(clients: &Arc<Clients>, text: &str, most: usize) -> Entry {
        clients.enter(&peer(text), most)
    }

    #[test]
    fn a_client_has_so_many_and_others_have_theirs() {
        let clients = Arc::new(Clients::default());
        let first = enter(&clients, "10.0.0.1:1", 2);
        let second = enter(&clients, "[::ffff:10.0.0.1]:2", 2);
        assert!(matches!((&first, &second), (Entry::Admitted(Some(_)), Entry::Admitted(Some(_)))));
        let refused = enter(&clients, "10.0.0.1:3", 2);
        assert!(matches!(refused, Entry::Refused(_)));
        assert!(matches!(enter(&clients, "10.0.0.2:3", 2), Entry::Admitted(_)));
        drop(first);
        drop(second);
        assert!(matches!(enter(&clients, "10.0.0.1:4", 1), Entry::Admitted(_)), "who is being refused takes no place");
        drop(refused);
        assert!(clients.0.lock().is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn who_is_refused_often_enough_is_ignored() {
        let clients = Arc::new(Clients::default());
        let held: Vec<_> = (0..=REFUSED_MAX).map(|_| enter(&clients, "10.0.0.1:1", 1)).collect();
        assert!(matches!(held.last(), Some(Entry::Refused(_))));
        assert!(matches!(enter(&clients, "10.0.0.1:1", 1), Entry::Ignored));
    }

    #[test]
    fn the_addresses_of_one_network_are_one_client() {
        let clients = Arc::new(Clients::default());
        let _held = enter(&clients, "[2001:db8::1]:1", 1);
        assert!(matches!(enter(&clients, "[2001:db8::2]:1", 1), Entry::Refused(_)));
        assert!(matches!(enter(&clients, "[2001:db8:0:1::1]:1", 1), Entry::Admitted(_)));
    }

    #[test]
    fn unix_sockets_are_not_bounded() {
        let clients = Arc::new(Clients::default());
        assert!(matches!(clients.enter(&Peer::Unix, 0), Entry::Admitted(None)));
    }
}
