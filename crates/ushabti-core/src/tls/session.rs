//! One TLS connection: records of the client in, its bytes out, and the reverse (RFC 8446 section 5).
//!
//! There is no socket here and no lock: `link::secure` has those. It is rustls' interface without buffers that is driven,
//! because an idle connection shall own none: what is kept here is an incomplete record, and what was decrypted and did not
//! fit where it belongs.

use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    AppDataRecord, ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error, ServerConfig};

/// A record holds so many bytes at most (RFC 8446 section 5.1), and takes no more than this beside them: header, type, tag,
/// and the nonce of TLS 1.2.
const RECORD_BYTES: usize = 16 * 1024;
const RECORD_EXTRA: usize = 64;

/// The alert for what rustls has none for: `decode_error`, fatal, not encrypted (RFC 8446 section 6.2).
const DECODE_ERROR: &[u8] = &[21, 3, 3, 0, 2, 2, 50];

/// The state of one connection. It is moved between threads, and used by one at a time.
pub(crate) struct Session {
    connection: UnbufferedServerConnection,
    /// Received, and no whole record yet.
    incoming: Vec<u8>,
    /// Decrypted, and not taken yet.
    plain: Vec<u8>,
    is_open: bool,
    is_ended: bool,
    /// The client has broken the protocol: rustls must not be asked again, which has lost its place in what was received.
    has_failed: bool,
}

impl Session {
    /// A connection whose client has said nothing yet.
    ///
    /// # Errors
    ///
    /// [`Error`] if `config` cannot be used at all.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self {
            connection,
            incoming: Vec::new(),
            plain: Vec::new(),
            is_open: false,
            is_ended: false,
            has_failed: false,
        })
    }

    /// The handshake is over.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The client has said that it sends no more: what it sends all the same is ignored.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// What was agreed on.
    pub(crate) fn state(&self) -> &CommonState {
        &self.connection
    }

    /// Takes in bytes of the client, which are overwritten, and decrypts what they complete: as much as fits into `room`, of
    /// which the length is returned; the rest is kept for [`Session::take`]. What has to be sent for it is appended to `out`.
    ///
    /// # Errors
    ///
    /// [`Error`] when the client has broken the protocol. The alert that tells it so is in `out` then, and the connection is
    /// of no use any more.
    pub(crate) fn receive(&mut self, input: &mut [u8], room: &mut [u8], out: &mut Vec<u8>) -> Result<usize, Error> {
        let mut taken = 0;
        let mut take = |plain: &mut Vec<u8>, bytes: &[u8]| {
            let count = if plain.is_empty() { bytes.len().min(room.len() - taken) } else { 0 };
            room[taken..taken + count].copy_from_slice(&bytes[..count]);
            taken += count;
            plain.extend_from_slice(&bytes[count..]);
        };
        if self.incoming.is_empty() {
            let used = self.drive(input, out, &mut take, |_, _| Ok(()))?;
            self.incoming.extend_from_slice(&input[used..]);
        } else {
            let mut incoming = std::mem::take(&mut self.incoming);
            incoming.extend_from_slice(input);
            let used = self.drive(&mut incoming, out, &mut take, |_, _| Ok(()))?;
            if used < incoming.len() {
                incoming.drain(..used);
                self.incoming = incoming;
            }
        }
        Ok(taken)
    }

    /// Moves what was decrypted before into `room`; returns how much.
    pub(crate) fn take(&mut self, room: &mut [u8]) -> usize {
        if self.plain.is_empty() {
            return 0;
        }
        let count = self.plain.len().min(room.len());
        room[..count].copy_from_slice(&self.plain[..count]);
        if count == self.plain.len() {
            self.plain = Vec::new();
        } else {
            self.plain.drain(..count);
        }
        count
    }

    /// Encrypts `data`, and appends the records to `out`.
    ///
    /// # Errors
    ///
    /// [`Error`] if nothing can be sent: before the end of the handshake, after the connection was closed, or when the keys
    /// are used up.
    pub(crate) fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.write(out, |mut traffic, out| {
            append(out, data.len() + (data.len() / RECORD_BYTES + 1) * RECORD_EXTRA, |room| traffic.encrypt(data, room))
        })
    }

    /// Says that nothing more will be sent (RFC 8446 section 6.1).
    ///
    /// # Errors
    ///
    /// See [`Session::seal`].
    pub(crate) fn seal_end(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.write(out, |mut traffic, out| append(out, RECORD_EXTRA, |room| traffic.queue_close_notify(room)))
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        then: impl FnOnce(WriteTraffic<'_, rustls::server::ServerConnectionData>, &mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut written = Err(Error::General("the connection is closed".to_owned()));
        if self.has_failed {
            return written;
        }
        // Parts of a record that came before are looked at again: there may be a message of several records among them.
        let mut incoming = std::mem::take(&mut self.incoming);
        let used =
            self.drive(&mut incoming, out, &mut |plain, bytes| plain.extend_from_slice(bytes), |traffic, out| {
                written = then(traffic, out);
                Ok(())
            })?;
        incoming.drain(..used);
        self.incoming = incoming;
        written
    }

    /// Runs the state machine until it waits for the client or can send; then `then` is called if it can. Returns how many bytes
    /// of `input` are used up.
    fn drive(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        take: &mut impl FnMut(&mut Vec<u8>, &[u8]),
        then: impl FnOnce(WriteTraffic<'_, rustls::server::ServerConnectionData>, &mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.connection.process_tls_records(&mut input[used..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let AppDataRecord { discard: more, payload, .. } = record?;
                        discard += more;
                        take(&mut self.plain, payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => append(out, RECORD_EXTRA, |room| data.encode(room))?,
                // It is the caller's to send, before anything else.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.is_ended = true,
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    self.is_open = true;
                    then(traffic, out)?;
                    return Ok(used + discard);
                }
                // Early data is not accepted; states that a later release may have are none that is asked for.
                Ok(_) => return Ok(used + discard),
                Err(problem) => {
                    self.has_failed = true;
                    self.encode_alert(&mut input[used..], out)?;
                    return Err(problem);
                }
            }
            used += discard;
        }
    }

    /// Appends what tells the client of its fault. `input` must not be looked at again: rustls would find the same fault.
    fn encode_alert(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let before = out.len();
        while self.connection.wants_write() {
            match self.connection.process_tls_records(input).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => append(out, RECORD_EXTRA, |room| data.encode(room))?,
                _ => break,
            }
        }
        if out.len() == before && !self.is_open {
            out.extend_from_slice(DECODE_ERROR);
        }
        Ok(())
    }
}

