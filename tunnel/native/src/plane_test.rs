use super::*;
use crate::allowed_ips::Prefix;
use crate::control::SessionKeys;
use crate::fuzz::Random;
use crate::gate::Settings;
use crate::keypair::Role;
use crate::packet::Address;
use crate::packets::Shape;
use crate::peer::Way;
use crate::primitives::KEY;
use crate::sys;
use crate::tun::Offload;
use crate::vnet::{Gso, VnetHeader};
use crate::worker::Workers;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const OURS: [u8; KEY] = [1; KEY];
const THEIRS: [u8; KEY] = [2; KEY];

/// A running plane with a session, its kernel, and the far end of the session.
struct Scene {
    plane: Arc<Plane>,
    workers: Workers,
    kernel: File,
    far: Udp,
    keypair: Keypair,
}

impl Scene {
    fn new(offload: Offload) -> Self {
        let (ours, kernel) = sys::packet_pair().unwrap();
        let tun = Tun::adopt(ours, offload).unwrap();
        let udp = Udp::open(0, 0, offload).unwrap();
        let far = Udp::open(0, 0, Offload::Auto).unwrap();
        let plane = Arc::new(Plane::new(tun, udp, 1420).unwrap());
        plane.gate().set_identity(&[9; KEY]);
        plane.gate().set(Settings {
            under_load_at: 0,
            per_second: 20.0,
            burst: 5.0,
            silent: false,
        });
        plane.put_peer(7, 0);
        plane.set_allowed_ips(
            7,
            vec![
                Prefix::new(Address::V4(0), 0).unwrap(),
                Prefix::new(Address::V6(0), 0).unwrap(),
            ],
        );
        plane.set_path(7, Some(loopback(far.port)), false);
        let index = plane.allocate_index(7).unwrap();
        let keys = SessionKeys {
            remote: 77,
            send: &OURS,
            receive: &THEIRS,
            role: Role::Initiator,
        };
        assert!(plane.install_session(7, index, &keys));
        let keypair = Keypair::new(77, index, Role::Responder, 0, &THEIRS, &OURS).unwrap();
        Self {
            workers: Workers::start(&plane).unwrap(),
            plane,
            kernel: File::from(kernel),
            far,
            keypair,
        }
    }

    /// A data message of the far end.
    fn seal(&self, packet: &[u8]) -> Vec<u8> {
        let counter = self.keypair.take_counter().unwrap();
        let mut plaintext = packet.to_vec();
        plaintext.resize(packet.len().next_multiple_of(16), 0);
        let tag = self.keypair.seal(counter, &mut plaintext).unwrap();
        [
            data_header(self.keypair.remote, counter).as_slice(),
            &plaintext,
            &tag,
        ]
        .concat()
    }

    fn to_plane(&self, datagrams: &[u8], stride: usize) {
        self.far
            .send(&loopback(self.plane.udp.port), datagrams, stride, 0);
    }

    fn settle(&self) {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !self.workers.are_idle() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_micros(100));
        }
        assert!(self.workers.are_idle());
    }

    fn faults(&self) -> usize {
        std::iter::from_fn(|| self.plane.events.take())
            .filter(|event| matches!(event, Event::Fault(_)))
            .count()
    }
}

fn loopback(port: u16) -> Path {
    Path::to(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
}

fn flip(random: &mut Random, bytes: &mut [u8], times: usize) {
    for _ in 0..times {
        let at = random.below(bytes.len().max(1));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << random.below(8);
        }
    }
}

/// Packets of a few flows, so that some of them are joined.
fn packet(random: &mut Random, sequence: &mut u32) -> Vec<u8> {
    let shape = Shape {
        version: [4, 6][random.below(2)],
        protocol: [6, 17][random.below(2)],
        sequence: *sequence,
        ..Shape::default()
    };
    let payload = random.below(1200);
    *sequence = sequence.wrapping_add(payload as u32);
    let mut packet = shape.packet(&random.bytes(payload));
    let flips = if random.once_in(3) {
        1 + random.below(3)
    } else {
        0
    };
    flip(random, &mut packet, flips);
    packet
}

