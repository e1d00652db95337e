use super::*;
use crate::sys;
use crate::tun::{Offload, Tun};
use crate::udp::Udp;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn empty_datagrams_do_not_keep_a_batch_from_its_end() {
    const FLOOD: usize = 400;
    let (ours, _kernel) = sys::packet_pair().unwrap();
    let tun = Tun::adopt(ours, Offload::Auto).unwrap();
    let plane = Plane::new(tun, Udp::open(0, 0, Offload::Auto).unwrap(), 1420).unwrap();
    let far = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), plane.udp.port);
    for _ in 0..FLOOD {
        far.send_to(&[], to).unwrap();
    }
    let mut inbound = Inbound::new(&plane);
    let mut received = || {
        let came = inbound.receive_batch(&plane, plane.udp.v4());
        (came, plane.counters.received.datagrams.load(Relaxed))
    };
    assert_eq!(received(), (true, MOST_RECEIVES as u64));
    while received().0 {}
    assert_eq!(received(), (false, FLOOD as u64));
}
