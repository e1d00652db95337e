/**
 * The three secrets that `init` makes, as files of mode 0600, and WireGuard key pairs.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { formatPublicKey, Secret, TunnelError, type PublicKey } from '@culvert/tunnel/pure'
import { errnoOf, ServerError } from './error.ts'

/** A new Curve25519 private key, clamped as wg(8) stores it. */
export function generateWireGuardKey(): Secret {
  const bytes = Uint8Array.from(randomBytes(32))
  bytes[0] = (bytes[0] ?? 0) & 0xf8
  bytes[31] = ((bytes[31] ?? 0) & 0x7f) | 0x40
  return Secret.of(bytes)
}

/** 32 random bytes: a preshared key or a carrier secret. */
export function generateSecret(): Secret {
  return Secret.of(Uint8Array.from(randomBytes(32)))
}

/** The public key of a Curve25519 private key (RFC 7748, 5). */
export function publicKeyOf(secret: Secret): PublicKey {
  const der = Buffer.concat([X25519_PKCS8, secret.bytes()])
  const key = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }))
  der.fill(0)
  return formatPublicKey(key.export({ format: 'der', type: 'spki' }).subarray(-32))
}

/** A new Ed25519 key (RFC 8032) as PKCS #8 in PEM: the operator's, with which bundles are signed. */
export function generateOperatorKey(): string {
  return generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' })
}

/** Reads a file that holds 32 bytes in base64. @throws ServerError `not-initialised` or `bad-state`, naming the file. */
export async function readSecret(path: string): Promise<Secret> {
  const text = await readState(path)
  try {
    return Secret.parse(text.trim())
  } catch (cause) {
    if (!(cause instanceof TunnelError)) throw cause
    throw new ServerError('bad-state', `${path} is damaged: ${cause.message}; restore it from a backup`, {
      cause,
    })
  }
}

/** Checks the operator's key without keeping it. @throws ServerError `not-initialised` or `bad-state`. */
export async function checkOperatorKey(path: string): Promise<void> {
  const text = await readState(path)
  try {
    if (createPrivateKey(text).asymmetricKeyType === 'ed25519') return
  } catch {
    // The sentence below says it; what OpenSSL says helps nobody.
  }
  throw new ServerError(
    'bad-state',
    `${path} is damaged: it is not an Ed25519 key in PEM; restore it from a backup`,
  )
}

async function readState(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw unreadable(path, cause)
  }
}

/** The sentence for a state file that cannot be opened. */
export function unreadable(path: string, cause: unknown): ServerError {
  const errno = errnoOf(cause)
  if (errno === 'ENOENT') {
    const sentence = `${path} does not exist: run "culvert-server init --endpoint HOST" first, or restore it from a backup`
    return new ServerError('not-initialised', sentence, { cause })
  }
  if (errno === 'EACCES') {
    return new ServerError('no-privilege', `${path} may be read by root only: run this with sudo`, { cause })
  }
  return new ServerError('bad-state', `${path} cannot be read: ${String(cause)}`, { cause })
}

/** PKCS #8 around an X25519 private key, up to its 32 bytes (RFC 8410, 7). */
const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex')
