//! What stands before the handshakes of strangers: mac1, and under load a cookie and a ration (paper, 5.3 and 5.4.7).
//!
//! ```text
//! length, type ─▶ mac1 ─▶ few waiting ──────────────────────────────▶ pass
//!                     └─▶ many waiting: mac2 ─▶ ration of the address ─▶ pass
//!                                           └─▶ a cookie goes back
//! ```
//! A silent gate sends no cookie, so it asks for none: there the ration comes at once.
//!
//! Nothing is allocated and nobody is woken before mac1 fits. Whoever knows our public key can make a mac1; a mac2 takes
//! an answer of ours, so an address that is really theirs. The table of rations is bounded all the same.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use zeroize::Zeroizing;

use crate::clock::Millis;
use crate::counters::Drop;
use crate::message::COOKIE_REPLY;
use crate::primitives::{KEY, MAC, XNONCE, hash, mac, mac_equal, random, xseal};

/// How strangers are rationed: `Gate` of `tunnel/dataplane.ts`.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Handshakes waiting from which on a cookie is demanded.
    pub under_load_at: usize,
    /// Initiations a second of one address.
    pub per_second: f64,
    /// And at once.
    pub burst: f64,
    /// No cookie is sent.
    pub silent: bool,
}

/// What becomes of a handshake message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go to the handshakes.
    Pass,
    /// It may not.
    Drop(Drop),
    /// It may not, and this goes back.
    Answer([u8; COOKIE_REPLY]),
}

/// The gate of one data plane.
pub struct Gate {
    settings: Settings,
    identity: Option<Identity>,
    secret: Zeroizing<[u8; KEY]>,
    secret_born: Option<Millis>,
    loaded_until: Millis,
    rations: HashMap<Address, Ration>,
    swept: Millis,
}

/// What our public key makes of itself.
struct Identity {
    /// Of mac1.
    mac1: [u8; KEY],
    /// That seals cookies.
    cookie: [u8; KEY],
}

/// What a ration belongs to: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Address {
    V4(u32),
    V6(u64),
}

struct Ration {
    tokens: f64,
    at: Millis,
}

impl Gate {
    /// A gate that lets nothing pass until it has an identity.
    pub fn new() -> Self {
        Self {
            settings: DEFAULT,
            identity: None,
            secret: Zeroizing::new([0; KEY]),
            secret_born: None,
            loaded_until: 0,
            rations: HashMap::new(),
            swept: 0,
        }
    }

    /// Sets whose mac1 fits and whose cookies these are.
    pub fn set_identity(&mut self, public_key: &[u8; KEY]) {
        self.identity = Some(Identity {
            mac1: hash([b"mac1----".as_slice(), public_key]),
            cookie: hash([b"cookie--".as_slice(), public_key]),
        });
        self.secret_born = None;
    }

