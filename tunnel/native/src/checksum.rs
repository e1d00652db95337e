//! The Internet checksum (RFC 1071): the ones' complement sum of 16-bit words.
//!
//! Sums are kept in the machine's own byte order from load to store: the sum does not mind (RFC 1071, 2.B), and nothing
//! is swapped.

/// A running sum. The pieces added must have even lengths, but for the last.
#[derive(Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds bytes as they lie in the packet; an odd last one counts as if a zero followed it.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        Self(self.0 + sum(bytes))
    }

    /// Adds a field by its value.
    #[must_use]
    pub fn word(self, value: u16) -> Self {
        Self(self.0 + u64::from(u16::from_ne_bytes(value.to_be_bytes())))
    }

    /// Adds another sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The sum in 16 bits as it lies in a packet: what a checksum field holds for whoever completes it.
    pub fn folded(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// The checksum as it lies in a packet.
    pub fn finish(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// Whether this, the sum over a packet with its checksum, shows the checksum to be right.
    pub fn is_valid(self) -> bool {
        self.fold() == u16::MAX
    }

    fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > u64::from(u16::MAX) {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }
}

/// The sum of the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1) from the addresses as they lie in the packet.
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> Sum {
    Sum::new()
        .bytes(addresses)
        .word(u16::from(protocol))
        .word((length >> 16) as u16)
        .word(length as u16)
}

#[cfg(target_arch = "x86_64")]
fn sum(bytes: &[u8]) -> u64 {
    if bytes.len() >= 128 && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that this function asks for.
        return unsafe { sum_avx2(bytes) };
    }
    sum_lanes(bytes)
}

#[cfg(not(target_arch = "x86_64"))]
fn sum(bytes: &[u8]) -> u64 {
    sum_lanes(bytes)
}

/// The same code, for the compiler to lay out in 32-byte registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    sum_lanes(bytes)
}

/// Sums 32-bit words in 64-bit lanes, which cannot overflow below 16 GiB; folding makes 16-bit words of them.
#[inline(always)]
fn sum_lanes(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0u64; 8];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut total: u64 = lanes
        .iter()
        .map(|lane| (lane >> 32) + (lane & 0xffff_ffff))
        .sum();
    let (words, last) = rest.as_chunks::<2>();
    for word in words {
        total += u64::from(u16::from_ne_bytes(*word));
    }
    if let [odd] = last {
        total += u64::from(u16::from_ne_bytes([*odd, 0]));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::Random;

    /// RFC 1071, 4.1, as it is written there.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }

    #[test]
    fn equals_the_rfc_at_every_length_and_alignment() {
        let mut random = Random::new(1);
        let bytes = random.bytes(70_000);
        for length in (0..300).chain([1367, 1368, 9000, 65_535]) {
            for start in 0..4 {
                let part = &bytes[start..start + length];
                assert_eq!(
                    Sum::new().bytes(part).finish(),
                    reference(part).to_be_bytes()
                );
            }
        }
    }

    #[test]
    fn adds_up_over_pieces_of_even_length() {
        let bytes = Random::new(2).bytes(999);
        let pieces = Sum::new()
            .bytes(&bytes[..20])
            .plus(Sum::new().bytes(&bytes[20..]));
        assert_eq!(pieces.finish(), reference(&bytes).to_be_bytes());
    }
}
