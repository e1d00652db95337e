//! UDP to TUN: what comes in, told apart, opened, believed, joined and written.
//!
//! What one wait yields is one batch: data first, so that a flood of handshakes does not delay it, then handshakes.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::clock::Millis;
use crate::coalesce::{Coalescer, MOST_PACKETS, Span, Write};
use crate::counters::{Drop, add};
use crate::datagram::{AGGREGATE, Received};
use crate::events::Event;
use crate::gate::Verdict;
use crate::keypair::{Keypair, REJECT_AFTER_MESSAGES};
use crate::message::{DATA_HEADER, Message};
use crate::packet::{Address, Packet};
use crate::path::Path;
use crate::peer::Peer;
use crate::plane::Plane;
use crate::udp::Socket;
use crate::worker::Park;

/// The worker that reads the sockets.
pub struct Inbound {
    buffer: Box<[u8]>,
    coalescer: Coalescer,
    /// Handshakes of this batch.
    handshakes: Vec<Handshake>,
    /// The session and the source that the last datagram had: the next most often has the same.
    last: Option<Last>,
}

struct Handshake {
    message: Message,
    span: Span,
    from: Path,
}

/// A run of datagrams of one session.
struct Last {
    index: u32,
    peer: Arc<Peer>,
    keypair: Arc<Keypair>,
    source: Option<Address>,
    from: Path,
    /// Authentic bytes since the peer was told.
    bytes: usize,
    /// Messages among them that were not empty.
    data: usize,
}

impl Inbound {
    /// With all the memory that it will need.
    pub fn new(plane: &Plane) -> Self {
        Self {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            coalescer: Coalescer::new(plane.tun.joins),
            handshakes: Vec::with_capacity(MOST_PACKETS),
            last: None,
        }
    }

    /// Carries until the plane stops. An error: the sockets cannot be waited for.
    pub fn run(&mut self, plane: &Plane, park: &Park) -> io::Result<()> {
        let (v4, v6) = (plane.udp.v4(), plane.udp.v6());
        while plane.is_running() {
            // Both, so that neither starves; a socket that had nothing costs one call.
            let mut came = self.receive_batch(plane, v4);
            if let Some(v6) = v6 {
                came |= self.receive_batch(plane, v6);
            }
            if !came {
                park.wait([v4.as_fd(), v6.unwrap_or(v4).as_fd()])?;
            }
        }
        Ok(())
    }

    /// Takes what a socket has, up to a batch, and deals with it; whether there was anything.
    fn receive_batch(&mut self, plane: &Plane, socket: &Socket) -> bool {
        let mut used = 0;
        let mut now = None;
        for _ in 0..MOST_RECEIVES {
            if used + AGGREGATE > self.buffer.len() || self.coalescer.room() < MOST_DATAGRAMS {
                break;
            }
            let free = self.buffer.get_mut(used..).unwrap_or_default();
            let Ok(received) = socket.receive(free) else {
                break;
            };
            let now = *now.get_or_insert_with(|| plane.clock.now());
            self.take(plane, used, &received, now);
            used += received.length;
            if received.length >= LARGE {
                break; // enough for one write: do not let it wait
            }
        }
        let Some(now) = now else { return false };
        self.tell(plane, now);
        self.deliver(plane);
        self.pass_handshakes(plane, now);
        true
    }

    /// One datagram or aggregate at `start` of the buffer.
    fn take(&mut self, plane: &Plane, start: usize, received: &Received, now: Millis) {
        let counters = &plane.counters.received;
        let count = received.length.div_ceil(received.stride.max(1)).max(1);
        add(&counters.calls, 1);
        add(&counters.datagrams, count);
        if received.truncated || count > MOST_DATAGRAMS {
            return plane.counters.drop_many(Drop::Truncated, count);
        }
        if count > 1 {
            add(&counters.batched, count);
        }
        for at in 0..count {
            let begin = at * received.stride;
            let span = Span {
                start: start + begin,
                length: received.stride.min(received.length - begin),
            };
            if let Err(reason) = self.take_datagram(plane, span, received.from, now) {
                plane.counters.drop(reason);
            }
        }
    }

    fn take_datagram(
        &mut self,
        plane: &Plane,
        span: Span,
        from: Path,
        now: Millis,
    ) -> Result<(), Drop> {
        let datagram = self
            .buffer
            .get_mut(span.start..)
            .and_then(|rest| rest.get_mut(..span.length));
        let datagram = datagram.ok_or(Drop::Truncated)?;
        match Message::of(datagram)? {
            Message::Data(index, counter) => {
                if !self
                    .last
                    .as_ref()
                    .is_some_and(|last| last.index == index && last.from == from)
                {
                    self.tell(plane, now);
                    self.last = Some(Last::of(plane, index, from).ok_or(Drop::UnknownIndex)?);
                }
                self.open(plane, span, counter, now)
            }
            message => {
                self.handshakes.push(Handshake {
                    message,
                    span,
                    from,
                });
                Ok(())
            }
        }
    }

