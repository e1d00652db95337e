//! The four messages as far as they can be told apart before anything is proved (paper, 5.4; little-endian).

use crate::counters::Drop;

/// Type, sender, ephemeral, static, timestamp, mac1, mac2.
pub const INITIATION: usize = 148;
/// Type, sender, receiver, ephemeral, empty, mac1, mac2.
pub const RESPONSE: usize = 92;
/// Type, receiver, nonce, cookie.
pub const COOKIE_REPLY: usize = 64;
/// Before what is sealed: type, receiver, counter.
pub const DATA_HEADER: usize = 16;
/// An empty data message.
pub const KEEPALIVE: usize = 32;

/// A message by its type and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A handshake's first message.
    Initiation,
    /// Its second, for a local index.
    Response(u32),
    /// What answers either under load, for a local index.
    CookieReply(u32),
    /// A data message, for a local index, under a counter.
    Data(u32, u64),
}

impl Message {
    /// Tells what a datagram is. Nothing in it is proved.
    pub fn of(datagram: &[u8]) -> Result<Self, Drop> {
        if datagram.len() < KEEPALIVE {
            return Err(Drop::BadLength); // no message is shorter
        }
        // The type is one byte, and three zeros follow it.
        match word(datagram, 0).unwrap_or(0) {
            1 if datagram.len() == INITIATION => Ok(Self::Initiation),
            2 if datagram.len() == RESPONSE => {
                word(datagram, 8).map(Self::Response).ok_or(Drop::BadLength)
            }
            3 if datagram.len() == COOKIE_REPLY => word(datagram, 4)
                .map(Self::CookieReply)
                .ok_or(Drop::BadLength),
            4 => {
                let counter = datagram.get(8..).and_then(|rest| rest.first_chunk());
                match (word(datagram, 4), counter) {
                    (Some(index), Some(counter)) => {
                        Ok(Self::Data(index, u64::from_le_bytes(*counter)))
                    }
                    _ => Err(Drop::BadLength),
                }
            }
            1..=4 => Err(Drop::BadLength),
            _ => Err(Drop::BadType),
        }
    }
}

fn word(datagram: &[u8], at: usize) -> Option<u32> {
    let bytes = datagram.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::Random;

    #[test]
    fn only_whole_messages_of_the_four_types_pass() {
        for length in 0..300 {
            for kind in 0..=255 {
                let mut datagram = vec![0; length];
                if let Some(first) = datagram.first_mut() {
                    *first = kind;
                }
                let passes = matches!((kind, length), (1, 148) | (2, 92) | (3, 64) | (4, 32..));
                let expected = match (kind, length) {
                    (_, 0..32) | (1..=4, _) => Drop::BadLength,
                    _ => Drop::BadType,
                };
                match Message::of(&datagram) {
                    Ok(_) => assert!(passes),
                    Err(reason) => assert_eq!((passes, reason), (false, expected)),
                }
            }
        }
    }

    #[test]
    fn the_three_bytes_after_the_type_are_zero() {
        let mut datagram = vec![0; 148];
        datagram[0] = 1;
        for at in 1..4 {
            let mut datagram = datagram.clone();
            datagram[at] = 1;
            assert_eq!(Message::of(&datagram), Err(Drop::BadType));
        }
    }

    #[test]
    fn takes_any_bytes() {
        let mut random = Random::new(5);
        for _ in 0..50_000 {
            let length = random.below(200);
            let _ = Message::of(&random.bytes(length));
        }
    }
}
