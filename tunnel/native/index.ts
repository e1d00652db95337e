/**
 * The door to the Rust data plane. The addon is loaded at the first use, so that importing this file works where it is not
 * built; everything after that is a thin, typed cover: brands on, bytes to addresses, error codes to TunnelError.
 */
import { createRequire } from 'node:module'

import type { Primitives } from '../crypto.ts'
import { TunnelError } from '../error.ts'
import type { Addon } from './addon.ts'

/** The primitives in Rust: what production uses. @throws TunnelError `no-native` at the first use. */
export const nativePrimitives: Primitives = {
  publicKey: (privateKey) => native().publicKey(privateKey),
  x25519: (privateKey, publicKey) => native().x25519(privateKey, publicKey),
  hash: (...parts) => native().hash(parts),
  mac: (key, ...parts) => native().mac(key, parts),
  hmac: (key, ...parts) => native().hmac(key, parts),
  seal: (key, counter, plaintext, associated) => native().seal(key, counter, plaintext, associated),
  open: (key, counter, sealed, associated) => native().open(key, counter, sealed, associated),
  xseal: (key, nonce, plaintext, associated) => native().xseal(key, nonce, plaintext, associated),
  xopen: (key, nonce, sealed, associated) => native().xopen(key, nonce, sealed, associated),
  random: (length) => native().random(length),
}

/**
 * Says where the addon lies when it is not beside this file, as in a single executable. Before the first use.
 */
export function useAddon(path: string): void {
  addonPath = path
}

/** The addon, loaded once. @throws TunnelError `no-native`. */
function native(): Addon {
  if (addon !== null) return addon
  try {
    // What a .node exports has no type of its own; native.test.ts holds the two together.
    addon = createRequire(import.meta.url)(addonPath) as Addon
  } catch (cause) {
    throw new TunnelError('no-native', 'the native part is not built: npm run setup', { cause })
  }
  return addon
}

let addonPath = './culvert.node'
let addon: Addon | null = null
