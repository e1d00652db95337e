//! The data plane: what the workers share, and what every packet does to its peer.
//!
//! ```text
//! TUN ─▶ outbound ─▶ index (route) ─▶ batch (seal) ─▶ udp
//! udp ─▶ inbound ─▶ message ─▶ index (slot) ─▶ open, replay ─▶ source ─▶ coalesce ─▶ TUN
//!                            └▶ gate ─▶ events ─▶ TypeScript ─▶ control
//! ```
//! Locks are taken in this order, each for a moment: index, a peer's state, timers or events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::batch::{Batch, Target, data_header};
use crate::clock::{Clock, Millis};
use crate::counters::{Counters, Drop, add};
use crate::events::{Event, Events, Reason};
use crate::failure::Failure;
use crate::gate::Gate;
use crate::index::Index;
use crate::keypair::Keypair;
use crate::message::KEEPALIVE;
use crate::path::Path;
use crate::peer::{Peer, State};
use crate::queue::Wanted;
use crate::timers::Timers;
use crate::tun::Tun;
use crate::udp::Udp;

/// Everything that the workers and the calls from TypeScript share.
pub struct Plane {
    /// The inside.
    pub tun: Tun,
    /// The outside.
    pub udp: Udp,
    /// Of the TUN, in bytes: padding never exceeds it.
    pub mtu: usize,
    /// What time it is.
    pub clock: Clock,
    /// What passed.
    pub counters: Counters,
    /// What is to be told.
    pub events: Events,
    /// Who is to be looked at.
    pub timers: Timers,
    /// How long the TUN's queue should be.
    pub queue: Wanted,
    /// Between `start` and `stop`, and without a fault.
    running: AtomicBool,
    index: RwLock<Index>,
    gate: Mutex<Gate>,
    /// For packets that are not sent by the TUN's worker.
    aside: Mutex<Batch>,
}

impl Plane {
    /// A data plane that does not carry yet.
    pub fn new(tun: Tun, udp: Udp, mtu: usize) -> Result<Self, Failure> {
        Ok(Self {
            tun,
            udp,
            mtu,
            clock: Clock::default(),
            counters: Counters::default(),
            events: Events::default(),
            timers: Timers::new().map_err(|error| Failure::call("a timer", &error))?,
            queue: Wanted::default(),
            running: AtomicBool::new(false),
            index: RwLock::default(),
            gate: Mutex::default(),
            aside: Mutex::new(Batch::new(1)),
        })
    }

