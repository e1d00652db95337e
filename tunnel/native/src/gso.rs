//! Whether UDP_SEGMENT is to be used on a socket: from the kernel's version, and from what it refuses at run time.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::clock::Millis;
use crate::sys;
use crate::tun::Offload;

/// Whether UDP_SEGMENT is used on a socket, learned from what the kernel refuses.
pub struct Gso {
    /// Off until then.
    until: AtomicU64,
    /// Refusals since the last time that it worked.
    strikes: AtomicU32,
}

impl Gso {
    /// As far as the kernel's version lets it.
    pub fn new(offload: Offload) -> Self {
        let usable = offload == Offload::Auto && !sys::kernel_version().is_some_and(cuts_wrong);
        let until = if usable { 0 } else { FOR_EVER };
        Self {
            until: AtomicU64::new(until),
            strikes: AtomicU32::new(0),
        }
    }

    /// Whether datagrams may leave together now.
    pub fn is_on(&self, now: Millis) -> bool {
        now >= self.until.load(Relaxed)
    }

    /// Datagrams left together.
    pub fn worked(&self) {
        if self.strikes.load(Relaxed) != 0 {
            self.strikes.store(0, Relaxed);
        }
    }

    /// These datagrams left one by one, but not together because of `error`.
    pub fn refused(&self, error: &io::Error, now: Millis) {
        const STRIKES: u32 = 8;
        const PAUSE: Millis = 60_000;
        // EIO: the device that this leaves by cannot calculate checksums. Else a segment is above the path's MTU, or a
        // driver is odd: perhaps only this time.
        let strikes = self.strikes.fetch_add(1, Relaxed) + 1;
        if error.raw_os_error() == Some(libc::EIO) || strikes >= STRIKES {
            self.strikes.store(0, Relaxed);
            self.until.store(now + PAUSE, Relaxed);
        }
    }
}

/// Whether an error may be about sending datagrams together.
pub fn is_about_gso(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)
    )
}

/// Linux 7.0 to 7.1.4 write wrong headers and checksums into what UDP_SEGMENT cuts (fixed by 78effd8, 5f17ae0).
fn cuts_wrong(kernel: (u32, u32, u32)) -> bool {
    ((7, 0, 0)..(7, 1, 5)).contains(&kernel)
}

const FOR_EVER: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gso_pauses_at_once_without_checksums_and_else_after_eight_refusals_in_a_row() {
        let error = io::Error::from_raw_os_error;
        let on = || Gso {
            until: AtomicU64::new(0),
            strikes: AtomicU32::new(0),
        };
        let gso = on();
        gso.refused(&error(libc::EIO), 1000);
        assert_eq!((gso.is_on(1001), gso.is_on(61_000)), (false, true));

        let gso = on();
        (0..7).for_each(|_| gso.refused(&error(libc::EINVAL), 1000));
        gso.worked();
        (0..7).for_each(|_| gso.refused(&error(libc::EMSGSIZE), 1000));
        assert!(gso.is_on(1000));
        gso.refused(&error(libc::EINVAL), 1000);
        assert!(!gso.is_on(1000));
        assert!(!Gso::new(Offload::Off).is_on(u64::MAX - 1));
    }

    #[test]
    fn kernels_that_cut_wrong_are_known() {
        let kernels = [(6, 18, 44), (7, 0, 0), (7, 1, 4), (7, 1, 5), (7, 2, 0)];
        assert_eq!(kernels.map(cuts_wrong), [false, true, true, false, false]);
    }
}
