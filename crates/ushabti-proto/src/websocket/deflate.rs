//! permessage-deflate (RFC 7692): its negotiation, and messages deflated and inflated.
//!
//! The server sends each message compressed on its own (`server_no_context_takeover`), so one encoding serves every
//! receiver that agreed to its window or a larger one, and no connection holds a compressor. Clients are told to do
//! likewise unless the operator chooses otherwise, so that an idle connection holds no window either.

use std::fmt::Write as _;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::websocket::handshake::Extension;

/// The name of the extension.
pub const NAME: &str = "permessage-deflate";
/// The smallest window of a compressor here, as a power of two. RFC 7692 section 7.1.2.1 has 8 too, but zlib cannot
/// compress with it, so an offer that asks for it is declined.
pub const WINDOW_BITS_MIN: u8 = 9;
/// The largest window there is, as a power of two: 32 KiB.
pub const WINDOW_BITS_MAX: u8 = 15;

/// The end of what a compressor has flushed, which is not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// An empty block that ends a stream: it is read as such only where a block may begin.
const FINAL_BLOCK: [u8; 2] = [0x03, 0x00];
/// After a final block the inflater starts anew, which costs a copy of the window. Senders that flush with final blocks
/// make one of a message; without a bound two bytes could cost 32 KiB of copying, over and over.
const FINAL_BLOCKS_MAX: u32 = 16;
const WINDOW_BYTES: usize = 1 << WINDOW_BITS_MAX;
/// Inflated data first gets this much room.
const INFLATE_BYTES_START: usize = 1024;
/// Room for deflated data is made in steps of at least this: zlib needs some for its markers.
const DEFLATE_BYTES_STEP: usize = 256;
/// Buffers up to this size are kept for the next message.
const SCRATCH_BYTES_KEPT: usize = 64 * 1024;
/// Inflaters that are kept for other messages: as many as messages usually arrive in pieces at the same time.
const INFLATERS_KEPT: usize = 8;

/// What the operator wants of the extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflatePolicy {
    /// The window of the server's compressor as a power of two, [`WINDOW_BITS_MIN`] to [`WINDOW_BITS_MAX`]. Clients may
    /// ask for a smaller one.
    pub window_bits: u8,
    /// Whether clients may refer back to their earlier messages. It compresses small messages better and costs about
    /// 40 KiB for each connection from its first compressed message on.
    pub client_context_takeover: bool,
}

impl Default for DeflatePolicy {
    fn default() -> Self {
        Self { window_bits: WINDOW_BITS_MAX, client_context_takeover: false }
    }
}

/// What was agreed with one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateAgreement {
    server_window_bits: u8,
    /// The client has named a size for it. It is told one then, be it the largest: some fail the connection without.
    is_server_window_asked: bool,
    /// Answered only if the client named a size.
    client_window_bits: Option<u8>,
    client_context_takeover: bool,
}

impl DeflateAgreement {
    /// Takes the first of the client's offers that can be met, in the order of its preference (RFC 7692 section 5.1).
    ///
    /// An offer with a parameter that is unknown, repeated, or has a wrong value is declined, as section 7 demands, and
    /// the next one is looked at. `None`: messages are not compressed.
    ///
    /// ```
    /// use ushabti_proto::websocket::deflate::{DeflateAgreement, DeflatePolicy};
    /// use ushabti_proto::websocket::handshake::parse_extensions;
    ///
    /// let offers = parse_extensions(b"permessage-deflate; server_max_window_bits=10")?;
    /// let agreed = DeflateAgreement::negotiate(&offers, DeflatePolicy::default()).expect("it can be met");
    /// assert_eq!(
    ///     agreed.answer(),
    ///     "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10"
    /// );
    /// # Ok::<(), ushabti_proto::websocket::handshake::HandshakeError>(())
    /// ```
    pub fn negotiate(offers: &[Extension], policy: DeflatePolicy) -> Option<Self> {
        offers.iter().filter(|offer| offer.name == NAME).find_map(|offer| Self::meet(offer, policy))
    }

