//! Joining the packets of one receive batch into the super-packets that the kernel's own GRO would make of them, so that
//! 45 segments go into the TUN by one write.
//!
//! ```text
//! buffer   [hdr|payload]…[hdr|payload]…[hdr|payload]      decrypted in place
//! item     ╰ head ──────▶ piece ───────▶ piece            written by one writev: vnet header, head, payloads
//! ```
//! Rules (net/ipv4/tcp_offload.c, udp_offload.c; tools/testing/selftests/net/gro.c): equal addresses, ports, TTL, TOS,
//! fragment bits; for TCP equal acknowledgement, window, options, and the next sequence number; nothing after a short
//! segment or a PSH. A checksum is verified before its packet is joined, because the kernel does not verify the one
//! of a super-packet. Within a flow the order never changes, and nothing overtakes a packet that cannot be classified.

use crate::checksum::{Sum, pseudo_header};
use crate::packet::{IPV4_HEADER, IPV6_HEADER};
use crate::segment::{TCP, UDP};
use crate::vnet::{Gso, VNET, VnetHeader};

/// The packets that one batch may hold: a forwarded aggregate has up to 128 datagrams.
pub const MOST_PACKETS: usize = 256;

/// The longest headers that are joined: IPv6 without extensions, TCP with all options.
const MOST_HEADERS: usize = IPV6_HEADER + 60;

/// What may be joined on this TUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joins {
    /// TCP segments.
    pub tcp: bool,
    /// UDP datagrams: only where the kernel knows UDP_L4 (6.2).
    pub udp: bool,
}

/// A packet in the batch's buffer.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: usize,
    length: usize,
    next: Option<usize>,
}

/// What will be one write: a packet, or several joined.
#[derive(Clone, Copy, Debug)]
struct Item {
    head: usize,
    tail: usize,
    shape: Option<Shape>,
    count: usize,
    /// The payload of all pieces.
    payload: usize,
    closed: bool,
    push: bool,
    /// The head's checksum has been verified.
    verified: bool,
}

/// A packet of a flow, as far as joining it goes.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Where TCP or UDP begins.
    transport: usize,
    protocol: u8,
    /// The length of all headers.
    headers: usize,
    payload: usize,
    sequence: u32,
    flags: u8,
    joinable: bool,
}

/// Where in the batch something begins and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// How many.
    pub length: usize,
}

/// One write, ready: the header before it, and where its parts lie in the buffer.
pub struct Write<'a> {
    /// The vnet header.
    pub header: [u8; VNET],
    /// The head packet, then the payloads that follow it.
    pub parts: &'a [Span],
    /// The packets that it stands for.
    pub packets: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// The packets of one batch. Holds no bytes: they stay in the buffer that every call is given.
pub struct Coalescer {
    joins: Joins,
    pieces: Vec<Piece>,
    items: Vec<Item>,
    parts: Vec<Span>,
}

impl Coalescer {
    /// Reserves all it will ever need.
    pub fn new(joins: Joins) -> Self {
        Self {
            joins,
            pieces: Vec::with_capacity(MOST_PACKETS),
            items: Vec::with_capacity(MOST_PACKETS),
            parts: Vec::with_capacity(MOST_PACKETS + 1),
        }
    }

    /// Joins nothing from now on: the kernel refuses super-packets.
    pub fn stop_joining(&mut self) {
        self.joins = Joins {
            tcp: false,
            udp: false,
        };
    }

    /// How many more packets there is room for.
    pub fn room(&self) -> usize {
        MOST_PACKETS - self.pieces.len().min(MOST_PACKETS)
    }

    /// Takes a whole IP packet that lies in `buffer`. Needs room.
    pub fn push(&mut self, buffer: &[u8], span: Span) {
        if self.room() == 0 {
            return;
        }
        let Some(packet) = bytes(buffer, span) else {
            return;
        };
        let shape = Shape::of(packet, self.joins);
        if let Some(shape) = shape
            && self.join(buffer, packet, span, shape)
        {
            return;
        }
        let piece = self.add_piece(span);
        self.items.push(Item {
            head: piece,
            tail: piece,
            shape,
            count: 1,
            payload: shape.map_or(0, |shape| shape.payload),
            closed: shape.is_none_or(|shape| !shape.joinable || shape.flags & PSH != 0),
            push: false,
            verified: false,
        });
    }

