/** `culvert-server device add`: a device with a key pair made here, and its .conf. The private key is not kept. */
import {
  formatWgQuick,
  parseInterfaceAddress,
  parseCidr,
  type PublicKey,
  type Secret,
} from '@culvert/tunnel/pure'
import { InvalidArgumentError } from 'commander'
import { readConfig, type Config } from './config.ts'
import { askRefresh } from './control.ts'
import { ServerError } from './error.ts'
import { generateSecret, generateWireGuardKey, publicKeyOf, readSecret } from './keys.ts'
import type { Paths } from './paths.ts'
import { openRegistry, type Device } from './registry.ts'

export interface AddedDevice {
  readonly publicKey: PublicKey
  /** The .conf, with the private key: it is shown once. */
  readonly conf: string
  /** `taken`: the running server lets it in. `stopped`: the next server to start will. */
  readonly server: 'taken' | 'stopped'
}

/**
 * Adds a device of `user`, and the user when there is none of that name.
 * @throws ServerError `not-initialised`, `bad-config`, `bad-state`, `pool-full`; `refused` when the running server did not
 *   take it, and then the device is not there.
 */
export async function addDevice(user: string, paths: Paths): Promise<AddedDevice> {
  const config = await readConfig(paths.config)
  using serverKey = await readSecret(paths.privateKey)
  using registry = openRegistry(paths.registry)
  using privateKey = generateWireGuardKey()
  using presharedKey = generateSecret()
  const publicKey = publicKeyOf(privateKey)
  const device = registry.addDevice({ user, publicKey, presharedKey }, config, Date.now())
  const conf = confOf(config, publicKeyOf(serverKey), device, privateKey)
  try {
    await askRefresh(paths.control, publicKey)
    return { publicKey, conf, server: 'taken' }
  } catch (error) {
    if (error instanceof ServerError && error.code === 'not-running')
      return { publicKey, conf, server: 'stopped' }
    // Nobody has seen the .conf yet, so nobody misses the device.
    registry.removeDevice(publicKey)
    throw error
  }
}

/** The .conf of a device: everything goes through the tunnel. */
export function confOf(config: Config, serverKey: PublicKey, device: Device, privateKey: Secret): string {
  return formatWgQuick({
    privateKey,
    addresses: [parseInterfaceAddress(device.address4), parseInterfaceAddress(device.address6)],
    dns: config.dns,
    searchDomains: [],
    mtu: config.mtu,
    listenPort: null,
    peers: [
      {
        publicKey: serverKey,
        presharedKey: device.presharedKey,
        endpoint: config.endpoint,
        allowedIps: [parseCidr('0.0.0.0/0'), parseCidr('::/0')],
        persistentKeepalive: KEEPALIVE,
      },
    ],
  })
}

/** A user's name: letters and digits of any script, and `. _ - @` between them; at most 64 characters. */
export function parseUserName(text: string): string {
  const name = text.normalize('NFC')
  if (/^[\p{L}\p{N}][\p{L}\p{M}\p{N}._@-]{0,63}$/u.test(name)) return name
  throw new InvalidArgumentError(
    'a name is letters, digits and ". _ - @", at most 64, and begins with a letter or a digit',
  )
}

/** Seconds: below the 30 s after which many NATs forget a UDP flow, as WireGuard's own documents advise. */
const KEEPALIVE = 25
