//! Cutting what the kernel hands over into the packets that it stands for: TCP and UDP super-packets (TSO, USO) into
//! segments, and the checksum that was left to "the hardware" into a packet.
//!
//! ```text
//! IP header │ TCP or UDP header │ payload …………………………………………
//!           ▲ checksum start    ▲ header    ├ size ┤ size ┤ rest
//! ```
//! Each segment gets a copy of the headers with its own lengths, sequence number, flags and checksums.

use crate::checksum::{Sum, pseudo_header};
use crate::packet::{IPV4_HEADER, IPV6_HEADER};
use crate::vnet::{Gso, VnetHeader};

/// IP protocol numbers.
pub const TCP: u8 = 6;
/// UDP's.
pub const UDP: u8 = 17;

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// FIN and PSH belong to the last segment alone; CWR to the first (RFC 3168, 6.1.2).
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// What the kernel said cannot be: its packet is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct BadPacket;

/// A packet and how to cut it.
pub struct Segments<'a> {
    packet: &'a [u8],
    kind: Kind,
    /// Where TCP or UDP begins.
    transport: usize,
    /// Where the payload begins.
    payload: usize,
    /// The payload of a whole segment.
    size: usize,
    count: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Tcp,
    Udp,
}

impl<'a> Segments<'a> {
    /// Checks that a packet is what its header says. Nothing is believed that the packet itself can tell.
    pub fn of(header: VnetHeader, packet: &'a mut [u8]) -> Result<Self, BadPacket> {
        let (kind, size) = match header.gso {
            Gso::None => {
                if let Some((start, offset)) = header.checksum {
                    complete(packet, usize::from(start), usize::from(offset)).ok_or(BadPacket)?;
                }
                return Ok(Self {
                    transport: 0,
                    payload: 0,
                    size: packet.len(),
                    count: 1,
                    kind: Kind::Whole,
                    packet,
                });
            }
            Gso::Tcp4(size) | Gso::Tcp6(size) => (Kind::Tcp, usize::from(size)),
            Gso::Udp(size) => (Kind::Udp, usize::from(size)),
        };
        let packet: &'a [u8] = packet;
        let version = packet.first().ok_or(BadPacket)? >> 4;
        let fits = match header.gso {
            Gso::Tcp4(_) => version == 4,
            Gso::Tcp6(_) => version == 6,
            _ => version == 4 || version == 6,
        };
        // The kernel always leaves a super-packet's checksum undone and says where the transport header is.
        let (start, _) = header.checksum.ok_or(BadPacket)?;
        let transport = usize::from(start);
        let expected = match version {
            4 => usize::from(packet.first().ok_or(BadPacket)? & 0x0f) * 4,
            _ => transport, // extension headers may lie between
        };
        let least = if version == 4 {
            IPV4_HEADER
        } else {
            IPV6_HEADER
        };
        if !fits || transport != expected || transport < least {
            return Err(BadPacket);
        }
        let header_length = match kind {
            Kind::Tcp => usize::from(packet.get(transport + 12).ok_or(BadPacket)? >> 4) * 4,
            _ => UDP_HEADER,
        };
        let payload = transport + header_length;
        if (kind == Kind::Tcp && header_length < TCP_HEADER) || payload >= packet.len() || size == 0
        {
            return Err(BadPacket);
        }
        if payload + size > MAX_PACKET {
            return Err(BadPacket);
        }
        Ok(Self {
            transport,
            payload,
            size,
            count: (packet.len() - payload).div_ceil(size),
            kind,
            packet,
        })
    }

    /// How many packets it makes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The length of segment `index`, of those below `count`.
    pub fn length(&self, index: usize) -> usize {
        self.payload + self.part(index).len()
    }

    /// Writes segment `index` to `out`, which has exactly its length. False, and nothing useful, when it has not.
    #[must_use]
    pub fn write(&self, index: usize, out: &mut [u8]) -> bool {
        if out.len() != self.length(index) {
            return false;
        }
        if self.kind == Kind::Whole {
            out.copy_from_slice(self.packet);
            return true;
        }
        self.write_segment(index, out).is_some()
    }

