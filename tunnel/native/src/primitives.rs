//! The primitives that WireGuard is made of, over crates that are audited. Nothing here knows a protocol.
//!
//! `ring` does ChaCha20-Poly1305 for data and handshakes, X25519 is curve25519-dalek's, BLAKE2s and XChaCha20-Poly1305
//! (cookie replies only) are RustCrypto's.

use blake2::digest::consts::U16;
use blake2::digest::{Digest, FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, Payload};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The length of every key, of a public key and of a BLAKE2s-256 hash.
pub const KEY: usize = 32;
/// The length of WireGuard's MACs.
pub const MAC: usize = 16;
/// The length of a Poly1305 tag.
pub const TAG: usize = 16;
/// The length of XChaCha20's nonce.
pub const XNONCE: usize = 24;

/// The public key of a private key (RFC 7748). The private key is clamped here.
pub fn public_key(private: [u8; KEY]) -> [u8; KEY] {
    let secret = x25519_dalek::StaticSecret::from(private);
    x25519_dalek::PublicKey::from(&secret).to_bytes()
}

/// X25519 (RFC 7748, 6.1). None when the result is all zero: the other side sent a point of low order.
pub fn x25519(private: [u8; KEY], public: [u8; KEY]) -> Option<Zeroizing<[u8; KEY]>> {
    let secret = x25519_dalek::StaticSecret::from(private);
    let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(public));
    shared
        .was_contributory()
        .then(|| Zeroizing::new(shared.to_bytes()))
}

/// BLAKE2s-256 of the concatenation (RFC 7693).
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; KEY] {
    let mut state = Blake2s256::new();
    for part in parts {
        Digest::update(&mut state, part);
    }
    state.finalize().into()
}

/// Keyed BLAKE2s-128 of the concatenation (RFC 7693). None when the key is empty or longer than 32 bytes.
pub fn mac<'a>(key: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> Option<[u8; MAC]> {
    let mut state = <Blake2sMac<U16> as KeyInit>::new_from_slice(key).ok()?;
    for part in parts {
        Update::update(&mut state, part);
    }
    Some(state.finalize_fixed().into())
}

/// HMAC-BLAKE2s-256 of the concatenation (RFC 2104), with BLAKE2s unkeyed inside, as the Noise specification wants it.
pub fn hmac<'a>(key: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> Zeroizing<[u8; KEY]> {
    const BLOCK: usize = 64;
    let mut block = Zeroizing::new([0u8; BLOCK]);
    if key.len() > BLOCK {
        let short = Zeroizing::new(hash([key]));
        for (to, from) in block.iter_mut().zip(short.iter()) {
            *to = *from;
        }
    } else {
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
    }
    let inner_pad = Zeroizing::new(block.map(|byte| byte ^ 0x36));
    let outer_pad = Zeroizing::new(block.map(|byte| byte ^ 0x5c));
    let mut inner = Blake2s256::new();
    Digest::update(&mut inner, inner_pad.as_slice());
    for part in parts {
        Digest::update(&mut inner, part);
    }
    let inner: [u8; KEY] = inner.finalize().into();
    Zeroizing::new(hash([outer_pad.as_slice(), inner.as_slice()]))
}

/// Whether two MACs are equal, in a time that does not tell where they differ.
pub fn mac_equal(a: &[u8; MAC], b: &[u8]) -> bool {
    a.as_slice().ct_eq(b).into()
}

/// ChaCha20-Poly1305 with the nonce 4 zero bytes and `counter` little-endian (RFC 8439; paper, 5.4.6).
pub fn seal(key: &[u8; KEY], counter: u64, plaintext: &[u8], associated: &[u8]) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
    let mut sealed = Vec::with_capacity(plaintext.len() + TAG);
    sealed.extend_from_slice(plaintext);
    key.seal_in_place_append_tag(nonce(counter), Aad::from(associated), &mut sealed)
        .ok()?;
    Some(sealed)
}

/// The plaintext, or None when the tag is wrong.
pub fn open(
    key: &[u8; KEY],
    counter: u64,
    sealed: &[u8],
    associated: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
    let mut opened = Zeroizing::new(sealed.to_vec());
    let length = key
        .open_in_place(nonce(counter), Aad::from(associated), &mut opened)
        .ok()?
        .len();
    opened.truncate(length);
    Some(opened)
}

/// The nonce of a transport message (paper, 5.4.6).
pub fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0u8; 12];
    if let Some(low) = bytes.last_chunk_mut::<8>() {
        *low = counter.to_le_bytes();
    }
    Nonce::assume_unique_for_key(bytes)
}

/// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03). None only for a plaintext of more than 256 GiB.
pub fn xseal(
    key: &[u8; KEY],
    nonce: &[u8; XNONCE],
    plaintext: &[u8],
    associated: &[u8],
) -> Option<Vec<u8>> {
    let payload = Payload {
        msg: plaintext,
        aad: associated,
    };
    <XChaCha20Poly1305 as chacha20poly1305::KeyInit>::new(key.into())
        .encrypt(nonce.into(), payload)
        .ok()
}

/// The plaintext, or None when the tag is wrong.
pub fn xopen(
    key: &[u8; KEY],
    nonce: &[u8; XNONCE],
    sealed: &[u8],
    associated: &[u8],
) -> Option<Vec<u8>> {
    let payload = Payload {
        msg: sealed,
        aad: associated,
    };
    <XChaCha20Poly1305 as chacha20poly1305::KeyInit>::new(key.into())
        .decrypt(nonce.into(), payload)
        .ok()
}

/// Fills `bytes` from the kernel's generator; false when it has none to give.
#[must_use]
pub fn random(bytes: &mut [u8]) -> bool {
    SystemRandom::new().fill(bytes).is_ok()
}
