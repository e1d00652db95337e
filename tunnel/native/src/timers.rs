//! Who is to be looked at next, and one thread that sleeps until exactly then: no wake-up while nothing is due.
//!
//! A peer's own deadlines change with every packet; here it has one entry, for the earliest of them when it was put in. A
//! deadline that moved back is found out when the entry comes due, and put in again. So a packet touches this only when
//! its peer had nothing due earlier.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, Millis};
use crate::sys;

/// The entries and the timer of the kernel's.
pub struct Timers {
    entries: Mutex<BinaryHeap<Reverse<(Millis, u32)>>>,
    fd: OwnedFd,
}

impl Timers {
    /// With nothing due.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            entries: Mutex::default(),
            fd: sys::timer()?,
        })
    }

    /// Has a peer looked at, at `time` of the clock.
    pub fn add(&self, time: Millis, peer: u32, clock: &Clock) {
        let mut entries = self.lock();
        let is_first = entries
            .peek()
            .is_none_or(|Reverse((first, _))| time < *first);
        entries.push(Reverse((time, peer)));
        if is_first {
            sys::set_timer(&self.fd, Some(clock.to_boot_time(time)));
        }
    }

    /// Takes an entry that is due. When there is none, the kernel's timer is set to the next.
    pub fn take_due(&self, clock: &Clock) -> Option<(Millis, u32)> {
        let mut entries = self.lock();
        let first = entries.peek().map(|Reverse((first, _))| *first);
        if first.is_some_and(|first| first <= clock.now()) {
            return entries.pop().map(|Reverse(entry)| entry);
        }
        sys::set_timer(&self.fd, first.map(|first| clock.to_boot_time(first)));
        None
    }

    /// Looks again at what is due: the clock has jumped.
    pub fn wake(&self) {
        let _entries = self.lock(); // or `take_due` could set it to what it read before the jump
        sys::set_timer(&self.fd, Some(0));
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<(Millis, u32)>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Timers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_is_due_in_order_and_nothing_else() {
        let (timers, clock) = (Timers::new().unwrap(), Clock::default());
        let now = clock.now();
        timers.add(now + 20_000, 2, &clock);
        timers.add(now + 10_000, 1, &clock);
        timers.add(now + 30_000, 3, &clock);
        assert_eq!(timers.take_due(&clock), None);
        clock.advance(20_000);
        let due: Vec<u32> = std::iter::from_fn(|| timers.take_due(&clock))
            .map(|(_, peer)| peer)
            .collect();
        assert_eq!(due, [1, 2]);
    }

    #[test]
    fn wakes_at_the_earliest() {
        let (timers, clock) = (Timers::new().unwrap(), Clock::default());
        let is_readable = |wait: u64| {
            let wait = std::time::Duration::from_millis(wait);
            sys::poll([(timers.as_fd(), sys::READABLE)], Some(wait)).unwrap()[0]
        };
        timers.add(clock.now() + 60_000, 1, &clock);
        assert!(!is_readable(0));
        timers.add(clock.now() + 20, 2, &clock);
        assert!(is_readable(5_000));
        while timers.take_due(&clock).is_some() {}
        assert!(!is_readable(0));
    }
}
