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
use crate::flow::{Joins, PSH, Shape, follows, has_valid_checksum, same_flow};
use crate::packet::{IPV4_HEADER, IPV6_HEADER};
use crate::segment::{TCP, UDP};
use crate::vnet::{Gso, VNET, VnetHeader};

/// The packets that one batch may hold: a forwarded aggregate has up to 128 datagrams.
pub const MOST_PACKETS: usize = 256;

/// The longest headers that are joined: IPv6 without extensions, TCP with all options.
const MOST_HEADERS: usize = IPV6_HEADER + 60;

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
        let has_room = total <= MOST_BYTES && (shape.protocol != UDP || self.count < MOST_UDP);
        has_room
            && shape.payload <= head_shape.payload
            && follows(head, packet, head_shape, shape, self.payload)
    }
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

/// Items of other flows that are looked past for the flow of a packet.
const LOOK_BACK: usize = 16;
/// The longest super-packet.
const MOST_BYTES: usize = 65_535;
/// Datagrams in one UDP super-packet (UDP_MAX_SEGMENTS before Linux 6.9).
const MOST_UDP: usize = 64;
#[cfg(test)]
#[path = "coalesce_test.rs"]
mod tests;
