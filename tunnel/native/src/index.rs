//! Who is who: peers by number, sessions and handshakes by local index, prefixes by length. One lock is over all of it;
//! the workers hold it for a look-up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::allowed_ips::{AllowedIps, Mixer, Prefix};
use crate::keypair::Keypair;
use crate::packet::Address;
use crate::peer::Peer;
use crate::primitives::random;
use crate::sessions::Gone;

type Map<V> = HashMap<u32, V, BuildHasherDefault<Mixer>>;

/// All of it.
#[derive(Default)]
pub struct Index {
    peers: Map<Known>,
    slots: Map<Slot>,
    allowed: AllowedIps,
}

struct Known {
    peer: Arc<Peer>,
    /// Its prefixes, and perhaps some that another peer has taken since.
    prefixes: Vec<Prefix>,
}

/// What a local index stands for.
#[derive(Clone)]
pub struct Slot {
    /// Who allocated it.
    pub peer: Arc<Peer>,
    /// The session; None: a handshake.
    pub session: Option<Arc<Keypair>>,
}

impl Index {
    /// A peer by its number.
    pub fn peer(&self, id: u32) -> Option<&Arc<Peer>> {
        self.peers.get(&id).map(|known| &known.peer)
    }

    /// A peer by its number, made now if there is none.
    pub fn peer_or_new(&mut self, id: u32) -> Arc<Peer> {
        let known = self.peers.entry(id).or_insert_with(|| Known {
            peer: Arc::new(Peer::new(id)),
            prefixes: Vec::new(),
        });
        Arc::clone(&known.peer)
    }

    /// Takes a peer out, with its prefixes and indices.
    pub fn remove_peer(&mut self, id: u32) -> Option<Arc<Peer>> {
        let known = self.peers.remove(&id)?;
        for prefix in known.prefixes {
            self.allowed.remove(prefix, id);
        }
        self.slots
            .retain(|_, slot| !Arc::ptr_eq(&slot.peer, &known.peer));
        Some(known.peer)
    }

    /// Every peer.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.values().map(|known| &known.peer)
    }

    /// Replaces a peer's prefixes, taking those that others have.
    pub fn set_allowed_ips(&mut self, id: u32, prefixes: Vec<Prefix>) {
        let Some(known) = self.peers.get_mut(&id) else {
            return;
        };
        for prefix in &known.prefixes {
            self.allowed.remove(*prefix, id);
        }
        for prefix in &prefixes {
            self.allowed.insert(*prefix, id);
        }
        known.prefixes = prefixes;
    }

    /// The number of the peer that an inner address belongs to.
    pub fn owner(&self, address: Address) -> Option<u32> {
        self.allowed.lookup(address)
    }

    /// The peer that an inner address belongs to.
    pub fn route(&self, address: Address) -> Option<Arc<Peer>> {
        self.peer(self.owner(address)?).map(Arc::clone)
    }

    /// What an index stands for.
    pub fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(&index)
    }

    /// A fresh random index; it is the peer's if there is one. None without randomness.
    pub fn allocate(&mut self, peer: Option<Arc<Peer>>) -> Option<u32> {
        loop {
            let mut bytes = [0; 4];
            if !random(&mut bytes) {
                return None;
            }
            let index = u32::from_ne_bytes(bytes);
            if let Entry::Vacant(place) = self.slots.entry(index) {
                if let Some(peer) = peer {
                    place.insert(Slot {
                        peer,
                        session: None,
                    });
                }
                return Some(index);
            }
        }
    }

    /// Makes a peer's handshake a session; false when there is no such handshake.
    pub fn establish(&mut self, peer: &Arc<Peer>, keypair: &Arc<Keypair>) -> bool {
        match self.slots.get_mut(&keypair.index) {
            Some(slot) if slot.session.is_none() && Arc::ptr_eq(&slot.peer, peer) => {
                slot.session = Some(Arc::clone(keypair));
                true
            }
            _ => false,
        }
    }

    /// Gives up an index that no session uses.
    pub fn free(&mut self, index: u32) {
        if self
            .slots
            .get(&index)
            .is_some_and(|slot| slot.session.is_none())
        {
            self.slots.remove(&index);
        }
    }

    /// Gives up the indices of sessions that are gone.
    pub fn forget(&mut self, gone: &Gone) {
        for keypair in gone.iter().flatten() {
            self.slots.remove(&keypair.index);
        }
    }
}
