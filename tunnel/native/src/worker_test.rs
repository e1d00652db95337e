use super::*;
use crate::events::Event;
use crate::tun::{Offload, Tun};
use crate::udp::Udp;

fn plane() -> (Arc<Plane>, OwnedFd) {
    let (ours, theirs) = sys::packet_pair().unwrap();
    let tun = Tun::adopt(ours, Offload::Auto).unwrap();
    let udp = Udp::open(0, 0, Offload::Auto).unwrap();
    (Arc::new(Plane::new(tun, udp, 1420).unwrap()), theirs)
}

fn faults(plane: &Plane) -> Vec<String> {
    std::iter::from_fn(|| plane.events.take())
        .filter_map(|event| match event {
            Event::Fault(text) => Some(text),
            _ => None,
        })
        .collect()
}

#[test]
fn a_panic_is_a_fault_and_nothing_passes_any_more() {
    let (plane, _kernel) = plane();
    plane.set_running(true);
    guard(&plane, "a worker", || panic!("on purpose"));
    assert!(!plane.is_running());
    assert_eq!(faults(&plane), ["a worker panicked: on purpose"]);
}

#[test]
fn a_tun_that_goes_away_is_a_fault() {
    let (plane, kernel) = plane();
    let workers = Workers::start(&plane).unwrap();
    drop(kernel);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while plane.is_running() && std::time::Instant::now() < end {
        std::thread::yield_now();
    }
    drop(workers);
    assert_eq!(faults(&plane).len(), 1);
}

#[test]
fn workers_end_at_once_when_they_are_told() {
    let (plane, _kernel) = plane();
    let workers = Workers::start(&plane).unwrap();
    let start = std::time::Instant::now();
    drop(workers);
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
    assert!(!plane.is_running());
    assert!(faults(&plane).is_empty());
}
