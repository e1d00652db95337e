//! What passed and what did not, since start. Each worker has cache lines of its own.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why something was not passed on: `dropReasons` of `tunnel/dataplane.ts`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Drop {
    /// No WireGuard message has this length.
    BadLength,
    /// The first four bytes are no type of WireGuard's.
    BadType,
    /// mac1 does not fit our public key.
    BadMac,
    /// Rationed by the gate.
    UnderLoad,
    /// An index that nobody has.
    UnknownIndex,
    /// The AEAD refused it.
    BadTag,
    /// The counter was seen before or is too old.
    Replayed,
    /// The key is past its time or its messages.
    Expired,
    /// Not a whole IP packet.
    BadPacket,
    /// The inner source is not the peer's.
    SourceNotAllowed,
    /// The inner destination is nobody's.
    NoRoute,
    /// The peer's address is not known.
    NoEndpoint,
    /// More waited than may, or what waited was given up.
    Staged,
    /// The kernel refused the datagram.
    SendFailed,
    /// The kernel refused the packet.
    TunFailed,
    /// Larger than any buffer of ours.
    Truncated,
    /// More handshakes than the code above takes.
    EventsFull,
}

/// How many reasons there are.
pub const DROPS: usize = Drop::EventsFull as usize + 1;

/// Datagrams, inner packets and their bytes, one way.
#[derive(Default)]
#[repr(align(128))]
pub struct Traffic {
    /// UDP datagrams.
    pub datagrams: AtomicU64,
    /// Inner packets.
    pub packets: AtomicU64,
    /// Bytes of inner packets.
    pub bytes: AtomicU64,
    /// Datagrams that shared a system call.
    pub batched: AtomicU64,
    /// System calls that moved datagrams.
    pub calls: AtomicU64,
}

/// All totals.
#[derive(Default)]
pub struct Counters {
    /// UDP to TUN.
    pub received: Traffic,
    /// TUN to UDP.
    pub sent: Traffic,
    /// Cookie replies sent.
    pub cookies: AtomicU64,
    dropped: [AtomicU64; DROPS],
}

impl Counters {
    /// Counts one that was not passed on.
    pub fn drop(&self, reason: Drop) {
        self.drop_many(reason, 1);
    }

    /// Counts `many` that were not passed on.
    pub fn drop_many(&self, reason: Drop, many: usize) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.fetch_add(many as u64, Relaxed);
        }
    }

    /// The totals of the reasons, in their order.
    pub fn dropped(&self) -> [u64; DROPS] {
        self.dropped.each_ref().map(|counter| counter.load(Relaxed))
    }
}

/// Adds to a total.
pub fn add(counter: &AtomicU64, many: usize) {
    counter.fetch_add(many as u64, Relaxed);
}
