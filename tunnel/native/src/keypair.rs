//! One session's two keys, the counter of one and the replay window of the other.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use zeroize::Zeroize;

use crate::clock::Millis;
use crate::events::Reason;
use crate::primitives::{KEY, TAG, nonce};
use crate::replay::Replay;

/// Who began a session renews it at this age (paper, 6.1).
const REKEY_AFTER_TIME: Millis = 120_000;
/// Or at this one, if it only receives: REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT (paper, 6.2).
const LAST_MINUTE: Millis = 165_000;
/// No key sends or receives at this age (paper, 6.1).
pub const REJECT_AFTER_TIME: Millis = 180_000;
/// No key seals or opens counters from this one on.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// From this many messages on a key is renewed.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;

/// Who began the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We did.
    Initiator,
    /// The peer did.
    Responder,
}

/// A session.
pub struct Keypair {
    /// Our index: the peer writes it into what it sends.
    pub index: u32,
    /// The peer's index: we write it into what we send.
    pub remote: u32,
    /// Who began it.
    pub role: Role,
    /// When it began.
    pub born: Millis,
    replay: Mutex<Replay>,
    send: AeadKey,
    receive: AeadKey,
    counter: AtomicU64,
    may_send: AtomicBool,
}

impl Keypair {
    /// A session from the keys that Noise split. The caller wipes its own copies.
    pub fn new(
        index: u32,
        remote: u32,
        role: Role,
        born: Millis,
        send: &[u8; KEY],
        receive: &[u8; KEY],
    ) -> Option<Self> {
        Some(Self {
            index,
            remote,
            role,
            born,
            replay: Mutex::default(),
            send: AeadKey::new(send)?,
            receive: AeadKey::new(receive)?,
            counter: AtomicU64::new(0),
            may_send: AtomicBool::new(true),
        })
    }

    /// Whether it is too old to send or receive.
    pub fn is_expired(&self, now: Millis) -> bool {
        now.saturating_sub(self.born) >= REJECT_AFTER_TIME
    }

    /// Whether it may seal another message.
    pub fn can_send(&self, now: Millis) -> bool {
        !self.is_expired(now)
            && self.may_send.load(Ordering::Acquire)
            && self.counter.load(Ordering::Relaxed) < REJECT_AFTER_MESSAGES
    }

    /// The counters received so far.
    pub fn replay(&self) -> MutexGuard<'_, Replay> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It receives until it expires, but sends no more.
    pub fn forbid_sending(&self) {
        self.may_send.store(false, Ordering::Release);
    }

    /// Why it is to be renewed now that it has sealed something (paper, 6.2). By age, only by who began it.
    pub fn worn(&self, now: Millis) -> Option<Reason> {
        if self.has_sealed_too_much() {
            return Some(Reason::Messages);
        }
        let old = now.saturating_sub(self.born) >= REKEY_AFTER_TIME;
        (old && self.role == Role::Initiator).then_some(Reason::Age)
    }

    /// Whether we began it and it is about to end: time for a handshake is left, if it begins now.
    pub fn is_in_its_last_minute(&self, now: Millis) -> bool {
        self.role == Role::Initiator && now.saturating_sub(self.born) >= LAST_MINUTE
    }

    fn has_sealed_too_much(&self) -> bool {
        self.counter.load(Ordering::Relaxed) > REKEY_AFTER_MESSAGES
    }

    /// A counter for one message, never given twice; None when they are used up.
    pub fn take_counter(&self) -> Option<u64> {
        // Checked before it is increased, however many threads ask.
        self.counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |counter| {
                (counter < REJECT_AFTER_MESSAGES).then(|| counter + 1)
            })
            .ok()
    }

    /// Seals in place; the tag.
    pub fn seal(&self, counter: u64, plaintext: &mut [u8]) -> Option<[u8; TAG]> {
        let key = self.send.key();
        let tag = key.seal_in_place_separate_tag(nonce(counter), Aad::empty(), plaintext);
        tag.ok()?.as_ref().try_into().ok()
    }

    /// Opens in place; the plaintext's length, or None when the tag is wrong.
    pub fn open(&self, counter: u64, sealed: &mut [u8]) -> Option<usize> {
        let key = self.receive.key();
        let opened = key.open_in_place(nonce(counter), Aad::empty(), sealed);
        Some(opened.ok()?.len())
    }

    #[cfg(test)]
    pub(crate) fn set_counter(&self, counter: u64) {
        self.counter.store(counter, Ordering::Relaxed);
    }
}

/// A key that ring has prepared, in memory that is wiped when it goes: ring itself does not.
struct AeadKey(Box<MaybeUninit<LessSafeKey>>);

impl AeadKey {
    fn new(key: &[u8; KEY]) -> Option<Self> {
        let mut place = Box::new(MaybeUninit::uninit());
        place.write(LessSafeKey::new(
            UnboundKey::new(&CHACHA20_POLY1305, key).ok()?,
        ));
        Some(Self(place))
    }

    fn key(&self) -> &LessSafeKey {
        // SAFETY: `new` is the only constructor and has written it.
        unsafe { self.0.assume_init_ref() }
    }
}

impl Drop for AeadKey {
    fn drop(&mut self) {
        const { assert!(!std::mem::needs_drop::<LessSafeKey>()) };
        self.0.as_mut().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(send: u8, receive: u8) -> Keypair {
        Keypair::new(1, 2, Role::Initiator, 1000, &[send; KEY], &[receive; KEY]).unwrap()
    }

    #[test]
    fn what_one_end_seals_the_other_opens() {
        let (a, b) = (pair(1, 2), pair(2, 1));
        let mut message = b"sixteen  letters".to_vec();
        let counter = a.take_counter().unwrap();
        let tag = a.seal(counter, &mut message).unwrap();
        message.extend_from_slice(&tag);
        assert_eq!(b.open(counter, &mut message), Some(16));
        assert_eq!(&message[..16], b"sixteen  letters");
        assert_eq!(b.open(counter, &mut message), None);
    }

    #[test]
    fn gives_no_counter_from_the_limit_on() {
        let keypair = pair(1, 2);
        keypair.set_counter(REJECT_AFTER_MESSAGES - 1);
        assert!(keypair.can_send(1000));
        assert_eq!(keypair.take_counter(), Some(REJECT_AFTER_MESSAGES - 1));
        assert_eq!(keypair.take_counter(), None);
        assert_eq!(keypair.take_counter(), None);
        assert!(!keypair.can_send(1000));
    }

    #[test]
    fn is_worn_after_two_to_the_sixtieth() {
        let keypair = pair(1, 2);
        keypair.set_counter(REKEY_AFTER_MESSAGES);
        assert_eq!(keypair.worn(1000), None);
        keypair.take_counter();
        assert_eq!(keypair.worn(1000), Some(Reason::Messages));
    }

    #[test]
    fn expires_at_180_seconds() {
        let keypair = pair(1, 2);
        assert!(keypair.can_send(1000 + REJECT_AFTER_TIME - 1));
        assert!(!keypair.can_send(1000 + REJECT_AFTER_TIME));
    }
}