    fn write_segment(&self, index: usize, out: &mut [u8]) -> Option<()> {
        let part = self.part(index);
        let (headers, payload) = out.split_at_mut_checked(self.payload)?;
        headers.copy_from_slice(self.packet.get(..self.payload)?);
        payload.copy_from_slice(part);
        let length = self.payload + part.len();
        let (ip, transport) = headers.split_at_mut_checked(self.transport)?;
        let addresses = fix_ip(ip, length, index)?;
        let (protocol, checksum_at) = match self.kind {
            Kind::Tcp => {
                let offset = u32::try_from(index * self.size).ok()?;
                self.fix_tcp(transport, offset, index)?;
                (TCP, 16)
            }
            _ => {
                *transport.get_mut(4..)?.first_chunk_mut()? =
                    u16::try_from(length - self.transport).ok()?.to_be_bytes();
                (UDP, 6)
            }
        };
        let field: &mut [u8; 2] = transport.get_mut(checksum_at..)?.first_chunk_mut()?;
        *field = [0, 0];
        let sum = pseudo_header(addresses, protocol, length - self.transport)
            .bytes(transport)
            .bytes(payload);
        *transport.get_mut(checksum_at..)?.first_chunk_mut()? = match self.kind {
            Kind::Udp => nonzero(sum.finish()),
            _ => sum.finish(),
        };
        Some(())
    }

    fn fix_tcp(&self, transport: &mut [u8], offset: u32, index: usize) -> Option<()> {
        let header: &mut [u8; TCP_HEADER] = transport.first_chunk_mut()?;
        let sequence =
            u32::from_be_bytes([header[4], header[5], header[6], header[7]]).wrapping_add(offset);
        [header[4], header[5], header[6], header[7]] = sequence.to_be_bytes();
        if index + 1 < self.count {
            header[13] &= !(FIN | PSH);
        }
        if index > 0 {
            header[13] &= !CWR;
        }
        Some(())
    }

    /// The payload of segment `index`.
    fn part(&self, index: usize) -> &'a [u8] {
        let start = self.payload.saturating_add(index.saturating_mul(self.size));
        let rest = self.packet.get(start..).unwrap_or_default();
        rest.get(..self.size).unwrap_or(rest)
    }
}

/// Sets the lengths of an IP header, and of IPv4 the identification and checksum; gives the addresses.
fn fix_ip(ip: &mut [u8], length: usize, index: usize) -> Option<&[u8]> {
    if ip.first()? >> 4 == 4 {
        let header: &mut [u8; IPV4_HEADER] = ip.first_chunk_mut()?;
        let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(index as u16);
        [header[2], header[3]] = u16::try_from(length).ok()?.to_be_bytes();
        [header[4], header[5]] = id.to_be_bytes();
        [header[10], header[11]] = [0, 0];
        let checksum = Sum::new().bytes(ip).finish();
        *ip.get_mut(10..)?.first_chunk_mut()? = checksum;
        ip.get(12..20)
    } else {
        let payload = u16::try_from(length - IPV6_HEADER).ok()?;
        *ip.get_mut(4..)?.first_chunk_mut()? = payload.to_be_bytes();
        ip.get(8..40)
    }
}

/// Completes a checksum that was left to the hardware: the field holds the pseudo-header's sum already.
fn complete(packet: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let checksum = nonzero(Sum::new().bytes(packet.get(start..)?).finish());
    *packet.get_mut(start + offset..)?.first_chunk_mut()? = checksum;
    Some(())
}

/// The other form of zero: in UDP, zero itself would mean that there is no checksum (RFC 768).
fn nonzero(checksum: [u8; 2]) -> [u8; 2] {
    if checksum == [0, 0] {
        [0xff, 0xff]
    } else {
        checksum
    }
}

/// The longest IP packet without jumbograms.
const MAX_PACKET: usize = 65_535;

#[cfg(test)]
#[path = "segment_test.rs"]
mod tests;
