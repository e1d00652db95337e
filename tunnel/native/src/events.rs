//! What the code above is to be told: a bounded list in order, and one wake when it stops being empty.
//!
//! What anybody can cause is bounded by number (a handshake beyond it is dropped and counted); what only a peer or a timer
//! causes is bounded by the peers, because each has at most one of a kind in the list.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::path::Path;
use crate::peer::Peer;

/// Why a handshake is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A packet waits and no key may send it.
    Staged,
    /// The sending key is older than REKEY_AFTER_TIME and we began it.
    Age,
    /// The sending key has sealed REKEY_AFTER_MESSAGES.
    Messages,
    /// A packet came under a key of ours that is about to end.
    LastMinute,
    /// Data went out and nothing came back.
    NoReply,
}

impl Reason {
    /// Its name in `tunnel/dataplane.ts`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Age => "age",
            Self::Messages => "messages",
            Self::LastMinute => "last-minute",
            Self::NoReply => "no-reply",
        }
    }
}

/// `DataplaneEvent` of `tunnel/dataplane.ts`.
pub enum Event {
    /// A handshake's first message, from somewhere.
    Initiation(Vec<u8>, Path),
    /// A response for an index of a peer.
    Response(Vec<u8>, u32, Arc<Peer>, Path),
    /// A cookie reply for an index of a peer.
    Cookie(Vec<u8>, u32, Arc<Peer>),
    /// A handshake is wanted.
    NeedHandshake(Arc<Peer>, Reason),
    /// `next` is `current` now.
    Confirmed(Arc<Peer>, u32),
    /// The path moved; where to is read when this is drained.
    Roamed(Arc<Peer>),
    /// Every key is wiped.
    Expired(Arc<Peer>),
    /// A worker stopped.
    Fault(String),
}

/// Called when the list stops being empty, from any thread.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// The list.
#[derive(Default)]
pub struct Events {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    queue: VecDeque<Event>,
    /// Handshake messages among them.
    handshakes: usize,
    wake: Option<Arc<Wake>>,
}

impl Events {
    /// Whom to wake.
    pub fn on_wake(&self, wake: Option<Wake>) {
        self.lock().wake = wake.map(Arc::new);
    }

    /// Handshake messages in the list.
    pub fn waiting(&self) -> usize {
        self.lock().handshakes
    }

    /// Adds one; false when it is a handshake too many, or is in the list already.
    pub fn push(&self, event: Event) -> bool {
        let mut list = self.lock();
        if event.is_handshake() {
            if list.handshakes >= MOST_HANDSHAKES {
                return false;
            }
            list.handshakes += 1;
        }
        let was_empty = list.queue.is_empty();
        list.queue.push_back(event);
        let wake = if was_empty { list.wake.clone() } else { None };
        drop(list);
        if let Some(wake) = wake {
            wake();
        }
        true
    }

    /// Takes the oldest.
    pub fn take(&self) -> Option<Event> {
        let mut list = self.lock();
        let event = list.queue.pop_front()?;
        if event.is_handshake() {
            list.handshakes -= 1;
        }
        Some(event)
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    fn is_handshake(&self) -> bool {
        matches!(
            self,
            Self::Initiation(..) | Self::Response(..) | Self::Cookie(..)
        )
    }
}

/// What anybody can put into the list.
const MOST_HANDSHAKES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn initiation() -> Event {
        Event::Initiation(vec![0; 148], Path::to("192.0.2.1:9".parse().unwrap()))
    }

    #[test]
    fn wakes_once_each_time_that_it_stops_being_empty() {
        let (events, woken) = (Events::default(), Arc::new(AtomicUsize::new(0)));
        let counter = woken.clone();
        events.on_wake(Some(Box::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        })));
        for _ in 0..3 {
            assert!(events.push(initiation()));
            assert!(events.push(Event::Fault(String::new())));
            while events.take().is_some() {}
        }
        assert_eq!(woken.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn strangers_fill_only_so_much_of_it() {
        let events = Events::default();
        let taken = (0..1000).filter(|_| events.push(initiation())).count();
        assert_eq!(
            (taken, events.waiting()),
            (MOST_HANDSHAKES, MOST_HANDSHAKES)
        );
        assert!(events.push(Event::Fault(String::new())));
        while events.take().is_some() {}
        assert_eq!(events.waiting(), 0);
    }
}
