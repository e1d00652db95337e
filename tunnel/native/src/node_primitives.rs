//! The primitives as JavaScript calls them: arrays in, arrays out, null where a message must not be believed.

use napi::bindgen_prelude::{BigInt, Uint8ArraySlice};
use napi::{Env, Error, Result, Status};
use napi_derive::napi;
use zeroize::Zeroizing;

use crate::primitives::{self, KEY, XNONCE};

/// The public key of a private key.
#[napi]
pub fn public_key<'a>(
    env: &'a Env,
    private_key: Uint8ArraySlice<'a>,
) -> Result<Uint8ArraySlice<'a>> {
    let private = key(&private_key)?;
    Uint8ArraySlice::copy_from(env, primitives::public_key(*private))
}

/// X25519; null for a point of low order.
#[napi]
pub fn x25519<'a>(
    env: &'a Env,
    private_key: Uint8ArraySlice<'a>,
    public_key: Uint8ArraySlice<'a>,
) -> Result<Option<Uint8ArraySlice<'a>>> {
    let private = key(&private_key)?;
    let shared = primitives::x25519(*private, *key(&public_key)?);
    shared
        .map(|shared| Uint8ArraySlice::copy_from(env, shared.as_slice()))
        .transpose()
}

/// BLAKE2s-256 of the concatenation.
#[napi]
pub fn hash<'a>(env: &'a Env, parts: Vec<Uint8ArraySlice<'a>>) -> Result<Uint8ArraySlice<'a>> {
    let digest = Zeroizing::new(primitives::hash(parts.iter().map(|part| part.as_ref())));
    Uint8ArraySlice::copy_from(env, digest.as_slice())
}

/// Keyed BLAKE2s-128 of the concatenation.
#[napi]
pub fn mac<'a>(
    env: &'a Env,
    key: Uint8ArraySlice<'a>,
    parts: Vec<Uint8ArraySlice<'a>>,
) -> Result<Uint8ArraySlice<'a>> {
    let mac = primitives::mac(key.as_ref(), parts.iter().map(|part| part.as_ref()))
        .ok_or_else(|| invalid("a BLAKE2s key has 1 to 32 bytes"))?;
    Uint8ArraySlice::copy_from(env, mac)
}

/// HMAC-BLAKE2s-256 of the concatenation.
#[napi]
pub fn hmac<'a>(
    env: &'a Env,
    key: Uint8ArraySlice<'a>,
    parts: Vec<Uint8ArraySlice<'a>>,
) -> Result<Uint8ArraySlice<'a>> {
    let mac = primitives::hmac(key.as_ref(), parts.iter().map(|part| part.as_ref()));
    Uint8ArraySlice::copy_from(env, mac.as_slice())
}

/// ChaCha20-Poly1305 under a counter.
#[napi]
pub fn seal<'a>(
    env: &'a Env,
    secret: Uint8ArraySlice<'a>,
    counter: BigInt,
    plaintext: Uint8ArraySlice<'a>,
    associated: Uint8ArraySlice<'a>,
) -> Result<Uint8ArraySlice<'a>> {
    let sealed = primitives::seal(
        &*key(&secret)?,
        u64_of(&counter)?,
        plaintext.as_ref(),
        associated.as_ref(),
    )
    .ok_or_else(|| invalid("the plaintext is too long to seal"))?;
    Uint8ArraySlice::copy_from(env, sealed)
}

/// Null when the tag is wrong.
#[napi]
pub fn open<'a>(
    env: &'a Env,
    secret: Uint8ArraySlice<'a>,
    counter: BigInt,
    sealed: Uint8ArraySlice<'a>,
    associated: Uint8ArraySlice<'a>,
) -> Result<Option<Uint8ArraySlice<'a>>> {
    let opened = primitives::open(
        &*key(&secret)?,
        u64_of(&counter)?,
        sealed.as_ref(),
        associated.as_ref(),
    );
    opened
        .map(|opened| Uint8ArraySlice::copy_from(env, opened.as_slice()))
        .transpose()
}

/// XChaCha20-Poly1305 under a nonce of 24 bytes.
#[napi]
pub fn xseal<'a>(
    env: &'a Env,
    secret: Uint8ArraySlice<'a>,
    nonce: Uint8ArraySlice<'a>,
    plaintext: Uint8ArraySlice<'a>,
    associated: Uint8ArraySlice<'a>,
) -> Result<Uint8ArraySlice<'a>> {
    let sealed = primitives::xseal(
        &*key(&secret)?,
        &xnonce(&nonce)?,
        plaintext.as_ref(),
        associated.as_ref(),
    )
    .ok_or_else(|| invalid("the plaintext is too long to seal"))?;
    Uint8ArraySlice::copy_from(env, sealed)
}

/// Null when the tag is wrong.
#[napi]
pub fn xopen<'a>(
    env: &'a Env,
    secret: Uint8ArraySlice<'a>,
    nonce: Uint8ArraySlice<'a>,
    sealed: Uint8ArraySlice<'a>,
    associated: Uint8ArraySlice<'a>,
) -> Result<Option<Uint8ArraySlice<'a>>> {
    let opened = primitives::xopen(
        &*key(&secret)?,
        &xnonce(&nonce)?,
        sealed.as_ref(),
        associated.as_ref(),
    );
    opened
        .map(|opened| Uint8ArraySlice::copy_from(env, opened))
        .transpose()
}

/// Fills the caller's array from the kernel's generator.
#[napi]
pub fn random<'a>(env: &'a Env, length: u32) -> Result<Uint8ArraySlice<'a>> {
    let mut bytes = Zeroizing::new(vec![0; length as usize]);
    if !primitives::random(&mut bytes) {
        return Err(Error::new(
            Status::GenericFailure,
            "the kernel gave no random bytes",
        ));
    }
    Uint8ArraySlice::copy_from(env, bytes.as_slice())
}

/// 32 bytes of key from an array.
pub fn key(bytes: &[u8]) -> Result<Zeroizing<[u8; KEY]>> {
    bytes
        .try_into()
        .map(Zeroizing::new)
        .map_err(|_| invalid("a key is 32 bytes long"))
}

fn xnonce(bytes: &[u8]) -> Result<[u8; XNONCE]> {
    bytes
        .try_into()
        .map_err(|_| invalid("XChaCha20's nonce is 24 bytes long"))
}

fn u64_of(counter: &BigInt) -> Result<u64> {
    match counter.get_u64() {
        (false, value, true) => Ok(value),
        _ => Err(invalid("a counter is a bigint from 0 to 2^64 - 1")),
    }
}

fn invalid(message: &str) -> Error {
    Error::new(Status::InvalidArg, message)
}
