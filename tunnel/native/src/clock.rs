//! The data plane's clock: milliseconds of CLOCK_BOOTTIME, which goes on while the machine sleeps (a key must not outlive
//! its 180 seconds in a suspended laptop), plus whatever `advance` added.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys;

/// A time or a span in milliseconds.
pub type Millis = u64;

/// The clock of one data plane.
#[derive(Default)]
pub struct Clock {
    offset: AtomicU64,
}

impl Clock {
    /// Now.
    pub fn now(&self) -> Millis {
        sys::boot_time() + self.offset.load(Ordering::Acquire)
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Millis) {
        self.offset.fetch_add(by, Ordering::AcqRel);
    }

    /// A time of this clock as CLOCK_BOOTTIME has it.
    pub fn to_boot_time(&self, time: Millis) -> Millis {
        time.saturating_sub(self.offset.load(Ordering::Acquire))
    }
}
