/**
 * The primitives that WireGuard is made of, as one interface. Production takes them from the addon
 * (`native/index.ts`); the memory twin from node:crypto and noble (`crypto-memory.ts`). Published vectors hold for both.
 */

/** Every function is pure, takes and returns whole arrays, and returns null where a message must not be believed. */
export interface Primitives {
  /** Curve25519's public key of a private key (RFC 7748); the private key is clamped here. */
  publicKey(privateKey: Uint8Array): Uint8Array
  /** X25519 (RFC 7748, 6.1). Null when the result is all zero: the other side sent a point of low order. */
  x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | null
  /** BLAKE2s-256 of the concatenation (RFC 7693). */
  hash(...parts: readonly Uint8Array[]): Uint8Array
  /** Keyed BLAKE2s-128 of the concatenation (RFC 7693): WireGuard's MAC. Keys of up to 32 bytes. */
  mac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array
  /** HMAC-BLAKE2s-256 of the concatenation (RFC 2104): what HKDF is built on. */
  hmac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array
  /** ChaCha20-Poly1305 with the nonce 4 zero bytes and `counter` little-endian (RFC 8439; paper, 5.4.6). */
  seal(key: Uint8Array, counter: bigint, plaintext: Uint8Array, associated: Uint8Array): Uint8Array
  /** Null when the tag is wrong. */
  open(key: Uint8Array, counter: bigint, sealed: Uint8Array, associated: Uint8Array): Uint8Array | null
  /** XChaCha20-Poly1305 with a 24-byte nonce (draft-irtf-cfrg-xchacha): cookie replies. */
  xseal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated: Uint8Array): Uint8Array
  /** Null when the tag is wrong. */
  xopen(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, associated: Uint8Array): Uint8Array | null
  /** `length` bytes from the system's generator. */
  random(length: number): Uint8Array
}
