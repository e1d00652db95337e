use super::*;
use crate::message::{INITIATION, RESPONSE};
use crate::primitives::xopen;

const KEY_OF_OURS: [u8; KEY] = [7; KEY];

fn gate(under_load_at: usize) -> Gate {
    let mut gate = Gate::new();
    gate.set_identity(&KEY_OF_OURS);
    gate.set(Settings {
        under_load_at,
        ..DEFAULT
    });
    gate
}

/// An initiation with mac1, and with mac2 if there is a cookie.
fn initiation(cookie: Option<&[u8]>) -> Vec<u8> {
    let mut message = vec![0x33; INITIATION];
    message[..4].copy_from_slice(&[1, 0, 0, 0]);
    stamp(&mut message, cookie);
    message
}

fn stamp(message: &mut [u8], cookie: Option<&[u8]>) {
    let (rest, mac2) = message.split_last_chunk_mut::<MAC>().unwrap();
    let (rest, mac1) = rest.split_last_chunk_mut::<MAC>().unwrap();
    *mac1 = mac(&hash([b"mac1----".as_slice(), &KEY_OF_OURS]), [&*rest]).unwrap();
    *mac2 = cookie.map_or([0; MAC], |cookie| mac(cookie, [&*rest, &*mac1]).unwrap());
}

