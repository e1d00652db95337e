/**
 * The handshake: Noise_IKpsk2 (paper, 5.4; Noise specification, revision 34), one round trip.
 *
 *   <- s                            the responder's public key is known beforehand
 *   -> e, es, s, ss, {timestamp}    createInitiation   ─▶ consumeInitiation
 *   <- e, ee, se, psk, {}           consumeResponse    ◀─ createResponse
 *
 * Every function takes what it needs and gives a whole new value, or null where the message must not be believed;
 * nothing is changed on the way there. Ephemeral keys, timestamps and indices are arguments: no clock, no entropy.
 */
import type { Primitives } from './crypto.ts'
import {
  CONSTRUCTION,
  decodeInitiation,
  decodeResponse,
  encodeInitiation,
  encodeResponse,
  IDENTIFIER,
  KEY_LENGTH,
} from './wire.ts'

/** Our own static key. */
export interface Identity {
  readonly privateKey: Uint8Array
  readonly publicKey: Uint8Array
}

/** What an initiator remembers until the response comes. It is secret: `wipeHandshake` it. */
export interface InitiatorHandshake {
  readonly localIndex: number
  readonly ephemeral: Uint8Array
  readonly chainKey: Uint8Array
  readonly hash: Uint8Array
}

/** What a responder knows of an initiation that was authentic. It is secret: `wipeHandshake` it. */
export interface ResponderHandshake {
  readonly remoteIndex: number
  readonly remoteStatic: Uint8Array
  readonly remoteEphemeral: Uint8Array
  /** TAI64N; the caller takes it only when it is later than the last of this peer. */
  readonly timestamp: Uint8Array
  readonly chainKey: Uint8Array
  readonly hash: Uint8Array
}

/** What both sides have at the end. */
export interface TransportKeys {
  readonly remoteIndex: number
  readonly sendKey: Uint8Array
  readonly receiveKey: Uint8Array
}

/** Writes the first message, its MACs still zero. Takes `ephemeral`, 32 random bytes. Null: the peer's key is a point of low order. */
export function createInitiation(
  primitives: Primitives,
  identity: Identity,
  options: {
    readonly remoteStatic: Uint8Array
    readonly ephemeral: Uint8Array
    readonly timestamp: Uint8Array
    readonly localIndex: number
  },
): { readonly message: Uint8Array; readonly handshake: InitiatorHandshake } | null {
  const { remoteStatic, ephemeral, localIndex } = options
  const state = new SymmetricState(primitives)
  state.mixHash(remoteStatic) // <- s
  const ephemeralPublic = primitives.publicKey(ephemeral)
  state.mixKey(ephemeralPublic) // -> e
  state.mixHash(ephemeralPublic)
  if (!state.mixDh(ephemeral, remoteStatic)) return null // es
  const sealedStatic = state.sealAndHash(identity.publicKey) // s
  if (!state.mixDh(identity.privateKey, remoteStatic)) return null // ss
  const sealedTimestamp = state.sealAndHash(options.timestamp) // {timestamp}
  const message = encodeInitiation({
    sender: localIndex,
    ephemeral: ephemeralPublic,
    static: sealedStatic,
    timestamp: sealedTimestamp,
  })
  return { message, handshake: { localIndex, ephemeral, ...state.take() } }
}

/**
 * Reads the first message. Whose it is comes out of it: the work is the same for a peer that we do not know, and the
 * caller learns `remoteStatic` only when all of it was authentic.
 */
export function consumeInitiation(
  primitives: Primitives,
  identity: Identity,
  message: Uint8Array,
): ResponderHandshake | null {
  const fields = decodeInitiation(message)
  if (fields === null) return null
  const state = new SymmetricState(primitives)
  state.mixHash(identity.publicKey) // <- s
  state.mixKey(fields.ephemeral) // -> e
  state.mixHash(fields.ephemeral)
  if (!state.mixDh(identity.privateKey, fields.ephemeral)) return null // es
  const remoteStatic = state.openAndHash(fields.static) // s
  if (remoteStatic === null) return null
  if (!state.mixDh(identity.privateKey, remoteStatic)) return null // ss
  const timestamp = state.openAndHash(fields.timestamp) // {timestamp}
  if (timestamp === null) return null
  return {
    remoteIndex: fields.sender,
    remoteStatic,
    remoteEphemeral: fields.ephemeral.slice(),
    timestamp,
    ...state.take(),
  }
}

/** Writes the second message, its MACs still zero, and splits the keys. Wipes `ephemeral`, 32 random bytes. */
export function createResponse(
  primitives: Primitives,
  handshake: ResponderHandshake,
  options: {
    readonly ephemeral: Uint8Array
    readonly localIndex: number
    /** 32 bytes; all zero stands for none (paper, 5.2). */
    readonly presharedKey: Uint8Array
  },
): { readonly message: Uint8Array; readonly keys: TransportKeys } | null {
  const { ephemeral } = options
  const state = new SymmetricState(primitives, handshake)
  const ephemeralPublic = primitives.publicKey(ephemeral)
  state.mixKey(ephemeralPublic) // <- e
  state.mixHash(ephemeralPublic)
  const agreed =
    state.mixDh(ephemeral, handshake.remoteEphemeral) && // ee
    state.mixDh(ephemeral, handshake.remoteStatic) // se
  ephemeral.fill(0)
  if (!agreed) return null
  state.mixKeyAndHash(options.presharedKey) // psk
  const empty = state.sealAndHash(NOTHING) // {}
  const message = encodeResponse({
    sender: options.localIndex,
    receiver: handshake.remoteIndex,
    ephemeral: ephemeralPublic,
    empty,
  })
  const [receiveKey, sendKey] = state.split()
  return { message, keys: { remoteIndex: handshake.remoteIndex, sendKey, receiveKey } }
}

