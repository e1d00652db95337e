//! struct virtio_net_hdr: the 10 bytes before every packet that is read from or written to a TUN opened with
//! IFF_VNET_HDR (linux/virtio_net.h, drivers/net/tun_vnet.h). Its integers are in the machine's byte order.
//!
//! ```text
//! 0      1         2        4         6           8            10
//! flags  gso_type  hdr_len  gso_size  csum_start  csum_offset  packet …
//! ```

/// The length of the header.
pub const VNET: usize = 10;

/// The checksum from `csum_start` on is still to be completed, at `csum_start + csum_offset`.
const NEEDS_CSUM: u8 = 1;
/// The packet carried a congestion mark: of no concern to whoever cuts it.
const GSO_ECN: u8 = 0x80;

/// What a packet stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// Itself.
    None,
    /// TCP segments over IPv4 of so much payload each.
    Tcp4(u16),
    /// TCP segments over IPv6.
    Tcp6(u16),
    /// UDP datagrams (not IP fragments) over either.
    Udp(u16),
}

/// The header without its `hdr_len`, which is not to be believed: on a forwarded packet it may be any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VnetHeader {
    /// What the packet stands for.
    pub gso: Gso,
    /// The first byte that the checksum covers and the checksum's place after it; None: the packet is complete.
    pub checksum: Option<(u16, u16)>,
}

impl VnetHeader {
    /// The header of a complete packet.
    pub const PLAIN: [u8; VNET] = [0; VNET];

    /// Reads a header; None for a kind that we did not ask for.
    pub fn parse(bytes: &[u8; VNET]) -> Option<Self> {
        let [
            flags,
            kind,
            _,
            _,
            size0,
            size1,
            start0,
            start1,
            offset0,
            offset1,
        ] = *bytes;
        let size = u16::from_ne_bytes([size0, size1]);
        let gso = match kind & !GSO_ECN {
            0 => Gso::None,
            1 => Gso::Tcp4(size),
            4 => Gso::Tcp6(size),
            5 => Gso::Udp(size),
            _ => return None,
        };
        let checksum = (flags & NEEDS_CSUM != 0).then(|| {
            (
                u16::from_ne_bytes([start0, start1]),
                u16::from_ne_bytes([offset0, offset1]),
            )
        });
        Some(Self { gso, checksum })
    }

    /// The bytes of a header for a packet whose headers have `header_length` bytes.
    pub fn encode(self, header_length: u16) -> [u8; VNET] {
        let (kind, size) = match self.gso {
            Gso::None => (0, 0),
            Gso::Tcp4(size) => (1, size),
            Gso::Tcp6(size) => (4, size),
            Gso::Udp(size) => (5, size),
        };
        let (start, offset) = self.checksum.unwrap_or((0, 0));
        let flags = if self.checksum.is_some() {
            NEEDS_CSUM
        } else {
            0
        };
        let [length0, length1] = header_length.to_ne_bytes();
        let [size0, size1] = size.to_ne_bytes();
        let [start0, start1] = start.to_ne_bytes();
        let [offset0, offset1] = offset.to_ne_bytes();
        [
            flags, kind, length0, length1, size0, size1, start0, start1, offset0, offset1,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::Random;

    #[test]
    fn reads_back_what_it_wrote() {
        for gso in [Gso::None, Gso::Tcp4(1368), Gso::Tcp6(1348), Gso::Udp(1200)] {
            for checksum in [None, Some((20, 16))] {
                let header = VnetHeader { gso, checksum };
                assert_eq!(VnetHeader::parse(&header.encode(40)), Some(header));
            }
        }
    }

    #[test]
    fn a_complete_packet_has_ten_zeros() {
        let plain = VnetHeader {
            gso: Gso::None,
            checksum: None,
        };
        assert_eq!(plain.encode(0), VnetHeader::PLAIN);
    }

    #[test]
    fn takes_any_bytes() {
        let mut random = Random::new(3);
        for _ in 0..10_000 {
            let bytes: [u8; VNET] = random.bytes(VNET).try_into().unwrap();
            let _ = VnetHeader::parse(&bytes);
        }
    }
}
