//! TUN to UDP: what the kernel routes into the tunnel, cut, sealed and sent.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::batch::{Batch, Target};
use crate::clock::Millis;
use crate::counters::Drop;
use crate::events::Reason;
use crate::packet::Packet;
use crate::peer::{Peer, Way};
use crate::plane::Plane;
use crate::queue::Average;
use crate::segment::Segments;
use crate::vnet::{Gso, VNET, VnetHeader};
use crate::worker::Park;

/// The worker that reads the TUN.
pub struct Outbound {
    buffer: Box<[u8]>,
    batch: Batch,
    average: Average,
}

impl Default for Outbound {
    fn default() -> Self {
        Self::new()
    }
}

impl Outbound {
    /// With all the memory that it will need.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; VNET + LONGEST].into_boxed_slice(),
            batch: Batch::new(GROUPS),
            average: Average::default(),
        }
    }

    /// Carries until the plane stops. An error: the TUN is gone.
    pub fn run(&mut self, plane: &Plane, park: &Park) -> io::Result<()> {
        let mut now = plane.clock.now();
        let (mut packets, mut bytes) = (0, 0);
        while plane.is_running() {
            match plane.tun.read(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    if packets == 0 {
                        now = plane.clock.now();
                    }
                    self.average.add(length);
                    self.carry(plane, length, now);
                    self.batch.flush_full(plane, now);
                    packets += 1;
                    bytes += length;
                    if packets < BURST_PACKETS && bytes < BURST_BYTES {
                        continue;
                    }
                    self.batch.flush(plane, now);
                    self.fit_queue(plane, now);
                }
                Err(error) => {
                    self.batch.flush(plane, now);
                    self.fit_queue(plane, now);
                    match error.kind() {
                        io::ErrorKind::WouldBlock => park.wait([plane.tun.as_fd()])?,
                        io::ErrorKind::Interrupted => {}
                        // A super-packet of a kind that the vnet header has no word for, by a fault of whatever driver it came
                        // in by: the kernel has dropped it and nothing else (drivers/net/tun.c, tun_put_user).
                        io::ErrorKind::InvalidInput => {
                            plane.counters.drop(Drop::BadPacket);
                            park.wait([plane.tun.as_fd()])?;
                        }
                        _ => return Err(error),
                    }
                }
            }
            (packets, bytes) = (0, 0);
        }
        Ok(())
    }

    /// Has the kernel's queue fit the packets that are in it.
    fn fit_queue(&mut self, plane: &Plane, now: Millis) {
        if let Some(queue) = &plane.tun.queue
            && let Some(length) = self.average.ask(queue.length.load(Relaxed), now)
        {
            plane.queue.set(length);
            plane.timers.wake(); // their thread does it
        }
    }

    /// One packet or super-packet with its header, in the buffer.
    fn carry(&mut self, plane: &Plane, length: usize, now: Millis) {
        let Self { buffer, batch, .. } = self;
        let read = buffer.get_mut(..length).unwrap_or_default();
        let Some((header, packet)) = read.split_first_chunk_mut::<VNET>() else {
            return plane.counters.drop(Drop::BadPacket);
        };
        let (Some(header), Some(parsed)) = (VnetHeader::parse(header), Packet::parse(packet))
        else {
            return plane.counters.drop(Drop::BadPacket);
        };
        if header.gso == Gso::None && parsed.length != packet.len() {
            return plane.counters.drop(Drop::BadPacket);
        }
        let Ok(segments) = Segments::of(header, packet) else {
            return plane.counters.drop(Drop::BadPacket);
        };
        let Some(peer) = plane.index().route(parsed.destination) else {
            return plane.counters.drop_many(Drop::NoRoute, segments.count());
        };
        match peer.way(now) {
            Way::Send(keypair, path) => {
                let target = Target {
                    peer,
                    keypair,
                    path,
                };
                let mut sealed = 0;
                while sealed < segments.count() {
                    let fill = |out: &mut [u8]| segments.write(sealed, out);
                    if !batch.seal(plane, &target, segments.length(sealed), now, fill) {
                        break;
                    }
                    sealed += 1;
                }
                if sealed < segments.count() {
                    plane
                        .counters
                        .drop_many(Drop::Expired, segments.count() - sealed);
                }
            }
            Way::Queue => {
                stage(plane, &peer, &segments);
                plane.seal_staged(&peer, batch, now);
            }
            Way::Wait => {
                stage(plane, &peer, &segments);
                // A session may have begun meanwhile.
                if plane.seal_staged(&peer, batch, now) == 0 {
                    plane.ask(&peer, Reason::Staged, now);
                }
            }
            Way::Nowhere => plane.counters.drop_many(Drop::NoEndpoint, segments.count()),
        }
    }
}

/// Lets the segments wait for a session.
fn stage(plane: &Plane, peer: &Arc<Peer>, segments: &Segments) {
    let mut dropped = 0;
    for at in 0..segments.count() {
        let mut packet = vec![0; segments.length(at)].into_boxed_slice();
        if segments.write(at, &mut packet) {
            dropped += peer.state().stage(packet);
        }
    }
    plane.counters.drop_many(Drop::Staged, dropped);
}

/// The longest IP packet.
const LONGEST: usize = 65_535;
/// Peers that one burst may be for without a send in between.
const GROUPS: usize = 8;
/// A burst: what is read before anything sealed leaves, if there is so much to read.
const BURST_PACKETS: usize = 64;
const BURST_BYTES: usize = 128 * 1024;