    /// Hands every write to `write`, oldest first, and is empty after it. `write` says false when the kernel refused a
    /// super-packet as such: then its packets are handed over again one by one, as they came.
    pub fn flush(&mut self, buffer: &mut [u8], mut write: impl FnMut(&[u8], &Write) -> bool) {
        let items = std::mem::take(&mut self.items);
        for item in &items {
            match item.shape {
                Some(shape) if item.count > 1 => self.write_joined(buffer, item, shape, &mut write),
                _ => self.write_singly(buffer, item, &mut write),
            }
        }
        self.items = items; // keeps what it reserved
        self.items.clear();
        self.pieces.clear();
    }

    /// Appends a packet to the newest item of its flow, if the rules allow it.
    fn join(&mut self, buffer: &[u8], packet: &[u8], span: Span, shape: Shape) -> bool {
        let Self { items, pieces, .. } = self;
        for item in items.iter_mut().rev().take(LOOK_BACK) {
            let Some(head_shape) = item.shape else {
                return false; // nothing overtakes what cannot be classified
            };
            let head = pieces
                .get(item.head)
                .and_then(|piece| bytes(buffer, piece.span()));
            let Some(head) = head else { return false };
            if !same_flow(head, packet, head_shape, shape) {
                continue;
            }
            if item.closed || !shape.joinable || !item.fits(head, packet, head_shape, shape) {
                item.closed = true; // the order within a flow stays
                return false;
            }
            if !item.verified {
                if !has_valid_checksum(head, head_shape) {
                    item.closed = true;
                    return false;
                }
                item.verified = true;
            }
            if !has_valid_checksum(packet, shape) {
                item.closed = true;
                return false;
            }
            let piece = pieces.len();
            pieces.push(Piece {
                start: span.start,
                length: span.length,
                next: None,
            });
            if let Some(tail) = pieces.get_mut(item.tail) {
                tail.next = Some(piece);
            }
            item.tail = piece;
            item.count += 1;
            item.payload += shape.payload;
            item.push = shape.flags & PSH != 0;
            item.closed = item.push || shape.payload < head_shape.payload;
            return true;
        }
        false
    }

    fn add_piece(&mut self, span: Span) -> usize {
        self.pieces.push(Piece {
            start: span.start,
            length: span.length,
            next: None,
        });
        self.pieces.len() - 1
    }

    fn write_joined(
        &mut self,
        buffer: &mut [u8],
        item: &Item,
        shape: Shape,
        write: &mut impl FnMut(&[u8], &Write) -> bool,
    ) {
        self.parts.clear();
        let mut next = Some(item.head);
        while let Some(piece) = next.and_then(|at| self.pieces.get(at)) {
            // All of the head, of the others the payload.
            let skip = if self.parts.is_empty() {
                0
            } else {
                shape.headers
            };
            self.parts.push(Span {
                start: piece.start + skip,
                length: piece.length - skip,
            });
            next = piece.next;
        }
        let Some(head) = self.parts.first().copied() else {
            return;
        };
        let Some(saved) = save_headers(buffer, head, shape) else {
            return;
        };
        let done = match rewrite_head(buffer, head, shape, item) {
            Some(header) => write(
                buffer,
                &Write {
                    header,
                    parts: &self.parts,
                    packets: item.count,
                    bytes: item.count * shape.headers + item.payload,
                },
            ),
            None => false,
        };
        if !done {
            if let Some(headers) = buffer.get_mut(head.start..head.start + shape.headers) {
                headers.copy_from_slice(saved.get(..shape.headers).unwrap_or_default());
            }
            self.write_singly(buffer, item, write);
        }
    }

    fn write_singly(
        &mut self,
        buffer: &[u8],
        item: &Item,
        write: &mut impl FnMut(&[u8], &Write) -> bool,
    ) {
        let mut next = Some(item.head);
        while let Some(piece) = next.and_then(|at| self.pieces.get(at)) {
            write(
                buffer,
                &Write {
                    header: VnetHeader::PLAIN,
                    parts: &[piece.span()],
                    packets: 1,
                    bytes: piece.length,
                },
            );
            next = piece.next;
        }
    }
}

impl Piece {
    fn span(&self) -> Span {
        Span {
            start: self.start,
            length: self.length,
        }
    }
}

