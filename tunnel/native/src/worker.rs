//! The three threads: TUN to UDP, UDP to TUN, and timers. Each works until there is nothing, and then waits for its
//! descriptors or for the end; there is no wait while there is work.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use crate::failure::Failure;
use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::plane::Plane;
use crate::sys;

/// The threads of one data plane. They end when this is dropped.
pub struct Workers {
    plane: Arc<Plane>,
    stop: Arc<OwnedFd>,
    parked: [Arc<AtomicBool>; 3],
    threads: Vec<JoinHandle<()>>,
}

/// How a worker waits.
pub struct Park {
    stop: Arc<OwnedFd>,
    parked: Arc<AtomicBool>,
}

impl Workers {
    /// Starts them.
    pub fn start(plane: &Arc<Plane>) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::call("a worker", &error);
        let mut workers = Self {
            plane: Arc::clone(plane),
            stop: Arc::new(sys::event().map_err(failed)?),
            parked: Default::default(),
            threads: Vec::new(),
        };
        plane.set_running(true);
        let [outbound, inbound, timers] = workers.parked.clone();
        let (mut out, mut inn) = (Outbound::new(), Inbound::new(plane));
        workers
            .spawn("culvert-out", outbound, move |plane, park| {
                out.run(plane, park)
            })
            .map_err(failed)?;
        workers
            .spawn("culvert-in", inbound, move |plane, park| {
                inn.run(plane, park)
            })
            .map_err(failed)?;
        workers
            .spawn("culvert-timers", timers, run_timers)
            .map_err(failed)?;
        Ok(workers)
    }

    /// Whether every worker waits and nothing waits for one: for tests.
    pub fn are_idle(&self) -> bool {
        let parked = || {
            self.parked
                .iter()
                .all(|parked| parked.load(Ordering::SeqCst))
        };
        let v6 = self
            .plane
            .udp
            .v6()
            .map_or(self.plane.tun.as_fd(), AsFd::as_fd);
        let input = [
            self.plane.tun.as_fd(),
            self.plane.udp.v4().as_fd(),
            v6,
            self.plane.timers.as_fd(),
        ];
        let waits = sys::poll(
            input.map(|fd| (fd, sys::READABLE)),
            Some(std::time::Duration::ZERO),
        );
        // Parked before and after: then nobody was at work on what is not to be seen any more.
        let before = parked();
        before && waits.is_ok_and(|waits| !waits.contains(&true)) && parked()
    }

    fn spawn(
        &mut self,
        name: &'static str,
        parked: Arc<AtomicBool>,
        work: impl FnOnce(&Plane, &Park) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let plane = Arc::clone(&self.plane);
        let park = Park {
            stop: Arc::clone(&self.stop),
            parked,
        };
        let thread = Builder::new().name(name.into()).spawn(move || {
            guard(&plane, name, || work(&plane, &park));
            park.parked.store(true, Ordering::SeqCst);
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.plane.set_running(false);
        sys::signal(&self.stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // it cannot have panicked: `guard` caught that
        }
    }
}

impl Park {
    /// Waits until one of the descriptors is readable, or the end.
    pub fn wait<const N: usize>(&self, fds: [BorrowedFd<'_>; N]) -> io::Result<()> {
        let mut list = [(self.stop.as_fd(), sys::READABLE); 4];
        for (place, fd) in list.iter_mut().skip(1).zip(fds) {
            *place = (fd, sys::READABLE); // what is left of the list is `stop` again
        }
        self.parked.store(true, Ordering::SeqCst);
        let result = sys::poll(list, None);
        self.parked.store(false, Ordering::SeqCst);
        result.map(|_| ())
    }
}

/// Runs a worker to its end. A panic or a dead descriptor becomes a fault: everything stops, nothing leaks.
fn guard(plane: &Plane, name: &str, work: impl FnOnce() -> io::Result<()>) {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => plane.fault(format!("{name} stopped: {error}")),
        Err(panic) => plane.fault(format!("{name} panicked: {}", text_of(panic.as_ref()))),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given")
}

fn run_timers(plane: &Plane, park: &Park) -> io::Result<()> {
    while plane.is_running() {
        while let Some((time, peer)) = plane.timers.take_due(&plane.clock) {
            plane.is_due(time, peer);
        }
        if let Some(queue) = &plane.tun.queue {
            plane.queue.apply(queue);
        }
        park.wait([plane.timers.as_fd()])?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "worker_test.rs"]
mod tests;
