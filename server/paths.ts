/** Where a server keeps what it keeps. */
import { join } from 'node:path'

export interface Paths {
  /** Holds what may not be lost: keys, registry. Mode 0700. */
  readonly state: string
  /** Holds config.toml. The same as `state` under `--state`. */
  readonly configDirectory: string
  readonly config: string
  /** Holds the control socket. Mode 0700. */
  readonly runtime: string
  readonly control: string
  readonly registry: string
  /** The WireGuard private key, base64. */
  readonly privateKey: string
  /** The operator's Ed25519 key, which signs bundles, PKCS #8. */
  readonly operatorKey: string
  /** 32 random bytes from which every carrier's keys come, base64. */
  readonly carrierSecret: string
  /** Which sysctls we changed, and from what. */
  readonly journal: string
  /** Held locked by the server that runs. */
  readonly lock: string
}

/**
 * The system's places, or everything under one folder (`--state DIR`), so that several servers can live on one machine.
 * @param directory absolute, or null for the system's places.
 */
export function pathsOf(directory: string | null): Paths {
  const state = directory ?? '/var/lib/culvert-server'
  const configDirectory = directory ?? '/etc/culvert-server'
  const runtime = directory ?? '/run/culvert-server'
  return {
    state,
    configDirectory,
    config: join(configDirectory, 'config.toml'),
    runtime,
    control: join(runtime, 'control.sock'),
    registry: join(state, 'registry.db'),
    privateKey: join(state, 'private.key'),
    operatorKey: join(state, 'operator.key'),
    carrierSecret: join(state, 'carrier.secret'),
    journal: join(state, 'forwarding.json'),
    lock: join(state, 'lock'),
  }
}
