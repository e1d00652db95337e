use super::*;
use crate::flow::TUNNEL_PORTS;
use crate::fuzz::Random;
use crate::packets::{self, Shape};
use crate::segment::Segments;

const ALL: Joins = Joins {
    tcp: true,
    udp: true,
};

/// One write as the kernel would see it.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    header: VnetHeader,
    packet: Vec<u8>,
}

/// Joins packets and gives every write, `accept` standing for the kernel.
fn write_all(
    joins: Joins,
    packets: &[Vec<u8>],
    mut accept: impl FnMut(&Written) -> bool,
) -> Vec<Written> {
    let mut coalescer = Coalescer::new(joins);
    let mut buffer: Vec<u8> = Vec::new();
    for packet in packets {
        let start = buffer.len() + 16; // where a data message's header was
        buffer.resize(start, 0);
        buffer.extend_from_slice(packet);
        let length = packet.len();
        coalescer.push(&buffer, Span { start, length });
    }
    let mut writes = Vec::new();
    coalescer.flush(&mut buffer, |buffer, write| {
        let packet = write
            .parts
            .iter()
            .flat_map(|span| buffer[span.start..][..span.length].to_vec())
            .collect();
        let header = VnetHeader::parse(&write.header).unwrap();
        let written = Written { header, packet };
        let accepted = accept(&written);
        if accepted {
            writes.push(written);
        }
        accepted
    });
    assert_eq!(coalescer.room(), MOST_PACKETS);
    writes
}

/// What the kernel makes of a write.
fn cut(written: &Written) -> Vec<Vec<u8>> {
    let mut packet = written.packet.clone();
    let segments = Segments::of(written.header, &mut packet).unwrap();
    (0..segments.count())
        .map(|at| {
            let mut out = vec![0; segments.length(at)];
            assert!(segments.write(at, &mut out));
            out
        })
        .collect()
}

/// TCP segments in sequence, with payloads of these lengths.
fn flow(shape: Shape, lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut next = Shape { ..shape };
    lengths
        .iter()
        .map(|&length| {
            let packet = next.packet(&vec![length as u8; length]);
            next.sequence = next.sequence.wrapping_add(length as u32);
            next.id = next.id.wrapping_add(1);
            packet
        })
        .collect()
}

fn sizes(packets: &[Vec<u8>]) -> Vec<usize> {
    write_all(ALL, packets, |_| true)
        .iter()
        .map(|written| cut(written).len())
        .collect()
}

#[test]
fn what_is_joined_cuts_back_into_what_came() {
    for version in [4, 6] {
        for protocol in [TCP, UDP] {
            let shape = Shape {
                version,
                protocol,
                sequence: u32::MAX - 3000,
                ..Shape::default()
            };
            let packets = flow(shape, &[1000, 1000, 1000, 1000, 400]);
            let writes = write_all(ALL, &packets, |_| true);
            assert_eq!(writes.len(), 1);
            assert_eq!(
                cut(&writes[0]),
                packets,
                "version {version}, protocol {protocol}"
            );
        }
    }
}

