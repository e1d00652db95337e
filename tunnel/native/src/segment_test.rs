use super::*;
use crate::fuzz::Random;
use crate::packets::{Shape, is_valid};

const FLAGS: u8 = 0x10 | PSH | FIN;

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for version in [4, 6] {
        for protocol in [TCP, UDP] {
            for options in [0, 12, 40] {
                shapes.push(Shape {
                    version,
                    protocol,
                    options,
                    flags: FLAGS,
                    sequence: u32::MAX - 5000,
                    id: 65_530,
                    ..Shape::default()
                });
            }
        }
    }
    shapes
}

fn header(shape: &Shape, size: u16) -> VnetHeader {
    let (gso, offset) = match (shape.protocol, shape.version) {
        (TCP, 4) => (Gso::Tcp4(size), 16),
        (TCP, _) => (Gso::Tcp6(size), 16),
        _ => (Gso::Udp(size), 6),
    };
    VnetHeader {
        gso,
        checksum: Some((shape.transport() as u16, offset)),
    }
}

fn cut(header: VnetHeader, packet: &mut [u8]) -> Vec<Vec<u8>> {
    let segments = Segments::of(header, packet).unwrap();
    (0..segments.count())
        .map(|at| {
            let mut out = vec![0xaa; segments.length(at)];
            assert!(segments.write(at, &mut out));
            out
        })
        .collect()
}

#[test]
fn each_segment_is_the_packet_that_would_have_been_sent() {
    let mut random = Random::new(1);
    for shape in shapes() {
        for (size, total) in [
            (1000, 1000),
            (1000, 1001),
            (1368, 40_000),
            (1, 300),
            (536, 5360),
        ] {
            let payload = random.bytes(total);
            let mut packet = shape.packet(&payload);
            let expected: Vec<Vec<u8>> = payload
                .chunks(size)
                .enumerate()
                .map(|(at, part)| {
                    let is_last = (at + 1) * size >= total;
                    let segment = Shape {
                        id: shape.id.wrapping_add(at as u16),
                        sequence: shape.sequence.wrapping_add((at * size) as u32),
                        flags: if is_last { FLAGS } else { 0x10 },
                        ..shape
                    };
                    segment.packet(part)
                })
                .collect();
            let segments = cut(header(&shape, size as u16), &mut packet);
            assert!(segments.iter().all(|segment| is_valid(segment)));
            assert_eq!(
                segments, expected,
                "{shape:?}, {total} bytes in segments of {size}"
            );
        }
    }
}

#[test]
fn only_the_first_segment_says_that_the_window_was_reduced() {
    let shape = Shape {
        flags: 0x10 | CWR,
        ..Shape::default()
    };
    let flags: Vec<u8> = cut(header(&shape, 10), &mut shape.packet(&[0; 30]))
        .iter()
        .map(|segment| segment[20 + 13])
        .collect();
    assert_eq!(flags, [0x10 | CWR, 0x10, 0x10]);
}

#[test]
fn a_whole_packet_passes_as_it_is() {
    let packet = Shape::default().packet(b"payload");
    let plain = VnetHeader {
        gso: Gso::None,
        checksum: None,
    };
    assert_eq!(cut(plain, &mut packet.clone()), [packet]);
}

#[test]
fn a_checksum_left_to_the_hardware_is_completed() {
    for shape in shapes() {
        let packet = shape.packet(b"payload");
        let (transport, at) = (
            shape.transport(),
            if shape.protocol == TCP { 16 } else { 6 },
        );
        let addresses = if shape.version == 4 { 12..20 } else { 8..40 };
        let partial =
            pseudo_header(&packet[addresses], shape.protocol, packet.len() - transport).folded();
        let mut given = packet.clone();
        given[transport + at..transport + at + 2].copy_from_slice(&partial);
        let header = VnetHeader {
            gso: Gso::None,
            checksum: Some((transport as u16, at as u16)),
        };
        assert_eq!(cut(header, &mut given), [packet]);
    }
}

#[test]
fn refuses_what_the_packet_itself_denies() {
    let shape = Shape::default();
    let good = header(&shape, 100);
    let packet = shape.packet(&[0; 300]);
    let with = |at: usize, value: u8| {
        let mut packet = packet.clone();
        packet[at] = value;
        packet
    };
    let start = |start| VnetHeader {
        checksum: Some((start, 16)),
        ..good
    };
    let cases: Vec<(&str, VnetHeader, Vec<u8>)> = vec![
        ("IPv6 in an IPv4 super-packet", good, with(0, 0x65)),
        ("options that were not counted", good, with(0, 0x46)),
        ("a TCP header of 16 bytes", good, with(32, 0x40)),
        (
            "a TCP header without a payload",
            good,
            packet[..52].to_vec(),
        ),
        ("a cut TCP header", good, packet[..30].to_vec()),
        ("segments of nothing", header(&shape, 0), packet.clone()),
        (
            "a segment that is no IP packet any more",
            header(&shape, 65_500),
            packet.clone(),
        ),
        (
            "a transport header inside the IP header",
            start(8),
            packet.clone(),
        ),
        (
            "a transport header past the end",
            start(60_000),
            packet.clone(),
        ),
        ("nothing", good, Vec::new()),
        (
            "no checksum to complete",
            VnetHeader {
                checksum: None,
                ..good
            },
            packet.clone(),
        ),
    ];
    for (name, header, mut packet) in cases {
        assert!(Segments::of(header, &mut packet).is_err(), "{name}");
    }
}

#[test]
fn takes_any_header_and_any_bytes() {
    let mut random = Random::new(6);
    for _ in 0..60_000 {
        let shape = shapes()[random.below(12)];
        let length = random.below(200);
        let mut packet = match random.below(3) {
            0 => random.bytes(length),
            _ => shape.packet(&random.bytes(length)),
        };
        for _ in 0..random.below(4) {
            let at = random.below(packet.len().max(1));
            if let Some(byte) = packet.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        let mut bytes = header(&shape, random.below(100) as u16).encode(random.next() as u16);
        if random.once_in(2) {
            bytes[random.below(10)] = random.next() as u8;
        }
        let Some(header) = VnetHeader::parse(&bytes) else {
            continue;
        };
        let Ok(segments) = Segments::of(header, &mut packet) else {
            continue;
        };
        let mut total = 0;
        for at in 0..segments.count() {
            let mut out = vec![0; segments.length(at)];
            assert!(out.len() <= MAX_PACKET);
            if segments.write(at, &mut out) {
                total += 1;
            }
        }
        assert!(total <= segments.count());
        assert!(!segments.write(0, &mut [0; 1]) || segments.length(0) == 1);
    }
}
