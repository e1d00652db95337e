//! The allowed IPs of all peers: longest prefix first, one owner for each prefix (paper, 2, "cryptokey routing").
//!
//! A hash map for each prefix length that is in use, so that a server of a million /32s looks into one map.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::packet::Address;

/// A prefix: an address with its host bits zero, and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: Address,
    length: u8,
}

impl Prefix {
    /// Clears the host bits; None for a length that the family has not.
    pub fn new(address: Address, length: u8) -> Option<Self> {
        let address = match address {
            Address::V4(bits) if length <= 32 => Address::V4(bits & mask4(length)),
            Address::V6(bits) if length <= 128 => Address::V6(bits & mask6(length)),
            _ => return None,
        };
        Some(Self { address, length })
    }
}

/// Which peer (by its number) an address belongs to.
#[derive(Default)]
pub struct AllowedIps {
    v4: Family<u32>,
    v6: Family<u128>,
}

impl AllowedIps {
    /// Gives a prefix to a peer, taking it from whoever had it.
    pub fn insert(&mut self, prefix: Prefix, peer: u32) {
        match prefix.address {
            Address::V4(bits) => self.v4.insert(bits, prefix.length, peer),
            Address::V6(bits) => self.v6.insert(bits, prefix.length, peer),
        }
    }

    /// Takes a prefix from a peer, if it still has it.
    pub fn remove(&mut self, prefix: Prefix, peer: u32) {
        match prefix.address {
            Address::V4(bits) => self.v4.remove(bits, prefix.length, peer),
            Address::V6(bits) => self.v6.remove(bits, prefix.length, peer),
        }
    }

    /// The peer with the longest prefix that holds an address.
    pub fn lookup(&self, address: Address) -> Option<u32> {
        match address {
            Address::V4(bits) => self.v4.lookup(bits, mask4),
            Address::V6(bits) => self.v6.lookup(bits, mask6),
        }
    }
}

/// The prefixes of one family, the longest first; no length without prefixes.
struct Family<T> {
    lengths: Vec<(u8, Owners<T>)>,
}

/// The owners of all prefixes of one length.
type Owners<T> = HashMap<T, u32, BuildHasherDefault<Mixer>>;

impl<T> Default for Family<T> {
    fn default() -> Self {
        Self {
            lengths: Vec::new(),
        }
    }
}

impl<T: Copy + Eq + Hash + std::ops::BitAnd<Output = T>> Family<T> {
    fn insert(&mut self, bits: T, length: u8, peer: u32) {
        let place = self
            .lengths
            .binary_search_by(|(other, _)| length.cmp(other));
        let at = place.unwrap_or_else(|at| {
            self.lengths.insert(at, (length, HashMap::default()));
            at
        });
        if let Some((_, map)) = self.lengths.get_mut(at) {
            map.insert(bits, peer);
        }
    }

    fn remove(&mut self, bits: T, length: u8, peer: u32) {
        let Ok(at) = self
            .lengths
            .binary_search_by(|(other, _)| length.cmp(other))
        else {
            return;
        };
        if let Some((_, map)) = self.lengths.get_mut(at)
            && map.get(&bits) == Some(&peer)
        {
            map.remove(&bits);
            if map.is_empty() {
                self.lengths.remove(at);
            }
        }
    }

    fn lookup(&self, bits: T, mask: impl Fn(u8) -> T) -> Option<u32> {
        self.lengths
            .iter()
            .find_map(|(length, map)| map.get(&(bits & mask(*length))).copied())
    }
}

fn mask4(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn mask6(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// A hash of two multiplications (Knuth; the upper half folded in). What is looked up comes from the network, but what is
/// in the map does not: nobody can make it collide.
#[derive(Default)]
pub struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(26) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u128(&mut self, value: u128) {
        self.write_u64((value >> 64) as u64);
        self.write_u64(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::Random;

    fn v4(text: &str, length: u8) -> Prefix {
        let address: std::net::Ipv4Addr = text.parse().unwrap();
        Prefix::new(Address::V4(address.into()), length).unwrap()
    }

    fn at(text: &str) -> Address {
        match text.parse().unwrap() {
            std::net::IpAddr::V4(address) => Address::V4(address.into()),
            std::net::IpAddr::V6(address) => Address::V6(address.into()),
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let mut ips = AllowedIps::default();
        ips.insert(v4("0.0.0.0", 0), 1);
        ips.insert(v4("10.0.0.0", 8), 2);
        ips.insert(v4("10.1.2.3", 32), 3);
        let found = ["9.9.9.9", "10.9.9.9", "10.1.2.3", "::1"].map(|text| ips.lookup(at(text)));
        assert_eq!(found, [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn a_prefix_moves_to_whoever_got_it_last() {
        let mut ips = AllowedIps::default();
        ips.insert(v4("10.0.0.0", 8), 1);
        ips.insert(v4("10.0.0.0", 8), 2);
        ips.remove(v4("10.0.0.0", 8), 1);
        assert_eq!(ips.lookup(at("10.0.0.1")), Some(2));
        ips.remove(v4("10.0.0.0", 8), 2);
        assert_eq!(ips.lookup(at("10.0.0.1")), None);
    }

    #[test]
    fn refuses_a_length_that_the_family_has_not() {
        assert_eq!(Prefix::new(Address::V4(0), 33), None);
        assert_eq!(Prefix::new(Address::V6(0), 129), None);
    }

    #[test]
    fn agrees_with_a_list_on_random_prefixes() {
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut ips = AllowedIps::default();
            let mut list: Vec<(Prefix, u32)> = Vec::new();
            // Few bits vary, so that prefixes nest and repeat.
            let address = |random: &mut Random| {
                let bits = random.next() & 0x3003;
                match random.once_in(2) {
                    true => Address::V4((bits << 16 | bits) as u32),
                    false => Address::V6(u128::from(bits) << 100 | u128::from(bits)),
                }
            };
            for _ in 0..200 {
                let place = address(&mut random);
                let most = if matches!(place, Address::V4(_)) {
                    33
                } else {
                    129
                };
                let prefix = Prefix::new(place, random.below(most) as u8).unwrap();
                let peer = random.below(4) as u32;
                if random.once_in(3) {
                    ips.remove(prefix, peer);
                    list.retain(|entry| *entry != (prefix, peer));
                } else {
                    ips.insert(prefix, peer);
                    list.retain(|(other, _)| *other != prefix);
                    list.push((prefix, peer));
                }
                let wanted = address(&mut random);
                let expected = list
                    .iter()
                    .filter(|(prefix, _)| {
                        Prefix::new(wanted, prefix.length).is_some_and(|own| own == *prefix)
                    })
                    .max_by_key(|(prefix, _)| prefix.length)
                    .map(|(_, peer)| *peer);
                assert_eq!(ips.lookup(wanted), expected);
            }
        }
    }
}