#[test]
fn nothing_follows_a_short_segment_or_a_push() {
    let shape = Shape::default();
    assert_eq!(sizes(&flow(shape, &[1000, 1000, 500, 1000, 1000])), [3, 2]);
    assert_eq!(sizes(&flow(shape, &[500, 1000])), [1, 1]);
    let mut packets = flow(shape, &[1000, 1000, 1000]);
    packets[1][33] |= 0x08;
    packets::checksum(&mut packets[1]);
    let writes = write_all(ALL, &packets, |_| true);
    assert_eq!(
        writes
            .iter()
            .map(|written| cut(written).len())
            .collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(cut(&writes[0])[1], packets[1]);
}

#[test]
fn a_gap_an_odd_flag_or_another_header_ends_a_run() {
    let shape = Shape::default();
    let changes: [(&str, usize, u8); 8] = [
        ("the sequence number", 24, 0x55),
        ("the acknowledgement", 28, 0x55),
        ("FIN", 33, 0x11),
        ("the window", 34, 0x55),
        ("an option", 45, 0x55),
        ("TOS", 1, 0x02),
        ("TTL", 8, 63),
        ("don't fragment", 6, 0),
    ];
    for (name, at, value) in changes {
        let mut packets = flow(shape, &[100, 100, 100, 100]);
        packets[2][at] = value;
        packets::checksum(&mut packets[2]);
        let writes = write_all(ALL, &packets, |_| true);
        assert_eq!(cut(&writes[0]).len(), 2, "{name}");
        let all: Vec<Vec<u8>> = writes.iter().flat_map(cut).collect();
        assert_eq!(all[2], packets[2], "{name}");
        assert_eq!(all.len(), 4, "{name}");
    }
}

#[test]
fn leaves_fragments_options_and_unknown_protocols_alone() {
    for (at, value) in [(6, 0x20), (7, 1), (0, 0x46), (9, 47)] {
        let mut packets = flow(Shape::default(), &[100, 100]);
        for packet in &mut packets {
            packet[at] = value;
        }
        assert_eq!(write_all(ALL, &packets, |_| true).len(), 2);
    }
}

#[test]
fn joins_nothing_whose_checksum_is_wrong() {
    for bad in 0..3 {
        let mut packets = flow(Shape::default(), &[100, 100, 100]);
        packets[bad][60] ^= 1;
        let writes = write_all(ALL, &packets, |_| true);
        let alone = writes
            .iter()
            .find(|written| written.packet == packets[bad])
            .unwrap();
        assert_eq!(alone.header.gso, Gso::None); // for the kernel to drop
        assert!(writes.len() > 1);
    }
}

#[test]
fn flows_are_joined_apart_and_keep_their_order() {
    let ports = [443, 80, 8080];
    let flows = ports.map(|port| {
        let shape = Shape {
            port,
            ..Shape::default()
        };
        flow(shape, &[200, 200, 200, 200])
    });
    let mixed: Vec<Vec<u8>> = (0..4)
        .flat_map(|at| flows.iter().map(move |flow| flow[at].clone()))
        .collect();
    let writes = write_all(ALL, &mixed, |_| true);
    assert_eq!(writes.len(), 3);
    for (written, flow) in writes.iter().zip(&flows) {
        assert_eq!(&cut(written), flow);
    }
}

#[test]
fn nothing_overtakes_a_packet_of_no_known_flow() {
    let mut packets = flow(Shape::default(), &[100, 100, 100]);
    packets.insert(1, vec![0x45; 20]);
    assert_eq!(
        write_all(ALL, &packets, |_| true)
            .iter()
            .map(|written| written.packet.len())
            .collect::<Vec<_>>(),
        [152, 20, 252]
    );
}

#[test]
fn udp_is_joined_only_where_the_kernel_knows_it_and_never_for_tunnels() {
    let udp = |port| Shape {
        protocol: UDP,
        port,
        ..Shape::default()
    };
    assert_eq!(sizes(&flow(udp(53), &[100; 100])), [64, 36]);
    for port in TUNNEL_PORTS {
        assert_eq!(sizes(&flow(udp(port), &[100, 100])), [1, 1]);
    }
    let tcp_only = Joins {
        tcp: true,
        udp: false,
    };
    assert_eq!(
        write_all(tcp_only, &flow(udp(53), &[100, 100]), |_| true).len(),
        2
    );
}

#[test]
fn udp_without_a_checksum_is_left_alone() {
    let shape = Shape {
        protocol: UDP,
        ..Shape::default()
    };
    let mut packets = flow(shape, &[100, 100]);
    for packet in &mut packets {
        packet[26..28].fill(0);
    }
    assert_eq!(write_all(ALL, &packets, |_| true).len(), 2);
}

#[test]
fn is_never_longer_than_an_ip_packet() {
    let packets = flow(Shape::default(), &[1400; 60]);
    let writes = write_all(ALL, &packets, |_| true);
    assert!(
        writes
            .iter()
            .all(|written| written.packet.len() <= MOST_BYTES)
    );
    assert_eq!(writes.iter().flat_map(cut).collect::<Vec<_>>(), packets);
}

#[test]
fn what_the_kernel_refuses_goes_again_as_it_came() {
    let mut packets = flow(Shape::default(), &[500, 500, 500]);
    packets[2][33] |= 0x08;
    packets::checksum(&mut packets[2]);
    let writes = write_all(ALL, &packets, |written| written.header.gso == Gso::None);
    let written: Vec<Vec<u8>> = writes.into_iter().map(|written| written.packet).collect();
    assert_eq!(written, packets);
}

#[test]
fn joins_nothing_once_it_is_told_so() {
    let none = Joins {
        tcp: false,
        udp: false,
    };
    assert_eq!(
        write_all(none, &flow(Shape::default(), &[100, 100]), |_| true).len(),
        2
    );
}

/// Random flows of random packets, some damaged: whatever is joined, each flow gives its packets in order, byte for byte.
#[test]
fn every_flow_comes_out_as_it_went_in() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let mut shapes: Vec<Shape> = (0..1 + random.below(4))
            .map(|port| Shape {
                version: if random.once_in(2) { 4 } else { 6 },
                protocol: if random.once_in(3) { UDP } else { TCP },
                options: [0, 12][random.below(2)],
                port: port as u16,
                ..Shape::default()
            })
            .collect();
        let mut packets = Vec::new();
        for _ in 0..random.below(120) {
            let at = random.below(shapes.len());
            let shape = &mut shapes[at];
            let length = [0, 100, 300, 300, 300, 300][random.below(6)];
            shape.flags = [0x10, 0x10, 0x10, 0x10, 0x18, 0x11, 0x02][random.below(7)];
            let mut packet = shape.packet(&random.bytes(length));
            if random.once_in(20) {
                let at = random.below(packet.len());
                packet[at] ^= 1 << random.below(8);
            } else {
                shape.sequence = shape.sequence.wrapping_add(length as u32);
                shape.id = shape.id.wrapping_add(1);
            }
            packets.push(packet);
        }
        let out: Vec<Vec<u8>> = write_all(ALL, &packets, |_| true)
            .iter()
            .flat_map(|written| match written.header.gso {
                Gso::None => vec![written.packet.clone()],
                _ => cut(written),
            })
            .collect();
        assert_eq!(out.len(), packets.len());
        // Packets that cannot be classified keep their place among all; the others, their place in their flow.
        let key = |packet: &Vec<u8>| FlowKey::of(packet);
        for packet in &packets {
            let of = |list: &[Vec<u8>]| -> Vec<Vec<u8>> {
                list.iter()
                    .filter(|other| key(other) == key(packet))
                    .map(|other| without_id(other))
                    .collect()
            };
            assert!(of(&out) == of(&packets), "seed {seed}");
        }
    }
}

/// Addresses and ports, as they lie in the packet.
#[derive(PartialEq, Eq)]
struct FlowKey(Vec<u8>);

impl FlowKey {
    fn of(packet: &[u8]) -> Self {
        let (first, last) = if packet[0] >> 4 == 4 {
            (12, 24)
        } else {
            (8, 44)
        };
        Self(packet.get(first..last).unwrap_or_default().to_vec())
    }
}

/// GRO gives IPv4 packets identifications of its own, and so another header checksum.
fn without_id(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

#[test]
fn takes_any_bytes() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let packets: Vec<Vec<u8>> = (0..random.below(300))
            .map(|_| {
                let length = random.below(120);
                let mut packet = random.bytes(length);
                if let Some(first) = packet.first_mut() {
                    *first = [0x45, 0x60, *first][random.below(3)];
                }
                packet
            })
            .collect();
        let refuse = random.once_in(2);
        write_all(ALL, &packets, |written| {
            !(refuse && written.header.gso != Gso::None)
        });
    }
}
