/** What culvert.node exports (src/node.rs, src/node_primitives.rs), as types. Only index.ts imports this. */

/** The addon's functions and its one class. */
export interface Addon {
  publicKey(privateKey: Uint8Array): Uint8Array
  x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | null
  hash(parts: readonly Uint8Array[]): Uint8Array
  mac(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array
  hmac(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array
  seal(key: Uint8Array, counter: bigint, plaintext: Uint8Array, associated: Uint8Array): Uint8Array
  open(key: Uint8Array, counter: bigint, sealed: Uint8Array, associated: Uint8Array): Uint8Array | null
  xseal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated: Uint8Array): Uint8Array
  xopen(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, associated: Uint8Array): Uint8Array | null
  random(length: number): Uint8Array
}
