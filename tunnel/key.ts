/**
 * Keys as values. A public key is a string that may be shown and compared; a secret is an object that cannot be printed,
 * logged or put into JSON by accident. Pure: no `node:` import.
 */
import { TunnelError } from './error.ts'

/** A Curve25519 public key: 32 bytes in base64, 44 characters. */
export type PublicKey = string & { readonly brand: 'PublicKey' }

/**
 * 32 secret bytes: a Curve25519 private key or a preshared key. Printing, logging or serialising one yields
 * `[secret]`; the bytes leave only through `bytes` and `base64`, so that a search for those two finds every place.
 */
export class Secret implements Disposable {
  readonly #bytes: Uint8Array

  /** Takes the bytes: they are wiped with the secret. */
  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** Takes 32 bytes. @throws TunnelError `bad-format` on any other length. */
  static of(bytes: Uint8Array): Secret {
    if (bytes.length !== KEY_LENGTH) throw new TunnelError('bad-format', 'a key is 32 bytes long')
    return new Secret(bytes)
  }

  /** Reads 44 characters of base64. The error never repeats them. @throws TunnelError `bad-format`. */
  static parse(text: string): Secret {
    const bytes = decodeKey(text)
    if (bytes === null) throw new TunnelError('bad-format', 'a key is 44 characters of base64 ending in "="')
    return new Secret(bytes)
  }

  /** The bytes themselves, not a copy: do not keep or change them. */
  bytes(): Uint8Array {
    return this.#bytes
  }

  /** For a file of mode 0600 or a .conf that is shown once; nowhere else. */
  base64(): string {
    return encodeKey(this.#bytes)
  }

  equals(other: Secret): boolean {
    let difference = 0
    for (let i = 0; i < KEY_LENGTH; i++) difference |= (this.#bytes[i] ?? 0) ^ (other.#bytes[i] ?? 0)
    return difference === 0
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]'
  }

  [Symbol.dispose](): void {
    this.#bytes.fill(0)
  }
}

/** Reads a public key in base64. @throws TunnelError `bad-format`. */
export function parsePublicKey(text: string): PublicKey {
  if (decodeKey(text) === null) {
    throw new TunnelError('bad-format', 'a public key is 44 characters of base64 ending in "="')
  }
  return text as PublicKey
}

/** The base64 form of 32 bytes. */
export function formatPublicKey(bytes: Uint8Array): PublicKey {
  return encodeKey(bytes) as PublicKey
}

/** The 32 bytes of a public key. */
export function publicKeyBytes(key: PublicKey): Uint8Array {
  return decodeKey(key) ?? new Uint8Array(KEY_LENGTH)
}

/** Canonical base64 only: 43 characters whose last two bits are zero, and one "=". */
function decodeKey(text: string): Uint8Array | null {
  if (!/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/.test(text)) return null
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0))
}

function encodeKey(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
}

const KEY_LENGTH = 32
