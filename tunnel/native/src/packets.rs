//! TCP and UDP packets for the tests, made field by field, with checksums calculated as RFC 1071 writes it down.

/// A packet to make.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// 4 or 6.
    pub version: u8,
    /// 6 (TCP) or 17 (UDP).
    pub protocol: u8,
    /// Bytes of TCP options, a multiple of 4.
    pub options: usize,
    /// The destination port.
    pub port: u16,
    /// The TCP sequence number.
    pub sequence: u32,
    /// The TCP flags.
    pub flags: u8,
    /// The IPv4 identification.
    pub id: u16,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            version: 4,
            protocol: 6,
            options: 12,
            port: 443,
            sequence: 1000,
            flags: 0x10,
            id: 7,
        }
    }
}

impl Shape {
    /// Where TCP or UDP begins.
    pub fn transport(&self) -> usize {
        if self.version == 4 { 20 } else { 40 }
    }

    /// The length of all headers.
    pub fn headers(&self) -> usize {
        self.transport()
            + if self.protocol == 6 {
                20 + self.options
            } else {
                8
            }
    }

    /// The packet with this payload.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let transport = self.transport();
        let mut packet = vec![0; self.headers()];
        packet.extend_from_slice(payload);
        let length = packet.len();
        if self.version == 4 {
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            packet[4..6].copy_from_slice(&self.id.to_be_bytes());
            packet[6] = 0x40; // don't fragment
            packet[8] = 64;
            packet[9] = self.protocol;
            packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 9, 0, 1]);
        } else {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
            packet[6] = self.protocol;
            packet[7] = 64;
            packet[8] = 0xfd;
            packet[24] = 0xfd;
            packet[39] = 1;
        }
        let header = &mut packet[transport..];
        header[..2].copy_from_slice(&50_000u16.to_be_bytes());
        header[2..4].copy_from_slice(&self.port.to_be_bytes());
        if self.protocol == 6 {
            header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
            header[8..12].copy_from_slice(&[1, 2, 3, 4]);
            header[12] = ((20 + self.options) << 2) as u8;
            header[13] = self.flags;
            header[14] = 0xff;
            header[20..20 + self.options].fill(1);
        } else {
            header[4..6].copy_from_slice(&((length - transport) as u16).to_be_bytes());
        }
        checksum(&mut packet);
        packet
    }
}

/// Writes the checksums of a packet that has none yet, or wrong ones.
pub fn checksum(packet: &mut [u8]) {
    let (transport, protocol, addresses) = match packet[0] >> 4 {
        4 => (20, packet[9], 12..20),
        _ => (40, packet[6], 8..40),
    };
    if transport == 20 {
        packet[10..12].fill(0);
        let sum = !fold(sum(&packet[..20]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let at = transport + if protocol == 6 { 16 } else { 6 };
    packet[at..at + 2].fill(0);
    let length = (packet.len() - transport) as u32;
    let total = sum(&packet[addresses]) + u32::from(protocol) + length + sum(&packet[transport..]);
    let sum = match !fold(total) {
        0 if protocol == 17 => 0xffff,
        sum => sum,
    };
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Whether both checksums of a packet are right.
pub fn is_valid(packet: &[u8]) -> bool {
    let mut again = packet.to_vec();
    checksum(&mut again);
    again == packet
}

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