    /// Whether packets pass.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Lets packets pass, or not.
    pub fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Release);
    }

    /// Stops everything for good: the TUN stays and leads nowhere.
    pub fn fault(&self, message: String) {
        self.set_running(false);
        self.events.push(Event::Fault(message));
    }

    /// For look-ups.
    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For changes.
    pub fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands before handshakes.
    pub fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Outgoing.

    /// Sends what a batch has sealed for a peer: datagrams of `stride` bytes, in which there are `packets` of `bytes` bytes.
    pub fn send_sealed(
        &self,
        target: &Target,
        datagrams: &[u8],
        stride: usize,
        packets: usize,
        bytes: usize,
        now: Millis,
    ) {
        if !self.is_running() {
            return;
        }
        let count = datagrams.len().div_ceil(stride.max(1));
        let sent = self.udp.send(&target.path, datagrams, stride, now);
        let counters = &self.counters.sent;
        add(&counters.calls, sent.calls);
        add(&counters.datagrams, sent.datagrams);
        add(&counters.batched, sent.batched);
        if sent.datagrams < count {
            self.counters
                .drop_many(Drop::SendFailed, count - sent.datagrams);
        }
        if let Some(loosened) = sent.loosened {
            target.peer.state().loosen(&target.path, loosened);
        }
        if sent.datagrams == 0 {
            return;
        }
        // The kernel refuses all or, of single datagrams, hardly ever some: then the bytes are too many by a little.
        add(&counters.packets, packets.min(sent.datagrams));
        add(&counters.bytes, bytes);
        self.has_sent(
            &target.peer,
            Some(&target.keypair),
            datagrams.len(),
            packets > 0,
            now,
        );
    }

    /// Sends a handshake message, or anything else that is no data.
    pub fn send_message(&self, path: &Path, message: &[u8], now: Millis) -> bool {
        if !self.is_running() {
            return false;
        }
        let sent = self.udp.send(path, message, message.len(), now);
        add(&self.counters.sent.calls, sent.calls);
        add(&self.counters.sent.datagrams, sent.datagrams);
        if sent.datagrams == 0 {
            self.counters.drop(Drop::SendFailed);
        }
        sent.datagrams > 0
    }

    /// Sends a cookie to a stranger, if there is room for it now.
    pub fn send_cookie(&self, path: &Path, reply: &[u8]) {
        if !self.is_running() {
            return;
        }
        let sent = self.udp.offer(path, reply);
        add(&self.counters.sent.calls, sent.calls);
        add(&self.counters.sent.datagrams, sent.datagrams);
        add(&self.counters.cookies, sent.datagrams);
        if sent.datagrams == 0 {
            self.counters.drop(Drop::SendFailed);
        }
    }

    /// Seals an empty message, if a session can send; whether one could.
    pub fn send_keepalive(&self, peer: &Arc<Peer>, now: Millis) -> bool {
        let (keypair, path) = {
            let state = peer.state();
            match state.sessions.sending(now) {
                Some(keypair) => (Arc::clone(keypair), state.path),
                None => return false,
            }
        };
        let Some(path) = path else {
            self.counters.drop(Drop::NoEndpoint);
            return true;
        };
        let Some(counter) = keypair.take_counter() else {
            return false;
        };
        let Some(tag) = keypair.seal(counter, &mut []) else {
            return false;
        };
        let mut message = [0; KEEPALIVE];
        let (header, rest) = message.split_at_mut(KEEPALIVE - tag.len());
        header.copy_from_slice(&data_header(keypair.remote, counter));
        rest.copy_from_slice(&tag);
        if self.send_message(&path, &message, now) {
            self.has_sent(peer, Some(&keypair), message.len(), false, now);
        }
        true
    }

    /// Seals what waited for a session, oldest first, into the batch; how many.
    pub fn seal_staged(&self, peer: &Arc<Peer>, batch: &mut Batch, now: Millis) -> usize {
        let mut sealed = 0;
        loop {
            let (target, packet) = {
                let mut state = peer.state();
                let Some(keypair) = state.sessions.sending(now).cloned() else {
                    break;
                };
                let Some(packet) = state.staged.pop_front() else {
                    break;
                };
                let Some(path) = state.path else {
                    self.counters.drop(Drop::NoEndpoint);
                    continue;
                };
                let peer = Arc::clone(peer);
                (
                    Target {
                        peer,
                        keypair,
                        path,
                    },
                    packet,
                )
            };
            let fill = |out: &mut [u8]| {
                out.copy_from_slice(&packet);
                true
            };
            if batch.seal(self, &target, packet.len(), now, fill) {
                sealed += 1;
            } else {
                self.counters.drop(Drop::Expired);
            }
        }
        sealed
    }

    /// The same, and sends it at once.
    pub fn send_staged(&self, peer: &Arc<Peer>, now: Millis) -> usize {
        let mut batch = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = self.seal_staged(peer, &mut batch, now);
        batch.flush(self, now);
        sealed
    }

    /// What having sent something does to a peer's timers and keys.
    pub fn has_sent(
        &self,
        peer: &Arc<Peer>,
        keypair: Option<&Keypair>,
        bytes: usize,
        has_data: bool,
        now: Millis,
    ) {
        add(&peer.sent, bytes);
        let mut state = peer.state();
        state.sent_at = Some(now);
        state.deadlines.sent(now);
        if has_data {
            state.deadlines.data_sent(now, peer.jitter(now));
        }
        let worn = keypair.and_then(|keypair| keypair.worn(now));
        self.finish(peer, state, worn, now);
    }

    // Incoming.

    /// What authentic datagrams do to a peer: path, timers, confirmation of a waiting session. `data` of them were not empty.
    pub fn has_received(
        &self,
        peer: &Arc<Peer>,
        keypair: &Arc<Keypair>,
        bytes: usize,
        data: usize,
        from: Path,
        now: Millis,
    ) {
        add(&peer.received, bytes);
        let mut state = peer.state();
        let roamed = state.follow(from);
        state.received_at = Some(now);
        state.deadlines.received(now);
        if data > 0 {
            state.deadlines.data_received(data, now);
        }
        let gone = state.sessions.confirm(keypair);
        if gone.is_some() {
            state.deadlines.settled();
        }
        let last_minute = state.is_in_last_minute(now);
        self.finish(peer, state, last_minute.then_some(Reason::LastMinute), now);
        if roamed && !peer.roam_told.swap(true, Ordering::AcqRel) {
            self.events.push(Event::Roamed(Arc::clone(peer)));
        }
        if let Some(gone) = gone {
            self.index_mut().forget(&gone);
            self.events
                .push(Event::Confirmed(Arc::clone(peer), keypair.index));
            self.send_staged(peer, now);
        }
    }

    // Timers.

    /// An entry of `Timers` came due.
    pub fn is_due(&self, time: Millis, id: u32) {
        let Some(peer) = self.index().peer(id).cloned() else {
            return;
        };
        let now = self.clock.now();
        let (due, gone) = {
            let mut state = peer.state();
            if !state.deadlines.is_entry(time) {
                return;
            }
            let due = state.deadlines.take_due(now);
            (due, due.wipe.then(|| state.sessions.clear()))
        };
        if let Some(gone) = gone {
            self.index_mut().forget(&gone);
            self.events.push(Event::Expired(Arc::clone(&peer)));
        }
        if due.reply {
            self.ask(&peer, Reason::NoReply, now);
        }
        if due.keepalive {
            self.send_keepalive(&peer, now);
        }
        if due.another {
            peer.state().deadlines.data_received(1, now);
        }
        if due.persistent && !self.send_keepalive(&peer, now) && peer.state().should_begin(now) {
            self.ask(&peer, Reason::Staged, now);
        }
        if let Some(reason) = due.ask {
            self.ask(&peer, reason, now);
        }
        self.schedule(&peer, &mut peer.state());
    }

    /// A handshake is wanted.
    pub fn ask(&self, peer: &Arc<Peer>, reason: Reason, now: Millis) {
        self.finish(peer, peer.state(), Some(reason), now);
    }

    /// Puts a peer into `Timers`, if it is not there for its earliest deadline.
    pub fn schedule(&self, peer: &Peer, state: &mut State) {
        if let Some(time) = state.deadlines.take_entry() {
            self.timers.add(time, peer.id, &self.clock);
        }
    }

    /// Ends a change of a peer's state: asks for a handshake if one is wanted, and lets go.
    fn finish(
        &self,
        peer: &Arc<Peer>,
        mut state: MutexGuard<State>,
        wanted: Option<Reason>,
        now: Millis,
    ) {
        let asks = wanted.filter(|reason| state.deadlines.ask(*reason, now));
        self.schedule(peer, &mut state);
        drop(state);
        if let Some(reason) = asks
            && !peer.need_told.swap(true, Ordering::AcqRel)
        {
            self.events
                .push(Event::NeedHandshake(Arc::clone(peer), reason));
        }
    }
}

#[cfg(test)]
#[path = "plane_test.rs"]
mod tests;