    fn meet(offer: &Extension, policy: DeflatePolicy) -> Option<Self> {
        let mut agreed = Self {
            server_window_bits: policy.window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX),
            is_server_window_asked: false,
            client_window_bits: None,
            client_context_takeover: policy.client_context_takeover,
        };
        for (at, (name, value)) in offer.parameters.iter().enumerate() {
            if offer.parameters[..at].iter().any(|(earlier, _)| earlier == name) {
                return None;
            }
            match (name.as_str(), value.as_deref()) {
                ("client_no_context_takeover", None) => agreed.client_context_takeover = false,
                ("server_max_window_bits", Some(value)) => {
                    let bits = parse_window_bits(value).filter(|&bits| bits >= WINDOW_BITS_MIN)?;
                    agreed.server_window_bits = agreed.server_window_bits.min(bits);
                    agreed.is_server_window_asked = true;
                }
                // The one is kept to in any case. As to the other, any window can be inflated here, and without a size
                // there is nothing to agree on.
                ("server_no_context_takeover" | "client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(value)) => agreed.client_window_bits = Some(parse_window_bits(value)?),
                _ => return None,
            }
        }
        Some(agreed)
    }

    /// The element of Sec-WebSocket-Extensions that tells the client (RFC 7692 section 7.1).
    pub fn answer(&self) -> String {
        let mut answer = [NAME, "; server_no_context_takeover"].concat();
        if !self.client_context_takeover {
            answer.push_str("; client_no_context_takeover");
        }
        let is_server_window_told = self.is_server_window_asked || self.server_window_bits < WINDOW_BITS_MAX;
        for (name, bits) in [
            ("server_max_window_bits", is_server_window_told.then_some(self.server_window_bits)),
            ("client_max_window_bits", self.client_window_bits),
        ] {
            if let Some(bits) = bits {
                write!(answer, "; {name}={bits}").expect("a string takes all that is written");
            }
        }
        answer
    }

    /// The window with which messages to this client may be compressed at most, as a power of two: see
    /// [`Deflater::new`].
    pub fn server_window_bits(&self) -> u8 {
        self.server_window_bits
    }

    /// Whether the client may refer back to its earlier messages.
    pub fn client_context_takeover(&self) -> bool {
        self.client_context_takeover
    }
}

/// A decimal number from 8 to 15 without leading zeros (RFC 7692 section 7.1.2).
fn parse_window_bits(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(digit - b'0' + 10),
        _ => None,
    }
}

/// Why a message could not be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateError {
    /// This is no deflated data, or it ends inside of a block.
    Malformed,
    /// The limit is passed. Nothing was inflated beyond it but the one byte that shows it.
    TooBig,
}

/// Inflates the messages of one connection, or one message of many in turn.
#[derive(Debug)]
pub struct Inflater {
    /// Its window is the largest, with which smaller ones can be read as well.
    stream: Decompress,
    final_blocks: u32,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// An inflater that has seen nothing yet.
    pub fn new() -> Self {
        Self { stream: Decompress::new(false), final_blocks: 0 }
    }

    /// Inflates the next piece of a message and appends what comes of it to `out`, which holds this message alone.
    ///
    /// # Errors
    ///
    /// [`InflateError`], after which this inflater must be dropped. `out` may have grown to one byte more than `limit`.
    pub fn inflate(&mut self, piece: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), InflateError> {
        let mut rest = piece;
        loop {
            if out.len() == out.capacity() {
                // One byte more than the limit, by which it is seen to be passed.
                grow(out, INFLATE_BYTES_START, limit.saturating_add(1));
            }
            let before = self.stream.total_in();
            let result = self.stream.decompress_vec(rest, out, FlushDecompress::None);
            // First, so that it does not depend on the pieces which of two faults is told.
            if out.len() > limit {
                return Err(InflateError::TooBig);
            }
            let status = result.map_err(|_| InflateError::Malformed)?;
            rest = &rest[(self.stream.total_in() - before) as usize..];
            if status == Status::StreamEnd {
                self.restart(out)?;
            } else if out.len() < out.capacity() {
                // There is room left, so all that could be read was read.
                return if rest.is_empty() { Ok(()) } else { Err(InflateError::Malformed) };
            }
        }
    }

    /// Goes on behind a final block, which may lie inside of a message (RFC 7692 section 7.2.3.4): what follows may
    /// refer back to this message.
    fn restart(&mut self, out: &[u8]) -> Result<(), InflateError> {
        self.final_blocks += 1;
        if self.final_blocks > FINAL_BLOCKS_MAX {
            return Err(InflateError::Malformed);
        }
        self.stream.reset(false);
        let window = &out[out.len().saturating_sub(WINDOW_BYTES)..];
        self.stream.set_dictionary(window).map_err(|_| InflateError::Malformed)?;
        Ok(())
    }

