//! The little of an IP packet that a tunnel looks at: version, length and addresses.

/// An IPv4 or IPv6 address as a number in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4.
    V4(u32),
    /// IPv6.
    V6(u128),
}

impl Address {
    /// From 4 or 16 bytes in network order; None for any other number.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
            return Some(Self::V4(u32::from_be_bytes(bytes)));
        }
        Some(Self::V6(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

/// What the headers of a whole packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it says it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// Its own length, at most that of the bytes that it was read from: padding follows it.
    pub length: usize,
}

/// The length of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// The length of an IPv6 header.
pub const IPV6_HEADER: usize = 40;

impl Packet {
    /// Reads the headers of a packet; None when it is no whole IPv4 or IPv6 packet.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => {
                let header: &[u8; IPV4_HEADER] = bytes.first_chunk()?;
                let header_length = usize::from(header[0] & 0x0f) * 4;
                let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
                let whole = header_length >= IPV4_HEADER
                    && length >= header_length
                    && length <= bytes.len();
                whole.then(|| Self {
                    source: Address::V4(u32::from_be_bytes([
                        header[12], header[13], header[14], header[15],
                    ])),
                    destination: Address::V4(u32::from_be_bytes([
                        header[16], header[17], header[18], header[19],
                    ])),
                    length,
                })
            }
            6 => {
                let header: &[u8; IPV6_HEADER] = bytes.first_chunk()?;
                let length = IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]));
                let (source, destination) =
                    header
                        .split_last_chunk::<16>()
                        .map(|(before, destination)| {
                            (
                                before.last_chunk::<16>().copied().unwrap_or_default(),
                                *destination,
                            )
                        })?;
                (length <= bytes.len()).then(|| Self {
                    source: Address::V6(u128::from_be_bytes(source)),
                    destination: Address::V6(u128::from_be_bytes(destination)),
                    length,
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::Random;

    #[test]
    fn reads_ipv4() {
        let mut bytes = vec![
            0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 192, 0, 2, 7, 1, 2, 3, 4, 0, 0,
        ];
        let expected = Packet {
            source: Address::V4(0x0a00_0001),
            destination: Address::V4(0xc000_0207),
            length: 24,
        };
        assert_eq!(Packet::parse(&bytes), Some(expected));
        bytes[3] = 27;
        assert_eq!(Packet::parse(&bytes), None);
    }

    #[test]
    fn reads_ipv6() {
        let mut bytes = vec![0u8; 44];
        bytes[0] = 0x60;
        bytes[5] = 4;
        bytes[8] = 0xfd;
        bytes[23] = 1;
        bytes[24] = 0xfe;
        bytes[39] = 2;
        let expected = Packet {
            source: Address::V6((0xfd << 120) + 1),
            destination: Address::V6((0xfe << 120) + 2),
            length: 44,
        };
        assert_eq!(Packet::parse(&bytes), Some(expected));
        assert_eq!(Packet::parse(&bytes[..43]), None);
    }

    #[test]
    fn takes_any_bytes_and_never_claims_more_than_there_are() {
        let mut random = Random::new(4);
        for _ in 0..100_000 {
            let length = random.below(80);
            let bytes = random.bytes(length);
            if let Some(packet) = Packet::parse(&bytes) {
                assert!(packet.length <= bytes.len());
            }
        }
    }
}