impl Item {
    /// Whether `packet`, of the same flow, goes on where this item ends.
    fn fits(&self, head: &[u8], packet: &[u8], head_shape: Shape, shape: Shape) -> bool {
        let total = head_shape.headers + self.payload + shape.payload;
        if shape.headers != head_shape.headers
            || shape.payload > head_shape.payload
            || total > MOST_BYTES
        {
            return false;
        }
        if !same_ip(head, packet) {
            return false;
        }
        if shape.protocol == UDP {
            return self.count < MOST_UDP;
        }
        let next = head_shape.sequence.wrapping_add(self.payload as u32);
        let transport = shape.transport;
        shape.sequence == next
            && same(head, packet, transport + 8, transport + 12) // acknowledgement
            && same(head, packet, transport + 14, transport + 16) // window
            && same(head, packet, transport + 20, shape.headers) // options
    }
}

impl Shape {
    /// None: no TCP or UDP that this understands, whatever it is.
    fn of(packet: &[u8], joins: Joins) -> Option<Self> {
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
fn same_flow(a: &[u8], b: &[u8], a_shape: Shape, b_shape: Shape) -> bool {
    let transport = a_shape.transport;
    let addresses = if transport == IPV4_HEADER { 12 } else { 8 };
    a_shape.protocol == b_shape.protocol
        && transport == b_shape.transport
        && same(a, b, addresses, transport + 4) // the ports follow the addresses
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
fn has_valid_checksum(packet: &[u8], shape: Shape) -> bool {
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

fn save_headers(buffer: &[u8], head: Span, shape: Shape) -> Option<[u8; MOST_HEADERS]> {
    let mut saved = [0; MOST_HEADERS];
    let headers = buffer.get(head.start..)?.get(..shape.headers)?;
    saved.get_mut(..shape.headers)?.copy_from_slice(headers);
    Some(saved)
}

/// Makes a head packet the head of its item: lengths, PSH, and the checksum as the kernel completes it.
fn rewrite_head(buffer: &mut [u8], head: Span, shape: Shape, item: &Item) -> Option<[u8; VNET]> {
    let packet = buffer.get_mut(head.start..)?.get_mut(..shape.headers)?;
    let length = u16::try_from(shape.headers + item.payload).ok()?;
    let (ip, transport) = packet.split_at_mut_checked(shape.transport)?;
    let is_v4 = shape.transport == IPV4_HEADER;
    let transport_length = usize::from(length) - shape.transport;
    let addresses: &[u8] = if is_v4 {
        let header: &mut [u8; IPV4_HEADER] = ip.first_chunk_mut()?;
        [header[2], header[3]] = length.to_be_bytes();
        [header[10], header[11]] = [0, 0];
        let checksum = Sum::new().bytes(header.as_slice()).finish();
        [header[10], header[11]] = checksum;
        header.get(12..20)?
    } else {
        let header: &mut [u8; IPV6_HEADER] = ip.first_chunk_mut()?;
        [header[4], header[5]] = u16::try_from(transport_length).ok()?.to_be_bytes();
        header.get(8..40)?
    };
    let partial = pseudo_header(addresses, shape.protocol, transport_length).folded();
    let size = u16::try_from(shape.payload).ok()?;
    let (gso, offset) = match shape.protocol {
        TCP => {
            let header: &mut [u8; 20] = transport.first_chunk_mut()?;
            if item.push {
                header[13] |= PSH;
            }
            [header[16], header[17]] = partial;
            (
                if is_v4 {
                    Gso::Tcp4(size)
                } else {
                    Gso::Tcp6(size)
                },
                16,
            )
        }
        _ => {
            let header: &mut [u8; 8] = transport.first_chunk_mut()?;
            [header[4], header[5]] = u16::try_from(transport_length).ok()?.to_be_bytes();
            [header[6], header[7]] = partial;
            (Gso::Udp(size), 6)
        }
    };
    let header = VnetHeader {
        gso,
        checksum: Some((u16::try_from(shape.transport).ok()?, offset)),
    };
    Some(header.encode(u16::try_from(shape.headers).ok()?))
}

fn bytes(buffer: &[u8], span: Span) -> Option<&[u8]> {
    buffer.get(span.start..)?.get(..span.length)
}

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
/// Items of other flows that are looked past for the flow of a packet.
const LOOK_BACK: usize = 16;
/// The longest super-packet.
const MOST_BYTES: usize = 65_535;
/// Datagrams in one UDP super-packet (UDP_MAX_SEGMENTS before Linux 6.9).
const MOST_UDP: usize = 64;
/// VXLAN and Geneve: tunnels over us, which do not take joined datagrams well.
const TUNNEL_PORTS: [u16; 2] = [4789, 6081];

#[cfg(test)]
#[path = "coalesce_test.rs"]
mod tests;
