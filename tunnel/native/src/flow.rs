//! Which packets belong together: TCP and UDP packets told apart into flows, and what has to be equal for two packets of a flow
//! to be joined (net/ipv4/tcp_offload.c, udp_offload.c; tools/testing/selftests/net/gro.c).

use crate::checksum::{Sum, pseudo_header};
use crate::packet::{IPV4_HEADER, IPV6_HEADER};
use crate::segment::{TCP, UDP};

/// What may be joined on this TUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joins {
    /// TCP segments.
    pub tcp: bool,
    /// UDP datagrams: only where the kernel knows UDP_L4 (6.2).
    pub udp: bool,
}

/// A packet of a flow, as far as joining it goes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Where TCP or UDP begins.
    pub transport: usize,
    /// TCP or UDP.
    pub protocol: u8,
    /// The length of all headers.
    pub headers: usize,
    /// The length of what follows them.
    pub payload: usize,
    /// TCP's sequence number.
    pub sequence: u32,
    /// TCP's flags.
    pub flags: u8,
    /// Whether it may be joined with others at all.
    pub joinable: bool,
}

impl Shape {
    /// None: no TCP or UDP that this understands, whatever it is.
    pub fn of(packet: &[u8], joins: Joins) -> Option<Self> {
        let (protocol, transport) = match packet.first()? >> 4 {
            4 => {
                let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
                let whole = usize::from(u16::from_be_bytes([header[2], header[3]])) == packet.len();
                let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
                let plain = header[0] == 0x45 && whole && !fragment;
                plain.then_some((header[9], IPV4_HEADER))?
            }
            6 => {
                let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
                let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
                let whole = IPV6_HEADER + payload == packet.len();
                whole.then_some((header[6], IPV6_HEADER))?
            }
            _ => return None,
        };
        match protocol {
            TCP => {
                let header: &[u8; 20] = packet.get(transport..)?.first_chunk()?;
                let headers = transport + usize::from(header[12] >> 4) * 4;
                let payload = packet.len().checked_sub(headers)?;
                if headers < transport + header.len() {
                    return None;
                }
                let flags = header[13];
                let only_ack = flags & !PSH == ACK && header[12] & 0x0f == 0;
                Some(Self {
                    transport,
                    protocol,
                    headers,
                    payload,
                    sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                    flags,
                    joinable: joins.tcp && only_ack && payload > 0,
                })
            }
            UDP => {
                let header: &[u8; 8] = packet.get(transport..)?.first_chunk()?;
                let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
                let headers = transport + header.len();
                let payload = packet.len().checked_sub(headers)?;
                let port = u16::from_be_bytes([header[2], header[3]]);
                let whole = length == header.len() + payload;
                let has_checksum = header[6] != 0 || header[7] != 0;
                Some(Self {
                    transport,
                    protocol,
                    headers,
                    payload,
                    sequence: 0,
                    flags: 0,
                    joinable: joins.udp
                        && whole
                        && has_checksum
                        && payload > 0
                        && !TUNNEL_PORTS.contains(&port),
                })
            }
            _ => None,
        }
    }
}

/// Equal addresses, protocol and ports.
pub fn same_flow(a: &[u8], b: &[u8], a_shape: Shape, b_shape: Shape) -> bool {
    let transport = a_shape.transport;
    let addresses = if transport == IPV4_HEADER { 12 } else { 8 };
    a_shape.protocol == b_shape.protocol
        && transport == b_shape.transport
        && same(a, b, addresses, transport + 4) // the ports follow the addresses
}

/// Whether nothing but lengths, checksums and what the payload is keeps a packet from being the next of `head`, which is of
/// the same flow: `payload` bytes on, in TCP.
pub fn follows(
    head: &[u8],
    packet: &[u8],
    head_shape: Shape,
    shape: Shape,
    payload: usize,
) -> bool {
    if shape.headers != head_shape.headers || !same_ip(head, packet) {
        return false;
    }
    let transport = shape.transport;
    shape.protocol == UDP
        || shape.sequence == head_shape.sequence.wrapping_add(payload as u32)
            && same(head, packet, transport + 8, transport + 12) // acknowledgement
            && same(head, packet, transport + 14, transport + 16) // window
            && same(head, packet, transport + 20, shape.headers) // options
}

/// Equal version, class, flow label, hop limit and fragment bits: everything of the IP header but length, id and checksum.
fn same_ip(a: &[u8], b: &[u8]) -> bool {
    match a.first().map(|first| first >> 4) {
        Some(4) => same(a, b, 0, 2) && same(a, b, 6, 9),
        _ => same(a, b, 0, 4) && same(a, b, 7, 8),
    }
}

fn same(a: &[u8], b: &[u8], from: usize, to: usize) -> bool {
    match (a.get(from..to), b.get(from..to)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// Of TCP or UDP, and of an IPv4 header: a joined packet gets a new one.
pub fn has_valid_checksum(packet: &[u8], shape: Shape) -> bool {
    let is_v4 = shape.transport == IPV4_HEADER;
    let addresses = if is_v4 { 12 } else { 8 };
    let Some((ip, segment)) = packet.split_at_checked(shape.transport) else {
        return false;
    };
    let sum = pseudo_header(
        ip.get(addresses..).unwrap_or_default(),
        shape.protocol,
        segment.len(),
    )
    .bytes(segment);
    sum.is_valid() && (!is_v4 || Sum::new().bytes(ip).is_valid())
}

const ACK: u8 = 0x10;
/// Whoever sent it wants it delivered at once.
pub const PSH: u8 = 0x08;
/// VXLAN and Geneve: tunnels over us, which do not take joined datagrams well.
pub const TUNNEL_PORTS: [u16; 2] = [4789, 6081];
