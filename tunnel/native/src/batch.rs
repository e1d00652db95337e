//! Packets sealed one after the other into what one UDP_SEGMENT send takes.
//!
//! ```text
//! group of a peer   [header|sealed|tag][header|sealed|tag]…[header|shorter|tag]
//!                   ╰──── stride ─────╯                     ╰ closes the group
//! ```
//! Each peer has at most one open group, so that its packets leave in the order in which they came; a burst of packets for
//! several peers fills several groups. Nothing waits here longer than its burst.

use std::sync::Arc;

use crate::clock::Millis;
use crate::keypair::Keypair;
use crate::message::DATA_HEADER;
use crate::path::Path;
use crate::peer::Peer;
use crate::plane::Plane;
use crate::primitives::TAG;
use crate::udp::{MOST_BYTES, MOST_SEGMENTS};

/// Where a packet goes and what seals it.
#[derive(Clone)]
pub struct Target {
    /// To whom.
    pub peer: Arc<Peer>,
    /// Under which session.
    pub keypair: Arc<Keypair>,
    /// And where that is.
    pub path: Path,
}

/// What was sealed and has not left yet.
pub struct Batch {
    groups: Vec<Group>,
    /// The group that leaves when all are taken.
    next: usize,
}

struct Group {
    target: Option<Target>,
    buffer: Box<[u8]>,
    used: usize,
    stride: usize,
    count: usize,
    closed: bool,
    /// Inner packets, and their bytes.
    packets: usize,
    bytes: usize,
}

impl Batch {
    /// With room for so many peers at a time.
    pub fn new(groups: usize) -> Self {
        let group = || Group {
            target: None,
            buffer: vec![0; LONGEST].into_boxed_slice(),
            used: 0,
            stride: 0,
            count: 0,
            closed: false,
            packets: 0,
            bytes: 0,
        };
        Self {
            groups: std::iter::repeat_with(group).take(groups.max(1)).collect(),
            next: 0,
        }
    }

    /// Seals a packet of `length` bytes, which `fill` writes. False when the session's counters are used up.
    pub fn seal(
        &mut self,
        plane: &Plane,
        target: &Target,
        length: usize,
        now: Millis,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        let padded = padded_length(length, plane.mtu);
        let at = self.place(plane, target, DATA_HEADER + padded + TAG, now);
        match self.groups.get_mut(at) {
            Some(group) => group.seal(target, length, padded, fill).is_some(),
            None => false,
        }
    }

    /// Sends everything.
    pub fn flush(&mut self, plane: &Plane, now: Millis) {
        for group in &mut self.groups {
            group.flush(plane, now);
        }
    }

    /// Sends what nothing can be added to: the next packet would send it anyway, but is perhaps not there yet.
    pub fn flush_full(&mut self, plane: &Plane, now: Millis) {
        for group in self.groups.iter_mut().filter(|group| group.is_full()) {
            group.flush(plane, now);
        }
    }

    /// The group that a datagram of `length` bytes goes into, with room for it.
    fn place(&mut self, plane: &Plane, target: &Target, length: usize, now: Millis) -> usize {
        if let Some(at) = self
            .groups
            .iter()
            .position(|group| group.is_of(&target.peer))
        {
            if let Some(group) = self.groups.get_mut(at)
                && !group.has_room(target, length)
            {
                group.flush(plane, now);
            }
            return at;
        }
        if let Some(at) = self.groups.iter().position(|group| group.target.is_none()) {
            return at;
        }
        let at = self.next;
        self.next = (self.next + 1) % self.groups.len();
        if let Some(group) = self.groups.get_mut(at) {
            group.flush(plane, now);
        }
        at
    }
}

impl Group {
    fn is_of(&self, peer: &Arc<Peer>) -> bool {
        self.target
            .as_ref()
            .is_some_and(|target| Arc::ptr_eq(&target.peer, peer))
    }