    /// Ends a message: inflates the tail that its sender left out (RFC 7692 section 7.2.2).
    ///
    /// `keep_window` says that the next message may refer back to this one. Otherwise the inflater is as new
    /// afterwards.
    ///
    /// # Errors
    ///
    /// As [`inflate`](Self::inflate): data that ends inside of a block is malformed. With `keep_window` some of it shows
    /// not before the next message.
    pub fn finish(&mut self, out: &mut Vec<u8>, limit: usize, keep_window: bool) -> Result<(), InflateError> {
        let length = out.len();
        self.inflate(&TAIL, out, limit)?;
        if out.len() > length {
            return Err(InflateError::Malformed);
        }
        self.final_blocks = 0;
        if keep_window {
            return Ok(());
        }
        let before = self.stream.total_in();
        let mut nothing = [0];
        let status = self.stream.decompress(&FINAL_BLOCK, &mut nothing, FlushDecompress::None);
        if !matches!(status, Ok(Status::StreamEnd)) || self.stream.total_in() - before != FINAL_BLOCK.len() as u64 {
            return Err(InflateError::Malformed);
        }
        self.stream.reset(false);
        Ok(())
    }
}

/// Makes room for more bytes: twice as many as there are, at least `start`, and never more than `max` in all.
pub(crate) fn grow(out: &mut Vec<u8>, start: usize, max: usize) {
    let wanted = out.capacity().saturating_mul(2).max(start).min(max);
    out.reserve_exact(wanted.saturating_sub(out.len()).max(1));
}

/// Inflaters that no message uses at the moment. One pool serves all connections of a thread.
#[derive(Debug, Default)]
pub struct Inflaters {
    idle: Vec<Inflater>,
}

impl Inflaters {
    /// An empty pool: inflaters are made when they are needed.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn take(&mut self) -> Inflater {
        self.idle.pop().unwrap_or_default()
    }

    /// Takes back an inflater that has finished a message without keeping its window.
    pub(crate) fn give_back(&mut self, inflater: Inflater) {
        if self.idle.len() < INFLATERS_KEPT {
            self.idle.push(inflater);
        }
    }
}

/// Deflates messages, each on its own.
#[derive(Debug)]
pub struct Deflater {
    stream: Compress,
    window_bits: u8,
    scratch: Vec<u8>,
}

impl Deflater {
    /// A deflater of this level (0 to 9) and this window, for all receivers with whom it, or a larger one, was agreed.
    /// It takes up to 300 KiB, so a thread has one for all of them.
    ///
    /// # Panics
    ///
    /// If the level or the window is out of range.
    pub fn new(level: u8, window_bits: u8) -> Self {
        assert!(level <= 9, "levels are 0 to 9");
        let stream = Compress::new_with_window_bits(Compression::new(u32::from(level)), false, window_bits);
        Self { stream, window_bits, scratch: Vec::new() }
    }

    /// The window, as a power of two.
    pub fn window_bits(&self) -> u8 {
        self.window_bits
    }

    /// The payload of a compressed message (RFC 7692 section 7.2.1), valid until the next call.
    ///
    /// # Panics
    ///
    /// If zlib does not flush what it was given, which would be a fault of zlib.
    ///
    /// ```
    /// use ushabti_proto::websocket::deflate::Deflater;
    ///
    /// assert_eq!(Deflater::new(6, 15).deflate(b"Hello"), [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    /// ```
    pub fn deflate(&mut self, message: &[u8]) -> &[u8] {
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
        self.stream.reset();
        let mut rest = message;
        loop {
            self.scratch.reserve(rest.len() / 4 + DEFLATE_BYTES_STEP);
            let before = self.stream.total_in();
            self.stream
                .compress_vec(rest, &mut self.scratch, FlushCompress::Sync)
                .expect("a compressor fails only if its state was destroyed");
            rest = &rest[(self.stream.total_in() - before) as usize..];
            if rest.is_empty() && self.scratch.len() < self.scratch.capacity() {
                break;
            }
        }
        self.scratch.strip_suffix(&TAIL).expect("a flush ends with an empty stored block")
    }
}