fn cookie_of(reply: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hash([b"cookie--".as_slice(), &KEY_OF_OURS]);
    let nonce = reply[8..32].try_into().unwrap();
    xopen(
        &key,
        &nonce,
        &reply[32..],
        &message[INITIATION - 32..INITIATION - 16],
    )
    .unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn answered(verdict: Verdict) -> [u8; COOKIE_REPLY] {
    match verdict {
        Verdict::Answer(reply) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_mac1_of_our_key_passes() {
    let mut gate = gate(32);
    let (good, from) = (initiation(None), at("192.0.2.1:1"));
    assert_eq!(gate.initiation(&good, from, 0, 0), Verdict::Pass);
    for bad in 0..INITIATION - 16 {
        let mut message = good.clone();
        message[bad] ^= 1;
        assert_eq!(
            gate.initiation(&message, from, 0, 0),
            Verdict::Drop(Drop::BadMac)
        );
    }
    assert_eq!(
        Gate::new().initiation(&good, from, 0, 0),
        Verdict::Drop(Drop::BadMac)
    );
}

#[test]
fn a_response_needs_mac1_and_nothing_else() {
    let gate = gate(0);
    let mut response = vec![0x22; RESPONSE];
    assert_eq!(gate.response(&response), Verdict::Drop(Drop::BadMac));
    stamp(&mut response, None);
    assert_eq!(gate.response(&response), Verdict::Pass);
}

#[test]
fn a_cookie_is_good_for_one_address_and_port() {
    let mut gate = gate(0);
    let (plain, from) = (initiation(None), at("192.0.2.1:1000"));
    let reply = answered(gate.initiation(&plain, from, 0, 0));
    assert_eq!(reply[..8], [3, 0, 0, 0, 0x33, 0x33, 0x33, 0x33]);
    let stamped = initiation(Some(&cookie_of(&reply, &plain)));
    assert_eq!(gate.initiation(&stamped, from, 0, 0), Verdict::Pass);
    for elsewhere in [
        "192.0.2.1:1001",
        "192.0.2.2:1000",
        "[::ffff:192.0.2.1]:1000",
    ] {
        answered(gate.initiation(&stamped, at(elsewhere), 0, 0));
    }
}

#[test]
fn a_cookie_is_good_for_120_s() {
    let mut gate = gate(0);
    let (plain, from) = (initiation(None), at("[2001:db8::1]:1000"));
    let cookie = cookie_of(&answered(gate.initiation(&plain, from, 0, 0)), &plain);
    let stamped = initiation(Some(&cookie));
    assert_eq!(gate.initiation(&stamped, from, 0, 119_999), Verdict::Pass);
    answered(gate.initiation(&stamped, from, 0, 120_000));
}

#[test]
fn is_under_load_for_a_second_after_the_last_sign_of_it() {
    let mut gate = gate(32);
    let (message, from) = (initiation(None), at("192.0.2.1:1"));
    assert_eq!(gate.initiation(&message, from, 31, 0), Verdict::Pass);
    answered(gate.initiation(&message, from, 32, 0));
    answered(gate.initiation(&message, from, 0, 999));
    assert_eq!(gate.initiation(&message, from, 0, 1000), Verdict::Pass);
}

#[test]
fn an_address_gets_its_burst_and_then_its_rate() {
    let mut gate = gate(0);
    let passed = |gate: &mut Gate, from: SocketAddr, times: usize, now: Millis| {
        let plain = initiation(None);
        let cookie = cookie_of(&answered(gate.initiation(&plain, from, 0, now)), &plain);
        let stamped = initiation(Some(&cookie));
        (0..times)
            .filter(|_| gate.initiation(&stamped, from, 0, now) == Verdict::Pass)
            .count()
    };
    let first = at("[2001:db8:1:2::1]:9");
    assert_eq!(passed(&mut gate, first, 10, 0), 5);
    assert_eq!(passed(&mut gate, at("[2001:db8:1:2:ffff::]:8"), 10, 0), 0); // the same /64
    assert_eq!(passed(&mut gate, at("[2001:db8:1:3::1]:9"), 10, 0), 5);
    assert_eq!(passed(&mut gate, at("192.0.2.1:9"), 10, 0), 5);
    assert_eq!(passed(&mut gate, at("192.0.2.2:9"), 10, 0), 5);
    assert_eq!(passed(&mut gate, first, 10, 100), 2);
    assert_eq!(passed(&mut gate, first, 10, 60_000), 5);
}

#[test]
fn a_silent_gate_rations_and_answers_nobody() {
    let mut gate = gate(0);
    gate.set(Settings {
        under_load_at: 0,
        silent: true,
        ..DEFAULT
    });
    let verdicts: Vec<Verdict> = (0..6)
        .map(|_| gate.initiation(&initiation(None), at("192.0.2.1:1"), 0, 0))
        .collect();
    let expected = [
        [Verdict::Pass; 5].as_slice(),
        &[Verdict::Drop(Drop::UnderLoad)],
    ]
    .concat();
    assert_eq!(verdicts, expected);
}

#[test]
fn the_table_of_rations_is_bounded_and_forgets_who_is_full_again() {
    let mut gate = gate(0);
    let ip = |n: u32| IpAddr::V4(n.into());
    let had = (0..MOST_RATIONS as u32 + 1000)
        .filter(|&n| gate.has_ration(ip(n), 500))
        .count();
    assert_eq!((had, gate.rations.len()), (MOST_RATIONS, MOST_RATIONS));
    assert!(gate.has_ration(ip(u32::MAX), 60_000));
    assert_eq!(gate.rations.len(), 1);
}

#[test]
fn a_full_table_of_rations_is_not_searched_for_each_stranger() {
    let mut gate = gate(0);
    gate.set(Settings {
        per_second: 0.001, // nobody's is full again before long
        silent: true,
        ..gate.settings
    });
    let message = initiation(None);
    let mut ask = |host: usize, now| {
        let from = SocketAddr::new(std::net::Ipv4Addr::from(host as u32).into(), 9);
        gate.initiation(&message, from, 0, now)
    };
    assert!((0..MOST_RATIONS).all(|host| ask(host, 0) == Verdict::Pass));
    let start = std::time::Instant::now();
    for host in MOST_RATIONS..MOST_RATIONS + 20_000 {
        assert_eq!(ask(host, 1), Verdict::Drop(Drop::UnderLoad));
    }
    // One search takes a fraction of a millisecond, one for each stranger several seconds.
    assert!(start.elapsed() < std::time::Duration::from_secs(1));
}