/// What says how much room it needs.
trait Insufficient {
    fn needed(self) -> Result<usize, Error>;
}

impl Insufficient for EncryptError {
    fn needed(self) -> Result<usize, Error> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Ok(required_size),
            Self::EncryptExhausted => Err(Error::EncryptError),
        }
    }
}

impl Insufficient for EncodeError {
    fn needed(self) -> Result<usize, Error> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Ok(required_size),
            Self::AlreadyEncoded => Err(Error::EncryptError),
        }
    }
}

/// Appends what `write` puts into a room of `bytes`, or as many as it then asks for.
fn append<P: Insufficient>(
    out: &mut Vec<u8>,
    mut bytes: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, P>,
) -> Result<(), Error> {
    let start = out.len();
    loop {
        out.resize(start + bytes, 0);
        match write(&mut out[start..]) {
            Ok(count) => {
                out.truncate(start + count);
                return Ok(());
            }
            Err(problem) => {
                out.truncate(start);
                bytes = problem.needed()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// Both ends of one connection, and what the client gets of the server.
    struct Pair {
        client: ClientConnection,
        server: Session,
        /// What the client has read.
        got: Vec<u8>,
        /// So many bytes reach the server at a time.
        step: usize,
    }

    impl Pair {
        fn new(step: usize) -> Self {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["localhost".to_owned()]).expect("a key can be made");
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut roots = RootCertStore::empty();
            roots.add(cert.der().clone()).expect("it was made just now");
            let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .expect("ring has them")
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .expect("they belong together");
            let client = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring has them")
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = "localhost".try_into().expect("a valid name");
            Self {
                client: ClientConnection::new(Arc::new(client), name).expect("a valid name"),
                server: Session::new(Arc::new(server)).expect("a valid configuration"),
                got: Vec::new(),
                step,
            }
        }

        /// Passes on what the client has to say; returns what the server has read.
        fn feed_server(&mut self) -> Result<Vec<u8>, Error> {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).expect("a vector takes everything");
            }
            let (mut plain, mut reply, mut room) = (Vec::new(), Vec::new(), [0; 100]);
            for piece in wire.chunks_mut(self.step) {
                let mut count = self.server.receive(piece, &mut room, &mut reply)?;
                while count > 0 {
                    plain.extend_from_slice(&room[..count]);
                    count = self.server.take(&mut room);
                }
            }
            self.feed_client(&reply);
            Ok(plain)
        }

        fn feed_client(&mut self, mut wire: &[u8]) {
            while !wire.is_empty() {
                self.client.read_tls(&mut wire).expect("it is not closed");
                let state = self.client.process_new_packets().expect("the server keeps to the protocol");
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                self.client.reader().read_exact(&mut plain).expect("it is there");
                self.got.extend(plain);
            }
        }

        fn shaken(step: usize) -> Self {
            let mut pair = Self::new(step);
            while pair.client.is_handshaking() || !pair.server.is_open() {
                pair.feed_server().expect("the client keeps to the protocol");
            }
            pair
        }
    }

    #[test]
    fn what_is_sent_arrives_whatever_pieces_it_comes_in() {
        for step in [1, 7, 100, 1000, 100_000] {
            let mut pair = Pair::shaken(step);
            let message: Vec<u8> = (0..40_000_u32).map(|number| number as u8).collect();
            pair.client.writer().write_all(&message).expect("a buffer takes it");
            assert_eq!(pair.feed_server().expect("it is well formed"), message, "{step} bytes at a time");
            let mut wire = Vec::new();
            pair.server.seal(&message, &mut wire).expect("it is open");
            pair.feed_client(&wire);
            assert_eq!(pair.got, message);
        }
    }

    #[test]
    fn nothing_is_kept_when_nothing_is_on_its_way() {
        let mut pair = Pair::shaken(100_000);
        pair.client.writer().write_all(b"hello").expect("a buffer takes it");
        pair.feed_server().expect("it is well formed");
        assert_eq!((pair.server.incoming.capacity(), pair.server.plain.capacity()), (0, 0));
    }

    #[test]
    fn half_a_record_does_not_keep_the_server_from_writing() {
        let mut pair = Pair::shaken(100_000);
        pair.client.writer().write_all(b"hello").expect("a buffer takes it");
        let (mut wire, mut reply, mut room) = (Vec::new(), Vec::new(), [0; 100]);
        pair.client.write_tls(&mut wire).expect("a vector takes it");
        let (first, second) = wire.split_at_mut(10);
        assert_eq!(pair.server.receive(first, &mut room, &mut reply), Ok(0));
        pair.server.seal(b"meanwhile", &mut reply).expect("it is open");
        assert_eq!(pair.server.receive(second, &mut room, &mut reply), Ok(5));
        pair.feed_client(&reply);
        assert_eq!(pair.got, b"meanwhile");
    }

    #[test]
    fn each_side_may_end_and_the_other_go_on() {
        let mut pair = Pair::shaken(100_000);
        pair.client.send_close_notify();
        pair.feed_server().expect("it is well formed");
        assert!(pair.server.is_ended());
        let mut wire = Vec::new();
        pair.server.seal(b"the answer", &mut wire).expect("it is open for the server");
        pair.server.seal_end(&mut wire).expect("it is open for the server");
        pair.feed_client(&wire);
        assert_eq!(pair.got, b"the answer");
        assert_eq!(pair.client.reader().read(&mut [0; 10]).expect("the end was told"), 0);
    }

    #[test]
    fn new_keys_of_the_client_are_confirmed() {
        let mut pair = Pair::shaken(100_000);
        pair.client.refresh_traffic_keys().expect("TLS 1.3 has that");
        pair.client.writer().write_all(b"after").expect("a buffer takes it");
        assert_eq!(pair.feed_server().expect("it is well formed"), b"after");
        let mut wire = Vec::new();
        pair.server.seal(b"answer", &mut wire).expect("it is open");
        pair.feed_client(&wire);
        assert_eq!(pair.got, b"answer");
    }

    #[test]
    fn a_fault_is_told_by_an_alert() {
        let mut server = Pair::new(100).server;
        let mut reply = Vec::new();
        let mut garbage = *b"\x16\x03\x01\x00\x04abcdefgh";
        server.receive(&mut garbage, &mut [], &mut reply).expect_err("this is no handshake");
        assert_eq!(reply[..5], [21, 3, 3, 0, 2], "an alert");
        let mut pair = Pair::shaken(100_000);
        pair.client.writer().write_all(b"hello").expect("a buffer takes it");
        let mut wire = Vec::new();
        pair.client.write_tls(&mut wire).expect("a vector takes it");
        *wire.last_mut().expect("there is a record") ^= 1;
        let mut reply = Vec::new();
        pair.server.receive(&mut wire, &mut [0; 100], &mut reply).expect_err("somebody has meddled with it");
        pair.client.read_tls(&mut &reply[..]).expect("it is not closed");
        let told = pair.client.process_new_packets().expect_err("the alert ends the connection");
        assert_eq!(told, Error::AlertReceived(AlertDescription::BadRecordMac));
    }
}
