//! How many packets wait in the kernel for the TUN's worker, kept to about the same number of bytes.
//!
//! The kernel counts packets, whatever their size, and drops what is too many; its 500 are 32 MB of super-packets, which is
//! 60 ms of waiting at full speed, while 32 are too few small packets to last until the worker's next turn. So the length
//! follows the average of what is read.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::clock::Millis;
use crate::sys;
use crate::tun::TxQueue;

/// What waits at most, in bytes.
const BYTES: u32 = 2 << 20;
/// In packets.
const LEAST: u32 = 32;
/// In packets; and how many there are at first.
pub const MOST: u32 = 512;
/// Two changes are never closer.
const PAUSE: Millis = 100;

/// What the worker has seen, and the length that the interface has.
#[derive(Default)]
pub struct Average {
    /// In sixteenths of a byte.
    size: u32,
    asked: Millis,
}

/// The length that is wanted; 0: as it is.
#[derive(Default)]
pub struct Wanted(AtomicU32);

impl Average {
    /// A packet or super-packet of `length` bytes was read.
    pub fn add(&mut self, length: usize) {
        // An average whose newest packet weighs a sixteenth.
        self.size = self.size - self.size / 16 + length as u32;
    }

    /// The length to ask for, if `current` is far from it.
    pub fn ask(&mut self, current: u32, now: Millis) -> Option<u32> {
        let length = (BYTES / (self.size / 16).max(1)).clamp(LEAST, MOST);
        let far = length >= current * 2 || length * 2 <= current;
        if !far || now.saturating_sub(self.asked) < PAUSE {
            return None;
        }
        self.asked = now;
        Some(length)
    }
}

impl Wanted {
    /// Asks whoever calls `apply`.
    pub fn set(&self, length: u32) {
        self.0.store(length, Relaxed);
    }

    /// Gives the interface the length that is wanted. Not the TUN's worker's work: it waits for the kernel's lock over all
    /// interfaces.
    pub fn apply(&self, queue: &TxQueue) {
        let length = self.0.swap(0, Relaxed);
        if length > 0 && sys::set_queue_length(&queue.name, length).is_ok() {
            queue.length.store(length, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lengths: impl IntoIterator<Item = usize>) -> Average {
        let mut average = Average::default();
        lengths.into_iter().for_each(|length| average.add(length));
        average
    }

    #[test]
    fn super_packets_make_it_short_and_small_packets_long() {
        assert_eq!(after([65_545; 100]).ask(MOST, 1000), Some(LEAST));
        assert_eq!(after([100; 100]).ask(LEAST, 1000), Some(MOST));
        assert_eq!(
            after([65_545; 100].into_iter().chain([100; 100])).ask(LEAST, 1000),
            Some(MOST)
        );
    }

    #[test]
    fn it_is_changed_only_when_it_is_far_off_and_not_at_once_again() {
        assert_eq!(after([65_545; 100]).ask(LEAST, 1000), None);
        let mut average = after([65_545; 100]);
        assert_eq!(average.ask(MOST, 1000), Some(LEAST));
        assert_eq!(average.ask(MOST, 1099), None);
        assert_eq!(average.ask(MOST, 1100), Some(LEAST));
    }
}
