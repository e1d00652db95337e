//! One peer as the packets see it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Millis;
use crate::deadlines::{Deadlines, JITTER};
use crate::keypair::{Keypair, REJECT_AFTER_TIME, Role};
use crate::path::Path;
use crate::sessions::Sessions;

/// Packets that wait for a session; the oldest goes when one more comes (kernel: MAX_STAGED_PACKETS).
pub const MOST_STAGED: usize = 128;

/// A peer. What it does not need while it is silent is not allocated.
pub struct Peer {
    /// Its number.
    pub id: u32,
    /// Bytes of authentic datagrams.
    pub received: AtomicU64,
    /// Bytes of sealed datagrams and of handshakes.
    pub sent: AtomicU64,
    /// It is gone; whoever still has it does nothing.
    pub removed: AtomicBool,
    /// It is in the list of events already, as roamed.
    pub roam_told: AtomicBool,
    /// And as wanting a handshake.
    pub need_told: AtomicBool,
    state: Mutex<State>,
}

/// What changes under one lock.
#[derive(Default)]
pub struct State {
    /// Its keys.
    pub sessions: Sessions,
    /// Where it is.
    pub path: Option<Path>,
    /// Only orders move the path.
    pub pinned: bool,
    /// Packets that wait for a session, oldest first.
    pub staged: VecDeque<Box<[u8]>>,
    /// When something is to be done.
    pub deadlines: Deadlines,
    /// Who began the last session.
    pub last_role: Option<Role>,
    /// When anything authentic came last.
    pub received_at: Option<Millis>,
    /// When anything was sent last.
    pub sent_at: Option<Millis>,
    /// The session of ours about whose last minute it was told.
    pub last_minute_told: Option<u32>,
}

/// What becomes of a packet for a peer.
pub enum Way {
    /// It is sealed with this and goes there.
    Send(Arc<Keypair>, Path),
    /// The same, but others wait that go before it.
    Queue,
    /// No session can send.
    Wait,
    /// Nobody knows where the peer is.
    Nowhere,
}

impl Peer {
    /// A peer without anything.
    pub fn new(id: u32) -> Self {
        Self {
            id,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            roam_told: AtomicBool::new(false),
            need_told: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// The state, for a moment. Nothing that waits or locks tables may be done with it in hand.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is gone.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// How a packet goes to it now.
    pub fn way(&self, now: Millis) -> Way {
        let state = self.state();
        let Some(path) = state.path else {
            return Way::Nowhere;
        };
        match state.sessions.sending(now) {
            Some(_) if !state.staged.is_empty() => Way::Queue,
            Some(keypair) => Way::Send(Arc::clone(keypair), path),
            None => Way::Wait,
        }
    }

    /// What is added to a timer so that two sides do not collide for ever: not a secret, but another each time.
    pub fn jitter(&self, now: Millis) -> Millis {
        let mixed = (now ^ (u64::from(self.id) << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) % (JITTER + 1)
    }
}

impl State {
    /// Puts a packet last; the number that had to go for it.
    pub fn stage(&mut self, packet: Box<[u8]>) -> usize {
        let dropped =
            usize::from(self.staged.len() >= MOST_STAGED && self.staged.pop_front().is_some());
        self.staged.push_back(packet);
        dropped
    }

    /// Moves the path to where an authentic datagram came from, unless it is pinned; whether the remote is another now.
    pub fn follow(&mut self, from: Path) -> bool {
        let moved = self.path.is_none_or(|path| path.remote != from.remote);
        if moved && self.pinned {
            return false;
        }
        self.path = Some(from);
        moved
    }

    /// The kernel refused to send from where a path says, and took another.
    pub fn loosen(&mut self, refused: &Path, taken: Path) {
        if self.path == Some(*refused) {
            self.path = Some(taken);
        }
    }

    /// Whether something came in the last minute of a session that we began; true once.
    pub fn is_in_last_minute(&mut self, now: Millis) -> bool {
        let Some(keypair) = self.sessions.current() else {
            return false;
        };
        if !keypair.is_in_its_last_minute(now) || self.last_minute_told == Some(keypair.index) {
            return false;
        }
        self.last_minute_told = Some(keypair.index);
        true
    }

    /// Whether a persistent keepalive that found no session is to begin one. Where the peer began the last, it will begin the
    /// next too, as long as it is alive: otherwise both ends would fight over every renewal.
    pub fn should_begin(&self, now: Millis) -> bool {
        let silent = self
            .received_at
            .is_none_or(|at| now.saturating_sub(at) >= REJECT_AFTER_TIME);
        self.path.is_some() && (self.last_role != Some(Role::Responder) || silent)
    }
}