#[test]
fn nothing_that_comes_in_stops_it() {
    for (seed, offload) in [(1, Offload::Auto), (2, Offload::Off)] {
        let scene = Scene::new(offload);
        let (mut random, mut sequence) = (Random::new(seed), 1);
        for round in 0..1500 {
            let stride = 32 + random.below(1400);
            let mut datagrams = Vec::new();
            for _ in 0..1 + random.below(8) {
                let mut datagram = match random.below(6) {
                    0 => random.bytes(stride),
                    1 => [
                        [1 + random.below(4) as u8, 0, 0, 0].as_slice(),
                        &random.bytes(stride),
                    ]
                    .concat(),
                    _ => scene.seal(&packet(&mut random, &mut sequence)),
                };
                if random.once_in(4) {
                    flip(&mut random, &mut datagram, 1);
                }
                if random.once_in(10) {
                    datagram.truncate(random.below(datagram.len()));
                }
                if random.once_in(2) {
                    scene.to_plane(&datagram, datagram.len().max(1));
                } else {
                    datagram.resize(stride, 0); // one of an aggregate
                    datagrams.extend_from_slice(&datagram);
                }
            }
            scene.to_plane(&datagrams, stride);
            if round % 50 == 0 {
                scene.settle();
                drain(&scene.kernel);
            }
        }
        scene.settle();
        let packets = scene
            .plane
            .counters
            .received
            .packets
            .load(Ordering::Relaxed);
        assert!(packets > 100, "{packets} packets passed");
        assert!(scene.plane.is_running());
        assert_eq!(scene.faults(), 0);
    }
}

#[test]
fn nothing_that_the_kernel_gives_stops_it() {
    let scene = Scene::new(Offload::Auto);
    let (mut random, mut sequence) = (Random::new(3), 1);
    for round in 0..3000 {
        let mut packet = packet(&mut random, &mut sequence);
        let gso = [Gso::None, Gso::Tcp4(100), Gso::Tcp6(100), Gso::Udp(100)][random.below(4)];
        let transport = if packet[0] >> 4 == 4 { 20 } else { 40 };
        let header = VnetHeader {
            gso,
            checksum: (!random.once_in(4)).then_some((transport, [16, 6][random.below(2)])),
        };
        let mut header = header.encode(random.next() as u16);
        if random.once_in(3) {
            flip(&mut random, &mut header, 2);
        }
        if random.once_in(10) {
            packet = random.bytes(100);
        }
        let mut message = [header.as_slice(), &packet].concat();
        if random.once_in(20) {
            message.truncate(random.below(40).max(1)); // nothing at all would be the end of it
        }
        while (&scene.kernel).write(&message).is_err() {
            std::thread::sleep(Duration::from_micros(100));
        }
        if round % 50 == 0 {
            scene.settle();
        }
    }
    scene.settle();
    let sent = scene.plane.counters.sent.packets.load(Ordering::Relaxed);
    assert!(sent > 100, "{sent} packets passed");
    assert!(scene.plane.is_running());
    assert_eq!(scene.faults(), 0);
}

#[test]
fn what_is_full_leaves_before_the_burst_ends() {
    let scene = Scene::new(Offload::Auto);
    let (plane, now) = (&scene.plane, scene.plane.clock.now());
    let peer = plane.index().peer(7).cloned().unwrap();
    let Way::Send(keypair, path) = peer.way(now) else {
        panic!("there is a session");
    };
    let target = Target {
        peer,
        keypair,
        path,
    };
    let mut batch = Batch::new(1);
    let mut left_after = |lengths: &[usize]| {
        for length in lengths {
            assert!(batch.seal(plane, &target, *length, now, |_| true));
        }
        batch.flush_full(plane, now);
        plane.counters.sent.datagrams.load(Ordering::Relaxed)
    };
    assert_eq!(left_after(&[1400, 1400]), 0);
    assert_eq!(left_after(&[100]), 3); // nothing may follow a shorter one
    assert_eq!(left_after(&[1420; 44]), 3);
    assert_eq!(left_after(&[1420]), 3 + 45); // as many as one send takes
    assert_eq!(left_after(&[10; 64]), 3 + 45 + 64);
}

fn drain(kernel: &File) {
    let mut buffer = vec![0; 70_000];
    while { kernel }.read(&mut buffer).is_ok() {}
}
