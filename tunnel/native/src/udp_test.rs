use super::*;
use crate::datagram::AGGREGATE;

fn open() -> Udp {
    Udp::open(0, 0, Offload::Auto).unwrap()
}

fn loopback(port: u16) -> Path {
    Path::to(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
}

/// Everything that waits for a socket: each datagram, and how many came with it.
fn received(socket: &Socket) -> Vec<(Vec<u8>, Received)> {
    let mut all = Vec::new();
    let mut buffer = vec![0; AGGREGATE];
    while let Ok(received) = socket.receive(&mut buffer) {
        for datagram in buffer[..received.length].chunks(received.stride) {
            all.push((datagram.to_vec(), received));
        }
    }
    all
}

#[test]
fn datagrams_leave_and_come_together_and_stay_apart() {
    let (a, b) = (open(), open());
    let bytes: Vec<u8> = (0..5300).map(|at| (at / 1000) as u8).collect();
    let sent = a.send(&loopback(b.port), &bytes, 1000, 0);
    assert_eq!((sent.datagrams, sent.loosened), (6, None));
    let datagrams = received(b.v4());
    let expected: Vec<&[u8]> = bytes.chunks(1000).collect();
    assert_eq!(
        datagrams
            .iter()
            .map(|(bytes, _)| bytes.as_slice())
            .collect::<Vec<_>>(),
        expected
    );
    let (_, first) = &datagrams[0];
    assert_eq!(first.from.remote.port(), a.port);
    assert_eq!(first.from.source, Some(Ipv4Addr::LOCALHOST.into()));
    assert!(!first.truncated);
    // And back along the path that they came by.
    assert_eq!(b.send(&first.from, b"answer", 6, 0).datagrams, 1);
    assert_eq!(received(a.v4())[0].0, b"answer");
}

#[test]
fn without_gso_they_leave_one_by_one() {
    let (a, b) = (Udp::open(0, 0, Offload::Off).unwrap(), open());
    let sent = a.send(&loopback(b.port), &[7; 2500], 1000, 0);
    assert_eq!((sent.datagrams, sent.batched, sent.calls), (3, 0, 3));
    assert_eq!(received(b.v4()).len(), 3);
}

#[test]
fn a_source_that_is_not_ours_is_left_to_the_kernel() {
    let (a, b) = (open(), open());
    for bytes in [vec![1; 100], vec![1; 3000]] {
        let path = Path {
            source: Some(Ipv4Addr::new(203, 0, 113, 77).into()),
            ..loopback(b.port)
        };
        let sent = a.send(&path, &bytes, 1000, 0);
        assert_eq!(
            (sent.datagrams, sent.loosened),
            (bytes.len().div_ceil(1000), Some(loopback(b.port)))
        );
    }
    assert_eq!(received(b.v4()).len(), 4);
    let path = Path {
        source: Some(Ipv4Addr::new(203, 0, 113, 77).into()),
        ..loopback(b.port)
    };
    let sent = a.offer(&path, b"cookie");
    assert_eq!((sent.datagrams, sent.calls), (1, 2));
    assert_eq!(received(b.v4())[0].0, b"cookie");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let first = open();
    let failure = Udp::open(first.port, 0, Offload::Auto).err().unwrap();
    assert_eq!(failure.code, Code::PortTaken);
    assert!(
        failure
            .message
            .contains(&format!("UDP port {} is in use", first.port))
    );
}

#[test]
fn an_interface_that_does_not_lead_there_is_left_to_the_kernel_and_the_address_stays() {
    let (a, b) = (open(), open());
    let path = Path {
        source: Some(Ipv4Addr::LOCALHOST.into()),
        interface: 0x7fff_0000, // nobody's
        ..loopback(b.port)
    };
    let expected = Path {
        interface: 0,
        ..path
    };
    for bytes in [vec![1; 100], vec![1; 3000]] {
        let sent = a.send(&path, &bytes, 1000, 0);
        assert_eq!(
            (sent.datagrams, sent.loosened),
            (bytes.len().div_ceil(1000), Some(expected))
        );
    }
}