    /// Sets the rations.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
        self.loaded_until = 0;
        self.rations.clear();
    }

    /// Judges an initiation, when `waiting` handshakes wait already.
    pub fn initiation(
        &mut self,
        message: &[u8],
        from: SocketAddr,
        waiting: usize,
        now: Millis,
    ) -> Verdict {
        let Some((rest, mac1, mac2)) = macs(message) else {
            return Verdict::Drop(Drop::BadLength);
        };
        if !self.mac1_fits(rest, mac1) {
            return Verdict::Drop(Drop::BadMac);
        }
        if waiting >= self.settings.under_load_at {
            self.loaded_until = now + STICKY;
        }
        if now >= self.loaded_until {
            return Verdict::Pass;
        }
        if !self.settings.silent && !self.mac2_fits(message, mac2, from, now).unwrap_or(false) {
            let reply = self.cookie(message, mac1, from, now);
            return reply.map_or(Verdict::Drop(Drop::UnderLoad), Verdict::Answer);
        }
        if self.has_ration(from.ip(), now) {
            return Verdict::Pass;
        }
        Verdict::Drop(Drop::UnderLoad)
    }

    /// Judges a response. It names an index of ours, so it is never rationed.
    pub fn response(&self, message: &[u8]) -> Verdict {
        match macs(message) {
            Some((rest, mac1, _)) if self.mac1_fits(rest, mac1) => Verdict::Pass,
            _ => Verdict::Drop(Drop::BadMac),
        }
    }

    fn mac1_fits(&self, message: &[u8], mac1: &[u8; MAC]) -> bool {
        let Some(identity) = &self.identity else {
            return false;
        };
        mac(&identity.mac1, [message]).is_some_and(|expected| mac_equal(&expected, mac1))
    }

    /// Whether mac2 was made with the cookie of this address; None without randomness.
    fn mac2_fits(
        &mut self,
        message: &[u8],
        mac2: &[u8; MAC],
        from: SocketAddr,
        now: Millis,
    ) -> Option<bool> {
        let cookie = self.cookie_of(from, now)?;
        let covered = message.get(..message.len().checked_sub(MAC)?)?;
        Some(mac_equal(&mac(cookie.as_slice(), [covered])?, mac2))
    }

    /// The cookie of an address and port, under a secret of at most 120 s.
    fn cookie_of(&mut self, from: SocketAddr, now: Millis) -> Option<Zeroizing<[u8; MAC]>> {
        if self
            .secret_born
            .is_none_or(|born| now.saturating_sub(born) >= SECRET_LIFE)
        {
            if !random(self.secret.as_mut_slice()) {
                return None;
            }
            self.secret_born = Some(now);
        }
        let port = from.port().to_be_bytes();
        let cookie = match from.ip() {
            IpAddr::V4(ip) => mac(self.secret.as_slice(), [ip.octets().as_slice(), &port]),
            IpAddr::V6(ip) => mac(self.secret.as_slice(), [ip.octets().as_slice(), &port]),
        };
        cookie.map(Zeroizing::new)
    }

    /// A cookie reply to a message: type, its sender's index, nonce, the cookie sealed with its mac1.
    fn cookie(
        &mut self,
        message: &[u8],
        mac1: &[u8; MAC],
        from: SocketAddr,
        now: Millis,
    ) -> Option<[u8; COOKIE_REPLY]> {
        let cookie = self.cookie_of(from, now)?;
        let mut nonce = [0; XNONCE];
        if !random(&mut nonce) {
            return None;
        }
        let sealed = xseal(
            &self.identity.as_ref()?.cookie,
            &nonce,
            cookie.as_slice(),
            mac1,
        )?;
        let sender = message.get(4..8)?;
        [&[3, 0, 0, 0], sender, &nonce, &sealed]
            .concat()
            .try_into()
            .ok()
    }

    /// Takes one from an address's token bucket.
    fn has_ration(&mut self, ip: IpAddr, now: Millis) -> bool {
        let Settings {
            per_second, burst, ..
        } = self.settings;
        let is_full = self.rations.len() >= MOST_RATIONS;
        let pause = if is_full { SWEEP_FULL } else { SWEEP };
        if now.saturating_sub(self.swept) >= pause {
            self.swept = now;
            // Whose bucket is full again may as well not be here.
            self.rations
                .retain(|_, ration| ration.tokens + earned(ration.at, now, per_second) < burst);
        }
        let address = Address::of(ip);
        if self.rations.len() >= MOST_RATIONS && !self.rations.contains_key(&address) {
            return false;
        }
        let ration = self.rations.entry(address).or_insert(Ration {
            tokens: burst,
            at: now,
        });
        ration.tokens = (ration.tokens + earned(ration.at, now, per_second)).min(burst);
        ration.at = now;
        let has = ration.tokens >= 1.0;
        if has {
            ration.tokens -= 1.0;
        }
        has
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Address {
    fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4(ip.into()),
            IpAddr::V6(ip) => Self::V6((u128::from(ip) >> 64) as u64),
        }
    }
}

fn earned(since: Millis, now: Millis, per_second: f64) -> f64 {
    now.saturating_sub(since) as f64 / 1000.0 * per_second
}

/// The two MACs at the end, and what mac1 covers.
fn macs(message: &[u8]) -> Option<(&[u8], &[u8; MAC], &[u8; MAC])> {
    let (rest, mac2) = message.split_last_chunk()?;
    let (rest, mac1) = rest.split_last_chunk()?;
    Some((rest, mac1, mac2))
}

/// `defaultGate` of `tunnel/dataplane.ts`.
const DEFAULT: Settings = Settings {
    under_load_at: 32,
    per_second: 20.0,
    burst: 5.0,
    silent: false,
};
/// Once under load, so for this long.
const STICKY: Millis = 1000;
/// COOKIE_REFRESH_TIME (paper, 6.1).
const SECRET_LIFE: Millis = 120_000;
/// How often the whole table is searched for rations that are full again.
const SWEEP: Millis = 1000;
/// The same when there is no room; not for each stranger, or a flood of them would have the worker do nothing else.
const SWEEP_FULL: Millis = 50;
/// Addresses with a ration that is not full (kernel: max_entries).
const MOST_RATIONS: usize = 8192 * 8;

#[cfg(test)]
#[path = "gate_test.rs"]
mod tests;