/** Reads the second message and splits the keys. A false one leaves `handshake` as it was, for the true one to come. */
export function consumeResponse(
  primitives: Primitives,
  identity: Identity,
  handshake: InitiatorHandshake,
  message: Uint8Array,
  presharedKey: Uint8Array,
): TransportKeys | null {
  const fields = decodeResponse(message)
  if (fields === null || fields.receiver !== handshake.localIndex) return null
  const state = new SymmetricState(primitives, handshake)
  state.mixKey(fields.ephemeral) // <- e
  state.mixHash(fields.ephemeral)
  if (!state.mixDh(handshake.ephemeral, fields.ephemeral)) return null // ee
  if (!state.mixDh(identity.privateKey, fields.ephemeral)) return null // se
  state.mixKeyAndHash(presharedKey) // psk
  if (state.openAndHash(fields.empty) === null) return null // {}
  const [sendKey, receiveKey] = state.split()
  return { remoteIndex: fields.sender, sendKey, receiveKey }
}

/** Overwrites what is secret in a handshake. */
export function wipeHandshake(handshake: InitiatorHandshake | ResponderHandshake): void {
  handshake.chainKey.fill(0)
  handshake.hash.fill(0)
  if ('ephemeral' in handshake) handshake.ephemeral.fill(0)
}

/** Noise's SymmetricState and CipherState in one (revision 34, 5.1 and 5.2). It wipes each secret as the next is made. */
class SymmetricState {
  readonly #primitives: Primitives
  #chainKey: Uint8Array
  #hash: Uint8Array
  /** Of the last mixKey; every key of the handshake seals one message, under counter 0. */
  #key: Uint8Array = NOTHING

  /** Begins a handshake, or takes one up again from a copy. */
  constructor(primitives: Primitives, from?: { readonly chainKey: Uint8Array; readonly hash: Uint8Array }) {
    this.#primitives = primitives
    this.#chainKey = from?.chainKey.slice() ?? primitives.hash(CONSTRUCTION)
    this.#hash = from?.hash.slice() ?? primitives.hash(this.#chainKey, IDENTIFIER)
  }

  mixHash(bytes: Uint8Array): void {
    this.#hash = this.#primitives.hash(this.#hash, bytes)
  }

  mixKey(input: Uint8Array): void {
    const [chainKey, key] = this.#derive(input, 2)
    this.#advance(chainKey, key)
  }

  /** Mixes in a Diffie-Hellman result; false, and nothing mixed, when it is all zero (paper, 5.4; RFC 7748, 6.1). */
  mixDh(privateKey: Uint8Array, publicKey: Uint8Array): boolean {
    const shared = this.#primitives.x25519(privateKey, publicKey)
    if (shared === null) {
      this.#wipe()
      return false
    }
    this.mixKey(shared)
    shared.fill(0)
    return true
  }

  mixKeyAndHash(input: Uint8Array): void {
    const [chainKey, hashed, key] = this.#derive(input, 3)
    this.mixHash(hashed)
    this.#advance(chainKey, key)
  }

  sealAndHash(plaintext: Uint8Array): Uint8Array {
    const sealed = this.#primitives.seal(this.#key, 0n, plaintext, this.#hash)
    this.mixHash(sealed)
    return sealed
  }

  openAndHash(sealed: Uint8Array): Uint8Array | null {
    const plaintext = this.#primitives.open(this.#key, 0n, sealed, this.#hash)
    if (plaintext === null) this.#wipe()
    else this.mixHash(sealed)
    return plaintext
  }

  /** The initiator's sending key and the responder's, in this order; the state is spent. */
  split(): readonly [Uint8Array, Uint8Array] {
    const [first, second] = this.#derive(NOTHING, 2)
    this.#wipe()
    return [first, second]
  }

  /** The state for the second message, handed over. */
  take(): { readonly chainKey: Uint8Array; readonly hash: Uint8Array } {
    this.#key.fill(0)
    return { chainKey: this.#chainKey, hash: this.#hash }
  }

  /** HKDF (RFC 5869) over HMAC-BLAKE2s: outputs are chained from the empty one. */
  #derive(input: Uint8Array, outputs: 2): readonly [Uint8Array, Uint8Array]
  #derive(input: Uint8Array, outputs: 3): readonly [Uint8Array, Uint8Array, Uint8Array]
  #derive(input: Uint8Array, outputs: 2 | 3): readonly Uint8Array[] {
    const { hmac } = this.#primitives
    const secret = hmac(this.#chainKey, input)
    const derived: Uint8Array[] = []
    for (let i = 1; i <= outputs; i++) derived.push(hmac(secret, derived.at(-1) ?? NOTHING, Uint8Array.of(i)))
    secret.fill(0)
    return derived
  }

  #advance(chainKey: Uint8Array, key: Uint8Array): void {
    this.#chainKey.fill(0)
    this.#key.fill(0)
    this.#chainKey = chainKey
    this.#key = key
  }

  #wipe(): void {
    this.#advance(NOTHING, NOTHING)
  }
}

/** A preshared key of none (paper, 5.2). */
export const NO_PRESHARED_KEY: Uint8Array = new Uint8Array(KEY_LENGTH)

const NOTHING = new Uint8Array(0)
