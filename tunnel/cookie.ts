/**
 * mac1, mac2 and cookies (paper, 5.4.4 and 5.4.7). mac1 proves that the sender knows whom it writes to; mac2, keyed by a
 * cookie, that it receives at the address that it writes from. `CookieMemory` is the side that was given a cookie;
 * the side that demands them is the gate of the data plane (gate.ts).
 */
import type { Primitives } from './crypto.ts'
import { COOKIE_USE_TIME, decodeCookieReply, LABEL_COOKIE, LABEL_MAC1, macs } from './wire.ts'

/** The key of mac1, of messages to the holder of `publicKey`. */
export function mac1Key(primitives: Primitives, publicKey: Uint8Array): Uint8Array {
  return primitives.hash(LABEL_MAC1, publicKey)
}

/** The key that seals the cookies of the holder of `publicKey`. */
export function cookieKey(primitives: Primitives, publicKey: Uint8Array): Uint8Array {
  return primitives.hash(LABEL_COOKIE, publicKey)
}

/** What we remember of one peer's cookies. */
export class CookieMemory {
  readonly #primitives: Primitives
  readonly #mac1Key: Uint8Array
  readonly #cookieKey: Uint8Array
  /** mac1 of our last message: a cookie reply is bound to it. Null once it was answered. */
  #lastMac1: Uint8Array | null = null
  #cookie: { readonly bytes: Uint8Array; readonly until: number } | null = null

  constructor(primitives: Primitives, remoteStatic: Uint8Array) {
    this.#primitives = primitives
    this.#mac1Key = mac1Key(primitives, remoteStatic)
    this.#cookieKey = cookieKey(primitives, remoteStatic)
  }

  /** Writes mac1, and mac2 while a cookie is fresh, into an initiation or a response. */
  stamp(message: Uint8Array, now: number): void {
    const parts = macs(message)
    parts.mac1.set(this.#primitives.mac(this.#mac1Key, parts.beforeMac1))
    this.#lastMac1 = parts.mac1.slice()
    if (this.#cookie === null || now > this.#cookie.until) return
    parts.mac2.set(this.#primitives.mac(this.#cookie.bytes, parts.beforeMac2))
  }

  /** Takes a cookie that answers our last message; false when it does not, or is forged. */
  consume(reply: Uint8Array, now: number): boolean {
    const fields = decodeCookieReply(reply)
    if (fields === null || this.#lastMac1 === null) return false
    const bytes = this.#primitives.xopen(this.#cookieKey, fields.nonce, fields.cookie, this.#lastMac1)
    if (bytes === null) return false
    this.#cookie = { bytes, until: now + COOKIE_USE_TIME }
    this.#lastMac1 = null
    return true
  }
}