    fn has_room(&self, target: &Target, length: usize) -> bool {
        let same_session = self.target.as_ref().is_some_and(|own| {
            own.path == target.path && Arc::ptr_eq(&own.keypair, &target.keypair)
        });
        same_session
            && !self.closed
            && self.count < MOST_SEGMENTS
            && length <= self.stride
            && self.used + length <= MOST_BYTES
    }

    /// Whether not even a datagram as long as the others would have room.
    fn is_full(&self) -> bool {
        self.closed || self.count >= MOST_SEGMENTS || self.used + self.stride > MOST_BYTES
    }

    /// Header, packet, padding, tag (paper, 5.4.6).
    fn seal(
        &mut self,
        target: &Target,
        length: usize,
        padded: usize,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> Option<()> {
        let whole = DATA_HEADER + padded + TAG;
        let datagram = self.buffer.get_mut(self.used..)?.get_mut(..whole)?;
        let (header, body) = datagram.split_first_chunk_mut::<DATA_HEADER>()?;
        let (plaintext, tag) = body.split_last_chunk_mut::<TAG>()?;
        let (packet, padding) = plaintext.split_at_mut_checked(length)?;
        if !fill(packet) {
            return None;
        }
        padding.fill(0);
        let counter = target.keypair.take_counter()?;
        *tag = target.keypair.seal(counter, plaintext)?;
        *header = data_header(target.keypair.remote, counter);
        if self.target.is_none() {
            self.target = Some(target.clone());
            self.stride = whole;
        }
        self.used += whole;
        self.count += 1;
        self.closed = whole < self.stride;
        self.packets += usize::from(length > 0);
        self.bytes += length;
        Some(())
    }

    fn flush(&mut self, plane: &Plane, now: Millis) {
        let Some(target) = self.target.take() else {
            return;
        };
        let datagrams = self.buffer.get(..self.used).unwrap_or_default();
        plane.send_sealed(
            &target,
            datagrams,
            self.stride,
            self.packets,
            self.bytes,
            now,
        );
        self.used = 0;
        self.count = 0;
        self.closed = false;
        self.packets = 0;
        self.bytes = 0;
    }
}

/// The header of a data message.
pub fn data_header(remote: u32, counter: u64) -> [u8; DATA_HEADER] {
    let mut header = [0; DATA_HEADER];
    let [r0, r1, r2, r3] = remote.to_le_bytes();
    let [c0, c1, c2, c3, c4, c5, c6, c7] = counter.to_le_bytes();
    header.copy_from_slice(&[4, 0, 0, 0, r0, r1, r2, r3, c0, c1, c2, c3, c4, c5, c6, c7]);
    header
}

/// The length of a packet with its padding: to a multiple of 16, but never past the MTU (paper, 5.4.6; kernel: send.c,
/// calculate_skb_padding).
pub fn padded_length(length: usize, mtu: usize) -> usize {
    const PADDING: usize = 16;
    if mtu == 0 {
        return length.next_multiple_of(PADDING);
    }
    let last = if length > mtu { length % mtu } else { length };
    length - last + last.next_multiple_of(PADDING).min(mtu)
}

/// The longest packet that a TUN can give, sealed.
const LONGEST: usize = 65_535 + 16 + DATA_HEADER + TAG;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_to_sixteen_and_never_past_the_mtu() {
        let lengths = [0, 1, 16, 17, 1404, 1405, 1416, 1417, 1420];
        assert_eq!(
            lengths.map(|length| padded_length(length, 1420)),
            [0, 16, 16, 32, 1408, 1408, 1416 + 4, 1420, 1420]
        );
        assert_eq!(padded_length(1421, 1420), 1420 + 16);
        assert_eq!(padded_length(17, 0), 32);
    }

    #[test]
    fn the_header_is_little_endian() {
        assert_eq!(
            data_header(0x0403_0201, 0x0807_0605_0403_0201),
            [4, 0, 0, 0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8]
        );
    }
}