    /// A data message of the session that is `last`.
    fn open(&mut self, plane: &Plane, span: Span, counter: u64, now: Millis) -> Result<(), Drop> {
        let Self {
            buffer,
            coalescer,
            last: Some(last),
            ..
        } = self
        else {
            return Err(Drop::UnknownIndex);
        };
        if last.keypair.is_expired(now) || counter >= REJECT_AFTER_MESSAGES {
            return Err(Drop::Expired);
        }
        let start = span.start + DATA_HEADER;
        let sealed = buffer
            .get_mut(start..span.start + span.length)
            .ok_or(Drop::BadLength)?;
        let length = {
            let mut replay = last.keypair.replay();
            if replay.refuses(counter) {
                return Err(Drop::Replayed);
            }
            let length = last.keypair.open(counter, sealed).ok_or(Drop::BadTag)?;
            if !replay.accept(counter) {
                return Err(Drop::Replayed);
            }
            length
        };
        // From here on it is authentic.
        last.bytes += span.length;
        if length == 0 {
            return Ok(());
        }
        last.data += 1;
        let plaintext = sealed.get(..length).ok_or(Drop::BadPacket)?;
        let packet = Packet::parse(plaintext).ok_or(Drop::BadPacket)?;
        if last.source != Some(packet.source) {
            if plane.index().owner(packet.source) != Some(last.peer.id) {
                return Err(Drop::SourceNotAllowed);
            }
            last.source = Some(packet.source);
        }
        let length = packet.length;
        coalescer.push(buffer, Span { start, length });
        Ok(())
    }

    /// Tells the peer of the run that has ended what came from it.
    fn tell(&mut self, plane: &Plane, now: Millis) {
        if let Some(last) = self.last.take()
            && last.bytes > 0
        {
            plane.has_received(
                &last.peer,
                &last.keypair,
                last.bytes,
                last.data,
                last.from,
                now,
            );
        }
    }

    /// Writes the packets of this batch to the TUN.
    fn deliver(&mut self, plane: &Plane) {
        let counters = &plane.counters;
        let mut refused = false;
        self.coalescer.flush(&mut self.buffer, |buffer, write| {
            match write_to_tun(plane, buffer, write) {
                Ok(()) => {
                    add(&counters.received.packets, write.packets);
                    add(&counters.received.bytes, write.bytes);
                    true
                }
                Err(error) if write.packets > 1 && error.raw_os_error() == Some(libc::EINVAL) => {
                    refused = true;
                    false // they go again, one by one
                }
                Err(_) => {
                    counters.drop_many(Drop::TunFailed, write.packets);
                    true
                }
            }
        });
        if refused {
            self.coalescer.stop_joining();
        }
    }

    /// Puts the handshakes of this batch through the gate.
    fn pass_handshakes(&mut self, plane: &Plane, now: Millis) {
        for Handshake {
            message,
            span,
            from,
        } in self.handshakes.drain(..)
        {
            let bytes = self
                .buffer
                .get(span.start..)
                .and_then(|rest| rest.get(..span.length));
            if let Err(reason) =
                pass_handshake(plane, message, bytes.unwrap_or_default(), from, now)
            {
                plane.counters.drop(reason);
            }
        }
    }
}

impl Last {
    fn of(plane: &Plane, index: u32, from: Path) -> Option<Self> {
        let slot = plane.index().slot(index)?.clone();
        Some(Self {
            index,
            peer: slot.peer,
            keypair: slot.session?,
            source: None,
            from,
            bytes: 0,
            data: 0,
        })
    }
}

fn pass_handshake(
    plane: &Plane,
    message: Message,
    bytes: &[u8],
    from: Path,
    now: Millis,
) -> Result<(), Drop> {
    let event = match message {
        Message::Initiation => {
            let waiting = plane.events.waiting();
            let verdict = plane.gate().initiation(bytes, from.remote, waiting, now);
            match verdict {
                Verdict::Pass => Event::Initiation(bytes.to_vec(), from),
                Verdict::Drop(reason) => return Err(reason),
                Verdict::Answer(reply) => {
                    plane.send_cookie(&from, &reply);
                    return Err(Drop::UnderLoad);
                }
            }
        }
        Message::Response(index) => {
            if let Verdict::Drop(reason) = plane.gate().response(bytes) {
                return Err(reason);
            }
            let slot = plane.index().slot(index).cloned();
            let slot = slot
                .filter(|slot| slot.session.is_none())
                .ok_or(Drop::UnknownIndex)?;
            Event::Response(bytes.to_vec(), index, slot.peer, from)
        }
        // It may answer our initiation, or our response, whose index is a session already.
        Message::CookieReply(index) => {
            let slot = plane
                .index()
                .slot(index)
                .cloned()
                .ok_or(Drop::UnknownIndex)?;
            Event::Cookie(bytes.to_vec(), index, slot.peer)
        }
        Message::Data(..) => return Err(Drop::BadType), // those never come here
    };
    if plane.events.push(event) {
        Ok(())
    } else {
        Err(Drop::EventsFull)
    }
}

/// Writes a packet or super-packet: its header and its parts, as they lie in the buffer, by one call.
fn write_to_tun(plane: &Plane, buffer: &[u8], write: &Write) -> io::Result<()> {
    let mut parts = [IoSlice::new(&[]); MOST_PACKETS + 1];
    let mut count = 0;
    let bytes = |span: &Span| {
        buffer
            .get(span.start..)
            .and_then(|rest| rest.get(..span.length))
    };
    let all = std::iter::once(write.header.as_slice()).chain(write.parts.iter().filter_map(bytes));
    for (place, part) in parts.iter_mut().zip(all) {
        *place = IoSlice::new(part);
        count += 1;
    }
    plane.tun.write(parts.get(..count).unwrap_or_default())
}

/// Room for a large aggregate after small ones.
const BUFFER: usize = 2 * AGGREGATE;
/// From this length on what came is a batch by itself.
const LARGE: usize = 16 * 1024;
/// Datagrams of one aggregate: UDP_GRO joins 64, but a forwarded super-packet may have more.
const MOST_DATAGRAMS: usize = 128;
/// Calls of one batch. Neither room runs out by what is dropped at once, such as datagrams without a byte: a flood of them
/// would keep what came before it from the TUN for as long as it lasts.
const MOST_RECEIVES: usize = 128;

#[cfg(test)]
#[path = "inbound_test.rs"]
mod tests;
