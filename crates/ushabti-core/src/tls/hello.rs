//! Which version a client offers that is refused: rustls tells of the first thing that it misses, which is another.

use rustls::Error;

/// The newest version that a client offers, if TLS 1.2 is newer. `hello` is what it has sent first, as far as that has come.
pub(crate) fn too_old(hello: &[u8]) -> Option<&'static str> {
    // A record of the handshake, in it the greeting (RFC 8446 section 4.1.2): its type, three bytes of length, its version.
    // Clients of TLS 1.3 write that of TLS 1.2 there.
    let [22, _, _, _, _, 1, _, _, _, 3, minor, ..] = hello else { return None };
    match minor {
        0 => Some("SSL 3.0"),
        1 => Some("TLS 1.0"),
        2 => Some("TLS 1.1"),
        _ => None,
    }
}

/// Why a handshake has failed. `offered` is what [`too_old`] says of its client.
pub(crate) fn explained(problem: &Error, offered: Option<&'static str>) -> String {
    match (problem, offered) {
        (Error::PeerIncompatible(_), Some(version)) => {
            format!("the client offers {version} at most; 1.2 and 1.3 are spoken here")
        }
        _ => problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_1_2_are_told_from_the_greeting() {
        let hello = |minor| [22, 3, 1, 0, 47, 1, 0, 0, 43, 3, minor, 99, 99];
        assert_eq!(too_old(&hello(0)), Some("SSL 3.0"));
        assert_eq!(too_old(&hello(1)), Some("TLS 1.0"));
        assert_eq!(too_old(&hello(2)), Some("TLS 1.1"));
        assert_eq!(too_old(&hello(3)), None);
        assert_eq!(too_old(&hello(2)[..10]), None, "it is cut off");
        assert_eq!(too_old(b"\x16\x03\x01\x00\x2f\x02\x00\x00\x2b\x03\x02"), None, "no greeting of a client");
    }
}
