//! A look at the frames of a client as their bytes pass by: how many have no use of their own, and whether one has stopped
//! midway. Whoever reads the frames sees them one at a time and late; this one counts each byte as it comes.
//!
//! It reads frame headers alone (RFC 9113 section 4.1) and judges nothing but the first: what is wrong with a frame, its reader
//! says.

use super::PREFACE;

const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

/// Of HEADERS and DATA.
const END_STREAM: u8 = 1;
/// Of HEADERS and CONTINUATION.
const END_HEADERS: u8 = 4;
/// Of SETTINGS.
const ACK: u8 = 1;

/// Counts the frames of one client.
///
/// ```
/// use ushabti_proto::http2::PREFACE;
/// use ushabti_proto::http2::meter::Meter;
///
/// let mut meter = Meter::new();
/// let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// assert_eq!(meter.feed(PREFACE), 0);
/// assert_eq!(meter.feed(&ping[..3]), 0);
/// assert!(meter.is_midway());
/// assert_eq!(meter.feed(&ping[3..]), 1);
/// assert!(!meter.is_midway());
/// ```
#[derive(Debug)]
pub struct Meter {
    /// Bytes of the preface that are to come.
    preface: usize,
    greeting: Greeting,
    header: [u8; HEADER_BYTES],
    /// How many of its bytes have come.
    header_bytes: usize,
    /// Bytes of the payload that are to come.
    payload: usize,
    /// The payload that comes is content.
    is_content: bool,
    /// A field block has begun and not ended.
    in_block: bool,
    /// How many frames have begun, field blocks counted once.
    begun: u32,
}

/// Whether the preface is whole: settings of the client are its last part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    ToCome,
    Whole,
    Broken,
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter {
    /// At the first byte of the preface.
    pub fn new() -> Self {
        Self {
            preface: PREFACE.len(),
            greeting: Greeting::ToCome,
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            payload: 0,
            is_content: false,
            in_block: false,
            begun: 0,
        }
    }

    /// Takes the next bytes; returns how many frames in them are of no use to a request: all but HEADERS, and DATA that
    /// has content or ends its stream. A frame counts with the last byte of its header.
    pub fn feed(&mut self, mut bytes: &[u8]) -> u32 {
        let mut count = 0;
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.header_bytes += taken;
            bytes = &bytes[taken..];
            if self.header_bytes == HEADER_BYTES {
                self.header_bytes = 0;
                count += u32::from(self.begin_frame());
            }
        }
        count
    }

    /// Notes what the header says. Whether the frame is of no use.
    fn begin_frame(&mut self) -> bool {
        let [a, b, c, kind, flags, ..] = self.header;
        self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
        if self.greeting == Greeting::ToCome {
            let is_settings = kind == SETTINGS && flags & ACK == 0;
            self.greeting = if is_settings { Greeting::Whole } else { Greeting::Broken };
        }
        self.is_content = kind == DATA;
        self.begun = self.begun.wrapping_add(u32::from(kind != CONTINUATION));
        match kind {
            DATA => self.payload == 0 && flags & END_STREAM == 0,
            HEADERS => {
                self.in_block = flags & END_HEADERS == 0;
                false
            }
            CONTINUATION => {
                self.in_block &= flags & END_HEADERS == 0;
                true
            }
            _ => true,
        }
    }

    /// Whether the first frame is another than the settings that belong to the preface (RFC 9113 section 3.4).
    pub fn lacks_settings(&self) -> bool {
        self.greeting == Greeting::Broken
    }

    /// How many frames have begun so far, a field block counted as one whatever its frames; it wraps.
    pub fn begun(&self) -> u32 {
        self.begun
    }

    /// Whether a frame that is no content, or a field block, has begun and not ended: until it does, nothing else can come.
    pub fn is_midway(&self) -> bool {
        self.in_block || self.header_bytes > 0 || (self.payload > 0 && !self.is_content)
    }
}
