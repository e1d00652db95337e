/**
 * The primitives from node:crypto, with noble for the two that it lacks: keyed BLAKE2s and XChaCha20-Poly1305. For tests
 * and for the memory twin; production uses the addon's (`native/index.ts`), which pass the same vectors.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  randomBytes,
} from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import { blake2s } from '@noble/hashes/blake2.js'
import type { Primitives } from './crypto.ts'

export const memoryPrimitives: Primitives = {
  publicKey(privateKey) {
    const spki = createPublicKey(importPrivate(privateKey)).export({ format: 'der', type: 'spki' })
    return new Uint8Array(spki.subarray(SPKI.length))
  },
  x25519(privateKey, publicKey) {
    try {
      const secret = diffieHellman({
        privateKey: importPrivate(privateKey),
        publicKey: importPublic(publicKey),
      })
      return new Uint8Array(secret)
    } catch {
      return null // OpenSSL refuses to give a secret that is all zero
    }
  },
  hash(...parts) {
    const hash = createHash('blake2s256')
    for (const part of parts) hash.update(part)
    return new Uint8Array(hash.digest())
  },
  mac(key, ...parts) {
    const mac = blake2s.create({ key, dkLen: 16 })
    for (const part of parts) mac.update(part)
    return mac.digest()
  },
  hmac(key, ...parts) {
    const hmac = createHmac('blake2s256', key)
    for (const part of parts) hmac.update(part)
    return new Uint8Array(hmac.digest())
  },
  seal(key, counter, plaintext, associated) {
    const cipher = createCipheriv('chacha20-poly1305', key, nonceOf(counter), { authTagLength: TAG_LENGTH })
    cipher.setAAD(associated, { plaintextLength: plaintext.length })
    const sealed = new Uint8Array(plaintext.length + TAG_LENGTH)
    sealed.set(cipher.update(plaintext))
    cipher.final()
    sealed.set(cipher.getAuthTag(), plaintext.length)
    return sealed
  },
  open(key, counter, sealed, associated) {
    const length = sealed.length - TAG_LENGTH
    if (length < 0) return null
    const decipher = createDecipheriv('chacha20-poly1305', key, nonceOf(counter), {
      authTagLength: TAG_LENGTH,
    })
    decipher.setAAD(associated, { plaintextLength: length })
    decipher.setAuthTag(sealed.subarray(length))
    const plaintext = new Uint8Array(decipher.update(sealed.subarray(0, length)))
    try {
      decipher.final()
      return plaintext
    } catch {
      return null
    }
  },
  xseal(key, nonce, plaintext, associated) {
    return xchacha20poly1305(key, nonce, associated).encrypt(plaintext)
  },
  xopen(key, nonce, sealed, associated) {
    try {
      return xchacha20poly1305(key, nonce, associated).decrypt(sealed)
    } catch {
      return null
    }
  },
  random(length) {
    return new Uint8Array(randomBytes(length))
  },
}

function nonceOf(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(12)
  new DataView(nonce.buffer).setBigUint64(4, counter, true)
  return nonce
}

function importPrivate(bytes: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8, bytes]), format: 'der', type: 'pkcs8' })
}

function importPublic(bytes: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI, bytes]), format: 'der', type: 'spki' })
}

const TAG_LENGTH = 16
/** DER before the 32 bytes of an X25519 key (RFC 8410). */
const PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex')
const SPKI = Buffer.from('302a300506032b656e032100', 'hex')
