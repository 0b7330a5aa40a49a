//! The first four bytes of an input: the rules under which the rest is read, and where it is cut.

/// How an input is to be read.
///
/// The lower bits are choices, and differ between targets; all bits together begin the random numbers by which the
/// input is cut. So one mutation of these bytes cuts the same input elsewhere, and one of the input keeps the cuts.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    word: u32,
}

impl Settings {
    /// Takes them off an input; `None` if there is no room for them.
    pub fn split(input: &[u8]) -> Option<(Self, &[u8])> {
        let (word, rest) = input.split_first_chunk()?;
        Some((Self { word: u32::from_le_bytes(*word) }, rest))
    }

    /// Whether this bit is set.
    pub fn flag(self, bit: u32) -> bool {
        self.word >> bit & 1 == 1
    }

    /// One of as many choices as these bits can tell apart, the first of which is what zeros choose.
    pub fn choose<T: Copy, const N: usize>(self, first_bit: u32, choices: [T; N]) -> T {
        assert!(N.is_power_of_two(), "each choice must be reached as often as the others");
        choices[(self.word >> first_bit) as usize % N]
    }

    /// Random numbers that these settings decide.
    pub fn random(self) -> Random {
        // Any odd multiplier spreads the bits; a state of zero would stay there.
        Random { state: (u64::from(self.word) << 1 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    /// Where `length` bytes are cut: all positions if bit 31 is set, else up to eight of them, in rising order, some
    /// of them equal.
    pub fn cuts(self, length: usize) -> Vec<usize> {
        if self.flag(31) {
            return (1..length).collect();
        }
        let mut random = self.random();
        let mut cuts: Vec<usize> = (0..=random.below(8)).map(|_| random.below(length + 1)).collect();
        cuts.sort_unstable();
        cuts
    }
}

/// A generator of random numbers (xorshift64): what is found must be found again.
#[derive(Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        // The upper bits are the better ones.
        (self.state >> 32) as usize % end
    }
}
