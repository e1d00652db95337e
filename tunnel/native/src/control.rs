//! The calls of `tunnel/dataplane.ts`, as the code above makes them: one at a time, from one thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::allowed_ips::Prefix;
use crate::clock::Millis;
use crate::counters::{Drop, add};
use crate::keypair::{Keypair, Role};
use crate::message::{INITIATION, RESPONSE};
use crate::path::Path;
use crate::peer::Peer;
use crate::plane::Plane;
use crate::primitives::KEY;
use crate::sessions::Gone;

/// One session's keys, as Noise split them. Whoever made it wipes them.
pub struct SessionKeys<'a> {
    /// The peer's index.
    pub remote: u32,
    /// What we seal with.
    pub send: &'a [u8; KEY],
    /// What we open with.
    pub receive: &'a [u8; KEY],
    /// Who began.
    pub role: Role,
}

/// `PeerCounters`. Times are milliseconds ago.
pub struct PeerCounters {
    /// Bytes of authentic datagrams.
    pub received: u64,
    /// Bytes of what we sealed.
    pub sent: u64,
    /// Where it is.
    pub path: Option<Path>,
    /// When anything authentic came last.
    pub since_received: Option<Millis>,
    /// When we sent last.
    pub since_sent: Option<Millis>,
    /// Whether a session can send.
    pub alive: bool,
}

impl Plane {
    /// Adds a peer, or changes its persistent keepalive.
    pub fn put_peer(&self, id: u32, persistent_keepalive: Millis) {
        let peer = self.index_mut().peer_or_new(id);
        let mut state = peer.state();
        state
            .deadlines
            .persist(persistent_keepalive, self.clock.now());
        self.schedule(&peer, &mut state);
    }

    /// Forgets a peer and all that is its.
    pub fn remove_peer(&self, id: u32) {
        let removed = self.index_mut().remove_peer(id);
        let Some(peer) = removed else { return };
        peer.removed.store(true, Ordering::Release);
        let mut state = peer.state();
        state.sessions.clear();
        state.path = None;
        self.counters
            .drop_many(Drop::Staged, state.staged.drain(..).count());
    }

    /// Replaces a peer's prefixes.
    pub fn set_allowed_ips(&self, id: u32, prefixes: Vec<Prefix>) {
        self.index_mut().set_allowed_ips(id, prefixes);
    }

    /// Replaces a peer's path.
    pub fn set_path(&self, id: u32, path: Option<Path>, pinned: bool) {
        let Some(peer) = self.peer(id) else { return };
        let mut state = peer.state();
        state.path = path;
        state.pinned = pinned;
    }

    /// Lets the kernel choose the source again.
    pub fn clear_source(&self, id: u32) {
        let Some(peer) = self.peer(id) else { return };
        let mut state = peer.state();
        state.path = state.path.map(Path::without_source);
    }

    /// A fresh random index for a handshake.
    pub fn allocate_index(&self, id: u32) -> Option<u32> {
        let mut index = self.index_mut();
        let peer = index.peer(id).cloned();
        index.allocate(peer)
    }

    /// Gives up an index that no session uses.
    pub fn free_index(&self, index: u32) {
        self.index_mut().free(index);
    }

    /// Makes an index a session; false when it cannot be one.
    pub fn install_session(&self, id: u32, index: u32, keys: &SessionKeys) -> bool {
        let Some(peer) = self.peer(id) else {
            return false;
        };
        let now = self.clock.now();
        let keypair = Keypair::new(index, keys.remote, keys.role, now, keys.send, keys.receive);
        let Some(keypair) = keypair.map(Arc::new) else {
            return false;
        };
        if !self.index_mut().establish(&peer, &keypair) {
            return false;
        }
        let gone = {
            let mut state = peer.state();
            let gone = state.sessions.install(keypair);
            state.last_role = Some(keys.role);
            state.received_at = Some(now);
            state.deadlines.received(now);
            state.deadlines.derived(now);
            self.schedule(&peer, &mut state);
            gone
        };
        // What the handshake took, which the gate could not yet count as the peer's.
        add(
            &peer.received,
            match keys.role {
                Role::Initiator => RESPONSE,
                Role::Responder => INITIATION,
            },
        );
        self.index_mut().forget(&gone);
        true
    }

    /// Wipes a peer's sessions.
    pub fn wipe_sessions(&self, id: u32) {
        let Some(peer) = self.peer(id) else { return };
        let gone: Gone = {
            let mut state = peer.state();
            state.deadlines.wiped();
            state.sessions.clear()
        };
        self.index_mut().forget(&gone);
    }

    /// What there is of sessions may receive, but sends no more.
    pub fn forbid_sending(&self, id: u32) {
        if let Some(peer) = self.peer(id) {
            peer.state().sessions.forbid_sending();
        }
    }

    /// Sends a handshake message to a peer.
    pub fn send_handshake(&self, id: u32, message: &[u8]) {
        let Some(peer) = self.peer(id) else { return };
        let path = peer.state().path;
        let Some(path) = path else {
            return self.counters.drop(Drop::NoEndpoint);
        };
        let now = self.clock.now();
        if self.send_message(&path, message, now) {
            self.has_sent(&peer, None, message.len(), false, now);
        }
    }

    /// Sends a handshake message back.
    pub fn reply(&self, to: &Path, message: &[u8]) {
        self.send_message(to, message, self.clock.now());
    }

    /// Sends a keepalive, if a session can.
    pub fn keepalive(&self, id: u32) {
        if let Some(peer) = self.peer(id) {
            self.send_keepalive(&peer, self.clock.now());
        }
    }

    /// Sends what waited; how many packets went.
    pub fn flush_staged(&self, id: u32) -> usize {
        self.peer(id)
            .map_or(0, |peer| self.send_staged(&peer, self.clock.now()))
    }

    /// The handshake was given up.
    pub fn give_up(&self, id: u32) {
        let Some(peer) = self.peer(id) else { return };
        let mut state = peer.state();
        self.counters
            .drop_many(Drop::Staged, state.staged.drain(..).count());
        state.deadlines.gave_up(self.clock.now());
        self.schedule(&peer, &mut state);
    }

    /// A peer's totals.
    pub fn peer_counters(&self, id: u32) -> Option<PeerCounters> {
        let peer = self.peer(id)?;
        let now = self.clock.now();
        let state = peer.state();
        Some(PeerCounters {
            received: peer.received.load(Ordering::Relaxed),
            sent: peer.sent.load(Ordering::Relaxed),
            path: state.path,
            since_received: state.received_at.map(|at| now.saturating_sub(at)),
            since_sent: state.sent_at.map(|at| now.saturating_sub(at)),
            alive: state.sessions.sending(now).is_some(),
        })
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Millis) {
        self.clock.advance(by);
        self.timers.wake();
    }

    fn peer(&self, id: u32) -> Option<Arc<Peer>> {
        self.index().peer(id).cloned()
    }
}
