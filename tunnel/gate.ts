/**
 * The gate in front of the handshakes (paper, 5.3): stateless until the cookie proves the address.
 *
 *   mac1 wrong ───────────────────────▶ bad-mac
 *   not under load ───────────────────▶ pass
 *   mac2 missing or wrong ────────────▶ under-load, and a cookie
 *   this address had its share ───────▶ under-load
 *   else ─────────────────────────────▶ pass
 *
 * A silent gate gives no cookies, so it asks for none: it goes straight to the share of the address.
 */
import { ipBytes } from './address.ts'
import type { SocketAddress } from './address.ts'
import { cookieKey, mac1Key } from './cookie.ts'
import type { Primitives } from './crypto.ts'
import { defaultGate } from './dataplane.ts'
import type { Gate } from './dataplane.ts'
import {
  COOKIE_NONCE_LENGTH,
  COOKIE_REFRESH_TIME,
  encodeCookieReply,
  equalBytes,
  KEY_LENGTH,
  macs,
} from './wire.ts'

export type Verdict =
  | { readonly tag: 'pass' }
  | { readonly tag: 'bad-mac' }
  | { readonly tag: 'under-load'; readonly cookieReply: Uint8Array | null }

export class HandshakeGate {
  readonly #primitives: Primitives
  #settings: Gate = defaultGate
  #keys: { readonly mac1: Uint8Array; readonly cookie: Uint8Array } | null = null
  #secret: { readonly bytes: Uint8Array; readonly until: number } | null = null
  readonly #buckets = new Map<string, { tokens: number; at: number }>()

  constructor(primitives: Primitives) {
    this.#primitives = primitives
  }

  /** Whose mac1 passes. Until it is called none does. */
  setIdentity(publicKey: Uint8Array): void {
    this.#keys = {
      mac1: mac1Key(this.#primitives, publicKey),
      cookie: cookieKey(this.#primitives, publicKey),
    }
    this.#secret = null
  }

  set(settings: Gate): void {
    this.#settings = settings
  }

  /** Whether mac1 of an initiation or a response fits our public key. */
  fits(message: Uint8Array): boolean {
    const parts = macs(message)
    return (
      this.#keys !== null && equalBytes(parts.mac1, this.#primitives.mac(this.#keys.mac1, parts.beforeMac1))
    )
  }

  /** What becomes of an initiation, while `waiting` handshakes wait to be drained. `sender` is its own index. */
  judge(message: Uint8Array, sender: number, from: SocketAddress, waiting: number, now: number): Verdict {
    if (!this.fits(message)) return { tag: 'bad-mac' }
    if (waiting < this.#settings.underLoadAt) return { tag: 'pass' }
    if (!this.#settings.silent && !this.#provesAddress(message, from, now)) {
      return { tag: 'under-load', cookieReply: this.#cookieReply(message, sender, from, now) }
    }
    return this.#hasShare(from, now) ? { tag: 'pass' } : { tag: 'under-load', cookieReply: null }
  }

  #provesAddress(message: Uint8Array, from: SocketAddress, now: number): boolean {
    if (this.#secret === null || now > this.#secret.until) return false
    const parts = macs(message)
    return equalBytes(
      parts.mac2,
      this.#primitives.mac(this.#cookie(this.#secret.bytes, from), parts.beforeMac2),
    )
  }

  #cookieReply(message: Uint8Array, sender: number, from: SocketAddress, now: number): Uint8Array | null {
    if (this.#keys === null) return null
    if (this.#secret === null || now > this.#secret.until) {
      this.#secret = { bytes: this.#primitives.random(KEY_LENGTH), until: now + COOKIE_REFRESH_TIME }
    }
    const nonce = this.#primitives.random(COOKIE_NONCE_LENGTH)
    const cookie = this.#cookie(this.#secret.bytes, from)
    const sealed = this.#primitives.xseal(this.#keys.cookie, nonce, cookie, macs(message).mac1)
    return encodeCookieReply({ receiver: sender, nonce, cookie: sealed })
  }

  /** The cookie of an address and port: behind one address there may be many hosts. */
  #cookie(secret: Uint8Array, from: SocketAddress): Uint8Array {
    const port = Uint8Array.of(from.port >> 8, from.port & 0xff)
    return this.#primitives.mac(secret, ipBytes(from.address) ?? port, port)
  }

  /** A token bucket for each IPv4 address or IPv6 /64, what one subscriber has. */
  #hasShare(from: SocketAddress, now: number): boolean {
    const { perSecond, burst } = this.#settings
    const key = (ipBytes(from.address) ?? new Uint8Array(0)).subarray(0, 8).join('.')
    const bucket = this.#buckets.get(key) ?? { tokens: burst, at: now }
    bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) * perSecond) / 1000)
    bucket.at = now
    if (this.#buckets.size >= MAX_BUCKETS && !this.#buckets.has(key)) this.#forgetFull(now)
    if (bucket.tokens < 1 || (this.#buckets.size >= MAX_BUCKETS && !this.#buckets.has(key))) return false
    bucket.tokens -= 1
    this.#buckets.set(key, bucket)
    return true
  }

  #forgetFull(now: number): void {
    const { perSecond, burst } = this.#settings
    for (const [key, bucket] of this.#buckets) {
      if (bucket.tokens + ((now - bucket.at) * perSecond) / 1000 >= burst) this.#buckets.delete(key)
    }
  }
}

/** Addresses remembered at once; when all of them are busy, a new one waits. */
const MAX_BUCKETS = 65_536
